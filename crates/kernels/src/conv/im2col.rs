//! The fused CPU convolution: input windows of a block of output positions are gathered into a matrix that stays in the second-level cache,
//! and multiplied with the packed weights.
//!
//! - forward: `Y = col(X) W`, `W (taps * C_in, C_out)`, in parallel over blocks of output positions;
//! - input gradient, stride 1: the convolution of the output's gradient with the kernel turned round; else `col(dX) += dY W^T`, in parallel
//!   over samples;
//! - weight gradient: `dW = col(X)^T dY`, in parallel over a number of chunks that the shape decides, whose sums are added in order.
//!
//! All blocks are cut from the shapes alone, so results have the same bits for any number of threads.

use super::{Geometry, same};
use crate::activation::Act;
use crate::linear::gemm::{Matrix, Packed, Shared, multiply, pack_into, packed_len};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// The values of a contiguous f32 tensor on the CPU.
pub(super) fn slice<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((a, b))) => Ok(&v[a..b]),
        _ => bail!("the fused convolution needs contiguous f32 tensors"),
    }
}

/// Calls `f` with the values of a tensor.
pub(super) fn with<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => f(slice(s, layout)?),
        _ => bail!("the fused convolution needs tensors on the CPU"),
    }
}

/// `C = A B` (or `+=`) on this thread, rows of `c` being `ldc` apart.
fn product(m: usize, n: usize, a: Matrix<'_>, b: &Packed<'_>, c: &mut [f32], ldc: usize, add: bool) {
    assert!(m == 0 || (m - 1) * ldc + n <= c.len(), "convolution: product outside its slice");
    // SAFETY: the rows lie within `c` by the check above, and `c` is borrowed exclusively.
    unsafe { multiply(m, a, b, Shared::new(c), 0, ldc, add) }
}

impl Geometry {
    /// Output positions of a sample.
    fn positions(&self) -> usize {
        self.out.iter().product()
    }

    /// Taps of the kernel.
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Rows of the weight matrix of a group: taps times input channels.
    fn depth(&self) -> usize {
        self.taps() * (self.inputs / self.groups)
    }

