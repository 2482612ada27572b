//! Losses of object detection: sigmoid focal loss, binary cross entropy of a quality, and the generalised
//! overlap of boxes.

use super::check::Check;
use crate::Result;
use candle_core::Tensor;

/// `log(1 + exp(-|x|))` and `|x|`: what the logarithms of a sigmoid are made of without overflow.
fn parts(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let size = x.abs()?;
    Ok((((size.neg()?.exp()? + 1.0)?.log()?), size))
}

/// `-t log sigmoid(x) - (1 - t) log sigmoid(-x)` for each value: `max(x, 0) - x t + log(1 + exp(-|x|))`.
fn binary(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    let (soft, size) = parts(x)?;
    // max(x, 0) = (x + |x|) / 2, whose derivative at 0 agrees with that of the other term.
    Ok((((x + size)? * 0.5)? - (x * t)? + soft)?)
}

/// `sigmoid(x)`, as a tangent: its derivative is finite wherever it is.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((((x * 0.5)?.tanh()? + 1.0)? * 0.5)?)
}

/// Sum of the focal losses of `logits` against `targets` of 0 and 1 of the same shape, where `counted` (of
/// that shape, 0 and 1) says which values count.
///
/// With `p = sigmoid(x)`, `p_t = p` for targets of 1 and `1 - p` for 0, and `alpha_t` likewise:
/// `-alpha_t (1 - p_t)^gamma log p_t`. Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv
/// 1708.02002: alpha 0.25, gamma 2. The caller divides by the number of positive places.
///
/// # Errors
/// Shapes that do not fit, numbers that are no floating point, `alpha` outside `[0, 1]`, `gamma` below 0.
pub fn focal(logits: &Tensor, targets: &Tensor, counted: &Tensor, alpha: f64, gamma: f64) -> Result<Tensor> {
    let check = Check("focal");
    let x = check.float("logits", logits)?;
    let t = check.like("targets", targets, "logits", &x)?.detach();
    let counted = check.like("counted", counted, "logits", &x)?.detach();
    if !(0.0..=1.0).contains(&alpha) {
        return Err(check.wrong("alpha", format_args!("is {alpha}, expected a number from 0 to 1")));
    }
    check.not_negative("gamma", gamma)?;
    let p = sigmoid(&x)?;
    // 1 - p_t = p + t - 2 p t
    let missed = ((&p + &t)? - ((&p * &t)? * 2.0)?)?;
    let weight = ((&t * (2.0 * alpha - 1.0))? + (1.0 - alpha))?;
    // A power of 2 without a logarithm: 0 to the power of 2 has a derivative.
    let hard = if gamma == 2.0 { missed.sqr()? } else { missed.powf(gamma)? };
    Ok((binary(&x, &t)? * hard)?.mul(&weight)?.mul(&counted)?.sum_all()?)
}

/// Sum of the binary cross entropies of `logits (M)` against `targets (M)` in `[0, 1]`.
///
/// # Errors
/// Shapes that do not fit, numbers that are no floating point.
pub fn quality(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let check = Check("quality");
    let x = check.float("logits", logits)?;
    let t = check.like("targets", targets, "logits", &x)?.detach();
    Ok(binary(&x, &t)?.sum_all()?)
}

