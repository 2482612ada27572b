//! Normalisation of channels over positions: batch, instance and group norm are the same kernel on `(B, R,
//! C)` with `G` groups of channels (batch norm: `B = 1` and `G = C`; instance norm: `G = C`).
//!
//! Positions are cut into blocks that fit in the second-level cache. Mean and squared deviation of a block
//! are taken in two passes over it, and the blocks are joined in their order (Chan et al. 1979), so `x` is
//! read from memory once and no precision is lost to a large mean. In the backward pass, with `h = (x - mean)
//! / sqrt(var + eps)`, `z = h w + b`, `y = act(z)`, `u = g act'(z)`: `db = sum u`, `dw = sum u h`, `dx = (w u
//! - mean(w u) - h mean(w u h)) / sqrt(var + eps)`, the means over the positions and channels of a group.

use crate::activation::slices::{Floats, floats, output, tensor};
use crate::activation::{Act, act_backward, act_forward};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, assume_written, unwritten};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// Positions of a block. At most 1024, so that a sum in one block stays precise; at least 32, so that the
/// sums are small beside the block.
fn block_rows(c: usize) -> usize {
    ((1 << 15) / c.max(1)).clamp(32, 1024)
}

/// How `x` is read: `(samples, positions, channels)`, with `groups` groups of channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups {
    pub(crate) samples: usize,
    pub(crate) positions: usize,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
}

/// Statistics, expanded to one value per sample and channel `(B, C)`.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) mean: Vec<f32>,
    /// Biased variance.
    pub(crate) var: Vec<f32>,
    /// `1 / sqrt(var + eps)`.
    pub(crate) inverse: Vec<f32>,
}

simd_fn! {
    /// Mean, then sum of squared deviations of each channel.
    fn block_moments(x: &[f32], c: usize, out: &mut [f32]) {
        let (mean, square) = out.split_at_mut(c);
        mean.fill(0.0);
        square.fill(0.0);
        for row in x.chunks_exact(c) {
            for (m, &x) in mean.iter_mut().zip(row) {
                *m += x;
            }
        }
        let factor = 1.0 / (x.len() / c) as f32;
        for m in mean.iter_mut() {
            *m *= factor;
        }
        for row in x.chunks_exact(c) {
            for ((s, &m), &x) in square.iter_mut().zip(mean.iter()).zip(row) {
                *s += (x - m) * (x - m);
            }
        }
    }
}

/// `f(sample, elements of x, result)` for every block; the results, `2 C` numbers each, sample by sample.
fn block_sums(shape: Groups, f: impl Fn(usize, std::ops::Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    let Groups { samples, positions, channels: c, .. } = shape;
    let rows = block_rows(c);
    let blocks = positions.div_ceil(rows);
    let mut out = vec![0.0; samples * blocks * 2 * c];
    out.par_chunks_mut(2 * c).enumerate().for_each(|(i, out)| {
        let (sample, block) = (i / blocks, i % blocks);
        let from = (sample * positions + block * rows) * c;
        let to = (sample * positions + positions.min((block + 1) * rows)) * c;
        f(sample, from..to, out);
    });
    out
}

/// `f(sample, first element, chunk)` for every block of a result of the shape of `x`.
fn for_blocks(shape: Groups, out: &mut [Blank], f: impl Fn(usize, usize, &mut [Blank]) + Sync) {
    let Groups { positions, channels: c, .. } = shape;
    let size = block_rows(c) * c;
    out.par_chunks_mut(positions * c).enumerate().for_each(|(sample, out)| {
        out.par_chunks_mut(size)
            .enumerate()
            .for_each(|(block, out)| f(sample, sample * positions * c + block * size, out));
    });
}

/// Mean and variance of `x`.
pub(crate) fn statistics(x: &[f32], shape: Groups, eps: f64) -> Stats {
    let Groups { samples, positions, channels: c, groups } = shape;
    let parts = block_sums(shape, |_, at, out| block_moments(&x[at], c, out));
    let (rows, width) = (block_rows(c), c / groups);
    let mut stats =
        Stats { mean: vec![0.0; samples * c], var: vec![0.0; samples * c], inverse: vec![0.0; samples * c] };
    let blocks = positions.div_ceil(rows);
    for sample in 0..samples {
        let parts = &parts[sample * blocks * 2 * c..][..blocks * 2 * c];
        for group in 0..groups {
            let (mut count, mut mean, mut square) = (0.0f64, 0.0f64, 0.0f64);
            for (block, part) in parts.chunks_exact(2 * c).enumerate() {
                let n = rows.min(positions - block * rows) as f64;
                for channel in group * width..(group + 1) * width {
                    let delta = f64::from(part[channel]) - mean;
                    let whole = count + n;
                    mean += delta * n / whole;
                    square += f64::from(part[c + channel]) + delta * delta * count * n / whole;
                    count = whole;
                }
            }
            let var = square / count;
            let at = sample * c + group * width..sample * c + (group + 1) * width;
            stats.mean[at.clone()].fill(mean as f32);
            stats.var[at.clone()].fill(var as f32);
            stats.inverse[at].fill((1.0 / (var + eps).sqrt()) as f32);
        }
    }
    stats
}

simd_fn! {
    /// `(x - mean) scale + shift`, and nothing negative if `relu`.
    fn affine_rows(x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], relu: bool, y: &mut [Blank]) {
        let c = mean.len();
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for ((((y, &x), &m), &a), &b) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                let z = (x - m) * a + b;
                y.write(if z <= floor { floor } else { z });
            }
        }
    }
}

