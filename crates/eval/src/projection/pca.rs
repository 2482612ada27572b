//! Principal components: the directions of most variance.
//!
//! Block power iteration on the smaller of the two Gram matrices: `Q <- orthonormal(G Q)`, with some vectors
//! more than are asked for, and at the end the eigenvectors of the small matrix `Q^T G Q` (Rayleigh-Ritz).

use crate::data::Features;
use crate::math::{centered, dot, small_gram};
use crate::product::{View, multiply};
use selfsup_core::{Error, Key, Result};

/// Vectors beside those that are asked for: the more, the sooner the iteration ends.
const BESIDE: usize = 8;
/// Steps of the iteration: components whose eigenvalues differ by a tenth are apart to 1 in 300 after them.
const STEPS: usize = 60;

/// Features in the coordinates of their largest variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// `(n, k)`: the centred samples along each component.
    pub scores: Vec<f64>,
    /// Components.
    pub k: usize,
    /// The share of the variance along each, in `[0, 1]`, largest first.
    pub explained: Vec<f64>,
}

/// The first `k` principal components of `x`, `(n, d)`: at most `min(n, d)` of them. The sign of each is that
/// for which the entry of largest size is positive. The result does not depend on the number of threads.
///
/// # Errors
/// If `k` is 0.
pub fn pca(x: Features<'_>, k: usize) -> Result<Pca> {
    let (n, d) = (x.n(), x.d());
    if k == 0 {
        return Err(Error::input("principal components", "0 of them, expected at least 1"));
    }
    let k = k.min(n).min(d);
    let (x, _) = centered(x.as_slice(), d);
    let total = x.iter().map(|v| v * v).sum::<f64>();
    let (gram, m) = small_gram(&x, d)?;
    let q = (k + BESIDE).min(m);
    let mut rng = Key::new(0).named("pca").rng();
    // Columns as rows of `basis`, `(q, m)`.
    let mut basis: Vec<f64> = (0..q * m).map(|_| f64::from(rng.normal())).collect();
    orthonormal(&mut basis, m);
    let mut next = vec![0.0; q * m];
    for _ in 0..STEPS {
        multiply(&mut next, m, View::rows(&basis, q, m, m), View::rows(&gram, m, m, m), None)?;
        std::mem::swap(&mut basis, &mut next);
        orthonormal(&mut basis, m);
    }
    multiply(&mut next, m, View::rows(&basis, q, m, m), View::rows(&gram, m, m, m), None)?;
    let mut small = vec![0.0; q * q];
    multiply(&mut small, q, View::rows(&next, q, m, m), View::rows(&basis, q, m, m).t(), None)?;
    let (values, turn) = jacobi(small, q);
    let mut vectors = vec![0.0; q * m];
    multiply(&mut vectors, m, View::rows(&turn, q, q, q), View::rows(&basis, q, m, m), None)?;
    let mut scores = vec![0.0; n * k];
    let mut explained = Vec::with_capacity(k);
    for c in 0..k {
        let vector = &mut vectors[c * m..(c + 1) * m];
        let largest = vector.iter().fold(0.0, |a: f64, v| if v.abs() > a.abs() { *v } else { a });
        if largest < 0.0 {
            vector.iter_mut().for_each(|v| *v = -*v);
        }
        let value = values[c].max(0.0);
        for (i, score) in scores.iter_mut().skip(c).step_by(k).enumerate() {
            // Eigenvectors of x^T x are directions; those of x x^T are the scores, of length 1.
            *score = if m == d { dot(&x[i * d..(i + 1) * d], vector) } else { vector[i] * value.sqrt() };
        }
        explained.push(if total > 0.0 { (value / total).min(1.0) } else { 0.0 });
    }
    Ok(Pca { scores, k, explained })
}

