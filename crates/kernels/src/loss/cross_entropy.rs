//! Cross entropy of logits against class indices: `-sum_c y_c log softmax(x)_c` with `y = (1 - e) onehot + e
//! / C` for label smoothing `e` (Szegedy et al. 2015, arXiv 1512.00567).
//!
//! One node of the graph on the CPU: a row's log-sum-exp is all that is kept, so vocabulary-sized logits are
//! stored once.

use crate::Path;
use crate::activation::math::{exp, lanes, largest};
use crate::activation::slices::{CHUNK, Floats, floats, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, assume_written, fill, unwritten};
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Targets that do not count.
const IGNORE: i64 = -100;

/// Mean over the counted rows: `logits (M, C)`, `targets (M)` of class indices (i64 or u32), where -100 is
/// not counted, to a scalar.
///
/// # Errors
/// If the shapes do not fit, `label_smoothing` is not in `[0, 1]`, or, for targets on the CPU, if a target is
/// neither a class nor -100 or no row counts. On other devices nothing is copied to the host to look: no
/// counted row gives NaN.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, label_smoothing: f64, path: Path) -> Result<Tensor> {
    loss(logits, targets, label_smoothing, true, path)
}

/// As [`cross_entropy`], but the sum over the counted rows (0 if there is none).
///
/// # Errors
/// If the shapes do not fit, `label_smoothing` is not in `[0, 1]`, or, for targets on the CPU, if a target is
/// neither a class nor -100.
pub fn cross_entropy_sum(
    logits: &Tensor,
    targets: &Tensor,
    label_smoothing: f64,
    path: Path,
) -> Result<Tensor> {
    loss(logits, targets, label_smoothing, false, path)
}

fn loss(logits: &Tensor, targets: &Tensor, smoothing: f64, mean: bool, path: Path) -> Result<Tensor> {
    let &[m, c] = logits.dims() else {
        bail!("cross_entropy: logits of shape {:?}, expected (rows, classes)", logits.dims())
    };
    if targets.dims() != [m] || !matches!(targets.dtype(), DType::I64 | DType::U32) {
        bail!(
            "cross_entropy: targets {:?} of {:?}, expected ({m}) of i64 or u32",
            targets.dims(),
            targets.dtype()
        )
    }
    if c == 0 || !(0.0..=1.0).contains(&smoothing) {
        bail!(
            "cross_entropy: {c} classes, label smoothing {smoothing}, expected at least one class and a share in [0, 1]"
        )
    }
    let mut classes = Vec::new();
    if targets.device().is_cpu() {
        classes = targets.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        if let Some((row, target)) =
            classes.iter().enumerate().find(|(_, t)| **t != IGNORE && !(0..c as i64).contains(*t))
        {
            bail!("cross_entropy: row {row} has target {target}, expected a class in 0..{c} or {IGNORE}")
        }
        if mean && classes.iter().all(|t| *t == IGNORE) {
            bail!(
                "cross_entropy: none of the {m} rows counts, expected at least one target other than {IGNORE}"
            )
        }
    }
    if wants_fused("cross_entropy", path, &[logits])? && classes.len() == m {
        let count = classes.iter().filter(|t| **t != IGNORE).count();
        let factor = if mean { 1.0 / count as f32 } else { 1.0 };
        return logits.contiguous()?.apply_op1(CrossEntropy {
            classes,
            smoothing: smoothing as f32,
            factor,
            log_sums: OnceLock::new(),
        });
    }
    composed(logits, &targets.to_dtype(DType::I64)?, smoothing, mean)
}

struct CrossEntropy {
    classes: Vec<i64>,
    smoothing: f32,
    /// Of the sum over rows: 1, or 1 / rows for the mean.
    factor: f32,
    /// Logarithm of each row's sum of exponentials.
    log_sums: OnceLock<Vec<f32>>,
}

simd_fn! {
    /// Logarithm of the sum of exponentials, and the plain sum.
    fn log_sum(x: &[f32]) -> (f32, f32) {
        let max = largest(x);
        let sum = lanes!(|v = x| exp(v - max));
        (max + sum.ln(), lanes!(|v = x| v))
    }
}

simd_fn! {
    /// `factor (softmax(x) - share)`
    fn gradient(x: &[f32], log_sum: f32, share: f32, factor: f32, dx: &mut [Blank]) {
        for (d, x) in dx.iter_mut().zip(x) {
            d.write(factor * (exp(x - log_sum) - share));
        }
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, c) = l.shape().dims2()?;
        let x = floats(s, l)?;
        let rows: Vec<(f32, f32)> = x
            .par_chunks_exact(c)
            .with_min_len((CHUNK / c).max(1))
            .zip(&self.classes)
            .map(|(x, &class)| {
                let (log_sum, sum) = match usize::try_from(class) {
                    Ok(_) => log_sum(x),
                    Err(_) => return (0.0, 0.0),
                };
                let picked = x[class as usize];
                // log_sum - (1 - e) x_class - e mean(x), with the differences taken first: they are of the
                // size of the loss.
                let smooth =
                    if self.smoothing > 0.0 { self.smoothing * (picked - sum / c as f32) } else { 0.0 };
                (log_sum, (log_sum - picked) + smooth)
            })
            .collect();
        let total: f64 = rows.iter().map(|r| f64::from(r.1)).sum();
        // A node runs forward once.
        let _ = self.log_sums.set(rows.into_iter().map(|r| r.0).collect());
        Ok((CpuStorage::F32(vec![(total * f64::from(self.factor)) as f32]), Shape::from(())))
    }

    /// `softmax(x) - (1 - e) onehot - e / C` of the counted rows.
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(log_sums) = self.log_sums.get() else { bail!("cross_entropy: backward before forward") };
        let (m, c) = arg.dims2()?;
        let factor = grad.to_scalar::<f32>()? * self.factor;
        let x = Floats::new(arg)?;
        let mut dx = unwritten(m * c);
        let rows = dx.par_chunks_exact_mut(c).with_min_len((CHUNK / c).max(1)).zip(x.par_chunks_exact(c));
        rows.zip(self.classes.par_iter().zip(log_sums)).for_each(|((dx, x), (&class, &log_sum))| {
            if let Ok(class) = usize::try_from(class) {
                gradient(x, log_sum, self.smoothing / c as f32, factor, dx);
                // SAFETY: the row of `x` is as wide, so all of `dx` is written.
                let dx = unsafe { assume_written(dx) };
                dx[class] -= factor * (1.0 - self.smoothing);
            } else {
                fill(dx, 0.0);
            }
        });
        // SAFETY: there is a class and a sum for each row.
        Ok(Some(tensor(unsafe { dx.written() }, (m, c))?))
    }
}

fn composed(logits: &Tensor, targets: &Tensor, smoothing: f64, mean: bool) -> Result<Tensor> {
    let x = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let log_sum = x.exp()?.sum_keepdim(1)?.log()?;
    let classes = targets.maximum(0i64)?.unsqueeze(1)?.contiguous()?;
    let counted = targets.ne(IGNORE)?.to_dtype(logits.dtype())?;
    // -log p_c = log_sum - x_c, and with smoothing a share of it is the mean over all classes.
    let rows = (&log_sum - (x.gather(&classes, 1)? * (1.0 - smoothing))?)?;
    let rows = if smoothing > 0.0 {
        (rows - (x.sum_keepdim(1)? * (smoothing / logits.dim(D::Minus1)? as f64))?)?
    } else {
        rows
    };
    let sum = (rows.squeeze(1)? * &counted)?.sum_all()?;
    if mean { sum / counted.sum_all()? } else { Ok(sum) }
}
