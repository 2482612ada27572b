//! The configuration of a fine-tuning run: `[task]`, and the sections that it shares with pre-training.

use crate::config::{DataConfig, Keys, PretrainConfig, below_weights, common_unread, keeps, own_kind};
use crate::draft::Draft;
use selfsup_core::config::Unread;
use selfsup_core::device;
use selfsup_core::optim::OptimConfig;
use selfsup_core::trainer::TrainConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::Kind;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Weights of the classes in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// Every sample counts the same.
    #[default]
    None,
    /// Every class counts the same.
    Balanced,
}

/// `[task]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskKeys {
    /// What is learnt: `classification` in every modality, `token-classification` and `question-answering`
    /// for texts, `ctc` (what is said) for recordings, `segmentation` for images and volumes, `detection` for
    /// images.
    pub kind: String,
    /// The pre-training run whose encoder is taken; without one the encoder starts from `encoder.pretrained`
    /// or from random weights.
    pub run: String,
    /// Start from random weights although a run is named: the baseline that pre-training has to beat.
    pub scratch: bool,
    /// Blocks of the encoder that are trained, counted from its end: 0 for the head alone; by default all of
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_blocks: Option<usize>,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// `none` or `balanced`.
    pub class_weights: ClassWeights,
    /// Dropout in front of the head.
    pub dropout: f32,
    /// Segmentation: share of the patches that lie about a voxel of a class that occurs, each class as often
    /// as another; the others come from anywhere. nnU-Net's is a third.
    pub foreground: f64,
    /// Segmentation of images: what stands on the encoder. `linear` is a linear layer on its last map,
    /// `pyramid` a small decoder over all maps; `auto` takes the first where the encoder is frozen
    /// (`train_blocks = 0`).
    pub head: String,
    /// Segmentation of images: the value of the pixels in masks that do not count; -1 for none.
    pub ignore: i64,
    /// Names of the classes (or characters), in the order of the head's outputs; found in the data.
    pub classes: Vec<String>,
}

impl TaskKeys {
    /// Keys that a task may have or not ([`Task::READS`](super::Task::READS)); all read the others.
    pub const CHOICES: [&'static str; 6] =
        ["label_smoothing", "class_weights", "dropout", "foreground", "head", "ignore"];
}

impl Default for TaskKeys {
    fn default() -> Self {
        TaskKeys {
            kind: "classification".into(),
            run: String::new(),
            scratch: false,
            train_blocks: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            dropout: 0.0,
            foreground: 0.33,
            head: "auto".into(),
            ignore: 255,
            classes: Vec::new(),
        }
    }
}

/// A whole fine-tuning run: the modality's sections are those of the pre-training run where the file does not
/// give them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, bound = "K: Keys")]
pub struct TaskConfig<K: Keys> {
    /// `vision`, `text`, `speech`, `medical` or `signals`.
    #[serde(deserialize_with = "own_kind::<K, _>")]
    pub modality: Kind,
    /// `auto`, `cpu`, `cuda:N` or `metal`.
    pub device: device::Device,
    /// What is learnt from which start.
    pub task: TaskKeys,
    /// Samples and labels. `hold_out` is the share that early stopping watches.
    pub data: DataConfig,
    /// What the modality asks for.
    #[serde(flatten)]
    pub keys: K,
    /// The loop.
    pub train: TrainConfig,
    /// The optimiser and its schedule.
    pub optim: OptimConfig,
}

impl<K: Keys> Default for TaskConfig<K> {
    /// 30 epochs of batches of 32 that end after 5 without a better result; AdamW at 3e-4 with a layer-wise
    /// decay of 0.75 (MAE, arXiv 2111.06377, table 9; BEiT, arXiv 2106.08254).
    fn default() -> Self {
        TaskConfig {
            modality: K::KIND,
            device: device::Device::default(),
            task: TaskKeys::default(),
            data: DataConfig { hold_out: 0.2, ..DataConfig::default() },
            keys: K::default(),
            train: TrainConfig {
                epochs: 30,
                batch_size: 32,
                patience: 5,
                keep_last: 1,
                ..TrainConfig::default()
            },
            optim: OptimConfig { lr: 3e-4, layer_decay: Some(0.75), ..OptimConfig::default() },
        }
    }
}

/// Learning rate for a head alone, which starts near zero and has a convex loss.
pub const HEAD_RATE: f64 = 1e-2;

impl<K: Keys> TaskConfig<K> {
    /// Reads a file's text with overrides; what neither gives comes from the pre-training run, then from the
    /// defaults.
    ///
    /// # Errors
    /// Naming the key that is unknown or has a wrong value.
    pub fn load(
        text: &str,
        file: &str,
        overrides: &[String],
        run: Option<&PretrainConfig<K>>,
    ) -> Result<Self> {
        Self::of(&Draft::parse(text, file)?.with(overrides)?, run)
    }

