//! Weight normalisation (Salimans and Kingma 2016, arXiv 1602.07868).

use crate::Path;
use candle_core::{Result, Tensor};

/// `w = g v / ||v||`; the norm is over all dimensions but `dim`, and `g` has size 1 in those.
///
/// # Errors
/// If shapes do not fit.
pub fn weight_norm(v: &Tensor, g: &Tensor, dim: usize, _path: Path) -> Result<Tensor> {
    let mut square = v.sqr()?;
    for d in (0..v.rank()).filter(|&d| d != dim) {
        square = square.sum_keepdim(d)?;
    }
    v.broadcast_mul(&g.broadcast_div(&square.sqrt()?)?)
}
