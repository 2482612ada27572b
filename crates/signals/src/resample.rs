//! Resampling by a ratio of whole numbers, as scipy's `resample_poly` does with its defaults.

use selfsup_core::{Error, Result};
use std::f64::consts::PI;

/// The parameter of the Kaiser window.
const BETA: f64 = 5.0;
/// Taps on each side, in samples of the lower rate.
const HALF: usize = 10;
/// Samples of a result at most.
const LONGEST: usize = 1 << 30;
/// Largest numerator and denominator of a ratio of rates.
const LARGEST: f64 = 4096.0;

/// A signal of `from` samples a second at `to` samples a second: `ceil(n to / from)` values, the first on the first.
/// The filter is a windowed sinc at the lower of both Nyquist frequencies; beyond the ends are zeros.
///
/// # Errors
/// If a rate is 0, or the filter would have more than ten million taps.
pub fn poly(x: &[f32], from: usize, to: usize) -> Result<Vec<f32>> {
    if from == 0 || to == 0 {
        return Err(Error::config(format!("resampling from {from} to {to} Hz: expected rates above 0")));
    }
    let divisor = gcd(from, to);
    let (up, down) = (to / divisor, from / divisor);
    if up == 1 && down == 1 {
        return Ok(x.to_vec());
    }
    let half = HALF * up.max(down);
    if half > 5_000_000 {
        let problem =
            format!("resampling from {from} to {to} Hz: a ratio of {up} to {down}, expected smaller numbers");
        return Err(Error::config(problem));
    }
    let count =
        x.len().checked_mul(up).map(|n| n.div_ceil(down)).filter(|n| *n <= LONGEST).ok_or_else(|| {
            let problem = format!(
                "resampling {} samples from {from} to {to} Hz: expected at most {LONGEST} in the end",
                x.len()
            );
            Error::config(problem)
        })?;
    let filter = filter(half, up);
    Ok((0..count)
        .map(|i| {
            let at = i * down;
            // Input k stands at k * up of the fine grid, and counts where the filter reaches.
            let first = at.saturating_sub(half).div_ceil(up);
            let last = ((at + half) / up).min(x.len().saturating_sub(1));
            let sum: f64 = (first..=last)
                .filter_map(|k| Some(f64::from(*x.get(k)?) * filter.get(half + at - k * up)?))
                .sum();
            sum as f32
        })
        .collect())
}

/// `2 half + 1` taps of a low pass at `1 / (half / 10)` of the fine grid's Nyquist frequency, of gain `up`.
fn filter(half: usize, up: usize) -> Vec<f64> {
    let cutoff = HALF as f64 / half as f64;
    let taps: Vec<f64> = (0..=2 * half)
        .map(|n| {
            let m = n as f64 - half as f64;
            let window = bessel(BETA * (1.0 - (m / half as f64).powi(2)).max(0.0).sqrt()) / bessel(BETA);
            cutoff * sinc(cutoff * m) * window
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|t| t / sum * up as f64).collect()
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The modified Bessel function of order 0, by its series.
fn bessel(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
    while term > 1e-17 * sum {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

/// A signal of `from` samples a second at `to`, by the ratio of whole numbers up to 4096 that is nearest to
/// `to / from`.
///
/// # Errors
/// If a rate is not a number above 0, or no such ratio is within a millionth; `id` names the signal.
pub fn resample(x: &[f32], from: f64, to: f64, id: &str) -> Result<Vec<f32>> {
    let (up, down) = ratio(to / from).ok_or_else(|| {
        let problem = format!(
            "resampling from {from} to {to} Hz: expected rates whose ratio is one of whole numbers up to {LARGEST}"
        );
        Error::input(id, problem)
    })?;
    poly(x, down, up)
}

/// The fraction nearest to a number, by its continued fraction.
fn ratio(x: f64) -> Option<(usize, usize)> {
    if !(x.is_finite() && x > 0.0) {
        return None;
    }
    let near = |p: f64, q: f64| p >= 1.0 && (p / q / x - 1.0).abs() < 1e-6;
    let (mut rest, mut last, mut now) = (x, (1.0, 0.0), (x.floor(), 1.0));
    while !near(now.0, now.1) {
        let part = rest - rest.floor();
        if part < 1e-9 || now.0 > LARGEST || now.1 > LARGEST {
            break;
        }
        rest = 1.0 / part;
        let whole = rest.floor();
        (last, now) = (now, (whole * now.0 + last.0, whole * now.1 + last.1));
    }
    let fits = near(now.0, now.1) && now.0 <= LARGEST && now.1 <= LARGEST;
    fits.then_some((now.0 as usize, now.1 as usize))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_wave_keeps_its_shape() {
        let wave = |rate: usize, n: usize| -> Vec<f32> {
            (0..n).map(|i| (2.0 * PI * 3.0 * i as f64 / rate as f64).sin() as f32).collect()
        };
        let (x, expected) = (wave(500, 1000), wave(200, 400));
        let y = poly(&x, 500, 200).unwrap();
        assert_eq!(y.len(), 400);
        let gap = |r: std::ops::Range<usize>| r.map(|i| (y[i] - expected[i]).abs()).fold(0f32, f32::max);
        assert!(gap(30..370) < 1e-3, "{}", gap(30..370));
        assert_eq!(poly(&x, 250, 250).unwrap(), x);
        assert!(poly(&[], 500, 200).unwrap().is_empty());
        assert_eq!(ratio(250.0 / 360.0), Some((25, 36)));
        assert_eq!(ratio(100.0 / 33.333333), Some((3, 1)));
        assert_eq!(ratio(125.0 / (1.0 / 0.75)), Some((375, 4)));
        assert_eq!((ratio(1e9), ratio(f64::NAN), ratio(0.0)), (None, None, None));
        assert_eq!(resample(&x, 500.0, 200.0, "x").unwrap(), y);
        assert!(resample(&x, 0.0, 200.0, "a.edf").unwrap_err().to_string().contains("a.edf"));
        assert!(poly(&x, 0, 200).is_err() && poly(&x, 1_000_003, 999_983).is_err());
    }
}
