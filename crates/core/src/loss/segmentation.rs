//! The loss of dense labelling: soft Dice plus cross entropy.

use super::check::Check;
use crate::Result;
use crate::kernels::Path;
use crate::kernels::loss::dice_cross_entropy;
use candle_core::{DType, Tensor};

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
/// Shapes or a number of weights that do not fit, fewer than 2 classes, a target that is not a class (an
/// error on the CPU; on other devices such a voxel counts for no class).
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
    Ok(dice_cross_entropy(&logits, &target, &weights, path)?)
}

/// The labels as i64, each checked to be below `c` where that needs no wait for a device.
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
