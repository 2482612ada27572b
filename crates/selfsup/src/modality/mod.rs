//! What a modality brings to the command. One folder per modality; every verb is written once, for
//! [`Modality`].
//!
//! [`Modality`] is what all of them have. What only some can do is asked of them: several trainings in a row
//! ([`Modality::training`]), corrupted samples ([`Modality::corruptible`]), a probe of frames
//! ([`Modality::frame_probe`]). What encoders of a modality are fine-tuned for is [`crate::task::Tasks`]; the
//! modalities of a build are listed in [`crate::registry`].

#[cfg(feature = "medical")]
pub mod medical;
mod shown;
#[cfg(feature = "signals")]
pub mod signals;
#[cfg(feature = "speech")]
pub mod speech;
#[cfg(feature = "text")]
pub mod text;
#[cfg(feature = "vision")]
pub mod vision;

use crate::config::{Keys, PretrainConfig, Read};
use crate::recipe::{Given, Recipe, Seen};
use crate::set::{Set, Sets};
use candle_core::{Device, Tensor};
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Gauge, Inputs};
use selfsup_core::optim::OptimConfig;
use selfsup_core::run::Run;
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Summary, TrainConfig};
use selfsup_core::{Encoder, Error, Key, Params, Pass, Result, Scope};
use selfsup_datasets::Reading;
use selfsup_eval::Matrix;
use std::ops::Range;
use std::path::Path;

pub use selfsup_core::objective::Method;
pub use shown::{Content, Drawing, Drawn, Draws, Shown, Shows};

/// Views, and what was drawn for the first one of each sample.
pub struct Augmented<B> {
    /// What the method takes.
    pub batch: B,
    /// The first views, as the encoder takes them.
    pub first: Tensor,
    /// By sample, the same factors for each.
    pub factors: Vec<Vec<FactorDraw>>,
    /// Whether the method compares views, behind a projector.
    pub compared: bool,
}

/// One draw of an augmentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FactorDraw {
    /// What was drawn.
    pub name: &'static str,
    /// Its value; 0 or 1 where it is discrete.
    pub value: f32,
    /// Whether it says that something was done or not.
    pub discrete: bool,
}

