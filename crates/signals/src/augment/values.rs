//! Changes of values: jitter, scaling, baseline wander, mains hum, dropped channels.

use crate::window::Window;
use selfsup_core::Rng;
use std::f32::consts::TAU;

/// Adds normal noise of deviation `sd` to every sample.
pub fn jitter(window: &mut Window, sd: f32, rng: &mut Rng) {
    window.each_mut().flatten().for_each(|v| *v += sd * rng.normal());
}

/// Multiplies each channel by a factor of its own, `exp(sd normal)`: as often larger as smaller.
pub fn scale(window: &mut Window, sd: f32, rng: &mut Rng) {
    for channel in window.each_mut() {
        let factor = (sd * rng.normal()).exp();
        channel.iter_mut().for_each(|v| *v *= factor);
    }
}

/// Adds a slow wave to each channel, as breathing and electrodes that move do: a sine of one to `waves` periods
/// in the window, whose amplitude is drawn up to `amplitude`.
pub fn wander(window: &mut Window, amplitude: f32, waves: f32, rng: &mut Rng) {
    let length = window.len() as f32;
    for channel in window.each_mut() {
        let (size, phase) = (rng.range_f32(0.0, amplitude), rng.range_f32(0.0, TAU));
        let periods = rng.range_f32(1.0, waves.max(1.0));
        for (t, v) in channel.iter_mut().enumerate() {
            *v += size * (TAU * periods * t as f32 / length + phase).sin();
        }
    }
}

/// Adds the hum of the mains at `frequency` of a sampling rate of `rate`, of an amplitude up to `amplitude`, in
/// one phase on all channels. Nothing where the rate cannot hold the frequency.
pub fn hum(window: &mut Window, amplitude: f32, frequency: f32, rate: f32, rng: &mut Rng) {
    let (size, phase) = (rng.range_f32(0.0, amplitude), rng.range_f32(0.0, TAU));
    if frequency >= rate / 2.0 {
        return;
    }
    for channel in window.each_mut() {
        for (t, v) in channel.iter_mut().enumerate() {
            // Periods counted in double precision: long windows keep their phase.
            let periods = f64::from(frequency) * t as f64 / f64::from(rate);
            *v += size * (TAU * periods.fract() as f32 + phase).sin();
        }
    }
}

/// Sets each channel to 0 with a chance of `p`, but never all of them.
pub fn drop_channels(window: &mut Window, p: f32, rng: &mut Rng) {
    let mut dropped: Vec<bool> = (0..window.channels()).map(|_| rng.chance(p)).collect();
    let kept = rng.below(dropped.len());
    if dropped.iter().all(|d| *d) {
        dropped[kept] = false;
    }
    for (channel, _) in window.each_mut().zip(&dropped).filter(|(_, d)| **d) {
        channel.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    fn ones(channels: usize, length: usize) -> Window {
        Window::new(&vec![vec![1.0; length]; channels], "w").unwrap()
    }

    #[test]
    fn noise_and_factors_have_their_deviation() {
        let mut w = ones(1, 20_000);
        jitter(&mut w, 0.5, &mut Key::new(1).rng());
        let deviation = (w.values().iter().map(|v| (v - 1.0).powi(2)).sum::<f32>() / 20_000.0).sqrt();
        assert!((deviation - 0.5).abs() < 0.02, "{deviation}");
        let mut w = ones(2000, 3);
        scale(&mut w, 0.3, &mut Key::new(2).rng());
        assert!(w.each().all(|c| c.iter().all(|v| *v == c[0])));
        let logs = w.each().map(|c| c[0].ln().powi(2)).sum::<f32>() / 2000.0;
        assert!((logs.sqrt() - 0.3).abs() < 0.02, "{logs}");
    }

    #[test]
    fn waves_stay_below_their_amplitude() {
        let mut w = ones(50, 400);
        wander(&mut w, 0.4, 3.0, &mut Key::new(1).rng());
        assert!(w.values().iter().all(|v| (v - 1.0).abs() <= 0.4));
        let mean = |c: &[f32]| c.iter().sum::<f32>() / c.len() as f32;
        assert!(w.each().any(|c| (c[0] - mean(c)).abs() > 0.05));
        // A quarter of the rate: every fourth value is the same, neighbours by two are opposite.
        let mut w = ones(1, 400);
        hum(&mut w, 0.4, 25.0, 100.0, &mut Key::new(3).rng());
        let v = w.values();
        assert!((v[0] - v[396]).abs() < 1e-4 && (v[0] + v[2] - 2.0).abs() < 1e-4 && v[0] != v[1]);
        let mut w = ones(1, 4);
        hum(&mut w, 0.4, 50.0, 100.0, &mut Key::new(3).rng());
        assert_eq!(w, ones(1, 4));
    }

    #[test]
    fn a_channel_is_left() {
        let mut dropped = 0;
        for seed in 0..200 {
            let mut w = ones(3, 2);
            drop_channels(&mut w, 0.9, &mut Key::new(seed).rng());
            let left = w.each().filter(|c| c[0] != 0.0).count();
            assert!(left >= 1);
            dropped += 3 - left;
        }
        assert!(dropped > 300, "{dropped}");
    }
}
