//! Row-wise operators that the losses share: log-sum-exp, cross entropy with soft targets, L2 normalisation.
//!
//! The two reductions are one graph node each on the CPU in f32 (parallel over rows, each row summed in a
//! fixed order, so the bits do not depend on the number of threads) and a composition of candle operators
//! elsewhere, with the same gradients.

use crate::kernels::Path;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Lanes of a row sum: wide enough for one AVX-512 register; the order of a sum is fixed by it.
const LANES: usize = 16;

/// Elements per task: about what a core does in 20 microseconds, well above the cost of handing a task out.
const GRAIN: usize = 1 << 14;

/// What takes a logit out of a sum: exp underflows to an exact zero, and zero times it is still zero (unlike
/// for an infinity).
const OUT: f64 = -1e30;

/// `exp(x)` for `x` up to about 80, branch-free so that loops over it vectorise; relative error below 2e-7, 0
/// below -87. NaN stays NaN.
///
/// `x = n ln 2 + f` with `|f| <= ln(2)/2`, `exp(f)` by its Taylor series to degree 7 (remainder 5e-9), and
/// `2^n` put together from bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
    let t = x * std::f32::consts::LOG2_E + MAGIC;
    let n = t - MAGIC;
    // ln 2 in two parts, so that n * (the first) is exact
    let f = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * f + 1.0 / 720.0;
    let p = p * f + 1.0 / 120.0;
    let p = p * f + 1.0 / 24.0;
    let p = p * f + 1.0 / 6.0;
    let p = p * f + 0.5;
    let p = p * f + 1.0;
    let p = p * f + 1.0;
    let y = p * f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { y }
}

/// Sum of `f(i)` over `0..n` in [`LANES`] interleaved partial sums, added up in order.
#[inline(always)]
pub(super) fn lane_sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n - n % LANES;
    for i in (0..whole).step_by(LANES) {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + l);
        }
    }
    for i in whole..n {
        lanes[i - whole] += f(i);
    }
    lanes.iter().sum()
}

/// Largest element (NaNs passed over: they come back through the exponentials).
#[inline(always)]
pub(super) fn lane_max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for c in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(c) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
}

/// Rows per task for rows of `width` elements: a function of the shape alone.
pub(super) fn rows_per_task(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// Hands the elements of a contiguous f32 tensor on the CPU to `f`.
pub(super) fn with_f32<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => f(f32_slice(s, layout)?),
        _ => bail!("a fused loss needs tensors on the CPU"),
    }
}

/// The elements of a contiguous f32 storage.
pub(super) fn f32_slice<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((a, b))) => Ok(&v[a..b]),
        (CpuStorage::F32(_), None) => bail!("a fused loss needs a contiguous tensor"),
        _ => bail!("a fused loss needs f32"),
    }
}

/// Rows divided by `max(L2 norm, eps)`: (.., D) to (.., D). A zero row has a finite gradient.
pub(super) fn l2_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    // The floor goes under the root: the square root's derivative at 0 is infinite.
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.maximum(eps * eps)?.sqrt()?;
    x.broadcast_div(&norm)
}

/// `max(x, 0)` with derivative 0 at 0.
pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    x * x.detach().gt(0.0)?.to_dtype(x.dtype())?
}

/// Row-wise dot products: (N, D) and (N, D) to (N).
pub(super) fn dots(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a * b)?.sum(D::Minus1)
}

/// `log sum exp` of each row, leaving out column `(row + o) % C` for each `o` of `skip` (in rising order):
/// (R, C) to (R).
///
/// # Errors
/// A row in which nothing is left, and what candle reports.
pub(super) fn log_sum_exp(x: &Tensor, skip: &[usize], path: Path) -> Result<Tensor> {
    let (r, c) = x.dims2()?;
    if r == 0 || c <= skip.len() || skip.iter().any(|&o| o >= c) || skip.windows(2).any(|w| w[0] >= w[1]) {
        bail!("log_sum_exp: nothing is left of the rows of {:?} without the columns {skip:?}", x.dims());
    }
    if path.fused(x) {
        return x.contiguous()?.apply_op1(LogSumExp { skip: skip.to_vec() });
    }
    let x = if skip.is_empty() { x.clone() } else { (x + skip_mask(x, skip)?)? };
    let max = x.detach().max_keepdim(1)?;
    let sum = x.broadcast_sub(&max)?.exp()?.sum_keepdim(1)?;
    (sum.log()? + max)?.squeeze(1)
}

