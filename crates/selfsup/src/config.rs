//! The configuration of a pre-training run: the keys of its TOML file. The sections that a modality has of
//! its own (`[method]`, `[encoder]`, `[augment]` ...) are its [`Keys`].

use crate::draft::Draft;
use selfsup_core::config::{Draft as Layers, Unread};
use selfsup_core::device::Device;
use selfsup_core::objective::{BatchRate, Lowered};
use selfsup_core::optim::OptimConfig;
use selfsup_core::trainer::TrainConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::{Columns, Kind, Layout, Reading};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt::Debug;
use std::path::Path;
use toml::{Table, Value};

/// The sections of a modality.
pub trait Keys: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// The modality.
    const KIND: Kind;
    /// Names of the methods; the first is taken where none is named.
    const METHODS: &'static [&'static str];

    /// Name of the method.
    fn method(&self) -> &str;

    /// Name of the encoder.
    fn encoder(&self) -> &str;

    /// Whether the keys of `[encoder]` mean the same for two names.
    fn alike(a: &str, b: &str) -> bool {
        a == b
    }

    /// Keys that nothing reads: of pre-training with this method and encoder, or of fine-tuning for a task of
    /// this kind.
    fn unread(&self, _task: Option<&str>) -> Vec<Unread> {
        Vec::new()
    }

    /// The encoder that goes with a method, where the modality's usual one does not.
    fn encoder_of(_method: &str) -> Option<String> {
        None
    }

    /// The network and what it reads, in a few words.
    fn outline(&self) -> String {
        self.encoder().to_string()
    }

    /// Keys that follow from the number of steps, where a plan chooses it.
    fn for_steps(&self, _steps: u64) -> Table {
        Table::new()
    }

    /// Lowers a key that cannot be larger than the number of samples to train on (a queue); nothing where all
    /// fits.
    fn fit(&mut self, _samples: usize) -> Option<Lowered> {
        None
    }

    /// How the method's learning rate follows the batch.
    fn rate(&self) -> BatchRate {
        BatchRate::Fixed
    }

    /// What released weights (`encoder.pretrained`) state of the network and its inputs, as a layer below the
    /// given keys; `encoder` is the name of the network, where one is given. What is wrong with the weights
    /// is said when they are loaded.
    fn of_weights(_pretrained: &str, _encoder: Option<&str>) -> Option<Table> {
        None
    }

    /// Fills in what depends on other keys, so that the written configuration says everything.
    fn resolve(&mut self) {}

    /// Forgets where the initial weights came from: a checkpoint of `run` has them. Where they also gave the
    /// network its shape, that is read from what the run kept ([`crate::modality::Modality::keep`]).
    fn forget_pretrained(&mut self, run: &Path);

    /// Leaves no files behind: of a dry run.
    fn leave_nothing(&mut self) {}

    /// Points at the files that a run keeps in its folder (a tokenizer).
    fn beside(&mut self, _run: &Path) {}
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, bound = "K: Keys")]
pub struct PretrainConfig<K: Keys> {
    /// `vision`, `text`, `speech`, `medical` or `signals`.
    #[serde(deserialize_with = "own_kind::<K, _>")]
    pub modality: Kind,
    /// `auto`, `cpu`, `cuda:N` or `metal`.
    pub device: Device,
    /// What is read.
    pub data: DataConfig,
    /// What the modality asks for.
    #[serde(flatten)]
    pub keys: K,
    /// The loop.
    pub train: TrainConfig,
    /// The optimiser and its schedule.
    pub optim: OptimConfig,
    /// What is measured.
    pub eval: EvalConfig,
}

