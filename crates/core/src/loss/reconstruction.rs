//! Losses of reconstructed inputs: the masked patches of MAE.
//!
//! One graph node on the CPU in f32: a patch that was not removed is neither read nor normalised, and its
//! gradient is a plain zero. With 75% of 196 patches of 768 values removed, the composition would keep five
//! tensors of the size of the prediction; this keeps two numbers per patch.

use super::check::Check;
use super::rows::{f32_slice, lane_sum, rows_per_task, with_f32};
use crate::Result;
use crate::kernels::Path;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Added to the variance of a patch before its root.
const EPS: f64 = 1e-6;

/// MAE: squared error of the removed patches, mean over their values: `sum_l m_l mean_p (pred_lp - t_lp)^2 /
/// sum_l m_l`.
///
/// `pred`, `target`: (N, L, P), the P values (pixels times channels, in one order) of L patches; `target` is
/// detached. `mask`: (N, L), 1 for a removed patch and 0 for one that the encoder saw; any dtype. With
/// `norm_pix` each target patch is first standardised by its own mean and `sqrt(unbiased variance + 1e-6)`.
///
/// He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377, section 3 and table
/// 1d.
///
/// # Errors
/// Shapes that do not fit, patches of one value with `norm_pix` (no variance), a mask that removes nothing or
/// has entries below 0 (told on the CPU; on other devices the loss is then not a number).
pub fn mae_normalized_pixels(
    pred: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    norm_pix: bool,
) -> Result<Tensor> {
    mae_normalized_pixels_on(pred, target, mask, norm_pix, Path::Auto)
}

fn mae_normalized_pixels_on(
    pred: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    norm_pix: bool,
    path: Path,
) -> Result<Tensor> {
    let at = Check("mae_normalized_pixels");
    let [n, l, p] = *pred.dims() else {
        return Err(at.wrong("pred", format_args!("has shape {:?}, expected (N, L, P)", pred.dims())));
    };
    if pred.elem_count() == 0 {
        return Err(at.wrong(
            "pred",
            format_args!("has shape {:?}, expected (N, L, P) with every size at least 1", pred.dims()),
        ));
    }
    let pred = at.float("pred", pred)?;
    let target = at.like("target", target, "pred", &pred)?.detach();
    at.shape("mask", mask, &[n, l], "(N, L)")?;
    if norm_pix && p < 2 {
        return Err(at.wrong(
            "target",
            "has patches of 1 value, expected at least 2: each patch is divided by its standard deviation",
        ));
    }
    let mask = mask.detach().to_dtype(pred.dtype())?.contiguous()?;
    if mask.device().is_cpu() {
        let m = mask.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        if let Some(i) = m.iter().position(|v| !(*v >= 0.0 && v.is_finite())) {
            return Err(
                at.wrong("mask", format_args!("has {} at [{}, {}], expected 0 or 1", m[i], i / l, i % l))
            );
        }
        if m.iter().all(|v| *v == 0.0) {
            return Err(at.wrong("mask", "is 0 everywhere, expected at least one removed patch"));
        }
    }
    if path.fused(&pred) {
        let op = MaskedPixels { target: target.contiguous()?, mask, norm_pix, saved: OnceLock::new() };
        return Ok(pred.contiguous()?.apply_op1(op)?);
    }
    let target = if norm_pix {
        let centered = target.broadcast_sub(&target.mean_keepdim(D::Minus1)?)?;
        let variance = (centered.sqr()?.sum_keepdim(D::Minus1)? / (p as f64 - 1.0))?;
        centered.broadcast_div(&(variance + EPS)?.sqrt()?)?
    } else {
        target
    };
    let per_patch = ((pred - target)?.sqr()?.sum(D::Minus1)? / p as f64)?; // (N, L)
    Ok(((per_patch * &mask)?.sum_all()? / mask.sum_all()?)?)
}

struct MaskedPixels {
    target: Tensor,
    mask: Tensor,
    norm_pix: bool,
    /// Per patch: mean and 1 / deviation of the target; 0 and 1 without normalisation.
    saved: OnceLock<Vec<[f32; 2]>>,
}