/// 0, and [`OUT`] in the columns that [`log_sum_exp`] leaves out: (R, C), made on the device.
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

    fn row(x: &[f32], out: &[usize]) -> f32 {
        let pieces = || {
            let starts = std::iter::once(0).chain(out.iter().map(|o| o + 1));
            starts.zip(out.iter().copied().chain(std::iter::once(x.len()))).map(|(a, b)| &x[a..b])
        };
        let max = pieces().map(lane_max).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = pieces().map(|p| lane_sum(p.len(), |i| exp(p[i] - max))).sum();
        max + sum.ln()
    }
}

impl CustomOp1 for LogSumExp {
    fn name(&self) -> &'static str {
        "log-sum-exp"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (r, c) = l.shape().dims2()?;
        let x = f32_slice(s, l)?;
        let per = rows_per_task(c);
        let mut y = vec![0f32; r];
        y.par_chunks_mut(per).zip(x.par_chunks(per * c)).enumerate().for_each(|(task, (y, x))| {
            let mut out = Vec::new();
            for (i, (y, x)) in y.iter_mut().zip(x.chunks_exact(c)).enumerate() {
                self.out(task * per + i, c, &mut out);
                *y = Self::row(x, &out);
            }
        });
        Ok((CpuStorage::F32(y), r.into()))
    }

    /// `d/dx_j = exp(x_j - lse) g`: the result itself is all that has to be kept.
    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let (r, c) = arg.dims2()?;
        let mut dx = vec![0f32; r * c];
        let per = rows_per_task(c);
        with_f32(arg, |x| {
            with_f32(res, |lse| {
                with_f32(grad, |g| {
                    dx.par_chunks_mut(per * c).enumerate().for_each(|(task, dx)| {
                        let mut out = Vec::new();
                        for (i, dx) in dx.chunks_exact_mut(c).enumerate() {
                            let row = task * per + i;
                            let (g, lse) = (g[row], lse[row]);
                            for (dx, &x) in dx.iter_mut().zip(&x[row * c..(row + 1) * c]) {
                                *dx = g * exp(x - lse);
                            }
                            self.out(row, c, &mut out);
                            for &o in &out {
                                dx[o] = 0.0;
                            }
                        }
                    });
                    Ok(())
                })
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, (r, c), arg.device())?))
    }
}

/// Cross entropy of each row with soft targets: `-sum_k targets_k log_softmax(logits / temperature)_k`, (R,
/// K) and (R, K) to (R).
///
/// The targets get no gradient and need not sum to one: a row that is the sum of `m` distributions counts
/// them all at once, and a zero row counts nothing. One graph node on the CPU, which keeps two numbers per
/// row.
///
/// # Errors
/// Shapes that differ or are not (R, K) with K at least 1, and what candle reports.
pub fn soft_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    temperature: f64,
    path: Path,
) -> crate::Result<Tensor> {
    let at = super::check::Check("soft_cross_entropy");
    let (logits, _, _) = at.matrix("logits", logits, "(R, K)")?;
    let targets = at.like("targets", targets, "logits", &logits)?.detach();
    at.positive("temperature", temperature)?;
    if path.fused(&logits) {
        let op = SoftCrossEntropy {
            targets: targets.contiguous()?,
            scale: (1.0 / temperature) as f32,
            saved: OnceLock::new(),
        };
        return Ok(logits.contiguous()?.apply_op1(op)?);
    }
    let x = (logits / temperature)?;
    let x = x.broadcast_sub(&x.detach().max_keepdim(1)?)?;
    let log_p = x.broadcast_sub(&x.exp()?.sum_keepdim(1)?.log()?)?;
    Ok((log_p * targets)?.sum(1)?.neg()?)
}

struct SoftCrossEntropy {
    targets: Tensor,
    scale: f32,
    /// Per row: the largest logit, the log of the sum of exponentials below it, and the sum of the targets.
    saved: OnceLock<Vec<[f32; 3]>>,
}

