//! Additive noise at a signal-to-noise ratio: `x + n sqrt(P_x / P_n / 10^(dB / 10))`, with powers over the
//! whole wave.

use selfsup_core::Rng;
use serde::{Deserialize, Serialize};

/// Synthetic noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Noise {
    /// Equal power in each Hz.
    #[default]
    White,
    /// Equal power in each octave: falls by 3 dB an octave, as much of nature does.
    Pink,
    /// Falls by 6 dB an octave: rumble.
    Brown,
}

/// `n` samples of noise of about unit power.
pub fn noise(kind: Noise, n: usize, rng: &mut Rng) -> Vec<f32> {
    let mut out: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
    match kind {
        Noise::White => {}
        // A leaky sum: the leak keeps it within bounds, its edge lies at 16 Hz for 16 kHz.
        Noise::Brown => {
            let mut sum = 0f32;
            out.iter_mut().for_each(|v| {
                sum = 0.9937 * sum + *v;
                *v = sum;
            });
        }
        // Three first-order filters in parallel follow 1/f within 0.5 dB over nine octaves (P. Kellet's
        // economy filter, musicdsp.org 76).
        Noise::Pink => {
            let mut b = [0f32; 3];
            out.iter_mut().for_each(|v| {
                b[0] = 0.997_65 * b[0] + *v * 0.099_046;
                b[1] = 0.963 * b[1] + *v * 0.296_516_4;
                b[2] = 0.57 * b[2] + *v * 1.052_691_3;
                *v = b[0] + b[1] + b[2] + *v * 0.1848;
            });
        }
    }
    let scale = 1.0 / power(&out).sqrt().max(1e-20);
    out.iter_mut().for_each(|v| *v *= scale as f32);
    out
}

/// Mean square.
pub fn power(wave: &[f32]) -> f64 {
    wave.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / wave.len().max(1) as f64
}

/// Ratio of the powers of a clean wave and of what `noisy` adds to it, in decibels.
pub fn snr(clean: &[f32], noisy: &[f32]) -> f64 {
    let rest: Vec<f32> = noisy.iter().zip(clean).map(|(n, c)| n - c).collect();
    10.0 * (power(clean) / power(&rest)).log10()
}

/// Adds `noise`, repeated or cut to length, so that the ratio is `snr_db`. A silent wave or silent noise is
/// left as it is: there is no ratio.
pub fn add_noise(wave: &mut [f32], noise: &[f32], snr_db: f32) {
    if noise.is_empty() {
        return;
    }
    // The noise that is added, not the recording that it is cut from, has the ratio.
    let n = wave.len();
    let added = if noise.len() >= n { power(&noise[..n]) } else { repeated_power(noise, n) };
    let signal = power(wave);
    if signal == 0.0 || added == 0.0 {
        return;
    }
    let scale = (signal / added / 10f64.powf(f64::from(snr_db) / 10.0)).sqrt() as f32;
    for (v, e) in wave.iter_mut().zip(noise.iter().cycle()) {
        *v += e * scale;
    }
}

fn repeated_power(noise: &[f32], n: usize) -> f64 {
    let (times, rest) = (n / noise.len(), n % noise.len());
    (power(noise) * (times * noise.len()) as f64 + power(&noise[..rest]) * rest as f64) / n.max(1) as f64
}
