//! The squared error of removed patches (MAE). On the CPU one node of the graph: a patch that was not removed
//! is neither read nor normalised, and its gradient is a plain zero. With 75% of 196 patches of 768 values
//! removed, the composition would keep five tensors of the size of the prediction; this keeps two numbers per
//! patch.

use crate::Path;
use crate::activation::math::lanes;
use crate::activation::slices::{CHUNK, Floats, floats, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, fill, unwritten};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Added to the variance of a patch before its root.
const EPS: f64 = 1e-6;

/// `sum_l m_l mean_p (pred_lp - target_lp)^2 / sum_l m_l` (He et al. 2021, arXiv 2111.06377).
///
/// `pred` and `target` are `(N, L, P)`, `mask` is `(N, L)` of their type with entries of at least 0; target
/// and mask get no gradient. With `normalize` each target patch is first standardised by its own mean and
/// `sqrt(unbiased variance + 1e-6)`, for which P must be at least 2.
///
/// # Errors
/// If shapes do not fit, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn masked_pixels(
    pred: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    normalize: bool,
    path: Path,
) -> Result<Tensor> {
    let (n, l, p) = pred.dims3()?;
    if target.dims() != pred.dims() || mask.dims() != [n, l] || p < 1 + usize::from(normalize) {
        bail!(
            "masked_pixels: prediction {:?}, target {:?} and mask {:?}, expected (N, L, P) twice and (N, L)",
            pred.dims(),
            target.dims(),
            mask.dims()
        )
    }
    let (target, mask) = (target.detach(), mask.detach());
    if wants_fused("masked_pixels", path, &[pred, &target, &mask])? {
        let op = MaskedPixels {
            target: target.contiguous()?,
            mask: mask.contiguous()?,
            normalize,
            saved: OnceLock::new(),
        };
        return pred.contiguous()?.apply_op1(op);
    }
    let target = if normalize {
        let centred = target.broadcast_sub(&target.mean_keepdim(D::Minus1)?)?;
        let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (p as f64 - 1.0))?;
        centred.broadcast_div(&(variance + EPS)?.sqrt()?)?
    } else {
        target
    };
    let per_patch = ((pred - target)?.sqr()?.sum(D::Minus1)? / p as f64)?; // (N, L)
    (per_patch * &mask)?.sum_all()? / mask.sum_all()?
}

struct MaskedPixels {
    target: Tensor,
    mask: Tensor,
    normalize: bool,
    /// Per patch: mean and 1 / deviation of the target; 0 and 1 without normalisation.
    saved: OnceLock<Vec<[f32; 2]>>,
}

simd_fn! {
    /// Mean and 1 / deviation of a patch.
    fn statistics(t: &[f32]) -> [f32; 2] {
        let mean = lanes!(|t = t| t) / t.len() as f32;
        let variance = lanes!(|t = t| (t - mean) * (t - mean)) / (t.len() - 1) as f32;
        [mean, 1.0 / (variance + EPS as f32).sqrt()]
    }
}

simd_fn! {
    /// `sum (x - (t - mean) scale)^2`
    fn squares(x: &[f32], t: &[f32], mean: f32, scale: f32) -> f32 {
        lanes!(|x = x, t = t| {
            let d = x - (t - mean) * scale;
            d * d
        })
    }
}

simd_fn! {
    /// `g (x - (t - mean) scale)`
    fn gradient(x: &[f32], t: &[f32], mean: f32, scale: f32, g: f32, d: &mut [Blank]) {
        for ((d, &x), &t) in d.iter_mut().zip(x).zip(t) {
            d.write(g * (x - (t - mean) * scale));
        }
    }
}

/// Sum of the mask, in f64 and in order: at most a few million entries.
fn total(mask: &[f32]) -> f64 {
    mask.iter().map(|&m| f64::from(m)).sum()
}

impl CustomOp1 for MaskedPixels {
    fn name(&self) -> &'static str {
        "masked-pixels"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, patches, p) = l.shape().dims3()?;
        let (x, t, m) = (floats(s, l)?, Floats::new(&self.target)?, Floats::new(&self.mask)?);
        let (t, m): (&[f32], &[f32]) = (&t, &m);
        let per = rows_of(p, CHUNK);
        let mut saved = vec![[0.0, 1.0]; n * patches];
        // One partial sum per task, added in order below.
        let parts: Vec<f64> = saved
            .par_chunks_mut(per)
            .zip(m.par_chunks(per))
            .zip(x.par_chunks(per * p).zip(t.par_chunks(per * p)))
            .map(|((saved, m), (x, t))| {
                let mut sum = 0f64;
                let rows = saved.iter_mut().zip(m).zip(x.chunks_exact(p).zip(t.chunks_exact(p)));
                for ((saved, &m), (x, t)) in rows.filter(|((_, m), _)| **m != 0.0) {
                    if self.normalize {
                        *saved = statistics(t);
                    }
                    sum += f64::from(m) * f64::from(squares(x, t, saved[0], saved[1]));
                }
                sum
            })
            .collect();
        let loss = parts.iter().sum::<f64>() / (total(m) * p as f64);
        // A node runs forward once; a second run (same input) would save the same numbers.
        let _ = self.saved.set(saved);
        Ok(output(vec![loss as f32], ()))
    }

    /// `d/dpred_lp = 2 m_l (pred_lp - t_lp) g / (P sum m)`
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("masked-pixels: backward before forward") };
        let (_, _, p) = arg.dims3()?;
        let (x, t, m) = (Floats::new(arg)?, Floats::new(&self.target)?, Floats::new(&self.mask)?);
        let (x, t, m): (&[f32], &[f32], &[f32]) = (&x, &t, &m);
        let scale = 2.0 * f64::from(grad.to_scalar::<f32>()?) / (total(m) * p as f64);
        let mut d = unwritten(x.len());
        let rows = d.par_chunks_exact_mut(p).with_min_len(rows_of(p, CHUNK));
        rows.zip(x.par_chunks_exact(p).zip(t.par_chunks_exact(p))).zip(m.par_iter().zip(saved)).for_each(
            |((d, (x, t)), (&m, &[mean, inverse]))| {
                if m == 0.0 {
                    fill(d, 0.0);
                } else {
                    gradient(x, t, mean, inverse, (scale * f64::from(m)) as f32, d);
                }
            },
        );
        // SAFETY: prediction, target and mask have a patch for each of `d`.
        Ok(Some(tensor(unsafe { d.written() }, arg.shape())?))
    }
}
