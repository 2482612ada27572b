//! The training loop: read parameters, scalar loss, gradients, optimiser, then the state that has no
//! gradient.
//!
//! The loop knows no modality and no method. Everything that a step depends on is in `Params`, the
//! optimiser's moments and [`Position`], so a checkpoint holds the three and a resumed run computes the same
//! bytes.
//!
//! Ranks that train together ([`Trainer::with_world`]) each run this loop on their part of every batch and
//! come to the same parameters, metrics and decisions. Rank 0 alone writes.

mod config;
mod gradients;
mod health;
mod look;
mod ranks;
#[cfg(test)]
mod ranks_test;
mod restore;
#[cfg(test)]
mod restore_test;
mod step;
mod stepped;
mod train;
mod watch;

pub use config::{NonFinite, OnCollapse, Precision, TrainConfig};
pub use gradients::{Gradients, gradients};
pub use health::{Alarm, Breach};
pub use train::train;

use health::{Health, Said};
use stepped::{Now, Stepped};
use watch::Watch;

use crate::checkpoint::Best;
use crate::data::Source;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::objective::{Band, Batch, Gauge, Objective};
use crate::optim::{OptimConfig, Optimizer};
use crate::params::Role;
use crate::pass::Progress;
use crate::run::{Display, Run};
use crate::signal::Stop;
use crate::world::World;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Looks of observers in a run that says nothing else.
const LOOKS: u64 = 10;

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
    /// Called after every `train.eval_every` epochs, and as [`Trainer::with_measuring`] says.
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
    /// Loss of the last step, of this process or an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The run was already complete: this process took no step.
    #[serde(skip)]
    pub complete: bool,
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
    /// Gauges that were outside their healthy band at the end, and for long: the representation has probably
    /// collapsed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unhealthy: Vec<Breach>,
    /// All alarms of the run, of gauges that came back too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
    /// The healthy bands of its gauges.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bands: BTreeMap<String, Band>,
}

impl Summary {
    /// The loss, in words where this process took no step.
    pub fn shown_loss(&self) -> String {
        let loss = self.loss.map(|loss| format!("loss {loss:.4}"));
        match (self.complete, loss) {
            (true, Some(loss)) => format!("already complete, {loss}"),
            (true, None) => "already complete".into(),
            (false, loss) => loss.unwrap_or_else(|| "no loss".into()),
        }
    }
}

