//! The innermost loops: up to 8 rows x 48 columns of `C` in registers.

/// Rows of `C` of a micro kernel.
pub(super) const NR: usize = 8;
/// Vectors of 16 columns of a micro kernel.
pub(super) const NV: usize = 3;

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn avx512() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// `R` rows and `V` vectors of `C`, the last of which has the columns of `mask`.
///
/// # Safety
/// Needs AVX-512F. `a` points to `R` rows, `rs` apart, of `k` elements, `ks` apart; `b` to `k` rows of `16 V`
/// elements; `c` to `R` rows, `ldc` apart, of `16 (V - 1)` elements and those of `mask`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx512f")]
#[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
unsafe fn micro<const R: usize, const V: usize>(
    k: usize,
    a: *const f32,
    rs: usize,
    ks: usize,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
    mask: u16,
) {
    use std::arch::x86_64::*;
    // SAFETY: all addresses are within what the caller promises; masked lanes are not accessed.
    unsafe {
        let mut sum = [[_mm512_setzero_ps(); V]; R];
        let mut b = b;
        // One address per row and a common offset: a single pointer that walks over the rows would be a chain
        // of eight additions per step.
        let mut rows = [a; R];
        for r in 1..R {
            rows[r] = a.add(r * rs);
        }
        for i in 0..k {
            let mut panel = [_mm512_setzero_ps(); V];
            for v in 0..V {
                panel[v] = _mm512_loadu_ps(b.add(16 * v));
            }
            for r in 0..R {
                let x = _mm512_set1_ps(*rows[r].add(i * ks));
                for v in 0..V {
                    sum[r][v] = _mm512_fmadd_ps(x, panel[v], sum[r][v]);
                }
            }
            b = b.add(16 * V);
        }
        for r in 0..R {
            for v in 0..V {
                let at = c.add(r * ldc + 16 * v);
                let m = if v + 1 == V { mask } else { u16::MAX };
                let mut s = sum[r][v];
                if add {
                    s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(m, at));
                }
                _mm512_mask_storeu_ps(at, m, s);
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
type Micro = unsafe fn(usize, *const f32, usize, usize, *const f32, *mut f32, usize, bool, u16);

#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! micros {
    ($($v:literal),*) => { [$([micro::<1, $v> as Micro, micro::<2, $v>, micro::<3, $v>, micro::<4, $v>, micro::<5, $v>, micro::<6, $v>, micro::<7, $v>, micro::<8, $v>]),*] };
}

/// By vectors and rows.
#[cfg(all(target_arch = "x86_64", not(miri)))]
static MICRO: [[Micro; NR]; NV] = micros!(1, 2, 3);

/// [`panel_block`] without vector instructions, which Miri does not run.
///
/// # Safety
/// As [`panel_block`].
#[cfg(miri)]
#[allow(clippy::too_many_arguments)]
unsafe fn plain(
    m: usize,
    k: usize,
    a: *const f32,
    rs: usize,
    ks: usize,
    b: *const f32,
    width: usize,
    columns: usize,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    for i in 0..m {
        for j in 0..columns {
            // SAFETY: row `i` and column `j` of what the caller promises; C is read only where it holds
            // numbers.
            unsafe {
                let at = c.add(i * ldc + j);
                let first = if add { *at } else { 0.0 };
                *at = (0..k).fold(first, |sum, s| sum + *a.add(i * rs + s * ks) * *b.add(s * width + j));
            }
        }
    }
}

/// `C += A B` or `C = A B` for rows `i` of one panel and `k` steps.
///
/// # Safety
/// `a` points to `m` rows, `rs` apart, of `k` elements, `ks` apart; `b` to `k` rows of `width` elements; `c`
/// to `m` rows, `ldc` apart, of `columns`.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn panel_block(
    m: usize,
    k: usize,
    a: *const f32,
    rs: usize,
    ks: usize,
    b: *const f32,
    width: usize,
    columns: usize,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    #[cfg(miri)]
    {
        // SAFETY: the caller's promise.
        unsafe { plain(m, k, a, rs, ks, b, width, columns, c, ldc, add) }
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx512() {
        let vectors = width / 16;
        let mask = u16::MAX >> (width - columns);
        for i in (0..m).step_by(NR) {
            let rows = NR.min(m - i);
            // SAFETY: the rows from i on, of what the caller promises; the mask has what is left of `columns`
            // in the last vector.
            unsafe {
                MICRO[vectors - 1][rows - 1](k, a.add(i * rs), rs, ks, b, c.add(i * ldc), ldc, add, mask)
            }
        }
        return;
    }
    #[cfg(not(miri))]
    // SAFETY: the caller's promise, with C transposed: its columns are the contiguous axis.
    unsafe {
        gemm::gemm(
            columns,
            m,
            k,
            c,
            ldc as isize,
            1,
            add,
            b,
            width as isize,
            1,
            a,
            rs as isize,
            ks as isize,
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
