//! Speed perturbation: the wave resampled, so that pitch and tempo change together (Ko et al. 2015, "Audio
//! augmentation for speech recognition").

use crate::audio::resample;
use selfsup_core::{Error, Result};

/// The wave at `factor` times its speed (rounded to hundredths): `len / factor` samples.
///
/// # Errors
/// If the factor is not within 0.01 to 100.
pub fn change_speed(wave: &[f32], factor: f32) -> Result<Vec<f32>> {
    let hundredths = (factor * 100.0).round();
    if !(1.0..=10_000.0).contains(&hundredths) {
        return Err(Error::input("speed", format!("a factor of {factor}, expected 0.01 to 100")));
    }
    resample(wave, hundredths as u32, 100)
}
