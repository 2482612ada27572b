//! What a modality brings to the command. One file per modality; every verb is written once, for
//! [`Modality`].
//!
//! A verb finds the [`Kind`] (stated in the configuration, or by looking at the data) and goes on with the
//! type behind it: `with_modality!(kind, M => work::<M>(request))`.

#[cfg(feature = "medical")]
pub mod medical;
#[cfg(feature = "speech")]
pub mod speech;
#[cfg(feature = "text")]
pub mod text;
#[cfg(feature = "vision")]
pub mod vision;

use crate::config::{Keys, PretrainConfig, Read};
use crate::set::{Set, Sets};
use crate::task::classification::Classification;
use crate::task::{TaskConfig, TaskKeys};
use crate::verbs::{finetune, predict};
use candle_core::{Device, Tensor};
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Inputs, Objective};
use selfsup_core::optim::OptimConfig;
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Summary, TrainConfig};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use selfsup_datasets::Kind;
use selfsup_eval::Matrix;
use std::path::Path;

/// A method over batches of a modality.
pub type Method<B> = Box<dyn Objective<Batch = B>>;

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

    /// Opens what the configuration names besides the data.
    ///
    /// # Errors
    /// If it cannot be carried out, naming the key.
    fn new(config: &PretrainConfig<Self::Keys>) -> Result<Self>;

    /// Samples of a data set's name, a folder or a file.
    ///
    /// # Errors
    /// If it cannot be read.
    fn open(&self, what: &str) -> Result<Set> {
        Ok(Set::new(selfsup_datasets::open_kind(what, Self::Keys::KIND)?))
    }

    /// Labelled samples as tasks are to see them.
    fn for_task(&self, set: Set) -> Set {
        set
    }

    /// Batches to pre-train on.
    ///
    /// # Errors
    /// If the settings do not fit the samples.
    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Self::Batch>>>;

    /// Batches of held-out samples for the validation loss, if there are enough for one.
    ///
    /// # Errors
    /// As [`Modality::batches`].
    fn validation(&self, sets: &Sets, loader: LoaderConfig) -> Result<Option<Box<dyn Source<Self::Batch>>>> {
        // One sample has nothing to contrast with.
        match &sets.held_out {
            Some(set) if set.len() >= 2 => {
                let loader = LoaderConfig { batch_size: loader.batch_size.min(set.len()), ..loader };
                Ok(Some(self.batches(set, loader)?))
            }
            _ => Ok(None),
        }
    }

    /// Inputs of the encoder with the labels that there are: as they are, or with the augmentation of
    /// fine-tuning.
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

    /// The encoder as it is fine-tuned: parts that a modality never trains further are frozen.
    ///
    /// # Errors
    /// If the configuration is not possible.
    fn tuned_encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.encoder(scope)
    }

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

    /// Writes what was fine-tuned for `task`: the encoder alone, or with its head where other tools have a
    /// class for both. `params` hold the task's head instead of a method's.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn export_tuned(&self, params: &Params, _task: &TaskKeys, out: &Path) -> Result<()> {
        self.export(params, out, Self::LAYOUTS.first().copied().unwrap_or_default())
    }

    /// Parts of the encoder, as it is fine-tuned, that belong to a head: pre-training need not have them, and
    /// they are trained with the head alone too.
    const HEAD: &'static [&'static str] = &[];

    /// Writes what a run needs beside its configuration into its folder (a tokenizer).
    ///
    /// # Errors
    /// If a file cannot be written.
    fn keep(&self, _run: &Path) -> Result<()> {
        Ok(())
    }

    /// What a batch looks like: shapes, and files with pictures or texts of what the method sees.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn preview(&self, batch: &Self::Batch) -> Result<Vec<String>>;

    /// Whether the method trains more than once, on targets that it makes itself between
    /// ([`Modality::run_stages`]).
    fn staged(&self) -> bool {
        false
    }

    /// Runs the stages of a staged method.
    ///
    /// # Errors
    /// As a training.
    fn run_stages(&self, _work: &Staged) -> Result<(Method<Self::Batch>, Summary)> {
        Err(Error::config("this method has no stages"))
    }

    /// What encoders of the modality are fine-tuned for: values of `task.kind`.
    const TASKS: &'static [&'static str] = &["classification"];

    /// Fine-tunes for one of [`Modality::TASKS`].
    ///
    /// # Errors
    /// As [`finetune::fit`].
    fn tune(work: finetune::Work<Self>) -> Result<()> {
        finetune::fit::<Self, Classification>(work)
    }

    /// The same with noise in every sample, at a ratio of signal to noise in decibels. `noise` is a folder of
    /// recordings, or `white`, `pink` or `brown`.
    ///
    /// # Errors
    /// If samples of the modality have no such ratio, or the noise is not there.
    fn noisy(&self, _snr_db: f32, _noise: &str) -> Result<Self> {
        Err(Error::config(format!("--snr is for recordings, not for {}", Self::Keys::KIND.samples())))
    }

    /// Probes every frame for what is said in it; returns a table and the same as JSON.
    ///
    /// # Errors
    /// If samples of the modality have no frames, or there are no alignments.
    fn frames(&self, _work: &FrameWork) -> Result<(String, serde_json::Value)> {
        Err(Error::config(format!("--frames is for recordings, not for {}", Self::Keys::KIND.samples())))
    }

    /// Applies a fine-tuned run; returns text and the number of rows.
    ///
    /// # Errors
    /// As [`predict::said`].
    fn tell(work: &predict::Work<Self>) -> Result<(String, usize)> {
        predict::said::<Self, Classification>(work)
    }
}