    /// Reads a draft over the pre-training run and the defaults.
    ///
    /// # Errors
    /// Naming the key that is unknown or has a wrong value.
    pub fn of(draft: &Draft, run: Option<&PretrainConfig<K>>) -> Result<Self> {
        let mut base = Self::default();
        let mut layers = draft.layers().clone();
        if layers.get("task.train_blocks").and_then(toml::Value::as_integer) == Some(0) {
            base.optim = OptimConfig { lr: HEAD_RATE, layer_decay: None, ..base.optim };
        }
        if let Some(run) = run {
            let mut layer = toml::Table::try_from(run).map_err(|e| Error::config(e.to_string()))?;
            ["modality", "train", "optim", "eval"].into_iter().for_each(|own| drop(layer.remove(own)));
            if let Some(toml::Value::Table(data)) = layer.get_mut("data") {
                ["hold_out", "test", "limit"].into_iter().for_each(|own| drop(data.remove(own)));
            }
            layers.below(layer, "the pre-training run");
        }
        below_weights::<K>(draft, &mut layers);
        let mut c: Self = layers.load_over(&base, &keeps::<K>)?;
        if layers.overridden("modality").is_none() {
            c.modality = K::KIND;
        }
        c.keys.resolve();
        if c.data.path.is_empty() && !c.data.labels.is_empty() {
            // Paths of a table are then those beside it.
            let beside = Path::new(&c.data.labels).parent().unwrap_or(Path::new("")).display().to_string();
            c.data.path = if beside.is_empty() { ".".into() } else { beside };
        }
        Ok(c)
    }

    /// Refuses keys of the draft that fine-tuning does not read; `reads` are those among
    /// [`TaskKeys::CHOICES`] that the task reads.
    ///
    /// # Errors
    /// Naming the key, where it was given, and who reads it.
    pub fn refuse_unread(
        &self,
        draft: &Draft,
        run: Option<&PretrainConfig<K>>,
        reads: &[&str],
    ) -> Result<()> {
        let task = &self.task.kind;
        let mut unread = [self.keys.unread(Some(task)), common_unread::<K>(&self.optim)].concat();
        let others = TaskKeys::CHOICES.into_iter().filter(|key| !reads.contains(key)).collect::<Vec<_>>();
        let which = if reads.is_empty() { "none of these keys".into() } else { reads.join(" and ") };
        unread.extend(Unread::all("task", &others, &format!("is not read by {task}, which reads {which}")));
        // The name says which networks there may be; the rest is about the loss.
        for key in draft.layers().given() {
            if key.starts_with("method.") && key != "method.name" {
                unread.push(Unread::new(key, format!("is read in pre-training, not for {task}")));
            }
        }
        draft.refuse_unread(&unread, self, |d| Self::of(d, run))
    }

    /// The same as the modality reads it.
    pub fn pretrain(&self) -> PretrainConfig<K> {
        PretrainConfig {
            modality: self.modality,
            device: self.device,
            data: self.data.clone(),
            keys: self.keys.clone(),
            train: self.train.clone(),
            optim: self.optim.clone(),
            ..PretrainConfig::default()
        }
    }
}
