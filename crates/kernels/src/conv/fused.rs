//! The fused CPU convolution: windows of a block of positions are gathered into a matrix that stays in the
//! second-level cache, and multiplied with packed weights.
//!
//! - forward: `Y = col(X) W`, in parallel over blocks of output positions;
//! - input gradient: the same with the windows of each phase (see `windows`);
//! - weight gradient: `dW = dY^T col(X)`, in parallel over columns and over chunks of positions whose sums
//!   are added in order.
//!
//! Depthwise convolutions (module `depthwise`) and volumes that keep their size (`same`) go without gathering.
//! All blocks are cut from the shapes alone, so results have the same bits for any number of threads.

use super::Geometry;
use super::depthwise;
use super::same;
use super::weights::{matrix, pack_backward, pack_forward, unpack_gradient, unpack_transposed};
use super::windows::Windows;
use crate::linear::gemm::{Cut, Matrix, Packed, Shared, multiply, pack_into, packed_len};
use crate::memory::{Blank, assume_written, fill, unwritten};
use rayon::prelude::*;

/// Most columns of windows that are gathered at a time; `K` of the product between two writes of its result.
const DEPTH: usize = 512;
/// Added to the distance of gathered rows: multiples of 4 KiB would share a few lines of the first-level
/// cache.
const PAD: usize = 16;

/// `C = A B` (or `+=`, where `c` has been written) on this thread, rows of `c` being `ldc` apart.
fn product(m: usize, n: usize, a: Matrix<'_>, b: &Packed<'_>, c: &mut [Blank], ldc: usize, add: bool) {
    assert!(m == 0 || (m - 1) * ldc + n <= c.len(), "convolution: product outside its slice");
    // SAFETY: the rows lie within `c` by the check above, and `c` is borrowed exclusively.
    unsafe { multiply(m, a, b, Shared::blank(c), 0, ldc, add) }
}

/// Panels of all groups, one after the other.
struct Panels {
    data: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// `pack` writes all panels of a group.
    fn new(groups: usize, depth: usize, columns: usize, pack: impl Fn(usize, &mut [Blank])) -> Self {
        let size = packed_len(depth, columns);
        let mut data = unwritten(groups * size);
        data.chunks_exact_mut(size).enumerate().for_each(|(group, out)| pack(group, out));
        // SAFETY: `pack_forward` and `pack_backward`, the only packers, write each column of each step of a
        // group, zeros beyond the last.
        Panels { data: unsafe { data.written() }, depth, columns }
    }

    fn of(&self, group: usize) -> Packed<'_> {
        let size = packed_len(self.depth, self.columns);
        Packed::of(&self.data[group * size..], self.depth, self.columns)
    }
}

/// Output positions of a block: about a sixteenth of all, so that there is work for many threads, but enough
/// to use the weights well.
pub(super) fn block(rows: usize) -> usize {
    (rows / 16).clamp(32, 128).next_multiple_of(8)
}

/// Writes rows `first ..` of `Y (positions, outputs)` into `out`.
fn rows_of(
    windows: &Windows,
    x: &[f32],
    weights: &Panels,
    groups: usize,
    first: usize,
    out: &mut [Blank],
    col: &mut Vec<f32>,
) {
    let (depth, n) = (windows.depth(), weights.columns);
    let ld = n * groups;
    let count = out.len() / ld;
    // A row stride of 2 KiB or its multiples would crowd a few lines of the cache.
    if windows.plain() && depth <= DEPTH && !depth.is_multiple_of(512) {
        product(count, n, Matrix::rows(&x[first * depth..], depth), &weights.of(0), out, ld, false);
        return;
    }
    let steps = depth.div_ceil(depth.div_ceil(DEPTH).max(1)).next_multiple_of(16);
    let stride = steps.min(depth) + PAD;
    col.resize(count * stride, 0.0);
    for group in 0..groups {
        for k in (0..depth).step_by(steps) {
            let range = k..(k + steps).min(depth);
            windows.gather(x, group, first, range.clone(), &mut col[..count * stride], stride);
            let b = weights.of(group).steps(range);
            product(count, n, Matrix::rows(col, stride), &b, &mut out[group * n..], ld, k > 0);
        }
    }
}

/// `Y (N * positions, C_out) = col(X) W`; `after` sees each block of rows while it is in the cache, and its
/// results are returned in order.
pub(super) fn forward<S: Send>(
    g: &Geometry,
    x: &[f32],
    w: &[f32],
    after: impl Fn(&[f32]) -> S + Sync,
) -> (Vec<f32>, Vec<S>) {
    if g.depthwise() || g.same() {
        let y = if g.depthwise() {
            depthwise::forward(g, x, w)
        } else {
            same::forward(g, x, &matrix(g, w, false))
        };
        let rows = block(y.len() / g.outputs) * g.outputs;
        let seen = y.par_chunks(rows).map(&after).collect();
        return (y, seen);
    }
    let windows = Windows::forward(g);
    let weights = Panels::new(g.groups, windows.depth(), g.outputs / g.groups, |group, out| {
        pack_forward(g, w, group, out)
    });
    let rows = windows.rows();
    let mut y = unwritten(rows * g.outputs);
    let block = block(rows);
    let seen = y
        .par_chunks_mut(block * g.outputs)
        .enumerate()
        .map_init(Vec::new, |col, (b, out)| {
            rows_of(&windows, x, &weights, g.groups, b * block, out, col);
            // SAFETY: the line above has written these rows, the outputs of all groups.
            after(unsafe { assume_written(out) })
        })
        .collect();
    // SAFETY: as above; the blocks are all rows.
    (unsafe { y.written() }, seen)
}

