//! Dropout and stochastic depth. The mask is a function of the key and the position of the element, so both
//! paths draw the same one, and the backward pass draws it again instead of keeping it.

use crate::Path;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::unwritten;
use crate::rng::Key;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

fn check(name: &str, p: f32) -> Result<()> {
    if (0.0..1.0).contains(&p) { Ok(()) } else { bail!("{name}: probability {p}, expected 0 <= p < 1") }
}

/// The 24 random bits of [`Key::uniform_at`] below which an element is dropped. `p` and the number have at
/// most 24 bits, so this is exact.
fn threshold(p: f32) -> u32 {
    (p * 16_777_216.0).ceil() as u32
}

/// The factors 0 and `1 / (1 - p)` of `n` elements.
fn mask(n: usize, p: f32, key: Key) -> Vec<f32> {
    let keep = 1.0 / (1.0 - p);
    (0..n as u64).map(|i| if key.uniform_at(i) < p { 0.0 } else { keep }).collect()
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

simd_fn! {
    /// `y = x * mask` from the element `4 * block` on.
    fn drop_chunk(x: &[f32], y: &mut [f32], bits: u64, block: u64, threshold: u32, keep: f32) {
        let mut factors = [0f32; 4 * LANES];
        for (i, (x, y)) in x.chunks(4 * LANES).zip(y.chunks_mut(4 * LANES)).enumerate() {
            let words = philox_lanes(bits, block + (LANES * i) as u64);
            for (j, four) in factors.chunks_exact_mut(4).enumerate() {
                for (factor, word) in four.iter_mut().zip(&words) {
                    *factor = if word[j] >> 8 < threshold { 0.0 } else { keep };
                }
            }
            for ((y, &x), &f) in y.iter_mut().zip(x).zip(&factors) {
                *y = x * f;
            }
        }
    }
}

struct Dropout {
    p: f32,
    key: Key,
}

impl Dropout {
    fn run(&self, x: &[f32]) -> Vec<f32> {
        let mut y = unwritten(x.len());
        for_chunks(&mut y, CHUNK, |i, y| {
            let block = (i * CHUNK / 4) as u64;
            drop_chunk(
                &x[i * CHUNK..][..y.len()],
                y,
                self.key.bits(),
                block,
                threshold(self.p),
                1.0 / (1.0 - self.p),
            );
        });
        y
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(output(self.run(floats(storage, layout)?), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        Ok(Some(tensor(self.run(&Floats::new(&g)?), x.shape())?))
    }
}

/// Each value of `x`, of any shape, is 0 with probability `p`, else divided by `1 - p` (Srivastava et al.
/// 2014). For training only.
///
/// # Errors
/// If `p` is not in `[0, 1)`, or `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn dropout(x: &Tensor, p: f32, key: Key, path: Path) -> Result<Tensor> {
    check("dropout", p)?;
    if wants_fused("dropout", path, &[x])? {
        return x.contiguous()?.apply_op1(Dropout { p, key });
    }
    x * Tensor::from_vec(mask(x.elem_count(), p, key), x.shape(), x.device())?.to_dtype(x.dtype())?
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
                    *y = x * self.0[n];
                }
            }
        });
        y
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

/// Each sample of `x (N, ..)` is 0 with probability `p`, else divided by `1 - p` (Huang et al. 2016, arXiv
/// 1603.09382).
///
/// # Errors
/// If `p` is not in `[0, 1)`, or `x` is a scalar.
pub fn drop_path(x: &Tensor, p: f32, key: Key) -> Result<Tensor> {
    check("drop_path", p)?;
    if x.rank() == 0 {
        bail!("drop_path: a scalar, expected (N, ..)")
    }
    let n = x.dim(0)?;
    let factors = mask(n, p, key);
    if wants_fused("drop_path", Path::Auto, &[x])? {
        return x.contiguous()?.apply_op1(ScaleSamples(factors));
    }
    let mut shape = vec![1; x.rank()];
    shape[0] = n;
    x.broadcast_mul(&Tensor::from_vec(factors, shape, x.device())?.to_dtype(x.dtype())?)
}

#[cfg(test)]
mod tests;
