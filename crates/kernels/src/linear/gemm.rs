//! Matrix products in f32 on the CPU, for the kernels of this crate: `C (M, N) = A (M, K) B (K, N)`.
//!
//! `B` is packed once into panels of up to 48 columns, shared by all tasks. A micro kernel keeps 8 rows x 48 columns of `C` in registers
//! (24 of the 32 of AVX-512): per step of `k` it loads three vectors of the panel and broadcasts eight elements of `A`, for 24 multiply-adds.
//! `K` is cut into chunks of [`KC`], so that eight rows of `A` stay in the first-level cache and a panel in the second. Without AVX-512 the
//! `gemm` crate takes the same blocks.
//!
//! Tasks are cut from the shape alone and each element of `C` is summed in one fixed order, whatever thread computes it.

// AVX-512 intrinsics are older than they are stable; see `rust-version`.
#![allow(clippy::incompatible_msrv)]

use rayon::prelude::*;
use std::cell::RefCell;

/// Rows of `C` of a micro kernel.
const NR: usize = 8;
/// Vectors of 16 columns of a micro kernel.
const NV: usize = 3;
/// Steps of `k` between which a block of `C` is written out.
const KC: usize = 512;

/// A pointer that tasks share; each task writes only what is its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: see the type; every use states why the parts that tasks touch are disjoint.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(x: &mut [f32]) -> Self {
        Shared(x.as_mut_ptr())
    }

    /// The elements `start .. start + len`.
    ///
    /// # Safety
    /// They must lie within the slice that the pointer came from, and nobody else may use them at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// A read-only matrix in a slice: element `(i, j)` is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `stride` elements, of which each is contiguous.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Matrix { data, row: stride, column: 1 }
    }

    /// The same matrix with rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        Matrix { data: self.data, row: self.column, column: self.row }
    }

    /// Whether an `m x n` matrix lies within the slice.
    fn holds(&self, m: usize, n: usize) -> bool {
        m == 0 || n == 0 || (m - 1) * self.row + (n - 1) * self.column < self.data.len()
    }
}

/// How `n` columns are cut into panels.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// Panels.
    count: usize,
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
    k: usize,
    n: usize,
    cut: Cut,
}

