//! Joining along the channels: the skips of U-Nets.
//!
//! candle joins well, but hands back gradients that are views, which it then adds element by element on one
//! thread. Here each side's gradient is copied out in parallel.

use crate::Path;
use crate::activation::slices::{CHUNK, Floats, floats, output, tensor, wants_fused};
use crate::memory::{copy, unwritten};
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `(.., A)` and `(.., B)` of the same leading sizes to `(.., A + B)`.
///
/// # Errors
/// If the leading sizes differ, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn join_channels(a: &Tensor, b: &Tensor, path: Path) -> Result<Tensor> {
    let lead = |t: &Tensor| t.dims().split_last().map(|(_, lead)| lead.to_vec());
    if a.rank() == 0 || lead(a) != lead(b) {
        bail!("join_channels: {:?} and {:?}, expected the same sizes but for the last", a.dims(), b.dims())
    }
    if wants_fused("join_channels", path, &[a, b])? && a.elem_count() > 0 && b.elem_count() > 0 {
        return a.contiguous()?.apply_op2(&b.contiguous()?, Join);
    }
    Tensor::cat(&[a, b], D::Minus1)
}

struct Join;

fn rows(c: usize) -> usize {
    (CHUNK / c.max(1)).max(1)
}

/// Columns `from .. from + to` of `x (M, c)`.
fn columns(x: &[f32], c: usize, from: usize, width: usize) -> Vec<f32> {
    let mut out = unwritten(x.len() / c * width);
    let rows = rows(c);
    out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * c)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(c)) {
            copy(out, &x[from..from + width]);
        }
    });
    // SAFETY: there is a row of `x` for each row of `out`.
    unsafe { out.written() }
}

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "join-channels"
    }

    fn cpu_fwd(
        &self,
        sa: &CpuStorage,
        la: &Layout,
        sb: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (floats(sa, la)?, floats(sb, lb)?);
        let last = |l: &Layout| l.dims().last().copied().unwrap_or(1);
        let (a, b) = (last(la), last(lb));
        let (c, mut dims) = (a + b, la.dims().to_vec());
        if let Some(d) = dims.last_mut() {
            *d = c;
        }
        let mut out = unwritten(x.len() + y.len());
        let rows = rows(c);
        out.par_chunks_mut(rows * c).zip(x.par_chunks(rows * a)).zip(y.par_chunks(rows * b)).for_each(
            |((out, x), y)| {
                for ((out, x), y) in out.chunks_exact_mut(c).zip(x.chunks_exact(a)).zip(y.chunks_exact(b)) {
                    copy(&mut out[..a], x);
                    copy(&mut out[a..], y);
                }
            },
        );
        // SAFETY: both sides have a row for each row of `out`.
        Ok(output(unsafe { out.written() }, dims))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let g = Floats::new(&g)?;
        let (wa, wb) = (a.dim(D::Minus1)?, b.dim(D::Minus1)?);
        let part = |t: &Tensor, from: usize, width: usize| {
            if t.track_op() {
                tensor(columns(&g, wa + wb, from, width), t.shape()).map(Some)
            } else {
                Ok(None)
            }
        };
        Ok((part(a, 0, wa)?, part(b, wa, wb)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::testing::{agree, random, same_bits};

    #[test]
    fn both_paths() {
        for (shape, a, b) in
            [(vec![], 1, 2), (vec![7], 3, 5), (vec![2, 3, 4, 5], 16, 1), (vec![40, 70], 8, 8)]
        {
            let of = |c: usize, seed: u64| random(&[shape.as_slice(), &[c]].concat(), seed);
            let inputs = [of(a, 1), of(b, 2)];
            agree(&inputs, |t, path| join_channels(&t[0], &t[1], path));
            same_bits(&inputs, |t| join_channels(&t[0], &t[1], Path::Fused));
        }
        assert!(join_channels(&random(&[2, 3], 1), &random(&[3, 3], 1), Path::Auto).is_err());
    }
}
