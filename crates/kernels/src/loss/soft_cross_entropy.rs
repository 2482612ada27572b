//! Cross entropy against distributions. On the CPU one node of the graph, which keeps three numbers per row.

use crate::Path;
use crate::activation::math::{exp, lanes, largest};
use crate::activation::slices::{CHUNK, Floats, floats, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// `-sum_k targets_k log_softmax(logits / temperature)_k` of each row: `(R, K)` and `(R, K)` to `(R)`.
///
/// The targets get no gradient and need not sum to one: a row that is the sum of `m` distributions counts
/// them all at once, and a zero row counts nothing.
///
/// # Errors
/// If the shapes differ or are not `(R, K)` with K at least 1, the temperature is not above 0, or `path` asks
/// for the fused kernel and a tensor is not f32 on the CPU.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor, temperature: f64, path: Path) -> Result<Tensor> {
    let (_, k) = logits.dims2()?;
    if k == 0 || targets.dims() != logits.dims() || temperature.is_nan() || temperature <= 0.0 {
        bail!(
            "soft_cross_entropy: logits {:?}, targets {:?} and a temperature of {temperature}, expected (R, K) twice and a number above 0",
            logits.dims(),
            targets.dims()
        )
    }
    let targets = targets.detach();
    if wants_fused("soft_cross_entropy", path, &[logits, &targets])? {
        let op = SoftCrossEntropy {
            targets: targets.contiguous()?,
            scale: (1.0 / temperature) as f32,
            saved: OnceLock::new(),
        };
        return logits.contiguous()?.apply_op1(op);
    }
    let x = (logits / temperature)?;
    let x = x.broadcast_sub(&x.detach().max_keepdim(1)?)?;
    let log_p = x.broadcast_sub(&x.exp()?.sum_keepdim(1)?.log()?)?;
    (log_p * targets)?.sum(1)?.neg()
}

struct SoftCrossEntropy {
    targets: Tensor,
    scale: f32,
    saved: OnceLock<Vec<Row>>,
}

/// What the backward needs of a row.
#[derive(Clone, Copy, Default)]
struct Row {
    /// The largest logit.
    max: f32,
    /// The logarithm of the sum of the exponentials below it.
    log_sum: f32,
    /// The sum of the targets.
    mass: f32,
}

simd_fn! {
    /// The loss of a row, and what is kept of it.
    fn forward(x: &[f32], q: &[f32], scale: f32) -> (f32, Row) {
        let max = largest(x);
        let log_sum = lanes!(|v = x| exp((v - max) * scale)).ln();
        let mass = lanes!(|q = q| q);
        // -log p_k = (max - x_k) / T + log_sum, both terms non-negative
        let loss = lanes!(|v = x, q = q| q * ((max - v) * scale)) + mass * log_sum;
        (loss, Row { max, log_sum, mass })
    }
}

simd_fn! {
    /// `g (mass p - q)`
    fn backward(x: &[f32], q: &[f32], row: Row, scale: f32, g: f32, d: &mut [Blank]) {
        for ((d, &x), &q) in d.iter_mut().zip(x).zip(q) {
            d.write(g * (row.mass * exp((x - row.max) * scale - row.log_sum) - q));
        }
    }
}

impl CustomOp1 for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (r, c) = l.shape().dims2()?;
        let (x, q) = (floats(s, l)?, Floats::new(&self.targets)?);
        let q: &[f32] = &q;
        let rows = x.par_chunks_exact(c).with_min_len(rows_of(c, CHUNK)).zip(q.par_chunks_exact(c));
        let (y, saved) = rows.map(|(x, q)| forward(x, q, self.scale)).unzip();
        // A node runs forward once; a second run (same input) would save the same numbers.
        let _ = self.saved.set(saved);
        Ok(output(y, r))
    }

    /// `d/dx_k = (mass p_k - q_k) g / T`
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("soft-cross-entropy: backward before forward") };
        let (r, c) = arg.dims2()?;
        let grad = grad.contiguous()?;
        let (x, q, g) = (Floats::new(arg)?, Floats::new(&self.targets)?, Floats::new(&grad)?);
        let (x, q, g): (&[f32], &[f32], &[f32]) = (&x, &q, &g);
        let mut d = unwritten(r * c);
        let rows = d.par_chunks_exact_mut(c).with_min_len(rows_of(c, CHUNK));
        rows.zip(x.par_chunks_exact(c).zip(q.par_chunks_exact(c)))
            .zip(saved.par_iter().zip(g))
            .for_each(|((d, (x, q)), (&row, &g))| backward(x, q, row, self.scale, g * self.scale, d));
        // SAFETY: logits, targets, what was saved and the gradient have a row for each of `d`.
        Ok(Some(tensor(unsafe { d.written() }, (r, c))?))
    }
}
