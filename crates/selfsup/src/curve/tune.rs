//! Cells of trainings: a head on an encoder, trained on a few labelled samples, in memory.
//!
//! Learning rate and number of steps are chosen inside the labelled samples: a fifth of them is held out,
//! each rate of a small grid is trained on the others, and the held-out samples are measured after 1/8, 1/4,
//! 1/2 and all of the steps. What was best there is then trained on all labelled samples, once for each seed.
//! The learning rate is constant after a short warm-up, so that stopping early is the same as having trained
//! shorter. Where the labels are too few to hold any out, the middle rate is trained for all steps.

use super::cells::rounded;
use super::draws::fifth;
use super::probe::{Chosen, Found};
use crate::set::Set;
use crate::task::{ClassWeights, Ready, Task, TaskConfig, Tasks, build, load_encoder};
use candle_core::Device;
use selfsup_core::checkpoint::Checkpoint;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Objective, balanced_weights};
use selfsup_core::optim::{Optimizer, train_last_blocks};
use selfsup_core::schedule::{LrSchedule, Span};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::gradients;
use selfsup_core::{Error, Key, Params, Pass, Progress, Result, Role};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Instant;

/// Learning rates that are tried, as factors of the configured one: a network with random weights wants more.
const GRID: [f64; 3] = [1.0 / 3.0, 1.0, 10.0 / 3.0];
const GRID_OF_SCRATCH: [f64; 3] = [1.0, 10.0 / 3.0, 10.0];
/// Fewest steps of a training: a handful of labels is one batch an epoch.
const FEWEST: u64 = 100;
/// Most steps of the warm-up.
const WARMUP: u64 = 20;

/// How one setting is trained.
pub struct Tuning<'a, M: Tasks, T: Task<M>> {
    /// The modality.
    pub modality: &'a M,
    /// The task, optimiser and batch.
    pub config: TaskConfig<M::Keys>,
    /// What the encoder starts from; random weights without.
    pub weights: Option<&'a Checkpoint>,
    /// Learning rates that are tried, rising.
    pub rates: Vec<f64>,
    /// Most steps of one training.
    pub most: u64,
    /// Where it is trained.
    pub device: &'a Device,
    /// Asked between steps.
    pub stop: &'a Stop,
    /// The folder that an interruption names.
    pub out: PathBuf,
    /// The task.
    pub task: PhantomData<T>,
}

/// The grid about the rate `base`: `given`, sorted, where there is one.
pub fn rates(base: f64, scratch: bool, given: &[f64]) -> Vec<f64> {
    let grid = if scratch { GRID_OF_SCRATCH } else { GRID };
    let mut rates =
        if given.is_empty() { grid.iter().map(|f| short(base * f)).collect() } else { given.to_vec() };
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    rates
}

/// What looks at a network after some step.
type Look<'a, M, T> = dyn FnMut(u64, &Ready<M, T>) -> Result<()> + 'a;

/// Six significant digits: a third of 3e-4 is 1e-4.
fn short(rate: f64) -> f64 {
    format!("{rate:.5e}").parse().unwrap_or(rate)
}

