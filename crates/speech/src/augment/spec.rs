//! SpecAugment (Park et al. 2019, arXiv 1904.08779): bands of time and of frequency are hidden in features.
//! Time warping, which the paper found to matter least, is left out.

use crate::features::Frames;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// What is hidden; the defaults are the paper's LibriSpeech double policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpecAugmentConfig {
    /// Bands of frequency. Default 2.
    pub frequency_masks: usize,
    /// Most dimensions of a band. Default 27.
    pub frequency_width: usize,
    /// Spans of time. Default 2.
    pub time_masks: usize,
    /// Most frames of a span. Default 100.
    pub time_width: usize,
    /// Most of an utterance's frames that one span may take. Default 1.
    pub time_share: f32,
    /// Value that hidden entries take; by default the mean of the utterance.
    pub value: Option<f32>,
}

impl Default for SpecAugmentConfig {
    fn default() -> Self {
        SpecAugmentConfig {
            frequency_masks: 2,
            frequency_width: 27,
            time_masks: 2,
            time_width: 100,
            time_share: 1.0,
            value: None,
        }
    }
}

/// Hides bands of features.
#[derive(Clone, Debug)]
pub struct SpecAugment(SpecAugmentConfig);

impl SpecAugment {
    /// With these bands.
    ///
    /// # Errors
    /// If the share is not within 0 to 1.
    pub fn new(config: SpecAugmentConfig) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.time_share) {
            return Err(Error::config(format!(
                "spec_augment.time_share = {}: expected 0 to 1",
                config.time_share
            )));
        }
        Ok(SpecAugment(config))
    }

    /// Hides bands in place: each has a width uniform in `0..=width` and a place uniform among those that
    /// fit.
    pub fn apply(&self, frames: &mut Frames, rng: &mut Rng) {
        let (n, d, c) = (frames.len(), frames.dim(), &self.0);
        let values = frames.as_mut_slice();
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64;
        let value = c.value.unwrap_or(mean as f32);
        let mut band = |most: usize, of: usize| {
            let width = rng.below(most.min(of) + 1);
            let start = rng.below(of - width + 1);
            start..start + width
        };
        for _ in 0..c.frequency_masks {
            let hidden = band(c.frequency_width, d);
            values.chunks_exact_mut(d).for_each(|row| row[hidden.clone()].fill(value));
        }
        let most = c.time_width.min((c.time_share * n as f32) as usize);
        for _ in 0..c.time_masks {
            let hidden = band(most, n);
            values[hidden.start * d..hidden.end * d].fill(value);
        }
    }
}
