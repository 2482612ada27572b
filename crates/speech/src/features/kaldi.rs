//! Kaldi's filter bank and MFCC (Povey et al. 2011, "The Kaldi speech recognition toolkit"; no dither, no
//! energy term).
//!
//! Each window: subtract its mean; `y_i = x_i - 0.97 x_{i-1}` (the first sample against itself); times `(0.5
//! - 0.5 cos)^0.85`; power spectrum by an FFT of the next power of two; triangles that are even on the scale
//! `1127 ln(1 + f / 700)`; log with a floor of f32's epsilon. MFCC: orthonormal cosine transform of those,
//! times the lifter `1 + 11 sin(pi k / 22)`.

use super::config::{FeatureConfig, Kind};
use realfft::{RealFftPlanner, RealToComplex};
use selfsup_core::{Error, Result};
use std::f64::consts::PI;
use std::sync::Arc;

/// Quefrency of the lifter.
const LIFTER: f64 = 22.0;

/// A triangle: its first bin of the spectrum and its weights.
struct Triangle {
    first: usize,
    weights: Vec<f32>,
}

pub(super) struct Kaldi {
    window: Vec<f32>,
    step: usize,
    fft: Arc<dyn RealToComplex<f32>>,
    preemphasis: f32,
    triangles: Vec<Triangle>,
    /// `(coefficients, bins)` with the lifter; empty for log-mel.
    cosine: Vec<f32>,
    coefficients: usize,
}

impl Kaldi {
    pub(super) fn new(config: &FeatureConfig, rate: u32) -> Result<Self> {
        let samples = |ms: f64| (f64::from(rate) * ms / 1000.0) as usize;
        let (n, step) = (samples(config.window_ms), samples(config.step_ms));
        if n < 2 || step == 0 || n > 1 << 20 {
            return Err(Error::config(format!(
                "features.window_ms = {} and step_ms = {} are {n} and {step} samples at {rate} Hz: expected at least 2 and 1",
                config.window_ms, config.step_ms
            )));
        }
        let bins = config.bins.unwrap_or(if config.kind == Kind::Mfcc { 23 } else { 80 });
        let nyquist = f64::from(rate) / 2.0;
        let high = config.high_hz.unwrap_or(nyquist);
        if bins < 3 || !(config.low_hz >= 0.0 && config.low_hz < high && high <= nyquist) {
            let (low, high) = (config.low_hz, high);
            return Err(Error::config(format!(
                "features: {bins} mel bins from {low} to {high} Hz, expected at least 3 between 0 and {nyquist}"
            )));
        }
        let coefficients = if config.kind == Kind::Mfcc { config.coefficients } else { 0 };
        if config.kind == Kind::Mfcc && !(1..=bins).contains(&coefficients) {
            return Err(Error::config(format!(
                "features.coefficients = {coefficients}: expected 1 to {bins}, the number of mel bins"
            )));
        }
        let size = n.next_power_of_two();
        let turn = 2.0 * PI / (n - 1) as f64;
        let window = (0..n).map(|i| (0.5 - 0.5 * (turn * i as f64).cos()).powf(0.85) as f32).collect();
        let triangles = triangles(bins, size, f64::from(rate), config.low_hz, high)?;
        let cosine = cosine(coefficients, bins);
        let fft = RealFftPlanner::new().plan_fft_forward(size);
        Ok(Kaldi { window, step, fft, preemphasis: config.preemphasis, triangles, cosine, coefficients })
    }

    pub(super) fn dim(&self) -> usize {
        if self.coefficients > 0 { self.coefficients } else { self.triangles.len() }
    }

    pub(super) fn window(&self) -> usize {
        self.window.len()
    }

    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// `(n, dim)`.
    pub(super) fn compute(&self, wave: &[f32], n: usize) -> Result<Vec<f32>> {
        let (mut input, mut spectrum) = (self.fft.make_input_vec(), self.fft.make_output_vec());
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0f32; spectrum.len()];
        let mut mel = vec![0f32; self.triangles.len()];
        let mut out = Vec::with_capacity(n * self.dim());
        for t in 0..n {
            let frame = &wave[t * self.step..t * self.step + self.window.len()];
            let mean = frame.iter().map(|v| f64::from(*v)).sum::<f64>() / frame.len() as f64;
            let mean = mean as f32;
            let mut before = frame[0] - mean;
            for ((to, v), w) in input.iter_mut().zip(frame).zip(&self.window) {
                let v = v - mean;
                *to = (v - self.preemphasis * before) * w;
                before = v;
            }
            input[self.window.len()..].fill(0.0);
            self.fft
                .process_with_scratch(&mut input, &mut spectrum, &mut scratch)
                .map_err(|e| Error::Other(format!("features: Fourier transform: {e}")))?;
            power.iter_mut().zip(&spectrum).for_each(|(p, c)| *p = c.norm_sqr());
            for (m, triangle) in mel.iter_mut().zip(&self.triangles) {
                let energy: f32 =
                    triangle.weights.iter().zip(&power[triangle.first..]).map(|(w, p)| w * p).sum();
                *m = energy.max(f32::EPSILON).ln();
            }
            if self.coefficients == 0 {
                out.extend_from_slice(&mel);
            } else {
                out.extend(
                    self.cosine
                        .chunks_exact(mel.len())
                        .map(|row| row.iter().zip(&mel).map(|(c, m)| c * m).sum::<f32>()),
                );
            }
        }
        Ok(out)
    }
}

