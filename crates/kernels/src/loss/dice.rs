//! Soft Dice plus cross entropy. Both terms come from one softmax, so on the CPU they are one node of the
//! graph: the forward takes three sums per sample and class, the backward computes the softmax of each voxel
//! again. A 96^3 volume of 14 classes is 50 MB of scores; the composition would hold six tensors of that
//! size.

use crate::Path;
use crate::activation::math::{exp, largest};
use crate::activation::slices::{CHUNK, Floats, floats, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Added above and below in the Dice ratio, so that a class that is neither there nor predicted counts as
/// found.
const SMOOTH: f64 = 1e-5;

/// With `p = softmax(logits)`, `t` the labels as one-hot and sums over the voxels of a sample: `mean_{n,c} [1
/// - (2 sum p t + 1e-5) / (sum p + sum t + 1e-5)] - sum_{n,v} w_t log p_t / sum_{n,v} w_t`.
///
/// `logits` are `(N, V, C)`, `labels` `(N, V)` of i64, `weights` one for each class.
///
/// # Errors
/// If shapes do not fit, a label on the CPU is not a class, or `path` asks for the fused kernel and `logits`
/// are not f32 on the CPU.
pub fn dice_cross_entropy(logits: &Tensor, labels: &Tensor, weights: &[f32], path: Path) -> Result<Tensor> {
    let (n, v, c) = logits.dims3()?;
    if labels.dims() != [n, v] || weights.len() != c || logits.elem_count() == 0 {
        bail!(
            "dice_cross_entropy: logits {:?}, labels {:?} and {} weights, expected (N, V, C), (N, V) and C",
            logits.dims(),
            labels.dims(),
            weights.len()
        )
    }
    if wants_fused("dice_cross_entropy", path, &[logits])? {
        let labels = labels.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        if let Some(label) = labels.iter().find(|t| **t as usize >= c) {
            bail!("dice_cross_entropy: a voxel of class {label}, expected one of {c} classes")
        }
        let op = DiceCrossEntropy { labels, weights: weights.to_vec(), saved: OnceLock::new() };
        return logits.contiguous()?.apply_op1(op);
    }
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?; // (N, V, C)
    let names = Tensor::arange(0i64, c as i64, logits.device())?.reshape((1, 1, c))?;
    let t = labels.unsqueeze(2)?.broadcast_eq(&names)?.to_dtype(logits.dtype())?;
    let p = log_p.exp()?;
    let both = (&p * &t)?.sum(1)?.affine(2.0, SMOOTH)?; // (N, C)
    let either = ((p.sum(1)? + t.sum(1)?)? + SMOOTH)?;
    let dice = (both / either)?.mean_all()?.affine(-1.0, 1.0)?;
    let t = t.broadcast_mul(&Tensor::from_slice(weights, c, logits.device())?.to_dtype(logits.dtype())?)?;
    let cross_entropy = ((log_p * &t)?.sum_all()? / t.sum_all()?)?;
    dice - cross_entropy
}

/// Sums over voxels of one sample: per class `p t`, `p` and `t`, and the weighted cross entropy.
#[derive(Clone)]
struct Sums {
    both: Vec<f64>,
    predicted: Vec<f64>,
    there: Vec<f64>,
    cross_entropy: f64,
}

impl Sums {
    fn zero(c: usize) -> Self {
        Sums { both: vec![0.0; c], predicted: vec![0.0; c], there: vec![0.0; c], cross_entropy: 0.0 }
    }

    fn add(&mut self, other: &Sums) {
        for (a, b) in [
            (&mut self.both, &other.both),
            (&mut self.predicted, &other.predicted),
            (&mut self.there, &other.there),
        ] {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
        self.cross_entropy += other.cross_entropy;
    }

    /// What the voxels weigh together.
    fn weight(&self, weights: &[f32]) -> f64 {
        self.there.iter().zip(weights).map(|(n, w)| n * f64::from(*w)).sum()
    }
}

struct DiceCrossEntropy {
    labels: Vec<u32>,
    /// One for each class.
    weights: Vec<f32>,
    saved: OnceLock<Vec<Sums>>,
}

/// `softmax(x)` into `p`; the largest score, and the logarithm of the sum of the exponentials below it.
#[inline(always)]
fn softmax(x: &[f32], p: &mut [f32]) -> (f32, f32) {
    let max = largest(x);
    let mut sum = 0f32;
    for (p, &x) in p.iter_mut().zip(x) {
        *p = exp(x - max);
        sum += *p;
    }
    for p in p.iter_mut() {
        *p /= sum;
    }
    (max, sum.ln())
}

simd_fn! {
    /// Adds the voxels `x (V, C)`; `p` is room for `C` numbers.
    fn add_voxels(x: &[f32], labels: &[u32], weights: &[f32], p: &mut [f32], sums: &mut Sums) {
        for (x, &t) in x.chunks_exact(p.len()).zip(labels) {
            let t = t as usize;
            let (max, log_sum) = softmax(x, p);
            for (sum, &p) in sums.predicted.iter_mut().zip(p.iter()) {
                *sum += f64::from(p);
            }
            sums.both[t] += f64::from(p[t]);
            sums.there[t] += 1.0;
            sums.cross_entropy += f64::from(weights[t] * (max - x[t] + log_sum));
        }
    }
}

simd_fn! {
    /// The gradient of the voxels `x (V, C)`: `p_j (a_j - mean + share_t)`, and `p_t b_t - share_t` more at
    /// the label `t`.
    fn gradient(x: &[f32], labels: &[u32], a: &[f32], b: &[f32], shares: &[f32], p: &mut [f32], d: &mut [Blank]) {
        let c = p.len();
        for ((d, x), &t) in d.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(labels) {
            let t = t as usize;
            let share = shares[t];
            softmax(x, p);
            let mut mean = p[t] * b[t];
            for (p, a) in p.iter().zip(a) {
                mean += p * a;
            }
            for (j, ((d, &p), &a)) in d.iter_mut().zip(p.iter()).zip(a).enumerate() {
                let more = if j == t { p * b[t] - share } else { 0.0 };
                d.write(p * (a - mean + share) + more);
            }
        }
    }
}

impl CustomOp1 for DiceCrossEntropy {
    fn name(&self) -> &'static str {
        "dice-cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, v, c) = l.shape().dims3()?;
        let x = floats(s, l)?;
        let per = rows_of(c, CHUNK);
        let mut saved = Vec::with_capacity(n);
        for (x, labels) in x.chunks_exact(v * c).zip(self.labels.chunks_exact(v)) {
            // Partial sums of each run of voxels, added in order.
            let parts: Vec<Sums> = x
                .par_chunks(per * c)
                .zip(labels.par_chunks(per))
                .map(|(x, labels)| {
                    let (mut sums, mut p) = (Sums::zero(c), vec![0f32; c]);
                    add_voxels(x, labels, &self.weights, &mut p, &mut sums);
                    sums
                })
                .collect();
            let mut all = Sums::zero(c);
            parts.iter().for_each(|part| all.add(part));
            saved.push(all);
        }
        let (mut dice, mut cross_entropy) = (0f64, 0f64);
        for s in &saved {
            dice += (0..c)
                .map(|k| 1.0 - (2.0 * s.both[k] + SMOOTH) / (s.predicted[k] + s.there[k] + SMOOTH))
                .sum::<f64>();
            cross_entropy += s.cross_entropy;
        }
        let weight: f64 = saved.iter().map(|s| s.weight(&self.weights)).sum();
        let loss = dice / (n * c) as f64 + cross_entropy / weight;
        // A node runs forward once; a second run (same input) would save the same numbers.
        let _ = self.saved.set(saved);
        Ok(output(vec![loss as f32], ()))
    }

    /// With `a_k = dDice/dp_k` (its part without `t`, and `b_k` the part at `t_k = 1`):
    /// `d/dx_j = p_j (d_j - sum_k p_k d_k) + (p_j - t_j) w_t / sum w_t`, `d_k = a_k + t_k b_k`.
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("dice-cross-entropy: backward before forward") };
        let (n, v, c) = arg.dims3()?;
        let g = f64::from(grad.to_scalar::<f32>()?);
        let per = rows_of(c, CHUNK);
        let weight: f64 = saved.iter().map(|s| s.weight(&self.weights)).sum();
        let shares: Vec<f32> = self.weights.iter().map(|w| (g * f64::from(*w) / weight) as f32).collect();
        let scale = g / (n * c) as f64;
        let x = Floats::new(arg)?;
        let mut d = unwritten(n * v * c);
        let samples = d.chunks_exact_mut(v * c).zip(x.chunks_exact(v * c)).zip(self.labels.chunks_exact(v));
        for (((d, x), labels), sums) in samples.zip(saved) {
            let below = |k: usize| sums.predicted[k] + sums.there[k] + SMOOTH;
            let a: Vec<f32> =
                (0..c).map(|k| (scale * (2.0 * sums.both[k] + SMOOTH) / below(k).powi(2)) as f32).collect();
            let b: Vec<f32> = (0..c).map(|k| (-2.0 * scale / below(k)) as f32).collect();
            d.par_chunks_mut(per * c)
                .zip(x.par_chunks(per * c))
                .zip(labels.par_chunks(per))
                .for_each(|((d, x), labels)| gradient(x, labels, &a, &b, &shares, &mut vec![0f32; c], d));
        }
        // SAFETY: logits, labels and what was saved have each sample, and each voxel, that `d` has.
        Ok(Some(tensor(unsafe { d.written() }, (n, v, c))?))
    }
}
