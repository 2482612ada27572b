use super::*;
use crate::memory::unwritten;
use crate::rng::Key;

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut r = Key::new(seed).rng();
    (0..n).map(|_| r.normal()).collect()
}

/// What Miri has the time for: remainders of rows and columns, several panels, and no steps.
#[test]
fn small_products() {
    check(&[(1, 1, 1), (9, 17, 2), (2, 49, 3), (3, 5, 0)]);
}

#[test]
fn products_of_all_shapes_and_strides() {
    check(&[
        (7, 5, 3),
        (8, 48, 16),
        (9, 49, 17),
        (130, 64, 520),
        (33, 200, 1),
        (16, 16, 1025),
        (5, 97, 0),
        (300, 33, 70),
    ]);
}

fn check(shapes: &[(usize, usize, usize)]) {
    for (i, &(m, n, k)) in shapes.iter().enumerate() {
        let (a, b) = (random(m * k, i as u64), random(k * n, 100 + i as u64));
        let at: Vec<f32> = (0..k * m).map(|j| a[(j % m) * k + j / m]).collect();
        let bt: Vec<f32> = (0..k * n).map(|j| b[(j % k) * n + j / k]).collect();
        let want: Vec<f64> = (0..m * n)
            .map(|j| (0..k).map(|s| f64::from(a[j / n * k + s]) * f64::from(b[s * n + j % n])).sum())
            .collect();
        for (a, b) in [
            (Matrix::rows(&a, k), Matrix::rows(&b, n)),
            (Matrix::rows(&at, m).t(), Matrix::rows(&b, n)),
            (Matrix::rows(&a, k), Matrix::rows(&bt, k).t()),
            (Matrix::rows(&at, m).t(), Matrix::rows(&bt, k).t()),
        ] {
            let mut c = unwritten(m * n);
            matmul(m, n, k, a, b, &mut c, |_, _, row| row.iter_mut().for_each(|x| *x += 1.0));
            // SAFETY: a product writes each element.
            let c = unsafe { c.written() };
            let mut panels = vec![0.0; packed_len(k, n)];
            let mut d = vec![1f32; m * n];
            // SAFETY: d has m rows of n elements.
            unsafe { multiply(m, a, &pack_into(b, k, n, &mut panels), Shared::new(&mut d), 0, n, true) };
            let mut e = vec![1f32; m * n];
            // SAFETY: e has m rows of n elements.
            unsafe { multiply_in_place(m, a, &pack_into(b, k, n, &mut panels), Shared::new(&mut e), 0, n) };
            for (e, want) in e.iter().zip(&want) {
                let tolerance = 1e-5 * (1.0 + want.abs()) * (k as f64).sqrt().max(1.0);
                assert!((f64::from(*e) - want - 1.0).abs() < tolerance, "{m} {n} {k}: {e} {want}");
            }
            for ((c, d), want) in c.iter().zip(&d).zip(&want) {
                let tolerance = 1e-5 * (1.0 + want.abs()) * (k as f64).sqrt().max(1.0);
                assert!((f64::from(*c) - want - 1.0).abs() < tolerance, "{m} {n} {k}: {c} {want}");
                assert!((f64::from(*d) - want - 1.0).abs() < tolerance, "{m} {n} {k}: {d} {want}");
            }
        }
    }
}
