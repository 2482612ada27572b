//! Volumes convolved with stride 1 and kept at their size, without gathering windows.
//!
//! The planes that a window touches are copied with zeros at both ends of their rows. In the copy the windows
//! of neighbouring positions of a row, under one row of the kernel, are runs of `k_w C` values that start `C`
//! apart: a matrix whose rows overlap, which the product reads where it lies. So a row of output is a sum of
//! up to `k_d k_h` products `(W, k_w C) (k_w C, O)`, and its part of the weight gradient as many products
//! `(k_w C, W) (W, O)`; rows of the kernel that lie outside the volume are left out.
//!
//! Why: a 3x3x3 window of 16 channels is 432 values. Gathering them takes about as long as multiplying them
//! with 16 outputs, where a network on volumes spends most of its time. And the copies are `k_d` planes a
//! thread, which stay in its cache, and not a second volume in memory.

use super::Geometry;
use crate::linear::gemm::{Matrix, Packed, Shared, multiply, multiply_in_place, pack_into, packed_len};
use crate::memory::{fill, scratch, unwritten};
use rayon::prelude::*;
use std::ops::Range;

/// Values of a row of the kernel from which on this is faster than gathering.
const SHORTEST: usize = 24;

/// Tasks of a forward, as far as there are rows for them.
const TASKS: usize = 32;

impl Geometry {
    /// Whether this module computes it.
    pub(super) fn same(&self) -> bool {
        let keeps = |a: usize| self.kernel[a] % 2 == 1 && self.padding[a] == self.kernel[a] / 2;
        self.rank == 3
            && self.groups == 1
            && self.stride == [1; 3]
            && self.dilation == [1; 3]
            && (0..3).all(keeps)
            && self.kernel[0] > 1
            && self.kernel[2] * self.inputs >= SHORTEST
    }

    /// The taps of axis `a` whose input is inside for output position `at`.
    fn inside(&self, a: usize, at: usize) -> Range<usize> {
        self.padding[a].saturating_sub(at)..self.kernel[a].min(self.size[a] + self.padding[a] - at)
    }
}

/// Padded rows of as many planes of the input as a window is deep; a plane that is held already is not copied
/// again.
struct Planes<'a> {
    g: &'a Geometry,
    x: &'a [f32],
    data: Vec<f32>,
    /// Elements of a padded row, and of the place of a plane.
    row: usize,
    plane: usize,
    /// The sample, the plane and the rows that each place holds.
    held: Vec<Option<(usize, usize, Range<usize>)>>,
}

impl<'a> Planes<'a> {
    /// Places for `rows` rows of each plane.
    fn new(g: &'a Geometry, x: &'a [f32], rows: usize) -> Self {
        let row = (g.size[2] + 2 * g.padding[2]) * g.inputs;
        let plane = row * rows;
        Planes { g, x, data: scratch(g.kernel[0] * plane), row, plane, held: vec![None; g.kernel[0]] }
    }

    /// Copies rows `rows` of the planes `planes` of sample `n`, at most as many as a window is deep.
    fn load(&mut self, n: usize, planes: Range<usize>, rows: Range<usize>) {
        let ([d, h, w], c) = (self.g.size, self.g.inputs);
        let edge = self.g.padding[2] * c;
        for z in planes {
            let place = z % self.held.len();
            let wanted = Some((n, z, rows.clone()));
            if self.held[place] == wanted {
                continue;
            }
            self.held[place] = wanted;
            let from = &self.x[((n * d + z) * h + rows.start) * w * c..][..rows.len() * w * c];
            let to = self.data[place * self.plane..].chunks_exact_mut(self.row);
            for (to, from) in to.zip(from.chunks_exact(w * c)) {
                to[..edge].fill(0.0);
                to[edge..edge + w * c].copy_from_slice(from);
                to[edge + w * c..].fill(0.0);
            }
        }
    }

    /// The windows of row `y` of plane `z`, counted from the first row that was loaded.
    fn windows(&self, z: usize, y: usize) -> Matrix<'_> {
        Matrix::rows(&self.data[z % self.held.len() * self.plane + y * self.row..][..self.row], self.g.inputs)
    }
}

