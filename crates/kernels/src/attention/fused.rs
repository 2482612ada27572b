//! Attention on the CPU, one head and one block of queries at a time.
//!
//! With `P = softmax(S)`, `S = scale Q K^T + bias`, `O = P V` and a gradient `G` of `O`: `dV = P^T G`, `dP =
//! G V^T`, `dS = P (dP - rowsum(G O))`, `dQ = scale dS K`, `dK = scale dS^T Q`, and the gradient of the bias
//! is `dS`, summed over the axes along which the bias is repeated. Dropout puts a factor (0 or `1 / (1 -
//! share)`) on `P` in `O` and `dV`, and on `dP`.

use super::dropout;
use super::opts::{AttentionOpts, Dims};
use crate::activation::math::{exp_fused, lanes};
use crate::linear::gemm::{Matrix, Packed, Scratch, Shared, multiply, pack_into, packed_len};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use crate::rng::Key;
use rayon::prelude::*;
use std::cell::RefCell;

/// Scores that exist at a time: 128 KiB, so that scores and their gradient stay in the second-level cache.
const SCORES: usize = 1 << 15;

/// Queries, keys or values within a slice: element `(n, l, h, d)` is `data[first + (n * len + l) * row + h *
/// D + d]`.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub data: &'a [f32],
    pub first: usize,
    pub row: usize,
}

impl<'a> Part<'a> {
    /// `(len, D)` of one head of one sample.
    fn head(&self, n: usize, h: usize, len: usize, d: usize) -> Matrix<'a> {
        Matrix::rows(&self.data[self.first + n * len * self.row + h * d..], self.row)
    }
}

/// Where gradients of queries, keys or values go, laid out as in [`Part`].
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub data: Shared,
    pub first: usize,
    pub row: usize,
}

/// A bias `(1 | N, 1 | H, 1 | T, S)`.
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    pub data: &'a [f32],
    pub dims: [usize; 4],
}

impl Bias<'_> {
    /// Start of the row of sample `n`, head `h` and query `t`.
    fn row(&self, n: usize, h: usize, t: usize) -> usize {
        let [bn, bh, bt, s] = self.dims;
        let at = |i: usize, size: usize| if size == 1 { 0 } else { i };
        ((at(n, bn) * bh + at(h, bh)) * bt + at(t, bt)) * s
    }
}

/// What an attention reads.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub q: Part<'a>,
    pub k: Part<'a>,
    pub v: Part<'a>,
    pub bias: Option<Bias<'a>>,
    pub dims: Dims,
    pub opts: AttentionOpts,
}

#[derive(Default)]
struct Buffers {
    keys_t: Scratch,
    values_t: Scratch,
    values: Scratch,
    keys: Scratch,
    queries: Scratch,
    grads: Scratch,
    scores: Scratch,
    d_scores: Scratch,
    mask: Scratch,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Running sums and maxima of a row: two vectors of AVX-512, so that one addition need not wait for the last.
const LANES: usize = 32;

/// What is left of all lanes when the upper half is put upon the lower, again and again: one after the other
/// would be a chain of 32.
#[inline(always)]
fn halve(mut x: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            x[i] = f(x[i], x[i + half]);
        }
        half /= 2;
    }
    x[0]
}

simd_fn! {
    /// Turns the first `n` scores into `exp(scale s + bias - max)` and returns the largest and the sum;
    /// nothing but minus infinities becomes zeros. `s` is [`padded`]; what is beyond the `n` becomes 0.
    fn soften(s: &mut [f32], n: usize, scale: f32, bias: &[f32]) -> (f32, f32) {
        scale_and_add(s, scale, bias);
        s[n..].fill(f32::NEG_INFINITY);
        // NaN is never larger, but comes back by the exponential.
        let mut best = [f32::NEG_INFINITY; LANES];
        for part in s.chunks_exact(LANES) {
            for (b, v) in best.iter_mut().zip(part) {
                *b = if *v > *b { *v } else { *b };
            }
        }
        let max = halve(best, |a, b| if a > b { a } else { b });
        if max == f32::NEG_INFINITY && !s.iter().any(|v| v.is_nan()) {
            s.fill(0.0);
            return (max, 0.0);
        }
        let mut sums = [0f32; LANES];
        for part in s.chunks_exact_mut(LANES) {
            for (sum, v) in sums.iter_mut().zip(part) {
                *v = exp_fused(*v - max);
                *sum += *v;
            }
        }
        (max, halve(sums, |a, b| a + b))
    }
}

