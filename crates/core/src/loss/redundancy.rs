//! Losses that keep the features of a batch from being redundant: Barlow Twins and VICReg.
//!
//! Both sum squares of the off-diagonal entries of a (D, D) product `a^T b` of (N, D) matrices. With D =
//! 8192, as in the papers, that matrix is 268 MB, but its squared norm is also `sum_{mn} (a a^T)_{mn} (b
//! b^T)_{mn}`, two (N, N) products: for D >= 2N we take those. The diagonal is then subtracted; since the
//! rank is at most N, the diagonal is at most a share N/D <= 1/2 of the whole where its entries are equal (as
//! for unit variances), so that this costs no more than one bit.

use super::check::Check;
use super::rows::relu;
use crate::{Error, Result};
use candle_core::Tensor;

/// `sum_{i != j} (a^T b)_ij^2` for a, b of shape (N, D).
fn off_diagonal_squares(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (n, d) = a.dims2()?;
    if d >= 2 * n {
        let all = (a.matmul(&a.t()?)? * b.matmul(&b.t()?)?)?.sum_all()?;
        let diagonal = (a * b)?.sum(0)?.sqr()?.sum_all()?;
        return Ok((all - diagonal)?);
    }
    let product = a.t()?.matmul(b)?; // (D, D)
    let off = Tensor::eye(d, a.dtype(), a.device())?.affine(-1.0, 1.0)?;
    Ok((product * off)?.sqr()?.sum_all()?)
}

/// Columns with their mean taken off: (N, D) to (N, D).
fn centered(z: &Tensor) -> Result<Tensor> {
    Ok(z.broadcast_sub(&z.mean_keepdim(0)?)?)
}

/// Barlow Twins: `sum_i (c_ii - 1)^2 + lambda sum_{i != j} c_ij^2`, `c` the cross-correlation of the features
/// of the two views.
///
/// `z0`, `z1`: (N, D). Each feature is standardised over the batch (biased variance, eps 1e-5, as batch norm
/// without weights does); `c = z0^T z1 / N`, (D, D). The paper's `lambda` is 0.005.
///
/// Zbontar et al. 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", arXiv 2103.03230,
/// equation 1.
///
/// # Errors
/// Shapes that differ, fewer than 2 samples (no variance), a negative weight.
pub fn barlow_twins(z0: &Tensor, z1: &Tensor, lambda: f64) -> Result<Tensor> {
    let at = Check("barlow_twins");
    let (z0, n, _) = at.matrix("z0", z0, "(N, D)")?;
    let z1 = at.like("z1", z1, "z0", &z0)?;
    at.not_negative("lambda", lambda)?;
    at.pair_of_samples("z0", n, "features are standardised over the batch")?;
    // Each standardised view over sqrt(N), so that their product is the correlation.
    let standard = |z: &Tensor| -> Result<Tensor> {
        let z = centered(z)?;
        let deviation = (z.sqr()?.mean_keepdim(0)? + 1e-5)?.sqrt()?;
        Ok((z.broadcast_div(&deviation)? / (n as f64).sqrt())?)
    };
    let (a, b) = (standard(&z0)?, standard(&z1)?);
    let invariance = ((&a * &b)?.sum(0)? - 1.0)?.sqr()?.sum_all()?;
    if lambda == 0.0 {
        return Ok(invariance);
    }
    Ok((invariance + (off_diagonal_squares(&a, &b)? * lambda)?)?)
}

/// VICReg: `lambda MSE(z0, z1) + mu (v(z0) + v(z1)) / 2 + nu (c(z0) + c(z1))`.
///
/// `z0`, `z1`: (N, D). `v` is the mean over the features of `max(0, 1 - sqrt(variance + 1e-4))`, `c` the sum
/// of the squared off-diagonal covariances over D, both with the unbiased N - 1. The paper's weights are 25,
/// 25, 1 (its text sums the two variance terms where its code, and this, takes half). A term of weight 0 is
/// left out.
///
/// Bardes, Ponce and LeCun 2021, "VICReg: Variance-Invariance-Covariance Regularization", arXiv 2105.04906,
/// equation 6.
///
/// # Errors
/// Shapes that differ, fewer than 2 samples (no variance), a negative weight or three weights of 0.
pub fn vicreg(z0: &Tensor, z1: &Tensor, lambda: f64, mu: f64, nu: f64) -> Result<Tensor> {
    let mut terms = vicreg_terms(z0, z1, lambda, mu, nu)?.into_iter().map(|(_, term)| term);
    let first = terms.next().ok_or_else(nothing_weighs)?;
    terms.try_fold(first, |a, b| Ok((a + b)?))
}

/// The terms of [`vicreg`], each with its weight in it: `invariance`, `variance`, `covariance`. Their sum is
/// the loss.
///
/// # Errors
/// As [`vicreg`].
pub fn vicreg_terms(
    z0: &Tensor,
    z1: &Tensor,
    lambda: f64,
    mu: f64,
    nu: f64,
) -> Result<Vec<(&'static str, Tensor)>> {
    let at = Check("vicreg");
    let (z0, n, d) = at.matrix("z0", z0, "(N, D)")?;
    let z1 = at.like("z1", z1, "z0", &z0)?;
    for (name, weight) in [("lambda", lambda), ("mu", mu), ("nu", nu)] {
        at.not_negative(name, weight)?;
    }
    at.pair_of_samples("z0", n, "variance and covariance are those of the batch")?;
    let mut terms = Vec::new();
    if lambda > 0.0 {
        terms.push(("invariance", ((&z0 - &z1)?.sqr()?.mean_all()? * lambda)?));
    }
    // z^T z is the covariance.
    let scaled = |z: &Tensor| -> Result<Tensor> { Ok((centered(z)? / (n as f64 - 1.0).sqrt())?) };
    let both = if mu > 0.0 || nu > 0.0 { Some((scaled(&z0)?, scaled(&z1)?)) } else { None };
    if let Some((a, b)) = &both {
        let lack = |z: &Tensor| -> Result<Tensor> {
            Ok(relu(&(z.sqr()?.sum(0)? + 1e-4)?.sqrt()?.affine(-1.0, 1.0)?)?.mean_all()?)
        };
        if mu > 0.0 {
            terms.push(("variance", ((lack(a)? + lack(b)?)? * (0.5 * mu))?));
        }
        if nu > 0.0 {
            terms.push((
                "covariance",
                ((off_diagonal_squares(a, a)? + off_diagonal_squares(b, b)?)? * (nu / d as f64))?,
            ));
        }
    }
    if terms.is_empty() { Err(nothing_weighs()) } else { Ok(terms) }
}