    /// Whether the windows are the input itself.
    fn plain(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 3] && self.padding == [0; 3] && self.groups == 1
    }

    /// Output positions of a block: its windows should fill a part of the second-level cache.
    fn block(&self) -> usize {
        (131_072 / self.depth().max(1)).clamp(32, 512) / 8 * 8
    }

    /// The windows of output positions `first .. first + rows` (over all samples) of group `group` as a matrix `(rows, depth)`.
    fn gather(&self, x: &[f32], group: usize, first: usize, rows: usize, col: &mut [f32]) {
        let [_, h, w] = self.size;
        let c = self.inputs / self.groups;
        let [kd, kh, kw] = self.kernel;
        let [_, oh, ow] = self.out;
        let sample = self.size.iter().product::<usize>() * self.inputs;
        // Taps along the width are neighbours in memory.
        let run = self.dilation[2] == 1 && self.groups == 1;
        for (r, row) in col.chunks_exact_mut(self.depth()).take(rows).enumerate() {
            let p = first + r;
            let (n, p) = (p / self.positions(), p % self.positions());
            let (z, y, x0) = (p / (oh * ow), p / ow % oh, p % ow);
            let data = &x[n * sample..(n + 1) * sample];
            let start = |axis: usize, o: usize| (o * self.stride[axis]) as isize - self.padding[axis] as isize;
            let (z0, y0, x0) = (start(0, z), start(1, y), start(2, x0));
            let inside = run && x0 >= 0 && x0 as usize + kw <= w;
            for (t, line) in row.chunks_exact_mut(kw * c).enumerate() {
                let (sz, sy) = (z0 + (t / kh * self.dilation[0]) as isize, y0 + (t % kh * self.dilation[1]) as isize);
                debug_assert!(t / kh < kd);
                if sz < 0 || sy < 0 || sz as usize >= self.size[0] || sy as usize >= h {
                    line.fill(0.0);
                    continue;
                }
                let base = (sz as usize * h + sy as usize) * w;
                if inside {
                    let from = (base + x0 as usize) * c;
                    line.copy_from_slice(&data[from..from + kw * c]);
                    continue;
                }
                for (k, tap) in line.chunks_exact_mut(c).enumerate() {
                    let sx = x0 + (k * self.dilation[2]) as isize;
                    if sx < 0 || sx as usize >= w {
                        tap.fill(0.0);
                    } else {
                        let from = (base + sx as usize) * self.inputs + group * c;
                        tap.copy_from_slice(&data[from..from + c]);
                    }
                }
            }
        }
    }

    /// Adds the rows of `col` to the windows they came from; the inverse of [`Geometry::gather`] within one sample. `dx` holds the planes from
    /// `from` on; what falls beside them is left out.
    fn scatter(&self, col: &[f32], group: usize, first: usize, rows: usize, from: usize, dx: &mut [f32]) {
        let [_, h, w] = self.size;
        let planes = dx.len() / (h * w * self.inputs).max(1);
        let c = self.inputs / self.groups;
        let [_, kh, kw] = self.kernel;
        let [_, oh, ow] = self.out;
        for (r, row) in col.chunks_exact(self.depth()).take(rows).enumerate() {
            let p = first + r;
            let start = |axis: usize, o: usize| (o * self.stride[axis]) as isize - self.padding[axis] as isize;
            let (z0, y0, x0) = (start(0, p / (oh * ow)) - from as isize, start(1, p / ow % oh), start(2, p % ow));
            for (t, tap) in row.chunks_exact(c).enumerate() {
                let sz = z0 + (t / (kh * kw) * self.dilation[0]) as isize;
                let sy = y0 + (t / kw % kh * self.dilation[1]) as isize;
                let sx = x0 + (t % kw * self.dilation[2]) as isize;
                if sz < 0 || sy < 0 || sx < 0 || sz as usize >= planes || sy as usize >= h || sx as usize >= w {
                    continue;
                }
                let to = ((sz as usize * h + sy as usize) * w + sx as usize) * self.inputs + group * c;
                for (d, v) in dx[to..to + c].iter_mut().zip(tap) {
                    *d += v;
                }
            }
        }
    }

    /// The weights `(C_out, C_in / groups, k..)` of a group as `(taps * C_in / groups, C_out / groups)`.
    fn matrix(&self, w: &[f32], group: usize) -> Vec<f32> {
        let (c, o, taps) = (self.inputs / self.groups, self.outputs / self.groups, self.taps());
        let w = &w[group * o * c * taps..(group + 1) * o * c * taps];
        let mut out = vec![0f32; w.len()];
        out.par_chunks_mut(o * c).enumerate().for_each(|(t, rows)| {
            for (i, row) in rows.chunks_exact_mut(o).enumerate() {
                for (k, v) in row.iter_mut().enumerate() {
                    *v = w[(k * c + i) * taps + t];
                }
            }
        });
        out
    }

    /// The geometry whose forward is the input gradient of this one, where there is one: stride 1.
    fn turned(&self) -> Option<Geometry> {
        if self.stride != [1; 3] {
            return None;
        }
        let mut t = *self;
        (t.size, t.out, t.inputs, t.outputs) = (self.out, self.size, self.outputs, self.inputs);
        for a in 0..3 {
            t.padding[a] = (self.dilation[a] * (self.kernel[a] - 1)).checked_sub(self.padding[a])?;
        }
        Some(t)
    }
}

