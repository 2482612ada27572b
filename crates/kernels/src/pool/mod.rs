//! Pooling over the spatial axes of `(N, S.., C)`: largest value, mean of windows, mean of all.
//!
//! Windows are `kernel` wide, start every `stride` and reach `padding` beyond both ends; an axis of `S` has
//! `(S + 2 padding - kernel) / stride + 1` of them, rounded down, as in PyTorch.

mod axis;
mod global;
mod max;

pub use global::global_avg_pool;

use crate::Path;
use crate::activation::slices::wants_fused;
use crate::resize::separable::{Taps, separable};
use axis::Axis;
use candle_core::{Result, Tensor, bail};
use max::MaxPool;

fn axes(name: &str, x: &Tensor, kernel: &[usize], stride: &[usize], padding: &[usize]) -> Result<Vec<Axis>> {
    let rank = kernel.len();
    if !(1..=3).contains(&rank) || x.rank() != rank + 2 || stride.len() != rank || padding.len() != rank {
        bail!(
            "{name}: input {:?}, kernel {kernel:?}, stride {stride:?}, padding {padding:?}, expected (N, S.., C) and one entry for each of one to three spatial axes",
            x.dims()
        )
    }
    if x.dims().contains(&0) {
        bail!("{name}: input {:?} has no elements", x.dims())
    }
    let axis = |a: usize| -> Result<Axis> {
        let (size, k, s, p) = (x.dims()[a + 1], kernel[a], stride[a], padding[a]);
        if k == 0 || s == 0 || p > k / 2 {
            bail!(
                "{name}: kernel {k}, stride {s}, padding {p}, expected a kernel and a stride above 0 and a padding of at most half the kernel"
            )
        }
        if size + 2 * p < k {
            bail!(
                "{name}: kernel {k} is larger than axis {} of the input {:?} with padding {p}",
                a + 1,
                x.dims()
            )
        }
        Ok(Axis { size, windows: (size + 2 * p - k) / s + 1, kernel: k, stride: s, padding: p })
    };
    (0..rank).map(axis).collect()
}

/// Largest value of each window of `x (N, S.., C)`, to `(N, S'.., C)`; the first of equal ones gets the
/// gradient, as in PyTorch. NaN is largest.
///
/// # Errors
/// If shapes do not fit, the padding is more than half the kernel, or `path` asks for the fused kernel and
/// `x` is not f32 on the CPU.
pub fn max_pool(
    x: &Tensor,
    kernel: &[usize],
    stride: &[usize],
    padding: &[usize],
    path: Path,
) -> Result<Tensor> {
    let axes = axes("max_pool", x, kernel, stride, padding)?;
    if axes.iter().map(|a| a.size).product::<usize>() > u32::MAX as usize {
        bail!("max_pool: input {:?} has more positions in a sample than 32 bits can number", x.dims())
    }
    if wants_fused("max_pool", path, &[x])? {
        return x.contiguous()?.apply_op1(MaxPool::new(&axes, x.track_op()));
    }
    max::composed(x, &axes)
}

/// Mean of each window of `x (N, S.., C)`, to `(N, S'.., C)`; padding counts as zeros.
///
/// # Errors
/// If shapes do not fit, the padding is more than half the kernel, or `path` asks for the fused kernel and
/// `x` is not f32 on the CPU.
pub fn avg_pool(
    x: &Tensor,
    kernel: &[usize],
    stride: &[usize],
    padding: &[usize],
    path: Path,
) -> Result<Tensor> {
    let axes = axes("avg_pool", x, kernel, stride, padding)?;
    // The mean over a box is the mean over each of its sides in turn.
    let map = |a: &Axis| {
        let weight = 1.0 / a.kernel as f32;
        (a.kernel > 1 || a.stride > 1)
            .then(|| Taps::new(a.size, a.windows, |o| a.window(o).map(|i| (i, weight)).collect()))
    };
    separable("avg_pool", x, axes.iter().map(map).collect(), path)
}

#[cfg(test)]
mod tests;
