//! The loss of dense labelling: soft Dice plus cross entropy.
//!
//! Both terms come from one softmax, so on the CPU in f32 they are one graph node: forward takes three sums
//! per sample and class, backward recomputes the softmax of each voxel. A 96^3 volume of 14 classes is 50 MB
//! of scores; the composition would hold six tensors of that size.

use super::check::Check;
use super::rows::{exp, f32_slice, lane_max, rows_per_task, with_f32};
use crate::Result;
use crate::kernels::Path;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Added above and below in the Dice ratio, so that a class that is neither there nor predicted counts as
/// found.
const SMOOTH: f64 = 1e-5;

/// Soft Dice loss plus cross entropy: MONAI's `DiceCELoss(to_onehot_y=True, softmax=True)`.
///
/// `logits`: (N, S.., C), channels last, S.. any number of spatial axes (at least one), C at least 2 classes.
/// `target`: (N, S..) or (N, S.., 1), the class of each voxel, integers or whole floating-point numbers.
///
/// With `p = softmax(logits)` and `t` the target as one-hot, sums over space: `mean_{n,c} [1 - (2 sum p t +
/// 1e-5) / (sum p + sum t + 1e-5)] - mean_{n,v} log p_target`. The background is a class like the others.
///
/// `weights`, none or one for each class, weigh the voxels in the second mean by their classes (PyTorch's
/// `CrossEntropyLoss(weight)`); the Dice of each class counts the same as it is.
///
/// Milletari et al. 2016, "V-Net", arXiv 1606.04797 (Dice, there with squares in the denominator); the sum
/// with cross entropy as in nnU-Net, Isensee et al. 2018, arXiv 1809.10486.
///
/// # Errors
/// Shapes or a number of weights that do not fit, fewer than 2 classes, a target that is not a class (told on
/// the CPU; on other devices such a voxel counts for no class).
pub fn dice_ce(logits: &Tensor, target: &Tensor, weights: &[f32]) -> Result<Tensor> {
    dice_ce_on(logits, target, weights, Path::Auto)
}

fn dice_ce_on(logits: &Tensor, target: &Tensor, weights: &[f32], path: Path) -> Result<Tensor> {
    let at = Check("dice_ce");
    let dims = logits.dims();
    let (n, c) = match *dims {
        [n, .., c] if dims.len() >= 3 && c >= 2 && logits.elem_count() > 0 => (n, c),
        _ => {
            return Err(at.wrong(
                "logits",
                format_args!(
                    "has shape {dims:?}, expected (N, S.., C) with at least 2 classes and no empty axis"
                ),
            ));
        }
    };
    if !weights.is_empty() && weights.len() != c {
        return Err(
            at.wrong("weights", format_args!("are {}, expected one for each of {c} classes", weights.len()))
        );
    }
    let weights = if weights.is_empty() { vec![1.0; c] } else { weights.to_vec() };
    let voxels = logits.elem_count() / (n * c);
    let (space, last) = (&dims[..dims.len() - 1], dims.len() - 1);
    let target = if target.rank() == dims.len() && target.dims()[last] == 1 {
        target.squeeze(last)?
    } else {
        target.clone()
    };
    at.shape("target", &target, space, "(N, S..), the shape of `logits` without its classes")?;
    let logits = at.float("logits", logits)?.reshape((n, voxels, c))?;
    let target = classes(at, &target.detach().reshape((n, voxels))?, c)?;
    if path.fused(&logits) {
        let labels = target.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        return Ok(logits.contiguous()?.apply_op1(DiceCrossEntropy {
            labels,
            weights,
            saved: OnceLock::new(),
        })?);
    }
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?; // (N, V, C)
    let names = Tensor::arange(0i64, c as i64, logits.device())?.reshape((1, 1, c))?;
    let t = target.unsqueeze(2)?.broadcast_eq(&names)?.to_dtype(logits.dtype())?;
    let p = log_p.exp()?;
    let both = (&p * &t)?.sum(1)?.affine(2.0, SMOOTH)?; // (N, C)
    let either = ((p.sum(1)? + t.sum(1)?)? + SMOOTH)?;
    let dice = (both / either)?.mean_all()?.affine(-1.0, 1.0)?;
    let t = t.broadcast_mul(&Tensor::from_vec(weights, c, logits.device())?.to_dtype(logits.dtype())?)?;
    let cross_entropy = ((log_p * &t)?.sum_all()? / t.sum_all()?)?;
    Ok((dice - cross_entropy)?)
}