/// `scale s + bias`, in place, in whole steps.
#[inline(always)]
fn scale_and_add(s: &mut [f32], scale: f32, bias: &[f32]) {
    for part in s.chunks_exact_mut(LANES) {
        for v in part {
            *v *= scale;
        }
    }
    for (v, b) in s.iter_mut().zip(bias) {
        *v += b;
    }
}

simd_fn! {
    /// Turns scores ([`padded`]) into probabilities, given the logarithm of the sum of their exponentials.
    fn again(s: &mut [f32], scale: f32, bias: &[f32], log_sum: f32) {
        scale_and_add(s, scale, bias);
        for part in s.chunks_exact_mut(LANES) {
            for v in part {
                *v = exp_fused(*v - log_sum);
            }
        }
    }
}

/// Elements of a row that are worked on where `n` count: whole steps of [`LANES`], for a scalar remainder
/// would take as long as all the rest.
fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

simd_fn! {
    /// `ds = p (dp - delta)`, in place of `dp`.
    fn softmax_backward(p: &[f32], dp: &mut [f32], delta: f32) {
        for (d, p) in dp.iter_mut().zip(p) {
            *d = p * (*d - delta);
        }
    }
}

simd_fn! {
    /// The same with dropout: `ds = p (mask dp - delta)`, and `p` becomes `mask p`.
    fn softmax_backward_dropped(p: &mut [f32], dp: &mut [f32], mask: &[f32], delta: f32) {
        for ((d, p), m) in dp.iter_mut().zip(p).zip(mask) {
            *d = *p * (m * *d - delta);
            *p *= m;
        }
    }
}

simd_fn! {
    fn product(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x *= y;
        }
    }
}

simd_fn! {
    fn scaled(x: &mut [f32], factor: f32) {
        for x in x.iter_mut() {
            *x *= factor;
        }
    }
}

simd_fn! {
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        lanes!(|x = x, y = y| x * y)
    }
}

