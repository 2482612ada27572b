//! Ridge regression: how much of a number can be read off features by a hyperplane.

use super::Standardizer;
use crate::data::Features;
use crate::math::{cholesky, cross, invert_lower};
use selfsup_core::{Error, Result};

/// Strengths of the penalty, as shares of the number of samples.
const PENALTIES: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0];

/// The share of the variance of numbers on test samples (`R^2`; 1 all, 0 no more than their mean, below 0 worse)
/// that ridge regression explains, for each of `targets` numbers: `y` are `(n, targets)`, row by row. Features are
/// standardised by the training statistics; the penalty of each target is the best of seven on the last fifth of
/// the training samples, and the fit is then repeated on all of them. A number that never varies has 0.
///
/// # Errors
/// If there are fewer than ten training samples or two test samples, or shapes do not fit.
pub fn ridge_r2(
    train: (Features<'_>, &[f64]),
    test: (Features<'_>, &[f64]),
    targets: usize,
) -> Result<Vec<f64>> {
    let (n, d) = (train.0.n(), train.0.d());
    if n < 10 || test.0.n() < 2 {
        let problem = format!("{n} and {} samples: expected 10 and 2 at least", test.0.n());
        return Err(Error::too_few("ridge regression", problem));
    }
    if train.1.len() != n * targets || test.1.len() != test.0.n() * targets || test.0.d() != d {
        let problem = format!("{} and {} numbers, expected {targets} a sample", train.1.len(), test.1.len());
        return Err(Error::input("ridge regression", problem));
    }
    let standard = Standardizer::fit(train.0);
    let wide = |x: Features<'_>| -> Result<Vec<f64>> {
        Ok(standard.apply(x)?.as_slice().iter().map(|v| f64::from(*v)).collect())
    };
    let (x, x_test) = (wide(train.0)?, wide(test.0)?);
    let fit_on = n - n / 5;
    let parts = (&x[..fit_on * d], &train.1[..fit_on * targets]);
    let rest = (&x[fit_on * d..], &train.1[fit_on * targets..]);
    let mut best = vec![(f64::NEG_INFINITY, PENALTIES[0]); targets];
    for penalty in PENALTIES {
        let weights = solve(parts.0, parts.1, d, targets, penalty)?;
        for (best, r2) in best.iter_mut().zip(explained(&weights, rest.0, rest.1, d, targets)?) {
            if r2 > best.0 {
                *best = (r2, penalty);
            }
        }
    }
    let mut out = vec![0.0; targets];
    for penalty in PENALTIES {
        if best.iter().any(|b| b.1 == penalty) {
            let found = explained(&solve(&x, train.1, d, targets, penalty)?, &x_test, test.1, d, targets)?;
            for (t, value) in found.into_iter().enumerate().filter(|(t, _)| best[*t].1 == penalty) {
                out[t] = value;
            }
        }
    }
    Ok(out)
}

/// Weights `(d, targets)` and, behind them, the means of the targets.
fn solve(x: &[f64], y: &[f64], d: usize, targets: usize, penalty: f64) -> Result<Vec<f64>> {
    let n = (y.len() / targets.max(1)).max(1);
    let mut means = vec![0f64; targets];
    y.chunks_exact(targets).for_each(|row| means.iter_mut().zip(row).for_each(|(m, v)| *m += v / n as f64));
    let centred: Vec<f64> =
        y.chunks_exact(targets).flat_map(|row| row.iter().zip(&means).map(|(v, m)| v - m)).collect();
    let mut gram = cross(x, d, x, d)?;
    (0..d).for_each(|i| gram[i * d + i] += penalty * n as f64);
    if !cholesky(&mut gram, d)? {
        return Err(Error::input("ridge regression", "the features are not finite"));
    }
    let inverse = invert_lower(&gram, d)?; // L^-1
    let right = cross(x, d, &centred, targets)?; // (d, targets)
    // L^-T (L^-1 right)
    let transposed: Vec<f64> = (0..d * d).map(|i| inverse[(i % d) * d + i / d]).collect();
    let half = cross(&transposed, d, &right, targets)?;
    let mut weights = cross(&inverse, d, &half, targets)?;
    weights.extend(means);
    Ok(weights)
}

/// `R^2` of each target.
fn explained(weights: &[f64], x: &[f64], y: &[f64], d: usize, targets: usize) -> Result<Vec<f64>> {
    let (n, means) = (y.len() / targets.max(1), &weights[d * targets..]);
    let (mut error, mut sum, mut square) = (vec![0f64; targets], vec![0f64; targets], vec![0f64; targets]);
    for (row, truth) in x.chunks_exact(d).zip(y.chunks_exact(targets)) {
        for t in 0..targets {
            let told: f64 =
                means[t] + row.iter().enumerate().map(|(j, v)| v * weights[j * targets + t]).sum::<f64>();
            error[t] += (told - truth[t]).powi(2);
            sum[t] += truth[t];
            square[t] += truth[t] * truth[t];
        }
    }
    let r2 = |t: usize| {
        let variance = square[t] - sum[t] * sum[t] / n.max(1) as f64;
        if variance > 1e-12 * square[t].max(1e-300) { 1.0 - error[t] / variance } else { 0.0 }
    };
    Ok((0..targets).map(r2).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use selfsup_core::Key;

    #[test]
    fn a_line_is_read_and_noise_is_not() {
        let mut r = Key::new(9).rng();
        let (n, d) = (300, 12);
        let mut of = |n: usize| {
            let rows: Vec<f32> = (0..n * d).map(|_| r.normal()).collect();
            let mut y = Vec::new();
            for row in rows.chunks_exact(d) {
                let line = 3.0 * f64::from(row[2]) - f64::from(row[7]) + 5.0;
                // A line, a line in as much noise, noise, a constant.
                y.extend([line, line + 3.162_277 * f64::from(r.normal()), f64::from(r.normal()), 4.0]);
            }
            (Matrix::new(rows, n, d).unwrap(), y)
        };
        let (train, test) = (of(n), of(2000));
        let found = ridge_r2((train.0.view(), &train.1), (test.0.view(), &test.1), 4).unwrap();
        assert!(found[0] > 0.999, "{found:?}");
        assert!((found[1] - 0.5).abs() < 0.06, "{found:?}");
        assert!(found[2] < 0.01 && found[2] > -0.1 && found[3] == 0.0, "{found:?}");
        assert!(ridge_r2((train.0.view(), &train.1[1..]), (test.0.view(), &test.1), 4).is_err());
    }
}
