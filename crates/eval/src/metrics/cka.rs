//! Centred kernel alignment: how alike two representations of the same samples are.

use crate::data::Features;
use crate::math::{centered, cross, dot};
use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::{Error, Result};

fn check(x: Features<'_>, y: Features<'_>) -> Result<()> {
    if x.n() == y.n() {
        return Ok(());
    }
    Err(Error::input("CKA", format!("{} and {} rows, expected as many", x.n(), y.n())))
}

fn all_equal() -> Error {
    Error::input("CKA", "all samples of one set are equal")
}

/// Linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of two feature sets of the same samples, `(n, p)` and
/// `(n, q)`: `|Y^T X|^2 / (|X^T X| |Y^T Y|)` of the centred features. 1 for equality up to rotation and scale.
/// With fewer samples than dimensions it is too high: see [`debiased_cka`].
///
/// # Errors
/// If the numbers of rows differ, or all samples of one set are equal.
pub fn linear_cka(x: Features<'_>, y: Features<'_>) -> Result<f64> {
    check(x, y)?;
    let (a, b) = (centered(x.as_slice(), x.d()).0, centered(y.as_slice(), y.d()).0);
    let square = |a: &[f64], p: usize, b: &[f64], q: usize| -> Result<f64> {
        let c = cross(a, p, b, q)?;
        Ok(dot(&c, &c))
    };
    let (p, q) = (x.d(), y.d());
    let scale = (square(&a, p, &a, p)? * square(&b, q, &b, q)?).sqrt();
    if scale <= 0.0 {
        return Err(all_equal());
    }
    Ok(square(&a, p, &b, q)? / scale)
}

/// Linear CKA with the unbiased estimate of HSIC (Song et al. 2012, JMLR 13): near 0 for unrelated features
/// even with fewer samples than dimensions, and then also below 0.
///
/// # Errors
/// If the numbers of rows differ, there are fewer than four, or all samples of one set are equal.
pub fn debiased_cka(x: Features<'_>, y: Features<'_>) -> Result<f64> {
    debiased_cka_in_batches(x, y, x.n())
}

/// [`debiased_cka`] from batches of `batch` consecutive samples (Nguyen et al. 2021, arXiv 2010.15327): HSIC is
/// summed over the batches before the quotient, so memory is that of one batch. What does not fill a batch at
/// the end is left out.
///
/// # Errors
/// As there; `batch` is below four or above the number of samples.
pub fn debiased_cka_in_batches(x: Features<'_>, y: Features<'_>, batch: usize) -> Result<f64> {
    check(x, y)?;
    if batch < 4 || batch > x.n() {
        let problem = format!("batches of {batch}, expected 4 to {} (the number of samples)", x.n());
        return Err(Error::input("CKA", problem));
    }
    // Centring changes nothing in exact arithmetic and saves digits.
    let (a, b) = (centered(x.as_slice(), x.d()).0, centered(y.as_slice(), y.d()).0);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in a.chunks_exact(batch * x.d()).zip(b.chunks_exact(batch * y.d())) {
        let (k, l) = (kernel(a, x.d())?, kernel(b, y.d())?);
        xy += hsic(&k, &l, batch);
        xx += hsic(&k, &k, batch);
        yy += hsic(&l, &l, batch);
    }
    if xx <= 0.0 || yy <= 0.0 {
        return Err(all_equal());
    }
    Ok(xy / (xx * yy).sqrt())
}

/// `x x^T` with zeros on the diagonal, `(n, n)`.
fn kernel(x: &[f64], d: usize) -> Result<Vec<f64>> {
    let n = x.len() / d;
    let mut out = vec![0f64; n * n];
    const ROWS: usize = 64;
    out.par_chunks_mut(ROWS * n).enumerate().try_for_each(|(i, out)| {
        let rows = out.len() / n;
        multiply(out, n, View::rows(&x[i * ROWS * d..], rows, d, d), View::rows(x, n, d, d).t(), None)
    })?;
    (0..n).for_each(|i| out[i * n + i] = 0.0);
    Ok(out)
}

/// The unbiased estimate of HSIC, from kernels with zeros on the diagonal.
fn hsic(k: &[f64], l: &[f64], n: usize) -> f64 {
    let sums = |k: &[f64]| k.chunks_exact(n).map(|row| row.iter().sum()).collect::<Vec<f64>>();
    let (k1, l1) = (sums(k), sums(l));
    let (all_k, all_l): (f64, f64) = (k1.iter().sum(), l1.iter().sum());
    let m = n as f64;
    (dot(k, l) + all_k * all_l / ((m - 1.0) * (m - 2.0)) - 2.0 / (m - 2.0) * dot(&k1, &l1)) / (m * (m - 3.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use selfsup_core::Key;

    fn random(n: usize, d: usize, seed: u64) -> Matrix {
        let mut r = Key::new(seed).rng();
        Matrix::new((0..n * d).map(|_| r.normal()).collect(), n, d).unwrap()
    }

    #[test]
    fn unrelated_features_are_near_zero() {
        let (x, y) = (random(60, 200, 1), random(60, 150, 2));
        assert!(linear_cka(x.view(), y.view()).unwrap() > 0.5, "the bias that the other form removes");
        assert!(debiased_cka(x.view(), y.view()).unwrap().abs() < 0.1);
        assert!((debiased_cka(x.view(), x.view()).unwrap() - 1.0).abs() < 1e-9);
        let batches = debiased_cka_in_batches(x.view(), x.view(), 20).unwrap();
        assert!((batches - 1.0).abs() < 1e-9);
        // A shift and a scale change nothing.
        let moved = Matrix::new(x.as_slice().iter().map(|v| 3.0 * v + 100.0).collect(), 60, 200).unwrap();
        let gap = debiased_cka(moved.view(), y.view()).unwrap() - debiased_cka(x.view(), y.view()).unwrap();
        assert!(gap.abs() < 1e-4, "{gap}");
        assert!(debiased_cka(x.view(), random(59, 3, 1).view()).is_err());
        assert!(debiased_cka_in_batches(x.view(), y.view(), 3).is_err());
        let flat = Matrix::new(vec![2.0; 60], 60, 1).unwrap();
        assert!(debiased_cka(x.view(), flat.view()).is_err() && linear_cka(x.view(), flat.view()).is_err());
    }
}