/// Reads the modality of a configuration whose sections are `K`'s: it has no other.
///
/// # Errors
/// If the name is another's.
pub fn own_kind<'de, K: Keys, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Kind::among(&String::deserialize(deserializer)?, &[K::KIND]).map_err(serde::de::Error::custom)
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A folder, a file, or the name of a data set.
    pub path: String,
    /// Labelled data to test on; where it is empty and labels exist, a share of `path` is held out.
    pub test: String,
    /// A table (CSV, TSV, JSON) of labels, groups and splits of the samples in `path`.
    pub labels: String,
    /// Columns of tables whose names do not say what they hold, or that are not to be taken:
    /// `{ path = "...", label = "...", text = "...", mask = "...", group = "...", split = "..." }`.
    #[serde(skip_serializing_if = "Columns::is_default")]
    pub columns: Columns,
    /// What folders mean. `auto`: `train`, `val` and `test` are splits, and label images beside images
    /// (`masks`, `labelsTr`, `scan_seg.nii.gz`) are no samples. `plain`: folders are classes and all files
    /// samples.
    #[serde(skip_serializing_if = "is_auto")]
    pub layout: Layout,
    /// Where the target of each image lies, for segmentation and detection: a pair of patterns below `path`,
    /// such as `images/**/*.jpg -> masks/**/*.png`. `*` stands for any signs of a name, `**/` for any folders,
    /// and each takes on the right what it stood for on the left. Empty for the usual places.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub targets: String,
    /// Share that is held out of training, whole groups at a time: for the validation loss, and for testing
    /// where there is no `test`.
    pub hold_out: f64,
    /// At most this many samples, evenly over the whole; 0 for all.
    pub limit: usize,
    /// Largest image that is decoded, in pixels.
    pub max_pixels: u64,
}

fn is_auto(layout: &Layout) -> bool {
    *layout == Layout::Auto
}

impl DataConfig {
    /// How files are read.
    pub fn reading(&self) -> Reading {
        Reading { columns: self.columns.clone(), layout: self.layout, targets: self.targets.clone() }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            path: String::new(),
            test: String::new(),
            labels: String::new(),
            columns: Columns::default(),
            layout: Layout::Auto,
            targets: String::new(),
            hold_out: 0.1,
            limit: 0,
            max_pixels: 100_000_000,
        }
    }
}

/// What is read off an encoder for each sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    /// Its own summary: the mean of the last frames, the class token.
    #[default]
    Pooled,
    /// Mean and standard deviation over time of every block, side by side; of recordings only. What is not
    /// about phones (the voice, the language, the room) is clearer in the first blocks (SUPERB, arXiv
    /// 2105.01051, reads all of them), and in how much they vary.
    Statistics,
}

/// A measure of a representation during training; docs/evaluation.md tells how to read each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Effective rank of the centred features (`effective_rank`).
    EffectiveRank,
    /// Spread of the normalised features: 0 collapsed, 1 even (`feature_spread`).
    Spread,
    /// RankMe of the features as they are (`rankme`).
    Rankme,
    /// How evenly samples spread, lower is more even (`uniformity`).
    Uniformity,
    /// Mean squared distance of two views, lower is closer (`alignment`); encodes two augmented views.
    Alignment,
    /// Decay of the spectrum (`alpha_req`).
    AlphaReq,
    /// Intrinsic dimension by two neighbours (`twonn`).
    Twonn,
    /// Cluster learnability (`learnability`).
    Learnability,
    /// LiDAR (`lidar`); encodes four augmented views.
    Lidar,
}

impl Measure {
    /// Augmented views of a sample that it needs.
    pub fn views(self) -> u64 {
        match self {
            Measure::Alignment => 2,
            Measure::Lidar => 4,
            _ => 0,
        }
    }
}