impl<M: Tasks, T: Task<M>> Tuning<'_, M, T> {
    /// Steps of a training on `samples`: the configured epochs, at least a hundred steps, at most `most`.
    pub fn steps(&self, samples: usize) -> u64 {
        let train = &self.config.train;
        let batches = samples.div_ceil(train.batch_size.min(samples).max(1)) as u64;
        (train.epochs * batches).max(FEWEST).min(self.most)
    }

    /// Chooses rate and steps inside the labelled samples.
    ///
    /// # Errors
    /// If a sample cannot be read, or every rate diverges.
    pub fn choose(&self, labelled: &Set, classes: usize, seed: u64) -> Result<Chosen> {
        let steps = self.steps(labelled.len());
        let usual = Chosen {
            rate: self.rates.get(self.rates.len() / 2).copied(),
            steps: Some(steps),
            ..Chosen::default()
        };
        let Some((fit, held_out)) = divided(labelled, classes)? else { return Ok(usual) };
        let watched = T::WATCHED.strip_prefix("validation_").unwrap_or(T::WATCHED);
        let looks = [steps.div_ceil(8), steps.div_ceil(4), steps.div_ceil(2), steps];
        let mut best: Option<(f64, f64, u64)> = None;
        for &rate in &self.rates {
            let tried = self.train(&fit, rate, (steps, &looks), seed, &mut |step, ready| {
                let values = T::measure(ready, &held_out)?;
                let value = values.iter().find(|(name, _)| name == watched).map_or(f64::NAN, |(_, v)| *v);
                if !value.is_nan() && best.is_none_or(|(top, ..)| value > top) {
                    best = Some((value, rate, step));
                }
                Ok(())
            });
            match tried {
                // Too high a rate: the others decide.
                Err(Error::NonFinite { .. }) => {}
                other => other?,
            }
        }
        let Some((_, rate, at)) = best else {
            return Err(Error::config(format!(
                "every learning rate of {:?} diverges: give lower ones with --rates",
                self.rates
            )));
        };
        let at_end = at == steps;
        Ok(Chosen { rate: Some(rate), steps: Some(at), by: held_out.len(), at_end, ..Chosen::default() })
    }

    /// Trains on the labelled samples as was chosen, and measures the test samples.
    ///
    /// # Errors
    /// If a sample cannot be read, or the training diverges.
    pub fn cell(&self, labelled: &Set, chosen: &Chosen, seed: u64, test: &Set) -> Result<Found> {
        let started = Instant::now();
        let (rate, steps) = (chosen.rate.unwrap_or(self.config.optim.lr), chosen.steps.unwrap_or(FEWEST));
        let mut values = Vec::new();
        self.train(labelled, rate, (self.steps(labelled.len()), &[steps]), seed, &mut |_, ready| {
            values = T::measure(ready, test)?;
            Ok(())
        })?;
        Ok(Found {
            values: values.into_iter().map(|(name, v)| (name, rounded(v))).collect(),
            chosen: chosen.clone(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Trains on `set`, and calls `look` after each of the steps that it is given, rising; the last of them
    /// ends the training. The warm-up is that of `planned` steps.
    fn train(
        &self,
        set: &Set,
        rate: f64,
        (planned, looks): (u64, &[u64]),
        seed: u64,
        look: &mut Look<'_, M, T>,
    ) -> Result<()> {
        let mut config = self.config.clone();
        config.train.seed = seed;
        let (modality, task, t) = (self.modality, &config.task, &config.train);
        let class_weights = match task.class_weights {
            ClassWeights::None => Vec::new(),
            ClassWeights::Balanced => balanced_weights(&T::counts(modality, task, set)?),
        };
        let params = Params::new();
        let objective = build::<M, T>(modality, &config, &class_weights, &params, self.device)?;
        if let Some(weights) = self.weights {
            load_encoder(&params, weights, M::HEAD)?;
        }
        if let Some(blocks) = task.train_blocks {
            train_last_blocks(&params, "encoder", blocks)?;
            for part in M::HEAD {
                params.set_role(&format!("encoder.{part}"), Role::Frozen, Role::Trained);
            }
        }
        let loader = LoaderConfig {
            batch_size: t.batch_size.min(set.len()),
            workers: t.workers,
            prefetch: t.prefetch,
            drop_last: false,
            shuffle: true,
            seed,
            max_bad_fraction: t.max_bad_fraction,
        };
        let batches = T::batches(modality, task, set, loader)?;
        let mut optim = config.optim.clone();
        optim.lr = rate;
        optim.schedule = LrSchedule::Constant { warmup: Span::Steps(WARMUP.min(planned / 10)) };
        let mut optimizer = Optimizer::new(&params, optim)?;
        let ready = Ready::<M, T>::new(modality, task, &objective, t.workers, self.device);
        let last = looks.last().copied().unwrap_or(0);
        let mut at = Progress { step: 0, total_steps: last, epoch: 0 };
        while at.step < last {
            let before = at.step;
            for loaded in batches.epoch_from(at.epoch, 0)? {
                if self.stop.requested() {
                    return Err(Error::Interrupted { step: at.step, checkpoint: self.out.clone() });
                }
                self.step(&objective, &loaded?.batch, &at, t.micro_batch_size, seed, &mut optimizer)?;
                at.step += 1;
                if looks.contains(&at.step) {
                    look(at.step, &ready)?;
                }
                if at.step == last {
                    break;
                }
            }
            if at.step == before {
                return Err(Error::input("labelled samples", "not a single batch can be made from them"));
            }
            at.epoch += 1;
        }
        Ok(())
    }

    /// One update, as a step of [`selfsup_core::trainer::Trainer`].
    fn step(
        &self,
        objective: &T::Objective,
        batch: &<T::Objective as Objective>::Batch,
        at: &Progress,
        micro: usize,
        seed: u64,
        optimizer: &mut Optimizer,
    ) -> Result<()> {
        let batch = batch.to_device(self.device)?;
        let pass = Pass::train(seed, *at);
        let mut made = gradients(objective, &batch, micro, &pass)?;
        if !made.loss.is_finite() {
            let (what, hint) = ("the loss".to_string(), "give lower learning rates with --rates".to_string());
            return Err(Error::NonFinite { step: at.step, what, hint });
        }
        objective.adjust_grads(&mut made.grads, at)?;
        optimizer.step(&made.grads, at.step, at.total_steps)?;
        pass.write_deferred(objective.params())?;
        objective.after_step(&made.embeddings, at, &pass.world)
    }
}

/// The labelled samples to fit on and those to choose by: of each class a fifth, whole groups where samples
/// have some. `None` where they are too few.
fn divided(labelled: &Set, classes: usize) -> Result<Option<(Set, Set)>> {
    let grouped = (0..labelled.len()).any(|i| labelled.records().group(i).is_some());
    let labels = labelled.labels();
    let parts = match labels {
        _ if grouped => {
            let few = labels.is_some() && labelled.len() < 2 * classes;
            return Ok(match labelled.clone().hold_out(0.2, 0)? {
                (fit, Some(held_out)) if !few => Some((fit, held_out)),
                _ => None,
            });
        }
        Some(labels) => fifth(&labels, classes, Key::new(0).named("label curve").named("held out")),
        None => fifth(&vec![0; labelled.len()], 1, Key::new(0).named("label curve").named("held out")),
    };
    parts.map(|(fit, held_out)| Ok((labelled.part(fit)?, labelled.part(held_out)?))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_lie_about_the_configured_rate() {
        assert_eq!(rates(3e-4, false, &[]), [1e-4, 3e-4, 1e-3]);
        assert_eq!(rates(3e-4, true, &[]), [3e-4, 1e-3, 3e-3]);
        assert_eq!(rates(3e-7, false, &[]), [1e-7, 3e-7, 1e-6], "none is rounded away");
        assert_eq!(rates(3e-4, true, &[1e-2, 1e-3, 1e-2]), [1e-3, 1e-2]);
    }
}
