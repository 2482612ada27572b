//! Normalisation.

use crate::Path;
use crate::activation::{Act, gelu_erf, gelu_tanh, relu};
use candle_core::{D, Result, Tensor};

fn activate(y: Tensor, act: Act, path: Path) -> Result<Tensor> {
    match act {
        Act::None => Ok(y),
        Act::Relu => relu(&y, path),
        Act::GeluErf => gelu_erf(&y, path),
        Act::GeluTanh => gelu_tanh(&y, path),
    }
}

fn affine(y: &Tensor, gb: Option<&Tensor>) -> Result<Tensor> {
    match gb {
        Some(gb) => y.broadcast_mul(&gb.get(0)?)?.broadcast_add(&gb.get(1)?),
        None => Ok(y.clone()),
    }
}

/// Over the last dimension; `gb (2, C)` stacks weight and bias.
///
/// # Errors
/// If shapes do not fit.
pub fn layer_norm(x: &Tensor, gb: Option<&Tensor>, eps: f64, _path: Path) -> Result<Tensor> {
    let c = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let v = c.sqr()?.mean_keepdim(D::Minus1)?;
    affine(&c.broadcast_div(&(v + eps)?.sqrt()?)?, gb)
}

/// `x / rms(x) * w`.
///
/// # Errors
/// If shapes do not fit.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64, _path: Path) -> Result<Tensor> {
    let v = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(v + eps)?.sqrt()?)?.broadcast_mul(w)
}

/// With batch statistics over all but the last dimension: result, mean, biased variance.
///
/// # Errors
/// If shapes do not fit.
pub fn batch_norm(x: &Tensor, gb: &Tensor, eps: f64, act: Act, path: Path) -> Result<(Tensor, Tensor, Tensor)> {
    let c = x.dim(D::Minus1)?;
    let flat = x.reshape(((), c))?;
    let mean = flat.mean_keepdim(0)?;
    let centred = flat.broadcast_sub(&mean)?;
    let v = centred.sqr()?.mean_keepdim(0)?;
    let y = affine(&centred.broadcast_div(&(&v + eps)?.sqrt()?)?, Some(gb))?;
    Ok((activate(y, act, path)?.reshape(x.dims())?, mean.detach().squeeze(0)?, v.detach().squeeze(0)?))
}

/// With running statistics.
///
/// # Errors
/// If shapes do not fit.
pub fn batch_norm_eval(x: &Tensor, gb: &Tensor, mean: &Tensor, var: &Tensor, eps: f64, act: Act) -> Result<Tensor> {
    let scale = (gb.get(0)? / (var + eps)?.sqrt()?)?;
    let shift = (gb.get(1)? - (mean * &scale)?)?;
    activate(x.broadcast_mul(&scale)?.broadcast_add(&shift)?, act, Path::Auto)
}

/// Over groups of channels; `x (N, S.., C)`.
///
/// # Errors
/// If shapes do not fit.
pub fn group_norm(x: &Tensor, gb: Option<&Tensor>, groups: usize, eps: f64, _path: Path) -> Result<Tensor> {
    let (n, c) = (x.dim(0)?, x.dim(D::Minus1)?);
    let s = x.elem_count() / (n * c).max(1);
    let y = x.reshape((n, s, groups, c / groups))?;
    let d = y.broadcast_sub(&y.mean_keepdim((1, 3))?)?;
    let v = d.sqr()?.mean_keepdim((1, 3))?;
    affine(&d.broadcast_div(&(v + eps)?.sqrt()?)?.reshape(x.dims())?, gb)
}

/// Over space, per sample and channel.
///
/// # Errors
/// If shapes do not fit.
pub fn instance_norm(x: &Tensor, gb: Option<&Tensor>, eps: f64, path: Path) -> Result<Tensor> {
    group_norm(x, gb, x.dim(D::Minus1)?, eps, path)
}

/// `relu(a + b)`.
///
/// # Errors
/// If shapes do not fit.
pub fn add_relu(a: &Tensor, b: &Tensor, path: Path) -> Result<Tensor> {
    relu(&(a + b)?, path)
}

/// `x / max(||x||, eps)` over the last dimension.
///
/// # Errors
/// If shapes do not fit.
pub fn l2_normalize(x: &Tensor, eps: f64, _path: Path) -> Result<Tensor> {
    let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + eps * eps)?.sqrt()?;
    x.broadcast_div(&norm)
}
