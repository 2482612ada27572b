//! Resizing over space: one small matrix per axis, so the gradient is its transpose.

use crate::Path;
use candle_core::{Result, Tensor, bail};

/// How values between samples are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The nearest sample (PyTorch's `nearest`).
    Nearest,
    /// Linear in each axis, corners not aligned.
    Linear,
    /// Keys' cubic with a = -0.75, corners not aligned, not antialiased.
    Bicubic,
}

fn weights(old: usize, new: usize, mode: Resize) -> Vec<f32> {
    let mut m = vec![0f32; new * old];
    let scale = old as f64 / new as f64;
    let clamp = |i: i64| i.clamp(0, old as i64 - 1) as usize;
    for o in 0..new {
        let row = &mut m[o * old..(o + 1) * old];
        match mode {
            Resize::Nearest => row[clamp((o as f64 * scale).floor() as i64)] = 1.0,
            Resize::Linear => {
                let s = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
                let (i, t) = (s.floor() as i64, (s - s.floor()) as f32);
                row[clamp(i)] += 1.0 - t;
                row[clamp(i + 1)] += t;
            }
            Resize::Bicubic => {
                let s = (o as f64 + 0.5) * scale - 0.5;
                let (i, t) = (s.floor() as i64, s - s.floor());
                let a = -0.75;
                let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
                let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
                for (k, w) in [(-1, far(1.0 + t)), (0, near(t)), (1, near(1.0 - t)), (2, far(2.0 - t))] {
                    row[clamp(i + k)] += w as f32;
                }
            }
        }
    }
    m
}

/// `x (N, S.., C)` to `(N, size.., C)`.
///
/// # Errors
/// If `size` has not one entry for each spatial axis, or a size is 0.
pub fn resize(x: &Tensor, size: &[usize], mode: Resize, _path: Path) -> Result<Tensor> {
    if x.rank() != size.len() + 2 || size.contains(&0) || x.elem_count() == 0 {
        bail!("resize: input {:?} to {size:?}: expected one size above 0 for each spatial axis", x.dims())
    }
    let mut y = x.clone();
    for (a, &new) in size.iter().enumerate() {
        let dims = y.dims().to_vec();
        let old = dims[a + 1];
        let before: usize = dims[..=a].iter().product();
        let after: usize = dims[a + 2..].iter().product();
        let m = Tensor::from_vec(weights(old, new, mode), (new, old), x.device())?.to_dtype(x.dtype())?;
        let mut shape = dims;
        shape[a + 1] = new;
        y = m.broadcast_matmul(&y.contiguous()?.reshape((before, old, after))?)?.reshape(shape)?;
    }
    Ok(y)
}