/// `Y (N * positions, C_out) = col(X) W`, with the weight matrix of each group.
pub(super) fn forward(g: &Geometry, x: &[f32], weights: &[Vec<f32>]) -> Vec<f32> {
    if g.same()
        && let [w] = weights
    {
        return same::forward(g, x, w);
    }
    let (depth, o, rows) = (g.depth(), g.outputs / g.groups, g.n * g.positions());
    let mut y = vec![0f32; rows * g.outputs];
    let mut panels = vec![vec![0f32; packed_len(depth, o)]; g.groups];
    let packed: Vec<_> = weights.iter().zip(&mut panels).map(|(w, p)| pack_into(Matrix::rows(w, o), depth, o, p)).collect();
    let block = g.block();
    y.par_chunks_mut(block * g.outputs).enumerate().for_each_init(Vec::new, |col: &mut Vec<f32>, (b, out)| {
        let (first, count) = (b * block, out.len() / g.outputs);
        if g.plain() {
            product(count, o, Matrix::rows(&x[first * depth..], depth), &packed[0], out, o, false);
            return;
        }
        col.resize(block * depth, 0.0);
        for (group, packed) in packed.iter().enumerate() {
            g.gather(x, group, first, count, col);
            product(count, o, Matrix::rows(col, depth), packed, &mut out[group * o..], g.outputs, false);
        }
    });
    y
}

/// `dX` from `dY (N * positions, C_out)`.
pub(super) fn input_gradient(g: &Geometry, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let (c, o, taps, depth) = (g.inputs / g.groups, g.outputs / g.groups, g.taps(), g.depth());
    if let Some(turned) = g.turned() {
        // (taps * C_out, C_in) with the taps in reverse order.
        let weights: Vec<Vec<f32>> = (0..g.groups)
            .map(|group| {
                let w = &w[group * o * c * taps..(group + 1) * o * c * taps];
                let mut out = vec![0f32; w.len()];
                out.par_chunks_mut(o * c).enumerate().for_each(|(t, rows)| {
                    for (k, row) in rows.chunks_exact_mut(c).enumerate() {
                        for (i, v) in row.iter_mut().enumerate() {
                            *v = w[(k * c + i) * taps + (taps - 1 - t)];
                        }
                    }
                });
                out
            })
            .collect();
        return forward(&turned, dy, &weights);
    }
    let plane = g.size[1] * g.size[2] * g.inputs;
    let mut dx = vec![0f32; g.n * g.size[0] * plane];
    let weights: Vec<Vec<f32>> = (0..g.groups).map(|group| g.matrix(w, group)).collect();
    let mut panels = vec![vec![0f32; packed_len(o, depth)]; g.groups];
    let packed: Vec<_> = weights.iter().zip(&mut panels).map(|(w, p)| pack_into(Matrix::rows(w, o).t(), o, depth, p)).collect();
    let (positions, block) = (g.positions(), g.block());
    // Volumes are cut into slabs, which windows overlap: a window is computed for each slab that it reaches.
    let extent = g.dilation[0] * (g.kernel[0] - 1);
    let slab = if g.size[0] == 1 { 1 } else { (4 * (extent + 1)).max(8).min(g.size[0]) };
    let slabs = g.size[0].div_ceil(slab);
    let tasks: Vec<(usize, usize, &mut [f32])> = dx
        .chunks_mut((g.size[0] * plane).max(1))
        .enumerate()
        .flat_map(|(n, dx)| dx.chunks_mut((slab * plane).max(1)).enumerate().map(move |(s, dx)| (n, s * slab, dx)))
        .collect();
    debug_assert!(tasks.len() <= g.n * slabs);
    tasks.into_par_iter().for_each_init(Vec::new, |col: &mut Vec<f32>, (n, z0, dx)| {
        col.resize(block * depth, 0.0);
        // Output planes whose windows reach the input planes `z0 .. z1`.
        let z1 = z0 + dx.len() / plane.max(1);
        let first = (z0 + g.padding[0]).saturating_sub(extent).div_ceil(g.stride[0]).min(g.out[0]);
        let last = ((z1 - 1 + g.padding[0]) / g.stride[0] + 1).min(g.out[0]);
        let per = positions / g.out[0];
        for first in (first * per..(last * per).max(first * per)).step_by(block) {
            let count = block.min(last * per - first);
            for (group, packed) in packed.iter().enumerate() {
                let dy = &dy[(n * positions + first) * g.outputs + group * o..];
                product(count, depth, Matrix::rows(dy, g.outputs), packed, col, depth, false);
                g.scatter(col, group, first, count, z0, dx);
            }
        }
    });
    dx
}