fn triangles(bins: usize, size: usize, rate: f64, low: f64, high: f64) -> Result<Vec<Triangle>> {
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(low), mel(high));
    let delta = (high - low) / (bins + 1) as f64;
    let mut out = Vec::with_capacity(bins);
    for b in 0..bins {
        let (left, centre, right) =
            (low + b as f64 * delta, low + (b + 1) as f64 * delta, low + (b + 2) as f64 * delta);
        // The bin of half the rate is left out, as in Kaldi.
        let weight = |i: usize| {
            let m = mel(i as f64 * rate / size as f64);
            let slope =
                if m <= centre { (m - left) / (centre - left) } else { (right - m) / (right - centre) };
            if m > left && m < right { slope } else { 0.0 }
        };
        let first = (0..size / 2).find(|&i| weight(i) > 0.0);
        let Some(first) = first else {
            return Err(Error::config(format!(
                "features.bins = {bins}: mel bin {b} holds no frequency of an FFT of {size}; use fewer bins or a longer window"
            )));
        };
        let weights = (first..size / 2).map(weight).take_while(|w| *w > 0.0).map(|w| w as f32).collect();
        out.push(Triangle { first, weights });
    }
    Ok(out)
}

/// Rows of the orthonormal cosine transform, times the lifter.
fn cosine(coefficients: usize, bins: usize) -> Vec<f32> {
    let n = bins as f64;
    let entry = |k: usize, i: usize| {
        let scale = if k == 0 { (1.0 / n).sqrt() } else { (2.0 / n).sqrt() };
        let lifter = 1.0 + 0.5 * LIFTER * (PI * k as f64 / LIFTER).sin();
        (scale * lifter * (PI / n * (i as f64 + 0.5) * k as f64).cos()) as f32
    };
    (0..coefficients).flat_map(|k| (0..bins).map(move |i| entry(k, i))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Extractor, FeatureConfig, Kind};
    use proptest::prelude::*;

    fn tone(hz: f32, n: usize) -> Vec<f32> {
        (0..n).map(|i| 0.5 * (std::f32::consts::TAU * hz * i as f32 / 16_000.0).sin()).collect()
    }

    #[test]
    fn a_tone_is_loudest_in_its_bin() {
        let e = Extractor::new(&FeatureConfig::fbank(), 16_000).unwrap();
        let place = |hz: f32| {
            let f = e.compute(&tone(hz, 8_000)).unwrap();
            assert_eq!((f.len(), f.dim(), e.frames(8_000)), (48, 80, 48));
            let row = f.row(20);
            (0..80).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
        };
        let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
        for hz in [300.0f32, 1000.0, 3000.0, 6000.0] {
            let want = (mel(f64::from(hz)) - mel(20.0)) / (mel(8000.0) - mel(20.0)) * 81.0 - 1.0;
            assert!((place(hz) as f64 - want).abs() <= 1.0, "{hz}: {} {want}", place(hz));
        }
    }

    #[test]
    fn silence_is_the_floor_and_short_waves_are_refused() {
        let e = Extractor::new(&FeatureConfig::fbank(), 16_000).unwrap();
        let f = e.compute(&[0.25; 400]).unwrap();
        assert!(f.as_slice().iter().all(|v| (v - f32::EPSILON.ln()).abs() < 1e-6), "a constant is no sound");
        let e = e.compute(&[0.0; 399]).unwrap_err().to_string();
        assert!(e.contains("399") && e.contains("400"), "{e}");
    }

    #[test]
    fn impossible_settings_are_refused() {
        let bad = |f: &dyn Fn(&mut FeatureConfig)| {
            let mut c = FeatureConfig::default();
            f(&mut c);
            assert!(Extractor::new(&c, 16_000).is_err(), "{c:?}");
        };
        bad(&|c| c.deltas = 3);
        bad(&|c| c.coefficients = 24);
        bad(&|c| c.high_hz = Some(9_000.0));
        bad(&|c| c.step_ms = 0.01);
        bad(&|c| (c.kind, c.bins) = (Kind::Fbank, Some(400)));
        bad(&|c| c.low_hz = f64::NAN);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        /// Twice the amplitude is ln 4 more energy in each bin; MFCC feel it in coefficient 0 alone.
        #[test]
        fn gain_shifts_the_log(seed in 0_u64..100, gain in 1.0_f32..4.0) {
            let mut r = selfsup_core::Key::new(seed).rng();
            let x: Vec<f32> = (0..2000).map(|_| 0.2 * r.normal()).collect();
            let y: Vec<f32> = x.iter().map(|v| v * gain).collect();
            let fbank = Extractor::new(&FeatureConfig::fbank(), 16_000).unwrap();
            let (a, b) = (fbank.compute(&x).unwrap(), fbank.compute(&y).unwrap());
            for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
                prop_assert!((b - a - 2.0 * gain.ln()).abs() < 1e-2);
            }
            let mfcc = Extractor::new(&FeatureConfig { deltas: 0, ..FeatureConfig::default() }, 16_000).unwrap();
            let (a, b) = (mfcc.compute(&x).unwrap(), mfcc.compute(&y).unwrap());
            for t in 0..a.len() {
                for k in 1..13 {
                    prop_assert!((a.row(t)[k] - b.row(t)[k]).abs() < 2e-2, "{} {}", a.row(t)[k], b.row(t)[k]);
                }
            }
        }
    }
}
