//! Dropout and stochastic depth. The mask of a sample is a function of the key, the sample's global index and
//! the position of the element within the sample. So both paths draw the same mask, a micro-batch draws what
//! the whole batch draws, and the backward pass draws the mask again instead of keeping it.

use crate::Path;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, rows_of, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, copy, unwritten};
use crate::rng::Key;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// What dropout drops, and what draws it: the same values whether the samples come in one batch or in parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share in `[0, 1)` that becomes 0; the rest grows by `1 / (1 - share)`.
    pub share: f32,
    /// Identifies the draw (seed, step, layer).
    pub key: Key,
    /// Global index of the first sample: sample `n` of dimension 0 draws with the key folded with `first +
    /// n`.
    pub first: u64,
}

impl Dropout {
    /// The key of sample `n` of dimension 0.
    pub(crate) fn sample(&self, n: usize) -> Key {
        self.key.fold(self.first + n as u64)
    }

    /// An error unless the share is in `[0, 1)`.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        if (0.0..1.0).contains(&self.share) {
            Ok(())
        } else {
            bail!("{name}: share {}, expected 0 <= share < 1", self.share)
        }
    }

    /// Factor of what is kept.
    fn keep(&self) -> f32 {
        1.0 / (1.0 - self.share)
    }

    /// The 24 random bits of [`Key::uniform_at`] below which an element is dropped. The share and the number
    /// have at most 24 bits, so this is exact.
    fn threshold(&self) -> u32 {
        (self.share * 16_777_216.0).ceil() as u32
    }
}

/// Blocks of the generator that run side by side.
const LANES: usize = 16;

/// [`philox`](crate::rng::philox) of the counters `(1, first)`, `(1, first + 1)` ..., word by word: the same
/// rounds, laid out so that they vectorise. The tests hold it to the scalar one.
#[inline(always)]
fn philox_lanes(key: u64, first: u64) -> [[u32; LANES]; 4] {
    let mut c = [[0u32; LANES], [0; LANES], [1; LANES], [0; LANES]];
    let [low, high, ..] = &mut c;
    for (counter, (low, high)) in (first..).zip(low.iter_mut().zip(high)) {
        *low = counter as u32;
        *high = (counter >> 32) as u32;
    }
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        let [a, b, d, e] = c;
        for j in 0..LANES {
            let p = 0xD251_1F53_u64 * u64::from(a[j]);
            let q = 0xCD9E_8D57_u64 * u64::from(d[j]);
            c[0][j] = (q >> 32) as u32 ^ b[j] ^ k0;
            c[1][j] = q as u32;
            c[2][j] = (p >> 32) as u32 ^ e[j] ^ k1;
            c[3][j] = p as u32;
        }
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    c
}

/// The factors 0 and `keep` of the elements from `4 * block` on.
#[inline(always)]
fn factors(bits: u64, block: u64, threshold: u32, keep: f32) -> [f32; 4 * LANES] {
    let words = philox_lanes(bits, block);
    let mut factors = [0f32; 4 * LANES];
    for (j, four) in factors.chunks_exact_mut(4).enumerate() {
        for (factor, word) in four.iter_mut().zip(&words) {
            *factor = if word[j] >> 8 < threshold { 0.0 } else { keep };
        }
    }
    factors
}

simd_fn! {
    /// `y = x * mask` from the element `4 * block` of a sample on.
    fn drop_chunk(x: &[f32], y: &mut [Blank], bits: u64, block: u64, threshold: u32, keep: f32) {
        for (i, (x, y)) in x.chunks(4 * LANES).zip(y.chunks_mut(4 * LANES)).enumerate() {
            let factors = factors(bits, block + (LANES * i) as u64, threshold, keep);
            for ((y, &x), &f) in y.iter_mut().zip(x).zip(&factors) {
                y.write(x * f);
            }
        }
    }
}

simd_fn! {
    /// The mask from the element `4 * block` of a sample on.
    fn mask_chunk(y: &mut [Blank], bits: u64, block: u64, threshold: u32, keep: f32) {
        for (i, y) in y.chunks_mut(4 * LANES).enumerate() {
            let factors = factors(bits, block + (LANES * i) as u64, threshold, keep);
            let n = y.len();
            copy(y, &factors[..n]);
        }
    }
}

