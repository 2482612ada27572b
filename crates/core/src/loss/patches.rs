//! Losses over the masked patches of an image: iBOT's self-distillation.

use super::check::Check;
use super::rows::soft_cross_entropy;
use crate::Result;
use crate::kernels::Path;
use candle_core::{D, Tensor};

/// iBOT: cross entropy of the student's masked patches against what the teacher says of the same patches,
/// which it sees; mean over the masked patches of an image, then over the images.
///
/// `student`: (R, K) outputs of the head, the masked patches of the first image, of the second, and so on.
/// `targets`: (R, K) distributions of the teacher for the same patches, detached: [`centred`], or
/// [`sinkhorn`](super::sinkhorn) of the outputs divided by the temperature. `counts`: masked patches of each
/// image; one without any adds 0 and counts in the mean over the images. `L = 1/B sum_b 1/n_b sum_{r in b}
/// -sum_k targets_rk log_softmax(student_r / student_temp)_k`. The paper: student temperature 0.1, teacher
/// 0.04 to 0.07.
///
/// Zhou et al. 2021, "iBOT: Image BERT Pre-Training with Online Tokenizer", arXiv 2111.07832, equation 2.
///
/// # Errors
/// Shapes that differ, counts that do not add up to R, a temperature that is not above 0.
pub fn ibot_patch(student: &Tensor, targets: &Tensor, counts: &[usize], student_temp: f64) -> Result<Tensor> {
    let at = Check("ibot_patch");
    let (student, r, _) = at.matrix("student", student, "(R, K)")?;
    let targets = at.like("targets", targets, "student", &student)?.detach();
    at.positive("student_temp", student_temp)?;
    let all: usize = counts.iter().sum();
    if all != r {
        return Err(at.wrong("counts", format_args!("add up to {all}, expected {r}: the rows of `student`")));
    }
    let weights: Vec<f64> =
        counts.iter().flat_map(|&n| std::iter::repeat_n(1.0 / (n as f64 * counts.len() as f64), n)).collect();
    let weights = Tensor::from_vec(weights, r, student.device())?.to_dtype(student.dtype())?;
    Ok((soft_cross_entropy(&student, &targets, student_temp, Path::Auto)? * weights)?.sum_all()?)
}

/// What the teacher of DINO and iBOT says: `softmax((outputs - center) / temperature)` of each row, (R, K),
/// without gradient. `center` is (K) or (1, K).
///
/// # Errors
/// Shapes that do not fit, a temperature that is not above 0.
pub fn centred(outputs: &Tensor, center: &Tensor, temperature: f64) -> Result<Tensor> {
    let at = Check("centred");
    let (outputs, _, k) = at.matrix("outputs", outputs, "(R, K)")?;
    at.positive("temperature", temperature)?;
    if center.elem_count() != k {
        return Err(
            at.wrong("center", format_args!("has shape {:?}, expected [{k}] or [1, {k}]", center.dims()))
        );
    }
    let center = center.detach().to_dtype(outputs.dtype())?.reshape((1, k))?;
    let z = (outputs.detach().broadcast_sub(&center)? / temperature)?;
    let e = z.broadcast_sub(&z.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, f32s, finite_differences, random, value};
    use super::*;

    /// The masked patches of each image.
    fn counts(mask: &Tensor) -> Vec<usize> {
        let mask = mask.flatten_from(1).unwrap().to_dtype(candle_core::DType::U32).unwrap();
        mask.to_vec2::<u32>().unwrap().iter().map(|m| m.iter().filter(|v| **v != 0).count()).collect()
    }

    #[test]
    fn golden() {
        let g = Golden::open("losses/ibot_patch");
        let targets = centred(&g.get("input.const_teacher"), &g.get("input.const_center"), 0.04).unwrap();
        g.check(&["student"], |t| ibot_patch(&t[0], &targets, &counts(&g.get("input.mask")), 0.1));
    }

    /// Uniform targets: each row costs `log 2` for equal outputs. Images of one, no and two patches.
    #[test]
    fn images_count_alike() {
        let rows = f32s(&[0.0, 0.0, 5.0, 5.0, -1.0, -1.0], &[3, 2]);
        let targets = f32s(&[0.5; 6], &[3, 2]);
        let loss = value(&ibot_patch(&rows, &targets, &[1, 0, 2], 0.1).unwrap());
        assert!((loss - 2.0 / 3.0 * std::f64::consts::LN_2).abs() < 1e-6, "{loss}");
        let student = random(&[3, 4], 1);
        let targets = centred(&random(&[3, 4], 2), &random(&[4], 3), 0.5).unwrap();
        finite_differences(std::slice::from_ref(&student), |t| ibot_patch(&t[0], &targets, &[2, 1], 0.3));
        let e = ibot_patch(&student, &targets, &[1, 1], 0.3).unwrap_err().to_string();
        assert!(e.contains("`counts`") && e.contains("expected 3"), "{e}");
    }

    /// `softmax((log 4 - log 2, 0) / 0.5)` = (4, 1) / 5.
    #[test]
    fn centres_are_taken_off() {
        let (outputs, center) = (f32s(&[4f32.ln(), 0.0], &[1, 2]), f32s(&[2f32.ln(), 0.0], &[2]));
        let made = centred(&outputs, &center, 0.5).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((made[0] - 0.8).abs() < 1e-6 && (made[1] - 0.2).abs() < 1e-6, "{made:?}");
        // Outputs that overflow an exponential.
        let far = centred(&f32s(&[4000.0, 0.0], &[1, 2]), &f32s(&[0.0, 0.0], &[1, 2]), 0.04).unwrap();
        assert_eq!(far.to_vec2::<f32>().unwrap(), [[1.0, 0.0]]);
        assert!(centred(&outputs, &f32s(&[0.0; 3], &[3]), 0.5).is_err());
    }
}