/// Partial sums of `dW` over `chunks` runs of blocks of positions.
fn gathered(g: &Geometry, x: &[f32], dy: &[f32], block: usize, chunks: usize) -> Vec<f32> {
    let (o, depth, rows) = (g.outputs / g.groups, g.depth(), g.n * g.positions());
    let blocks = rows.div_ceil(block).max(1);
    let per = blocks.div_ceil(chunks);
    let mut sums = vec![0f32; chunks * g.groups * depth * o];
    sums.par_chunks_mut(g.groups * depth * o).enumerate().for_each(|(chunk, sums)| {
        let mut col = if g.plain() { Vec::new() } else { vec![0f32; block * depth] };
        let mut panel = vec![0f32; packed_len(block, o)];
        for b in chunk * per..((chunk + 1) * per).min(blocks) {
            let first = b * block;
            let count = block.min(rows - first);
            for (group, sum) in sums.chunks_exact_mut(depth * o).enumerate() {
                let dy = pack_into(Matrix::rows(&dy[first * g.outputs + group * o..], g.outputs), count, o, &mut panel);
                if g.plain() {
                    product(depth, o, Matrix::rows(&x[first * depth..], depth).t(), &dy, sum, o, true);
                } else {
                    g.gather(x, group, first, count, &mut col);
                    product(depth, o, Matrix::rows(&col, depth).t(), &dy, sum, o, true);
                }
            }
        }
    });
    sums
}

/// `dW (C_out, C_in / groups, k..)` from `dY (N * positions, C_out)`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (c, o, taps, depth) = (g.inputs / g.groups, g.outputs / g.groups, g.taps(), g.depth());
    let (rows, block) = (g.n * g.positions(), g.block().max(64));
    let blocks = rows.div_ceil(block).max(1);
    // Up to eight partial sums, fewer where they would be large.
    let chunks = blocks.min((4_194_304 / (depth * g.outputs).max(1)).clamp(2, 8));
    let mut sums = if g.same() { same::weight_gradient(g, x, dy, chunks) } else { gathered(g, x, dy, block, chunks) };
    let size = g.groups * depth * o;
    let (total, rest) = sums.split_at_mut(size);
    total.par_chunks_mut(4096).enumerate().for_each(|(i, part)| {
        for other in rest.chunks_exact(size) {
            for (a, b) in part.iter_mut().zip(&other[i * 4096..]) {
                *a += b;
            }
        }
    });
    // (taps * C_in, C_out) of each group to (C_out, C_in, taps).
    let mut dw = vec![0f32; size];
    dw.par_chunks_mut(c * taps).enumerate().for_each(|(k, out)| {
        let (group, k) = (k / o, k % o);
        let sum = &total[group * depth * o..(group + 1) * depth * o];
        for i in 0..c {
            for t in 0..taps {
                out[i * taps + t] = sum[(t * c + i) * o + k];
            }
        }
    });
    dw
}

pub(super) fn matrices(g: &Geometry, w: &[f32]) -> Vec<Vec<f32>> {
    (0..g.groups).map(|group| g.matrix(w, group)).collect()
}

