//! Softmax and its logarithm over the last dimension. On the CPU one node of the graph each, which keeps its
//! result only.

use crate::Path;
use crate::activation::math::{exp, lanes, largest};
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, assume_written, unwritten};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

fn check(name: &str, x: &Tensor) -> Result<()> {
    if x.rank() == 0 { bail!("{name}: a scalar, expected (.., C)") } else { Ok(()) }
}

fn centred(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)
}

/// `exp(x) / sum exp(x)` over the last dimension of `x (.., C)`.
///
/// # Errors
/// If `x` is a scalar, or `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn softmax(x: &Tensor, path: Path) -> Result<Tensor> {
    check("softmax", x)?;
    if wants_fused("softmax", path, &[x])? {
        return x.contiguous()?.apply_op1(Softmax { log: false });
    }
    let e = centred(x)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// `x - log sum exp(x)` over the last dimension of `x (.., C)`.
///
/// # Errors
/// If `x` is a scalar, or `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn log_softmax(x: &Tensor, path: Path) -> Result<Tensor> {
    check("log_softmax", x)?;
    if wants_fused("log_softmax", path, &[x])? {
        return x.contiguous()?.apply_op1(Softmax { log: true });
    }
    let c = centred(x)?;
    c.broadcast_sub(&c.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

simd_fn! {
    fn softmax_rows(x: &[f32], width: usize, y: &mut [Blank]) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let top = largest(x);
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(exp(x - top));
            }
            // SAFETY: the row of `x` is as wide.
            let y = unsafe { assume_written(y) };
            let factor = 1.0 / lanes!(|v = y| v);
            for y in y {
                *y *= factor;
            }
        }
    }
}

simd_fn! {
    fn log_softmax_rows(x: &[f32], width: usize, y: &mut [Blank]) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let top = largest(x);
            let log = lanes!(|v = x| exp(v - top)).ln();
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(x - top - log);
            }
        }
    }
}

simd_fn! {
    fn softmax_backward(y: &[f32], g: &[f32], width: usize, d: &mut [Blank]) {
        for ((y, g), d) in y.chunks_exact(width).zip(g.chunks_exact(width)).zip(d.chunks_exact_mut(width)) {
            let dot = lanes!(|y = y, g = g| y * g);
            for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
                d.write(y * (g - dot));
            }
        }
    }
}

simd_fn! {
    fn log_softmax_backward(y: &[f32], g: &[f32], width: usize, d: &mut [Blank]) {
        for ((y, g), d) in y.chunks_exact(width).zip(g.chunks_exact(width)).zip(d.chunks_exact_mut(width)) {
            let sum = lanes!(|g = g| g);
            for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
                d.write(g - exp(y) * sum);
            }
        }
    }
}

struct Softmax {
    log: bool,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log-softmax" } else { "softmax" }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1).max(1);
        let size = width * rows_of(width, CHUNK);
        let mut y = unwritten(x.len());
        for_chunks(&mut y, size, |i, y| {
            let x = &x[i * size..][..y.len()];
            if self.log { log_softmax_rows(x, width, y) } else { softmax_rows(x, width, y) }
        });
        // SAFETY: chunks are whole rows, each of which is written.
        Ok(output(unsafe { y.written() }, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        let (ys, gs) = (Floats::new(y)?, Floats::new(&g)?);
        let (ys, gs): (&[f32], &[f32]) = (&ys, &gs);
        let width = x.dim(D::Minus1)?.max(1);
        let size = width * rows_of(width, CHUNK);
        let mut d = unwritten(ys.len());
        for_chunks(&mut d, size, |i, d| {
            let at = i * size..i * size + d.len();
            let (y, g) = (&ys[at.clone()], &gs[at]);
            if self.log { log_softmax_backward(y, g, width, d) } else { softmax_backward(y, g, width, d) }
        });
        // SAFETY: as above.
        Ok(Some(tensor(unsafe { d.written() }, x.shape())?))
    }
}

#[cfg(test)]
mod tests;
