//! What an encoder is fine-tuned for.
//!
//! A [`Task`] is an objective with a head, batches with targets, and what is measured; the loop, the
//! checkpoints and early stopping are those of pre-training. Tasks stand on modalities: a modality implements
//! [`Tasks`], which goes from the name of a task to its type, and whoever works with a task of any modality
//! (fine-tuning, prediction) implements [`WithTask`].

mod class_map;
pub mod classification;
mod config;
mod names;

pub use class_map::ClassMap;
pub use config::{ClassWeights, HEAD_RATE, TaskConfig, TaskKeys};
pub use names::file_names;

use crate::config::Keys;
use crate::modality::Modality;
use crate::set::{Set, Sets};
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::Checkpoint;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Objective, class_counts};
use selfsup_core::run::Run;
use selfsup_core::weights::{Options, compare, load_into};
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A modality whose encoders are fine-tuned.
///
/// ```
/// use selfsup::task::{Task, WithTask};
/// use selfsup::{Result, task::Tasks};
///
/// /// Answers with the metric that chooses the best checkpoint of a task.
/// struct Watched;
///
/// impl<M: Tasks> WithTask<M> for Watched {
///     type Out = &'static str;
///     fn run<T: Task<M>>(self) -> Result<&'static str> {
///         Ok(T::WATCHED)
///     }
/// }
///
/// # #[cfg(feature = "vision")] {
/// use selfsup::modality::vision::Vision;
/// assert_eq!(Vision::with_task("classification", Watched)?, "validation_log_likelihood");
/// assert!(Vision::with_task("poetry", Watched).is_err());
/// # }
/// # Ok::<(), selfsup::Error>(())
/// ```
pub trait Tasks: Modality {
    /// Values of `task.kind`.
    const TASKS: &'static [&'static str];

    /// Parts of [`Tasks::tuned_encoder`] that belong to a head: pre-training need not have them, and they are
    /// trained with the head alone too.
    const HEAD: &'static [&'static str] = &[];

    /// Runs `work` with the task that is called `kind`.
    ///
    /// # Errors
    /// What `work` returns; [`unknown_task`] for a name that is not among [`Tasks::TASKS`].
    fn with_task<W: WithTask<Self>>(kind: &str, work: W) -> Result<W::Out>;

    /// Samples with targets as tasks are to see them (transcripts in simplified spelling).
    fn prepare(&self, set: Set) -> Set {
        set
    }

    /// The encoder as it is fine-tuned: parts that the modality never trains further are frozen.
    ///
    /// # Errors
    /// If the configuration is not possible.
    fn tuned_encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.encoder(scope)
    }

    /// Writes a fine-tuned model into the folder `out`: the encoder alone, or with its head where other tools
    /// have a class for both. `params` hold the task's head instead of a method's.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn export_tuned(&self, params: &Params, _task: &TaskKeys, out: &Path) -> Result<()> {
        self.export(params, out, Self::LAYOUTS.first().copied().unwrap_or_default())
    }
}

/// Work that is written once for every task of a modality.
pub trait WithTask<M: Tasks> {
    /// What it returns.
    type Out;

    /// Does it for the task `T`.
    ///
    /// # Errors
    /// As the work says.
    fn run<T: Task<M>>(self) -> Result<Self::Out>;
}

/// The error for a `task.kind` that the modality does not have.
pub fn unknown_task<M: Tasks>(kind: &str) -> Error {
    Error::config(format!(
        "task.kind = \"{kind}\": expected {} for {}",
        M::TASKS.join(" or "),
        M::Keys::KIND.samples()
    ))
}

/// Something to learn from targets.
pub trait Task<M: Tasks>: Sized {
    /// The objective: encoder and head.
    type Objective: Objective;

    /// `validation_` and the metric of [`Task::measure`], higher is better, by which the best checkpoint is
    /// chosen.
    const WATCHED: &'static str;

