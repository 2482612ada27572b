//! Spectra of small matrices in double precision, the same bits for any number of threads.

use rayon::prelude::*;

/// Inner product in eight lanes: a fixed order that vectorises.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0f64; 8];
    let (xs, ys) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// `y += a x`.
pub fn axpy(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// Eigenvalues of a symmetric matrix, largest first: Householder reduction to tridiagonal form, then
/// bisection on Sturm counts.
pub fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let (diagonal, off) = tridiagonal(&mut a, n);
    let radius = |i: usize| {
        off.get(i).map_or(0.0, |v| v.abs())
            + i.checked_sub(1).and_then(|j| off.get(j)).map_or(0.0, |v| v.abs())
    };
    let low = (0..n).map(|i| diagonal[i] - radius(i)).fold(f64::INFINITY, f64::min);
    let high = (0..n).map(|i| diagonal[i] + radius(i)).fold(f64::NEG_INFINITY, f64::max);
    let tiny = f64::MIN_POSITIVE.max(f64::EPSILON * f64::EPSILON * high.abs().max(low.abs()));
    // How many eigenvalues lie below x: negative pivots of the factorisation of T - x.
    let below = |x: f64| {
        let mut count = 0usize;
        let mut pivot = 1f64;
        for i in 0..n {
            let coupling = if i == 0 { 0.0 } else { off[i - 1] * off[i - 1] };
            pivot = diagonal[i] - x - coupling / pivot;
            if pivot.abs() < tiny {
                pivot = -tiny;
            }
            count += usize::from(pivot < 0.0);
        }
        count
    };
    (0..n)
        .into_par_iter()
        .map(|k| {
            // The k-th largest: n - 1 - k eigenvalues lie below it.
            let (mut lo, mut hi) = (low, high);
            for _ in 0..128 {
                let mid = 0.5 * (lo + hi);
                if mid <= lo || mid >= hi || hi - lo <= 1e-15 * high.abs().max(low.abs()) {
                    break;
                }
                if below(mid) <= n - 1 - k { lo = mid } else { hi = mid }
            }
            0.5 * (lo + hi)
        })
        .collect()
}

/// Diagonal and off-diagonal of a tridiagonal matrix similar to the symmetric `a`, which is overwritten.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    const ROWS: usize = 64;
    let (mut diagonal, mut off) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for k in 0..n {
        diagonal.push(a[k * n + k]);
        if k + 1 == n {
            break;
        }
        // The reflection that sends x = a[k+1.., k] to alpha e1.
        let mut v: Vec<f64> = a[k * n + k + 1..(k + 1) * n].to_vec();
        let norm = dot(&v, &v).sqrt();
        let alpha = if v[0] > 0.0 { -norm } else { norm };
        off.push(alpha);
        v[0] -= alpha;
        let square = dot(&v, &v);
        if norm == 0.0 || square == 0.0 {
            continue;
        }
        let beta = 2.0 / square;
        let rest = &mut a[(k + 1) * n..];
        let mut w: Vec<f64> = vec![0.0; v.len()];
        w.par_chunks_mut(ROWS).zip(rest.par_chunks(ROWS * n)).for_each(|(w, rows)| {
            for (w, row) in w.iter_mut().zip(rows.chunks_exact(n)) {
                *w = beta * dot(&row[k + 1..], &v);
            }
        });
        let shift = 0.5 * beta * dot(&v, &w);
        axpy(&mut w, -shift, &v);
        rest.par_chunks_mut(ROWS * n).enumerate().for_each(|(c, rows)| {
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                let (vi, wi) = (v[c * ROWS + i], w[c * ROWS + i]);
                for (x, (vj, wj)) in row[k + 1..].iter_mut().zip(v.iter().zip(&w)) {
                    *x -= vi * wj + wi * vj;
                }
            }
        });
    }
    (diagonal, off)
}

/// Singular values of `(n, d)`, largest first, from the smaller Gram matrix, so small ones are exact to about
/// 1e-8 of the largest.
pub fn singular_values(x: &[f64], d: usize) -> Vec<f64> {
    let n = x.len() / d.max(1);
    // Rows of the matrix whose Gram matrix is the smaller one.
    let transposed: Vec<f64>;
    let (rows, size, width) = if d < n {
        transposed = (0..d * n).map(|i| x[(i % n) * d + i / n]).collect();
        (&transposed[..], d, n)
    } else {
        (x, n, d)
    };
    let mut gram = vec![0f64; size * size];
    gram.par_chunks_mut(size.max(1)).enumerate().for_each(|(i, out)| {
        let own = &rows[i * width..(i + 1) * width];
        out.iter_mut().zip(rows.chunks_exact(width)).for_each(|(v, row)| *v = dot(own, row));
    });
    eigenvalues(gram, size).into_iter().map(|v| v.max(0.0).sqrt()).collect()
}

/// Effective rank (Roy and Vetterli 2007): `exp` of the entropy of `singular` values divided by their sum; 0
/// where all are 0.
pub fn spectrum_rank(singular: &[f64]) -> f64 {
    let total: f64 = singular.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let term = |s: &f64| if *s > 0.0 { -(s / total) * (s / total).ln() } else { 0.0 };
    singular.iter().map(term).sum::<f64>().exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spectra_in_closed_form() {
        // Three rows of four: orthogonal, of lengths 3, 2 and 1.
        let x = [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let near = |found: Vec<f64>, want: &[f64]| {
            assert_eq!(found.len(), want.len());
            assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
        };
        near(singular_values(&x, 4), &[3.0, 2.0, 1.0]);
        let tall: Vec<f64> = (0..12).map(|i| x[(i % 3) * 4 + i / 3]).collect();
        near(singular_values(&tall, 3), &[3.0, 2.0, 1.0]);
        assert!((spectrum_rank(&[2.0; 5]) - 5.0).abs() < 1e-12);
        assert_eq!((spectrum_rank(&[7.0, 0.0]), spectrum_rank(&[0.0])), (1.0, 0.0));
        near(eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2), &[3.0, 1.0]);
    }
}
