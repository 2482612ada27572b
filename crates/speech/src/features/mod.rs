//! Features of speech without learning: log-mel energies and MFCC, as Kaldi computes them. They are HuBERT's
//! first targets and the baselines that a learnt representation has to beat.
//!
//! A [`FeatureConfig`] says which; an [`Extractor`] computes them; [`Frames`] holds them with the instants
//! they belong to.

mod frames;
mod kaldi;

pub use frames::Frames;

use kaldi::Kaldi;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// Computes the features of a configuration. Shared between threads.
pub struct Extractor {
    config: FeatureConfig,
    rate: u32,
    kaldi: Kaldi,
}

impl Extractor {
    /// For waves of `rate` Hz.
    ///
    /// # Errors
    /// If a size is not possible.
    pub fn new(config: &FeatureConfig, rate: u32) -> Result<Self> {
        if config.deltas > 2 {
            return Err(Error::config(format!("features.deltas = {}: expected 0, 1 or 2", config.deltas)));
        }
        Ok(Extractor { config: config.clone(), rate, kaldi: Kaldi::new(config, rate)? })
    }

    /// Values of a frame.
    pub fn dim(&self) -> usize {
        self.kaldi.dim() * (1 + self.config.deltas) * (1 + 2 * self.config.context)
    }

    /// Samples of a window.
    pub fn window(&self) -> usize {
        self.kaldi.window()
    }

    /// Samples from one window to the next.
    pub fn step(&self) -> usize {
        self.kaldi.step()
    }

    /// Frames of a wave of `samples`: windows that lie within it.
    pub fn frames(&self, samples: usize) -> usize {
        if samples < self.window() { 0 } else { 1 + (samples - self.window()) / self.step() }
    }

    /// The features of a wave.
    ///
    /// # Errors
    /// If the wave is shorter than a window or holds a value that is not finite.
    pub fn compute(&self, wave: &[f32]) -> Result<Frames> {
        let n = self.frames(wave.len());
        if n == 0 {
            return Err(Error::input(
                "features",
                format!("a wave of {} samples, expected at least {}", wave.len(), self.window()),
            ));
        }
        if let Some(i) = wave.iter().position(|v| !v.is_finite()) {
            return Err(Error::input("features", format!("sample {i} of the wave is {}", wave[i])));
        }
        let values = self.kaldi.compute(wave, n)?;
        let rate = f64::from(self.rate);
        let centre = self.window() as f64 / 2.0 / rate;
        let mut out = Frames::new(values, self.kaldi.dim(), centre, self.step() as f64 / rate)?;
        if self.config.deltas > 0 {
            out = out.with_deltas(self.config.deltas);
        }
        if self.config.normalize {
            out.normalize();
        }
        Ok(if self.config.context > 0 { out.with_context(self.config.context) } else { out })
    }
}
