//! Features of speech without learning: log-mel energies and MFCC, as Kaldi computes them. They are HuBERT's
//! first targets and the baselines that a learned representation has to beat.
//!
//! A [`FeatureConfig`] says which; an [`Extractor`] computes them; [`Frames`] holds them with the instants
//! they belong to.

mod config;
mod frames;
mod kaldi;

pub use config::{FeatureConfig, Kind};
pub use frames::Frames;

use kaldi::Kaldi;
use selfsup_core::{Error, Result};

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
