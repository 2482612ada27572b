//! Shared by all fits: the check of `C`, the logits, and the report.

use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::{Error, Result};

/// How a fit ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FitReport {
    /// `C` of the fit; for SGD 0.
    pub c: f64,
    /// Iterations of L-BFGS, or steps of SGD.
    pub iterations: usize,
    /// How often objective and gradient were evaluated.
    pub evaluations: usize,
    /// `C sum nll + |W|^2 / 2` at the end; for SGD the last epoch's mean loss.
    pub objective: f64,
    /// Largest entry of the gradient of the mean objective at the end; for SGD 0.
    pub gradient: f64,
    /// Whether the tolerance was met.
    pub converged: bool,
}

/// Refuses a `C` that is no positive number.
pub(super) fn check_c(c: f64) -> Result<()> {
    if c.is_finite() && c > 0.0 {
        Ok(())
    } else {
        Err(Error::input("linear probe", format!("C = {c}, expected a positive number")))
    }
}

/// `x W + b` for parameters `(d + 1, classes)`.
pub(super) fn logits(x: &[f32], d: usize, w: &[f32], classes: usize) -> Result<Vec<f32>> {
    const ROWS: usize = 1024;
    let (weight, bias) = w.split_at(d * classes);
    let mut out = vec![0f32; x.len() / d * classes];
    out.par_chunks_mut(ROWS * classes).enumerate().try_for_each(|(i, out)| {
        let rows = out.len() / classes;
        multiply(
            out,
            classes,
            View::rows(&x[i * ROWS * d..], rows, d, d),
            View::rows(weight, d, classes, classes),
            None,
        )?;
        out.chunks_exact_mut(classes).for_each(|z| z.iter_mut().zip(bias).for_each(|(z, b)| *z += b));
        Ok::<(), Error>(())
    })?;
    Ok(out)
}
