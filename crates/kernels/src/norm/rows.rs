//! Normalisation of rows: layer norm, RMS norm and Euclidean length over the last dimension.
//!
//! With `h = (x - mean) / sqrt(var + eps)`, `y = h w + b` and `u = g w` for the gradient `g` of `y`, the
//! gradient of a row of `C` elements is `(u - mean(u) - h mean(u h)) / sqrt(var + eps)`; without centring
//! (RMS) the term `mean(u)` is absent. The sums over rows for `w` and `b` are taken in blocks that depend on
//! the shape alone, and added in their order.

use crate::activation::math::lanes;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, rows_of, tensor};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

simd_fn! {
    /// `stats`: mean and `1 / sqrt(var + eps)` of each row. `b` is empty for RMS norm, which is not centred.
    fn forward(x: &[f32], w: &[f32], b: &[f32], eps: f32, y: &mut [Blank], stats: &mut [Blank]) {
        let c = w.len();
        let count = c as f32;
        for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact_mut(2)) {
            if b.is_empty() {
                let r = 1.0 / (lanes!(|v = x| v * v) / count + eps).sqrt();
                stats[0].write(0.0);
                stats[1].write(r);
                for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                    y.write(x * r * w);
                }
            } else {
                let mean = lanes!(|v = x| v) / count;
                let r = 1.0 / (lanes!(|v = x| (v - mean) * (v - mean)) / count + eps).sqrt();
                stats[0].write(mean);
                stats[1].write(r);
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
                    y.write((x - mean) * r * w + b);
                }
            }
        }
    }
}

simd_fn! {
    /// Fills `d` and adds to the sums `dw` and, if it is not empty, `db`.
    fn backward(x: &[f32], g: &[f32], w: &[f32], stats: &[f32], d: &mut [Blank], dw: &mut [f32], db: &mut [f32]) {
        let c = w.len();
        let count = c as f32;
        for (((x, g), d), stats) in x.chunks_exact(c).zip(g.chunks_exact(c)).zip(d.chunks_exact_mut(c)).zip(stats.chunks_exact(2)) {
            let (mean, r) = (stats[0], stats[1]);
            let second = lanes!(|x = x, g = g, w = w| g * w * ((x - mean) * r)) / count;
            let first = if db.is_empty() { 0.0 } else { lanes!(|g = g, w = w| g * w) / count };
            for ((((d, &x), &g), &w), dw) in d.iter_mut().zip(x).zip(g).zip(w).zip(dw.iter_mut()) {
                let h = (x - mean) * r;
                d.write(r * (g * w - first - h * second));
                *dw += g * h;
            }
            for (db, &g) in db.iter_mut().zip(g) {
                *db += g;
            }
        }
    }
}

/// Layer norm (second argument `(2, C)`: weight and bias) or RMS norm (`(C)`: weight).
pub(super) struct RowNorm {
    eps: f32,
    centre: bool,
    stats: OnceLock<Vec<f32>>,
}

impl RowNorm {
    pub(super) fn new(eps: f64, centre: bool) -> Self {
        RowNorm { eps: eps as f32, centre, stats: OnceLock::new() }
    }
}

impl CustomOp2 for RowNorm {
    fn name(&self) -> &'static str {
        if self.centre { "layer-norm" } else { "rms-norm" }
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sw: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gb) = (floats(sx, lx)?, floats(sw, lw)?);
        let c = lx.dims().last().copied().unwrap_or(0).max(1);
        let (w, b) = gb.split_at(c.min(gb.len()));
        let rows = rows_of(c, CHUNK);
        let (mut y, mut stats) = (unwritten(x.len()), unwritten(2 * x.len() / c));
        y.par_chunks_mut(rows * c).zip(x.par_chunks(rows * c)).zip(stats.par_chunks_mut(2 * rows)).for_each(
            |((y, x), stats)| {
                forward(x, w, b, self.eps, y, stats);
            },
        );
        // SAFETY: `x` has a row for each of `y` and for each pair of `stats`, and the weights are as wide.
        let (y, stats) = unsafe { (y.written(), stats.written()) };
        // Statistics of an earlier forward of the same node would be the same.
        let _ = self.stats.set(stats);
        Ok(output(y, lx.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gb: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(stats) = self.stats.get() else { bail!("{}: backward without a forward", self.name()) };
        let g = g.contiguous()?;
        let (xs, gs, ws) = (Floats::new(x)?, Floats::new(&g)?, Floats::new(gb)?);
        let (xs, gs, ws): (&[f32], &[f32], &[f32]) = (&xs, &gs, &ws);
        let c = x.dim(D::Minus1)?.max(1);
        let w = &ws[..c.min(ws.len())];
        // Larger blocks than forward, at most 64: each has its own sums for weight and bias.
        let rows = rows_of(c, 2 * CHUNK).max((xs.len() / c).div_ceil(64));
        let mut d = unwritten(xs.len());
        let parts: Vec<Vec<f32>> = d
            .par_chunks_mut(rows * c)
            .zip(xs.par_chunks(rows * c))
            .zip(gs.par_chunks(rows * c))
            .zip(stats.par_chunks(2 * rows))
            .map(|(((d, x), g), stats)| {
                let mut sums = vec![0.0; ws.len()];
                let (dw, db) = sums.split_at_mut(w.len());
                backward(x, g, w, stats, d, dw, db);
                sums
            })
            .collect();
        // SAFETY: there is a row of `x`, of the gradient and of the statistics for each of `d`.
        let d = unsafe { d.written() };
        let dx = if x.track_op() { Some(tensor(d, x.shape())?) } else { None };
        let dgb = if gb.track_op() { Some(tensor(sum_in_order(parts, ws.len()), gb.shape())?) } else { None };
        Ok((dx, dgb))
    }
}

