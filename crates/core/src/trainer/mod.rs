//! The training loop: read parameters, scalar loss, gradients, optimiser, then the state that has no
//! gradient.
//!
//! The loop knows no modality and no method. Everything that a step depends on is in `Params`, the
//! optimiser's moments and [`Position`], so a checkpoint holds the three and a resumed run computes the same
//! bytes.

mod config;
mod gradients;
mod health;
mod train;

pub use config::{NonFinite, Precision, TrainConfig};
pub use gradients::{Gradients, gradients};
pub use health::Low;
pub use train::train;

use health::Health;

use crate::checkpoint::{Best, Checkpoint, Extra};
use crate::data::Source;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::objective::{Batch, Embedded, Gauge, Objective};
use crate::optim::{OptimConfig, Optimizer};
use crate::params::Role;
use crate::pass::{Pass, Progress};
use crate::run::{Display, Run};
use crate::signal::Stop;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Instant;

/// Where a run stands. A checkpoint holds this beside the tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the stage in the plan.
    pub stage: u64,
    /// Optimiser steps done.
    pub step: u64,
    /// The epoch of the next batch.
    pub epoch: u64,
    /// Index of the next batch in that epoch.
    pub batch: u64,
    /// Unreadable samples skipped so far.
    pub bad_samples: u64,
    /// Samples seen so far, the unreadable ones among them.
    pub seen_samples: u64,
    /// Steps left out because something was not finite.
    pub skipped_steps: u64,
}

/// The view of a run that an [`Observer`] gets.
pub struct Look<'a> {
    /// The encoder as it is now.
    pub encoder: &'a dyn Encoder,
    /// How far the run is.
    pub progress: Progress,
    /// Where inputs have to be.
    pub device: &'a Device,
}

/// Looks at the encoder at intervals and returns named numbers for the metrics; it must not change the run.
pub trait Observer {
    /// Called after every `train.eval_every` epochs.
    ///
    /// # Errors
    /// If it cannot look.
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>>;

    /// The name of its metric, higher is better, that decides which checkpoint is the best and when patience
    /// ends; without one the validation loss decides.
    fn decides(&self) -> Option<&'static str> {
        None
    }
}

/// The outcome of a finished run.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Optimiser steps.
    pub steps: u64,
    /// Epochs.
    pub epochs: u64,
    /// Loss of the last step; nothing where the run was already complete, so that this process took none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Seconds in this process.
    pub seconds: f64,
    /// Samples per second in this process.
    pub samples_per_second: f64,
    /// Unreadable samples skipped.
    pub bad_samples: u64,
    /// Steps left out because something was not finite.
    pub skipped_steps: u64,
    /// The best evaluation, if there was any; a validation loss stands there as `-val_loss`, for which higher
    /// is better too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Gauges of the method that were below their bound at the end, and for long: the representation has
    /// probably collapsed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unhealthy: Vec<Low>,
}

impl Summary {
    /// The loss, in words where there is none.
    pub fn shown_loss(&self) -> String {
        self.loss.map_or_else(|| "already complete".into(), |loss| format!("loss {loss:.4}"))
    }
}

/// The outcome of a step; metrics and gauges only if it was logged.
#[derive(Default)]
struct Stepped {
    loss: f64,
    metrics: Vec<(String, f64)>,
    gauges: Vec<Gauge>,
}

/// The loop.
pub struct Trainer<'a, O: Objective + ?Sized> {
    objective: &'a O,
    config: TrainConfig,
    optimizer: Optimizer,
    observers: Vec<Box<dyn Observer + 'a>>,
    validation: Option<Box<dyn Source<O::Batch> + 'a>>,
    device: Device,
    display: Display,
    stop: Stop,
    health: Health,
}