simd_fn! {
    /// Adds `sum u` and `sum u h`; `u` is `g` where `z > floor`.
    fn gradient_sums(x: &[f32], g: &[f32], mean: &[f32], inverse: &[f32], scale: &[f32], shift: &[f32], floor: f32, first: &mut [f32], second: &mut [f32]) {
        let c = mean.len();
        let (inverse, scale, shift) = (&inverse[..c], &scale[..c], &shift[..c]);
        let (first, second) = (&mut first[..c], &mut second[..c]);
        for (x, g) in x.chunks_exact(c).zip(g.chunks_exact(c)) {
            for j in 0..c {
                let d = x[j] - mean[j];
                let u = if d * scale[j] + shift[j] <= floor { 0.0 } else { g[j] };
                first[j] += u;
                second[j] += u * (d * inverse[j]);
            }
        }
    }
}

simd_fn! {
    /// `scale u - first - h second` with means of the group `first` and `second`, already divided by the
    /// deviation.
    fn input_gradient(x: &[f32], g: &[f32], mean: &[f32], inverse: &[f32], scale: &[f32], shift: &[f32], floor: f32, first: &[f32], second: &[f32], d: &mut [Blank]) {
        let c = mean.len();
        let (inverse, scale, shift) = (&inverse[..c], &scale[..c], &shift[..c]);
        let (first, second) = (&first[..c], &second[..c]);
        for ((x, g), out) in x.chunks_exact(c).zip(g.chunks_exact(c)).zip(d.chunks_exact_mut(c)) {
            for j in 0..c {
                let d = x[j] - mean[j];
                let u = if d * scale[j] + shift[j] <= floor { 0.0 } else { g[j] };
                out[j].write(scale[j] * u - first[j] - d * inverse[j] * second[j]);
            }
        }
    }
}

/// `y = act((x - mean) scale + shift)` with `(B, C)` coefficients: what the forward of all norms comes to
/// once the statistics are known.
pub(crate) struct Affine {
    shape: Groups,
    mean: Vec<f32>,
    inverse: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    act: Act,
}

impl Affine {
    /// With the statistics `(B, C)`, the weights and the biases `(C)`.
    pub(crate) fn new(shape: Groups, stats: &Stats, weight: &[f32], bias: &[f32], act: Act) -> Self {
        let scale = stats
            .inverse
            .chunks_exact(shape.channels)
            .flat_map(|row| row.iter().zip(weight).map(|(r, w)| r * w))
            .collect();
        let shift = (0..shape.samples).flat_map(|_| bias.iter().copied()).collect();
        Affine { shape, mean: stats.mean.clone(), inverse: stats.inverse.clone(), scale, shift, act }
    }

