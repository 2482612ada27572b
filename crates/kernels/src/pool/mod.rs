//! Pooling over space.

use crate::Path;
use candle_core::{Result, Tensor, bail};

/// Slices `(N, O.., C)` of a padded `x (N, S.., C)`, one for each place in the kernel, in row-major order.
fn taps(x: &Tensor, kernel: &[usize], stride: &[usize], padding: &[usize], fill: f64) -> Result<Vec<Tensor>> {
    let axes = kernel.len();
    if x.rank() != axes + 2 || stride.len() != axes || padding.len() != axes || stride.contains(&0) || kernel.contains(&0) {
        bail!("pooling: input {:?}, kernel {kernel:?}, stride {stride:?}, padding {padding:?} do not fit together", x.dims())
    }
    let mut parts = vec![x.clone()];
    for a in 0..axes {
        let mut next = Vec::new();
        for part in parts {
            let mut shape = part.dims().to_vec();
            let size = shape[a + 1] + 2 * padding[a];
            if size < kernel[a] {
                bail!("pooling: kernel {kernel:?} is larger than the padded input {:?}", x.dims())
            }
            let out = (size - kernel[a]) / stride[a] + 1;
            // Enough fill behind that every tap can be cut to whole strides.
            let need = (out - 1) * stride[a] + kernel[a] + stride[a];
            shape[a + 1] = padding[a];
            let front = Tensor::full(fill as f32, shape.clone(), x.device())?.to_dtype(x.dtype())?;
            shape[a + 1] = need.saturating_sub(padding[a] + part.dim(a + 1)?);
            let back = Tensor::full(fill as f32, shape, x.device())?.to_dtype(x.dtype())?;
            let whole: Vec<&Tensor> = [&front, &part, &back].into_iter().filter(|t| t.dim(a + 1).is_ok_and(|d| d > 0)).collect();
            let padded = Tensor::cat(&whole, a + 1)?;
            for k in 0..kernel[a] {
                let run = padded.narrow(a + 1, k, out * stride[a])?;
                let mut split = run.dims().to_vec();
                split[a + 1] = out;
                split.insert(a + 2, stride[a]);
                next.push(run.contiguous()?.reshape(split)?.narrow(a + 2, 0, 1)?.squeeze(a + 2)?);
            }
        }
        parts = next;
    }
    Ok(parts)
}

/// Largest value of each window; the first of equal ones gets the gradient. `x (N, S.., C)`.
///
/// # Errors
/// If shapes do not fit.
pub fn max_pool(x: &Tensor, kernel: &[usize], stride: &[usize], padding: &[usize], _path: Path) -> Result<Tensor> {
    let taps = taps(x, kernel, stride, padding, f64::from(f32::MIN))?;
    let mut best = taps[0].clone();
    for tap in &taps[1..] {
        let wins = tap.detach().gt(&best.detach())?;
        best = wins.where_cond(tap, &best)?;
    }
    Ok(best)
}

/// Mean of each window, padding counted as zeros. `x (N, S.., C)`.
///
/// # Errors
/// If shapes do not fit.
pub fn avg_pool(x: &Tensor, kernel: &[usize], stride: &[usize], padding: &[usize], _path: Path) -> Result<Tensor> {
    let taps = taps(x, kernel, stride, padding, 0.0)?;
    let mut sum = taps[0].clone();
    for tap in &taps[1..] {
        sum = (sum + tap)?;
    }
    sum / taps.len() as f64
}

/// Mean over space: `(N, S.., C)` to `(N, C)`.
///
/// # Errors
/// If shapes do not fit.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (n, c) = (x.dim(0)?, x.dim(x.rank() - 1)?);
    x.reshape((n, (), c))?.mean(1)
}
