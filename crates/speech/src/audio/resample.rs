//! Resampling by a ratio of whole numbers, in the frequency domain (rubato's FFT resampler: blocks with
//! overlap, anti-aliasing filter with a Blackman-Harris window, delay removed).

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};
use selfsup_core::{Error, Result};
use std::cell::RefCell;

/// Samples of a block at the lower of the two rates: the transition band is about a hundredth of it.
const BLOCK: u64 = 1024;

/// The greatest common divisor; at least 1.
pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Length of `len` samples after [`resample`]: `ceil(len * to / from)`.
pub fn resampled_len(len: u64, from: u32, to: u32) -> u64 {
    let (from, to) = (u128::from(from.max(1)), u128::from(to));
    u64::try_from((u128::from(len) * to).div_ceil(from)).unwrap_or(u64::MAX)
}

/// A resampler and the ratio that it is for.
type Kept = ((u32, u32), Fft<f32>);

thread_local! {
    /// The last resampler of each thread: its filter and plans are worth keeping, and most recordings of a
    /// set have one rate.
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// `samples` at the rate `from` as samples at the rate `to`, beginning at the same instant. Only the ratio
/// matters.
///
/// # Errors
/// If a rate is 0.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>> {
    if from == 0 || to == 0 {
        return Err(Error::input("resampling", format!("from {from} to {to} Hz, expected positive rates")));
    }
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let g = gcd(u64::from(from), u64::from(to)) as u32;
    let ratio = (from / g, to / g);
    let other = |e: &dyn std::fmt::Display| Error::Other(format!("resampling from {from} to {to} Hz: {e}"));
    LAST.with_borrow_mut(|last| {
        let (_, fft) = match last {
            Some(kept) if kept.0 == ratio => kept,
            _ => {
                let (input, output) = (ratio.0 as usize, ratio.1 as usize);
                // An even number of the smallest blocks: half a block is the delay, and must be whole on both
                // sides.
                let chunk = (BLOCK / u64::from(2 * ratio.0.min(ratio.1)) + 1) as usize * 2 * input;
                let made = Fft::new_custom(
                    input,
                    output,
                    chunk,
                    1,
                    1,
                    WindowFunction::BlackmanHarris2,
                    FixedSync::Both,
                );
                last.insert((ratio, made.map_err(|e| other(&e))?))
            }
        };
        let input = InterleavedSlice::new(samples, 1, samples.len()).map_err(|e| other(&e))?;
        let mut out = fft.process_all(&input, samples.len(), None).map_err(|e| other(&e))?.take_data();
        // The library rounds the length in floating point.
        out.resize(resampled_len(samples.len() as u64, from, to) as usize, 0.0);
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::f64::consts::TAU;

    fn sine(n: usize, rate: u32, hz: f64) -> Vec<f32> {
        (0..n).map(|i| (TAU * hz * i as f64 / f64::from(rate)).sin() as f32).collect()
    }

    #[test]
    fn tones_keep_their_phase_and_level_and_what_would_alias_is_removed() {
        for from in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000] {
            let n = from as usize;
            let y = resample(&sine(n, from, 440.0), from, 16_000).unwrap();
            assert_eq!(y.len(), 16_000);
            let want = sine(16_000, 16_000, 440.0);
            let gap =
                y[800..15_200].iter().zip(&want[800..15_200]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap < 2e-3, "{from}: {gap}");
        }
        let y = resample(&sine(96_000, 96_000, 11_000.0), 96_000, 16_000).unwrap();
        assert!(y[800..15_200].iter().all(|v| v.abs() < 1e-3), "11 kHz folds to 5 kHz");
        let silent = resample(&sine(16_000, 16_000, 3_000.0), 16_000, 8_000).unwrap();
        assert!(silent[400..7_600].iter().any(|v| v.abs() > 0.9), "3 kHz stays below half of 8 kHz");
    }

    #[test]
    fn odd_rates_and_short_clips() {
        assert_eq!(resample(&[0.5; 3], 44_101, 16_000).unwrap().len(), 2);
        assert_eq!(resample(&[0.5], 8_000, 16_000).unwrap().len(), 2);
        assert!(resample(&[], 8_000, 16_000).unwrap().is_empty());
        assert!(resample(&[1.0], 0, 16_000).is_err() && resample(&[1.0], 8_000, 0).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn lengths_are_exact_and_scale_is_linear(n in 1_usize..5000, from in prop::sample::select(vec![8_000_u32, 11_025, 44_100, 48_000]), gain in 0.1_f32..4.0) {
            let x: Vec<f32> = (0..n).map(|i| ((i * 7919) % 201) as f32 / 100.0 - 1.0).collect();
            let y = resample(&x, from, 16_000).unwrap();
            prop_assert_eq!(y.len(), (n * 16_000).div_ceil(from as usize));
            let scaled: Vec<f32> = x.iter().map(|v| v * gain).collect();
            for (a, b) in y.iter().zip(resample(&scaled, from, 16_000).unwrap()) {
                prop_assert!((a * gain - b).abs() < 1e-4 * gain.max(1.0));
            }
        }
    }
}
