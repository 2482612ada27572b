//! Small numeric helpers: dot products, Cholesky factors, eigenvalues of symmetric matrices. All in f64, the
//! same bits for any thread count.

use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::Result;
pub(crate) use selfsup_core::linalg::{axpy, dot, eigenvalues};

/// Index of the largest value; the first among equals, 0 for an empty slice. NaN never wins.
pub(crate) fn argmax<T: PartialOrd + Copy>(xs: &[T]) -> usize {
    let mut best = 0;
    for (i, x) in xs.iter().enumerate() {
        if *x > xs[best] {
            best = i;
        }
    }
    best
}

/// Columns of `x` minus their means, in f64, with the means.
pub(crate) fn centered(x: &[f32], d: usize) -> (Vec<f64>, Vec<f64>) {
    let mean = column_means(x, d);
    let out =
        x.chunks_exact(d).flat_map(|row| row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m)).collect();
    (out, mean)
}

/// Means of the columns.
pub(crate) fn column_means(x: &[f32], d: usize) -> Vec<f64> {
    let mut sum = vec![0f64; d];
    for row in x.chunks_exact(d) {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
    }
    let n = (x.len() / d).max(1) as f64;
    sum.iter_mut().for_each(|s| *s /= n);
    sum
}

/// `a^T b` of `(n, p)` and `(n, q)` matrices: `(p, q)`.
pub(crate) fn cross(a: &[f64], p: usize, b: &[f64], q: usize) -> Result<Vec<f64>> {
    let n = a.len() / p.max(1);
    let mut out = vec![0f64; p * q];
    const BLOCK: usize = 64;
    out.par_chunks_mut(BLOCK * q).enumerate().try_for_each(|(i, out)| {
        let rows = out.len() / q;
        let left = View::rows(&a[i * BLOCK..], n, rows, p).t();
        multiply(out, q, left, View::rows(b, n, q, q), None)
    })?;
    Ok(out)
}

/// The smaller of the two Gram matrices of `(n, d)`: `x^T x` or `x x^T`, with its size. Their non-zero
/// eigenvalues are the same.
pub(crate) fn small_gram(x: &[f64], d: usize) -> Result<(Vec<f64>, usize)> {
    let n = x.len() / d.max(1);
    if d <= n {
        return Ok((cross(x, d, x, d)?, d));
    }
    let mut out = vec![0f64; n * n];
    out.par_chunks_mut(64 * n).enumerate().try_for_each(|(i, out)| {
        let rows = out.len() / n;
        multiply(out, n, View::rows(&x[i * 64 * d..], rows, d, d), View::rows(x, n, d, d).t(), None)
    })?;
    Ok((out, n))
}

/// Singular values of `(n, d)`, largest first, from the smaller Gram matrix (so small ones are exact to about
/// 1e-8 of the largest).
pub(crate) fn singular_values(x: &[f64], d: usize) -> Result<Vec<f64>> {
    let (gram, size) = small_gram(x, d)?;
    Ok(eigenvalues(gram, size).into_iter().map(|v| v.max(0.0).sqrt()).collect())
}

/// Side of the blocks that the factorisations work on.
const BLOCK: usize = 64;

/// The lower Cholesky factor of a symmetric positive definite matrix in place (the upper part is cleared), or
/// `false` if it is not one.
pub(crate) fn cholesky(a: &mut [f64], n: usize) -> Result<bool> {
    for j0 in (0..n).step_by(BLOCK) {
        let j1 = (j0 + BLOCK).min(n);
        for i in j0..n {
            // Rows of the diagonal block and the panel below it, by substitution.
            for j in j0..j1.min(i + 1) {
                let (ri, rj) = (i * n, j * n);
                let sum = a[ri + j] - dot(&a[ri + j0..ri + j], &a[rj + j0..rj + j]);
                if i == j {
                    if sum.is_nan() || sum <= 0.0 {
                        return Ok(false);
                    }
                    a[ri + j] = sum.sqrt();
                } else {
                    a[ri + j] = sum / a[rj + j];
                }
            }
        }
        if j1 == n {
            break;
        }
        let width = j1 - j0;
        let panel: Vec<f64> = (j1..n).flat_map(|i| a[i * n + j0..i * n + j1].iter().copied()).collect();
        for i0 in (j1..n).step_by(2 * BLOCK) {
            let i1 = (i0 + 2 * BLOCK).min(n);
            let left = View::rows(&panel[(i0 - j1) * width..], i1 - i0, width, width);
            let right = View::rows(&panel, i1 - j1, width, width).t();
            multiply(&mut a[i0 * n + j1..], n, left, right, Some(-1.0))?;
        }
    }
    for i in 0..n {
        a[i * n + i + 1..(i + 1) * n].fill(0.0);
    }
    Ok(true)
}

/// Inverse of a lower triangular matrix.
pub(crate) fn invert_lower(l: &[f64], n: usize) -> Result<Vec<f64>> {
    let mut x = vec![0f64; n * n];
    for i0 in (0..n).step_by(BLOCK) {
        let i1 = (i0 + BLOCK).min(n);
        let (done, rest) = x.split_at_mut(i0 * n);
        if i0 > 0 {
            multiply(
                rest,
                n,
                View::rows(&l[i0 * n..], i1 - i0, i0, n),
                View::rows(done, i0, i0, n),
                Some(-1.0),
            )?;
        }
        for i in i0..i1 {
            let (above, row) = rest.split_at_mut((i - i0) * n);
            row[i] = 1.0;
            for j in i0..i {
                axpy(&mut row[..=j], -l[i * n + j], &above[(j - i0) * n..(j - i0) * n + j + 1]);
            }
            row[..=i].iter_mut().for_each(|v| *v /= l[i * n + i]);
        }
    }
    Ok(x)
}

