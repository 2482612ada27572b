//! Reverberation: convolution with the impulse response of a room (Ko et al. 2017, "A study on data
//! augmentation of reverberant speech").

use super::convolve::convolve;
use super::noise::power;
use selfsup_core::{Result, Rng};

/// The wave as heard in the room, of the same length, at the same instants (the direct sound is not delayed)
/// and of the same power.
///
/// # Errors
/// As [`convolve`].
pub fn reverberate(wave: &[f32], response: &[f32]) -> Result<Vec<f32>> {
    let direct = (0..response.len()).max_by(|&a, &b| response[a].abs().total_cmp(&response[b].abs()));
    let Some(direct) = direct.filter(|&i| response[i] != 0.0) else { return Ok(wave.to_vec()) };
    let mut out = convolve(wave, response)?[direct..].to_vec();
    out.truncate(wave.len());
    out.resize(wave.len(), 0.0);
    let (before, after) = (power(wave), power(&out));
    if after > 0.0 {
        let scale = (before / after).sqrt() as f32;
        out.iter_mut().for_each(|v| *v *= scale);
    }
    Ok(out)
}

/// A made-up impulse response that falls by 60 dB in `decay` seconds. The first echo comes after 2 to 12 ms,
/// and the energy of the tail is -6 to 3 dB over that of the direct sound: both are drawn.
pub fn impulse(decay: f32, rate: u32, rng: &mut Rng) -> Vec<f32> {
    let gap = rng.range_f32(0.002, 0.012);
    let tail_db = rng.range_f32(-6.0, 3.0);
    room(decay, gap, tail_db, rate, rng)
}

/// The impulse response of a room (Polack 1988): a direct sound, and noise that begins `gap` seconds after it,
/// falls by 60 dB in `decay` seconds and has an energy `tail_db` decibels over that of the direct sound.
pub fn room(decay: f32, gap: f32, tail_db: f32, rate: u32, rng: &mut Rng) -> Vec<f32> {
    let rate = rate as f32;
    let n = ((decay * rate) as usize).max(1);
    let gap = (gap * rate) as usize;
    let tail = 10f32.powf(tail_db / 10.0);
    let fall = -3.0 * std::f32::consts::LN_10 / n as f32;
    let mut out: Vec<f32> = (0..n).map(|i| rng.normal() * (fall * i as f32).exp()).collect();
    let scale = (tail / (power(&out) * n as f64) as f32).sqrt();
    out.iter_mut().for_each(|v| *v *= scale);
    out.splice(0..0, std::iter::once(1.0).chain(std::iter::repeat_n(0.0, gap)));
    // The direct sound is the largest value, whatever the noise drew.
    out.iter_mut().skip(1).for_each(|v| *v = v.clamp(-0.99, 0.99));
    out
}
