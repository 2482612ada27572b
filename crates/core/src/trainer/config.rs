//! The keys of `[train]`.

use crate::data::LoaderConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The reaction to a loss or gradient that is NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NonFinite {
    /// Stop with an error that names the tensor.
    #[default]
    Error,
    /// Leave the step out and count it in the metrics; more of them than `train.max_skipped_fraction` are an
    /// error.
    Skip,
}

/// The reaction to a gauge that stays outside its healthy band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnCollapse {
    /// Warn, with the likely cause and what to try, and go on.
    #[default]
    Warn,
    /// Write a checkpoint and end with an error (exit code 4); the run is marked as collapsed.
    Stop,
}

/// Arithmetic of the forward and backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Reserved: refused until it exists.
    Bf16,
}

/// How long, in which pieces, and how often something is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the data.
    pub epochs: u64,
    /// Optimiser steps; if above 0 it decides, and `epochs` is not read.
    pub steps: u64,
    /// Samples of one optimiser step.
    pub batch_size: usize,
    /// Samples in memory at once; 0 for the whole batch. The gradient is that of the whole batch, of contrastive
    /// losses too.
    pub micro_batch_size: usize,
    /// Seed of initial weights, order, augmentation and dropout.
    pub seed: u64,
    /// Threads that read and augment; 0 reads in the training thread.
    pub workers: usize,
    /// Batches that are prepared ahead.
    pub prefetch: usize,
    /// Share of samples that may be unreadable and are then skipped and counted; 0 makes the first one an
    /// error.
    pub max_bad_fraction: f64,
    /// Steps between lines of metrics.
    pub log_every: u64,
    /// Steps between checkpoints; 0 for one after each epoch.
    pub checkpoint_every: u64,
    /// Checkpoints kept, besides the best one.
    pub keep_last: usize,
    /// Epochs between evaluations (online kNN, validation loss); 0 for none.
    pub eval_every: u64,
    /// Evaluations without a better result after which the run ends early; 0 for never. The result is the
    /// accuracy of an observer, or the validation loss.
    pub patience: u64,
    /// Steps at the start in which everything but the encoder learns: a new head on a pre-trained encoder
    /// first finds its place, so that its early gradients do not undo what was learned (wav2vec 2.0, arXiv
    /// 2006.11477, section 4.3: 10,000). These steps still compute the gradients of the encoder.
    pub freeze_encoder_steps: u64,
    /// The reaction to a loss or gradient that is not finite.
    pub non_finite: NonFinite,
    /// With `non_finite = "skip"`: the share of the steps so far that may be left out. A run in which more
    /// are is broken and ends with an error. Until step 100 (or the end) the share is that of 100 steps (or
    /// of all), since a run may begin badly.
    pub max_skipped_fraction: f64,
    /// The reaction to a gauge that stays outside its healthy band, for a tenth of the run's logged values (5 at
    /// least, 10 at most): `warn` says which gauge, since when, the likely cause and what to try; `stop` also
    /// writes a checkpoint and ends the run with exit code 4.
    pub on_collapse: OnCollapse,
    /// Arithmetic.
    pub precision: Precision,
    /// Reserved: recompute activations in the backward pass.
    pub activation_checkpointing: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            epochs: 100,
            steps: 0,
            batch_size: 256,
            micro_batch_size: 0,
            seed: 0,
            workers: 2,
            prefetch: 2,
            max_bad_fraction: 0.0,
            log_every: 10,
            checkpoint_every: 0,
            keep_last: 2,
            eval_every: 1,
            patience: 0,
            freeze_encoder_steps: 0,
            non_finite: NonFinite::Error,
            max_skipped_fraction: 0.1,
            on_collapse: OnCollapse::Warn,
            precision: Precision::F32,
            activation_checkpointing: false,
        }
    }
}

/// Whole batches in a new order each epoch, as a run of this configuration reads them.
impl From<&TrainConfig> for LoaderConfig {
    fn from(t: &TrainConfig) -> Self {
        LoaderConfig {
            batch_size: t.batch_size,
            workers: t.workers,
            prefetch: t.prefetch,
            drop_last: true,
            shuffle: true,
            seed: t.seed,
            max_bad_fraction: t.max_bad_fraction,
        }
    }
}

impl TrainConfig {
    /// Refuses what cannot be carried out.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::config("train.batch_size = 0: expected at least 1"));
        }
        if self.precision == Precision::Bf16 {
            return Err(Error::config(
                "train.precision = \"bf16\" is reserved and not available yet: use \"f32\"",
            ));
        }
        if self.activation_checkpointing {
            return Err(Error::config(
                "train.activation_checkpointing = true is reserved and not available yet",
            ));
        }
        if !(0.0..=1.0).contains(&self.max_bad_fraction) {
            return Err(Error::config(format!(
                "train.max_bad_fraction = {}: expected a share between 0 and 1",
                self.max_bad_fraction
            )));
        }
        if !(0.0..=1.0).contains(&self.max_skipped_fraction) {
            return Err(Error::config(format!(
                "train.max_skipped_fraction = {}: expected a share between 0 and 1",
                self.max_skipped_fraction
            )));
        }
        if self.patience > 0 && self.eval_every == 0 {
            return Err(Error::config(format!(
                "train.patience = {} needs evaluations: set train.eval_every above 0",
                self.patience
            )));
        }
        if self.log_every == 0 {
            return Err(Error::config("train.log_every = 0: expected at least 1"));
        }
        Ok(())
    }

    /// Refuses a run in which more steps than [`TrainConfig::max_skipped_fraction`] were left out: `skipped`
    /// of the first `steps` of `total`.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with both numbers.
    pub(super) fn check_skipped(&self, skipped: u64, steps: u64, total: u64) -> Result<()> {
        if skipped as f64 <= self.max_skipped_fraction * steps.max(total.min(100)) as f64 {
            return Ok(());
        }
        Err(Error::NonFinite {
            step: steps,
            what: format!(
                "the loss, a gradient or a statistic (or too few samples could be read) in {skipped} of {steps} steps"
            ),
            hint: format!(
                "more than train.max_skipped_fraction = {} were skipped: try a lower optim.lr or optim.clip_grad_norm = 1.0",
                self.max_skipped_fraction
            ),
        })
    }

    /// Optimiser steps of the run, given those of an epoch.
    pub fn total_steps(&self, per_epoch: u64) -> u64 {
        if self.steps > 0 { self.steps } else { self.epochs * per_epoch }
    }
}