/// What is known of a configuration once its files (a tokenizer, say) are open.
pub trait Modality: Sized + Send + Sync + 'static {
    /// The modality's sections of a configuration.
    type Keys: Keys;
    /// What its methods take.
    type Batch: Batch + 'static;

    /// What the probe's baseline without an encoder is called.
    const RAW: &'static str;
    /// Layouts in which an encoder is written; the first is that of `model/`.
    const LAYOUTS: &'static [&'static str];
    /// Whether several inputs of a sample are samples of their own whose probabilities are averaged (patches
    /// of a volume). Else they are one sequence that was cut: their features are pooled, then classified.
    const VOTES: bool = false;

    /// Whether samples are read before a training begins, and not by its loader.
    const EAGER: bool = false;

    /// Opens what the configuration names besides the data.
    ///
    /// # Errors
    /// If it cannot be carried out, naming the key.
    fn new(config: &PretrainConfig<Self::Keys>) -> Result<Self>;

    /// What the data of a configuration is, and what could be trained on it where the user leaves it open;
    /// `given` are the keys that stay as they are.
    ///
    /// # Errors
    /// If the data cannot be opened.
    fn seen(config: &PretrainConfig<Self::Keys>, _given: &Given) -> Result<Seen> {
        Ok(Seen { recipes: vec![Recipe::of(config.train.batch_size)], ..Seen::default() })
    }

    /// How many trainings in a row the method is.
    fn trainings(_keys: &Self::Keys) -> usize {
        1
    }

    /// Seconds that lie between the trainings of a method, on so many samples whose reading and encoding take
    /// so many seconds each.
    fn between(&self, _samples: usize, _reading: f64, _encoding: f64) -> f64 {
        0.0
    }

    /// The modality of other keys for the same data. What does not depend on them (a vocabulary that was made
    /// from the data) is kept.
    ///
    /// # Errors
    /// As [`Modality::new`].
    fn again(&self, config: &PretrainConfig<Self::Keys>) -> Result<Self> {
        Self::new(config)
    }

    /// Batches that cost as much as those of the training: where the method makes its targets first, with
    /// targets that are made up.
    ///
    /// # Errors
    /// As [`Modality::batches`].
    fn trial(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Self::Batch>>> {
        self.batches(set, loader)
    }

    /// How files are read: `data.columns` and `data.layout` of the configuration.
    fn reading(&self) -> Reading {
        Reading::default()
    }

    /// Samples of a data set's name, a folder or a file.
    ///
    /// # Errors
    /// If it cannot be read.
    fn open(&self, what: &str) -> Result<Set> {
        Ok(Set::new(selfsup_datasets::open_kind_with(what, Self::Keys::KIND, &self.reading())?))
    }

    /// What is worth knowing of the samples beside their counts, a line each: durations, rates, transcripts.
    ///
    /// # Errors
    /// If the set cannot be gone through; a sample that cannot be read is left out.
    fn about(&self, _set: &Set) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The samples of a set that hold anything to be trained on or measured; what does not is counted and
    /// named, once, before anything is read. `None` where nothing is left.
    ///
    /// # Errors
    /// If the samples cannot be looked at.
    fn usable(&self, set: Set) -> Result<Option<Set>> {
        Ok(Some(set))
    }

    /// Batches to pre-train on.
    ///
    /// # Errors
    /// If the settings do not fit the samples.
    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Self::Batch>>>;

    /// Batches of held-out samples for the validation loss; `None`, with a warning, where they are too few
    /// for one.
    ///
    /// # Errors
    /// As [`Modality::batches`].
    fn validation(&self, sets: &Sets, loader: LoaderConfig) -> Result<Option<Box<dyn Source<Self::Batch>>>> {
        match &sets.held_out {
            Some(set) if set.len() >= 2 => {
                let loader = LoaderConfig { batch_size: loader.batch_size.min(set.len()), ..loader };
                Ok(Some(self.batches(set, loader)?))
            }
            Some(set) => {
                // One sample has nothing to contrast with.
                crate::say::warning(format_args!(
                    "no validation loss: {} sample is held out, expected at least 2",
                    set.len()
                ));
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Inputs of the encoder with the labels that there are: with the augmentation of fine-tuning, or as they
    /// are and whole. A sample that is longer than the encoder reads at once then comes as several inputs,
    /// whose indices are all that of the sample.
    ///
    /// # Errors
    /// If the settings do not fit the samples.
    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>>;

    /// The method in `scope`, with the weights that it starts from.
    ///
    /// # Errors
    /// If the configuration is not possible, or the weights do not fit.
    fn method(&self, scope: &Scope) -> Result<Method<Self::Batch>>;

    /// The encoder alone in `scope`, with random weights.
    ///
    /// # Errors
    /// If the configuration is not possible.
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>>;

    /// Reads the pretrained weights that the configuration names, if any, into the encoder below `encoder`; a
    /// line says which.
    ///
    /// # Errors
    /// If they cannot be read or do not fit.
    fn load_pretrained(&self, params: &Params) -> Result<Option<String>>;

    /// Features `(N, D)` of a batch, as `[eval] read` says; only recordings may be read otherwise than
    /// pooled, which the configuration checks.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    fn features(&self, encoder: &dyn Encoder, batch: &Inputs, _read: Read) -> Result<Tensor> {
        Ok(encoder.forward(&batch.x, batch.valid.as_ref(), &[], &Pass::eval())?.pooled.detach())
    }

    /// Views of the samples `range` of `set`, drawn with `key`, and the draws that made the first view of each;
    /// nothing where a modality does not tell them.
    ///
    /// # Errors
    /// If a sample cannot be read.
    fn augmented(
        &self,
        _set: &Set,
        _range: Range<usize>,
        _key: Key,
    ) -> Result<Option<Augmented<Self::Batch>>> {
        Ok(None)
    }

    /// How much each input of a batch weighs where a sample has several: as many frames or tokens as it has.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    fn weights(&self, batch: &Inputs) -> Result<Vec<f64>> {
        Ok(vec![1.0; batch.samples()])
    }

    /// Features that need no encoder, of samples to fit and to test on: pixels, words, spectra.
    ///
    /// # Errors
    /// If a sample cannot be read.
    fn raw(&self, train: &Set, test: &Set, loader: &LoaderConfig) -> Result<(Matrix, Matrix)>;

    /// Writes the encoder below `encoder` into the folder `out`, in one of [`Modality::LAYOUTS`].
    ///
    /// # Errors
    /// If the layout cannot hold the encoder, or a file cannot be written.
    fn export(&self, params: &Params, out: &Path, layout: &str) -> Result<()>;

    /// Writes what a run needs beside its configuration into its folder (a tokenizer).
    ///
    /// # Errors
    /// If a file cannot be written.
    fn keep(&self, _run: &Path) -> Result<()> {
        Ok(())
    }

    /// What a batch of samples of `set` looks like: shapes, and files with pictures or texts of what the method
    /// sees.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn preview(&self, batch: &Self::Batch, set: &Set) -> Result<Vec<String>>;

    /// How the configured method is trained.
    fn training(&self) -> Training<'_, Self::Batch> {
        Training::One
    }

    /// Corrupts samples, where there are kinds of corruption for them.
    fn corruptible(&self) -> Option<&dyn Corruptible<Self>> {
        None
    }

    /// Probes single frames, where samples have some.
    fn frame_probe(&self) -> Option<&dyn FrameProbe> {
        None
    }

    /// Whether the samples are of people's health: a page about a run then says nothing of where they lie.
    fn private(&self) -> bool {
        false
    }

    /// Shows samples on a page, where they can be shown.
    fn shows(&self) -> Option<&dyn Shows> {
        None
    }

    /// Draws what the method has learnt, where there is something to see.
    fn draws(&self) -> Option<&dyn Draws<Self::Batch>> {
        None
    }
}

