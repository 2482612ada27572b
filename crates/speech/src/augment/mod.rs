//! Augmentation of waves, and of features. Randomness is an argument: the same generator gives the same wave.
//!
//! A [`Pipeline`] is a list of [`Op`]s from a configuration; each transform is also a free function in its
//! own file. Waves keep their length, and so their labels, under every transform but [`Op::Speed`].

mod band;
mod codec;
mod convolve;
mod gain;
mod level;
mod noise;
mod pitch;
mod reverb;
mod spec;
mod speed;

pub use band::{band_pass, low_pass};
pub use codec::{low_rate, mu_law};
pub use convolve::convolve;
pub use gain::{gain, peak};
pub use level::{NoiseLevel, Noisy};
pub use noise::{Noise, add_noise, noise, power, snr};
pub use pitch::{shift_pitch, stretch};
pub use reverb::{impulse, reverberate, room};
pub use spec::{SpecAugment, SpecAugmentConfig};
pub use speed::change_speed;

use crate::audio::{AudioConfig, Content, Section, info, load};
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One step of a [`Pipeline`]. `p` is its probability; pairs are the ends of a uniform range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Op {
    /// Noise at a signal-to-noise ratio: from recordings in a folder, else synthetic.
    Noise {
        /// Ratio in decibels.
        snr_db: [f32; 2],
        /// A folder of recordings, any nesting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
        /// Without a folder: `white`, `pink` or `brown`.
        #[serde(default)]
        kind: Noise,
        /// Probability.
        p: f32,
    },
    /// The sound of a room: impulse responses from a folder, else made up.
    Reverb {
        /// A folder of recorded impulse responses, any nesting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
        /// Without a folder: time in which the sound falls by 60 dB, in seconds.
        #[serde(default = "default_decay")]
        decay: [f32; 2],
        /// Probability.
        p: f32,
    },
    /// Faster or slower, pitch and all (Ko et al. 2015): one of the factors. Changes the length.
    Speed {
        /// Factors, of which one is drawn; rounded to hundredths.
        factors: Vec<f32>,
        /// Probability.
        p: f32,
    },
    /// Higher or lower at the same length.
    Pitch {
        /// Semitones.
        semitones: [f32; 2],
        /// Probability.
        p: f32,
    },
    /// Only a band of frequencies: a telephone is 300 to 3,400 Hz.
    Band {
        /// Lower edge in Hz; 0 keeps everything below.
        low_hz: [f32; 2],
        /// Upper edge in Hz.
        high_hz: [f32; 2],
        /// Probability.
        p: f32,
    },
    /// Louder or softer.
    Gain {
        /// Decibels.
        db: [f32; 2],
        /// Clip to [-1, 1] as a converter does.
        #[serde(default)]
        clip: bool,
        /// Probability.
        p: f32,
    },
    /// Logarithmic quantisation, as of ITU-T G.711 but with any number of bits.
    MuLaw {
        /// Bits of a sample, 2 to 16.
        bits: [u32; 2],
        /// Probability.
        p: f32,
    },
    /// Down to a low sampling rate and back, without a filter if `alias`.
    LowRate {
        /// Rates in Hz, of which one is drawn.
        rates: Vec<u32>,
        /// Let what the low rate cannot hold fold back, as bad codecs do.
        #[serde(default)]
        alias: bool,
        /// Probability.
        p: f32,
    },
}

fn default_decay() -> [f32; 2] {
    [0.1, 0.6]
}

impl Op {
    fn p(&self) -> f32 {
        match self {
            Op::Noise { p, .. }
            | Op::Reverb { p, .. }
            | Op::Speed { p, .. }
            | Op::Pitch { p, .. }
            | Op::Band { p, .. }
            | Op::Gain { p, .. }
            | Op::MuLaw { p, .. }
            | Op::LowRate { p, .. } => *p,
        }
    }

    fn check(&self, rate: u32) -> Result<()> {
        let pair = |name: &str, r: [f32; 2], low: f32, high: f32| {
            let good = r[0] <= r[1] && r[0] >= low && r[1] <= high;
            if good {
                Ok(())
            } else {
                Err(Error::config(format!(
                    "augment: {name} = {r:?}, expected a rising pair within {low} to {high}"
                )))
            }
        };
        pair("p", [self.p(); 2], 0.0, 1.0)?;
        let nyquist = rate as f32 / 2.0;
        match self {
            Op::Noise { snr_db, .. } => pair("snr_db", *snr_db, -100.0, 200.0),
            Op::Reverb { decay, .. } => pair("decay", *decay, 1e-3, 20.0),
            Op::Pitch { semitones, .. } => pair("semitones", *semitones, -12.0, 12.0),
            Op::Band { low_hz, high_hz, .. } => {
                pair("low_hz", *low_hz, 0.0, nyquist)?;
                pair("high_hz", *high_hz, 1.0, nyquist)?;
                pair("low_hz below high_hz", [low_hz[1], high_hz[0]], 0.0, nyquist)
            }
            Op::Gain { db, .. } => pair("db", *db, -100.0, 100.0),
            Op::MuLaw { bits, .. } => pair("bits", [bits[0] as f32, bits[1] as f32], 2.0, 16.0),
            Op::Speed { factors, .. } => match factors.iter().find(|f| !(0.25..=4.0).contains(*f)) {
                None if !factors.is_empty() => Ok(()),
                _ => Err(Error::config(format!(
                    "augment: factors = {factors:?}, expected at least one, each within 0.25 to 4"
                ))),
            },
            Op::LowRate { rates, .. } => match rates.iter().find(|r| !(100..=rate).contains(*r)) {
                None if !rates.is_empty() => Ok(()),
                _ => Err(Error::config(format!(
                    "augment: rates = {rates:?}, expected at least one, each within 100 to {rate} Hz"
                ))),
            },
        }
    }
}

