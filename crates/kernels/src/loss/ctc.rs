//! Connectionist temporal classification (Graves et al. 2006, ICML): minus the log-probability of all
//! alignments of a target to the frames.
//!
//! The target `a b` stands between blanks, `- a - b -`; an alignment walks through these states, one a frame,
//! staying, advancing by one, or by two over a blank between different labels. `alpha_t(s)` is the
//! log-probability of all walks that are in state `s` at frame `t`, `beta_t(s)` of all that go on from there;
//! both in f64. With `gamma_t(s) = exp(alpha_t(s) + beta_t(s) - log p)`, the share of walks through a state,
//! the gradient for the logits is `softmax(x_t)_c - sum of gamma_t(s) over the states of label c`.
//!
//! One node of the graph: a recursion of candle's operators over the frames would be a graph of thousands of
//! nodes.

use crate::activation::slices::floats;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Minus the log-likelihood of each sample, in nats: `logits (B, T, C)` (any numbers: the log-softmax is
/// taken inside), `targets (B, S)` (i64), of which the first `target_lengths[b]` count, over the first
/// `input_lengths[b]` frames, to `(B)`.
///
/// A target that fits into no alignment (longer, with its repeats, than the frames) has the loss
/// `f32::INFINITY` and a zero gradient, so a caller can leave such samples out of a mean without ruining the
/// others. The recursion runs on the host; tensors on other devices are copied.
///
/// # Errors
/// If the shapes or lengths do not fit, or a counted target is the blank or no class.
pub fn ctc(
    logits: &Tensor,
    targets: &Tensor,
    input_lengths: &[usize],
    target_lengths: &[usize],
    blank: usize,
) -> Result<Tensor> {
    let &[b, t, c] = logits.dims() else {
        bail!("ctc: logits of shape {:?}, expected (batch, frames, classes)", logits.dims())
    };
    let (tb, s) = match targets.dims() {
        &[tb, s] => (tb, s),
        other => bail!("ctc: targets of shape {other:?}, expected ({b}, labels)"),
    };
    if tb != b || input_lengths.len() != b || target_lengths.len() != b {
        bail!(
            "ctc: {tb} targets, {} input lengths and {} target lengths for a batch of {b}",
            input_lengths.len(),
            target_lengths.len()
        )
    }
    if blank >= c {
        bail!("ctc: blank {blank}, expected one of the {c} classes")
    }
    let all = targets.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let mut samples = Vec::with_capacity(b);
    for (i, (&frames, &labels)) in input_lengths.iter().zip(target_lengths).enumerate() {
        if frames > t || labels > s {
            bail!("ctc: sample {i} has {frames} frames and {labels} labels, expected at most {t} and {s}")
        }
        let labels = all[i * s..i * s + labels]
            .iter()
            .map(|&l| usize::try_from(l).ok().filter(|&l| l < c && l != blank))
            .collect::<Option<Vec<_>>>();
        match labels {
            Some(labels) => samples.push(Sample { frames, labels }),
            None => {
                bail!("ctc: sample {i} has a target that is the blank {blank} or none of the {c} classes")
            }
        }
    }
    let x = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
    let op = Ctc { samples, blank, gradient: x.track_op(), saved: OnceLock::new() };
    x.apply_op1(op)?.to_device(logits.device())?.to_dtype(logits.dtype())
}

struct Sample {
    frames: usize,
    labels: Vec<usize>,
}

struct Ctc {
    samples: Vec<Sample>,
    blank: usize,
    /// Whether the forward makes the gradient as well (it has the alphas and betas at hand).
    gradient: bool,
    /// The gradient for the logits, of each sample's loss.
    saved: OnceLock<Vec<f32>>,
}

/// `log(exp a + exp b)`
fn log_add(a: f64, b: f64) -> f64 {
    let (hi, lo) = if a > b { (a, b) } else { (b, a) };
    if lo == f64::NEG_INFINITY { hi } else { hi + (lo - hi).exp().ln_1p() }
}

impl Ctc {
    /// Loss of one sample with logits `x (T, C)`; its gradient goes to `dx`, if that is not empty.
    fn sample(&self, sample: &Sample, c: usize, x: &[f32], dx: &mut [f32]) -> f32 {
        let (frames, labels) = (sample.frames, &sample.labels);
        let states = 2 * labels.len() + 1;
        if frames == 0 {
            return if labels.is_empty() { 0.0 } else { f32::INFINITY };
        }
        let class = |s: usize| if s.is_multiple_of(2) { self.blank } else { labels[s / 2] };
        // Whether state s can be entered from s - 2: it is a label that differs from the one before.
        let skips = |s: usize| s % 2 == 1 && s >= 3 && labels[s / 2] != labels[s / 2 - 1];
        let mut log_p = vec![0f64; frames * c];
        for (lp, x) in log_p.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = x.iter().map(|v| f64::from(v - max).exp()).sum();
            let log_sum = f64::from(max) + sum.ln();
            for (lp, &v) in lp.iter_mut().zip(x) {
                *lp = f64::from(v) - log_sum;
            }
        }
        const NONE: f64 = f64::NEG_INFINITY;
        let mut alpha = vec![NONE; frames * states];
        for s in 0..states.min(2) {
            alpha[s] = log_p[class(s)];
        }
        for t in 1..frames {
            let (before, now) = alpha.split_at_mut(t * states);
            let before = &before[(t - 1) * states..];
            for s in 0..states {
                let mut a = before[s];
                if s >= 1 {
                    a = log_add(a, before[s - 1]);
                }
                if skips(s) {
                    a = log_add(a, before[s - 2]);
                }
                now[s] = a + log_p[t * c + class(s)];
            }
        }
        let last = &alpha[(frames - 1) * states..];
        let total = if states > 1 { log_add(last[states - 1], last[states - 2]) } else { last[0] };
        if total == NONE {
            return f32::INFINITY;
        }
        if dx.is_empty() {
            return -total as f32;
        }
        let mut beta: Vec<f64> = (0..states).map(|s| if s + 2 >= states { 0.0 } else { NONE }).collect();
        let mut next = vec![NONE; states];
        let mut seen = vec![0f64; c];
        for t in (0..frames).rev() {
            if t + 1 < frames {
                let lp = &log_p[(t + 1) * c..(t + 2) * c];
                for s in 0..states {
                    let mut b = beta[s] + lp[class(s)];
                    if s + 1 < states {
                        b = log_add(b, beta[s + 1] + lp[class(s + 1)]);
                    }
                    if s + 2 < states && skips(s + 2) {
                        b = log_add(b, beta[s + 2] + lp[class(s + 2)]);
                    }
                    next[s] = b;
                }
                std::mem::swap(&mut beta, &mut next);
            }
            seen.fill(0.0);
            for s in 0..states {
                seen[class(s)] += (alpha[t * states + s] + beta[s] - total).exp();
            }
            for ((dx, lp), seen) in dx[t * c..(t + 1) * c].iter_mut().zip(&log_p[t * c..]).zip(&seen) {
                *dx = (lp.exp() - seen) as f32;
            }
        }
        -total as f32
    }
}

