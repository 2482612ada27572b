//! Cross entropies over class scores: labelled rows, masked and causal language models, and CTC.

use super::check::Check;
use crate::Result;
use crate::kernels::{self, Path};
use candle_core::{DType, Tensor};

/// The label of a row that is not counted.
pub const IGNORED: i64 = -100;

/// Mean cross entropy of `logits (M, C)` against class ids `labels (M)` over the rows whose label is not [`IGNORED`].
///
/// # Errors
/// If shapes do not fit, a label is no class, or no row is counted.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let check = Check("cross_entropy");
    let (logits, m, _) = check.matrix("logits", logits, "(M, C)")?;
    check.shape("labels", labels, &[m], "(M)")?;
    Ok(kernels::loss::cross_entropy(&logits, &labels.to_dtype(DType::I64)?, label_smoothing, Path::Auto)?)
}

/// Masked language modelling: `logits (.., V)` against `labels (..)`, [`IGNORED`] where a token was not masked (Devlin et al. 2018,
/// arXiv 1810.04805).
///
/// # Errors
/// As [`cross_entropy`].
pub fn masked_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let rank = logits.rank();
    if rank < 2 || logits.dims()[..rank - 1] != *labels.dims() {
        return Err(Check("masked_cross_entropy")
            .wrong("labels", format_args!("has shape {:?}, expected that of the logits {:?} without the last", labels.dims(), logits.dims())));
    }
    cross_entropy(&logits.flatten_to(rank - 2)?, &labels.flatten_all()?, 0.0)
}

/// Causal language modelling: the logits `(N, L, V)` at place `i` against the label `(N, L)` at place `i + 1` (Radford et al. 2018).
///
/// # Errors
/// As [`cross_entropy`], and if there are fewer than two places.
pub fn causal_lm(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let check = Check("causal_lm");
    let (n, l, v) = match *logits.dims() {
        [n, l, v] if l >= 2 => (n, l, v),
        _ => return Err(check.wrong("logits", format_args!("has shape {:?}, expected (N, L, V) with L at least 2", logits.dims()))),
    };
    check.shape("labels", labels, &[n, l], "(N, L)")?;
    let logits = logits.narrow(1, 0, l - 1)?.contiguous()?.reshape((n * (l - 1), v))?;
    cross_entropy(&logits, &labels.narrow(1, 1, l - 1)?.contiguous()?.flatten_all()?, 0.0)
}

/// Connectionist temporal classification (Graves et al. 2006): `logits (B, T, C)` before the softmax, `targets (B, S)`; each sample's
/// negative log-likelihood is divided by its target length, then averaged (PyTorch's `reduction="mean"`).
///
/// # Errors
/// If shapes or lengths do not fit, or a target is longer than its input allows (its likelihood is 0).
pub fn ctc_mean(logits: &Tensor, targets: &Tensor, input_lengths: &[usize], target_lengths: &[usize], blank: usize) -> Result<Tensor> {
    let check = Check("ctc_mean");
    let nll = kernels::loss::ctc(&check.float("logits", logits)?, targets, input_lengths, target_lengths, blank)?;
    let values = nll.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if let Some(i) = values.iter().position(|v| v.is_infinite()) {
        let problem = format!("sample {i} has {} labels, too many for {} frames", target_lengths[i], input_lengths[i]);
        return Err(check.wrong("targets", problem));
    }
    let weights: Vec<f32> = target_lengths.iter().map(|&s| 1.0 / (s.max(1) * target_lengths.len()) as f32).collect();
    let weights = Tensor::from_vec(weights, target_lengths.len(), logits.device())?.to_dtype(nll.dtype())?;
    Ok((nll * weights)?.sum_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn uniform_scores_cost_the_logarithm_of_the_classes() -> Result<()> {
        let logits = Tensor::zeros((4, 5), DType::F32, &Device::Cpu)?;
        let labels = Tensor::new(&[0i64, IGNORED, 4, 2], &Device::Cpu)?;
        let loss = cross_entropy(&logits, &labels, 0.0)?.to_scalar::<f32>()?;
        assert!((loss - 5f32.ln()).abs() < 1e-6);
        let causal = causal_lm(&logits.reshape((1, 4, 5))?, &labels.reshape((1, 4))?)?.to_scalar::<f32>()?;
        assert!((causal - 5f32.ln()).abs() < 1e-6);
        assert!(masked_cross_entropy(&logits, &labels.reshape((2, 2))?).is_err());
        Ok(())
    }

    #[test]
    fn ctc_of_one_label_in_one_frame() -> Result<()> {
        let logits = Tensor::new(&[[[0f32, 0.0, 0.0]]], &Device::Cpu)?;
        let targets = Tensor::new(&[[1i64]], &Device::Cpu)?;
        assert!((ctc_mean(&logits, &targets, &[1], &[1], 0)?.to_scalar::<f32>()? - 3f32.ln()).abs() < 1e-6);
        let long = Tensor::new(&[[1i64, 2]], &Device::Cpu)?;
        assert!(ctc_mean(&logits, &long, &[1], &[2], 0).is_err());
        Ok(())
    }
}
