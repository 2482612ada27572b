//! Changes of the spectrum: bands of frequencies are taken out.

use crate::window::Window;
use realfft::RealFftPlanner;
use selfsup_core::{Error, Result, Rng};

/// Takes a band of frequencies out of all channels: it starts anywhere above 0 and spans up to `share` of the
/// spectrum.
///
/// # Errors
/// If the transform refuses the window.
pub fn mask_frequencies(window: &mut Window, share: f32, rng: &mut Rng) -> Result<()> {
    let length = window.len();
    let bins = length / 2;
    let width = (rng.uniform() * share * bins as f32).round() as usize;
    let first = 1 + rng.below(bins.max(1));
    if width == 0 || bins < 2 {
        return Ok(());
    }
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, inverse) = (planner.plan_fft_forward(length), planner.plan_fft_inverse(length));
    let fail = |e: realfft::FftError| Error::Other(format!("a spectrum of {length} samples: {e}"));
    for channel in window.each_mut() {
        let mut time = channel.to_vec();
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut time, &mut spectrum).map_err(fail)?;
        spectrum.iter_mut().skip(first).take(width).for_each(|z| *z = Default::default());
        inverse.process(&mut spectrum, &mut time).map_err(fail)?;
        channel.iter_mut().zip(time).for_each(|(v, t)| *v = t / length as f32);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    #[test]
    fn a_band_is_taken_out_and_the_rest_stays() {
        let length = 64;
        let tone = |k: usize| move |t: usize| (std::f32::consts::TAU * (k * t) as f32 / length as f32).sin();
        let mut lost = 0;
        for seed in 0..40 {
            let (low, high) = (tone(3), tone(25));
            let values: Vec<f32> = (0..length).map(|t| 2.0 + low(t) + high(t)).collect();
            let mut w = Window::new(&[values], "w").unwrap();
            mask_frequencies(&mut w, 0.5, &mut Key::new(seed).rng()).unwrap();
            let part = |wave: &dyn Fn(usize) -> f32| {
                2.0 / length as f32 * w.values().iter().enumerate().map(|(t, v)| v * wave(t)).sum::<f32>()
            };
            // A tone is there or it is not; the mean stays.
            for size in [part(&tone(3)), part(&tone(25))] {
                assert!(size.abs() < 1e-4 || (size - 1.0).abs() < 1e-4, "{size}");
                lost += usize::from(size.abs() < 1e-4);
            }
            let mean = w.values().iter().sum::<f32>() / length as f32;
            assert!((mean - 2.0).abs() < 1e-4, "{mean}");
        }
        assert!(lost > 5, "{lost}");
        let mut short = Window::new(&[vec![1.0]], "w").unwrap();
        mask_frequencies(&mut short, 1.0, &mut Key::new(0).rng()).unwrap();
        assert_eq!(short.values(), [1.0]);
    }
}
