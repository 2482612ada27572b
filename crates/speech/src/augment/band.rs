//! Band limits: a windowed sinc filter of linear phase, without delay.

use super::convolve::convolve;
use selfsup_core::{Error, Result};
use std::f64::consts::PI;

/// Taps on each side: the edge is about 1.7 / 128 of the sampling rate wide, 200 Hz at 16 kHz.
const HALF: usize = 128;

/// Keeps `low_hz` to `high_hz` (0 and half the rate keep everything on that side), of the same length.
///
/// # Errors
/// If the edges are not rising within 0 to half the rate.
pub fn band_pass(wave: &[f32], low_hz: f32, high_hz: f32, rate: u32) -> Result<Vec<f32>> {
    let nyquist = rate as f32 / 2.0;
    if !(low_hz >= 0.0 && low_hz < high_hz && high_hz <= nyquist) {
        return Err(Error::input(
            "band",
            format!("{low_hz} to {high_hz} Hz, expected rising edges within 0 to {nyquist}"),
        ));
    }
    let (low, high) = (f64::from(low_hz) / f64::from(rate), f64::from(high_hz) / f64::from(rate));
    let tap = |i: i64| {
        let sinc = |edge: f64| {
            if i == 0 { 2.0 * edge } else { (2.0 * PI * edge * i as f64).sin() / (PI * i as f64) }
        };
        let turn = PI * i as f64 / (HALF + 1) as f64;
        // Blackman's window: side lobes below -74 dB.
        (sinc(high) - sinc(low)) * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
    };
    let filter: Vec<f32> = (-(HALF as i64)..=HALF as i64).map(|i| tap(i) as f32).collect();
    let out = convolve(wave, &filter)?;
    Ok(out.get(HALF..HALF + wave.len()).unwrap_or_default().to_vec())
}

/// Keeps what is below `high_hz`.
///
/// # Errors
/// As [`band_pass`].
pub fn low_pass(wave: &[f32], high_hz: f32, rate: u32) -> Result<Vec<f32>> {
    band_pass(wave, 0.0, high_hz, rate)
}
