//! Weight normalisation: direction and length of a weight as separate parameters (Salimans and Kingma 2016,
//! arXiv 1602.07868).

use crate::Path;
use crate::activation::math::lanes;
use crate::activation::slices::{Floats, floats, for_chunks, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// `w = g v / ||v||`. The norm is taken over all dimensions of `v` but `dim`, and `g` has the size of that
/// dimension, 1 in the others if it has them. Where `v` is zero, so are `w` and the gradients.
///
/// # Errors
/// If shapes do not fit, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn weight_norm(v: &Tensor, g: &Tensor, dim: usize, path: Path) -> Result<Tensor> {
    if dim >= v.rank() {
        bail!("weight_norm: dimension {dim} of a weight of shape {:?}", v.dims())
    }
    let mut kept = vec![1; v.rank()];
    kept[dim] = v.dim(dim)?;
    if g.dims() != kept && g.dims() != [kept[dim]] {
        bail!(
            "weight_norm: gain of shape {:?} for a weight of shape {:?}, expected {kept:?}",
            g.dims(),
            v.dims()
        )
    }
    let g = g.reshape(kept)?;
    if wants_fused("weight_norm", path, &[v, &g])? {
        return v.contiguous()?.apply_op2(&g.contiguous()?, WeightNorm { dim, lengths: OnceLock::new() });
    }
    let mut square = v.sqr()?;
    for d in (0..v.rank()).filter(|&d| d != dim) {
        square = square.sum_keepdim(d)?;
    }
    // The derivative of the root at 0 is infinite.
    let zero = square.detach().le(0.0)?;
    let length = zero.where_cond(&square.ones_like()?, &square)?.sqrt()?;
    v.broadcast_mul(&zero.where_cond(&g.zeros_like()?, &g.broadcast_div(&length)?)?)
}

/// `v` as `(before, size, after)` around the kept dimension.
#[derive(Clone, Copy)]
struct View {
    size: usize,
    after: usize,
    /// Rows `(size, after)` of a task.
    rows: usize,
}

impl View {
    fn new(dims: &[usize], dim: usize) -> Self {
        let (size, after) = (dims[dim].max(1), dims[dim + 1..].iter().product::<usize>().max(1));
        View { size, after, rows: rows_of(size * after, 1 << 15) }
    }

    fn chunk(&self) -> usize {
        self.rows * self.size * self.after
    }
}

simd_fn! {
    /// Adds the sums of `a b` over all but the kept dimension.
    fn add_products(a: &[f32], b: &[f32], view: View, sum: &mut [f32]) {
        let View { size, after, .. } = view;
        for (a, b) in a.chunks_exact(size * after).zip(b.chunks_exact(size * after)) {
            if after == 1 {
                for ((s, &a), &b) in sum.iter_mut().zip(a).zip(b) {
                    *s += a * b;
                }
            } else {
                for ((s, a), b) in sum.iter_mut().zip(a.chunks_exact(after)).zip(b.chunks_exact(after)) {
                    *s += lanes!(|a = a, b = b| a * b);
                }
            }
        }
    }
}

simd_fn! {
    /// `scale a - shift b`, both coefficients given for the kept dimension.
    fn combine(a: &[f32], b: &[f32], scale: &[f32], shift: &[f32], view: View, out: &mut [Blank]) {
        let View { size, after, .. } = view;
        for ((a, b), out) in a.chunks_exact(size * after).zip(b.chunks_exact(size * after)).zip(out.chunks_exact_mut(size * after)) {
            if after == 1 {
                for ((((o, &a), &b), &s), &t) in out.iter_mut().zip(a).zip(b).zip(scale).zip(shift) {
                    o.write(s * a - t * b);
                }
            } else {
                let rows = a.chunks_exact(after).zip(b.chunks_exact(after)).zip(out.chunks_exact_mut(after));
                for (((a, b), out), (&s, &t)) in rows.zip(scale.iter().zip(shift)) {
                    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                        o.write(s * a - t * b);
                    }
                }
            }
        }
    }
}

fn sum_products(a: &[f32], b: &[f32], view: View) -> Vec<f64> {
    let parts: Vec<Vec<f32>> = a
        .par_chunks(view.chunk())
        .zip(b.par_chunks(view.chunk()))
        .map(|(a, b)| {
            let mut sum = vec![0.0; view.size];
            add_products(a, b, view, &mut sum);
            sum
        })
        .collect();
    let mut sum = vec![0.0; view.size];
    for part in &parts {
        for (s, &p) in sum.iter_mut().zip(part) {
            *s += f64::from(p);
        }
    }
    sum
}

fn combined(a: &[f32], b: &[f32], scale: &[f32], shift: &[f32], view: View) -> Vec<f32> {
    let mut out = unwritten(a.len());
    for_chunks(&mut out, view.chunk(), |i, out| {
        let at = i * view.chunk()..i * view.chunk() + out.len();
        combine(&a[at.clone()], &b[at], scale, shift, view, out);
    });
    // SAFETY: chunks are whole rows `(size, after)`, each of which is written: there is a coefficient for
    // each of the kept dimension.
    unsafe { out.written() }
}

struct WeightNorm {
    dim: usize,
    lengths: OnceLock<Vec<f64>>,
}

impl CustomOp2 for WeightNorm {
    fn name(&self) -> &'static str {
        "weight-norm"
    }

    fn cpu_fwd(
        &self,
        sv: &CpuStorage,
        lv: &Layout,
        sg: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (v, g) = (floats(sv, lv)?, floats(sg, lg)?);
        let view = View::new(lv.dims(), self.dim);
        let lengths: Vec<f64> = sum_products(v, v, view).into_iter().map(f64::sqrt).collect();
        let scale: Vec<f32> = g
            .iter()
            .zip(&lengths)
            .map(|(&g, &l)| if l == 0.0 { 0.0 } else { (f64::from(g) / l) as f32 })
            .collect();
        let _ = self.lengths.set(lengths);
        Ok(output(combined(v, v, &scale, &vec![0.0; scale.len()], view), lv.shape()))
    }

    fn bwd(
        &self,
        v: &Tensor,
        g: &Tensor,
        _w: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(lengths) = self.lengths.get() else { bail!("weight-norm: backward without a forward") };
        let grad = grad.contiguous()?;
        let (vs, gs, us) = (Floats::new(v)?, Floats::new(g)?, Floats::new(&grad)?);
        let view = View::new(v.dims(), self.dim);
        let dots = sum_products(&us, &vs, view);
        // dw/dg = v / l, and dw/dv = g / l (1 - v v^T / l^2).
        let over = |a: f64, l: f64| if l == 0.0 { 0.0 } else { a / l };
        let dg = if g.track_op() {
            let values = dots.iter().zip(lengths).take(gs.len()).map(|(&s, &l)| over(s, l) as f32).collect();
            Some(tensor(values, g.shape())?)
        } else {
            None
        };
        let dv = if v.track_op() {
            let scale: Vec<f32> =
                gs.iter().zip(lengths).map(|(&g, &l)| over(f64::from(g), l) as f32).collect();
            let shift: Vec<f32> = gs
                .iter()
                .zip(lengths)
                .zip(&dots)
                .map(|((&g, &l), &s)| over(over(over(f64::from(g), l), l) * s, l) as f32)
                .collect();
            Some(tensor(combined(&us, &vs, &scale, &shift, view), v.shape())?)
        } else {
            None
        };
        Ok((dv, dg))
    }
}

#[cfg(test)]
mod tests;
