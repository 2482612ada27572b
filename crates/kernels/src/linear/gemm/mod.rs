//! Matrix products in f32 on the CPU, for the kernels of this crate: `C (M, N) = A (M, K) B (K, N)`.
//!
//! `B` is packed once into panels of up to 48 columns, shared by all tasks. A micro kernel keeps 8 rows x 48
//! columns of `C` in registers (24 of the 32 of AVX-512): per step of `k` it loads three vectors of the panel
//! and broadcasts eight elements of `A`, for 24 multiply-adds. `K` is cut into chunks of [`KC`], so that
//! eight rows of `A` stay in the first-level cache and a panel in the second. Without AVX-512 the `gemm`
//! crate takes the same blocks.
//!
//! Tasks are cut from the shape alone and each element of `C` is summed in one fixed order, whatever thread
//! computes it.

mod micro;
mod pack;
mod views;

pub(crate) use pack::{Cut, Packed, pack_into, packed_len};
pub(crate) use views::{Matrix, Scratch, Shared};

use crate::memory::Blank;
use micro::{NR, panel_block};
use pack::pack_parallel;
use rayon::prelude::*;
use std::cell::RefCell;

/// Steps of `k` between which a block of `C` is written out.
const KC: usize = 512;

thread_local! {
    /// Rows of `A` in groups of eight, where the steps of `k` are not contiguous.
    static ROWS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
    /// The panels of [`matmul`].
    static PANELS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// Rows of the largest blocks, and rows of `A` that are regrouped at a time.
const ROW_BLOCK: usize = 256;

/// Rows `i0 .. i0 + m` and panels `p0 .. p1` of `C`, on this thread.
///
/// # Safety
/// `c` is the start of row `i0`, column 0 of `C`, whose rows are `ldc` apart; the rows and columns are within
/// it and nobody else uses them.
#[allow(clippy::too_many_arguments)]
unsafe fn block(
    m: usize,
    i0: usize,
    a: Matrix<'_>,
    b: &Packed<'_>,
    panels: std::ops::Range<usize>,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
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
                let (panel, width, columns) = b.panel(p, k0);
                // SAFETY: the panel's steps from k0 on; rows i .. i + rows and the panel's columns of C.
                unsafe {
                    panel_block(
                        rows,
                        steps,
                        a,
                        rs,
                        ks,
                        panel.as_ptr(),
                        width,
                        columns,
                        c.add(i * ldc + p * step),
                        ldc,
                        add,
                    )
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
                    let (panel, width, columns) = b.panel(p, k0);
                    for g in 0..whole / NR {
                        // SAFETY: eight regrouped rows; the panel's steps from k0 on; these rows and the
                        // panel's columns of C.
                        unsafe {
                            let c = c.add((i + g * NR) * ldc + p * step);
                            panel_block(
                                NR,
                                steps,
                                group.as_ptr().add(g * NR * steps),
                                1,
                                NR,
                                panel.as_ptr(),
                                width,
                                columns,
                                c,
                                ldc,
                                add,
                            );
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

/// `C (M, N) = A B` (or `+=`, with `add`) on this thread. Row `i` of `C` starts at element `start + i * ldc`
/// of `c`.
///
/// # Safety
/// These rows lie within the slice of `c`, and nobody else uses them at the same time.
pub(crate) unsafe fn multiply(
    m: usize,
    a: Matrix<'_>,
    b: &Packed<'_>,
    c: Shared,
    start: usize,
    ldc: usize,
    add: bool,
) {
    if m == 0 || b.n == 0 {
        return;
    }
    assert!(a.holds(m, b.k) && ldc >= b.n, "multiply: matrix outside its slice");
    // SAFETY: the caller's promise for C, the check for A; the panels of B were made for its K and N.
    unsafe { block(m, 0, a, b, 0..b.cut.count, c.at(start), ldc, add) }
}

/// `C (M, N) += A B` on this thread like [`multiply`], with `A` read where it lies whatever its strides: for
/// blocks that are in the first-level cache anyway, where regrouping the rows of a transposed `A` would cost
/// more than it saves.
///
/// # Safety
/// As [`multiply`].
pub(crate) unsafe fn multiply_in_place(
    m: usize,
    a: Matrix<'_>,
    b: &Packed<'_>,
    c: Shared,
    start: usize,
    ldc: usize,
) {
    if m == 0 || b.n == 0 || b.k == 0 {
        return;
    }
    assert!(a.holds(m, b.k) && ldc >= b.n, "multiply_in_place: matrix outside its slice");
    for p in 0..b.cut.count {
        let (panel, width, columns) = b.panel(p, 0);
        // SAFETY: the caller's promise for C, the check for A; the panels of B were made for its K and N.
        unsafe {
            let c = c.at(start + 16 * b.cut.vectors * p);
            panel_block(
                m,
                b.k,
                a.data.as_ptr(),
                a.row,
                a.column,
                panel.as_ptr(),
                width,
                columns,
                c,
                ldc,
                true,
            );
        }
    }
}

/// `C (M, N) = A (M, K) B (K, N)` in parallel over blocks of `C`, all of which is written. When a block of
/// rows `i` and columns is done, `after(i, first column, row of the block)` is called for each of its rows,
/// while they are in the cache.
pub(crate) fn matmul(
    m: usize,
    n: usize,
    k: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [Blank],
    after: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && m * n <= c.len(), "matmul: matrix outside its slice");
    // Taken out of the thread's hands: while this thread waits, it may run another product.
    let mut scratch = PANELS.take();
    let packed = pack_parallel(b, k, n, scratch.get(packed_len(k, n)));
    // Blocks of 256 x 384: a block reads `K` times its rows and columns from memory and computes `K` times
    // their product, so it should be large and near a square; but there should be at least 16 of them where
    // the shape has them.
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
    let shared = Shared::blank(c);
    let task = |task: usize| {
        let (i0, p0) = (task / groups * rows, task % groups * group);
        let (count, p1) = (rows.min(m - i0), (p0 + group).min(packed.cut.count));
        let step = 16 * packed.cut.vectors;
        let (from, to) = (p0 * step, (p1 * step).min(n));
        // SAFETY: blocks of rows and columns of different tasks are disjoint, and within `c` by the check
        // above; `after` sees what the block has written.
        unsafe {
            block(count, i0, a, &packed, p0..p1, shared.at(i0 * n), n, false);
            for i in i0..i0 + count {
                after(i, from, shared.slice(i * n + from, to - from));
            }
        }
    };
    if cfg!(miri) {
        // On one thread: rayon's queues are not for Miri's stricter model of borrows.
        (0..tasks(rows, group)).for_each(task);
    } else {
        (0..tasks(rows, group)).into_par_iter().with_max_len(1).for_each(task);
    }
    PANELS.set(scratch);
}

#[cfg(test)]
mod tests;