/// Makes the rows of `q`, of `m` values, orthonormal (Gram-Schmidt, twice). A row that depends on those above
/// it becomes zero.
fn orthonormal(q: &mut [f64], m: usize) {
    for r in 0..q.len() / m {
        let (above, row) = q.split_at_mut(r * m);
        let row = &mut row[..m];
        let before = dot(row, row).sqrt();
        for _ in 0..2 {
            for other in above.chunks_exact(m) {
                let along = dot(row, other);
                row.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
        }
        let length = dot(row, row).sqrt();
        // What rounding leaves of a row is no direction.
        let scale = if length > before * 1e-10 && length > 0.0 { 1.0 / length } else { 0.0 };
        row.iter_mut().for_each(|v| *v *= scale);
    }
}

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors as rows, by Jacobi's rotations.
fn jacobi(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    // Rounding leaves `a` a little asymmetric.
    for i in 0..n {
        for j in 0..i {
            let mean = 0.5 * (a[i * n + j] + a[j * n + i]);
            (a[i * n + j], a[j * n + i]) = (mean, mean);
        }
    }
    let size = a.iter().map(|v| v * v).sum::<f64>();
    for _sweep in 0..60 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if off <= 1e-24 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for i in 0..n {
                    let (x, y) = (a[i * n + p], a[i * n + q]);
                    (a[i * n + p], a[i * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for i in 0..n {
                    let (x, y) = (a[p * n + i], a[q * n + i]);
                    (a[p * n + i], a[q * n + i]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (v[p * n + i], v[q * n + i]);
                    (v[p * n + i], v[q * n + i]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|i| a[i * n + i]).collect();
    let vectors = order.iter().flat_map(|i| v[i * n..(i + 1) * n].to_vec()).collect();
    (values, vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use crate::math::singular_values;

    /// Normal values whose columns have falling scales, turned by a fixed mixing.
    fn sample(n: usize, d: usize) -> Matrix {
        let mut r = Key::new(7).rng();
        let mix: Vec<f32> = (0..d * d).map(|_| r.normal()).collect();
        let rows = (0..n).flat_map(|_| {
            let z: Vec<f32> = (0..d).map(|j| r.normal() * 4.0 / (1.0 + j as f32)).collect();
            (0..d).map(|j| 3.0 + (0..d).map(|i| z[i] * mix[i * d + j]).sum::<f32>()).collect::<Vec<_>>()
        });
        Matrix::new(rows.collect(), n, d).unwrap()
    }

    /// More samples than dimensions, and fewer: variances are those of the singular values, components are
    /// uncorrelated, and all of them hold everything.
    #[test]
    fn components_hold_the_variance() {
        for (n, d) in [(80, 6), (7, 30)] {
            let x = sample(n, d);
            let found = pca(x.view(), 99).unwrap();
            assert_eq!(found.k, n.min(d));
            let (centred, _) = centered(x.as_slice(), d);
            let singular = singular_values(&centred, d).unwrap();
            let total: f64 = singular.iter().map(|s| s * s).sum();
            for (c, share) in found.explained.iter().enumerate() {
                assert!((share - singular[c] * singular[c] / total).abs() < 1e-9, "{n} {d} {c}");
            }
            assert!((found.explained.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (a, s) in singular.iter().enumerate().take(found.k) {
                for b in 0..=a {
                    let product: f64 =
                        (0..n).map(|i| found.scores[i * found.k + a] * found.scores[i * found.k + b]).sum();
                    let want = if a == b { s * s } else { 0.0 };
                    assert!((product - want).abs() < 1e-7 * total, "{n} {d}: {a} {b} {product} {want}");
                }
            }
            let two = pca(x.view(), 2).unwrap();
            for i in 0..n {
                assert!((two.scores[2 * i] - found.scores[found.k * i]).abs() < 1e-6 * total.sqrt());
            }
        }
    }

    #[test]
    fn samples_that_are_all_alike() {
        let same = Matrix::new(vec![2.0; 12], 4, 3).unwrap();
        let found = pca(same.view(), 2).unwrap();
        assert_eq!((found.scores, found.explained), (vec![0.0; 8], vec![0.0; 2]));
        assert!(pca(same.view(), 0).is_err());
    }
}
