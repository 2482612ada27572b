//! Cross entropies over class scores: labelled rows, masked and causal language models, and CTC.
//!
//! The softmax is part of each loss: the inputs are scores of any size, and on the CPU each loss is one graph
//! node.

use super::check::Check;
use crate::Result;
use crate::kernels::{self, Path};
use candle_core::{DType, Tensor};

/// The label of a row that is not counted.
pub const IGNORED: i64 = -100;

/// Mean cross entropy, in nats, of `logits (M, C)` against class ids `labels (M)` over the rows whose label
/// is not [`IGNORED`].
///
/// With label smoothing `e` the target of a row is `1 - e` on its class plus `e / C` on each class (Szegedy
/// et al. 2015, arXiv 1512.00567, section 7); 0 is the plain loss.
///
/// # Errors
/// Shapes that do not fit, labels that are not integers, a smoothing outside `[0, 1]`; on the CPU a label
/// that is no class, or no row that counts (on other devices the loss is then not a number).
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let check = Check("cross_entropy");
    let (logits, m, _) = check.matrix("logits", logits, "(M, C)")?;
    check.shape("labels", labels, &[m], "(M)")?;
    let labels = check.integers("labels", labels)?;
    if !(0.0..=1.0).contains(&label_smoothing) {
        return Err(check
            .wrong("label_smoothing", format_args!("is {label_smoothing}, expected a number from 0 to 1")));
    }
    Ok(kernels::loss::cross_entropy(&logits, &labels, label_smoothing, Path::Auto)?)
}

/// Masked language modelling: `logits (.., V)` against `labels (..)`, [`IGNORED`] where a token was not
/// masked; mean over the masked ones.
///
/// Devlin et al. 2018, "BERT", arXiv 1810.04805, section 3.1.
///
/// # Errors
/// As [`cross_entropy`].
pub fn masked_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let rank = logits.rank();
    if rank < 2 || logits.dims()[..rank - 1] != *labels.dims() {
        return Err(Check("masked_cross_entropy").wrong(
            "labels",
            format_args!(
                "has shape {:?}, expected that of the logits {:?} without the last",
                labels.dims(),
                logits.dims()
            ),
        ));
    }
    cross_entropy(&logits.flatten_to(rank - 2)?, &labels.flatten_all()?, 0.0)
}

/// Causal language modelling: the logits `(N, L, V)` at place `i` against the label `(N, L)` at place `i +
/// 1`; mean over the counted places of the whole batch. `labels` are the input tokens, [`IGNORED`] for
/// padding: the shift happens here.
///
/// Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", equation 1.
///
/// # Errors
/// As [`cross_entropy`], and if there are fewer than two places.
pub fn causal_lm(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let check = Check("causal_lm");
    let (n, l, v) = match *logits.dims() {
        [n, l, v] if l >= 2 => (n, l, v),
        _ => {
            return Err(check.wrong(
                "logits",
                format_args!("has shape {:?}, expected (N, L, V) with L at least 2", logits.dims()),
            ));
        }
    };
    check.shape("labels", labels, &[n, l], "(N, L)")?;
    let logits = logits.narrow(1, 0, l - 1)?.contiguous()?.reshape((n * (l - 1), v))?;
    cross_entropy(&logits, &labels.narrow(1, 1, l - 1)?.contiguous()?.flatten_all()?, 0.0)
}

