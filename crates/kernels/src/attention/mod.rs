//! Scaled dot-product attention `softmax(scale q k^T + bias) v` (Vaswani et al. 2017, arXiv 1706.03762).
//!
//! On the CPU it is one node of the graph in the manner of FlashAttention (Dao et al. 2022, arXiv
//! 2205.14135): scores exist for one head and one block of queries at a time, the logarithm of each row's sum
//! of exponentials is kept, and the backward recomputes the probabilities from it. So memory grows with `L`,
//! not with `L^2`. Elsewhere it is composed of candle's operators.
//!
//! A query that may see no key at all (every score minus infinity) gives 0 and gets no gradient. A bias of
//! `-3e38`, as for padded keys, is not minus infinity: a row of nothing else is spread over all keys.

mod composed;
mod dropout;
mod fused;
mod node;
mod opts;

pub use opts::AttentionOpts;

use crate::Path;
use crate::activation::slices::wants_fused;
use candle_core::{Result, Tensor, bail};
use opts::Dims;

/// Attention of `q (N, T, H, D)` to keys and values packed as `kv (N, S, 2, H, D)`, giving `(N, T, H, D)`.
///
/// `bias (1 | N, 1 | H, 1 | T, S)` is added to the scaled scores and may have a gradient (relative
/// positions); masks are biases of `-3e38` or minus infinity.
///
/// # Errors
/// If the shapes do not fit or the dropout is not in `[0, 1)`.
pub fn attention(
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    opts: &AttentionOpts,
    path: Path,
) -> Result<Tensor> {
    let (&[n, t, h, d], &[n2, s, 2, h2, d2]) = (q.dims(), kv.dims()) else {
        bail!(
            "attention: queries {:?} and keys-values {:?}, expected (N, T, H, D) and (N, S, 2, H, D)",
            q.dims(),
            kv.dims()
        )
    };
    if (n2, h2, d2) != (n, h, d) {
        bail!("attention: queries {:?} and keys-values {:?} differ in N, H or D", q.dims(), kv.dims())
    }
    let dims = Dims { n, t, s, h, d };
    check(&dims, bias, opts)?;
    let all: Vec<&Tensor> = [q, kv].into_iter().chain(bias).collect();
    if wants_fused("attention", path, &all)? {
        return node::attention(q, kv, bias, opts, dims);
    }
    let k = kv.narrow(2, 0, 1)?.squeeze(2)?;
    let v = kv.narrow(2, 1, 1)?.squeeze(2)?;
    composed::attention(q, &k, &v, bias, opts, &dims)
}

/// Attention of a sequence to itself, from the packed projection `qkv (N, L, 3, H, D)` to `(N, L, H, D)`;
/// otherwise as [`attention`].
///
/// # Errors
/// If the shapes do not fit or the dropout is not in `[0, 1)`.
pub fn self_attention(
    qkv: &Tensor,
    bias: Option<&Tensor>,
    opts: &AttentionOpts,
    path: Path,
) -> Result<Tensor> {
    let &[n, l, 3, h, d] = qkv.dims() else {
        bail!("self_attention: input of shape {:?}, expected (N, L, 3, H, D)", qkv.dims())
    };
    let dims = Dims { n, t: l, s: l, h, d };
    check(&dims, bias, opts)?;
    let all: Vec<&Tensor> = [qkv].into_iter().chain(bias).collect();
    if wants_fused("self_attention", path, &all)? {
        return node::self_attention(qkv, bias, opts, dims);
    }
    let part = |i| qkv.narrow(2, i, 1)?.squeeze(2);
    composed::attention(&part(0)?, &part(1)?, &part(2)?, bias, opts, &dims)
}

fn check(dims: &Dims, bias: Option<&Tensor>, opts: &AttentionOpts) -> Result<()> {
    let Dims { n, t, s, h, d } = *dims;
    if n == 0 || t == 0 || s == 0 || h == 0 || d == 0 {
        bail!("attention: nothing to attend to in {dims:?}")
    }
    if let Some(b) = bias {
        let ok = match b.dims() {
            &[bn, bh, bt, bs] => {
                (bn == 1 || bn == n) && (bh == 1 || bh == h) && (bt == 1 || bt == t) && bs == s
            }
            _ => false,
        };
        if !ok {
            bail!("attention: bias of shape {:?}, expected (1 | {n}, 1 | {h}, 1 | {t}, {s})", b.dims())
        }
    }
    opts.dropout.map_or(Ok(()), |d| d.check("attention: dropout"))
}

#[cfg(test)]
mod tests;
