//! Linear maps along the spatial axes, given by a few samples and weights for each output: interpolation and
//! mean pooling.

use crate::Path;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, assume_written, fill, unwritten};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use std::borrow::Cow;

/// A sparse `new x old` matrix, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    old: usize,
    new: usize,
    /// Where each row starts; one more than rows.
    starts: Vec<usize>,
    taps: Vec<(usize, f32)>,
}

impl Taps {
    /// `row(o)` gives samples below `old` and their weights.
    pub(crate) fn new(old: usize, new: usize, row: impl Fn(usize) -> Vec<(usize, f32)>) -> Self {
        let (mut starts, mut taps) = (vec![0], Vec::new());
        for o in 0..new {
            taps.extend(row(o));
            starts.push(taps.len());
        }
        Taps { old, new, starts, taps }
    }

    fn row(&self, o: usize) -> &[(usize, f32)] {
        &self.taps[self.starts[o]..self.starts[o + 1]]
    }

    fn transposed(&self) -> Taps {
        let mut rows = vec![Vec::new(); self.old];
        for o in 0..self.new {
            for &(i, w) in self.row(o) {
                rows[i].push((o, w));
            }
        }
        Taps::new(self.new, self.old, |i| rows[i].clone())
    }
}

simd_fn! {
    /// Rows of `width` elements from row `first` of `(before, new)` on, out of `x (before, old, width)`.
    fn mix(x: &[f32], map: &Taps, first: usize, width: usize, out: &mut [Blank]) {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let (before, o) = ((first + r) / map.new, (first + r) % map.new);
            let from = |i: usize| &x[(before * map.old + i) * width..][..width];
            let Some((&(i, w), rest)) = map.row(o).split_first() else {
                fill(out, 0.0);
                continue;
            };
            for (out, &x) in out.iter_mut().zip(from(i)) {
                out.write(x * w);
            }
            // SAFETY: `from` has `width` elements, as `out` has.
            let out = unsafe { assume_written(out) };
            for &(i, w) in rest {
                for (out, &x) in out.iter_mut().zip(from(i)) {
                    *out += x * w;
                }
            }
        }
    }
}

/// `(before, old, width)` to `(before, new, width)`.
fn along(x: &[f32], map: &Taps, width: usize) -> Vec<f32> {
    let before = x.len() / (map.old * width);
    let mut out = unwritten(before * map.new * width);
    let rows = rows_of(width, CHUNK);
    for_chunks(&mut out, rows * width, |i, out| mix(x, map, i * rows, width, out));
    // SAFETY: chunks are whole rows, and `mix` writes each row.
    unsafe { out.written() }
}

/// One map for each spatial axis of `(N, S.., C)`; `None` leaves the axis as it is.
struct Separable {
    name: &'static str,
    maps: Vec<Option<Taps>>,
}

impl Separable {
    /// `dims` becomes the shape of the result.
    fn run(
        x: &[f32],
        dims: &mut [usize],
        maps: &[Option<Taps>],
        axes: impl Iterator<Item = usize>,
    ) -> Vec<f32> {
        let mut x = Cow::Borrowed(x);
        for a in axes {
            if let Some(map) = &maps[a] {
                let width = dims[a + 2..].iter().product();
                x = Cow::Owned(along(&x, map, width));
                dims[a + 1] = map.new;
            }
        }
        x.into_owned()
    }
}

impl CustomOp1 for Separable {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        let y = Separable::run(floats(storage, layout)?, &mut dims, &self.maps, 0..self.maps.len());
        Ok(output(y, dims))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        let mut dims = y.dims().to_vec();
        let maps: Vec<_> = self.maps.iter().map(|m| m.as_ref().map(Taps::transposed)).collect();
        let d = Separable::run(&Floats::new(&g)?, &mut dims, &maps, (0..maps.len()).rev());
        Ok(Some(tensor(d, x.shape())?))
    }
}

/// Applies `maps`, one for each spatial axis of `x (N, S.., C)`, which has no empty dimension.
pub(crate) fn separable(
    name: &'static str,
    x: &Tensor,
    maps: Vec<Option<Taps>>,
    path: Path,
) -> Result<Tensor> {
    let fused = wants_fused(name, path, &[x])?;
    if maps.iter().all(Option::is_none) {
        return Ok(x.clone());
    }
    if fused {
        return x.contiguous()?.apply_op1(Separable { name, maps });
    }
    let mut y = x.clone();
    for (a, map) in maps.iter().enumerate() {
        let Some(map) = map else { continue };
        let most = (0..map.new).map(|o| map.row(o).len()).max().unwrap_or(0);
        let mut shape = vec![1; x.rank()];
        shape[a + 1] = map.new;
        // The k-th sample of every output at once. Outputs with fewer samples take any with weight 0.
        let mut sum: Option<Tensor> = None;
        for k in 0..most {
            let (at, weights): (Vec<u32>, Vec<f32>) =
                (0..map.new).map(|o| map.row(o).get(k).map_or((0, 0.0), |&(i, w)| (i as u32, w))).unzip();
            let unweighted = weights.iter().all(|&w| w == 1.0);
            let part = y.contiguous()?.index_select(&Tensor::from_vec(at, map.new, x.device())?, a + 1)?;
            let weights = Tensor::from_vec(weights, shape.clone(), x.device())?.to_dtype(x.dtype())?;
            let part = if unweighted { part } else { part.broadcast_mul(&weights)? };
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        y = match sum {
            Some(sum) => sum,
            None => {
                let mut dims = y.dims().to_vec();
                dims[a + 1] = map.new;
                Tensor::zeros(dims, x.dtype(), x.device())?
            }
        };
    }
    Ok(y)
}