/// How a method is trained.
pub enum Training<'a, B> {
    /// Once, on the batches of [`Modality::batches`].
    One,
    /// Several times, on targets that it makes itself in between.
    Plan(&'a dyn TrainingPlan<B>),
}

/// A method that is more than one training (HuBERT).
pub trait TrainingPlan<B> {
    /// Its stages in a few words, for batches of which an epoch has `per_epoch`: "4 stages: ...".
    fn stages(&self, train: &TrainConfig, per_epoch: u64) -> String;

    /// Runs its trainings; returns the method of the last one.
    ///
    /// # Errors
    /// As a training.
    fn run(&self, request: &PlanRequest) -> Result<(Method<B>, Summary)>;
}

/// What a plan of trainings is given.
pub struct PlanRequest<'a> {
    /// Samples to train on.
    pub set: &'a Set,
    /// How they are batched.
    pub loader: LoaderConfig,
    /// How each training runs.
    pub train: &'a TrainConfig,
    /// Its optimiser.
    pub optim: &'a OptimConfig,
    /// The run. Its folder takes the stages, and its records the metrics of all trainings.
    pub run: &'a Run,
    /// Where the method lives.
    pub device: &'a Device,
    /// Asked between steps.
    pub stop: &'a Stop,
    /// Gauges of the samples ([`Trainer::with_known`](selfsup_core::trainer::Trainer::with_known)).
    pub known: &'a [Gauge],
}

/// A kind of corruption, at severities from 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptionKind {
    /// Its name.
    pub name: &'static str,
    /// What it belongs to.
    pub group: &'static str,
    /// What its severities are.
    pub about: &'static str,
    /// Whether it counts for the mean; the others are measured where they are asked for.
    pub counts: bool,
}

/// Features that need no encoder, of a set as a modality reads it, comparable with those that were fitted on.
pub type RawOf<'a, M> = Box<dyn Fn(&M, &Set) -> Result<Matrix> + 'a>;

/// What a sample looks like.
pub enum Looks {
    /// Rows of three bytes a pixel.
    Picture {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// `height * width * 3` values.
        rgb: Vec<u8>,
    },
    /// A text.
    Text(String),
}

/// A modality whose samples can be corrupted, to measure how a representation stands up to a shift.
pub trait Corruptible<M: Modality> {
    /// The kinds that there are.
    fn kinds(&self) -> Vec<CorruptionKind>;

    /// The same modality, whose samples are corrupted where they are measured: in [`Modality::inputs`] without
    /// augmentation, and in all that tasks measure. Severity 0 leaves them as they are, bit for bit. What is
    /// drawn depends on `seed`, the kind and the name of a sample alone.
    ///
    /// # Errors
    /// If there is no kind of that name (the message lists all), or the severity is above 5.
    fn corrupted(&self, kind: &str, severity: u8, seed: u64) -> Result<M>;