/// Connectionist temporal classification: `logits (B, T, C)` before the softmax against `targets (B, S)`,
/// integers.
///
/// The negative log-likelihood of a sample, over its first `input_lengths[b]` frames and first
/// `target_lengths[b]` labels, is divided by its number of labels (at least 1), then averaged over the batch:
/// PyTorch's `ctc_loss` with `reduction="mean"`. The recursion runs on the host.
///
/// Graves et al. 2006, "Connectionist Temporal Classification", ICML, equations 3 to 16.
///
/// # Errors
/// Shapes or lengths that do not fit, an empty batch, a label that is the blank or no class, a target that no
/// alignment of its frames spells (its likelihood is 0).
pub fn ctc_mean(
    logits: &Tensor,
    targets: &Tensor,
    input_lengths: &[usize],
    target_lengths: &[usize],
    blank: usize,
) -> Result<Tensor> {
    let check = Check("ctc_mean");
    let targets = check.integers("targets", targets)?;
    let nll =
        kernels::loss::ctc(&check.float("logits", logits)?, &targets, input_lengths, target_lengths, blank)?;
    let b = target_lengths.len();
    if b == 0 {
        return Err(check.wrong(
            "logits",
            format_args!("has shape {:?}, expected (B, T, C) with at least one sample", logits.dims()),
        ));
    }
    // On the host already: no extra wait for a device.
    let values = nll.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if let Some(i) = values.iter().position(|v| *v == f64::INFINITY) {
        let (labels, frames) = (target_lengths[i], input_lengths[i]);
        let problem = format_args!(
            "of sample {i} has {labels} labels, more than {frames} frames can spell (a repeated label needs a blank between)"
        );
        return Err(check.wrong("targets", problem));
    }
    let weights: Vec<f64> = target_lengths.iter().map(|&s| 1.0 / (s.max(1) * b) as f64).collect();
    let weights = Tensor::from_vec(weights, b, nll.device())?.to_dtype(nll.dtype())?;
    Ok((nll * weights)?.sum_all()?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::Device;

    fn ints(v: &[i64], shape: &[usize]) -> Tensor {
        Tensor::from_slice(v, shape, &Device::Cpu).unwrap()
    }

    fn lengths(t: &Tensor) -> Vec<usize> {
        t.to_dtype(DType::I64).unwrap().to_vec1::<i64>().unwrap().into_iter().map(|v| v as usize).collect()
    }

    #[test]
    fn golden() {
        let g = Golden::open("losses/ctc");
        let (frames, labels) =
            (lengths(&g.get("input.input_lengths")), lengths(&g.get("input.target_lengths")));
        g.check(&["logits"], |t| ctc_mean(&t[0], &g.get("input.targets"), &frames, &labels, 0));
    }

    #[test]
    fn uniform_scores_cost_the_logarithm_of_the_classes() {
        let (logits, labels) = (f32s(&[0.0; 20], &[4, 5]), ints(&[0, IGNORED, 4, 2], &[4]));
        for smoothing in [0.0, 0.1, 1.0] {
            assert!((value(&cross_entropy(&logits, &labels, smoothing).unwrap()) - 5f64.ln()).abs() < 1e-6);
        }
        assert!(
            (value(
                &causal_lm(&logits.reshape((1, 4, 5)).unwrap(), &labels.reshape((1, 4)).unwrap()).unwrap()
            ) - 5f64.ln())
            .abs()
                < 1e-6
        );
        let masked =
            masked_cross_entropy(&logits.reshape((2, 2, 5)).unwrap(), &labels.reshape((2, 2)).unwrap());
        assert!((value(&masked.unwrap()) - 5f64.ln()).abs() < 1e-6);
    }

    /// Two classes whose scores differ by d: `ln(1 + e^-d)` for the larger; smoothing adds `e d / 2`. Ignored
    /// rows don't enter the mean.
    #[test]
    fn two_classes() {
        let d = 1.5f64;
        let logits = f32s(&[d as f32, 0.0, 7.0, -90.0, 0.0, d as f32], &[3, 2]);
        let labels = ints(&[0, IGNORED, 1], &[3]);
        let plain = (-d).exp().ln_1p();
        assert!((value(&cross_entropy(&logits, &labels, 0.0).unwrap()) - plain).abs() < 1e-6);
        assert!((value(&cross_entropy(&logits, &labels, 0.2).unwrap()) - plain - 0.1 * d).abs() < 1e-6);
    }

    /// Place i is compared with the token at place i + 1: scores that are sure of the next token cost
    /// nothing, and the last place is free.
    #[test]
    fn causal_shifts_by_one() {
        let mut scores = vec![0f32; 2 * 4 * 3];
        let tokens = [0i64, 2, 1, 1, 1, 0, 2, IGNORED];
        for (n, i) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] {
            scores[(n * 4 + i) * 3 + tokens[n * 4 + i + 1] as usize] = 40.0;
        }
        let loss = causal_lm(&f32s(&scores, &[2, 4, 3]), &ints(&tokens, &[2, 4])).unwrap();
        assert!(value(&loss).abs() < 1e-6);
    }

    /// Uniform over 3 classes: each path has probability 3^-T. One label in T frames has T (T + 1) / 2 of
    /// them; 'a a' in 3 frames has one.
    #[test]
    fn ctc_counts_paths() {
        for t in 1..6usize {
            let x = Tensor::zeros((1, t, 3), DType::F32, &Device::Cpu).unwrap();
            let want = t as f64 * 3f64.ln() - (t as f64 * (t as f64 + 1.0) / 2.0).ln();
            let got = value(&ctc_mean(&x, &ints(&[1], &[1, 1]), &[t], &[1], 0).unwrap());
            assert!((got - want).abs() < 1e-5 * want.max(1.0), "{t}: {got} for {want}");
        }
        let x = Tensor::zeros((1, 3, 3), DType::F32, &Device::Cpu).unwrap();
        let got = value(&ctc_mean(&x, &ints(&[1, 1], &[1, 2]), &[3], &[2], 0).unwrap());
        assert!((got - 3.0 * 3f64.ln() / 2.0).abs() < 1e-5, "{got}");
        // No label: all blanks, divided by 1. The mean over the two samples weighs each once.
        let x = Tensor::zeros((2, 3, 3), DType::F32, &Device::Cpu).unwrap();
        let got = value(&ctc_mean(&x, &ints(&[1, 1, 0, 0], &[2, 2]), &[3, 3], &[2, 0], 0).unwrap());
        assert!((got - 3.0 * 3f64.ln() * 0.75).abs() < 1e-5, "{got}");
    }

    #[test]
    fn gradients() {
        let labels = ints(&[0, IGNORED, 4, 2], &[4]);
        finite_differences(&[random(&[4, 5], 1)], |t| cross_entropy(&t[0], &labels, 0.1));
        finite_differences(&[random(&[2, 2, 5], 2)], |t| {
            masked_cross_entropy(&t[0], &labels.reshape((2, 2))?)
        });
        finite_differences(&[random(&[2, 2, 5], 2)], |t| causal_lm(&t[0], &labels.reshape((2, 2))?));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let says = |r: Result<Tensor>, parts: &[&str]| {
            let e = r.unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        let (x, labels) = (random(&[4, 5], 1).to_dtype(DType::F32).unwrap(), ints(&[0, 1, 2, 3], &[4]));
        says(cross_entropy(&x, &labels.narrow(0, 0, 3).unwrap(), 0.0), &["`labels`", "[4]"]);
        says(
            cross_entropy(&x, &x.narrow(1, 0, 1).unwrap().squeeze(1).unwrap(), 0.0),
            &["`labels`", "integers"],
        );
        says(cross_entropy(&x, &labels, 1.5), &["`label_smoothing`", "from 0 to 1"]);
        assert!(cross_entropy(&x, &ints(&[0, 1, 2, 5], &[4]), 0.0).is_err());
        assert!(cross_entropy(&x, &ints(&[IGNORED; 4], &[4]), 0.0).is_err());
        says(
            masked_cross_entropy(&x, &labels.reshape((2, 2)).unwrap()),
            &["masked_cross_entropy", "`labels`", "[2, 2]"],
        );
        says(causal_lm(&x, &labels), &["causal_lm", "(N, L, V)"]);
        says(causal_lm(&x.reshape((4, 1, 5)).unwrap(), &labels.reshape((4, 1)).unwrap()), &["L at least 2"]);
        let x = x.reshape((1, 4, 5)).unwrap();
        says(ctc_mean(&x, &ints(&[1, 1, 1], &[1, 3]), &[4], &[3], 0), &["`targets`", "sample 0", "4 frames"]);
        says(ctc_mean(&x, &x, &[4], &[3], 0), &["`targets`", "integers"]);
        for (targets, frames, labels, blank) in
            [([1, 0], 4, 2, 0), ([1, 5], 4, 2, 0), ([1, 2], 5, 2, 0), ([1, 2], 4, 3, 0), ([1, 2], 4, 2, 5)]
        {
            assert!(ctc_mean(&x, &ints(&targets, &[1, 2]), &[frames], &[labels], blank).is_err());
        }
        assert!(ctc_mean(&x, &ints(&[1, 2], &[1, 2]), &[4, 4], &[2], 0).is_err());
    }
}