    /// Mean, inverse deviation, scale and shift of a sample.
    fn of(&self, sample: usize) -> [&[f32]; 4] {
        let at = sample * self.shape.channels..(sample + 1) * self.shape.channels;
        [&self.mean[at.clone()], &self.inverse[at.clone()], &self.scale[at.clone()], &self.shift[at]]
    }

    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = unwritten(x.len());
        for_blocks(self.shape, &mut y, |sample, from, y| {
            let [mean, _, scale, shift] = self.of(sample);
            affine_rows(&x[from..from + y.len()], mean, scale, shift, self.act == Act::Relu, y);
            if self.act != Act::Relu {
                // SAFETY: blocks are whole rows, each of which the line above has written.
                act_forward(self.act, unsafe { assume_written(y) });
            }
        });
        // SAFETY: as above; the blocks are all of `y`.
        unsafe { y.written() }
    }

    /// The gradient before the activation of a block, and the value that `z` must exceed for it to count.
    fn before_act<'a>(&self, sample: usize, x: &[f32], g: &'a [f32]) -> (Cow<'a, [f32]>, f32) {
        match self.act {
            // No number is below: the comparison never takes anything away.
            Act::None => (Cow::Borrowed(g), f32::NEG_INFINITY),
            Act::Relu => (Cow::Borrowed(g), 0.0),
            Act::GeluErf | Act::GeluTanh => {
                let [mean, _, scale, shift] = self.of(sample);
                let (mut z, mut u) = (unwritten(x.len()), g.to_vec());
                affine_rows(x, mean, scale, shift, false, &mut z);
                // SAFETY: a block is whole rows, each of which the line above has written.
                act_backward(self.act, &unsafe { z.written() }, &mut u);
                (Cow::Owned(u), f32::NEG_INFINITY)
            }
        }
    }

    /// `sum u` and `sum u h` over positions, `(B, 2, C)`.
    pub(crate) fn sums(&self, x: &[f32], g: &[f32]) -> Vec<f32> {
        let c = self.shape.channels;
        let parts = block_sums(self.shape, |sample, at, out| {
            let [mean, inverse, scale, shift] = self.of(sample);
            let (x, g) = (&x[at.clone()], &g[at]);
            let (u, floor) = self.before_act(sample, x, g);
            let (first, second) = out.split_at_mut(c);
            gradient_sums(x, &u, mean, inverse, scale, shift, floor, first, second);
        });
        let mut sums = vec![0.0; self.shape.samples * 2 * c];
        let blocks = self.shape.positions.div_ceil(block_rows(c));
        for (sum, parts) in sums.chunks_exact_mut(2 * c).zip(parts.chunks_exact(blocks * 2 * c)) {
            for part in parts.chunks_exact(2 * c) {
                for (s, &p) in sum.iter_mut().zip(part) {
                    *s += p;
                }
            }
        }
        sums
    }

    /// The gradient of `x`, given `first` and `second (B, C)`: the means over the group of `w u` and of `w u
    /// h`, divided by the deviation.
    pub(crate) fn input_gradient(&self, x: &[f32], g: &[f32], first: &[f32], second: &[f32]) -> Vec<f32> {
        let c = self.shape.channels;
        let mut d = unwritten(x.len());
        for_blocks(self.shape, &mut d, |sample, from, d| {
            let [mean, inverse, scale, shift] = self.of(sample);
            let (x, g) = (&x[from..from + d.len()], &g[from..from + d.len()]);
            let (u, floor) = self.before_act(sample, x, g);
            let at = sample * c..(sample + 1) * c;
            input_gradient(x, &u, mean, inverse, scale, shift, floor, &first[at.clone()], &second[at], d);
        });
        // SAFETY: blocks are whole rows, each of which is written, and all of `d`.
        unsafe { d.written() }
    }

    /// [`Affine::input_gradient`] of a norm whose statistics are those of `x` itself, from [`Affine::sums`].
    pub(crate) fn norm_gradient(&self, x: &[f32], g: &[f32], sums: &[f32]) -> Vec<f32> {
        let Groups { positions, channels: c, groups, .. } = self.shape;
        let width = c / groups;
        let count = (positions * width) as f32;
        let (mut first, mut second) = (vec![0.0; self.mean.len()], vec![0.0; self.mean.len()]);
        for (sample, sums) in sums.chunks_exact(2 * c).enumerate() {
            let scale = self.of(sample)[2];
            for group in 0..groups {
                let (mut a, mut b) = (0.0, 0.0);
                for j in group * width..(group + 1) * width {
                    // The scale is the weight divided by the deviation.
                    a += scale[j] * sums[j];
                    b += scale[j] * sums[c + j];
                }
                let at = sample * c + group * width..sample * c + (group + 1) * width;
                first[at.clone()].fill(a / count);
                second[at].fill(b / count);
            }
        }
        self.input_gradient(x, g, &first, &second)
    }
}

