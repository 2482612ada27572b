//! The configuration of a pre-training run: the keys of its TOML file.

use selfsup_core::device::Device;
use selfsup_core::optim::OptimConfig;
use selfsup_core::trainer::TrainConfig;
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::recipe::{EncoderConfig, MethodConfig};
use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// `auto`, `cpu`, `cuda:N` or `metal`.
    pub device: Device,
    /// What is read.
    pub data: DataConfig,
    /// The objective.
    pub method: MethodConfig,
    /// The network.
    pub encoder: EncoderConfig,
    /// The views.
    pub augment: AugmentConfig,
    /// The loop.
    pub train: TrainConfig,
    /// The optimiser and its schedule.
    pub optim: OptimConfig,
    /// What is measured.
    pub eval: EvalConfig,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A folder, a file, or the name of a data set.
    pub path: String,
    /// Labelled data to test on; where it is empty and labels exist, a share of `path` is held out.
    pub test: String,
    /// Share that is held out of pre-training: for the validation loss, and for testing where there is no `test`.
    pub hold_out: f64,
    /// At most this many samples (the first ones); 0 for all.
    pub limit: usize,
    /// Largest image that is decoded, in pixels.
    pub max_pixels: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { path: String::new(), test: String::new(), hold_out: 0.1, limit: 0, max_pixels: 100_000_000 }
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
    /// Images of each side for the kNN accuracy during training; 0 for none.
    pub online_knn: usize,
    /// Images that are encoded at once.
    pub batch_size: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig { knn_k: 20, knn_temperature: 0.1, few: vec![100, 1000], draws: 10, c: 0.1, online_knn: 2000, batch_size: 256 }
    }
}

impl PretrainConfig {
    /// Reads a file's text with overrides.
    ///
    /// # Errors
    /// Naming the key that is unknown or has a wrong value.
    pub fn load(text: &str, file: &str, overrides: &[String]) -> selfsup_core::Result<Self> {
        // Keys of a method may be given without its name: then it is SimCLR's.
        let table = text.parse::<toml::Table>().unwrap_or_default();
        let named = table.get("method").is_some_and(|m| m.get("name").is_some()) || overrides.iter().any(|o| o.starts_with("method.name="));
        let mut all = if named { Vec::new() } else { vec!["method.name=\"simclr\"".to_string()] };
        all.extend_from_slice(overrides);
        let mut c: PretrainConfig = selfsup_core::config::load(text, file, &all)?;
        c.resolve();
        Ok(c)
    }

    /// Fills in what depends on other keys, so that the written configuration says everything.
    fn resolve(&mut self) {
        if self.augment.size == 0 {
            self.augment.size = 224;
        }
    }
}
