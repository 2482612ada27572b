//! Depthwise convolutions: each channel has a kernel of its own (as many groups as inputs and outputs).
//!
//! There is nothing to multiply as a matrix: a group has one column. Channels lie next to each other instead,
//! so a position is a sum over taps of products of whole rows of channels, taken in vectors of them whose
//! sums stay in registers. Forward and input gradient are the same sweep: a position of the target has, along
//! each axis, a list of taps and of the places of the source that they meet.

use super::Geometry;
use crate::linear::simd::simd_fn;
use crate::memory::{fill, unwritten};
use rayon::prelude::*;

/// Channels whose sums are held at a time.
const WIDTH: usize = 32;

/// Parts of a weight gradient, as far as there are rows for them.
const PARTS: usize = 16;

/// For each position of an axis the taps that count there, each with the place of the other side.
type Meets = Vec<Vec<(usize, usize)>>;

impl Geometry {
    /// Whether this module computes it.
    pub(super) fn depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.inputs && self.outputs == self.inputs
    }

    /// For each output position along axis `a`: taps and input places.
    fn inputs_of(&self, a: usize) -> Meets {
        let place = |o: usize, k: usize| {
            let at = (o * self.stride[a] + k * self.dilation[a]).checked_sub(self.padding[a])?;
            (at < self.size[a]).then_some((k, at))
        };
        (0..self.out[a]).map(|o| (0..self.kernel[a]).filter_map(|k| place(o, k)).collect()).collect()
    }

    /// For each input position along axis `a`: taps and output places.
    fn outputs_of(&self, a: usize) -> Meets {
        let mut out: Meets = vec![Vec::new(); self.size[a]];
        for (o, meets) in self.inputs_of(a).iter().enumerate() {
            meets.iter().for_each(|&(k, at)| out[at].push((k, o)));
        }
        out
    }
}

/// Weights `(C, 1, taps)` as `(taps, C)`.
fn by_tap(g: &Geometry, w: &[f32]) -> Vec<f32> {
    let (c, taps) = (g.inputs, g.taps());
    (0..taps * c).map(|i| w[i % c * taps + i / c]).collect()
}

simd_fn! {
    /// Adds to each of the positions of a row (`out`, `C` values each) its taps: `rows` are the sources' rows
    /// that it meets, each with the weights of one row of the kernel, and `meets` the places within them.
    fn sweep(out: &mut [f32], c: usize, rows: &[(&[f32], &[f32])], meets: &[Vec<(usize, usize)>]) {
        for (out, meets) in out.chunks_exact_mut(c).zip(meets) {
            let mut blocks = out.chunks_exact_mut(WIDTH);
            let mut first = 0;
            for block in blocks.by_ref() {
                let mut sums = [0f32; WIDTH];
                for (source, w) in rows {
                    for &(k, at) in meets {
                        let (x, w) = (&source[at * c + first..][..WIDTH], &w[k * c + first..][..WIDTH]);
                        for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
                            *sum += x * w;
                        }
                    }
                }
                block.copy_from_slice(&sums);
                first += WIDTH;
            }
            let rest = blocks.into_remainder();
            let n = rest.len();
            for (source, w) in rows {
                for &(k, at) in meets {
                    let (x, w) = (&source[at * c + first..][..n], &w[k * c + first..][..n]);
                    for ((sum, x), w) in rest.iter_mut().zip(x).zip(w) {
                        *sum += x * w;
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// Adds to the gradient of a row of the kernel (`sums`, `(k_w, C)`) what a row of outputs gives it.
    fn correlate(sums: &mut [f32], c: usize, source: &[f32], dy: &[f32], meets: &[Vec<(usize, usize)>]) {
        for (dy, meets) in dy.chunks_exact(c).zip(meets) {
            for &(k, at) in meets {
                let (sums, x) = (&mut sums[k * c..][..c], &source[at * c..][..c]);
                for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                    *sum += x * dy;
                }
            }
        }
    }
}

/// The sweep over all rows of a target of sizes `target`, from a source of sizes `source`.
fn all_rows(
    g: &Geometry,
    (target, source): ([usize; 3], [usize; 3]),
    meets: &[Meets; 3],
    x: &[f32],
    w: &[f32],
) -> Vec<f32> {
    let (c, kernel) = (g.inputs, g.kernel);
    let w = by_tap(g, w);
    let (length, from) = (target[2] * c, source[2] * c);
    let mut y = unwritten(g.n * target[0] * target[1] * length);
    y.par_chunks_mut(length).enumerate().for_each_init(Vec::new, |rows, (row, out)| {
        let (n, z, y) = (row / (target[0] * target[1]), row / target[1] % target[0], row % target[1]);
        rows.clear();
        for &(i, sz) in &meets[0][z] {
            for &(j, sy) in &meets[1][y] {
                let place = ((n * source[0] + sz) * source[1] + sy) * from;
                let taps = (i * kernel[1] + j) * kernel[2] * c;
                rows.push((&x[place..place + from], &w[taps..taps + kernel[2] * c]));
            }
        }
        sweep(fill(out, 0.0), c, rows, &meets[2]);
    });
    // SAFETY: each row is filled before anything is added to it.
    unsafe { y.written() }
}

/// `Y (N * positions, C)`.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
    let meets = [0, 1, 2].map(|a| g.inputs_of(a));
    all_rows(g, (g.out, g.size), &meets, x, w)
}

/// `dX` from `dY (N * positions, C)`.
pub(super) fn input_gradient(g: &Geometry, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let meets = [0, 1, 2].map(|a| g.outputs_of(a));
    all_rows(g, (g.size, g.out), &meets, dy, w)
}

/// Sums over output rows of `dW (taps, C)`, in partial sums that are to be added in order.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let ([d, h, width], [sd, sh, sw], c) = (g.out, g.size, g.inputs);
    let meets = [0, 1, 2].map(|a| g.inputs_of(a));
    let (size, steps) = (g.taps() * c, g.kernel[2] * c);
    let rows = g.n * d * h;
    let per = rows.div_ceil(PARTS).max(1);
    let mut sums = vec![0f32; rows.div_ceil(per).max(1) * size];
    sums.par_chunks_mut(size).enumerate().for_each(|(part, sums)| {
        for row in part * per..((part + 1) * per).min(rows) {
            let (n, z, y) = (row / (d * h), row / h % d, row % h);
            let dy = &dy[row * width * c..][..width * c];
            for &(i, at) in &meets[0][z] {
                for &(j, line) in &meets[1][y] {
                    let source = &x[((n * sd + at) * sh + line) * sw * c..][..sw * c];
                    let sums = &mut sums[(i * g.kernel[1] + j) * steps..][..steps];
                    correlate(sums, c, source, dy, &meets[2]);
                }
            }
        }
    });
    sums
}

/// The gradient `(taps, C)` in the order of the weights, `(C, 1, taps)`.
pub(super) fn unpack(g: &Geometry, sums: &[f32]) -> Vec<f32> {
    let (c, taps) = (g.inputs, g.taps());
    (0..c * taps).map(|i| sums[i % taps * c + i / taps]).collect()
}