impl Inputs<'_> {
    /// Queries of a block, and elements from one row of scores to the next (whole cache lines, and not a
    /// multiple of 4 KiB).
    fn blocks(&self) -> (usize, usize) {
        let Dims { t, s, .. } = self.dims;
        let most = (SCORES / s).clamp(8, 512);
        let rows = t.div_ceil(t.div_ceil(most)).next_multiple_of(8);
        let stride = padded(s);
        (rows, if stride.is_multiple_of(1024) { stride + LANES } else { stride })
    }

    /// Keys that query `t` sees.
    fn seen(&self, t: usize) -> usize {
        let s = self.dims.s;
        if self.opts.causal { (t + 1 + s).saturating_sub(self.dims.t).min(s) } else { s }
    }

    fn bias_row(&self, n: usize, h: usize, t: usize, seen: usize) -> &[f32] {
        match &self.bias {
            Some(b) => {
                let from = b.row(n, h, t);
                &b.data[from..from + seen]
            }
            None => &[],
        }
    }

    /// The share of sample `n` that dropout drops, and the key that it draws with.
    fn dropped(&self, n: usize) -> Option<(f32, Key)> {
        self.opts.dropout.filter(|d| d.share > 0.0).map(|d| (d.share, d.sample(n)))
    }

    /// The result `(N, T, H, D)` and the logarithms of the sums of exponentials `(N, H, T)`, infinite where a
    /// query sees nothing.
    pub(super) fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let Dims { n, t, h, d, .. } = self.dims;
        let (mut y, mut log_sums) = (unwritten(n * t * h * d), unwritten(n * h * t));
        let out = Shared::blank(&mut y);
        log_sums.par_chunks_exact_mut(t).with_max_len(1).enumerate().for_each(|(i, log_sums)| {
            BUFFERS.with_borrow_mut(|buffers| self.forward_head(i / h, i % h, out, log_sums, buffers));
        });
        // SAFETY: each head writes its part of all its queries' rows, and their sums.
        unsafe { (y.written(), log_sums.written()) }
    }

    fn forward_head(&self, n: usize, h: usize, out: Shared, log_sums: &mut [Blank], buffers: &mut Buffers) {
        let Dims { t, s, d, .. } = self.dims;
        let (rows, stride) = self.blocks();
        let scale = self.opts.scale_for(d) as f32;
        let keys_t = pack_into(self.k.head(n, h, s, d).t(), d, s, buffers.keys_t.get(packed_len(d, s)));
        let values = pack_into(self.v.head(n, h, s, d), s, d, buffers.values.get(packed_len(s, d)));
        let scores = buffers.scores.get(rows * stride);
        let (mask, dropped) = (buffers.mask.get(s), self.dropped(n));
        for t0 in (0..t).step_by(rows) {
            let count = rows.min(t - t0);
            let q = self.q.head(n, h, t, d);
            let q = Matrix { data: &q.data[t0 * q.row..], ..q };
            // SAFETY: `scores` has `rows` rows of `stride` elements and is this thread's.
            unsafe { multiply(count, q, &keys_t, Shared::new(scores), 0, stride, false) };
            for (i, row) in scores.chunks_exact_mut(stride).enumerate().take(count) {
                let seen = self.seen(t0 + i);
                let (max, sum) =
                    soften(&mut row[..padded(seen)], seen, scale, self.bias_row(n, h, t0 + i, seen));
                row[padded(seen).min(s)..s].fill(0.0);
                log_sums[t0 + i].write(if sum == 0.0 { f32::INFINITY } else { max + sum.ln() });
                let inverse = if sum == 0.0 { 0.0 } else { 1.0 / sum };
                if let Some((share, key)) = dropped {
                    dropout::row(share, key, h * t + t0 + i, mask);
                    product(&mut row[..seen], mask);
                }
                scaled(&mut row[..padded(seen)], inverse);
            }
            let start = ((n * t + t0) * self.dims.h + h) * d;
            // SAFETY: the rows of this head, which no other task writes.
            unsafe {
                multiply(count, Matrix::rows(scores, stride), &values, out, start, self.dims.h * d, false)
            };
        }
    }

    /// Writes the gradients of the queries and of the keys and values, where wanted, and returns that of the
    /// bias.
    pub(super) fn backward(
        &self,
        y: &[f32],
        g: &[f32],
        log_sums: &[f32],
        dq: Option<Out>,
        dkv: Option<(Out, Out)>,
        want_bias: bool,
    ) -> Option<Vec<f32>> {
        let Dims { n, h, .. } = self.dims;
        let head = |n: usize, h: usize, d_bias: Option<&mut [f32]>| {
            BUFFERS.with_borrow_mut(|buffers| {
                self.backward_head(n, h, y, g, log_sums, dq, dkv, d_bias, buffers)
            });
        };
        let Some(bias) = self.bias.filter(|_| want_bias) else {
            (0..n * h).into_par_iter().with_max_len(1).for_each(|i| head(i / h, i % h, None));
            return None;
        };
        let [bn, bh, bt, s] = bias.dims;
        // Heads that add to the same part of the bias do so one after the other; up to four groups of samples
        // have a sum of their own each.
        let groups = if bn == 1 { n.min(4) } else { n };
        let per_group = n.div_ceil(groups);
        let mut sums = vec![0f32; groups * bh * bt * s];
        sums.par_chunks_exact_mut(bt * s).with_max_len(1).enumerate().for_each(|(i, sum)| {
            let (group, first) = (i / bh, i % bh);
            for n in group * per_group..((group + 1) * per_group).min(n) {
                for h in if bh == 1 { 0..h } else { first..first + 1 } {
                    head(n, h, Some(&mut *sum));
                }
            }
        });
        if bn == 1 {
            let (total, rest) = sums.split_at_mut(bh * bt * s);
            for part in rest.chunks_exact(total.len()) {
                total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
            }
            sums.truncate(bh * bt * s);
        }
        Some(sums)
    }

    #[allow(clippy::too_many_arguments)]
    fn backward_head(
        &self,
        n: usize,
        h: usize,
        y: &[f32],
        g: &[f32],
        log_sums: &[f32],
        dq: Option<Out>,
        dkv: Option<(Out, Out)>,
        mut d_bias: Option<&mut [f32]>,
        b: &mut Buffers,
    ) {
        let Dims { t, s, h: heads, d, .. } = self.dims;
        let (rows, stride) = self.blocks();
        let scale = self.opts.scale_for(d) as f32;
        let (k, v) = (self.k.head(n, h, s, d), self.v.head(n, h, s, d));
        let keys_t = pack_into(k.t(), d, s, b.keys_t.get(packed_len(d, s)));
        let values_t = pack_into(v.t(), d, s, b.values_t.get(packed_len(d, s)));
        let keys = dq.map(|_| scaled_pack(k, s, d, scale, &mut b.keys));
        let scores = b.scores.get(rows * stride);
        let d_scores = b.d_scores.get(rows * stride);
        let (mask, dropped) = (b.mask.get(s), self.dropped(n));
        let log_sums = &log_sums[(n * heads + h) * t..][..t];
        for t0 in (0..t).step_by(rows) {
            let count = rows.min(t - t0);
            let start = ((n * t + t0) * heads + h) * d;
            let g = Matrix::rows(&g[start..], heads * d);
            let q = self.q.head(n, h, t, d);
            let q = Matrix { data: &q.data[t0 * q.row..], ..q };
            // SAFETY: both have `rows` rows of `stride` elements and are this thread's.
            unsafe {
                multiply(count, q, &keys_t, Shared::new(scores), 0, stride, false);
                multiply(count, g, &values_t, Shared::new(d_scores), 0, stride, false);
            }
            for (i, (p, dp)) in
                scores.chunks_exact_mut(stride).zip(d_scores.chunks_exact_mut(stride)).enumerate().take(count)
            {
                let seen = self.seen(t0 + i);
                let end = padded(seen);
                again(&mut p[..end], scale, self.bias_row(n, h, t0 + i, seen), log_sums[t0 + i]);
                let delta = dot(&g.data[i * g.row..][..d], &y[start + i * heads * d..][..d]);
                if let Some((share, key)) = dropped {
                    dropout::row(share, key, h * t + t0 + i, mask);
                    softmax_backward_dropped(&mut p[..seen], &mut dp[..seen], mask, delta);
                } else {
                    softmax_backward(&p[..end], &mut dp[..end], delta);
                }
                // Beyond what is seen there were scores too, or what was left of another block.
                p[seen..s].fill(0.0);
                dp[seen..s].fill(0.0);
                if let (Some(sum), Some(bias)) = (&mut d_bias, &self.bias) {
                    let from = if bias.dims[2] == 1 { 0 } else { (t0 + i) * s };
                    sum[from..from + seen].iter_mut().zip(dp.iter()).for_each(|(b, d)| *b += d);
                }
            }
            if let (Some(dq), Some(keys)) = (dq, &keys) {
                let at = dq.first + (n * t + t0) * dq.row + h * d;
                // SAFETY: the rows of this head, which no other task writes.
                unsafe { multiply(count, Matrix::rows(d_scores, stride), keys, dq.data, at, dq.row, false) };
            }
            if let Some((dk, dv)) = dkv {
                let queries = scaled_pack(q, count, d, scale, &mut b.queries);
                let grads = pack_into(g, count, d, b.grads.get(packed_len(count, d)));
                let at = |o: Out| o.first + n * s * o.row + h * d;
                // SAFETY: as above.
                unsafe {
                    multiply(
                        s,
                        Matrix::rows(d_scores, stride).t(),
                        &queries,
                        dk.data,
                        at(dk),
                        dk.row,
                        t0 > 0,
                    );
                    multiply(s, Matrix::rows(scores, stride).t(), &grads, dv.data, at(dv), dv.row, t0 > 0);
                }
            }
        }
    }
}

/// `factor x (L, D)` in panels.
fn scaled_pack<'b>(x: Matrix<'_>, l: usize, d: usize, factor: f32, scratch: &'b mut Scratch) -> Packed<'b> {
    let out = scratch.get(packed_len(l, d));
    pack_into(x, l, d, out);
    scaled(out, factor);
    Packed::of(out, l, d)
}
