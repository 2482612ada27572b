//! Recordings in noise, in rooms, at other speeds and through bad codecs, to measure robustness.

use super::Speech;
use crate::modality::{Corruptible, CorruptionKind, Looks, Modality, RawOf};
use crate::set::Set;
use selfsup_core::data::LoaderConfig;
use selfsup_core::kernels::host::floats;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use selfsup_speech::augment::{Noise, NoiseLevel};
use selfsup_speech::corrupt::{Corrupt, Corruption};
use selfsup_speech::data::PrepareConfig;
use selfsup_speech::features::{Extractor, FeatureConfig};
use std::path::Path;

/// Noise by the name of a colour, or from a folder.
pub(super) fn noise_level(snr_db: f32, noise: &str) -> Result<NoiseLevel> {
    let made_up = |kind: Noise| NoiseLevel { snr_db, folder: None, kind, seed: 0 };
    Ok(match noise {
        "white" => made_up(Noise::White),
        "" | "pink" => made_up(Noise::Pink),
        "brown" => made_up(Noise::Brown),
        folder if Path::new(folder).is_dir() => {
            NoiseLevel { folder: Some(folder.into()), ..made_up(Noise::default()) }
        }
        other => {
            return Err(Error::config(format!(
                "--noise {other}: no such folder; expected one of recordings, or white, pink or brown"
            )));
        }
    })
}

/// Pixels of a frame's energies on the picture of a recording, and the most frames that it has.
const ENERGY: usize = 2;
const FRAMES: usize = 160;

impl Speech {
    /// The same with other inputs.
    fn heard_as(&self, input: PrepareConfig) -> Speech {
        let keys = super::Keys { input, ..self.keys.clone() };
        Speech { keys, encoder: self.encoder.clone(), reading: self.reading.clone() }
    }
}

impl Corruptible<Speech> for Speech {
    fn kinds(&self) -> Vec<CorruptionKind> {
        let kind = |c: Corruption| {
            let group = match c {
                Corruption::PinkNoise | Corruption::WhiteNoise => "noise",
                Corruption::Fast | Corruption::Slow => "speed",
                _ => "channel",
            };
            CorruptionKind { name: c.name(), group, about: c.about(), counts: true }
        };
        Corruption::ALL.into_iter().map(kind).collect()
    }

    fn corrupted(&self, kind: &str, severity: u8, seed: u64) -> Result<Speech> {
        let corrupt = Some(Corrupt::new(Corruption::named(kind)?, severity, seed)?);
        Ok(self.heard_as(PrepareConfig { corrupt, ..self.keys.input.clone() }))
    }

    fn raw_fitted<'a>(
        &'a self,
        train: &Set,
        _rows: usize,
        _loader: &'a LoaderConfig,
    ) -> Result<(Matrix, RawOf<'a, Speech>)> {
        let features = Extractor::new(&FeatureConfig::default(), self.keys.input.audio.rate)?;
        let fitted = self.statistics_of(&features, train)?;
        Ok((fitted, Box::new(move |reader: &Speech, set: &Set| reader.statistics_of(&features, set))))
    }

    /// Log-mel energies over time, dark where it is loud, low frequencies below.
    fn looks(&self, set: &Set) -> Result<Looks> {
        let one = set.part(vec![0])?;
        let inputs = self.inputs(&one, false, LoaderConfig::in_order(1, 0))?;
        let batch =
            inputs.epoch_from(0, 0)?.next().ok_or_else(|| Error::input("samples", "there is none"))?;
        let wave: Vec<f32> = floats(&batch?.batch.x)?;
        let rate = self.keys.input.audio.rate;
        let mel = Extractor::new(&FeatureConfig { bins: Some(40), ..FeatureConfig::fbank() }, rate)?
            .compute(&wave)?;
        let shown = mel.len().min(FRAMES);
        let (width, height) = (shown, mel.dim() * ENERGY);
        let row = |t: usize| mel.row(t);
        // Eighty decibels below the loudest are white.
        let most = (0..shown).flat_map(row).copied().fold(f32::NEG_INFINITY, f32::max);
        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            for t in 0..width {
                let energy = row(t)[mel.dim() - 1 - y / ENERGY];
                let below = ((most - energy) * 10.0 / std::f32::consts::LN_10 / 80.0).clamp(0.0, 1.0);
                rgb.extend([(below * 255.0) as u8; 3]);
            }
        }
        Ok(Looks::Picture { width, height, rgb })
    }

    fn with_noise(&self, snr_db: f32, noise: &str) -> Result<Speech> {
        let level = Some(noise_level(snr_db, noise)?);
        Ok(self.heard_as(PrepareConfig { noise: level, ..self.keys.input.clone() }))
    }
}