impl CustomOp1 for Ctc {
    fn name(&self) -> &'static str {
        "ctc"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, t, c) = l.shape().dims3()?;
        let x = floats(s, l)?;
        let mut dx = vec![0f32; if self.gradient { x.len() } else { 0 }];
        let mut loss = vec![0f32; b];
        if t * c > 0 && self.gradient {
            let rows = loss
                .par_iter_mut()
                .zip(dx.par_chunks_exact_mut(t * c))
                .zip(x.par_chunks_exact(t * c))
                .zip(&self.samples);
            rows.for_each(|(((loss, dx), x), sample)| *loss = self.sample(sample, c, x, dx));
        } else {
            let rows = loss.par_iter_mut().enumerate().zip(&self.samples);
            rows.for_each(|((i, loss), sample)| {
                *loss = self.sample(sample, c, &x[i * t * c..(i + 1) * t * c], &mut [])
            });
        }
        // A node runs forward once.
        let _ = self.saved.set(dx);
        Ok((CpuStorage::F32(loss), b.into()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("ctc: backward before forward") };
        let (_, t, c) = arg.dims3()?;
        let grad = grad.to_vec1::<f32>()?;
        let mut dx = vec![0f32; saved.len()];
        if t * c > 0 {
            dx.par_chunks_exact_mut(t * c).zip(saved.par_chunks_exact(t * c)).zip(&grad).for_each(
                |((dx, saved), g)| {
                    for (dx, s) in dx.iter_mut().zip(saved) {
                        // Where the loss is infinite, s is 0 and a gradient of infinity (of its square, say)
                        // must not make a NaN.
                        *dx = if *s == 0.0 { 0.0 } else { g * s };
                    }
                },
            );
        }
        Ok(Some(Tensor::from_vec(dx, arg.shape(), arg.device())?))
    }
}