/// `1 - GIoU` of each pair of boxes about a common point: `boxes (M, 4)` and `targets (M, 4)` are the
/// distances from the point to the left, top, right and bottom sides, all above 0. Returns `(M)`, from 0 to
/// 2.
///
/// `GIoU = I / U - (C - U) / C` with the smallest box `C` about both. Rezatofighi et al. 2019, arXiv
/// 1902.09630. Boxes about a common point always meet, so that their intersection is a product of sums of
/// minima.
///
/// # Errors
/// Shapes other than `(M, 4)`, numbers that are no floating point.
pub fn giou(boxes: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let check = Check("giou");
    let (b, m, _) = check.matrix("boxes", boxes, "(M, 4)")?;
    check.shape("boxes", &b, &[m, 4], "(M, 4)")?;
    let t = check.like("targets", targets, "boxes", &b)?.detach();
    // (M, 4) to width and height: left + right, top + bottom.
    let sides = |x: &Tensor| -> Result<Tensor> { Ok((x.narrow(1, 0, 2)? + x.narrow(1, 2, 2)?)?) };
    let area = |x: &Tensor| -> Result<Tensor> {
        let s = sides(x)?;
        Ok((s.narrow(1, 0, 1)? * s.narrow(1, 1, 1)?)?.squeeze(1)?)
    };
    let both = area(&b.minimum(&t)?)?;
    let union = ((area(&b)? + area(&t)?)? - &both)?;
    let around = area(&b.maximum(&t)?)?;
    // 1 - I / U + 1 - U / C
    Ok(((((both / &union)? + (union / around)?)? * -1.0)? + 2.0)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{f32s, finite_differences, random, value};
    use super::*;
    use candle_core::Device;

    fn zeros_and_ones(shape: &[usize], every: usize) -> Tensor {
        let n: usize = shape.iter().product();
        let v: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i % every == 0))).collect();
        Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
    }

    /// At a score of 0 both probabilities are 1/2: `0.25 * 0.25 * ln 2` for a target of 1, `0.75 * 0.25 * ln
    /// 2` for 0. Sure and right costs nothing, sure and wrong the score itself.
    #[test]
    fn closed_forms() {
        let one = f32s(&[1.0], &[1]);
        let zero = f32s(&[0.0], &[1]);
        let ln2 = 2f64.ln();
        let at = |x: f32, t: &Tensor| value(&focal(&f32s(&[x], &[1]), t, &one, 0.25, 2.0).unwrap());
        assert!((at(0.0, &one) - 0.0625 * ln2).abs() < 1e-7);
        assert!((at(0.0, &zero) - 0.1875 * ln2).abs() < 1e-7);
        assert!(at(80.0, &one) < 1e-7 && at(-80.0, &zero) < 1e-7);
        assert!((at(-80.0, &one) - 0.25 * 80.0).abs() < 1e-4 && (at(80.0, &zero) - 0.75 * 80.0).abs() < 1e-4);
        // What does not count costs nothing; without focus and balance it is half the cross entropy.
        assert_eq!(value(&focal(&one, &one, &zero, 0.25, 2.0).unwrap()), 0.0);
        let half = value(&focal(&f32s(&[0.7], &[1]), &one, &one, 0.5, 0.0).unwrap());
        assert!((half - 0.5 * (1.0 + (-0.7f64).exp()).ln()).abs() < 1e-6);
        // A target of 3/4 at a score of 0: ln 2 whatever the target.
        let q = value(&quality(&f32s(&[0.0, 0.0], &[2]), &f32s(&[0.75, 0.1], &[2])).unwrap());
        assert!((q - 2.0 * ln2).abs() < 1e-6);
    }

    /// The same box; one inside another: `I / U = 4 / 16` with C = U; side by side halves: boxes 4 x 2 about
    /// points of 2 x 4 share 2 x 2, U = 12, C = 16: `1 - 4/12 + 1 - 12/16`.
    #[test]
    fn boxes() {
        let b = f32s(&[1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0, 1.0], &[3, 4]);
        let t = f32s(&[1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 1.0, 2.0], &[3, 4]);
        let got = giou(&b, &t).unwrap().to_vec1::<f32>().unwrap();
        let want = [0.0, 0.75, 2.0 - 4.0 / 12.0 - 12.0 / 16.0];
        assert!(got.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn gradients() {
        let (t, counted) = (zeros_and_ones(&[3, 5], 4), zeros_and_ones(&[3, 5], 2));
        for (alpha, gamma) in [(0.25, 2.0), (0.6, 0.0), (0.5, 1.5)] {
            finite_differences(&[random(&[3, 5], 1)], |x| focal(&x[0], &t, &counted, alpha, gamma));
        }
        // At 0 too, where |x| has a kink.
        let zeros = Tensor::zeros((3, 5), candle_core::DType::F64, &Device::Cpu).unwrap();
        finite_differences(&[zeros], |x| focal(&x[0], &t, &counted, 0.25, 2.0));
        let soft = random(&[7], 3).sqr().unwrap().affine(0.1, 0.0).unwrap();
        finite_differences(&[random(&[7], 2)], |x| quality(&x[0], &soft));
        let above = |seed| random(&[6, 4], seed).abs().unwrap().affine(1.0, 0.3).unwrap();
        let t = above(5);
        finite_differences(&[above(4)], |x| Ok(giou(&x[0], &t)?.sum_all()?));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let says = |e: crate::Error, parts: &[&str]| {
            let e = e.to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        let (x, t) = (random(&[2, 3], 1), zeros_and_ones(&[2, 3], 2));
        says(focal(&x, &zeros_and_ones(&[3, 2], 2), &t, 0.25, 2.0).unwrap_err(), &["focal", "`targets`"]);
        says(focal(&x, &t, &t, 1.5, 2.0).unwrap_err(), &["`alpha`", "0 to 1"]);
        says(focal(&x, &t, &t, 0.5, -1.0).unwrap_err(), &["`gamma`"]);
        says(quality(&x, &t.flatten_all().unwrap()).unwrap_err(), &["quality", "`targets`"]);
        says(giou(&x, &t).unwrap_err(), &["giou", "`boxes`", "(M, 4)"]);
    }
}
