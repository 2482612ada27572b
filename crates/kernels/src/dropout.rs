//! Dropout and stochastic depth from the counter-based generator: both paths draw the same mask.

use crate::Path;
use crate::rng::Key;
use candle_core::{Result, Tensor, bail};

fn mask(n: usize, p: f32, key: Key) -> Vec<f32> {
    let mut rng = key.rng();
    let keep = 1.0 / (1.0 - p);
    (0..n).map(|_| if rng.uniform() < p { 0.0 } else { keep }).collect()
}

fn check(p: f32) -> Result<()> {
    if (0.0..1.0).contains(&p) { Ok(()) } else { bail!("dropout: probability {p}, expected 0 <= p < 1") }
}

/// Each value is 0 with probability `p`, else divided by `1 - p`.
///
/// # Errors
/// If `p` is not in `[0, 1)`.
pub fn dropout(x: &Tensor, p: f32, key: Key, _path: Path) -> Result<Tensor> {
    check(p)?;
    x * Tensor::from_vec(mask(x.elem_count(), p, key), x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// Each sample of `x (N, ..)` is 0 with probability `p`, else divided by `1 - p` (Huang et al. 2016, arXiv 1603.09382).
///
/// # Errors
/// If `p` is not in `[0, 1)`.
pub fn drop_path(x: &Tensor, p: f32, key: Key) -> Result<Tensor> {
    check(p)?;
    let n = x.dim(0)?;
    let mut shape = vec![1; x.rank()];
    shape[0] = n;
    x.broadcast_mul(&Tensor::from_vec(mask(n, p, key), shape, x.device())?.to_dtype(x.dtype())?)
}
