//! Degradation like that of old codecs: logarithmic quantisation, and low sampling rates.

use crate::audio::resample;
use selfsup_core::{Error, Result};

/// Compression of mu-law.
const MU: f32 = 255.0;

/// `F(x) = sgn(x) ln(1 + 255 |x|) / ln 256`, rounded to `2^bits` levels, and back (with 8 bits the companding
/// of ITU-T G.711). Values beyond `[-1, 1]` are clipped; bits are taken within 2 to 16.
pub fn mu_law(wave: &mut [f32], bits: u32) {
    // Levels -half .. half: 0 stays 0.
    let half = ((1u32 << (bits.clamp(2, 16) - 1)) - 1) as f32;
    let log = (1.0 + MU).ln();
    for v in wave {
        let x = v.clamp(-1.0, 1.0);
        let coded = ((1.0 + MU * x.abs()).ln() / log * half).round() / half;
        *v = x.signum() * ((coded * log).exp() - 1.0) / MU;
    }
}

/// The wave as if it had been sampled at `low` Hz, of the same length. With `alias` each sample is held,
/// without a filter before or after.
///
/// # Errors
/// If `low` is 0 or above `rate`.
pub fn low_rate(wave: &[f32], rate: u32, low: u32, alias: bool) -> Result<Vec<f32>> {
    if low == 0 || low > rate {
        return Err(Error::input("low rate", format!("{low} Hz, expected 1 to {rate}")));
    }
    if alias {
        let held = |i: usize| {
            (i as u64 * u64::from(low) / u64::from(rate) * u64::from(rate)).div_ceil(u64::from(low)) as usize
        };
        return Ok((0..wave.len()).map(|i| wave[held(i).min(i)]).collect());
    }
    let mut out = resample(&resample(wave, rate, low)?, low, rate)?;
    out.resize(wave.len(), 0.0);
    Ok(out)
}
