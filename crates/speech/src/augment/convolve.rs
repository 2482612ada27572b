//! Convolution with a long filter, by blocks in the frequency domain (overlap-add).

use realfft::RealFftPlanner;
use selfsup_core::{Error, Result};

/// The full convolution, of `wave.len() + filter.len() - 1` samples; empty if either is.
///
/// # Errors
/// Never for finite lengths; the Fourier transform's own errors are passed on.
pub fn convolve(wave: &[f32], filter: &[f32]) -> Result<Vec<f32>> {
    if wave.is_empty() || filter.is_empty() {
        return Ok(Vec::new());
    }
    // Twice the filter: half of each block's work is new output.
    let size =
        (2 * filter.len()).next_power_of_two().clamp(256, 1 << 20).max(filter.len().next_power_of_two() * 2);
    let block = size - filter.len() + 1;
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, inverse) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
    let fail = |e: &dyn std::fmt::Display| Error::Other(format!("convolution: {e}"));
    let mut padded = vec![0f32; size];
    padded[..filter.len()].copy_from_slice(filter);
    let mut response = forward.make_output_vec();
    forward.process(&mut padded, &mut response).map_err(|e| fail(&e))?;
    let scale = 1.0 / size as f32;
    response.iter_mut().for_each(|c| *c *= scale);
    let mut spectrum = forward.make_output_vec();
    let mut out = vec![0f32; wave.len() + filter.len() - 1];
    for (i, part) in wave.chunks(block).enumerate() {
        padded[..part.len()].copy_from_slice(part);
        padded[part.len()..].fill(0.0);
        forward.process(&mut padded, &mut spectrum).map_err(|e| fail(&e))?;
        spectrum.iter_mut().zip(&response).for_each(|(s, r)| *s *= r);
        inverse.process(&mut spectrum, &mut padded).map_err(|e| fail(&e))?;
        let first = i * block;
        let len = (part.len() + filter.len() - 1).min(out.len() - first);
        out[first..first + len].iter_mut().zip(&padded).for_each(|(o, v)| *o += v);
    }
    Ok(out)
}