impl CustomOp1 for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (r, c) = l.shape().dims2()?;
        let x = f32_slice(s, l)?;
        let scale = self.scale;
        let per = rows_per_task(c);
        let mut y = vec![0f32; r];
        let mut saved = vec![[0f32; 3]; r];
        with_f32(&self.targets, |q| {
            let outputs = y.par_chunks_mut(per).zip(saved.par_chunks_mut(per));
            outputs.zip(x.par_chunks(per * c).zip(q.par_chunks(per * c))).for_each(|((y, saved), (x, q))| {
                for (i, (y, saved)) in y.iter_mut().zip(saved).enumerate() {
                    let (x, q) = (&x[i * c..(i + 1) * c], &q[i * c..(i + 1) * c]);
                    let max = lane_max(x);
                    let log_sum = lane_sum(c, |k| exp((x[k] - max) * scale)).ln();
                    let mass = lane_sum(c, |k| q[k]);
                    // -log p_k = (max - x_k) / T + log_sum, both terms non-negative
                    *y = lane_sum(c, |k| q[k] * ((max - x[k]) * scale)) + mass * log_sum;
                    *saved = [max, log_sum, mass];
                }
            });
            Ok(())
        })?;
        // A node runs forward once; a second run (same input) would save the same numbers.
        let _ = self.saved.set(saved);
        Ok((CpuStorage::F32(y), r.into()))
    }

    /// `d/dx_k = (mass p_k - q_k) g / T`
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("soft-cross-entropy: backward before forward") };
        let (r, c) = arg.dims2()?;
        let scale = self.scale;
        let per = rows_per_task(c);
        let mut dx = vec![0f32; r * c];
        with_f32(arg, |x| {
            with_f32(&self.targets, |q| {
                with_f32(grad, |g| {
                    dx.par_chunks_mut(per * c)
                        .zip(x.par_chunks(per * c).zip(q.par_chunks(per * c)))
                        .enumerate()
                        .for_each(|(task, (dx, (x, q)))| {
                            for (i, dx) in dx.chunks_exact_mut(c).enumerate() {
                                let row = task * per + i;
                                let [max, log_sum, mass] = saved[row];
                                let g = g[row] * scale;
                                let (x, q) = (&x[i * c..(i + 1) * c], &q[i * c..(i + 1) * c]);
                                for ((dx, &x), &q) in dx.iter_mut().zip(x).zip(q) {
                                    *dx = g * (mass * exp((x - max) * scale - log_sum) - q);
                                }
                            }
                        });
                    Ok(())
                })
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, (r, c), arg.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agree, finite_differences, random};
    use super::*;

    #[test]
    fn exp_is_close_and_keeps_nan() {
        let mut worst = 0f64;
        for i in -860_000..100_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - want).abs() / want);
        }
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn log_sum_exp_paths_agree() {
        for (r, c, skip) in
            [(1, 2, vec![]), (7, 7, vec![0]), (12, 12, vec![0, 6]), (3, 70, vec![]), (9, 4, vec![1, 3])]
        {
            agree(&[random(&[r, c], 1)], |t, path| {
                Ok(log_sum_exp(&(&t[0] * 5.0)?, &skip, path)?.sqr()?.sum_all()?)
            });
            finite_differences(&[random(&[r, c], 2)], |t| {
                Ok(log_sum_exp(&t[0], &skip, Path::Auto)?.sqr()?.sum_all()?)
            });
        }
        assert!(log_sum_exp(&random(&[2, 1], 1), &[0], Path::Auto).is_err());
    }

    #[test]
    fn soft_cross_entropy_paths_agree() {
        let q = random(&[5, 33], 3).abs().unwrap();
        agree(&[random(&[5, 33], 4)], |t, path| {
            let w = Tensor::arange(1u32, 6, t[0].device())?.to_dtype(t[0].dtype())?;
            Ok((soft_cross_entropy(&t[0], &q.to_dtype(t[0].dtype())?, 0.1, path)? * w)?.sum_all()?)
        });
        // The entropy of the uniform distribution, in nats.
        let u = Tensor::full(0.25f32, (2, 4), &candle_core::Device::Cpu).unwrap();
        let y = soft_cross_entropy(&u, &u, 0.1, Path::Auto).unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|y| (y - 4f32.ln()).abs() < 1e-6), "{y:?}");
    }
}