/// `Y (N * positions, C_out)` from the weight matrix `(taps * C_in, C_out)`.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
    let ([kd, kh, kw], [d, h, width], c, o) = (g.kernel, g.size, g.inputs, g.outputs);
    let steps = kw * c;
    let size = packed_len(steps, o);
    let mut panels = scratch(kd * kh * size);
    let packed: Vec<Packed<'_>> = panels
        .chunks_exact_mut(size)
        .zip(w.chunks_exact(steps * o))
        .map(|(panel, w)| pack_into(Matrix::rows(w, o), steps, o, panel))
        .collect();
    let mut y = unwritten(g.n * d * h * width * o);
    let shared = Shared::blank(&mut y);
    // A task is a band of rows of one plane, usually all of them; the next task is the same band of the next
    // plane.
    let band = h.div_ceil(TASKS.div_ceil((g.n * d).max(1)).min(h));
    let bands = h.div_ceil(band);
    let planes = || Planes::new(g, x, (band + kh - 1).min(h));
    (0..bands * g.n * d).into_par_iter().for_each_init(planes, |planes, task| {
        let (first, n, z) = (task / (g.n * d) * band, task / d % g.n, task % d);
        let last = (first + band).min(h) - 1;
        let (pz, py) = (g.padding[0], g.padding[1]);
        let inside = g.inside(0, z);
        let top = (first + g.inside(1, first).start) - py;
        planes.load(n, z + inside.start - pz..z + inside.end - pz, top..last + g.inside(1, last).end - py);
        for y in first..=last {
            // SAFETY: each row of the output is of one task, and within `y`.
            let out = unsafe { shared.blanks(((n * d + z) * h + y) * width * o, width * o) };
            let mut add = false;
            for i in inside.clone() {
                for j in g.inside(1, y) {
                    let windows = planes.windows(z + i - pz, y + j - py - top);
                    // SAFETY: `out` has `width` rows of `o` elements and is this task's alone.
                    unsafe { multiply(width, windows, &packed[i * kh + j], Shared::blank(out), 0, o, add) }
                    add = true;
                }
            }
        }
    });
    // SAFETY: each row of the output has a task, and a tap inside the volume (the middle one is) that writes
    // all of it.
    unsafe { y.written() }
}

/// Sums over output rows of `dW (taps * C_in, C_out)`, in `parts` partial sums that are added in order.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32], parts: usize) -> Vec<f32> {
    let ([_, kh, kw], [d, h, width], c, o) = (g.kernel, g.size, g.inputs, g.outputs);
    let (steps, size) = (kw * c, g.kernel.iter().product::<usize>() * c * o);
    let rows = g.n * d * h;
    let per = rows.div_ceil(parts.max(1));
    let mut sums = unwritten(rows.div_ceil(per.max(1)) * size);
    sums.par_chunks_mut(size).enumerate().for_each(|(part, sum)| {
        let sum = fill(sum, 0.0);
        let mut panel = scratch(packed_len(width, o));
        let mut planes = Planes::new(g, x, h);
        for row in part * per..((part + 1) * per).min(rows) {
            let (n, z, y) = (row / (d * h), row / h % d, row % h);
            let (pz, py) = (g.padding[0], g.padding[1]);
            let inside = g.inside(0, z);
            planes.load(n, z + inside.start - pz..z + inside.end - pz, 0..h);
            let packed =
                pack_into(Matrix::rows(&dy[row * width * o..][..width * o], o), width, o, &mut panel);
            for i in inside {
                for j in g.inside(1, y) {
                    let windows = planes.windows(z + i - pz, y + j - py).t();
                    let sum = &mut sum[(i * kh + j) * steps * o..][..steps * o];
                    // SAFETY: `sum` has `steps` rows of `o` elements and is this task's alone.
                    unsafe { multiply_in_place(steps, windows, &packed, Shared::new(sum), 0, o) }
                }
            }
        }
    });
    // SAFETY: each part is filled before anything is added to it.
    unsafe { sums.written() }
}
