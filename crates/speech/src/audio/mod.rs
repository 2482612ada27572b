//! Recordings: any format, rate and number of channels become one mono wave at the rate of the encoder.
//!
//! [`info`] reads what a file says about itself, [`load`] decodes it or a section of it. The content of a
//! file decides its format, not its name. [`load`] finds a section by seeking where the format allows it; it
//! decodes a damaged or unseekable file from its start. Either way it keeps no more than the section, so a
//! two-hour file costs what its section costs.

mod content;
mod decode;
mod resample;
mod riff;
mod wav;

pub use content::Content;
pub use decode::{Info, codec_is_read, count, info};
pub use resample::{resample, resampled_len};
pub use wav::{wav, write_wav, write_wav_f32};

use resample::gcd;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Seconds of a recording that [`cancels`] listens to.
const LISTENED: u64 = 10;

/// Whether the channels of a recording cancel when they are averaged, in its first ten seconds: one is
/// about the other turned round, and what is left has less than a thousandth of their power.
///
/// # Errors
/// If it cannot be decoded.
pub fn cancels(content: &Content, id: &str) -> Result<bool> {
    let found = info(content, id)?;
    if found.channels.is_some_and(|n| n < 2) {
        return Ok(false);
    }
    let (mixed, single) = decode::powers(content, id, LISTENED)?;
    Ok(single > 0.0 && mixed < 1e-3 * single)
}

/// A part of a recording, counted in samples at the rate that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Its first sample.
    pub start: u64,
    /// Its samples; fewer come out where the recording ends before.
    pub len: u64,
}

/// How recordings are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AudioConfig {
    /// Samples a second of what comes out. Default 16,000, the rate of wav2vec 2.0 and HuBERT.
    pub rate: u32,
    /// Longest section that is decoded at once, in seconds: more is refused, so that memory is bounded.
    /// Default 600.
    pub max_seconds: f64,
}

impl Default for AudioConfig {
    fn default() -> Self {
        AudioConfig { rate: 16_000, max_seconds: 600.0 }
    }
}

impl AudioConfig {
    /// # Errors
    /// If the rate or the limit is not usable.
    pub(crate) fn check(&self) -> Result<()> {
        if !(100..=decode::MAX_RATE).contains(&self.rate) {
            return Err(Error::config(format!(
                "audio.rate = {}: expected 100 to {} Hz",
                self.rate,
                decode::MAX_RATE
            )));
        }
        if !(self.max_seconds.is_finite() && self.max_seconds > 0.0) {
            return Err(Error::config(format!(
                "audio.max_seconds = {}: expected a positive number",
                self.max_seconds
            )));
        }
        Ok(())
    }
}

/// Samples around a section that are decoded too, at the rate that is asked for: more than the resampling
/// filter reaches.
const MARGIN: u64 = 4096;

/// Decodes a recording, or a section of it, mixes its channels to one (their mean) and resamples it. `id`
/// names it in messages.
///
/// A section is the same samples as the slice of the whole: exactly if the rate is that of the file, else
/// within rounding.
///
/// # Errors
/// If it is none of the known formats, is damaged or cut short, has no samples or one that is not finite,
/// begins after its end, or lasts longer than `max_seconds`.
pub fn load(content: &Content, id: &str, section: Option<Section>, config: &AudioConfig) -> Result<Vec<f32>> {
    config.check()?;
    let out = u64::from(config.rate);
    let limit = |rate: u32| (config.max_seconds * f64::from(rate)).ceil() as u64;
    if let Some(s) = section
        && s.len > limit(config.rate)
    {
        let seconds = s.len as f64 / out as f64;
        return Err(Error::input(
            id,
            format!("a section of {seconds:.1} s is above audio.max_seconds = {}", config.max_seconds),
        ));
    }
    let Some(Section { start, len }) = section else {
        let (rate, samples) = decode::read(content, id, &|_| (0, None), &limit, config.max_seconds)?;
        return resample(&finite(id, rate, 0, samples)?, rate, config.rate);
    };
    if len == 0 {
        return Err(Error::input(id, "a section of 0 samples was asked for"));
    }
    // Sample k at the rate `out` lies at k * rate / out of the file. The grids meet every rate / g samples of
    // the file, g their divisor: decoding begins there, so that what comes out is the whole's samples and not
    // ones between them.
    let grid = |rate: u32| {
        if u64::from(rate) == out {
            return (start, start, start + len);
        }
        let g = gcd(u64::from(rate), out);
        let (step_in, step_out) = (u64::from(rate) / g, out / g);
        let first = start.saturating_sub(MARGIN) / step_out;
        let end = (start + len + MARGIN).saturating_mul(u64::from(rate)).div_ceil(out);
        (first * step_out, first * step_in, end)
    };
    let span = |rate: u32| {
        let (_, from, to) = grid(rate);
        (from, Some(to - from))
    };
    let margins = |rate: u32| limit(rate) + 4 * MARGIN * u64::from(rate).div_ceil(out) + 2 * u64::from(rate);
    let (rate, samples) = decode::read(content, id, &span, &margins, config.max_seconds)?;
    let (aligned, from, _) = grid(rate);
    let wave = resample(&finite(id, rate, from, samples)?, rate, config.rate)?;
    let skip = (start - aligned) as usize;
    if skip >= wave.len() {
        let lasts = (aligned as usize + wave.len()) as f64 / out as f64;
        return Err(Error::input(
            id,
            format!(
                "a section at {:.2} s was asked for, but it lasts {lasts:.2} s",
                start as f64 / out as f64
            ),
        ));
    }
    let end = wave.len().min(skip + len as usize);
    Ok(wave[skip..end].to_vec())
}

/// Largest sample that is taken; full scale is 1, and 2^31 where a writer left whole numbers as they were. Sums
/// over a block of larger ones would run over, and what the resampler keeps between blocks with them.
const LOUDEST: f32 = 1e12;

/// Refuses values that are not finite, or no samples.
fn finite(id: &str, rate: u32, from: u64, samples: Vec<f32>) -> Result<Vec<f32>> {
    match samples.iter().position(|v| !v.is_finite() || v.abs() > LOUDEST) {
        None => Ok(samples),
        Some(i) => {
            let at = from + i as u64;
            let seconds = at as f64 / f64::from(rate);
            Err(Error::input(
                id,
                format!(
                    "sample {at} ({seconds:.3} s) is {:e}, expected finite numbers of at most {LOUDEST:e}",
                    samples[i]
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The resampler panics over the sums of such samples; those of 32-bit whole numbers are taken.
    #[test]
    fn huge_samples_are_refused() {
        let read = |loudest: f32| {
            let samples = (0..2000).map(|i| if i % 7 == 0 { loudest } else { 0.5 }).collect();
            let content = Content::Wave { rate: 44_100, samples };
            load(&content, "a.wav", None, &AudioConfig::default())
        };
        let e = read(2.7e38).unwrap_err().to_string();
        assert!(e.contains("a.wav") && e.contains("2.7e38") && e.contains("1e12"), "{e}");
        assert!(read(2_147_483_648.0).unwrap().iter().all(|v| v.is_finite()));
    }
}
