//! Noise at one signal-to-noise ratio in every wave alike: what robustness is measured with. (Training wants
//! ratios that vary: that is [`super::Op::Noise`].)
//!
//! What is added to a recording depends on the seed and the name of its file alone: not on the others, on
//! their order, or on the folder they lie in. Accuracies at two ratios are then of the same noise, louder or
//! softer.

use super::{Noise, add_noise, draw, noise, recordings};
use crate::audio::AudioConfig;
use selfsup_core::{Error, Key, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which noise, how loud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseLevel {
    /// Signal over noise in decibels, over the whole wave.
    pub snr_db: f32,
    /// A folder of recordings, any nesting, of which each wave gets a section; without it the noise is made
    /// up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Without a folder: `white`, `pink` or `brown`.
    #[serde(default)]
    pub kind: Noise,
    /// Another seed is other noise.
    #[serde(default)]
    pub seed: u64,
}

/// A [`NoiseLevel`] with its folder listed.
pub struct Noisy {
    level: NoiseLevel,
    files: Vec<PathBuf>,
    audio: AudioConfig,
}

impl Noisy {
    /// For waves of `audio.rate`; the folder is listed once, here.
    ///
    /// # Errors
    /// If the ratio is not within -100 to 200 dB, or the folder cannot be read or holds no recording.
    pub fn new(level: &NoiseLevel, audio: &AudioConfig) -> Result<Self> {
        if !(-100.0..=200.0).contains(&level.snr_db) {
            return Err(Error::config(format!("noise.snr_db = {}: expected -100 to 200 dB", level.snr_db)));
        }
        let files = level.folder.as_deref().map(recordings).transpose()?.unwrap_or_default();
        Ok(Noisy { level: level.clone(), files, audio: audio.clone() })
    }

    /// Adds the noise of the recording `id` to its wave.
    ///
    /// # Errors
    /// If a recording of noise cannot be read.
    pub fn add(&self, wave: &mut [f32], id: &str) -> Result<()> {
        let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let mut rng = Key::new(self.level.seed).named("noise level").named(name).rng();
        let sound = if self.files.is_empty() {
            noise(self.level.kind, wave.len(), &mut rng)
        } else {
            draw(&self.files, wave.len(), &self.audio, &mut rng)?
        };
        add_noise(wave, &sound, self.level.snr_db);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::snr;
    use super::*;
    use crate::audio::write_wav;

    fn level(snr_db: f32, folder: Option<PathBuf>) -> NoiseLevel {
        NoiseLevel { snr_db, folder, kind: Noise::White, seed: 1 }
    }

    fn tone(n: usize) -> Vec<f32> {
        (0..n).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect()
    }

    #[test]
    fn the_ratio_is_the_one_asked_for_and_the_noise_is_that_of_the_name() {
        let dir = tempfile::tempdir().unwrap();
        write_wav(
            &dir.path().join("hum.wav"),
            &(0..40_000).map(|i| 0.2 * (i as f32 * 0.3).sin()).collect::<Vec<_>>(),
            16_000,
        )
        .unwrap();
        let audio = AudioConfig::default();
        let clean = tone(8_000);
        for folder in [None, Some(dir.path().to_path_buf())] {
            let noisy = |db: f32, id: &str| {
                let mut wave = clean.clone();
                Noisy::new(&level(db, folder.clone()), &audio).unwrap().add(&mut wave, id).unwrap();
                wave
            };
            for db in [20.0f32, 0.0, -10.0] {
                let wave = noisy(db, "x/a.wav");
                assert!((snr(&clean, &wave) - f64::from(db)).abs() < 0.05, "{}", snr(&clean, &wave));
                assert_eq!(wave, noisy(db, "elsewhere/a.wav"), "the folder does not matter");
                assert_ne!(wave, noisy(db, "x/b.wav"));
            }
            // Louder by 20 dB is the same noise, ten times as large.
            let rest = |db: f32| noisy(db, "a").iter().zip(&clean).map(|(n, c)| n - c).collect::<Vec<f32>>();
            for (loud, soft) in rest(0.0).iter().zip(rest(20.0)) {
                assert!((loud - 10.0 * soft).abs() < 1e-4, "{loud} {soft}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let audio = AudioConfig::default();
        let refused = |l: NoiseLevel| Noisy::new(&l, &audio).err().unwrap().to_string();
        assert!(refused(level(f32::NAN, None)).contains("snr_db"));
        assert!(refused(level(300.0, None)).contains("300"));
        assert!(refused(level(0.0, Some("absent-folder".into()))).contains("absent-folder"));
        let empty = tempfile::tempdir().unwrap();
        assert!(refused(level(0.0, Some(empty.path().into()))).contains("no recordings"));
    }
}
