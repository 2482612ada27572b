//! `B` in panels: its columns in groups of up to 48, the rows of a group one after the other.

use super::micro::NV;
use super::views::Matrix;
use rayon::prelude::*;

/// How `n` columns are cut into panels.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// Panels.
    pub(super) count: usize,
    /// Vectors of 16 columns in all but the last.
    pub(crate) vectors: usize,
    /// Vectors in the last.
    last: usize,
}

impl Cut {
    pub(crate) fn new(n: usize) -> Self {
        let all = n.div_ceil(16).max(1);
        // Evenly: 64 columns are 32 + 32, not 48 + 16.
        let vectors = all.div_ceil(all.div_ceil(NV));
        let count = all.div_ceil(vectors);
        Cut { count, vectors, last: all - vectors * (count - 1) }
    }

    /// Vectors in `panel`.
    pub(crate) fn of(&self, panel: usize) -> usize {
        if panel + 1 == self.count { self.last } else { self.vectors }
    }
}

/// Elements of the panels of a `k x n` matrix.
pub(crate) fn packed_len(k: usize, n: usize) -> usize {
    k * 16 * n.div_ceil(16).max(1)
}

/// `B (K, N)` in panels: panel `p` holds `K` rows of its 16 to 48 columns, padded with zeros.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    data: &'a [f32],
    /// Rows of a panel in memory, and the first of them that is used.
    rows: usize,
    first: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) cut: Cut,
}

impl<'a> Packed<'a> {
    /// What [`pack_into`] has written to `data`.
    pub(crate) fn of(data: &'a [f32], k: usize, n: usize) -> Self {
        assert!(data.len() >= packed_len(k, n), "panels outside their slice");
        Packed { data, rows: k, first: 0, k, n, cut: Cut::new(n) }
    }

    /// Panel `p` from row `k0` on, the width of its rows in memory and the columns that count.
    pub(super) fn panel(&self, p: usize, k0: usize) -> (&'a [f32], usize, usize) {
        let (first, width) = (p * 16 * self.cut.vectors, 16 * self.cut.of(p));
        (&self.data[first * self.rows + (self.first + k0) * width..], width, width.min(self.n - first))
    }

    /// Rows `range` of `B` alone.
    pub(crate) fn steps(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.k, "rows outside their panels");
        Packed { first: self.first + range.start, k: range.len(), ..self }
    }
}

/// Packs panel `p` of `b (K, N)` into `out`.
fn pack_panel(b: Matrix<'_>, k: usize, n: usize, width: usize, first: usize, out: &mut [f32]) {
    let columns = width.min(n - first);
    if b.column == 1 {
        for (kk, out) in out.chunks_exact_mut(width).enumerate().take(k) {
            let line = &b.data[kk * b.row + first..][..columns];
            if columns == width {
                // In fixed pieces: a call of memcpy takes longer than the copy.
                for (out, line) in out.chunks_exact_mut(16).zip(line.chunks_exact(16)) {
                    out.copy_from_slice(line);
                }
            } else {
                out[..columns].copy_from_slice(line);
                out[columns..].fill(0.0);
            }
        }
        return;
    }
    if columns < width {
        out.fill(0.0);
    }
    // A transposition, in strips of 16 steps so that the lines of both sides stay in the cache.
    let squares = if b.row == 1 { (columns / 4 * 4, k / 4 * 4) } else { (0, 0) };
    for k0 in (0..k).step_by(16) {
        let steps = 16.min(k - k0);
        for j in (0..squares.0).step_by(4) {
            for kk in (k0..(k0 + steps).min(squares.1)).step_by(4) {
                let from = (first + j) * b.column + kk;
                transpose4(&b.data[from..], b.column, &mut out[kk * width + j..], width);
            }
        }
        for j in 0..columns {
            let begin = if j < squares.0 { squares.1.clamp(k0, k0 + steps) } else { k0 };
            for kk in begin..k0 + steps {
                out[kk * width + j] = b.data[(first + j) * b.column + kk * b.row];
            }
        }
    }
}

/// Four rows of four, `from` apart, to four columns of four, `to` apart.
#[inline(always)]
fn transpose4(x: &[f32], from: usize, out: &mut [f32], to: usize) {
    let (x, out) = (&x[..3 * from + 4], &mut out[..3 * to + 4]);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::*;
        // SAFETY: four elements from 0, 1, 2 and 3 times the stride on, which the slices above hold; SSE is
        // part of x86-64.
        unsafe {
            let row = |i: usize| _mm_loadu_ps(x.as_ptr().add(i * from));
            let (mut a, mut b, mut c, mut d) = (row(0), row(1), row(2), row(3));
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            for (i, v) in [a, b, c, d].into_iter().enumerate() {
                _mm_storeu_ps(out.as_mut_ptr().add(i * to), v);
            }
        }
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    for i in 0..4 {
        for j in 0..4 {
            out[i * to + j] = x[j * from + i];
        }
    }
}

/// Packs `b (K, N)` into `out` ([`packed_len`] elements) on this thread.
pub(crate) fn pack_into<'a>(b: Matrix<'_>, k: usize, n: usize, out: &'a mut [f32]) -> Packed<'a> {
    let cut = Cut::new(n);
    if k > 0 && n > 0 {
        assert!(b.holds(k, n), "pack: matrix outside its slice");
        let step = 16 * cut.vectors;
        for (p, out) in out[..packed_len(k, n)].chunks_mut(step * k).enumerate() {
            pack_panel(b, k, n, 16 * cut.of(p), p * step, out);
        }
    }
    Packed { data: out, rows: k, first: 0, k, n, cut }
}

/// Packs `b (K, N)` into `out`, in parallel.
pub(super) fn pack_parallel<'a>(b: Matrix<'_>, k: usize, n: usize, out: &'a mut [f32]) -> Packed<'a> {
    if cfg!(miri) {
        return pack_into(b, k, n, out);
    }
    let cut = Cut::new(n);
    if k > 0 && n > 0 {
        assert!(b.holds(k, n), "pack: matrix outside its slice");
        let step = 16 * cut.vectors;
        out[..packed_len(k, n)]
            .par_chunks_mut(step * k)
            .enumerate()
            .for_each(|(p, out)| pack_panel(b, k, n, 16 * cut.of(p), p * step, out));
    }
    Packed { data: out, rows: k, first: 0, k, n, cut }
}
