//! The search for a recipe: from the cheapest up, as long as there is time for enough steps.

use super::choose::{Bounds, choose, length};
use super::found::{Asked, Found};
use super::measure::{Cost, measure, rehearse};
use super::{keys, machine, said};
use crate::config::{Keys, PretrainConfig};
use crate::draft::Draft;
use crate::modality::Modality;
use crate::recipe::Recipe;
use crate::set::Sets;
use selfsup_core::{Error, Result};
use std::time::Instant;

/// Share of the budget that the search may take, and that a rehearsal may.
const SEARCHING: f64 = 0.1;
const REHEARSING: f64 = 0.05;
/// Seconds of the longest rehearsal.
const LONGEST: f64 = 30.0;
/// Share of the budget that is filled: what is not foreseen has the rest.
const FILLED: f64 = 0.9;
/// Share of that for evaluations and checkpoints on the way.
const LOOKING: f64 = 0.1;
/// Share of the free memory that a run may take.
const MEMORY: f64 = 0.5;

/// The search.
pub(super) struct Search<'a>(pub Asked<'a>);

impl Search<'_> {
    /// The configuration with a recipe below what was given.
    fn with<M: Modality>(&self, recipe: &Recipe) -> Result<PretrainConfig<M::Keys>> {
        PretrainConfig::of(&self.0.draft.clone().above(recipe.keys.clone()))
    }

    /// The usual recipe where batch and length are given.
    pub fn usual<M: Modality>(&self, config: &PretrainConfig<M::Keys>) -> Result<Draft> {
        let recipe =
            self.0.seen.recipes.last().cloned().unwrap_or_else(|| Recipe::of(config.train.batch_size));
        let config = self.with::<M>(&recipe)?;
        let layer = keys::of_data(self.0.given, &recipe, &config, config.train.batch_size);
        Ok(self.0.draft.clone().above(layer))
    }

    /// The recipe that costs least, where nothing was measured.
    pub fn smallest<M: Modality>(&self, config: &PretrainConfig<M::Keys>) -> Result<Draft> {
        let recipe =
            self.0.seen.recipes.first().cloned().unwrap_or_else(|| Recipe::of(config.train.batch_size));
        Ok(self.0.draft.clone().above(recipe.keys))
    }

    /// The recipe that is taken.
    pub fn run<M: Modality>(&self) -> Result<Found<M>> {
        let mut best: Option<Found<M>> = None;
        let mut recipes = self.0.seen.recipes.clone();
        if recipes.is_empty() {
            recipes.push(Recipe::of(self.with::<M>(&Recipe::default())?.train.batch_size));
        }
        if !self.0.timed {
            // As long as the keys say: the usual recipe, if it fits into memory.
            recipes.reverse();
        }
        let mut last = None;
        for recipe in recipes {
            let config = self.with::<M>(&recipe)?;
            if last.as_ref() == Some(&config) {
                continue;
            }
            last = Some(config.clone());
            let Some(found) = self.measured::<M>(recipe, config)? else {
                if self.0.timed && best.is_some() {
                    break;
                }
                continue;
            };
            if !self.0.timed {
                best = Some(found);
                break;
            }
            match &mut best {
                Some(best) if !found.choice.enough => {
                    best.instead = Some(said::instead(&found));
                    break;
                }
                _ => {}
            }
            // Without room for more than twice the steps there is none for a recipe that costs more.
            let more =
                found.choice.room && self.0.started.elapsed().as_secs_f64() < SEARCHING * self.0.seconds;
            best = Some(found);
            if !more {
                break;
            }
        }
        let mut best = best.ok_or_else(|| {
            Error::config(format!(
                "not even two samples at once fit into half of the memory that is free ({}): make the samples or \
                 the encoder smaller, or close other programs",
                machine::memory_free().map_or("unknown".into(), said::gigabytes)
            ))
        })?;
        if self.0.timed {
            // Where steps fail (a loss that is not finite, say), the run says so.
            let _ = self.rehearsed(&mut best);
        }
        Ok(best)
    }

    /// What a recipe costs, and what batch and length follow; `None` if it does not fit into memory.
    fn measured<M: Modality>(
        &self,
        recipe: Recipe,
        mut config: PretrainConfig<M::Keys>,
    ) -> Result<Option<Found<M>>> {
        let opened = Instant::now();
        if !self.0.trace {
            config.keys.leave_nothing();
        }
        let mut trained = config.clone();
        let mut trainings = 1.0;
        if let Some((keys, count)) = M::stand_in(&config.keys) {
            trained.keys = keys;
            trainings = count;
        }
        let device = config.device.open()?;
        let modality = M::new(&trained)?;
        let sets = Sets::open(&config.data, M::Keys::KIND, &|what| modality.open(what))?;
        let sets = sets.try_map(&|set| modality.usable(set))?;
        let opening = opened.elapsed().as_secs_f64();
        let cost = measure(&modality, &trained, &sets.train, &device)?;
        let looks = looks(&cost, &config, &sets)?;
        let held = machine::held().map_or(0, |(now, _)| now);
        let limit = machine::memory_free().map(|free| held as f64 + MEMORY * free as f64);
        let choice = choose(&cost, &self.bounds(&config, recipe.batch, opening, looks, trainings, limit));
        let found = |choice| Found {
            recipe,
            config,
            sets,
            cost,
            choice,
            rehearsal: None,
            opening,
            looks,
            trainings,
            limit,
            instead: None,
            modality,
        };
        Ok(choice.map(found))
    }

    fn bounds<K: Keys>(
        &self,
        config: &PretrainConfig<K>,
        most: usize,
        opening: f64,
        looks: [f64; 2],
        trainings: f64,
        bytes: Option<f64>,
    ) -> Bounds {
        let train = &config.train;
        let given = |key: &str| self.0.given.any(key);
        let left = FILLED * self.0.seconds - self.0.started.elapsed().as_secs_f64() - opening - looks[1];
        // Where evaluating alone takes the budget, the run takes longer than that, and the estimate says so.
        let seconds = left.max(0.3 * self.0.seconds) * (1.0 - LOOKING) / trainings;
        Bounds {
            batch: given("train.batch_size").then_some(train.batch_size),
            micro: given("train.micro_batch_size").then_some(train.micro_batch_size),
            steps: (given("train.steps") && train.steps > 0).then_some(train.steps),
            epochs: (given("train.epochs") && train.steps == 0).then_some(train.epochs),
            most,
            seconds,
            bytes,
            cores: machine::cores(),
        }
    }

    /// Takes a few steps as the run will, where they are few seconds, and corrects the length by them.
    fn rehearsed<M: Modality>(&self, found: &mut Found<M>) -> Result<()> {
        let most = (REHEARSING * self.0.seconds).min(LONGEST);
        if found.choice.step > most {
            return Ok(());
        }
        let layer = keys::of_run(self.0.given, found, self.0.timed);
        let mut config: PretrainConfig<M::Keys> = PretrainConfig::of(&self.0.draft.clone().above(layer))?;
        config.keys = match M::stand_in(&config.keys) {
            Some((keys, _)) => keys,
            None => config.keys,
        };
        let device = config.device.open()?;
        let rehearsal = rehearse(&found.modality, &config, &found.sets.train, &device, most)?;
        let (batch, micro) = (found.choice.batch, found.choice.micro);
        let bounds = self.bounds(
            &found.config,
            found.recipe.batch,
            found.opening,
            found.looks,
            found.trainings,
            found.limit,
        );
        found.choice = length(&bounds, found.cost.samples, batch, micro, rehearsal.step);
        found.rehearsal = Some(rehearsal);
        Ok(())
    }
}

/// Seconds of an evaluation on the way, and of those at the end.
fn looks<K: Keys>(cost: &Cost, config: &PretrainConfig<K>, sets: &Sets) -> Result<[f64; 2]> {
    let (held_out, test) =
        (sets.held_out.as_ref().map_or(0, |s| s.len()), sets.test.as_ref().map(|s| s.len()));
    let (train, test) = (sets.train.len(), test.unwrap_or(held_out));
    let validation = held_out as f64 * (cost.each / 3.0 + cost.reading / machine::cores() as f64);
    Ok(match sets.measurable()? {
        Some(_) => {
            let few = config.eval.online_knn;
            let knn = (train.min(few) + test.min(few)) as f64 * cost.encoding;
            // Both encoders and the plain features; then the probes themselves.
            let all = (train + test) as f64;
            [knn + validation, all * (2.0 * cost.encoding + cost.reading) + 2.0 + all * 2e-3]
        }
        // Both encoders on the samples as they are and on two views.
        None => {
            let some = if held_out >= 2 { held_out } else { train }.min(1000);
            [validation, some as f64 * 2.0 * (cost.encoding + 2.0 * (cost.encoding + cost.reading))]
        }
    })
}
