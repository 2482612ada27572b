//! `[features]`: which features, and of which windows.

use serde::{Deserialize, Serialize};

/// Which features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Mel-frequency cepstral coefficients: a cosine transform of log-mel energies.
    #[default]
    Mfcc,
    /// Log-mel energies.
    Fbank,
}

/// `[features]`: Kaldi's defaults; those of HuBERT's first iteration are `kind = "mfcc"` with `deltas = 2`
/// (Hsu et al. 2021, arXiv 2106.07447, section IV).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureConfig {
    /// `mfcc` or `fbank`.
    pub kind: Kind,
    /// Mel bins; by default 23 for MFCC and 80 for log-mel.
    pub bins: Option<usize>,
    /// Coefficients of MFCC. Default 13.
    pub coefficients: usize,
    /// Orders of time differences that are appended: 0, 1 or 2. Default 2.
    pub deltas: usize,
    /// Frames on each side that are appended. Default 0.
    pub context: usize,
    /// Subtract the mean of each dimension over the utterance and divide by its standard deviation. Default
    /// false.
    pub normalize: bool,
    /// Window in milliseconds. Default 25.
    pub window_ms: f64,
    /// Step between windows in milliseconds. Default 10.
    pub step_ms: f64,
    /// Lowest edge of the mel bins in Hz. Default 20.
    pub low_hz: f64,
    /// Highest edge in Hz; by default half the sampling rate.
    pub high_hz: Option<f64>,
    /// Coefficient of the pre-emphasis. Default 0.97.
    pub preemphasis: f32,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        FeatureConfig {
            kind: Kind::Mfcc,
            bins: None,
            coefficients: 13,
            deltas: 2,
            context: 0,
            normalize: false,
            window_ms: 25.0,
            step_ms: 10.0,
            low_hz: 20.0,
            high_hz: None,
            preemphasis: 0.97,
        }
    }
}

impl FeatureConfig {
    /// 80 log-mel energies without differences.
    pub fn fbank() -> Self {
        FeatureConfig { kind: Kind::Fbank, deltas: 0, ..FeatureConfig::default() }
    }
}
