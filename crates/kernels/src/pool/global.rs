//! The mean over all positions.

use crate::Path;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Positions whose sum is one task: enough work, and few enough that the sum stays precise.
const ROWS: usize = 256;

/// Mean over space: `x (N, S.., C)` to `(N, C)`.
///
/// # Errors
/// If `x` has fewer than two dimensions or no elements.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    if x.rank() < 2 || x.elem_count() == 0 {
        bail!("global_avg_pool: input {:?}, expected (N, S.., C) with elements", x.dims())
    }
    let (n, c) = (x.dim(0)?, x.dim(x.rank() - 1)?);
    let x = x.reshape((n, x.elem_count() / (n * c), c))?;
    if wants_fused("global_avg_pool", Path::Auto, &[&x])? {
        x.contiguous()?.apply_op1(GlobalMean)
    } else {
        x.mean(1)
    }
}

simd_fn! {
    fn add_rows(x: &[f32], sum: &mut [f32]) {
        for row in x.chunks_exact(sum.len()) {
            for (s, &x) in sum.iter_mut().zip(row) {
                *s += x;
            }
        }
    }
}

simd_fn! {
    fn fill_rows(row: &[f32], factor: f32, out: &mut [Blank]) {
        for out in out.chunks_exact_mut(row.len()) {
            for (o, &r) in out.iter_mut().zip(row) {
                o.write(r * factor);
            }
        }
    }
}

/// The mean over the second of three dimensions.
struct GlobalMean;

impl CustomOp1 for GlobalMean {
    fn name(&self) -> &'static str {
        "global-avg-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let (n, s, c) = layout.shape().dims3()?;
        let mut y = vec![0.0; n * c];
        y.par_chunks_mut(c).zip(x.par_chunks(s * c)).for_each(|(y, x)| {
            let parts: Vec<Vec<f32>> = x
                .par_chunks(ROWS * c)
                .map(|x| {
                    let mut sum = vec![0.0; c];
                    add_rows(x, &mut sum);
                    sum
                })
                .collect();
            for part in &parts {
                add_rows(part, y);
            }
            for y in y.iter_mut() {
                *y /= s as f32;
            }
        });
        Ok(output(y, (n, c)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        let gs = Floats::new(&g)?;
        let gs: &[f32] = &gs;
        let (_, s, c) = x.dims3()?;
        let mut d = unwritten(x.elem_count());
        d.par_chunks_mut(s * c).zip(gs.par_chunks(c)).for_each(|(d, g)| {
            for_chunks(d, c * (CHUNK / c).max(1), |_, d| fill_rows(g, 1.0 / s as f32, d));
        });
        // SAFETY: chunks are whole rows, each of which is written.
        Ok(Some(tensor(unsafe { d.written() }, x.shape())?))
    }
}