impl<'a> Packed<'a> {
    /// What [`pack_into`] has written to `data`.
    pub(crate) fn of(data: &'a [f32], k: usize, n: usize) -> Self {
        assert!(data.len() >= packed_len(k, n), "panels outside their slice");
        Packed { data, rows: k, first: 0, k, n, cut: Cut::new(n) }
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
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: four elements from 0, 1, 2 and 3 times the stride on, which the slices above hold; SSE is part of x86-64.
        unsafe {
            let row = |i: usize| _mm_loadu_ps(x.as_ptr().add(i * from));
            let (mut a, mut b, mut c, mut d) = (row(0), row(1), row(2), row(3));
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            for (i, v) in [a, b, c, d].into_iter().enumerate() {
                _mm_storeu_ps(out.as_mut_ptr().add(i * to), v);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
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
fn pack_parallel<'a>(b: Matrix<'_>, k: usize, n: usize, out: &'a mut [f32]) -> Packed<'a> {
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

#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// `R` rows and `V` vectors of `C`, the last of which has the columns of `mask`.
///
/// # Safety
/// Needs AVX-512F. `a` points to `R` rows, `rs` apart, of `k` elements, `ks` apart; `b` to `k` rows of `16 V` elements; `c` to `R` rows, `ldc`
/// apart, of `16 (V - 1)` elements and those of `mask`.
#[cfg(target_arch = "x86_64")]
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
        // One address per row and a common offset: a single pointer that walks over the rows would be a chain of eight additions per step.
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

#[cfg(target_arch = "x86_64")]
type Micro = unsafe fn(usize, *const f32, usize, usize, *const f32, *mut f32, usize, bool, u16);

#[cfg(target_arch = "x86_64")]
macro_rules! micros {
    ($($v:literal),*) => { [$([micro::<1, $v> as Micro, micro::<2, $v>, micro::<3, $v>, micro::<4, $v>, micro::<5, $v>, micro::<6, $v>, micro::<7, $v>, micro::<8, $v>]),*] };
}

/// By vectors and rows.
#[cfg(target_arch = "x86_64")]
static MICRO: [[Micro; NR]; NV] = micros!(1, 2, 3);

/// `C += A B` or `C = A B` for rows `i` of one panel and `k` steps.
///
/// # Safety
/// `a` points to `m` rows, `rs` apart, of `k` elements, `ks` apart; `b` to `k` rows of `width` elements; `c` to `m` rows, `ldc` apart, of `columns`.
#[allow(clippy::too_many_arguments)]
unsafe fn panel_block(
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
    #[cfg(target_arch = "x86_64")]
    if avx512() {
        let vectors = width / 16;
        let mask = u16::MAX >> (width - columns);
        for i in (0..m).step_by(NR) {
            let rows = NR.min(m - i);
            // SAFETY: the rows from i on, of what the caller promises; the mask has what is left of `columns` in the last vector.
            unsafe { MICRO[vectors - 1][rows - 1](k, a.add(i * rs), rs, ks, b, c.add(i * ldc), ldc, add, mask) }
        }
        return;
    }
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

thread_local! {
    /// Rows of `A` in groups of eight, where the steps of `k` are not contiguous.
    static ROWS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
    /// The panels of [`matmul`].
    static PANELS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// Memory that is used again and again: fresh pages cost more than what is computed in them.
#[derive(Default)]
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    pub(crate) const fn new() -> Self {
        Scratch(Vec::new())
    }

    /// `len` elements of any value from the start of a cache line: vectors that straddle two lines are loaded twice.
    pub(crate) fn get(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len + 16 {
            // Not `resize`: the old elements need no copy.
            self.0 = vec![0.0; len + 16];
        }
        let start = self.0.as_ptr().align_offset(64).min(16);
        &mut self.0[start..start + len]
    }
}

/// Rows of the largest blocks, and rows of `A` that are regrouped at a time.
const ROW_BLOCK: usize = 256;

/// Rows `i0 .. i0 + m` and panels `p0 .. p1` of `C`, on this thread.
///
/// # Safety
/// `c` is the start of row `i0`, column 0 of `C`, whose rows are `ldc` apart; the rows and columns are within it and nobody else uses them.
#[allow(clippy::too_many_arguments)]
unsafe fn block(m: usize, i0: usize, a: Matrix<'_>, b: &Packed<'_>, panels: std::ops::Range<usize>, c: *mut f32, ldc: usize, add: bool) {
    let (k, n) = (b.k, b.n);
    let step = 16 * b.cut.vectors;
    if k == 0 {
        if !add {
            let (from, to) = (panels.start * step, (panels.end * step).min(n));
            for i in 0..m {
                // SAFETY: within the rows and columns of this block.
                unsafe { std::slice::from_raw_parts_mut(c.add(i * ldc + from), to - from).fill(0.0) }
            }
        }
        return;
    }
    for k0 in (0..k).step_by(KC) {
        let steps = KC.min(k - k0);
        let add = add || k0 > 0;
        let run = |i: usize, rows: usize, a: *const f32, rs: usize, ks: usize| {
            for p in panels.clone() {
                let width = 16 * b.cut.of(p);
                // SAFETY: the panel's steps from k0 on; rows i .. i + rows and the panel's columns of C.
                unsafe {
                    let panel = b.data.as_ptr().add(p * step * b.rows + (b.first + k0) * width);
                    panel_block(rows, steps, a, rs, ks, panel, width, width.min(n - p * step), c.add(i * ldc + p * step), ldc, add);
                }
            }
        };
        if a.column == 1 || m < NR {
            // SAFETY: the element (i0, k0), which `holds` has checked.
            let start = unsafe { a.data.as_ptr().add(i0 * a.row + k0 * a.column) };
            run(0, m, start, a.row, a.column);
            continue;
        }
        ROWS.with_borrow_mut(|group| {
            for i in (0..m).step_by(ROW_BLOCK) {
                let rows = ROW_BLOCK.min(m - i);
                let whole = rows - rows % NR;
                let group = group.get(ROW_BLOCK * KC);
                // (rows, steps) -> (rows / 8, steps, 8)
                for (g, out) in group.chunks_exact_mut(NR * steps).enumerate().take(whole / NR) {
                    let base = (i0 + i + g * NR) * a.row + k0 * a.column;
                    if a.row == 1 {
                        for (s, out) in out.chunks_exact_mut(NR).enumerate() {
                            out.copy_from_slice(&a.data[base + s * a.column..][..NR]);
                        }
                    } else {
                        for (s, out) in out.chunks_exact_mut(NR).enumerate() {
                            for (r, out) in out.iter_mut().enumerate() {
                                *out = a.data[base + s * a.column + r * a.row];
                            }
                        }
                    }
                }
                for p in panels.clone() {
                    let width = 16 * b.cut.of(p);
                    for g in 0..whole / NR {
                        // SAFETY: eight regrouped rows; the panel's steps from k0 on; these rows and the panel's columns of C.
                        unsafe {
                            let panel = b.data.as_ptr().add(p * step * b.rows + (b.first + k0) * width);
                            let c = c.add((i + g * NR) * ldc + p * step);
                            let a = group.as_ptr().add(g * NR * steps);
                            panel_block(NR, steps, a, 1, NR, panel, width, width.min(n - p * step), c, ldc, add);
                        }
                    }
                }
                if whole < rows {
                    // SAFETY: the element (i0 + i + whole, k0), which `holds` has checked.
                    let start = unsafe { a.data.as_ptr().add((i0 + i + whole) * a.row + k0 * a.column) };
                    run(i + whole, rows - whole, start, a.row, a.column);
                }
            }
        });
    }
}

/// `C (M, N) = A B` (or `+=`, with `add`) on this thread. Row `i` of `C` starts at element `start + i * ldc` of `c`.
///
/// # Safety
/// These rows lie within the slice of `c`, and nobody else uses them at the same time.
pub(crate) unsafe fn multiply(m: usize, a: Matrix<'_>, b: &Packed<'_>, c: Shared, start: usize, ldc: usize, add: bool) {
    if m == 0 || b.n == 0 {
        return;
    }
    assert!(a.holds(m, b.k) && ldc >= b.n, "multiply: matrix outside its slice");
    // SAFETY: the caller's promise for C, the check for A; the panels of B were made for its K and N.
    unsafe { block(m, 0, a, b, 0..b.cut.count, c.0.add(start), ldc, add) }
}

/// `C (M, N) += A B` on this thread like [`multiply`], with `A` read where it lies whatever its strides: for blocks that are in the first-level
/// cache anyway, where regrouping the rows of a transposed `A` would cost more than it saves.
///
/// # Safety
/// As [`multiply`].
pub(crate) unsafe fn multiply_in_place(m: usize, a: Matrix<'_>, b: &Packed<'_>, c: Shared, start: usize, ldc: usize) {
    if m == 0 || b.n == 0 || b.k == 0 {
        return;
    }
    assert!(a.holds(m, b.k) && ldc >= b.n, "multiply_in_place: matrix outside its slice");
    let step = 16 * b.cut.vectors;
    for p in 0..b.cut.count {
        let width = 16 * b.cut.of(p);
        // SAFETY: the caller's promise for C, the check for A; the panels of B were made for its K and N.
        unsafe {
            let panel = b.data.as_ptr().add(p * step * b.rows + b.first * width);
            let c = c.0.add(start + p * step);
            panel_block(m, b.k, a.data.as_ptr(), a.row, a.column, panel, width, width.min(b.n - p * step), c, ldc, true);
        }
    }
}

/// `C (M, N) = A (M, K) B (K, N)` in parallel over blocks of `C`. When a block of rows `i` and columns is done, `after(i, first column, row of
/// the block)` is called for each of its rows, while they are in the cache.
pub(crate) fn matmul(
    m: usize,
    n: usize,
    k: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    after: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && m * n <= c.len(), "matmul: matrix outside its slice");
    // Taken out of the thread's hands: while this thread waits, it may run another product.
    let mut scratch = PANELS.take();
    let packed = pack_parallel(b, k, n, scratch.get(packed_len(k, n)));
    // Blocks of 256 x 384: a block reads `K` times its rows and columns from memory and computes `K` times their product, so it should be
    // large and near a square; but there should be at least 16 of them where the shape has them.
    let (mut rows, mut group) = (ROW_BLOCK, 384usize.div_ceil(16 * packed.cut.vectors).min(packed.cut.count));
    let tasks = |rows: usize, group: usize| m.div_ceil(rows) * packed.cut.count.div_ceil(group);
    while tasks(rows, group) < 16 && (rows > 32 || group > 1) {
        if group > 1 && (rows == 32 || 16 * packed.cut.vectors * group > rows.min(m)) {
            group = group.div_ceil(2);
        } else {
            rows /= 2;
        }
    }
    let groups = packed.cut.count.div_ceil(group);
    let shared = Shared::new(c);
    (0..tasks(rows, group)).into_par_iter().with_max_len(1).for_each(|task| {
        let (i0, p0) = (task / groups * rows, task % groups * group);
        let (count, p1) = (rows.min(m - i0), (p0 + group).min(packed.cut.count));
        let step = 16 * packed.cut.vectors;
        let (from, to) = (p0 * step, (p1 * step).min(n));
        // SAFETY: blocks of rows and columns of different tasks are disjoint, and within `c` by the check above.
        unsafe {
            block(count, i0, a, &packed, p0..p1, shared.slice(i0 * n, 0).as_mut_ptr(), n, false);
            for i in i0..i0 + count {
                after(i, from, shared.slice(i * n + from, to - from));
            }
        }
    });
    PANELS.set(scratch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut r = Key::new(seed).rng();
        (0..n).map(|_| r.normal()).collect()
    }

    #[test]
    fn products_of_all_shapes_and_strides() {
        for (i, &(m, n, k)) in
            [(1, 1, 1), (7, 5, 3), (8, 48, 16), (9, 49, 17), (130, 64, 520), (33, 200, 1), (16, 16, 1025), (5, 97, 0), (300, 33, 70)]
                .iter()
                .enumerate()
        {
            let (a, b) = (random(m * k, i as u64), random(k * n, 100 + i as u64));
            let at: Vec<f32> = (0..k * m).map(|j| a[(j % m) * k + j / m]).collect();
            let bt: Vec<f32> = (0..k * n).map(|j| b[(j % k) * n + j / k]).collect();
            let want: Vec<f64> =
                (0..m * n).map(|j| (0..k).map(|s| f64::from(a[j / n * k + s]) * f64::from(b[s * n + j % n])).sum()).collect();
            for (a, b) in [
                (Matrix::rows(&a, k), Matrix::rows(&b, n)),
                (Matrix::rows(&at, m).t(), Matrix::rows(&b, n)),
                (Matrix::rows(&a, k), Matrix::rows(&bt, k).t()),
                (Matrix::rows(&at, m).t(), Matrix::rows(&bt, k).t()),
            ] {
                let mut c = vec![f32::NAN; m * n];
                matmul(m, n, k, a, b, &mut c, |_, _, row| row.iter_mut().for_each(|x| *x += 1.0));
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
}
