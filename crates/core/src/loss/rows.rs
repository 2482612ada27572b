//! Row-wise operators that the losses share. The loops are in the kernels crate, with a composition of candle
//! operators beside each for other devices.

use crate::kernels::{self, Path};
use candle_core::{D, Result, Tensor};

/// Rows divided by `max(L2 norm, eps)`: (.., D) to (.., D). A zero row has a finite gradient.
pub(super) fn l2_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    kernels::norm::l2_normalize(x, eps, Path::Auto)
}

/// `max(x, 0)` with derivative 0 at 0.
pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    kernels::activation::relu(x, Path::Auto)
}

/// Row-wise dot products: (N, D) and (N, D) to (N).
pub(super) fn dots(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a * b)?.sum(D::Minus1)
}

/// Cross entropy of each row with soft targets: `-sum_k targets_k log_softmax(logits / temperature)_k`, (R,
/// K) and (R, K) to (R).
///
/// The targets get no gradient and need not sum to one: a row that is the sum of `m` distributions counts
/// them all at once, and a zero row counts nothing. One graph node on the CPU, which keeps three numbers per
/// row.
///
/// # Errors
/// Shapes that differ or are not (R, K) with K at least 1, and what candle reports.
pub fn soft_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    temperature: f64,
    path: Path,
) -> crate::Result<Tensor> {
    let at = super::check::Check("soft_cross_entropy");
    let (logits, _, _) = at.matrix("logits", logits, "(R, K)")?;
    let targets = at.like("targets", targets, "logits", &logits)?;
    at.positive("temperature", temperature)?;
    Ok(kernels::loss::soft_cross_entropy(&logits, &targets, temperature, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_cross_entropy_of_known_values() {
        // The entropy of the uniform distribution, in nats.
        let u = Tensor::full(0.25f32, (2, 4), &candle_core::Device::Cpu).unwrap();
        let y = soft_cross_entropy(&u, &u, 0.1, Path::Auto).unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|y| (y - 4f32.ln()).abs() < 1e-6), "{y:?}");
    }
}
