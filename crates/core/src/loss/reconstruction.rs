//! Losses of reconstructed inputs: the masked patches of MAE and of SimMIM.

use super::check::Check;
use crate::Result;
use crate::kernels::Path;
use crate::kernels::loss::masked_pixels;
use candle_core::{DType, Tensor};

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
/// has entries below 0 (an error on the CPU; on other devices the loss is then not a number).
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
    Ok(masked_pixels(&pred, &target, &mask, norm_pix, path)?)
}

/// SimMIM: absolute error of the masked patches, mean over their values: `sum_l m_l sum_p |pred_lp - t_lp| / (P
/// sum_l m_l)`.
///
/// `pred`, `target`: (N, L, P), the P values (pixels times channels, in one order) of L patches; `target` is
/// detached. `mask`: (N, L), 1 for a masked patch and 0 for another; any dtype.
///
/// Xie et al. 2021, "SimMIM: a Simple Framework for Masked Image Modeling", arXiv 2111.09886, section 3.4.
///
/// # Errors
/// Shapes that do not fit; a mask that masks nothing (an error on the CPU; on other devices the loss is then
/// not a number).
pub fn masked_l1(pred: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let at = Check("masked_l1");
    let [n, l, p] = *pred.dims() else {
        return Err(at.wrong("pred", format_args!("has shape {:?}, expected (N, L, P)", pred.dims())));
    };
    let pred = at.float("pred", pred)?;
    let target = at.like("target", target, "pred", &pred)?.detach();
    at.shape("mask", mask, &[n, l], "(N, L)")?;
    let mask = mask.detach().to_dtype(DType::U8)?;
    let count = mask.to_dtype(pred.dtype())?.sum_all()?;
    if mask.device().is_cpu() && count.to_dtype(DType::F64)?.to_scalar::<f64>()? == 0.0 {
        return Err(at.wrong("mask", "is 0 everywhere, expected at least one masked patch"));
    }
    // Selected, not multiplied: 0 times a value that is not a number is none.
    let mask = mask.unsqueeze(2)?.broadcast_as((n, l, p))?;
    let gap = (pred - target)?.abs()?;
    Ok((mask.where_cond(&gap, &gap.zeros_like()?)?.sum_all()? / (count * p as f64)?)?)
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

    #[test]
    fn golden_simmim() {
        let g = Golden::open("losses/simmim_l1");
        let patches = |x: &Tensor| {
            let last = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            crate::nn::patchify(&last, &[4, 4]).unwrap()
        };
        let mask = g.get("input.mask").flatten_from(1).unwrap();
        g.check(&["pred"], |t| masked_l1(&patches(&t[0]), &patches(&g.get("input.const_image")), &mask));
    }

    #[test]
    fn absolute_errors_of_masked_patches() {
        let (pred, target) = (f32s(&[1.0, -2.0, 9.0, 9.0], &[1, 2, 2]), f32s(&[0.0; 4], &[1, 2, 2]));
        let of = |mask: &[f32]| value(&masked_l1(&pred, &target, &f32s(mask, &[1, 2])).unwrap());
        assert_eq!([of(&[1.0, 0.0]), of(&[1.0, 1.0])], [1.5, 5.25]);
        let (pred, target) = (random(&[2, 3, 4], 1), random(&[2, 3, 4], 2));
        finite_differences(std::slice::from_ref(&pred), |t| masked_l1(&t[0], &target, &mask(2, 3)));
        let nothing = mask(2, 3).zeros_like().unwrap();
        assert!(masked_l1(&pred, &target, &nothing).unwrap_err().to_string().contains("`mask`"));
        let unseen = f32s(&[1.0, 1.0, f32::NAN, 0.0], &[1, 2, 2]);
        let loss = masked_l1(&unseen, &f32s(&[0.0; 4], &[1, 2, 2]), &f32s(&[1.0, 0.0], &[1, 2]));
        assert_eq!(value(&loss.unwrap()), 1.0);
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