/// What a probe of frames is given.
pub struct FrameWork<'a> {
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
    /// The noise: see [`Modality::noisy`].
    pub noise: &'a str,
    /// Where the encoders live.
    pub device: &'a Device,
}

/// What a staged method is given.
pub struct Staged<'a> {
    /// Samples to train on.
    pub set: &'a Set,
    /// How they are batched.
    pub loader: LoaderConfig,
    /// How each training runs.
    pub train: &'a TrainConfig,
    /// Its optimiser.
    pub optim: &'a OptimConfig,
    /// The run's folder.
    pub dir: &'a Path,
    /// Where the method lives.
    pub device: &'a Device,
    /// Asked between steps.
    pub stop: &'a Stop,
}

/// Runs code with `$m` the type of a modality.
macro_rules! with_modality {
    ($kind:expr, $m:ident => $body:expr) => {
        match $kind {
            #[cfg(feature = "vision")]
            selfsup_datasets::Kind::Vision => {
                type $m = $crate::modality::vision::Vision;
                $body
            }
            #[cfg(feature = "text")]
            selfsup_datasets::Kind::Text => {
                type $m = $crate::modality::text::Text;
                $body
            }
            #[cfg(feature = "speech")]
            selfsup_datasets::Kind::Speech => {
                type $m = $crate::modality::speech::Speech;
                $body
            }
            #[cfg(feature = "medical")]
            selfsup_datasets::Kind::Medical => {
                type $m = $crate::modality::medical::Medical;
                $body
            }
            #[allow(unreachable_patterns)]
            other => Err($crate::modality::absent(other)),
        }
    };
}
pub(crate) use with_modality;

/// The error for a modality that this build is without.
pub fn absent(kind: Kind) -> Error {
    Error::config(format!("modality {kind} is not in this build: build with --features {kind}"))
}

/// The modalities whose methods include `name`.
pub fn with_method(name: &str) -> Vec<Kind> {
    let all: &[(Kind, &[&str])] = &[
        #[cfg(feature = "vision")]
        (Kind::Vision, vision::Keys::METHODS),
        #[cfg(feature = "text")]
        (Kind::Text, text::Keys::METHODS),
        #[cfg(feature = "speech")]
        (Kind::Speech, speech::Keys::METHODS),
        #[cfg(feature = "medical")]
        (Kind::Medical, medical::Keys::METHODS),
    ];
    all.iter().filter(|(_, methods)| methods.contains(&name)).map(|(kind, _)| *kind).collect()
}

/// Who has a key that is unknown where it was given: other modalities, or the other verb.
pub fn owner(key: &str) -> Option<String> {
    use selfsup_core::config::knows;
    let mut kinds: Vec<Kind> = Vec::new();
    let (mut pretrain, mut finetune) = (false, false);
    for kind in Kind::ALL {
        let found = with_modality!(kind, M => {
            type Keys = <M as Modality>::Keys;
            Ok((knows::<Keys>(key), knows::<PretrainConfig<Keys>>(key), knows::<TaskConfig<Keys>>(key)))
        });
        let Ok((own, of_pretrain, of_finetune)) = found else { continue };
        if own {
            kinds.push(kind);
        }
        pretrain |= of_pretrain;
        finetune |= of_finetune;
    }
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    match (names.split_last(), pretrain, finetune) {
        (Some((last, [])), ..) => Some(last.clone()),
        (Some((last, first)), ..) => Some(format!("{} and {last}", first.join(", "))),
        (None, true, false) => Some("`selfsup pretrain`".into()),
        (None, false, true) => Some("`selfsup finetune`".into()),
        _ => None,
    }
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
        return crate::verbs::pull::fetch(name);
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