    /// Features that need no encoder ([`Modality::raw`]), of samples to fit on; and a function that makes them
    /// of other samples. `rows` is the number of samples that it will be asked for at once.
    ///
    /// # Errors
    /// If a sample cannot be read.
    fn raw_fitted<'a>(
        &'a self,
        train: &Set,
        rows: usize,
        loader: &'a LoaderConfig,
    ) -> Result<(Matrix, RawOf<'a, M>)>;

    /// What the first sample of `set` looks like, as this modality reads it.
    ///
    /// # Errors
    /// If it cannot be read.
    fn looks(&self, set: &Set) -> Result<Looks>;

    /// The same modality with noise in every sample, at a ratio in decibels. `noise` is a folder of
    /// recordings, or `white`, `pink` or `brown`.
    ///
    /// # Errors
    /// If the noise is not there, or samples have no such ratio.
    fn with_noise(&self, _snr_db: f32, _noise: &str) -> Result<M> {
        Err(no_ratio::<M>())
    }
}

fn no_ratio<M: Modality>() -> Error {
    Error::config(format!("--snr is for recordings, not for {}", M::Keys::KIND.samples()))
}

/// `modality` with noise in every sample: see [`Corruptible::with_noise`].
///
/// # Errors
/// As [`Corruptible::with_noise`].
pub fn with_noise<M: Modality>(modality: &M, snr_db: f32, noise: &str) -> Result<M> {
    modality.corruptible().ok_or_else(no_ratio::<M>)?.with_noise(snr_db, noise)
}

/// What `modality` can be corrupted with.
///
/// # Errors
/// If there is nothing.
pub fn corruptible<M: Modality>(modality: &M) -> Result<&dyn Corruptible<M>> {
    modality.corruptible().ok_or_else(|| {
        Error::config(format!("there are no kinds of corruption for {}", M::Keys::KIND.samples()))
    })
}

/// A modality whose samples have frames with an alignment.
pub trait FrameProbe {
    /// Probes every frame for what is said in it; returns a table and the same as JSON.
    ///
    /// # Errors
    /// If there are no alignments or a sample cannot be read.
    fn probe_frames(&self, request: &FrameRequest) -> Result<(String, serde_json::Value)>;
}

/// What a probe of frames is given.
pub struct FrameRequest<'a> {
    /// The trained encoder.
    pub trained: &'a dyn Encoder,
    /// The same with random weights.
    pub random: &'a dyn Encoder,
    /// Samples to fit on.
    pub train: &'a Set,
    /// Samples to test on.
    pub test: &'a Set,
    /// Where alignments are; by default where the data set has them.
    pub folder: Option<&'a Path>,
    /// Ratios of signal to noise in decibels at which testing is repeated.
    pub snr: &'a [f32],
    /// The noise: see [`Corruptible::with_noise`].
    pub noise: &'a str,
    /// Where the encoders live.
    pub device: &'a Device,
}

/// Puts the encoder of `modality` into a fresh set of parameters, with random weights.
///
/// # Errors
/// If the configuration is not possible.
pub fn random_encoder<M: Modality>(modality: &M, seed: u64, device: &Device) -> Result<Box<dyn Encoder>> {
    modality.encoder(&Scope::root(&Params::new(), seed, device).sub("encoder"))
}

/// A path, or `org/name` on the Hub.
///
/// # Errors
/// If there is nothing of that name.
pub fn weights_path(name: &str) -> Result<std::path::PathBuf> {
    let path = std::path::PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    if name.split('/').count() == 2 && !name.starts_with('.') {
        return selfsup_core::hub::fetch(name);
    }
    Err(Error::config(format!("encoder.pretrained = \"{name}\": no such file or folder")))
}

/// Keeps `config.json` of the folder that a run starts from in its folder `encoder`: it gives the network its
/// shape.
///
/// # Errors
/// If the folder is not there, or the copy cannot be written.
pub fn keep_shape(pretrained: Option<&str>, run: &Path) -> Result<()> {
    let Some(name) = pretrained else { return Ok(()) };
    let (from, to) = (weights_path(name)?.join("config.json"), run.join("encoder"));
    if !from.is_file() || to.join("config.json").is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(&to).map_err(|e| Error::io(&to, e))?;
    std::fs::copy(&from, to.join("config.json")).map_err(|e| Error::io(&from, e))?;
    Ok(())
}

/// Where the shape of a network is read from once a checkpoint has its weights.
pub fn kept_shape(pretrained: Option<String>, run: &Path) -> Option<String> {
    let kept = run.join("encoder");
    if kept.join("config.json").is_file() { Some(kept.display().to_string()) } else { pretrained }
}
