//! The search for a recipe: from the cheapest up, as long as there is time for enough steps.

use super::choose::{Bounds, choose, length};
use super::found::{Asked, Found};
use super::measure::{Cost, measure, rehearse};
use super::opened::Opened;
use super::{keys, machine, said};
use crate::config::{Keys, PretrainConfig};
use crate::modality::Modality;
use crate::recipe::Recipe;
use crate::say::detail;
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

/// The search, on data that are open.
pub(super) struct Search<'a, M: Modality> {
    pub asked: Asked<'a>,
    pub opened: &'a Opened<M>,
}

impl<M: Modality> Search<'_, M> {
    /// The recipe that is taken.
    pub fn run(&self) -> Result<Found<M>> {
        let mut best: Option<Found<M>> = None;
        let recipes = self.asked.recipes::<M>()?;
        let mut last = None;
        for recipe in recipes {
            let config = self.asked.with::<M>(&recipe)?;
            if last.as_ref() == Some(&config) {
                continue;
            }
            last = Some(config.clone());
            let Some(found) = self.measured(recipe, config)? else {
                if self.asked.timed && best.is_some() {
                    break;
                }
                continue;
            };
            if !self.asked.timed {
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
            let more = found.choice.room
                && self.asked.started.elapsed().as_secs_f64() < SEARCHING * self.asked.seconds;
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
        if self.asked.timed {
            // Where steps fail (a loss that is not finite, say), the run says so.
            let _ = self.rehearsed(&mut best);
        }
        Ok(best)
    }

    /// What a recipe costs, and what batch and length follow; `None` if it does not fit into memory.
    fn measured(&self, recipe: Recipe, mut config: PretrainConfig<M::Keys>) -> Result<Option<Found<M>>> {
        if !self.asked.trace {
            config.keys.leave_nothing();
        }
        let trainings = M::trainings(&config.keys).max(1) as f64;
        let device = config.device.open()?;
        let modality = self.opened.modality.again(&config)?;
        let sets = self.opened.sets.clone();
        let started = Instant::now();
        let cost = measure(&modality, &config, &sets.train, &device)?;
        detail(format_args!(
            "measured {} in {:.1} s: a step takes {:.1} ms and {:.1} ms a sample, reading one {:.1} ms",
            config.keys.outline(),
            started.elapsed().as_secs_f64(),
            1e3 * cost.fixed,
            1e3 * cost.each,
            1e3 * cost.reading
        ));
        let looks = looks(&cost, &config, &sets)?;
        let between = modality.between(sets.train.len(), cost.reading, cost.encoding);
        let held = machine::held().map_or(0, |(now, _)| now);
        let limit = machine::memory_free().map(|free| held as f64 + MEMORY * free as f64);
        let choice = choose(&cost, &self.bounds(&config, recipe.batch, between + looks[1], trainings, limit));
        let found = |choice| Found {
            recipe,
            config,
            sets,
            cost,
            choice,
            rehearsal: None,
            looks,
            between,
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
        after: f64,
        trainings: f64,
        bytes: Option<f64>,
    ) -> Bounds {
        let train = &config.train;
        let given = |key: &str| self.asked.given.any(key);
        let left = FILLED * self.asked.seconds - self.asked.started.elapsed().as_secs_f64() - after;
        // Where evaluating alone takes the budget, the run takes longer than that, and the estimate says so.
        let seconds = left.max(0.3 * self.asked.seconds) * (1.0 - LOOKING) / trainings;
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
    fn rehearsed(&self, found: &mut Found<M>) -> Result<()> {
        let most = (REHEARSING * self.asked.seconds).min(LONGEST);
        if found.choice.step > most {
            return Ok(());
        }
        let layer = keys::of_run(self.asked.given, found, self.asked.timed);
        let config: PretrainConfig<M::Keys> = PretrainConfig::of(&self.asked.draft.clone().above(layer))?;
        let device = config.device.open()?;
        let rehearsal = rehearse(&found.modality, &config, &found.sets.train, &device, most)?;
        let (batch, micro) = (found.choice.batch, found.choice.micro);
        let bounds = self.bounds(
            &found.config,
            found.recipe.batch,
            found.between + found.looks[1],
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