impl<'a, O: Objective + ?Sized> Trainer<'a, O> {
    /// A trainer for `objective`, whose parameters live on `device`.
    ///
    /// # Errors
    /// If a configuration cannot be carried out.
    pub fn new(
        objective: &'a O,
        config: TrainConfig,
        optim: &OptimConfig,
        steps_per_epoch: u64,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        selfsup_kernels::memory::keep_pages();
        let mut optim = optim.clone();
        optim.schedule = optim.schedule.resolve(steps_per_epoch as f64);
        let optimizer = Optimizer::new(objective.params(), optim)?;
        Ok(Trainer {
            objective,
            config,
            optimizer,
            observers: Vec::new(),
            validation: None,
            device: device.clone(),
            display: Display::quiet(),
            stop: Stop::manual(),
            health: Health::default(),
        })
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'a) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Unlabelled samples that were held out: their loss is logged as `val_loss`.
    #[must_use]
    pub fn with_validation(mut self, source: impl Source<O::Batch> + 'a) -> Self {
        self.validation = Some(Box::new(source));
        self
    }

    /// Where progress is shown; nowhere by default.
    #[must_use]
    pub fn with_display(mut self, display: Display) -> Self {
        self.display = display;
        self
    }

    /// The flag that stops the run after a checkpoint.
    #[must_use]
    pub fn with_stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Trains to the end, from the newest checkpoint of the run if there is one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a stop; else what the objective, the source or the disk reports.
    pub fn fit(&mut self, source: &dyn Source<O::Batch>, run: &mut Run) -> Result<Summary> {
        let store = run.checkpoints(self.config.keep_last);
        let (mut at, mut best) = (Position::default(), None);
        let latest = store.latest()?;
        latest.warnings.iter().for_each(|w| self.display.note(w));
        if let Some((_, checkpoint)) = latest.found {
            (at, best) = self.restore(&checkpoint)?;
            source.restore_counts(at.bad_samples, at.seen_samples);
        }
        run.rewind(at.step)?;
        let per_epoch = source.batches() as u64;
        let total = self.config.total_steps(per_epoch);
        if total > 0 && per_epoch == 0 {
            return Err(Error::input(
                "data",
                format!("no batch of {} samples can be made from it", self.config.batch_size),
            ));
        }
        let mut missing = self.all_trained();
        let (started, first_step) = (Instant::now(), at.step);
        let (mut loss, mut samples) = (None, 0u64);
        while at.step < total && !self.out_of_patience(at.step, best.as_ref(), per_epoch) {
            for loaded in source.epoch_from(at.epoch, at.batch as usize)? {
                let loaded = loaded?;
                (at.bad_samples, at.seen_samples) = source.counts();
                let progress = Progress { step: at.step, total_steps: total, epoch: at.epoch };
                let count = loaded.batch.samples() as u64;
                let logged = at.step % self.config.log_every == 0 || at.step + 1 == total;
                let Stepped { loss: value, mut metrics, gauges } =
                    self.step(&loaded.batch, progress, logged, &mut missing, at.step - first_step, &mut at)?;
                loss = Some(value);
                samples += count;
                at.step += 1;
                at.batch += 1;
                let epoch_ends = at.batch >= per_epoch;
                if epoch_ends {
                    at.epoch += 1;
                    at.batch = 0;
                }
                let rate = samples as f64 / started.elapsed().as_secs_f64().max(1e-9);
                if logged {
                    metrics.push(("samples_per_second".into(), rate));
                    metrics.push(("bad_samples".into(), at.bad_samples as f64));
                    metrics.push(("skipped_steps".into(), at.skipped_steps as f64));
                    log(run, Progress { step: at.step, total_steps: total, epoch: at.epoch }, &metrics)?;
                    self.health.look(at.step, &gauges).iter().for_each(|said| self.display.note(said));
                    for gauge in &gauges {
                        gauge.healthy_above.map_or(Ok(()), |bound| run.bound(gauge.name, bound))?;
                    }
                }
                self.display.update(
                    Progress { step: at.step, total_steps: total, epoch: at.epoch },
                    &[("loss", value)],
                );
                let done = at.step >= total;
                let mut quality = None;
                if self.config.eval_every > 0
                    && (done || epoch_ends && at.epoch % self.config.eval_every == 0)
                {
                    quality =
                        self.look(Progress { step: at.step, total_steps: total, epoch: at.epoch }, run)?;
                }
                let every = self.config.checkpoint_every;
                let stopping = self.stop.requested() && !done;
                if done
                    || stopping
                    || quality.is_some()
                    || if every == 0 { epoch_ends } else { at.step % every == 0 }
                {
                    if let Some((metric, value)) = &quality
                        && best.as_ref().is_none_or(|b: &Best| *value > b.value)
                    {
                        best = Some(Best { metric: metric.clone(), value: *value, step: at.step });
                    }
                    let path = store.save(&self.checkpoint(at, total, best.clone())?)?;
                    run.draw_curves()?;
                    if best.as_ref().is_some_and(|b| b.step == at.step) {
                        store.mark_best(&path)?;
                    }
                    if !done && quality.is_some() && self.out_of_patience(at.step, best.as_ref(), per_epoch) {
                        self.display.note(&format!(
                            "no better result in {} evaluations: stopping early",
                            self.config.patience
                        ));
                        break;
                    }
                    if stopping {
                        self.display.finish();
                        return Err(Error::Interrupted { step: at.step, checkpoint: path });
                    }
                }
                if done {
                    break;
                }
            }
        }
        self.display.finish();
        let seconds = started.elapsed().as_secs_f64();
        if at.step == first_step {
            self.display.note("the run was already complete");
        }
        Ok(Summary {
            steps: at.step,
            epochs: at.epoch,
            loss,
            seconds,
            samples_per_second: samples as f64 / seconds.max(1e-9),
            bad_samples: at.bad_samples,
            skipped_steps: at.skipped_steps,
            best,
            unhealthy: self.health.low(),
        })
    }

    /// Whether the best result is so old that the run ends. It depends on what a checkpoint holds alone, so a
    /// resumed run decides alike.
    fn out_of_patience(&self, step: u64, best: Option<&Best>, per_epoch: u64) -> bool {
        let allowed = self.config.patience.saturating_mul(self.config.eval_every).saturating_mul(per_epoch);
        self.config.patience > 0 && best.is_some_and(|b| step.saturating_sub(b.step) >= allowed)
    }

    fn all_trained(&self) -> BTreeSet<String> {
        self.objective.params().with_role(Role::Trained).into_iter().map(|p| p.name).collect()
    }

    /// One step, `since` steps after this process began; `logged` or not.
    fn step(
        &mut self,
        batch: &O::Batch,
        progress: Progress,
        logged: bool,
        missing: &mut BTreeSet<String>,
        since: u64,
        at: &mut Position,
    ) -> Result<Stepped> {
        // On this thread: a CUDA tensor lives on the stream of the thread that makes it, and other threads
        // use it without waiting for that stream. On the CPU nothing is copied.
        let batch = batch.to_device(&self.device)?;
        let pass = Pass::train(self.config.seed, progress);
        let mut made = gradients(self.objective, &batch, self.config.micro_batch_size, &pass)?;
        check_gradients(&made, missing, &self.objective.may_skip(), since)?;
        let bad = if made.loss.is_finite() {
            made.grads.first_non_finite()?.map(|n| format!("the gradient of {n}"))
        } else {
            Some("the loss".into())
        };
        if let Some(what) = bad {
            if self.config.non_finite == NonFinite::Skip {
                at.skipped_steps += 1;
                return Ok(Stepped { loss: made.loss, ..Stepped::default() });
            }
            return Err(Error::NonFinite {
                step: progress.step,
                what,
                hint: "try a lower optim.lr, optim.clip_grad_norm = 1.0, or train.non_finite = \"skip\""
                    .into(),
            });
        }
        self.objective.adjust_grads(&mut made.grads, &progress)?;
        if progress.step < self.config.freeze_encoder_steps {
            made.grads.remove_under("encoder");
        }
        let info = self.optimizer.step(&made.grads, progress.step, progress.total_steps)?;
        pass.write_deferred(self.objective.params())?;
        self.objective.after_step(&made.embeddings, &progress, &pass.world)?;
        let (mut metrics, mut gauges) = (Vec::new(), Vec::new());
        if logged {
            metrics.push(("loss".to_string(), made.loss));
            metrics.extend(made.parts.iter().map(|(name, v)| (format!("loss/{name}"), *v)));
            metrics.push(("lr".into(), info.lr));
            metrics.push(("grad_norm".into(), info.grad_norm));
            gauges = self.objective.gauges(&made.embeddings, &pass.calm())?;
            metrics.extend(gauges.iter().map(|v| (v.name.to_string(), v.value)));
        }
        Ok(Stepped { loss: made.loss, metrics, gauges })
    }

    /// Asks the observers and the held-out samples; returns what decides which checkpoint is best (higher is
    /// better).
    fn look(&mut self, progress: Progress, run: &mut Run) -> Result<Option<(String, f64)>> {
        let mut metrics = Vec::new();
        if let Some(source) = &self.validation {
            let pass = Pass::eval();
            let (mut sum, mut n, mut seen) = (0.0, 0.0, 0);
            for loaded in source.epoch_from(0, 0)? {
                let batch = loaded?.batch.to_device(&self.device)?;
                let pass = pass.at(seen);
                let embeddings = self.objective.embed(&batch, &pass)?.detach()?;
                let weight = self.objective.weight(&batch, &embeddings)?;
                let value = self.objective.criterion(&embeddings, &pass)?.value;
                sum +=
                    f64::from(value.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?[0])
                        * weight;
                n += weight;
                seen += batch.samples() as u64;
            }
            if n > 0.0 {
                metrics.push(("val_loss".to_string(), sum / n));
            }
        }
        let look = Look { encoder: self.objective.encoder(), progress, device: &self.device };
        for observer in &mut self.observers {
            metrics.extend(observer.observe(&look)?);
        }
        if metrics.is_empty() {
            return Ok(None);
        }
        log(run, progress, &metrics)?;
        let text: Vec<String> = metrics.iter().map(|(name, v)| format!("{name} {v:.4}")).collect();
        self.display.note(&format!("epoch {}: {}", progress.epoch, text.join("  ")));
        let of = |name: &str| metrics.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let decided = self
            .observers
            .iter()
            .find_map(|o| o.decides().and_then(|name| Some((name.to_string(), of(name)?))));
        Ok(decided.or_else(|| of("val_loss").map(|v| ("-val_loss".into(), -v))).filter(|(_, v)| !v.is_nan()))
    }

    fn checkpoint(&self, at: Position, total_steps: u64, best: Option<Best>) -> Result<Checkpoint> {
        let data = serde_json::to_value(at).map_err(|e| Error::Other(e.to_string()))?;
        let progress = Progress { step: at.step, total_steps, epoch: at.epoch };
        let extra = Extra { data, best, ..Extra::default() };
        Ok(Checkpoint::new(self.objective.params(), self.optimizer.state(), progress, extra))
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(Position, Option<Best>)> {
        checkpoint.restore(self.objective.params())?;
        self.optimizer.load_state(&checkpoint.optimizer)?;
        let at = serde_json::from_value(checkpoint.extra.data.clone())
            .map_err(|e| Error::input("checkpoint", format!("position in the data: {e}")))?;
        Ok((at, checkpoint.extra.best.clone()))
    }
}

fn log(run: &mut Run, progress: Progress, metrics: &[(String, f64)]) -> Result<()> {
    let borrowed: Vec<(&str, f64)> = metrics.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    run.log(progress, &borrowed)
}

/// Every trained tensor must get a gradient at the first step (those in `may_skip` within 50): a part that is
/// silently left out of the graph looks like a run that learns badly.
fn check_gradients<E>(
    made: &Gradients<E>,
    missing: &mut BTreeSet<String>,
    may_skip: &[String],
    since: u64,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    missing.retain(|name| !made.grads.contains(name));
    let late = |name: &&String| since >= 50 || !may_skip.contains(name);
    let named: Vec<&String> = missing.iter().filter(late).take(5).collect();
    if named.is_empty() {
        return Ok(());
    }
    let list = named.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::input(
        list,
        "no gradient reached this trained parameter: it is not part of the loss; freeze it or name it in may_skip",
    ))
}
