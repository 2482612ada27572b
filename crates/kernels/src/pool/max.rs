//! The largest value of each window, and the position it came from.

use super::axis::Axis;
use crate::activation::slices::{Floats, floats, for_chunks, output, tensor};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, fill, unwritten};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Three axes, the first of them units where there are fewer.
type Axes = [Axis; 3];

simd_fn! {
    /// The windows of one row `(W', C)` of the output, out of one sample `x (D, H, W, C)`.
    fn forward(x: &[f32], axes: &Axes, row: (usize, usize), c: usize, y: &mut [Blank], at: &mut [u32]) {
        let ([d, h, w], (od, oh)) = (axes, row);
        for (ow, (y, at)) in y.chunks_exact_mut(c).zip(at.chunks_exact_mut(c)).enumerate() {
            // A window has at least one position inside, whose values come first.
            let y = fill(y, f32::NEG_INFINITY);
            let mut first = true;
            for i in d.window(od) {
                for j in h.window(oh) {
                    for k in w.window(ow) {
                        let position = (i * h.size + j) * w.size + k;
                        let x = &x[position * c..][..c];
                        if first {
                            y.copy_from_slice(x);
                            at.fill(position as u32);
                            first = false;
                            continue;
                        }
                        for ((y, at), &x) in y.iter_mut().zip(at.iter_mut()).zip(x) {
                            // Ties stay with the first; a NaN wins, and stays, as in PyTorch.
                            let wins = x > *y || x.is_nan();
                            *y = if wins { x } else { *y };
                            *at = if wins { position as u32 } else { *at };
                        }
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// The gradient of one row `(W, C)` of the input: each position asks the windows it is in. `g` and `at`
    /// are one sample's.
    fn backward(g: &[f32], at: &[u32], axes: &Axes, row: (usize, usize), c: usize, out: &mut [Blank]) {
        let ([d, h, w], (i, j)) = (axes, row);
        for (k, out) in out.chunks_exact_mut(c).enumerate() {
            let position = ((i * h.size + j) * w.size + k) as u32;
            let out = fill(out, 0.0);
            for od in d.windows_of(i) {
                for oh in h.windows_of(j) {
                    for ow in w.windows_of(k) {
                        let from = ((od * h.windows + oh) * w.windows + ow) * c;
                        let (g, at) = (&g[from..][..c], &at[from..][..c]);
                        for ((out, &g), &at) in out.iter_mut().zip(g).zip(at) {
                            *out += if at == position { g } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}

/// Keeps the position of each largest value.
pub(super) struct MaxPool {
    axes: Axes,
    /// Spatial axes of the tensors.
    rank: usize,
    keep: bool,
    at: OnceLock<Vec<u32>>,
}

impl MaxPool {
    /// `keep`: whether there will be a backward.
    pub(super) fn new(axes: &[Axis], keep: bool) -> Self {
        let mut three = [Axis::UNIT; 3];
        three[3 - axes.len()..].copy_from_slice(axes);
        MaxPool { axes: three, rank: axes.len(), keep, at: OnceLock::new() }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let [d, h, w] = &self.axes;
        let mut dims = layout.dims().to_vec();
        let c = dims[self.rank + 1];
        for (dim, axis) in dims[1..].iter_mut().zip(&self.axes[3 - self.rank..]) {
            *dim = axis.windows;
        }
        let (sample, row) = (d.size * h.size * w.size * c, w.windows * c);
        let count = dims.iter().product();
        let (mut y, mut at) = (unwritten(count), vec![0; count]);
        y.par_chunks_mut(row).zip(at.par_chunks_mut(row)).enumerate().for_each(|(r, (y, at))| {
            let (n, od, oh) = (r / (d.windows * h.windows), r / h.windows % d.windows, r % h.windows);
            forward(&x[n * sample..][..sample], &self.axes, (od, oh), c, y, at);
        });
        if self.keep {
            let _ = self.at.set(at);
        }
        // SAFETY: each row of windows is written.
        Ok(output(unsafe { y.written() }, dims))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let Some(at) = self.at.get() else { bail!("max-pool: backward without a forward") };
        let g = g.contiguous()?;
        let gs = Floats::new(&g)?;
        let gs: &[f32] = &gs;
        let [d, h, w] = &self.axes;
        let c = x.dim(self.rank + 1)?;
        let sample = d.windows * h.windows * w.windows * c;
        let mut out = unwritten(x.elem_count());
        for_chunks(&mut out, w.size * c, |r, out| {
            let (n, i, j) = (r / (d.size * h.size), r / h.size % d.size, r % h.size);
            let from = n * sample;
            backward(&gs[from..][..sample], &at[from..][..sample], &self.axes, (i, j), c, out);
        });
        // SAFETY: each row of positions is written.
        Ok(Some(tensor(unsafe { out.written() }, x.shape())?))
    }
}

/// The same by candle's operators, without a copy to the host: the positions are found without a graph, and
/// gathering has the right gradient.
pub(super) fn composed(x: &Tensor, axes: &[Axis]) -> Result<Tensor> {
    let (n, c) = (x.dim(0)?, x.dim(x.rank() - 1)?);
    let flat = x.contiguous()?.reshape((n, (), c))?;
    let values = flat.detach();
    let (mut best, mut at): (Option<Tensor>, Option<Tensor>) = (None, None);
    for tap in 0..axes.iter().map(|a| a.kernel).product() {
        let positions = tap_positions(axes, tap);
        let count = positions.len();
        let positions = Tensor::from_vec(positions, count, x.device())?;
        let part = values.index_select(&positions, 1)?;
        let here = positions.reshape((1, count, 1))?.broadcast_as((n, count, c))?.contiguous()?;
        (best, at) = match (best, at) {
            (Some(best), Some(at)) => {
                // Larger or NaN: never both.
                let wins = (part.gt(&best)? + part.ne(&part)?)?;
                (Some(wins.where_cond(&part, &best)?), Some(wins.where_cond(&here, &at)?))
            }
            _ => (Some(part), Some(here)),
        };
    }
    let Some(at) = at else { bail!("max_pool: empty kernel") };
    let dims: Vec<usize> =
        std::iter::once(n).chain(axes.iter().map(|a| a.windows)).chain(std::iter::once(c)).collect();
    flat.gather(&at, 1)?.reshape(dims)
}

/// The position in the sample that the `tap`-th element of each window falls on. One beyond the border is
/// moved to it: the border is in the window too, so this changes nothing but ties of a position with itself.
fn tap_positions(axes: &[Axis], tap: usize) -> Vec<u32> {
    let mut positions = vec![0u32];
    let mut later: usize = axes.iter().map(|a| a.kernel).product();
    for axis in axes {
        later /= axis.kernel;
        let k = tap / later % axis.kernel;
        let along: Vec<u32> = (0..axis.windows)
            .map(|o| (o * axis.stride + k).saturating_sub(axis.padding).min(axis.size - 1) as u32)
            .collect();
        positions =
            positions.iter().flat_map(|p| along.iter().map(move |i| p * axis.size as u32 + i)).collect();
    }
    positions
}