/// `k = l l^T` with pivots, cut where what is left is below `cut` of the largest diagonal entry: `l` as `(n,
/// r)` rows, and the pivots.
pub(crate) fn pivoted_cholesky(k: &[f64], n: usize, cut: f64) -> (Vec<f64>, Vec<usize>) {
    let mut left: Vec<f64> = (0..n).map(|i| k[i * n + i]).collect();
    let stop = cut * left.iter().copied().fold(0.0, f64::max);
    let mut pivots = Vec::new();
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); n];
    while pivots.len() < n {
        let p = argmax(&left);
        if left[p].is_nan() || left[p] <= stop {
            break;
        }
        let root = left[p].sqrt();
        let pivot_row = rows[p].clone();
        let column: Vec<f64> = (0..n)
            .map(|i| {
                if i == p {
                    root
                } else if left[i] == f64::NEG_INFINITY {
                    0.0
                } else {
                    (k[i * n + p] - dot(&rows[i], &pivot_row)) / root
                }
            })
            .collect();
        for i in 0..n {
            left[i] -= column[i] * column[i];
            rows[i].push(column[i]);
        }
        left[p] = f64::NEG_INFINITY;
        pivots.push(p);
    }
    (rows.concat(), pivots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    fn random(len: usize, seed: u64) -> Vec<f64> {
        let mut r = Key::new(seed).rng();
        (0..len).map(|_| f64::from(r.normal())).collect()
    }

    #[test]
    fn cholesky_and_inverse_rebuild_the_matrix() {
        for n in [1, 5, 64, 65, 200] {
            let x = random((n + 3) * n, n as u64);
            let a = cross(&x, n, &x, n).unwrap();
            let mut l = a.clone();
            assert!(cholesky(&mut l, n).unwrap());
            let mut back = vec![0.0; n * n];
            multiply(&mut back, n, View::rows(&l, n, n, n), View::rows(&l, n, n, n).t(), None).unwrap();
            let gap = back.iter().zip(&a).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(gap < 1e-10 * n as f64, "{n}: {gap:e}");
            let inverse = invert_lower(&l, n).unwrap();
            multiply(&mut back, n, View::rows(&l, n, n, n), View::rows(&inverse, n, n, n), None).unwrap();
            for (i, v) in back.iter().enumerate() {
                assert!((v - f64::from(u8::from(i / n == i % n))).abs() < 1e-9, "{n}: {v}");
            }
            let (rows, pivots) = pivoted_cholesky(&a, n, 1e-12);
            assert_eq!(pivots.len(), n);
            multiply(&mut back, n, View::rows(&rows, n, n, n), View::rows(&rows, n, n, n).t(), None).unwrap();
            let gap = back.iter().zip(&a).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(gap < 1e-10 * n as f64, "{n}: {gap:e}");
        }
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 1.0], 2).unwrap());
    }

    #[test]
    fn pivoted_cholesky_finds_the_rank() {
        let x = random(20 * 3, 1);
        let mut k = vec![0.0; 400];
        multiply(&mut k, 20, View::rows(&x, 20, 3, 3), View::rows(&x, 20, 3, 3).t(), None).unwrap();
        assert_eq!(pivoted_cholesky(&k, 20, 1e-10).1.len(), 3);
        assert!(pivoted_cholesky(&[0.0; 4], 2, 1e-10).1.is_empty());
    }

    #[test]
    fn eigenvalues_of_known_matrices() {
        assert_eq!(eigenvalues(vec![4.0], 1), [4.0]);
        // The path graph's Laplacian-like matrix: 2 - 2 cos(pi j / (n + 1)).
        let n = 40usize;
        let a: Vec<f64> = (0..n * n)
            .map(|i| match (i / n).abs_diff(i % n) {
                0 => 2.0,
                1 => -1.0,
                _ => 0.0,
            })
            .collect();
        for (k, v) in eigenvalues(a, n).iter().enumerate() {
            let want = 2.0 - 2.0 * (std::f64::consts::PI * (n - k) as f64 / (n + 1) as f64).cos();
            assert!((v - want).abs() < 1e-12, "{k}: {v} {want}");
        }
        // Invariants of a dense one: trace and sum of squares.
        let x = random(50 * 70, 3);
        let a = cross(&x, 70, &x, 70).unwrap();
        let values = eigenvalues(a.clone(), 70);
        let trace: f64 = (0..70).map(|i| a[i * 70 + i]).sum();
        assert!((values.iter().sum::<f64>() - trace).abs() < 1e-9 * trace);
        assert!((dot(&values, &values) - dot(&a, &a)).abs() < 1e-9 * dot(&a, &a));
        assert!(values[50..].iter().all(|v| v.abs() < 1e-9 * trace), "rank 50");
        assert!(values.windows(2).all(|w| w[0] >= w[1] - 1e-12 * trace));
    }
}