/// `[eval]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Neighbours of the kNN vote.
    pub knn_k: usize,
    /// Temperature of its weights.
    pub knn_temperature: f64,
    /// Numbers of labels for which the linear probe is repeated.
    pub few: Vec<usize>,
    /// Class-balanced draws of each.
    pub draws: usize,
    /// Inverse strength of the L2 penalty of the linear probe on all labels.
    pub c: f64,
    /// Samples of each side for the kNN accuracy during training; 0 for none.
    pub online_knn: usize,
    /// What is measured on held-out samples during training, beside the kNN accuracy: `effective_rank`, `spread`,
    /// `rankme`, `uniformity`, `alignment`, `alpha_req`, `twonn`, `learnability`, `lidar`. With the kNN accuracy on
    /// its test samples (1,000 at most), else on 500 held-out samples at most. Each is logged with the seconds
    /// that it takes (`cost/rankme`).
    pub measures: Vec<Measure>,
    /// Steps between these measurements, beside those of `train.eval_every`; 0 for every tenth of a run whose
    /// epochs give fewer than ten points.
    pub measure_every: u64,
    /// Samples that are encoded at once.
    pub batch_size: usize,
    /// What is read off the encoder, for every number of this section and for `selfsup embed`.
    pub read: Read,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig {
            knn_k: 20,
            knn_temperature: 0.1,
            few: vec![100, 1000],
            draws: 10,
            c: 0.1,
            online_knn: 2000,
            measures: vec![Measure::EffectiveRank, Measure::Spread, Measure::Rankme],
            measure_every: 0,
            batch_size: 256,
            read: Read::Pooled,
        }
    }
}

impl<K: Keys> PretrainConfig<K> {
    /// Reads a file's text with overrides.
    ///
    /// # Errors
    /// Naming the key that is unknown or has a wrong value.
    pub fn load(text: &str, file: &str, overrides: &[String]) -> Result<Self> {
        Self::of(&Draft::parse(text, file)?.with(overrides)?)
    }

    /// Reads a draft over the defaults.
    ///
    /// # Errors
    /// Naming the key that is unknown or has a wrong value.
    pub fn of(draft: &Draft) -> Result<Self> {
        let mut layers = draft.layers().clone();
        if draft.encoder().is_none()
            && let Some(name) = draft.method().and_then(K::encoder_of)
        {
            let encoder = Table::from_iter([("name".to_string(), Value::String(name))]);
            let layer = Table::from_iter([("encoder".to_string(), Value::Table(encoder))]);
            layers.below(layer, "the method's usual encoder");
        }
        below_weights::<K>(draft, &mut layers);
        let defaults = PretrainConfig { modality: K::KIND, ..PretrainConfig::default() };
        let mut c: Self = layers.load_over(&defaults, &keeps::<K>)?;
        if layers.overridden("modality").is_none() {
            c.modality = K::KIND;
        }
        c.keys.resolve();
        if c.eval.read != Read::Pooled && K::KIND != Kind::Speech {
            return Err(Error::config(format!(
                "eval.read = \"statistics\" is for recordings: expected \"pooled\" for {}",
                K::KIND.samples()
            )));
        }
        Ok(c)
    }

    /// Refuses keys of the draft that pre-training does not read.
    ///
    /// # Errors
    /// Naming the key, where it was given, and who reads it.
    pub fn refuse_unread(&self, draft: &Draft) -> Result<()> {
        let unread = [self.keys.unread(None), common_unread::<K>(&self.optim)].concat();
        draft.refuse_unread(&unread, self, Self::of)
    }
}

/// Puts what the weights of `encoder.pretrained` state below the file.
pub(crate) fn below_weights<K: Keys>(draft: &Draft, layers: &mut Layers) {
    let name = draft.layers().text("encoder.pretrained").filter(|name| !name.is_empty());
    if let Some(layer) = name.and_then(|name| K::of_weights(name, draft.encoder())) {
        layers.below(layer, "the pretrained weights");
    }
}

/// Whether the keys beside a tag mean the same for two of its values, where serde does not know
/// ([`selfsup_core::config::Keeps`]).
pub(crate) fn keeps<K: Keys>(key: &str, old: &str, new: &str) -> Option<bool> {
    match key {
        "encoder.name" => Some(K::alike(old, new)),
        // The defaults of an optimiser belong to its kind.
        "optim.kind" => Some(old == new),
        _ => None,
    }
}

/// Keys of the sections that all modalities have and that nothing reads.
pub(crate) fn common_unread<K: Keys>(optim: &OptimConfig) -> Vec<Unread> {
    let mut unread = optim.unread();
    if K::KIND != Kind::Vision {
        let why = format!("is read for images, not for {}", K::KIND.samples());
        unread.extend(Unread::all("data", &["max_pixels", "targets"], &why));
    }
    unread
}
