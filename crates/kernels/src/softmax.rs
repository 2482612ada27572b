//! Softmax and its logarithm over the last dimension.

use crate::Path;
use candle_core::{D, Result, Tensor};

fn centred(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)
}

/// `exp(x) / sum exp(x)`.
///
/// # Errors
/// If the device refuses.
pub fn softmax(x: &Tensor, _path: Path) -> Result<Tensor> {
    let e = centred(x)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// `x - log sum exp(x)`.
///
/// # Errors
/// If the device refuses.
pub fn log_softmax(x: &Tensor, _path: Path) -> Result<Tensor> {
    let c = centred(x)?;
    c.broadcast_sub(&c.exp()?.sum_keepdim(D::Minus1)?.log()?)
}
