//! Matrix products on strided views: the one place of this crate that is `unsafe`, because `gemm` takes
//! pointers.
//!
//! Always on the calling thread: callers split their work over rayon by shape, so the bits do not depend on
//! the number of threads.

use selfsup_core::{Error, Result};

/// A strided read-only matrix: element `(i, j)` is `data[i * rs + j * cs]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    rs: usize,
    cs: usize,
}

impl<'a, T> View<'a, T> {
    /// A row-major matrix whose rows start `stride` elements apart.
    pub(crate) fn rows(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        View { data, rows, cols, rs: stride, cs: 1 }
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> Self {
        View { data: self.data, rows: self.cols, cols: self.rows, rs: self.cs, cs: self.rs }
    }

    fn fits(&self) -> bool {
        last(self.rows, self.cols, self.rs, self.cs).is_some_and(|end| end < self.data.len())
    }
}

/// Index of the last element of a non-empty strided matrix.
fn last(rows: usize, cols: usize, rs: usize, cs: usize) -> Option<usize> {
    rows.checked_sub(1)?.checked_mul(rs)?.checked_add(cols.checked_sub(1)?.checked_mul(cs)?)
}

/// Element types of [`multiply`].
pub(crate) trait Real: Copy + Send + Sync + 'static {
    /// 1
    const ONE: Self;
}

impl Real for f32 {
    const ONE: Self = 1.0;
}

impl Real for f64 {
    const ONE: Self = 1.0;
}

/// `c = a b`, or with `add` `c += scale * a b`; `c` is row-major with rows `stride` apart.
///
/// # Errors
/// If shapes do not fit, or a slice is too short.
pub(crate) fn multiply<T: Real>(
    c: &mut [T],
    stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    add: Option<T>,
) -> Result<()> {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    if m == 0 || n == 0 {
        return Ok(());
    }
    let c_fits = stride >= n && last(m, n, stride, 1).is_some_and(|end| end < c.len());
    if b.rows != k || !c_fits || (k > 0 && !(a.fits() && b.fits())) {
        return Err(Error::Other(format!(
            "matrix product ({m}, {k}) x ({}, {n}): shapes or lengths do not fit",
            b.rows
        )));
    }
    let (rs_c, rs_a, cs_a, rs_b, cs_b) =
        (stride as isize, a.rs as isize, a.cs as isize, b.rs as isize, b.cs as isize);
    #[allow(unsafe_code)]
    // SAFETY: `fits` proved that every index i * rs + j * cs that is read lies in `a` and `b`, and `last`
    // that every index written lies in `c` at rows that do not overlap (stride >= n). `c` is borrowed
    // mutably, so it aliases neither input. T is f32 or f64.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            rs_c,
            add.is_some(),
            a.data.as_ptr(),
            cs_a,
            rs_a,
            b.data.as_ptr(),
            cs_b,
            rs_b,
            T::ONE,
            add.unwrap_or(T::ONE),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_views_and_refuses_short_slices() {
        let a = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]; // (2, 3)
        let mut c = [0.0; 4];
        multiply(&mut c, 2, View::rows(&a, 2, 3, 3), View::rows(&a, 2, 3, 3).t(), None).unwrap();
        assert_eq!(c, [14.0, 32.0, 32.0, 77.0]);
        multiply(&mut c, 2, View::rows(&a, 2, 3, 3), View::rows(&a, 2, 3, 3).t(), Some(-1.0)).unwrap();
        assert_eq!(c, [0.0; 4]);
        assert!(multiply(&mut c, 2, View::rows(&a, 3, 3, 3), View::rows(&a, 3, 2, 2), None).is_err());
        assert!(multiply(&mut c[..3], 2, View::rows(&a, 2, 3, 3), View::rows(&a, 3, 2, 2), None).is_err());
        assert!(multiply(&mut c, 2, View::rows(&a, 2, 3, 3), View::rows(&a, 2, 2, 3), None).is_err());
    }
}