/// The gradient of weights and biases `(2, C)` from the sums `(B, 2, C)`.
pub(crate) fn weight_gradient(sums: &[f32], c: usize) -> Vec<f32> {
    let mut out = vec![0.0; 2 * c];
    for sums in sums.chunks_exact(2 * c) {
        for j in 0..c {
            out[j] += sums[c + j];
            out[c + j] += sums[j];
        }
    }
    out
}

/// Normalisation with the statistics of `x`, and an activation: `x` and weight and bias `(2, C)`.
pub(super) struct Normalise {
    pub(super) groups: Groups,
    pub(super) eps: f64,
    pub(super) act: Act,
    pub(super) saved: Arc<OnceLock<Stats>>,
}

impl CustomOp2 for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sw: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gb) = (floats(sx, lx)?, floats(sw, lw)?);
        let (w, b) = gb.split_at(self.groups.channels);
        let stats = self.saved.get_or_init(|| statistics(x, self.groups, self.eps));
        Ok(output(Affine::new(self.groups, stats, w, b, self.act).forward(x), lx.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gb: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(stats) = self.saved.get() else { bail!("normalise: backward without a forward") };
        let g = g.contiguous()?;
        let (xs, gs, ws) = (Floats::new(x)?, Floats::new(&g)?, Floats::new(gb)?);
        let (w, b) = ws.split_at(self.groups.channels);
        let affine = Affine::new(self.groups, stats, w, b, self.act);
        let sums = affine.sums(&xs, &gs);
        let dx =
            if x.track_op() { Some(tensor(affine.norm_gradient(&xs, &gs, &sums), x.shape())?) } else { None };
        let dgb = if gb.track_op() {
            Some(tensor(weight_gradient(&sums, self.groups.channels), gb.shape())?)
        } else {
            None
        };
        Ok((dx, dgb))
    }
}

/// `act(x scale + shift)`, scale and shift stacked `(2, C)`.
pub(super) struct ScaleShift {
    pub(super) act: Act,
}

impl ScaleShift {
    fn affine(&self, count: usize, ss: &[f32]) -> Affine {
        let c = ss.len() / 2;
        let shape = Groups { samples: 1, positions: count / c.max(1), channels: c, groups: c };
        let stats = Stats { mean: vec![0.0; c], var: Vec::new(), inverse: vec![1.0; c] };
        Affine::new(shape, &stats, &ss[..c], &ss[c..], self.act)
    }
}

impl CustomOp2 for ScaleShift {
    fn name(&self) -> &'static str {
        "scale-shift"
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        ss: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = floats(sx, lx)?;
        let y = if x.is_empty() { Vec::new() } else { self.affine(x.len(), floats(ss, ls)?).forward(x) };
        Ok(output(y, lx.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        ss: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let (xs, gs, coefficients) = (Floats::new(x)?, Floats::new(&g)?, Floats::new(ss)?);
        if xs.is_empty() {
            return Ok((None, None));
        }
        let affine = self.affine(xs.len(), &coefficients);
        let zeros = vec![0.0; coefficients.len() / 2];
        let dx = if x.track_op() {
            Some(tensor(affine.input_gradient(&xs, &gs, &zeros, &zeros), x.shape())?)
        } else {
            None
        };
        let dss = if ss.track_op() {
            Some(tensor(weight_gradient(&affine.sums(&xs, &gs), zeros.len()), ss.shape())?)
        } else {
            None
        };
        Ok((dx, dss))
    }
}