/// The element-wise sum of vectors of `n` elements, from the first to the last.
fn sum_in_order(parts: Vec<Vec<f32>>, n: usize) -> Vec<f32> {
    let mut sum = vec![0.0; n];
    for part in parts {
        for (s, p) in sum.iter_mut().zip(part) {
            *s += p;
        }
    }
    sum
}

simd_fn! {
    /// `scale`: `1 / max(||x||, eps)` of each row, negative where `eps` was the larger.
    fn length_forward(x: &[f32], c: usize, eps: f32, y: &mut [Blank], scale: &mut [Blank]) {
        for ((x, y), scale) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(scale) {
            let length = lanes!(|v = x| v * v).sqrt();
            let s = if length <= eps { 1.0 / eps } else { 1.0 / length };
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(x * s);
            }
            scale.write(if length <= eps { -s } else { s });
        }
    }
}

simd_fn! {
    fn length_backward(y: &[f32], g: &[f32], c: usize, scale: &[f32], d: &mut [Blank]) {
        for (((y, g), d), &s) in y.chunks_exact(c).zip(g.chunks_exact(c)).zip(d.chunks_exact_mut(c)).zip(scale) {
            let along = if s < 0.0 { 0.0 } else { lanes!(|y = y, g = g| y * g) };
            let s = s.abs();
            for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
                d.write(s * (g - y * along));
            }
        }
    }
}

/// `x / max(||x||, eps)` of each row.
pub(super) struct Length {
    eps: f32,
    scale: OnceLock<Vec<f32>>,
}

impl Length {
    pub(super) fn new(eps: f64) -> Self {
        Length { eps: eps as f32, scale: OnceLock::new() }
    }
}

impl CustomOp1 for Length {
    fn name(&self) -> &'static str {
        "l2-normalize"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let c = layout.dims().last().copied().unwrap_or(0).max(1);
        let rows = rows_of(c, CHUNK);
        let (mut y, mut scale) = (unwritten(x.len()), unwritten(x.len() / c));
        y.par_chunks_mut(rows * c).zip(x.par_chunks(rows * c)).zip(scale.par_chunks_mut(rows)).for_each(
            |((y, x), scale)| {
                length_forward(x, c, self.eps, y, scale);
            },
        );
        // SAFETY: `x` has a row for each of `y` and of `scale`.
        let (y, scale) = unsafe { (y.written(), scale.written()) };
        let _ = self.scale.set(scale);
        Ok(output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let Some(scale) = self.scale.get() else { bail!("l2-normalize: backward without a forward") };
        let g = g.contiguous()?;
        let (ys, gs) = (Floats::new(y)?, Floats::new(&g)?);
        let (ys, gs): (&[f32], &[f32]) = (&ys, &gs);
        let c = x.dim(D::Minus1)?.max(1);
        let rows = rows_of(c, CHUNK);
        let mut d = unwritten(ys.len());
        for_chunks(&mut d, rows * c, |i, d| {
            let at = i * rows * c..i * rows * c + d.len();
            length_backward(&ys[at.clone()], &gs[at], c, &scale[i * rows..][..d.len() / c], d);
        });
        // SAFETY: chunks are whole rows, each of which is written.
        Ok(Some(tensor(unsafe { d.written() }, x.shape())?))
    }
}