/// A step with the files that it draws from.
struct Step {
    op: Op,
    files: Vec<PathBuf>,
}

/// Steps that are applied one after the other.
pub struct Pipeline {
    steps: Vec<Step>,
    audio: AudioConfig,
}

impl Pipeline {
    /// The steps in order, for waves of `audio.rate`; folders are listed once, here.
    ///
    /// # Errors
    /// If a range is impossible, or a folder cannot be read or holds no recording.
    pub fn new(ops: &[Op], audio: &AudioConfig) -> Result<Self> {
        audio.check()?;
        let mut steps = Vec::with_capacity(ops.len());
        for op in ops {
            op.check(audio.rate)?;
            let files = match op {
                Op::Noise { folder: Some(folder), .. } | Op::Reverb { folder: Some(folder), .. } => {
                    recordings(folder)?
                }
                _ => Vec::new(),
            };
            steps.push(Step { op: op.clone(), files });
        }
        Ok(Pipeline { steps, audio: audio.clone() })
    }

    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step changes how long a wave is: labels of its instants would then be wrong.
    pub fn changes_time(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.op, Op::Speed { .. }))
    }

    /// An augmented wave.
    ///
    /// # Errors
    /// If a recording of noise or of a room cannot be read.
    pub fn apply(&self, mut wave: Vec<f32>, rng: &mut Rng) -> Result<Vec<f32>> {
        for step in &self.steps {
            // Each step has its own generator: what one draws does not depend on whether another was applied.
            let mut own = selfsup_core::Key::new(rng.next_u64()).rng();
            if !wave.is_empty() && own.chance(step.op.p()) {
                wave = step.apply(wave, &self.audio, &mut own)?;
            }
        }
        Ok(wave)
    }
}

impl Step {
    fn apply(&self, mut wave: Vec<f32>, audio: &AudioConfig, rng: &mut Rng) -> Result<Vec<f32>> {
        let rate = audio.rate;
        let within = |r: [f32; 2], rng: &mut Rng| rng.range_f32(r[0], r[1]);
        match &self.op {
            Op::Noise { snr_db, kind, .. } => {
                let db = within(*snr_db, rng);
                let sound = if self.files.is_empty() {
                    noise(*kind, wave.len(), rng)
                } else {
                    draw(&self.files, wave.len(), audio, rng)?
                };
                add_noise(&mut wave, &sound, db);
                Ok(wave)
            }
            Op::Reverb { decay, .. } => {
                let response = if self.files.is_empty() {
                    impulse(within(*decay, rng), rate, rng)
                } else {
                    draw(&self.files, 10 * rate as usize, audio, rng)?
                };
                reverberate(&wave, &response)
            }
            Op::Speed { factors, .. } => change_speed(&wave, factors[rng.below(factors.len())]),
            Op::Pitch { semitones, .. } => shift_pitch(&wave, within(*semitones, rng), rate),
            Op::Band { low_hz, high_hz, .. } => {
                let (low, high) = (within(*low_hz, rng), within(*high_hz, rng));
                band_pass(&wave, low, high, rate)
            }
            Op::Gain { db, clip, .. } => {
                gain(&mut wave, within(*db, rng), *clip);
                Ok(wave)
            }
            Op::MuLaw { bits, .. } => {
                let span = (bits[1] - bits[0]) as usize + 1;
                mu_law(&mut wave, bits[0] + rng.below(span) as u32);
                Ok(wave)
            }
            Op::LowRate { rates, alias, .. } => low_rate(&wave, rate, rates[rng.below(rates.len())], *alias),
        }
    }
}

/// A random section of a random file, at most `len` samples.
fn draw(files: &[PathBuf], len: usize, audio: &AudioConfig, rng: &mut Rng) -> Result<Vec<f32>> {
    let path = &files[rng.below(files.len())];
    let (content, id) = (Content::File(path.clone()), path.display().to_string());
    let place = rng.uniform();
    let total = info(&content, &id)?.seconds().map(|s| (s * f64::from(audio.rate)) as u64);
    match total {
        Some(total) if total > len as u64 => {
            let start = (f64::from(place) * (total - len as u64) as f64) as u64;
            load(&content, &id, Some(Section { start, len: len as u64 }), audio)
        }
        _ => load(&content, &id, None, audio),
    }
}

fn recordings(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = crate::data::audio_files(folder)?;
    if files.is_empty() {
        return Err(Error::file(
            folder,
            "no recordings found: looked in all folders for wav, flac, mp3, ogg, m4a and aiff",
        ));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