/// The labels as i64, each below `c` where that can be told without waiting for a device.
fn classes(at: Check, target: &Tensor, c: usize) -> Result<Tensor> {
    if target.device().is_cpu() {
        let labels = target.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        if let Some(i) = labels.iter().position(|&t| !(t >= 0.0 && t < c as f64 && t.fract() == 0.0)) {
            let voxels = target.dim(1)?;
            let problem = format_args!(
                "has {} at sample {}, voxel {}; expected a class from 0 to {}",
                labels[i],
                i / voxels,
                i % voxels,
                c - 1
            );
            return Err(at.wrong("target", problem));
        }
    }
    Ok(target.to_dtype(DType::I64)?)
}

/// Sums over the voxels of one sample, per class, and its cross entropy.
#[derive(Clone)]
struct Sums {
    both: Vec<f64>,
    predicted: Vec<f64>,
    there: Vec<f64>,
    cross_entropy: f64,
}

impl Sums {
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

/// `softmax(x)` into `p`, and the log of what the exponentials above the largest score sum to.
#[inline(always)]
fn softmax(x: &[f32], p: &mut [f32]) -> (f32, f32) {
    let max = lane_max(x);
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

impl CustomOp1 for DiceCrossEntropy {
    fn name(&self) -> &'static str {
        "dice-cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, v, c) = l.shape().dims3()?;
        let x = f32_slice(s, l)?;
        let per = rows_per_task(c);
        let empty =
            Sums { both: vec![0.0; c], predicted: vec![0.0; c], there: vec![0.0; c], cross_entropy: 0.0 };
        let mut saved = Vec::with_capacity(n);
        for (x, labels) in x.chunks_exact(v * c).zip(self.labels.chunks_exact(v)) {
            // Partial sums of each run of voxels, added in order.
            let parts: Vec<Sums> = x
                .par_chunks(per * c)
                .zip(labels.par_chunks(per))
                .map(|(x, labels)| {
                    let (mut sums, mut p) = (empty.clone(), vec![0f32; c]);
                    for (x, &t) in x.chunks_exact(c).zip(labels) {
                        let t = t as usize;
                        let (max, log_sum) = softmax(x, &mut p);
                        for (sum, &p) in sums.predicted.iter_mut().zip(&p) {
                            *sum += f64::from(p);
                        }
                        sums.both[t] += f64::from(p[t]);
                        sums.there[t] += 1.0;
                        sums.cross_entropy += f64::from(self.weights[t] * (max - x[t] + log_sum));
                    }
                    sums
                })
                .collect();
            saved.push(parts.iter().fold(empty.clone(), |mut a, b| {
                for k in 0..c {
                    a.both[k] += b.both[k];
                    a.predicted[k] += b.predicted[k];
                    a.there[k] += b.there[k];
                }
                a.cross_entropy += b.cross_entropy;
                a
            }));
        }
        let mut dice = 0f64;
        let mut cross_entropy = 0f64;
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
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    /// With `a_k = dDice/dp_k` (its part without `t`, and `b_k` the part at `t_k = 1`):
    /// `d/dx_j = p_j (d_j - sum_k p_k d_k) + (p_j - t_j) w_t / sum w_t`, `d_k = a_k + t_k b_k`.
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("dice-cross-entropy: backward before forward") };
        let (n, v, c) = arg.dims3()?;
        let g = f64::from(grad.to_scalar::<f32>()?);
        let per = rows_per_task(c);
        let weight: f64 = saved.iter().map(|s| s.weight(&self.weights)).sum();
        let shares: Vec<f32> = self.weights.iter().map(|w| (g * f64::from(*w) / weight) as f32).collect();
        let mut dx = vec![0f32; n * v * c];
        with_f32(arg, |x| {
            for (i, sums) in saved.iter().enumerate() {
                let scale = g / (n * c) as f64;
                let below = |k: usize| sums.predicted[k] + sums.there[k] + SMOOTH;
                let a: Vec<f32> = (0..c)
                    .map(|k| (scale * (2.0 * sums.both[k] + SMOOTH) / below(k).powi(2)) as f32)
                    .collect();
                let b: Vec<f32> = (0..c).map(|k| (-2.0 * scale / below(k)) as f32).collect();
                let (dx, x) = (&mut dx[i * v * c..(i + 1) * v * c], &x[i * v * c..(i + 1) * v * c]);
                let labels = &self.labels[i * v..(i + 1) * v];
                dx.par_chunks_mut(per * c).zip(x.par_chunks(per * c)).zip(labels.par_chunks(per)).for_each(
                    |((dx, x), labels)| {
                        let mut p = vec![0f32; c];
                        for ((dx, x), &t) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(labels) {
                            let t = t as usize;
                            let share = shares[t];
                            softmax(x, &mut p);
                            let mean = p.iter().zip(&a).map(|(p, a)| p * a).sum::<f32>() + p[t] * b[t];
                            for ((dx, &p), &a) in dx.iter_mut().zip(&p).zip(&a) {
                                *dx = p * (a - mean + share);
                            }
                            dx[t] += p[t] * b[t] - share;
                        }
                    },
                );
            }
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(dx, (n, v, c), arg.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, agree, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::Device;

    fn labels(dims: &[usize], c: usize) -> Tensor {
        let n: usize = dims.iter().product();
        Tensor::from_vec((0..n).map(|i| (i * i / 3 % c) as i64).collect::<Vec<_>>(), dims, &Device::Cpu)
            .unwrap()
    }

    /// The file has MONAI's layout, channels first.
    #[test]
    fn golden() {
        let g = Golden::open("losses/dice_ce");
        let target = g.get("input.target").squeeze(1).unwrap();
        for path in [Path::Fused, Path::Composed] {
            g.check(&["logits"], |t| dice_ce_on(&t[0].permute((0, 2, 3, 4, 1))?, &target, &[], path));
        }
    }

    /// Two voxels of two classes with equal scores: each p is 1/2, cross entropy ln 2. With labels 0 and 1
    /// each class has Dice 2 * 0.5 / (1 + 1); with labels 0 and 0 it is 2 * 1 / (1 + 2) and about 0.
    #[test]
    fn closed_forms() {
        let x = f32s(&[0.0; 4], &[1, 2, 2]);
        let near = |labels: [i64; 2], dice: [f64; 2]| {
            for path in [Path::Fused, Path::Composed] {
                let got = value(
                    &dice_ce_on(&x, &Tensor::new(&[labels], &Device::Cpu).unwrap(), &[], path).unwrap(),
                );
                let want = 1.0 - (dice[0] + dice[1]) / 2.0 + 2f64.ln();
                assert!((got - want).abs() < 1e-5, "{got} for {want}");
            }
        };
        near([0, 1], [0.5, 0.5]);
        near([0, 0], [2.0 / 3.0, 0.0]);
        // Sure and right: no loss, also for the class that is neither there nor predicted.
        let sure = f32s(&[60.0, 0.0, 0.0, 0.0, 60.0, 0.0], &[1, 2, 3]);
        let t = Tensor::new(&[[0u8, 1]], &Device::Cpu).unwrap();
        assert!(value(&dice_ce(&sure, &t, &[]).unwrap()).abs() < 1e-5);
        // Voxels of class 0 weigh 3: (3 * ln 2 + 1 * ln(1 + e)) / 4 for scores (0, 0) and (1, 0) with labels
        // 0 and 1.
        let x = f32s(&[0.0, 0.0, 1.0, 0.0], &[1, 2, 2]);
        let t = Tensor::new(&[[0u8, 1]], &Device::Cpu).unwrap();
        let dice = value(&dice_ce(&x, &t, &[]).unwrap()) - (2f64.ln() + (1.0 + 1f64.exp()).ln()) / 2.0;
        for path in [Path::Fused, Path::Composed] {
            let got = value(&dice_ce_on(&x, &t, &[3.0, 1.0], path).unwrap()) - dice;
            let want = (3.0 * 2f64.ln() + (1.0 + 1f64.exp()).ln()) / 4.0;
            assert!((got - want).abs() < 1e-5, "{got} for {want}");
        }
    }

    #[test]
    fn gradients() {
        let t = labels(&[2, 3, 2], 3);
        for weights in [&[][..], &[0.5, 2.0, 4.0]] {
            finite_differences(&[random(&[2, 3, 2, 3], 1)], |x| dice_ce(&x[0], &t, weights));
        }
        for dims in [[2usize, 5, 7, 3], [1, 40, 300, 2], [3, 4, 4, 17]] {
            let t = labels(&dims[..3], dims[3]);
            let weights: Vec<f32> = (1..=dims[3]).map(|i| i as f32 / 3.0).collect();
            for weights in [&[][..], &weights] {
                agree(&[random(&dims, 2)], |x, path| dice_ce_on(&x[0], &t.unsqueeze(3)?, weights, path));
            }
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let says = |x: &Tensor, t: &Tensor, parts: &[&str]| {
            let e = dice_ce(x, t, &[]).unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        let (x, t) = (random(&[2, 3, 4, 3], 1), labels(&[2, 3, 4], 3));
        says(&random(&[2, 3], 1), &t, &["`logits`", "(N, S.., C)"]);
        says(&random(&[2, 3, 1], 1), &t, &["`logits`", "2 classes"]);
        says(&x, &labels(&[2, 4, 3], 3), &["`target`", "[2, 3, 4]"]);
        says(&x, &labels(&[2, 3, 4], 5), &["`target`", "voxel", "from 0 to 2"]);
        says(&x, &random(&[2, 3, 4], 1), &["`target`", "expected a class"]);
        let e = dice_ce(&x, &t, &[1.0]).unwrap_err().to_string();
        assert!(e.contains("`weights`") && e.contains("3 classes"), "{e}");
    }
}