/// Both gradients, each only where somebody asks for it.
pub(super) fn gradients(g: &Geometry, x: &Tensor, w: &Tensor, dy: &[f32]) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let dx = if x.track_op() {
        let values = with(w, |w| Ok(input_gradient(g, w, dy)))?;
        Some(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)
    } else {
        None
    };
    let dw = if w.track_op() {
        let values = with(x, |x| Ok(weight_gradient(g, x, dy)))?;
        Some(Tensor::from_vec(values, w.shape(), &Device::Cpu)?)
    } else {
        None
    };
    Ok((dx, dw))
}

struct Conv(Geometry);

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = &self.0;
        let y = forward(g, slice(x, lx)?, &matrices(g, slice(w, lw)?));
        Ok((CpuStorage::F32(y), g.out_shape().into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        with(dy, |dy| gradients(&self.0, x, w, dy))
    }
}

/// See [`super::conv`].
pub(super) fn conv(x: &Tensor, w: &Tensor, b: Option<&Tensor>, g: &Geometry) -> Result<Tensor> {
    let y = x.contiguous()?.apply_op2(&w.contiguous()?, Conv(*g))?;
    match b {
        Some(b) => y.broadcast_add(b),
        None => Ok(y),
    }
}

/// What the forward of [`ConvBn`] leaves for its backward, and for the running statistics.
struct Saved {
    y: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

struct ConvBn {
    g: Geometry,
    eps: f64,
    relu: bool,
    saved: Arc<OnceLock<Saved>>,
}

/// Rows that are summed in f32 before they enter a sum in f64.
const ROWS: usize = 128;

/// Sums of `f(row, sums)` over rows of `c` values, as `parts` sums of `c` values each.
fn reduce(rows: usize, c: usize, parts: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f64> {
    let blocks: Vec<Vec<f32>> = (0..rows.div_ceil(ROWS))
        .into_par_iter()
        .map(|b| {
            let mut sums = vec![0f32; parts * c];
            for r in b * ROWS..((b + 1) * ROWS).min(rows) {
                f(r, &mut sums);
            }
            sums
        })
        .collect();
    let mut total = vec![0f64; parts * c];
    for block in &blocks {
        for (t, v) in total.iter_mut().zip(block) {
            *t += f64::from(*v);
        }
    }
    total
}

impl CustomOp3 for ConvBn {
    fn name(&self) -> &'static str {
        "conv_bn_act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        gb: &CpuStorage,
        lgb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (g, c) = (&self.g, self.g.outputs);
        let y = forward(g, slice(x, lx)?, &matrices(g, slice(w, lw)?));
        let rows = y.len() / c;
        let n = rows.max(1) as f64;
        let mean: Vec<f32> = reduce(rows, c, 1, |r, sums| sums.iter_mut().zip(&y[r * c..]).for_each(|(s, v)| *s += v))
            .iter()
            .map(|s| (s / n) as f32)
            .collect();
        let squares = reduce(rows, c, 1, |r, sums| {
            for ((s, v), m) in sums.iter_mut().zip(&y[r * c..(r + 1) * c]).zip(&mean) {
                *s += (v - m) * (v - m);
            }
        });
        let variance: Vec<f32> = squares.iter().map(|s| (s / n) as f32).collect();
        let gb = slice(gb, lgb)?;
        let scale: Vec<f32> = (0..c).map(|k| gb[k] / (f64::from(variance[k]) + self.eps).sqrt() as f32).collect();
        let shift: Vec<f32> = (0..c).map(|k| gb[c + k] - mean[k] * scale[k]).collect();
        let mut out = vec![0f32; y.len()];
        out.par_chunks_mut(c * ROWS).zip(y.par_chunks(c * ROWS)).for_each(|(out, y)| {
            for (out, y) in out.chunks_exact_mut(c).zip(y.chunks_exact(c)) {
                for (((o, v), a), b) in out.iter_mut().zip(y).zip(&scale).zip(&shift) {
                    let z = v * a + b;
                    *o = if self.relu && z <= 0.0 { 0.0 } else { z };
                }
            }
        });
        let _ = self.saved.set(Saved { y, mean, variance });
        Ok((CpuStorage::F32(out), g.out_shape().into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        gb: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else { bail!("conv_bn_act: backward before forward") };
        let c = self.g.outputs;
        let rows = saved.y.len() / c.max(1);
        let inverse: Vec<f32> = saved.variance.iter().map(|v| (1.0 / (f64::from(*v) + self.eps).sqrt()) as f32).collect();
        let (dgb, dy) = with(grad, |grad| {
            with(out, |out| {
                with(gb, |gb| {
                    let live = |o: f32, d: f32| if self.relu && o <= 0.0 { 0.0 } else { d };
                    let sums = reduce(rows, c, 2, |r, sums| {
                        let (dscale, dshift) = sums.split_at_mut(c);
                        let at = r * c..(r + 1) * c;
                        let values = out[at.clone()].iter().zip(&grad[at.clone()]).zip(&saved.y[at]);
                        for (((ds, db), ((o, d), y)), (m, i)) in
                            dscale.iter_mut().zip(dshift).zip(values).zip(saved.mean.iter().zip(&inverse))
                        {
                            let d = live(*o, *d);
                            *ds += d * (y - m) * i;
                            *db += d;
                        }
                    });
                    let n = rows.max(1) as f64;
                    // dy = a (d - mean(d) - xhat mean(d xhat)), written as a d + k y + l.
                    let a: Vec<f32> = (0..c).map(|k| gb[k] * inverse[k]).collect();
                    let slope: Vec<f32> = (0..c).map(|k| -a[k] * inverse[k] * (sums[k] / n) as f32).collect();
                    let offset: Vec<f32> = (0..c).map(|k| -a[k] * (sums[c + k] / n) as f32).collect();
                    let mut dy = vec![0f32; saved.y.len()];
                    dy.par_chunks_mut(c * ROWS).enumerate().for_each(|(b, part)| {
                        for (r, row) in part.chunks_exact_mut(c).enumerate() {
                            let at = (b * ROWS + r) * c..(b * ROWS + r + 1) * c;
                            let values = out[at.clone()].iter().zip(&grad[at.clone()]).zip(&saved.y[at]);
                            let constants = a.iter().zip(&slope).zip(offset.iter().zip(&saved.mean));
                            for ((v, ((o, d), y)), ((a, s), (f, m))) in row.iter_mut().zip(values).zip(constants) {
                                *v = a * live(*o, *d) + s * (y - m) + f;
                            }
                        }
                    });
                    let dgb: Vec<f32> = sums.iter().map(|s| *s as f32).collect();
                    Ok((dgb, dy))
                })
            })
        })?;
        let (dx, dw) = gradients(&self.g, x, w, &dy)?;
        let dgb = if gb.track_op() { Some(Tensor::from_vec(dgb, gb.shape(), &Device::Cpu)?) } else { None };
        Ok((dx, dw, dgb))
    }
}

/// See [`super::conv_bn_act`]; `None` for an activation that this path does not fuse.
pub(super) fn conv_bn_act(
    x: &Tensor,
    w: &Tensor,
    gb: &Tensor,
    g: &Geometry,
    eps: f64,
    act: Act,
) -> Result<Option<(Tensor, Tensor, Tensor)>> {
    let relu = match act {
        Act::None => false,
        Act::Relu => true,
        Act::GeluErf | Act::GeluTanh => return Ok(None),
    };
    let saved = Arc::new(OnceLock::new());
    let op = ConvBn { g: *g, eps, relu, saved: saved.clone() };
    let out = x.contiguous()?.apply_op3(&w.contiguous()?, &gb.contiguous()?, op)?;
    let Some(kept) = saved.get() else { bail!("conv_bn_act: no statistics") };
    let vector = |v: &Vec<f32>| Tensor::from_slice(v, v.len(), &Device::Cpu);
    Ok(Some((out, vector(&kept.mean)?, vector(&kept.variance)?)))
}
