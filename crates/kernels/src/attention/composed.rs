//! Attention from candle's operators, for any device.

use super::dropout::mask;
use super::opts::{AttentionOpts, Dims};
use candle_core::{D, Result, Tensor};

/// `q (N, T, H, D)`, `k` and `v (N, S, H, D)` to `(N, T, H, D)`.
pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    opts: &AttentionOpts,
    dims: &Dims,
) -> Result<Tensor> {
    let Dims { n, t, s, h, d } = *dims;
    let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous(); // (N, L, H, D) -> (N, H, L, D)
    let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
    let mut scores = (q.matmul(&k.t()?)? * opts.scale_for(d))?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(bias)?;
    }
    if opts.causal {
        let mask: Vec<f32> =
            (0..t * s).map(|i| if (i % s) + t <= (i / s) + s { 0.0 } else { f32::NEG_INFINITY }).collect();
        let mask = Tensor::from_vec(mask, (t, s), q.device())?.to_dtype(scores.dtype())?;
        scores = scores.broadcast_add(&mask)?;
    }
    // The largest element, but finite: in a row of minus infinities all exponentials and hence the result are
    // 0. Any other row's sum is at least 1, so that the floor changes nothing there.
    let max = scores.detach().max_keepdim(D::Minus1)?.maximum(-3.4e38)?;
    let e = scores.broadcast_sub(&max)?.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?.maximum(0.5)?;
    let mut p = e.broadcast_div(&sum)?;
    if let Some(dropout) = opts.dropout.filter(|d| d.share > 0.0) {
        let mask = Tensor::from_vec(mask(&dropout, dims), (n, h, t, s), q.device())?.to_dtype(p.dtype())?;
        p = (p * mask)?;
    }
    p.matmul(&v)?.transpose(1, 2)?.contiguous()
}
