//! Resizing over space: a sparse linear map for each axis in turn, so that the gradient is the transposed
//! maps in reverse order.

pub(crate) mod separable;

use crate::Path;
use candle_core::{Result, Tensor, bail};
use separable::{Taps, separable};

/// How values between samples are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resize {
    /// The sample at `floor(i * old / new)` (PyTorch's `nearest`).
    Nearest,
    /// Linear in each axis, corners not aligned (PyTorch's `linear`, `bilinear`, `trilinear`).
    Linear,
    /// Keys' cubic with a = -0.75 (Keys 1981), corners not aligned, borders repeated, not antialiased
    /// (PyTorch's `bicubic`).
    Bicubic,
    /// Keys' cubic with a = -0.5, corners not aligned, widened by the factor of reduction, its weights
    /// normalised over the samples inside (PyTorch's and Pillow's `bicubic` with antialiasing).
    BicubicAntialias,
}

/// Keys' cubic kernel at the distance `x` (Keys 1981).
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// The samples and weights of each output along one axis.
fn taps(old: usize, new: usize, mode: Resize) -> Taps {
    let scale = old as f64 / new as f64;
    let inside = |i: i64| i.clamp(0, old as i64 - 1) as usize;
    Taps::new(old, new, |o| match mode {
        // PyTorch multiplies in single precision, which decides which sample wins at a boundary.
        Resize::Nearest => vec![(inside((o as f32 * (old as f32 / new as f32)).floor() as i64), 1.0)],
        Resize::Linear => {
            let s = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
            let (i, t) = (s.floor() as i64, (s - s.floor()) as f32);
            vec![(inside(i), 1.0 - t), (inside(i + 1), t)]
        }
        Resize::Bicubic => {
            let s = (o as f64 + 0.5) * scale - 0.5;
            let (i, t) = (s.floor() as i64, s - s.floor());
            let weights = [1.0 + t, t, 1.0 - t, 2.0 - t].map(|x| cubic(x, -0.75));
            weights.iter().enumerate().map(|(k, &w)| (inside(i + k as i64 - 1), w as f32)).collect()
        }
        Resize::BicubicAntialias => {
            let (wide, centre) = (scale.max(1.0), (o as f64 + 0.5) * scale);
            let edge = |x: f64| ((x + 0.5).floor().max(0.0) as usize).min(old);
            let (first, end) = (edge(centre - 2.0 * wide), edge(centre + 2.0 * wide));
            let weight = |i: usize| cubic((i as f64 - centre + 0.5) / wide, -0.5);
            let total: f64 = (first..end).map(weight).sum();
            (first..end).map(|i| (i, (weight(i) / total) as f32)).collect()
        }
    })
}

/// `x (N, S.., C)` to `(N, size.., C)`, one size for each spatial axis.
///
/// # Errors
/// If `size` has not one entry for each spatial axis, a size or a dimension of `x` is 0, or `path` asks for
/// the fused kernel and `x` is not f32 on the CPU.
pub fn resize(x: &Tensor, size: &[usize], mode: Resize, path: Path) -> Result<Tensor> {
    if x.rank() != size.len() + 2 || size.contains(&0) || x.dims().contains(&0) {
        bail!(
            "resize: input {:?} to {size:?}, expected (N, S.., C) without empty dimensions, and one size above 0 for each spatial axis",
            x.dims()
        )
    }
    let maps = size
        .iter()
        .zip(&x.dims()[1..])
        .map(|(&new, &old)| (new != old).then(|| taps(old, new, mode)))
        .collect();
    separable("resize", x, maps, path)
}

#[cfg(test)]
mod tests;