/// The loop.
pub struct Trainer<'a, O: Objective + ?Sized> {
    objective: &'a O,
    config: TrainConfig,
    optimizer: Optimizer,
    observers: Vec<Box<dyn Observer + 'a>>,
    /// Steps between the looks of observers beside those of `eval_every`; 0: as many as give ten.
    measuring: Option<u64>,
    validation: Option<Box<dyn Source<O::Batch> + 'a>>,
    device: Device,
    display: Display,
    stop: Stop,
    health: Health,
    watch: Watch,
    /// The healthy bands of the gauges that were logged.
    bands: BTreeMap<String, Band>,
    world: World,
    /// What identifies the samples, where that is known.
    data: Option<String>,
    /// Gauges of the samples.
    known: Vec<Gauge>,
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
            measuring: None,
            validation: None,
            device: device.clone(),
            display: Display::quiet(),
            stop: Stop::manual(),
            health: Health::of(objective.gauge_info()),
            watch: Watch::default(),
            bands: BTreeMap::new(),
            world: World::default(),
            data: None,
            known: Vec::new(),
        })
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'a) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Asks the observers every `steps` steps too, and not after `train.eval_every` epochs alone; with 0, every
    /// tenth of a run whose epochs give fewer than ten looks. What they say between epochs goes into the metrics
    /// and decides nothing.
    #[must_use]
    pub fn with_measuring(mut self, steps: u64) -> Self {
        self.measuring = Some(steps);
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

    /// A description of the samples (their number, a hash of their names). Checkpoints hold it, and a run that
    /// would go on with other samples is refused, unless [`Run::accept_changes`] allows it.
    #[must_use]
    pub fn with_data(mut self, description: impl Into<String>) -> Self {
        self.data = Some(description.into());
        self
    }

    /// Gauges that are known before the first step, of the samples: one outside its band is an alarm at once.
    #[must_use]
    pub fn with_known(mut self, gauges: Vec<Gauge>) -> Self {
        self.known = gauges;
        self
    }

    /// This process is one rank of `world`. Each rank gives [`Trainer::fit`] a source of its part of every
    /// batch ([`crate::data::Loader::in_world`]), the held-out samples likewise, and the same observers. All
    /// ranks start with the parameters of rank 0; validation sums over the ranks, metrics of observers and
    /// gauges are means over them. Rank 0 writes; the others take [`Run::join`].
    #[must_use]
    pub fn with_world(mut self, world: World) -> Self {
        self.world = world;
        self
    }

    /// Whether this rank writes the metrics and the checkpoints.
    fn writes(&self) -> bool {
        self.world.rank() == 0
    }

    /// Trains to the end, from the newest checkpoint of the run if there is one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a stop; [`Error::Collapsed`] after an alarm with `train.on_collapse = "stop"`;
    /// [`Error::Config`] and [`Error::Input`] where the checkpoint is of
    /// another configuration or other data; else what the objective, the source or the disk reports.
    pub fn fit(&mut self, source: &dyn Source<O::Batch>, run: &mut Run) -> Result<Summary> {
        let world = self.world.clone();
        if self.writes() && !run.is_written() {
            return Err(Error::file(
                run.dir(),
                "the run of rank 0 must be written: Run::join is for the others",
            ));
        }
        let store = run.checkpoints(self.config.keep_last);
        let config = if self.writes() { run.config()? } else { String::new() };
        let (mut at, mut best, mut loss) = (Position::default(), None, None);
        let latest = store.latest()?;
        latest.warnings.iter().for_each(|w| self.display.note(w));
        if let Some((_, checkpoint)) = latest.found {
            if self.writes() {
                self.check_unchanged(&checkpoint, run, &config)?;
            }
            (at, best, loss) = self.restore(&checkpoint)?;
            match store.settle_best(&checkpoint, self.writes()) {
                // Somebody removed it: the next result is the best that there is.
                Err(e @ Error::Input { .. }) => {
                    self.display.note(&format!("warning: {e}; the next evaluation takes its place"));
                    best = None;
                }
                other => other?,
            }
            let (bad, seen) = ranks::part(&world, (at.bad_samples, at.seen_samples));
            source.restore_counts(bad, seen);
        }
        let per_epoch = source.batches() as u64;
        let held_out = self.validation.as_ref().map_or(0, |source| source.batches() as u64);
        ranks::agree(
            &world,
            &[("steps so far", at.step), ("batches of an epoch", per_epoch), ("batches held out", held_out)],
        )?;
        ranks::start_alike(&world, self.objective.params())?;
        if self.writes() {
            run.rewind(at.step)?;
        }
        let total = self.config.total_steps(per_epoch);
        if total > 0 && per_epoch == 0 {
            return Err(Error::input(
                "data",
                format!("no batch of {} samples can be made from it", self.config.batch_size),
            ));
        }
        let mut collapsed_at_start = None;
        if at.step < total {
            self.check_collapsed(run, at.step)?;
            let progress = Progress { step: at.step, total_steps: total, epoch: at.epoch };
            let mut known = [self.objective.settings(), std::mem::take(&mut self.known)].concat();
            // A resumed run has said it.
            known.retain(|g| g.band.breach(g.value).is_none() || !self.health.is_outside(g.name));
            collapsed_at_start = self.judge(progress, &known, 1);
        }
        let measured = self.measured_every(total, per_epoch);
        let mut missing = self.all_trained();
        let (started, first_step) = (Instant::now(), at.step);
        let mut samples = 0u64;
        while at.step < total && !self.out_of_patience(at.step, best.as_ref(), per_epoch) {
            for loaded in source.epoch_from(at.epoch, at.batch as usize)? {
                let loaded = loaded?;
                if at.step == first_step {
                    ranks::disjoint(&world, &loaded.indices)?;
                }
                let joint = ranks::joint(&world, loaded.batch.samples(), source.counts())?;
                (at.bad_samples, at.seen_samples) = (joint.bad, joint.seen);
                let now = Now {
                    progress: Progress { step: at.step, total_steps: total, epoch: at.epoch },
                    since: at.step - first_step,
                    offset: joint.offset,
                    logged: at.step % self.config.log_every == 0 || at.step + 1 == total,
                };
                let mut collapsed = collapsed_at_start.take();
                // One sample that could be read has nothing to be compared with.
                let alone = self.objective.couples_samples() && joint.samples < 2;
                let Stepped { loss: value, skipped, mut metrics, gauges } = if alone {
                    self.note_lone_sample(at.step, &loaded.bad);
                    Stepped { loss: loss.unwrap_or(f64::NAN), skipped: true, ..Stepped::default() }
                } else {
                    self.step(&loaded.batch, &now, &mut missing)?
                };
                loss = Some(value).filter(|v| !alone || v.is_finite());
                samples += joint.samples;
                at.skipped_steps += u64::from(skipped);
                at.step += 1;
                at.batch += 1;
                if skipped {
                    self.config.check_skipped(at.skipped_steps, at.step, total)?;
                }
                let epoch_ends = at.batch >= per_epoch;
                if epoch_ends {
                    at.epoch += 1;
                    at.batch = 0;
                }
                let rate = samples as f64 / started.elapsed().as_secs_f64().max(1e-9);
                if now.logged {
                    metrics.push(("samples_per_second".into(), rate));
                    metrics.push(("bad_samples".into(), at.bad_samples as f64));
                    metrics.push(("skipped_steps".into(), at.skipped_steps as f64));
                    let progress = Progress { step: at.step, total_steps: total, epoch: at.epoch };
                    let patience = health::patience(total, self.config.log_every);
                    collapsed = collapsed.or(self.judge(progress, &gauges, patience));
                    let banded = gauges.iter().filter(|g| !g.band.is_none());
                    self.bands.extend(banded.map(|g| (g.name.to_string(), g.band)));
                    if !self.bands.is_empty() {
                        metrics.push(("alarms".into(), self.health.breaches().len() as f64));
                    }
                    if self.writes() {
                        log(run, progress, &metrics)?;
                        self.bands.iter().try_for_each(|(name, band)| run.band(name, *band))?;
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
                } else if measured > 0 && at.step % measured == 0 {
                    self.measure(Progress { step: at.step, total_steps: total, epoch: at.epoch }, run)?;
                }
                let every = self.config.checkpoint_every;
                let stopping = ranks::any(&world, self.stop.requested() || collapsed.is_some())? && !done;
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
                    let path = store.path(at.step);
                    if self.writes() {
                        store.save(&self.checkpoint(at, total, best.clone(), &config, value)?)?;
                        run.draw_curves()?;
                        if best.as_ref().is_some_and(|b| b.step == at.step) {
                            store.mark_best(&path)?;
                        }
                    }
                    // No rank goes on, or ends, before the checkpoint is there.
                    world.barrier()?;
                    if !done && quality.is_some() && self.out_of_patience(at.step, best.as_ref(), per_epoch) {
                        self.display.note(&format!(
                            "no better result in {} evaluations: stopping early",
                            self.config.patience
                        ));
                        break;
                    }
                    if stopping {
                        self.display.finish();
                        if let Some(what) = collapsed {
                            return Err(Error::Collapsed { step: at.step, what, checkpoint: path });
                        }
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
            complete: at.step == first_step,
            seconds,
            samples_per_second: samples as f64 / seconds.max(1e-9),
            bad_samples: at.bad_samples,
            skipped_steps: at.skipped_steps,
            best,
            unhealthy: self.health.breaches(),
            alarms: self.health.alarms().to_vec(),
            bands: self.bands.clone(),
        })
    }

    /// Says that a step is skipped because its batch has one sample.
    fn note_lone_sample(&mut self, step: u64, bad: &[(usize, String)]) {
        let why = bad.first().map_or(String::new(), |(_, why)| format!(" ({} could not: {why})", bad.len()));
        self.display.note(&format!(
            "warning: step {step} is skipped: of its batch one sample could be read{why}, and the method compares \
             samples"
        ));
    }

    /// Looks at gauges, says what is to be said of those that have been outside their band for `patience` looks,
    /// and returns why the run is to stop, if it is.
    fn judge(&mut self, progress: Progress, gauges: &[Gauge], patience: usize) -> Option<String> {
        let mut stop = None;
        for said in self.health.look(progress, gauges, patience) {
            match said {
                Said::Back(text) => self.display.note(&text),
                Said::Alarm(breach) => {
                    let what = breach.sentence();
                    self.display.note(&format!("warning: {what}"));
                    stop = stop.or(Some(what));
                }
            }
        }
        stop.filter(|_| self.config.on_collapse == OnCollapse::Stop)
    }

    /// Whether the best result is so old that the run ends. It depends on what a checkpoint holds alone, so a
    /// resumed run decides alike.
    fn out_of_patience(&self, step: u64, best: Option<&Best>, per_epoch: u64) -> bool {
        let allowed = self.config.patience.saturating_mul(self.config.eval_every).saturating_mul(per_epoch);
        self.config.patience > 0 && best.is_some_and(|b| step.saturating_sub(b.step) >= allowed)
    }

    /// Steps between the looks of observers beside those after epochs; 0 for none.
    fn measured_every(&self, total: u64, per_epoch: u64) -> u64 {
        match self.measuring {
            None => 0,
            Some(0) => {
                let looks = total.checked_div(per_epoch * self.config.eval_every);
                if looks.is_some_and(|looks| looks < LOOKS) { total.div_ceil(LOOKS) } else { 0 }
            }
            Some(steps) => steps,
        }
    }

    fn all_trained(&self) -> BTreeSet<String> {
        self.objective.params().with_role(Role::Trained).into_iter().map(|p| p.name).collect()
    }
}

fn log(run: &mut Run, progress: Progress, metrics: &[(String, f64)]) -> Result<()> {
    let borrowed: Vec<(&str, f64)> = metrics.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    run.log(progress, &borrowed)
}
