//! Volumes convolved with stride 1 and kept at their size, without gathering windows.
//!
//! The input is copied once, with its padding. In the copy the windows of neighbouring positions of a row, under one row of the kernel, are
//! runs of `k_w C` values that start `C` apart: a matrix whose rows overlap, which the product reads where it lies. So a row of output is a sum
//! of `k_d k_h` products `(W, k_w C) (k_w C, O)`, and its part of the weight gradient `k_d k_h` products `(k_w C, W) (W, O)`.
//!
//! Why: a 3x3x3 window of 16 channels is 432 values. Gathering them takes about as long as multiplying them with 16 outputs, where a network
//! on volumes spends most of its time.

use super::Geometry;
use crate::linear::gemm::{Matrix, Packed, Shared, multiply, multiply_in_place, pack_into, packed_len};
use rayon::prelude::*;

/// Values of a row of the kernel from which on this is faster than gathering.
const SHORTEST: usize = 24;

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

    /// Sizes with the padding.
    fn padded(&self) -> [usize; 3] {
        [0, 1, 2].map(|a| self.size[a] + 2 * self.padding[a])
    }
}

/// `x (N, D, H, W, C)` with zeros around it.
fn pad(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let ([d, h, w], [pd, ph, pw], c) = (g.size, g.padded(), g.inputs);
    let plane = ph * pw * c;
    let mut out = vec![0f32; g.n * pd * plane];
    out.par_chunks_mut(plane).enumerate().for_each(|(i, out)| {
        let (n, z) = (i / pd, i % pd);
        if z < g.padding[0] || z >= g.padding[0] + d {
            return;
        }
        let x = &x[(n * d + z - g.padding[0]) * h * w * c..][..h * w * c];
        let rows = out.chunks_exact_mut(pw * c).skip(g.padding[1]);
        for (out, x) in rows.zip(x.chunks_exact(w * c)) {
            out[g.padding[2] * c..][..w * c].copy_from_slice(x);
        }
    });
    out
}

/// Where the windows of output row `(n, z, y)` under row `(i, j)` of the kernel start in the padded input.
fn start(g: &Geometry, (n, z, y): (usize, usize, usize), (i, j): (usize, usize)) -> usize {
    let [pd, ph, pw] = g.padded();
    (((n * pd + z + i) * ph + y + j) * pw) * g.inputs
}

fn place(g: &Geometry, row: usize) -> (usize, usize, usize) {
    let [d, h, _] = g.out;
    (row / (d * h), row / h % d, row % h)
}

/// `Y (N * positions, C_out)` from the weight matrix `(taps * C_in, C_out)`.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
    let ([kd, kh, kw], [_, _, width], c, o) = (g.kernel, g.out, g.inputs, g.outputs);
    let x = pad(g, x);
    let steps = kw * c;
    let size = packed_len(steps, o);
    let mut panels = vec![0f32; kd * kh * size];
    let packed: Vec<Packed<'_>> = panels
        .chunks_exact_mut(size)
        .zip(w.chunks_exact(steps * o))
        .map(|(panel, w)| pack_into(Matrix::rows(w, o), steps, o, panel))
        .collect();
    let mut y = vec![0f32; g.n * g.out.iter().product::<usize>() * o];
    y.par_chunks_mut(width * o).enumerate().for_each(|(row, out)| {
        let at = place(g, row);
        for (t, packed) in packed.iter().enumerate() {
            let windows = Matrix::rows(&x[start(g, at, (t / kh, t % kh))..], c);
            // SAFETY: `out` has `width` rows of `o` elements and is this task's alone.
            unsafe { multiply(width, windows, packed, Shared::new(out), 0, o, t > 0) }
        }
    });
    y
}

/// Sums over output rows of `dW (taps * C_in, C_out)`, in `parts` partial sums that are added in order.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32], parts: usize) -> Vec<f32> {
    let ([_, kh, kw], [_, _, width], c, o) = (g.kernel, g.out, g.inputs, g.outputs);
    let x = pad(g, x);
    let (steps, size) = (kw * c, g.kernel.iter().product::<usize>() * c * o);
    let rows = g.n * g.out[0] * g.out[1];
    let per = rows.div_ceil(parts.max(1));
    let mut sums = vec![0f32; rows.div_ceil(per.max(1)) * size];
    sums.par_chunks_mut(size).enumerate().for_each(|(part, sum)| {
        let mut panel = vec![0f32; packed_len(width, o)];
        for row in part * per..((part + 1) * per).min(rows) {
            let (at, dy) = (place(g, row), &dy[row * width * o..][..width * o]);
            let packed = pack_into(Matrix::rows(dy, o), width, o, &mut panel);
            for (t, sum) in sum.chunks_exact_mut(steps * o).enumerate() {
                let windows = Matrix::rows(&x[start(g, at, (t / kh, t % kh))..], c).t();
                // SAFETY: `sum` has `steps` rows of `o` elements and is this task's alone.
                unsafe { multiply_in_place(steps, windows, &packed, Shared::new(sum), 0, o) }
            }
        }
    });
    sums
}