fn nothing_weighs() -> Error {
    Check("vicreg").wrong("lambda", "is 0 like `mu` and `nu`, expected at least one weight above 0")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, agree, f32s, finite_differences, random, value};
    use super::*;

    #[test]
    fn golden() {
        Golden::open("losses/barlow_twins").check(&["z0", "z1"], |t| barlow_twins(&t[0], &t[1], 0.005));
        Golden::open("losses/vicreg").check(&["z0", "z1"], |t| vicreg(&t[0], &t[1], 25.0, 25.0, 1.0));
    }

    /// Two features, uncorrelated and of variance 1 (biased), in four samples: the correlation is the
    /// identity.
    #[test]
    fn closed_forms() {
        let z = f32s(&[1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0], &[4, 2])
            .to_dtype(candle_core::DType::F64)
            .unwrap();
        let c = 1.0 / (1.0 + 1e-5); // eps in both deviations
        let near = |loss: Result<Tensor>, want: f64| {
            let got = value(&loss.unwrap());
            assert!((got - want).abs() < 1e-12, "{got} for {want}");
        };
        near(barlow_twins(&z, &z, 1.0), 2.0 * (c - 1.0) * (c - 1.0));
        near(barlow_twins(&z, &z.neg().unwrap(), 1.0), 2.0 * (c + 1.0) * (c + 1.0));
        // One feature twice: the off-diagonal entries are c as well.
        let twice = Tensor::cat(&[z.narrow(1, 0, 1).unwrap(), z.narrow(1, 0, 1).unwrap()], 1).unwrap();
        near(barlow_twins(&twice, &twice, 0.5), 2.0 * (c - 1.0) * (c - 1.0) + 0.5 * 2.0 * c * c);
        // VICReg: unbiased variance 4/3 has no hinge; the shift by 3 is all MSE; no covariance, then
        // covariance 4/3 twice over D = 2.
        near(vicreg(&z, &(&z + 3.0).unwrap(), 25.0, 25.0, 1.0), 25.0 * 9.0);
        near(vicreg(&twice, &twice, 25.0, 25.0, 1.0), 2.0 * (2.0 * (16.0 / 9.0) / 2.0));
        // A constant batch: the hinge is 1 - sqrt(1e-4).
        let same = z.zeros_like().unwrap();
        near(vicreg(&same, &same, 25.0, 25.0, 1.0), 25.0 * 0.99);
    }

    /// Both ways to sum the squares, on either side of D = 2N.
    #[test]
    fn gradients() {
        for d in [3, 9] {
            let x = [random(&[4, d], 1), random(&[4, d], 2)];
            finite_differences(&x, |t| barlow_twins(&t[0], &t[1], 0.3));
            // Small variances, so that the hinge is active.
            finite_differences(&x, |t| vicreg(&(&t[0] * 0.3)?, &t[1], 2.0, 3.0, 1.5));
        }
    }

    #[test]
    fn the_two_ways_give_one_sum() {
        for (n, d) in [(5, 9), (5, 10), (8, 40)] {
            let (a, b) = (random(&[n, d], 1), random(&[n, d], 2));
            let product = a.t().unwrap().matmul(&b).unwrap().to_vec2::<f64>().unwrap();
            let want: f64 = (0..d)
                .flat_map(|i| (0..d).map(move |j| (i, j)))
                .filter(|(i, j)| i != j)
                .map(|(i, j)| product[i][j].powi(2))
                .sum();
            assert!((value(&off_diagonal_squares(&a, &b).unwrap()) - want).abs() < 1e-10 * want);
        }
    }

    #[test]
    fn f32_is_close_to_f64() {
        for (n, d) in [(24, 70), (64, 20)] {
            let x = [random(&[n, d], 1), random(&[n, d], 2)];
            agree(&x, |t, _| barlow_twins(&t[0], &t[1], 0.005));
            agree(&x, |t, _| vicreg(&t[0], &t[1], 25.0, 25.0, 1.0));
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let one = random(&[1, 5], 1);
        for e in [barlow_twins(&one, &one, 0.1).unwrap_err(), vicreg(&one, &one, 1.0, 1.0, 1.0).unwrap_err()]
        {
            assert!(e.to_string().contains("at least 2 samples"), "{e}");
        }
        let x = random(&[3, 5], 1);
        assert!(vicreg(&x, &x, 0.0, 0.0, 0.0).unwrap_err().to_string().contains("weight above 0"));
        assert!(barlow_twins(&x, &x, -0.1).unwrap_err().to_string().contains("`lambda`"));
        assert!(vicreg(&x, &one, 1.0, 1.0, 1.0).unwrap_err().to_string().contains("`z1`"));
    }
}