impl MaskedPixels {
    fn statistics(&self, t: &[f32]) -> [f32; 2] {
        if !self.norm_pix {
            return [0.0, 1.0];
        }
        let p = t.len();
        let mean = lane_sum(p, |i| t[i]) / p as f32;
        let variance = lane_sum(p, |i| (t[i] - mean) * (t[i] - mean)) / (p - 1) as f32;
        [mean, 1.0 / (variance + EPS as f32).sqrt()]
    }
}

/// Sum of the mask, in f64 and in order: at most a few million entries.
fn total(mask: &[f32]) -> f64 {
    mask.iter().map(|&m| f64::from(m)).sum()
}

impl CustomOp1 for MaskedPixels {
    fn name(&self) -> &'static str {
        "mae-pixels"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, patches, p) = l.shape().dims3()?;
        let x = f32_slice(s, l)?;
        let per = rows_per_task(p);
        let mut saved = vec![[0f32; 2]; n * patches];
        let loss = with_f32(&self.target, |t| {
            with_f32(&self.mask, |m| {
                // One partial sum per task, added in order below.
                let parts: Vec<f64> = saved
                    .par_chunks_mut(per)
                    .zip(m.par_chunks(per))
                    .zip(x.par_chunks(per * p).zip(t.par_chunks(per * p)))
                    .map(|((saved, m), (x, t))| {
                        let mut sum = 0f64;
                        for (i, (saved, &m)) in
                            saved.iter_mut().zip(m).enumerate().filter(|(_, (_, m))| **m != 0.0)
                        {
                            let (x, t) = (&x[i * p..(i + 1) * p], &t[i * p..(i + 1) * p]);
                            *saved = self.statistics(t);
                            let [mean, scale] = *saved;
                            let squares = lane_sum(p, |k| {
                                let d = x[k] - (t[k] - mean) * scale;
                                d * d
                            });
                            sum += f64::from(m) * f64::from(squares);
                        }
                        sum
                    })
                    .collect();
                Ok(parts.iter().sum::<f64>() / (total(m) * p as f64))
            })
        })?;
        // A node runs forward once; a second run (same input) would save the same numbers.
        let _ = self.saved.set(saved);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    /// `d/dpred_lp = 2 m_l (pred_lp - t_lp) g / (P sum m)`
    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if !arg.track_op() {
            return Ok(None);
        }
        let Some(saved) = self.saved.get() else { bail!("mae-pixels: backward before forward") };
        let (_, _, p) = arg.dims3()?;
        let g = f64::from(grad.to_scalar::<f32>()?);
        let per = rows_per_task(p);
        let mut dx = vec![0f32; arg.elem_count()];
        with_f32(arg, |x| {
            with_f32(&self.target, |t| {
                with_f32(&self.mask, |m| {
                    let scale = 2.0 * g / (total(m) * p as f64);
                    dx.par_chunks_mut(per * p).enumerate().for_each(|(task, dx)| {
                        for (i, dx) in dx.chunks_exact_mut(p).enumerate() {
                            let row = task * per + i;
                            if m[row] == 0.0 {
                                continue;
                            }
                            let g = (scale * f64::from(m[row])) as f32;
                            let [mean, inverse] = saved[row];
                            for ((dx, &x), &t) in dx.iter_mut().zip(&x[row * p..]).zip(&t[row * p..]) {
                                *dx = g * (x - (t - mean) * inverse);
                            }
                        }
                    });
                    Ok(())
                })
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, arg.shape(), arg.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, agree, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::{Device, Var};

    /// A mask of 0 and 1 of which about two thirds are 1, the first among them.
    fn mask(n: usize, l: usize) -> Tensor {
        let m: Vec<u8> = (0..n * l).map(|i| u8::from(i * i % 3 != 1 || i == 0)).collect();
        Tensor::from_vec(m, (n, l), &Device::Cpu).unwrap()
    }

    #[test]
    fn golden() {
        let g = Golden::open("losses/mae_normpix");
        for path in [Path::Fused, Path::Composed] {
            g.check(&["pred"], |t| {
                mae_normalized_pixels_on(
                    &t[0],
                    &g.get("input.const_target"),
                    &g.get("input.mask"),
                    true,
                    path,
                )
            });
        }
    }

    /// Patches (1, 3) and (0, 0): the first has mean 2 and unbiased variance 2, so its target is -+1/sqrt(2).
    #[test]
    fn closed_forms() {
        let target = f32s(&[1.0, 3.0, 5.0, 5.0], &[1, 2, 2]);
        let zero = f32s(&[0.0; 4], &[1, 2, 2]);
        let first = f32s(&[1.0, 0.0], &[1, 2]);
        let both = f32s(&[1.0, 1.0], &[1, 2]);
        let near = |mask: &Tensor, norm: bool, want: f64| {
            for path in [Path::Fused, Path::Composed] {
                let got = value(&mae_normalized_pixels_on(&zero, &target, mask, norm, path).unwrap());
                assert!((got - want).abs() < 1e-5 * want.max(1.0), "{got} for {want}");
            }
        };
        near(&first, false, 5.0); // (1 + 9) / 2
        near(&both, false, 15.0); // (5 + 25) / 2
        near(&first, true, 0.5);
        near(&both, true, 0.25); // a constant patch is all zeros
    }

    #[test]
    fn gradients() {
        let (pred, target) = (random(&[2, 3, 4], 1), random(&[2, 3, 4], 2));
        for norm in [false, true] {
            finite_differences(std::slice::from_ref(&pred), |t| {
                mae_normalized_pixels(&t[0], &target, &mask(2, 3), norm)
            });
            agree(&[random(&[3, 17, 70], 3)], |t, path| {
                let target = (random(&[3, 17, 70], 4) + 2.0)?.to_dtype(t[0].dtype())?;
                mae_normalized_pixels_on(&t[0], &target, &mask(3, 17), norm, path)
            });
        }
    }

    /// What the encoder saw does not count, not even a value that is not a number; and the target gets no
    /// gradient.
    #[test]
    fn kept_patches_do_not_count() {
        let pred = Var::from_tensor(&f32s(&[1.0, 2.0, f32::NAN, 4.0], &[1, 2, 2])).unwrap();
        let target = Var::from_tensor(&f32s(&[0.0, 1.0, 7.0, 8.0], &[1, 2, 2])).unwrap();
        let loss = mae_normalized_pixels(&pred, &target, &f32s(&[1.0, 0.0], &[1, 2]), false).unwrap();
        assert_eq!(value(&loss), 1.0);
        let grads = loss.backward().unwrap();
        assert_eq!(
            grads.get(&pred).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [1.0, 1.0, 0.0, 0.0]
        );
        assert!(grads.get(&target).is_none());
    }

    #[test]
    fn wrong_arguments_are_named() {
        let x = random(&[2, 3, 4], 1);
        let says = |r: Result<Tensor>, parts: &[&str]| {
            let e = r.unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        says(mae_normalized_pixels(&random(&[2, 3], 1), &x, &mask(2, 3), true), &["`pred`", "(N, L, P)"]);
        says(
            mae_normalized_pixels(&x, &random(&[2, 3, 5], 1), &mask(2, 3), true),
            &["`target`", "[2, 3, 4]"],
        );
        says(mae_normalized_pixels(&x, &x, &mask(3, 2), true), &["`mask`", "[2, 3]"]);
        says(mae_normalized_pixels(&x, &x, &mask(2, 3).zeros_like().unwrap(), true), &["`mask`", "removed"]);
        says(mae_normalized_pixels(&x, &x, &random(&[2, 3], 1), true), &["`mask`", "expected 0 or 1"]);
        let one = random(&[2, 3, 1], 1);
        says(mae_normalized_pixels(&one, &one, &mask(2, 3), true), &["`target`", "at least 2"]);
        assert!(mae_normalized_pixels(&one, &one, &mask(2, 3), false).is_ok());
        let empty = Tensor::zeros((0, 3, 4), DType::F32, &Device::Cpu).unwrap();
        says(mae_normalized_pixels(&empty, &empty, &mask(0, 3), true), &["`pred`", "at least 1"]);
    }
}
