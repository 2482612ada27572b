//! What a checkpoint of a training holds, and going on from one.

use super::watch::Watch;
use super::{OnCollapse, Position, Trainer};
use crate::checkpoint::{Best, Checkpoint, Extra};
use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::pass::Progress;
use crate::run::{Run, config_changes};
use serde_json::Value;

/// Keys of [`Extra::other`].
const HEALTH: &str = "health";
const WATCH: &str = "watch";
const LOSS: &str = "loss";
const BEST: &str = "best_value";
const DATA: &str = "data";

impl<O: Objective + ?Sized> Trainer<'_, O> {
    /// The state after a step with this loss.
    pub(super) fn checkpoint(
        &self,
        at: Position,
        total_steps: u64,
        best: Option<Best>,
        config: &str,
        loss: f64,
    ) -> Result<Checkpoint> {
        let json = |e: serde_json::Error| Error::Other(e.to_string());
        let progress = Progress { step: at.step, total_steps, epoch: at.epoch };
        let mut extra = Extra { config: config.to_string(), best, ..Extra::default() };
        // Numbers as text come back with the same bits, which a reader of JSON does not promise: an equal
        // result after a stop must not pass for a better one.
        extra.other.insert(LOSS.into(), loss.to_string().into());
        if let Some(best) = &extra.best {
            extra.other.insert(BEST.into(), best.value.to_string().into());
        }
        extra.data = serde_json::to_value(at).map_err(json)?;
        extra.other.insert(HEALTH.into(), serde_json::to_value(&self.health).map_err(json)?);
        if let Some(data) = &self.data {
            extra.other.insert(DATA.into(), data.as_str().into());
        }
        let (watch, kept) = self.watch.state()?;
        extra.other.insert(WATCH.into(), kept);
        let params = self.objective.params();
        Ok(Checkpoint::new(params, self.optimizer.state(), progress, extra).with_watch(watch))
    }

    /// Takes the state over; returns position, best evaluation and last loss.
    pub(super) fn restore(
        &mut self,
        checkpoint: &Checkpoint,
    ) -> Result<(Position, Option<Best>, Option<f64>)> {
        checkpoint.restore(self.objective.params())?;
        self.optimizer.load_state(&checkpoint.optimizer)?;
        let extra = &checkpoint.extra;
        let bad = |what: &str, e: serde_json::Error| Error::input("checkpoint", format!("{what}: {e}"));
        let at = serde_json::from_value(extra.data.clone()).map_err(|e| bad("position in the data", e))?;
        // Checkpoints of earlier versions have none.
        if let Some(health) = extra.other.get(HEALTH) {
            let kept: super::health::Health =
                serde_json::from_value(health.clone()).map_err(|e| bad(HEALTH, e))?;
            self.health = kept.with_infos_of(&self.health);
        }
        if let Some(kept) = extra.other.get(WATCH) {
            self.watch = Watch::restored(&checkpoint.watch, kept)?;
        }
        let number = |key| extra.other.get(key).and_then(Value::as_str)?.parse::<f64>().ok();
        let mut best = extra.best.clone();
        if let (Some(best), Some(value)) = (&mut best, number(BEST)) {
            best.value = value;
        }
        Ok((at, best, number(LOSS)))
    }

    /// Refuses to go on with a run that collapsed and would stop again. Where its settings were changed, the
    /// gauges get as long as at first.
    pub(super) fn check_collapsed(&mut self, run: &Run, step: u64) -> Result<()> {
        let breaches = self.health.breaches();
        let Some(first) = breaches.first().filter(|_| self.config.on_collapse == OnCollapse::Stop) else {
            return Ok(());
        };
        if run.accepts_changes() {
            self.health.forgive();
            return Ok(());
        }
        Err(Error::Collapsed {
            step,
            what: format!(
                "{}. To go on, change the configuration and give --allow-config-change, or set train.on_collapse = \
                 \"warn\"",
                first.sentence().trim_end_matches('.')
            ),
            checkpoint: self.checkpoint_path(run, step),
        })
    }

    /// Where the checkpoint of a step stands.
    pub(super) fn checkpoint_path(&self, run: &Run, step: u64) -> std::path::PathBuf {
        run.checkpoints(self.config.keep_last).path(step)
    }

    /// Refuses to go on from a checkpoint that another configuration or other samples led to: the run would be
    /// neither the one nor the other. Where it was allowed, a note says what changed.
    pub(super) fn check_unchanged(&mut self, checkpoint: &Checkpoint, run: &Run, config: &str) -> Result<()> {
        let Extra { config: before, other, .. } = &checkpoint.extra;
        let changes = if before.is_empty() { Vec::new() } else { config_changes(before, config)? };
        if !changes.is_empty() {
            let list = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let path = run.dir().join("config.toml");
            if !run.accepts_changes() {
                return Err(Error::config(format!(
                    "{} was changed after the checkpoint of step {} ({list}): change it back, or go on with --allow-config-change",
                    path.display(),
                    checkpoint.progress.step
                )));
            }
            self.display.note(&format!("going on with another configuration: {list}"));
        }
        let now = self.data.as_deref();
        if let (Some(before), Some(now)) = (other.get(DATA).and_then(Value::as_str), now)
            && before != now
        {
            let step = checkpoint.progress.step;
            if !run.accepts_changes() {
                return Err(Error::input(
                    "data",
                    format!(
                        "the run in {} was trained on {before} until step {step}, and finds {now}: expected the same samples; start a new run, or go on with --allow-config-change",
                        run.dir().display()
                    ),
                ));
            }
            self.display.note(&format!("going on with other samples: {before} until step {step}, now {now}"));
        }
        Ok(())
    }
}