/// `f(sample, first element within it, part)` for parts of samples of `width` elements, in parallel.
fn for_samples(y: &mut [Blank], width: usize, f: impl Fn(usize, usize, &mut [Blank]) + Sync) {
    let (width, rows) = (width.max(1), rows_of(width, CHUNK));
    y.par_chunks_mut(width * rows).enumerate().for_each(|(i, y)| {
        for (j, y) in y.chunks_mut(width).enumerate() {
            y.par_chunks_mut(CHUNK).enumerate().for_each(|(k, y)| f(i * rows + j, k * CHUNK, y));
        }
    });
}

/// Elements of a sample: all dimensions but the first.
fn width_of(dims: &[usize]) -> usize {
    dims.iter().skip(1).product()
}

impl Dropout {
    /// `x * mask` for samples of `width` elements.
    fn run(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut y = unwritten(x.len());
        for_samples(&mut y, width, |n, from, y| {
            let x = &x[n * width + from..][..y.len()];
            drop_chunk(x, y, self.sample(n).bits(), (from / 4) as u64, self.threshold(), self.keep());
        });
        // SAFETY: the parts are all of `y`, and each is written.
        unsafe { y.written() }
    }

    /// The mask of `n` samples of `width` elements: factors 0 and `1 / (1 - share)`.
    fn mask(&self, n: usize, width: usize) -> Vec<f32> {
        let mut y = unwritten(n * width);
        for_samples(&mut y, width, |n, from, y| {
            mask_chunk(y, self.sample(n).bits(), (from / 4) as u64, self.threshold(), self.keep());
        });
        // SAFETY: the parts are all of `y`, and each is written.
        unsafe { y.written() }
    }
}

/// Dropout as a node of candle's graph.
struct Node(Dropout);

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(output(self.0.run(floats(storage, layout)?, width_of(layout.dims())), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        Ok(Some(tensor(self.0.run(&Floats::new(&g)?, width_of(x.dims())), x.shape())?))
    }
}

/// Each value of `x (N, ..)`, samples first, is 0 with probability `dropout.share`, else divided by `1 -
/// share` (Srivastava et al. 2014). For training only.
///
/// # Errors
/// If the share is not in `[0, 1)`, `x` is a scalar, or `path` asks for the fused kernel and `x` is not f32
/// on the CPU.
pub fn dropout(x: &Tensor, dropout: &Dropout, path: Path) -> Result<Tensor> {
    dropout.check("dropout")?;
    if x.rank() == 0 {
        bail!("dropout: a scalar, expected (N, ..)")
    }
    if wants_fused("dropout", path, &[x])? {
        return x.contiguous()?.apply_op1(Node(*dropout));
    }
    let mask = dropout.mask(x.dim(0)?, width_of(x.dims()));
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// A factor for each sample.
struct ScaleSamples(Vec<f32>);

impl ScaleSamples {
    fn run(&self, x: &[f32]) -> Vec<f32> {
        let width = x.len().checked_div(self.0.len()).unwrap_or(0).max(1);
        let mut y = unwritten(x.len());
        for_chunks(&mut y, CHUNK, |i, y| {
            let (from, to) = (i * CHUNK, i * CHUNK + y.len());
            // The part of each sample that lies in this chunk.
            for n in from / width..to.div_ceil(width) {
                let (a, b) = ((n * width).max(from), ((n + 1) * width).min(to));
                for (y, &x) in y[a - from..b - from].iter_mut().zip(&x[a..b]) {
                    y.write(x * self.0[n]);
                }
            }
        });
        // SAFETY: the parts of samples that lie in a chunk are all of it, and each is written.
        unsafe { y.written() }
    }
}

impl CustomOp1 for ScaleSamples {
    fn name(&self) -> &'static str {
        "drop-path"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(output(self.run(floats(storage, layout)?), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        Ok(Some(tensor(self.run(&Floats::new(&g)?), x.shape())?))
    }
}

/// Each sample of `x (N, ..)` is 0 with probability `dropout.share`, else divided by `1 - share` (Huang et
/// al. 2016, arXiv 1603.09382).
///
/// # Errors
/// If the share is not in `[0, 1)`, or `x` is a scalar.
pub fn drop_path(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    dropout.check("drop_path")?;
    if x.rank() == 0 {
        bail!("drop_path: a scalar, expected (N, ..)")
    }
    let n = x.dim(0)?;
    let factors = dropout.mask(n, 1);
    if wants_fused("drop_path", Path::Auto, &[x])? {
        return x.contiguous()?.apply_op1(ScaleSamples(factors));
    }
    let mut shape = vec![1; x.rank()];
    shape[0] = n;
    x.broadcast_mul(&Tensor::from_vec(factors, shape, x.device())?.to_dtype(x.dtype())?)
}

#[cfg(test)]
mod tests;