    /// The keys among [`TaskKeys::CHOICES`] that it reads; the others are refused where they are given.
    const READS: &'static [&'static str];

    /// Whether its samples are corrupted where those of the modality are ([`crate::modality::Corruptible`]).
    const CORRUPTIBLE: bool = true;

    /// What the head's outputs are called.
    const OUTPUTS: &'static str = "classes";

    /// The metric of [`Task::measure`] that is shown where one must do, in percent; where that is not
    /// measured, the first that is.
    const SCORE: &'static str = "accuracy";

    /// Refuses a configuration that the task cannot carry out, before anything is read.
    ///
    /// # Errors
    /// Naming the key.
    fn check(_config: &TaskConfig<M::Keys>) -> Result<()> {
        Ok(())
    }

    /// Samples at a path; with `labelled` false targets may be absent.
    ///
    /// # Errors
    /// If they cannot be read.
    fn open(modality: &M, what: &str, _labelled: bool) -> Result<Set> {
        modality.open(what)
    }

    /// Reads the target of the only sample of `one`, where that can fail: what cannot be read is skipped with
    /// its sample, as far as `train.max_bad_fraction` lets it.
    ///
    /// # Errors
    /// Of what is wrong with it.
    fn readable(_modality: &M, _one: &Set) -> Result<()> {
        Ok(())
    }

    /// The samples that have a target, and what the head's outputs mean.
    ///
    /// # Errors
    /// If there are none.
    fn targets(sets: Sets, keys: &TaskKeys) -> Result<(Sets, Vec<String>)>;

    /// Seconds of each sample, where a share of the samples is a share of their time.
    ///
    /// # Errors
    /// If the set cannot be gone through.
    fn seconds(_modality: &M, _set: &Set) -> Result<Option<Vec<f64>>> {
        Ok(None)
    }

    /// How often each class is a target, which balanced weights are made of.
    ///
    /// # Errors
    /// If targets cannot be read.
    fn counts(_modality: &M, keys: &TaskKeys, set: &Set) -> Result<Vec<usize>> {
        Ok(class_counts(set.labels().unwrap_or_default(), keys.classes.len()))
    }

    /// Builds encoder and head in `scope`; `class_weights` has a weight for each class, or is empty.
    ///
    /// # Errors
    /// If the configuration is not possible.
    fn build(modality: &M, scope: &Scope, keys: &TaskKeys, class_weights: &[f32]) -> Result<Self::Objective>;

    /// Batches with targets to train on.
    ///
    /// # Errors
    /// If the settings do not fit the samples.
    fn batches(
        modality: &M,
        keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<<Self::Objective as Objective>::Batch>>>;

    /// Everything that is measured on labelled samples, by name.
    ///
    /// # Errors
    /// If a sample cannot be read.
    fn measure(ready: &Ready<M, Self>, set: &Set) -> Result<Vec<(String, f64)>>;

    /// Predicts the target of each sample.
    ///
    /// # Errors
    /// If a sample cannot be read, or `answers` does not take what the task has to give.
    fn predict(ready: &Ready<M, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()>;
}

/// An objective with weights, ready to be applied to samples.
pub struct Ready<'a, M: Tasks, T: Task<M>> {
    /// The modality.
    pub modality: &'a M,
    /// `[task]`.
    pub keys: &'a TaskKeys,
    /// Encoder and head.
    pub objective: &'a T::Objective,
    /// How samples are read: in their order.
    pub loader: LoaderConfig,
    /// Where the objective lives.
    pub device: &'a Device,
}

/// Where predictions go.
pub trait Answers {
    /// A row of a table: values by name, the same names in every row.
    ///
    /// # Errors
    /// If the answers are wanted as files.
    fn row(&mut self, row: Vec<(String, Value)>) -> Result<()>;

    /// Asks where to write the file `name`, which answers for `source`.
    ///
    /// # Errors
    /// If the answers are wanted as a table, or the file is there already.
    fn file(&mut self, source: &Path, name: &str) -> Result<PathBuf>;

    /// Whether the answers are wanted as files.
    fn files(&self) -> bool;
}

/// Samples that are measured at once.
const MEASURED: usize = 64;

impl<'a, M: Tasks, T: Task<M>> Ready<'a, M, T> {
    /// An objective to be applied with `workers` threads that read.
    pub fn new(
        modality: &'a M,
        keys: &'a TaskKeys,
        objective: &'a T::Objective,
        workers: usize,
        device: &'a Device,
    ) -> Self {
        Ready { modality, keys, objective, loader: LoaderConfig::in_order(MEASURED, workers), device }
    }
}

/// Builds encoder and head of a run over `params`.
///
/// # Errors
/// If the configuration is not possible.
pub fn build<M: Tasks, T: Task<M>>(
    modality: &M,
    config: &TaskConfig<M::Keys>,
    class_weights: &[f32],
    params: &Params,
    device: &Device,
) -> Result<T::Objective> {
    T::build(modality, &Scope::root(params, config.train.seed, device), &config.task, class_weights)
}

/// Takes the best checkpoint, or the newest where none was marked; returns its step.
///
/// # Errors
/// If the run has no checkpoint, or one of another network.
pub fn restore_best(run: &Run, params: &Params) -> Result<u64> {
    let store = run.checkpoints(0);
    let found: Option<(PathBuf, Checkpoint)> = match store.best()? {
        Some(best) => Some(best),
        None => store.latest()?.found,
    };
    let (path, checkpoint) = found.ok_or_else(|| Error::file(run.dir(), "the run has no checkpoint yet"))?;
    checkpoint.restore(params).map_err(|e| Error::file(&path, e))?;
    Ok(checkpoint.progress.step)
}

/// Puts the weights of a pre-training checkpoint into the encoder of `params`, and into a decoder what fits
/// of one. Of the encoder the parts `head` may be absent: they stay as they were drawn.
///
/// # Errors
/// If they are those of another network.
pub fn load_encoder(params: &Params, checkpoint: &Checkpoint, head: &[&str]) -> Result<usize> {
    let below = |prefix: &str| -> BTreeMap<String, Tensor> {
        checkpoint
            .params
            .iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.clone())))
            .collect()
    };
    let encoder = below("encoder.");
    let new = |name: &String| head.iter().any(|part| name.split('.').next() == Some(part));
    let options = Options {
        allow_missing: compare(params, &encoder, "encoder").missing.iter().all(new),
        allow_unexpected: true,
    };
    let loaded = load_into(params, &encoder, "encoder", &options)?.loaded.len();
    // A decoder that was trained to restore is a start for one that segments, but for the layer of its
    // outputs.
    let mut decoder = below("decoder.");
    decoder
        .retain(|name, t| params.get(&format!("decoder.{name}")).is_some_and(|p| p.var.dims() == t.dims()));
    if !decoder.is_empty() {
        load_into(params, &decoder, "decoder", &Options { allow_missing: true, allow_unexpected: true })?;
    }
    Ok(loaded)
}
