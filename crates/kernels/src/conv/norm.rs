//! Batch normalisation inside the convolution's node: loops over rows `(positions, C)`.

use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use rayon::prelude::*;

/// Positions of a block.
pub(super) const ROWS: usize = 256;

simd_fn! {
    fn add_rows(y: &[f32], sum: &mut [f32]) {
        for row in y.chunks_exact(sum.len()) {
            for (s, v) in sum.iter_mut().zip(row) {
                *s += v;
            }
        }
    }
}

simd_fn! {
    fn add_squares(y: &[f32], mean: &[f32], sum: &mut [f32]) {
        let mean = &mean[..sum.len()];
        for row in y.chunks_exact(sum.len()) {
            for ((s, v), m) in sum.iter_mut().zip(row).zip(mean) {
                *s += (v - m) * (v - m);
            }
        }
    }
}

/// Means of the rows of a block and sums of squares around them, `(2, C)`.
pub(super) fn moments(y: &[f32], c: usize) -> Vec<f32> {
    let mut both = vec![0f32; 2 * c];
    let (mean, squares) = both.split_at_mut(c);
    add_rows(y, mean);
    let scale = 1.0 / (y.len() / c).max(1) as f32;
    mean.iter_mut().for_each(|m| *m *= scale);
    add_squares(y, mean, squares);
    both
}

/// Mean and biased variance `(C)` from the [`moments`] of blocks of `block` rows (the last may have fewer) of
/// `rows` in all (Chan et al. 1979).
pub(super) fn combine(moments: &[Vec<f32>], c: usize, rows: usize, block: usize) -> (Vec<f32>, Vec<f32>) {
    let n = rows.max(1) as f64;
    let count = |b: usize| block.min(rows - b * block) as f64;
    let (mut mean, mut variance) = (vec![0f64; c], vec![0f64; c]);
    for (b, both) in moments.iter().enumerate() {
        mean.iter_mut().zip(both).for_each(|(m, v)| *m += f64::from(*v) * count(b) / n);
    }
    for (b, both) in moments.iter().enumerate() {
        let (means, squares) = both.split_at(c);
        for (((v, m), s), all) in variance.iter_mut().zip(means).zip(squares).zip(&mean) {
            *v += (f64::from(*s) + count(b) * (f64::from(*m) - all).powi(2)) / n;
        }
    }
    (mean.into_iter().map(|v| v as f32).collect(), variance.into_iter().map(|v| v as f32).collect())
}

simd_fn! {
    /// `act(y scale + shift)`; with a `floor` of 0 the activation is ReLU, with minus infinity there is none.
    fn affine_rows(y: &[f32], scale: &[f32], shift: &[f32], floor: f32, out: &mut [Blank]) {
        let c = scale.len();
        let shift = &shift[..c];
        for (out, y) in out.chunks_exact_mut(c).zip(y.chunks_exact(c)) {
            for j in 0..c {
                let z = y[j] * scale[j] + shift[j];
                // A NaN stays one.
                out[j].write(if z <= floor { 0.0 } else { z });
            }
        }
    }
}

simd_fn! {
    /// Adds `d (y - mean) inverse` and `d` over rows, `d` being the gradient before the activation.
    fn gradient_sums(y: &[f32], g: &[f32], a: &Affine, floor: f32, first: &mut [f32], second: &mut [f32]) {
        let c = first.len();
        let (scale, shift, mean, inverse) = (&a.scale[..c], &a.shift[..c], &a.mean[..c], &a.inverse[..c]);
        let second = &mut second[..c];
        for (y, g) in y.chunks_exact(c).zip(g.chunks_exact(c)) {
            for j in 0..c {
                let d = if y[j] * scale[j] + shift[j] <= floor { 0.0 } else { g[j] };
                first[j] += d * ((y[j] - mean[j]) * inverse[j]);
                second[j] += d;
            }
        }
    }
}

simd_fn! {
    /// `scale d + slope (y - mean) + offset`.
    fn gradient_rows(y: &[f32], g: &[f32], a: &Affine, floor: f32, slope: &[f32], offset: &[f32], out: &mut [Blank]) {
        let c = slope.len();
        let (scale, shift, mean, offset) = (&a.scale[..c], &a.shift[..c], &a.mean[..c], &offset[..c]);
        for ((y, g), out) in y.chunks_exact(c).zip(g.chunks_exact(c)).zip(out.chunks_exact_mut(c)) {
            for j in 0..c {
                let d = if y[j] * scale[j] + shift[j] <= floor { 0.0 } else { g[j] };
                out[j].write(scale[j] * d + slope[j] * (y[j] - mean[j]) + offset[j]);
            }
        }
    }
}

/// Coefficients `(C)` of a normalisation with known statistics.
pub(super) struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl Affine {
    /// From weight and bias `(2, C)` and the statistics.
    pub fn new(gb: &[f32], mean: &[f32], variance: &[f32], eps: f64) -> Self {
        let c = mean.len();
        let inverse: Vec<f32> =
            variance.iter().map(|v| (1.0 / (f64::from(*v) + eps).sqrt()) as f32).collect();
        let scale: Vec<f32> = gb.iter().zip(&inverse).map(|(w, i)| w * i).collect();
        let shift = (0..c).map(|k| gb[c + k] - mean[k] * scale[k]).collect();
        Affine { scale, shift, mean: mean.to_vec(), inverse }
    }

    /// `act(normalised y)`.
    pub fn forward(&self, y: &[f32], floor: f32) -> Vec<f32> {
        let block = ROWS * self.scale.len();
        let mut out = unwritten(y.len());
        out.par_chunks_mut(block)
            .zip(y.par_chunks(block))
            .for_each(|(out, y)| affine_rows(y, &self.scale, &self.shift, floor, out));
        // SAFETY: blocks are whole rows, and each row of `y` is one of `out`.
        unsafe { out.written() }
    }

    /// The gradients of weight and bias `(2, C)` and of `y`, from that of the output. Whether the activation
    /// was at work is computed again from `y`: it is cheaper than reading the output.
    pub fn backward(&self, y: &[f32], g: &[f32], floor: f32) -> (Vec<f32>, Vec<f32>) {
        let c = self.scale.len();
        let block = ROWS * c;
        let parts: Vec<Vec<f32>> = y
            .par_chunks(block)
            .zip(g.par_chunks(block))
            .map(|(y, g)| {
                let mut sums = vec![0f32; 2 * c];
                let (first, second) = sums.split_at_mut(c);
                gradient_sums(y, g, self, floor, first, second);
                sums
            })
            .collect();
        let mut sums = vec![0f64; 2 * c];
        for part in &parts {
            sums.iter_mut().zip(part).for_each(|(s, v)| *s += f64::from(*v));
        }
        // dy = scale (d - mean(d) - xhat mean(d xhat)), written as scale d + slope (y - mean) + offset.
        let n = (y.len() / c.max(1)).max(1) as f64;
        let slope: Vec<f32> =
            (0..c).map(|k| -self.scale[k] * self.inverse[k] * (sums[k] / n) as f32).collect();
        let offset: Vec<f32> = (0..c).map(|k| -self.scale[k] * (sums[c + k] / n) as f32).collect();
        let mut dy = unwritten(y.len());
        dy.par_chunks_mut(block)
            .zip(y.par_chunks(block).zip(g.par_chunks(block)))
            .for_each(|(dy, (y, g))| gradient_rows(y, g, self, floor, &slope, &offset, dy));
        // SAFETY: as in the forward.
        (sums.iter().map(|s| *s as f32).collect(), unsafe { dy.written() })
    }
}
