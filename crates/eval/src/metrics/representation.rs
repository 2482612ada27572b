//! Metrics of feature matrices that need no labels.

use crate::data::{Features, check_width};
use crate::math::{centered, dot, singular_values};
use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::{Error, Result};

/// RankMe (Garrido et al. 2023, arXiv 2210.02885): `exp` of the entropy of `p = s / sum(s) + 1e-7` over the
/// singular values `s` of `z`, `(n, d)`, which is not centred. Between about 1 and `min(n, d)`.
///
/// # Errors
/// If all features are zero.
pub fn rankme(z: Features<'_>) -> Result<f64> {
    let wide: Vec<f64> = z.as_slice().iter().map(|v| f64::from(*v)).collect();
    entropy_rank(&singular_values(&wide, z.d())?, 1e-7)
}

/// Effective rank (Roy and Vetterli 2007): `exp` of the entropy of the normalised singular values of the
/// centred features, `(n, d)`.
///
/// # Errors
/// If all samples are equal.
pub fn effective_rank(z: Features<'_>) -> Result<f64> {
    entropy_rank(&singular_values(&centered(z.as_slice(), z.d()).0, z.d())?, 0.0)
}

pub(crate) fn entropy_rank(singular: &[f64], eps: f64) -> Result<f64> {
    let total: f64 = singular.iter().sum();
    if total <= 0.0 {
        return Err(Error::input("rank", "all singular values are zero"));
    }
    let term = |s: &f64| {
        let p = s / total + eps;
        if p > 0.0 { -p * p.ln() } else { 0.0 }
    };
    Ok(singular.iter().map(term).sum::<f64>().exp())
}

/// Alignment (Wang and Isola 2020, arXiv 2005.10242, alpha = 2): the mean of `|x_i - y_i|^2` over positive
/// pairs, rows as they are (normalise them first).
///
/// # Errors
/// If shapes differ.
pub fn alignment(x: Features<'_>, y: Features<'_>) -> Result<f64> {
    check_width("alignment", x, y)?;
    if x.n() != y.n() {
        return Err(Error::input("alignment", format!("{} and {} rows, expected as many", x.n(), y.n())));
    }
    let sum: f64 =
        x.as_slice().iter().zip(y.as_slice()).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    Ok(sum / x.n() as f64)
}

/// Uniformity (Wang and Isola 2020, arXiv 2005.10242, t = 2): `ln` of the mean of `exp(-2 |x_i - x_j|^2)`
/// over pairs `i < j`, rows as they are (normalise them first). Lower is more uniform.
///
/// # Errors
/// If there are fewer than two rows.
pub fn uniformity(x: Features<'_>) -> Result<f64> {
    let (n, d) = (x.n(), x.d());
    if n < 2 {
        return Err(Error::input("uniformity", "1 row, expected at least 2"));
    }
    const ROWS: usize = 128;
    let wide: Vec<f64> = x.as_slice().iter().map(|v| f64::from(*v)).collect();
    let square: Vec<f64> = wide.chunks_exact(d).map(|r| dot(r, r)).collect();
    let parts: Vec<f64> = (0..n.div_ceil(ROWS))
        .into_par_iter()
        .map(|block| {
            let first = block * ROWS;
            let rows = ROWS.min(n - first);
            // Pairs (i, j) with j > i only: columns from `first` on.
            let columns = n - first;
            let mut tile = vec![0f64; rows * columns];
            let own = &wide[first * d..];
            multiply(
                &mut tile,
                columns,
                View::rows(own, rows, d, d),
                View::rows(own, columns, d, d).t(),
                None,
            )?;
            let mut sum = 0f64;
            for (i, row) in tile.chunks_exact(columns).enumerate() {
                for (j, product) in row.iter().enumerate().skip(i + 1) {
                    sum += (-2.0 * (square[first + i] + square[first + j] - 2.0 * product).max(0.0)).exp();
                }
            }
            Ok(sum)
        })
        .collect::<Result<_>>()?;
    let pairs = 0.5 * n as f64 * (n - 1) as f64;
    Ok((parts.iter().sum::<f64>() / pairs).ln())
}

#[cfg(test)]
mod tests {
    use super::super::linear_cka;
    use super::*;
    use crate::Matrix;
    use proptest::prelude::*;
    use selfsup_core::Key;

    fn random(n: usize, d: usize, seed: u64) -> Matrix {
        let mut r = Key::new(seed).rng();
        Matrix::new((0..n * d).map(|_| r.normal()).collect(), n, d).unwrap()
    }

    #[test]
    fn ranks_of_known_matrices() {
        let eye = Matrix::new((0..36).map(|i| f32::from(u8::from(i % 7 == 0))).collect(), 6, 6).unwrap();
        assert!((rankme(eye.view()).unwrap() - 6.0).abs() < 1e-4);
        let one = Matrix::new((0..40).map(|i| (i / 4) as f32 * (i % 4 + 1) as f32).collect(), 10, 4).unwrap();
        assert!((effective_rank(one.view()).unwrap() - 1.0).abs() < 1e-5);
        assert!((rankme(one.view()).unwrap() - 1.0).abs() < 1e-4);
        assert!(rankme(Matrix::new(vec![0.0; 4], 2, 2).unwrap().view()).is_err());
        assert!(effective_rank(Matrix::new(vec![2.0; 4], 2, 2).unwrap().view()).is_err());
        // More columns than rows goes through the other Gram matrix.
        let wide = random(5, 300, 1);
        let r = rankme(wide.view()).unwrap();
        assert!(r > 4.5 && r <= 5.0001, "{r}");
    }

    #[test]
    fn pairs_and_rotations() {
        let x = Matrix::new(vec![1.0, 0.0, -1.0, 0.0], 2, 2).unwrap();
        assert!((uniformity(x.view()).unwrap() + 8.0).abs() < 1e-9);
        assert_eq!(alignment(x.view(), x.view()).unwrap(), 0.0);
        let y = Matrix::new(vec![-1.0, 0.0, 1.0, 0.0], 2, 2).unwrap();
        assert_eq!(alignment(x.view(), y.view()).unwrap(), 4.0);
        let a = random(50, 2, 3);
        let turned = a.as_slice().chunks_exact(2).flat_map(|p| [3.0 * p[1] + 1.0, -3.0 * p[0]]).collect();
        let turned = Matrix::new(turned, 50, 2).unwrap();
        assert!((linear_cka(a.view(), turned.view()).unwrap() - 1.0).abs() < 1e-6);
        assert!(
            linear_cka(a.view(), random(49, 2, 1).view()).is_err()
                && uniformity(random(1, 2, 1).view()).is_err()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn ranges(n in 2usize..40, d in 1usize..30, seed in 0u64..1000) {
            let (x, y) = (random(n, d, seed), random(n, d.div_ceil(2), seed + 1));
            let r = rankme(x.view()).unwrap();
            prop_assert!(r > 0.99 && r < n.min(d) as f64 + 1e-3, "{}", r);
            let c = linear_cka(x.view(), y.view()).unwrap();
            prop_assert!((-1e-9..=1.0 + 1e-9).contains(&c));
            // The tiles of `uniformity` against a plain double loop.
            let (mut sum, mut pairs) = (0f64, 0f64);
            for i in 0..n {
                for j in i + 1..n {
                    let gap: f64 = x.view().row(i).iter().zip(x.view().row(j)).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                    sum += (-2.0 * gap).exp();
                    pairs += 1.0;
                }
            }
            let want = (sum / pairs).ln();
            prop_assert!((uniformity(x.view()).unwrap() - want).abs() < 1e-6 * want.abs().max(1.0));
        }
    }
}
