//! The logarithm of the sum of a row's exponentials, with some columns of each row left out: the denominators
//! of contrastive losses. On the CPU one node of the graph, which keeps its result only.

use crate::Path;
use crate::activation::math::{exp, lanes, largest};
use crate::activation::slices::{CHUNK, Floats, floats, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// What takes an element out of a sum: its exponential is an exact zero, and zero times it is still zero
/// (unlike for an infinity).
const OUT: f64 = -1e30;

/// `log sum exp` of each row, leaving out column `(row + o) % C` for each `o` of `skip` (in rising order):
/// `(R, C)` to `(R)`.
///
/// # Errors
/// If nothing is left of a row, or `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn log_sum_exp(x: &Tensor, skip: &[usize], path: Path) -> Result<Tensor> {
    let (r, c) = x.dims2()?;
    if r == 0 || c <= skip.len() || skip.iter().any(|&o| o >= c) || skip.windows(2).any(|w| w[0] >= w[1]) {
        bail!("log_sum_exp: nothing is left of the rows of {:?} without the columns {skip:?}", x.dims())
    }
    if wants_fused("log_sum_exp", path, &[x])? {
        return x.contiguous()?.apply_op1(LogSumExp { skip: skip.to_vec() });
    }
    let x = if skip.is_empty() { x.clone() } else { (x + skip_mask(x, skip)?)? };
    let max = x.detach().max_keepdim(1)?;
    let sum = x.broadcast_sub(&max)?.exp()?.sum_keepdim(1)?;
    (sum.log()? + max)?.squeeze(1)
}

/// 0, and [`OUT`] in the columns that [`log_sum_exp`] leaves out: `(R, C)`, made on the device.
fn skip_mask(x: &Tensor, skip: &[usize]) -> Result<Tensor> {
    let (r, c) = x.dims2()?;
    let rows = Tensor::arange(0i64, r as i64, x.device())?.reshape((r, 1))?;
    let columns = Tensor::arange(0i64, c as i64, x.device())?.reshape((1, c))?;
    let difference = columns.broadcast_sub(&rows)?;
    let mut out = Tensor::zeros((r, c), DType::U8, x.device())?;
    for &o in skip {
        // column = row + o - m C for one m, and rows - 1 + o - m C must be able to reach 0
        for m in 0..=(r - 1 + o) / c {
            out = (out + difference.eq(o as i64 - (m * c) as i64)?)?;
        }
    }
    out.to_dtype(x.dtype())? * OUT
}

simd_fn! {
    /// Of the elements that are not at `out` (in rising order).
    fn log_sum(x: &[f32], out: &[usize]) -> f32 {
        let (mut max, mut from) = (f32::NEG_INFINITY, 0);
        for to in out.iter().copied().chain([x.len()]) {
            // f32::max passes over a NaN, which comes back by its exponential.
            max = max.max(largest(&x[from..to]));
            from = to + 1;
        }
        let (mut sum, mut from) = (0f32, 0);
        for to in out.iter().copied().chain([x.len()]) {
            let part = &x[from..to];
            sum += lanes!(|v = part| exp(v - max));
            from = to + 1;
        }
        max + sum.ln()
    }
}

simd_fn! {
    /// `g exp(x - log_sum)`
    fn gradient(x: &[f32], log_sum: f32, g: f32, d: &mut [Blank]) {
        for (d, &x) in d.iter_mut().zip(x) {
            d.write(g * exp(x - log_sum));
        }
    }
}

struct LogSumExp {
    skip: Vec<usize>,
}

impl LogSumExp {
    /// The columns that `row` leaves out, in rising order.
    fn out(&self, row: usize, c: usize, out: &mut Vec<usize>) {
        out.clear();
        out.extend(self.skip.iter().map(|o| (row + o) % c));
        out.sort_unstable();
    }
}

impl CustomOp1 for LogSumExp {
    fn name(&self) -> &'static str {
        "log-sum-exp"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (r, c) = l.shape().dims2()?;
        let x = floats(s, l)?;
        let per = rows_of(c, CHUNK);
        let mut y = unwritten(r);
        y.par_chunks_mut(per).zip(x.par_chunks(per * c)).enumerate().for_each(|(task, (y, x))| {
            let mut out = Vec::new();
            for (i, (y, x)) in y.iter_mut().zip(x.chunks_exact(c)).enumerate() {
                self.out(task * per + i, c, &mut out);
                y.write(log_sum(x, &out));
            }
        });
        // SAFETY: `x` has a row for each of `y`.
        Ok(output(unsafe { y.written() }, r))
    }

    /// `d/dx_j = exp(x_j - lse) g`
    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let (r, c) = arg.dims2()?;
        let grad = grad.contiguous()?;
        let (x, sums, g) = (Floats::new(arg)?, Floats::new(res)?, Floats::new(&grad)?);
        let (x, sums, g): (&[f32], &[f32], &[f32]) = (&x, &sums, &g);
        let per = rows_of(c, CHUNK);
        let mut d = unwritten(r * c);
        d.par_chunks_mut(per * c).enumerate().for_each(|(task, d)| {
            let mut out = Vec::new();
            for (i, d) in d.chunks_exact_mut(c).enumerate() {
                let row = task * per + i;
                gradient(&x[row * c..(row + 1) * c], sums[row], g[row], d);
                self.out(row, c, &mut out);
                for &o in &out {
                    d[o].write(0.0);
                }
            }
        });
        // SAFETY: there is a row of `x` for each of `d`.
        Ok(Some(tensor(unsafe { d.written() }, (r, c))?))
    }
}
