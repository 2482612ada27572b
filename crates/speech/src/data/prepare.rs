//! From a clip to an utterance: crop, decode, augment, normalise, label; and from utterances to a batch.

use super::{Clip, LengthFilter, Targets, Unlabelled};
use crate::audio::{AudioConfig, info};
use crate::augment::{NoiseLevel, Noisy, Op, Pipeline};
use crate::batch::{Utterance, Waves};
use crate::corrupt::Corrupt;
use selfsup_core::data::{Collate, Transform};
use selfsup_core::{Error, Key, Result, Rng};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How clips become waves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrepareConfig {
    /// Rate and limit of decoding.
    pub audio: AudioConfig,
    /// Clips longer than this are cropped to it in training, in seconds. By default 15.625, 250,000 samples
    /// as in wav2vec 2.0 (Baevski et al. 2020, section 4.2). `None` decodes clips whole.
    pub crop_seconds: Option<f64>,
    /// What is measured is measured on all of a recording. One that is longer than this is read in windows of
    /// at most so many seconds, whose frames are pooled together. Default 30: nearly every utterance of the
    /// usual corpora is shorter.
    pub window_seconds: f64,
    /// Where a crop lies: anywhere (training), or in the middle.
    pub random_crop: bool,
    /// Shortest recording that is trained on, in seconds ([`PrepareConfig::lengths`]). A wave that comes out
    /// shorter all the same is a bad sample. Default 0.1: some frames of an encoder.
    pub min_seconds: f64,
    /// Longest recording that is trained on, in seconds; by default any, since what is longer than a crop is
    /// cropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<f64>,
    /// Mean 0 and variance 1 for each wave, as the feature extractors of transformers do. Default true.
    pub normalize: bool,
    /// Noise at one ratio in every wave, also where nothing is augmented: for measuring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseLevel>,
    /// How recordings that are read whole are corrupted: for measuring.
    #[serde(skip)]
    pub corrupt: Option<Corrupt>,
    /// What is done to the waves of training, in order.
    pub augment: Vec<Op>,
}

impl Default for PrepareConfig {
    fn default() -> Self {
        PrepareConfig {
            audio: AudioConfig::default(),
            crop_seconds: Some(15.625),
            window_seconds: 30.0,
            random_crop: true,
            min_seconds: 0.1,
            max_seconds: None,
            normalize: true,
            noise: None,
            corrupt: None,
            augment: Vec::new(),
        }
    }
}

impl PrepareConfig {
    /// Which recordings are trained on.
    pub fn lengths(&self) -> LengthFilter {
        LengthFilter { min_seconds: self.min_seconds, max_seconds: self.max_seconds }
    }
}

/// Decodes a clip and makes an utterance of it.
pub struct Prepare {
    config: PrepareConfig,
    noise: Option<Noisy>,
    pipeline: Pipeline,
    targets: Arc<dyn Targets>,
    /// Samples of a crop.
    crop: Option<u64>,
    least: usize,
}

impl Prepare {
    /// Without labels.
    ///
    /// # Errors
    /// If a setting is impossible, or a folder of the augmentation cannot be read.
    pub fn new(config: PrepareConfig) -> Result<Self> {
        Self::with_targets(config, Arc::new(Unlabelled))
    }

    /// With labels.
    ///
    /// # Errors
    /// As [`Prepare::new`]; also if clips are cropped though the label is that of a whole clip (a
    /// transcript), or change their length though each frame has a label.
    pub fn with_targets(config: PrepareConfig, targets: Arc<dyn Targets>) -> Result<Self> {
        let pipeline = Pipeline::new(&config.augment, &config.audio)?;
        let noise = config.noise.as_ref().map(|level| Noisy::new(level, &config.audio)).transpose()?;
        config.lengths().check()?;
        if !(config.window_seconds.is_finite() && config.window_seconds >= 1.0) {
            return Err(Error::config(format!(
                "window_seconds = {}: expected at least 1",
                config.window_seconds
            )));
        }
        let rate = f64::from(config.audio.rate);
        let seconds = |name: &str, s: f64| {
            if s.is_finite() && s >= 0.0 {
                Ok(s * rate)
            } else {
                Err(Error::config(format!("{name} = {s}: expected seconds")))
            }
        };
        let least = (seconds("min_seconds", config.min_seconds)?.ceil() as usize).max(1);
        let crop =
            config.crop_seconds.map(|s| seconds("crop_seconds", s)).transpose()?.map(|s| s.round() as u64);
        if let Some(crop) = crop
            && crop < least as u64
        {
            return Err(Error::config(format!(
                "crop_seconds = {} is below min_seconds = {}",
                crop as f64 / rate,
                config.min_seconds
            )));
        }
        if crop.is_some() && !targets.of_parts() {
            return Err(Error::config(
                "crop_seconds is set, but the label is that of a whole clip: leave it out and filter by length",
            ));
        }
        if pipeline.changes_time() && targets.of_instants() {
            return Err(Error::config(
                "augment: speed changes the length of a clip, but each of its frames has a label",
            ));
        }
        Ok(Prepare { config, noise, pipeline, targets, crop, least })
    }

