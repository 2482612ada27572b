//! Pitch without tempo: the wave is stretched by overlapping similar pieces (WSOLA, Verhelst and Roelands
//! 1993), then resampled to its old length.

use crate::audio::resample;
use selfsup_core::{Error, Result};

/// Window in seconds: some periods of a voice.
const WINDOW: f32 = 0.03;
/// How far a piece may move to fit the one before, in seconds: a period of a low voice.
const SEARCH: f32 = 0.008;

/// The wave higher by `semitones` (lower if negative), of the same length.
///
/// # Errors
/// If the shift is beyond two octaves.
pub fn shift_pitch(wave: &[f32], semitones: f32, rate: u32) -> Result<Vec<f32>> {
    if !(-24.0..=24.0).contains(&semitones) {
        return Err(Error::input("pitch", format!("a shift of {semitones} semitones, expected -24 to 24")));
    }
    let factor = (2f32.powf(semitones / 12.0) * 1000.0).round() as u32;
    if factor == 1000 {
        return Ok(wave.to_vec());
    }
    let stretched = stretch(wave, factor as f32 / 1000.0, rate);
    let mut out = resample(&stretched, factor, 1000)?;
    out.resize(wave.len(), 0.0);
    Ok(out)
}

/// The wave `factor` times as long at the same pitch.
pub fn stretch(wave: &[f32], factor: f32, rate: u32) -> Vec<f32> {
    let length = (wave.len() as f64 * f64::from(factor)).round() as usize;
    let hop = ((WINDOW * rate as f32) as usize / 2).max(2);
    let (size, search) = (2 * hop, (SEARCH * rate as f32) as usize);
    if wave.len() < 2 * size || factor <= 0.0 {
        // Too short to hold a window: linear interpolation is all that can be done.
        let at = |i: usize| {
            let x = i as f32 / factor.max(1e-6);
            let (a, b) = (wave.get(x as usize), wave.get(x as usize + 1));
            let (a, b) = (a.copied().unwrap_or(0.0), b.or(a).copied().unwrap_or(0.0));
            a + (b - a) * x.fract()
        };
        return (0..length).map(at).collect();
    }
    let window: Vec<f32> =
        (0..size).map(|i| 0.5 - 0.5 * (std::f32::consts::TAU * i as f32 / size as f32).cos()).collect();
    let mut out = vec![0f32; length + size];
    let mut weight = vec![0f32; length + size];
    let last = wave.len() - size;
    let mut place = 0usize;
    let mut k = 0usize;
    while k * hop < length {
        let piece = &wave[place..place + size];
        for ((o, n), (v, w)) in
            out[k * hop..].iter_mut().zip(&mut weight[k * hop..]).zip(piece.iter().zip(&window))
        {
            *o += v * w;
            *n += w;
        }
        k += 1;
        // What would have followed in the wave; the next piece is the most similar one near where time has
        // come to.
        let follow = (place + hop).min(last);
        let target = &wave[follow..follow + hop];
        let centre = ((k * hop) as f64 / f64::from(factor)) as usize;
        let (from, to) = (centre.saturating_sub(search).min(last), (centre + search).min(last));
        place = most_similar(wave, target, from, to);
    }
    out.truncate(length);
    out.iter_mut().zip(&weight).for_each(|(o, w)| *o /= w.max(1e-3));
    out
}

/// The start in `from..=to` whose samples correlate best with `target`; of equals the first.
fn most_similar(wave: &[f32], target: &[f32], from: usize, to: usize) -> usize {
    let mut best = (from, f32::MIN);
    // Every second sample and every second place: a quarter of the work, and the pitch of a voice is far
    // below.
    for start in (from..=to).step_by(2) {
        let part = &wave[start..start + target.len()];
        let (mut dot, mut norm) = (0f32, 1e-9f32);
        for (a, b) in part.iter().zip(target).step_by(2) {
            dot += a * b;
            norm += a * a;
        }
        let score = dot / norm.sqrt();
        if score > best.1 {
            best = (start, score);
        }
    }
    best.0
}
