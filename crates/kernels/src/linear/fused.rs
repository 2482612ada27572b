//! The linear layer as one node of the graph, on the CPU.

use super::gemm::{Matrix, Shared, matmul};
use crate::activation::slices::{Floats, floats, output, tensor};
use crate::activation::{Act, act_backward, act_forward};
use crate::memory::{copy, unwritten};
use crate::sink::deliver;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Rows of the gradient that one task takes.
const ROWS: usize = 64;

/// `x (M, K)`, `w (O, K)`, `b (O)` to `(M, O)`.
pub(super) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<Tensor> {
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let tracked = x.track_op() || w.track_op() || b.is_some_and(Tensor::track_op);
    let op =
        Linear { act, keep: tracked && matches!(act, Act::GeluErf | Act::GeluTanh), pre: OnceLock::new() };
    match b {
        Some(b) => x.apply_op3(&w, &b.contiguous()?, op),
        None => x.apply_op2(&w, op),
    }
}

struct Linear {
    act: Act,
    /// Whether the backward needs the pre-activation (that of ReLU can do with the sign of the result).
    keep: bool,
    pre: OnceLock<Vec<f32>>,
}

impl Linear {
    fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>, m: usize, k: usize, o: usize) -> Vec<f32> {
        let (a, wt) = (Matrix::rows(x, k), Matrix::rows(w, k).t());
        let add_bias = |from: usize, row: &mut [f32]| {
            if let Some(b) = b {
                for (y, b) in row.iter_mut().zip(&b[from..]) {
                    *y += b;
                }
            }
        };
        let mut y = unwritten(m * o);
        if self.keep {
            let mut z = unwritten(m * o);
            let shared = Shared::blank(&mut y);
            matmul(m, o, k, a, wt, &mut z, |i, from, row| {
                add_bias(from, row);
                // SAFETY: the same part of `y` as `row` is of `z`, which is this call's alone.
                let y = copy(unsafe { shared.blanks(i * o + from, row.len()) }, row);
                act_forward(self.act, y);
            });
            // A node runs forward once.
            // SAFETY: a product writes each element.
            let _ = self.pre.set(unsafe { z.written() });
        } else {
            matmul(m, o, k, a, wt, &mut y, |_, from, row| {
                add_bias(from, row);
                act_forward(self.act, row);
            });
        }
        // SAFETY: a product writes each element, or hands each to the copy above.
        unsafe { y.written() }
    }

    /// Gradients for `x`, `w` and, where there is a bias, for it.
    fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let ((m, k), o) = (x.dims2()?, w.dim(0)?);
        let grad = grad.contiguous()?;
        let (xs, ws, g) = (Floats::new(x)?, Floats::new(w)?, Floats::new(&grad)?);
        let want_bias = b.is_some_and(Tensor::track_op);
        // Gradient of the pre-activation, and sums of its columns over blocks of rows.
        let mut dz = Vec::new();
        let y = Floats::new(y)?;
        let pre: &[f32] = match (self.act, self.pre.get()) {
            (Act::None | Act::Relu, _) => &y,
            (_, Some(z)) => z,
            _ => bail!("linear: backward before forward"),
        };
        if self.act != Act::None {
            let mut d = unwritten(m * o);
            d.par_chunks_mut(ROWS * o.max(1))
                .zip(g.par_chunks(ROWS * o.max(1)))
                .zip(pre.par_chunks(ROWS * o.max(1)))
                .for_each(|((d, g), z)| act_backward(self.act, z, copy(d, g)));
            // SAFETY: the result, its gradient and the pre-activation have one shape, so one number of
            // blocks.
            dz = unsafe { d.written() };
        }
        let dz: &[f32] = if self.act == Act::None { &g } else { &dz };
        let db = want_bias.then(|| tensor(column_sums(dz, o), o)).transpose()?;
        let dx = if x.track_op() {
            let mut dx = unwritten(m * k);
            matmul(m, k, o, Matrix::rows(dz, o), Matrix::rows(&ws, k), &mut dx, |_, _, _| ());
            // SAFETY: a product writes each element.
            Some(tensor(unsafe { dx.written() }, (m, k))?)
        } else {
            None
        };
        let dw = if w.track_op() {
            let mut dw = unwritten(o * k);
            matmul(o, k, m, Matrix::rows(dz, o).t(), Matrix::rows(&xs, k), &mut dw, |_, _, _| ());
            // SAFETY: as above.
            deliver(w, tensor(unsafe { dw.written() }, (o, k))?)?
        } else {
            None
        };
        Ok([dx, dw, db])
    }
}

/// Sums over the rows of `x (M, width)`: of blocks of rows first, then of the blocks in order.
pub(crate) fn column_sums(x: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0f32; width];
    let parts: Vec<Vec<f32>> = x
        .par_chunks(ROWS * width.max(1))
        .map(|block| {
            let mut sums = vec![0f32; width];
            for row in block.chunks_exact(width) {
                for (s, x) in sums.iter_mut().zip(row) {
                    *s += x;
                }
            }
            sums
        })
        .collect();
    for part in parts {
        for (s, x) in sums.iter_mut().zip(&part) {
            *s += x;
        }
    }
    sums
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((m, k), (o, _)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        Ok(output(self.forward(floats(x, xl)?, floats(w, wl)?, None, m, k, o), (m, o)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.backward(x, w, None, y, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((m, k), (o, _)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        Ok(output(self.forward(floats(x, xl)?, floats(w, wl)?, Some(floats(b, bl)?), m, k, o), (m, o)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.backward(x, w, Some(b), y, grad)?;
        Ok((dx, dw, db))
    }
}