    /// The configuration.
    pub fn config(&self) -> &PrepareConfig {
        &self.config
    }

    /// The whole wave of a clip, without augmentation: what is clustered or probed.
    ///
    /// # Errors
    /// If the clip cannot be decoded.
    pub fn whole(&self, clip: &Clip) -> Result<Vec<f32>> {
        let mut wave = clip.load(None, &self.config.audio)?;
        self.add_noise(&mut wave, &clip.id)?;
        if self.config.normalize {
            normalize(&mut wave);
        }
        Ok(wave)
    }

    /// Refuses a wave that is shorter than `min_seconds`.
    fn long_enough(&self, wave: &[f32], clip: &Clip) -> Result<()> {
        let (got, least) = (wave.len(), self.least);
        if got >= least {
            return Ok(());
        }
        let rate = self.config.audio.rate;
        Err(Error::input(&clip.id, format!("{got} samples at {rate} Hz, expected at least {least}")))
    }

    pub(super) fn add_noise(&self, wave: &mut [f32], id: &str) -> Result<()> {
        self.noise.as_ref().map_or(Ok(()), |noise| noise.add(wave, id))
    }

    /// The wave of a recording, or of the window that begins at `start`, as it is measured in noise or
    /// corrupted.
    pub(super) fn disturb(&self, wave: &mut Vec<f32>, id: &str, start: Option<u64>) -> Result<()> {
        match start {
            None => self.add_noise(wave, id)?,
            // Every window has the ratio, and noise of its own.
            Some(start) => self.add_noise(wave, &format!("{id}:{start}"))?,
        }
        self.config.corrupt.map_or(Ok(()), |corrupt| corrupt.apply(wave, self.config.audio.rate, id, start))
    }

    /// The rate at which recordings are read that are measured.
    pub(super) fn reading_rate(&self) -> u32 {
        let rate = self.config.audio.rate;
        self.config.corrupt.map_or(rate, |corrupt| corrupt.reading_rate(rate))
    }

    fn decode(&self, clip: &Clip, rng: &mut Rng) -> Result<(Vec<f32>, u64)> {
        // Drawn whether it is needed or not: what comes after must not depend on the length.
        let place = if self.config.random_crop { f64::from(rng.uniform()) } else { 0.5 };
        let Some(crop) = self.crop else { return Ok((clip.load(None, &self.config.audio)?, 0)) };
        let total = clip.measure()?.map(|s| (s * f64::from(self.config.audio.rate)).round() as u64);
        match total {
            Some(total) if total <= crop => Ok((clip.load(None, &self.config.audio)?, 0)),
            Some(total) => {
                let start = (place * (total - crop + 1) as f64) as u64;
                let start = start.min(total - crop);
                let audio = &self.config.audio;
                let estimated =
                    || Ok::<_, Error>(start > 0 && info(&clip.content, &clip.id)?.format == "mp3");
                match clip.load(Some((start, crop)), audio) {
                    // The length of an mp3 without a tag is an estimate. Where the sound ended within the
                    // crop, the crop is the end of it ...
                    Ok(wave) if (wave.len() as u64) < crop && estimated()? => {
                        let start = (start + wave.len() as u64).saturating_sub(crop);
                        Ok((clip.load(Some((start, crop)), audio)?, start))
                    }
                    Ok(wave) => Ok((wave, start)),
                    // ... and where it had ended before, its beginning.
                    Err(_) if estimated()? => Ok((clip.load(Some((0, crop)), audio)?, 0)),
                    Err(e) => Err(e),
                }
            }
            None => {
                let wave = clip.load(None, &self.config.audio)?;
                let spare = (wave.len() as u64).saturating_sub(crop);
                let start = ((place * (spare + 1) as f64) as u64).min(spare);
                let end = (start + crop).min(wave.len() as u64);
                Ok((wave[start as usize..end as usize].to_vec(), start))
            }
        }
    }
}

impl Transform<Clip> for Prepare {
    type Out = Utterance;

    fn apply(&self, clip: Clip, rng: &mut Rng) -> Result<Utterance> {
        let (mut wave, start) = self.decode(&clip, rng)?;
        self.long_enough(&wave, &clip)?;
        let target = self.targets.of(&clip, start, wave.len())?;
        self.add_noise(&mut wave, &clip.id)?;
        let mut samples = self.pipeline.apply(wave, rng).map_err(|e| Error::input(&clip.id, e))?;
        if self.config.normalize {
            normalize(&mut samples);
        }
        Ok(Utterance { samples, start: start as usize, target })
    }
}

/// Mean 0 and variance 1 (`(x - mean) / sqrt(var + 1e-7)`, as transformers' feature extractors); silence
/// stays silence.
pub fn normalize(wave: &mut [f32]) {
    let n = wave.len().max(1) as f64;
    let mean = wave.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let var = wave.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (var + 1e-7).sqrt();
    wave.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * scale) as f32);
}

/// Stacks utterances into [`Waves`], padded with zeros to the longest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Padded;

impl Collate<Utterance> for Padded {
    type Batch = Waves;

    fn collate(&self, items: Vec<Utterance>, indices: &[usize], _key: Key) -> Result<Waves> {
        Waves::stack(items, indices)
    }
}