/// `dX` from `dY (N * positions, C_out)`.
pub(super) fn input_gradient(g: &Geometry, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let c = g.inputs;
    if g.depthwise() {
        return depthwise::input_gradient(g, w, dy);
    }
    if let Some(turned) = g.turned().filter(Geometry::same) {
        return same::forward(&turned, dy, &matrix(g, w, true));
    }
    let phases = Windows::backward(g);
    // Where a stride is longer than the kernel some positions are in no window.
    let seen = phases.len() == (0..3).map(|a| g.stride[a].min(g.size[a])).product::<usize>();
    let len = g.n * g.size.iter().product::<usize>() * c;
    let mut dx = unwritten(len);
    if !seen {
        dx.par_chunks_mut(1 << 14).for_each(|dx| _ = fill(dx, 0.0));
    }
    for phase in phases {
        let windows = &phase.windows;
        let weights = Panels::new(g.groups, windows.depth(), c / g.groups, |group, out| {
            pack_backward(g, w, group, &phase.taps, out)
        });
        let rows = windows.rows();
        let block = block(rows);
        if g.stride == [1; 3] {
            dx.par_chunks_mut(block * c).enumerate().for_each_init(Vec::new, |col, (b, out)| {
                rows_of(windows, dy, &weights, g.groups, b * block, out, col);
            });
            continue;
        }
        let shared = Shared::blank(&mut dx);
        (0..rows.div_ceil(block)).into_par_iter().for_each_init(
            Default::default,
            |(col, out): &mut (Vec<f32>, Vec<Blank>), b| {
                let first = b * block;
                out.resize(block.min(rows - first) * c, Blank::new(0.0));
                rows_of(windows, dy, &weights, g.groups, first, out, col);
                for (r, row) in out.chunks_exact(c).enumerate() {
                    let at = windows.place(first + r, phase.first, g) * c;
                    // SAFETY: each row of a phase is another position of the input, within `dx`.
                    unsafe { shared.blanks(at, c) }.copy_from_slice(row);
                }
            },
        );
    }
    // SAFETY: each position is in a phase, or was filled before, and each row of a phase is written.
    unsafe { dx.written() }
}

/// Positions whose windows are gathered at a time for the weight gradient.
const STEPS: usize = 256;

/// `dW (C_out, C_in / groups, k..)` from `dY (N * positions, C_out)`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    if g.depthwise() {
        let mut sums = depthwise::weight_gradient(g, x, dy);
        add_parts(&mut sums, g.taps() * g.inputs);
        return depthwise::unpack(g, &sums);
    }
    if g.same() {
        let size = g.outputs * g.inputs * g.taps();
        let mut sums = same::weight_gradient(g, x, dy, (4_194_304 / size.max(1)).clamp(2, 8));
        add_parts(&mut sums, size);
        return unpack_transposed(g, &sums);
    }
    let windows = Windows::forward(g);
    let (c, o, depth, rows) = (g.inputs / g.groups, g.outputs / g.groups, windows.depth(), windows.rows());
    // Tasks of at least six panels of 48 columns: dY is regrouped for each of them. Then chunks of positions
    // until there are 32 tasks, as far as their sums stay below 16 MiB.
    let panels = depth.div_ceil(48);
    let groups_of_columns = (panels / 6).clamp(1, 16);
    let columns = panels.div_ceil(groups_of_columns) * 48;
    let tasks = depth.div_ceil(columns);
    let size = g.groups * o * depth;
    let blocks = rows.div_ceil(STEPS).max(1);
    let chunks = 32usize.div_ceil(tasks).min(4_194_304 / size.max(1)).clamp(1, blocks);
    let per = blocks.div_ceil(chunks);
    let mut sums = vec![0f32; chunks * size];
    let shared = Shared::new(&mut sums);
    let direct = c.is_multiple_of(16);
    (0..chunks * tasks).into_par_iter().with_max_len(1).for_each_init(
        Default::default,
        |scratch: &mut (Vec<usize>, Vec<f32>, Vec<f32>), task| {
            let (chunk, range) =
                (task / tasks, task % tasks * columns..(task % tasks * columns + columns).min(depth));
            let (taps, col, panel) = scratch;
            let n = range.len();
            panel.resize(packed_len(STEPS, n), 0.0);
            for b in chunk * per..((chunk + 1) * per).min(blocks) {
                let first = b * STEPS;
                let count = STEPS.min(rows - first);
                for group in 0..g.groups {
                    let packed = if direct {
                        windows.gather_panels(
                            x,
                            group,
                            first,
                            count,
                            range.clone(),
                            Cut::new(n).vectors,
                            taps,
                            panel,
                        );
                        Packed::of(panel, count, n)
                    } else {
                        col.resize(count * n, 0.0);
                        windows.gather(x, group, first, range.clone(), &mut col[..count * n], n);
                        pack_into(Matrix::rows(col, n), count, n, panel)
                    };
                    let a = Matrix::rows(&dy[first * g.outputs + group * o..], g.outputs).t();
                    // SAFETY: tasks have columns or chunks of their own, within `sums`.
                    unsafe {
                        multiply(
                            o,
                            a,
                            &packed,
                            shared,
                            chunk * size + group * o * depth + range.start,
                            depth,
                            true,
                        )
                    }
                }
            }
        },
    );
    add_parts(&mut sums, size);
    unpack_gradient(g, sums)
}

/// Partial sums of `size` values to one, in their order.
fn add_parts(sums: &mut Vec<f32>, size: usize) {
    let rest = sums.split_off(size);
    sums.par_chunks_mut(4096).enumerate().for_each(|(i, part)| {
        for other in rest.chunks_exact(size) {
            for (a, b) in part.iter_mut().zip(&other[i * 4096..]) {
                *a += b;
            }
        }
    });
}
