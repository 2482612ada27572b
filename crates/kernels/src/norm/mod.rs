//! Normalisation: over the last dimension (layer, RMS, Euclidean length) and over space, batch or groups of
//! channels (batch, instance, group).
//!
//! On the CPU each is one node of the graph, batch norm with the activation behind it. Two kernels serve all:
//! `rows` for statistics of one row of channels, `channels` for statistics of many positions. They keep means
//! and deviations; the normalised values are computed again.

pub(crate) mod channels;
mod residual;
mod rows;

pub use residual::add_relu;

use crate::Path;
use crate::activation::Act;
use crate::activation::slices::{tensor, wants_fused};
use candle_core::{D, Result, Tensor, bail};
use channels::{Groups, Normalise, ScaleShift};
use rows::{Length, RowNorm};
use std::sync::{Arc, OnceLock};

/// The number of channels of `x (.., C)`.
fn channels(name: &str, x: &Tensor, ranks: usize) -> Result<usize> {
    match x.dims().last() {
        Some(&c) if x.rank() >= ranks => Ok(c),
        _ => bail!(
            "{name}: input of shape {:?}, expected {}",
            x.dims(),
            if ranks > 1 { "(N, S.., C)" } else { "(.., C)" }
        ),
    }
}

fn check_gb(name: &str, gb: Option<&Tensor>, c: usize) -> Result<()> {
    match gb {
        Some(gb) if gb.dims() != [2, c] => {
            bail!("{name}: weight and bias of shape {:?}, expected (2, {c})", gb.dims())
        }
        _ => Ok(()),
    }
}

/// `gb`, or weight 1 and bias 0.
fn contiguous_or_plain(gb: Option<&Tensor>, c: usize) -> Result<Tensor> {
    match gb {
        Some(gb) => gb.contiguous(),
        None => tensor([vec![1.0; c], vec![0.0; c]].concat(), (2, c)),
    }
}

fn affine(y: &Tensor, gb: Option<&Tensor>) -> Result<Tensor> {
    match gb {
        Some(gb) => y.broadcast_mul(&gb.get(0)?)?.broadcast_add(&gb.get(1)?),
        None => Ok(y.clone()),
    }
}

/// All tensors that decide whether the fused kernel runs.
fn all<'a>(x: &'a Tensor, gb: Option<&'a Tensor>) -> Vec<&'a Tensor> {
    std::iter::once(x).chain(gb).collect()
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` with the mean and the biased variance of the last dimension
/// of `x (.., C)`; `gb (2, C)` stacks weight and bias (Ba et al. 2016, arXiv 1607.06450).
///
/// # Errors
/// If shapes do not fit, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn layer_norm(x: &Tensor, gb: Option<&Tensor>, eps: f64, path: Path) -> Result<Tensor> {
    let c = channels("layer_norm", x, 1)?;
    check_gb("layer_norm", gb, c)?;
    if wants_fused("layer_norm", path, &all(x, gb))? {
        return x.contiguous()?.apply_op2(&contiguous_or_plain(gb, c)?, RowNorm::new(eps, true));
    }
    let d = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let v = d.sqr()?.mean_keepdim(D::Minus1)?;
    affine(&d.broadcast_div(&(v + eps)?.sqrt()?)?, gb)
}

/// `x / sqrt(mean(x^2) + eps) * w` over the last dimension of `x (.., C)`, `w (C)` (Zhang and Sennrich 2019,
/// arXiv 1910.07467).
///
/// # Errors
/// If shapes do not fit, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64, path: Path) -> Result<Tensor> {
    let c = channels("rms_norm", x, 1)?;
    if w.dims() != [c] {
        bail!("rms_norm: weight of shape {:?}, expected ({c})", w.dims())
    }
    if wants_fused("rms_norm", path, &[x, w])? {
        return x.contiguous()?.apply_op2(&w.contiguous()?, RowNorm::new(eps, false));
    }
    let v = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(v + eps)?.sqrt()?)?.broadcast_mul(w)
}

/// `x / max(||x||, eps)` over the last dimension of `x (.., C)`. A row that is no longer than `eps` gets the
/// gradient of `x / eps`.
///
/// # Errors
/// If `x` is a scalar, or `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn l2_normalize(x: &Tensor, eps: f64, path: Path) -> Result<Tensor> {
    channels("l2_normalize", x, 1)?;
    if wants_fused("l2_normalize", path, &[x])? {
        return x.contiguous()?.apply_op1(Length::new(eps));
    }
    let square = x.sqr()?.sum_keepdim(D::Minus1)?;
    let short = square.detach().le(eps * eps)?;
    // The root is taken of 1 where the row is short: its own derivative may be infinite.
    let length = short.where_cond(&square.ones_like()?, &square)?.sqrt()?;
    let bound = (square.ones_like()? * eps)?.detach();
    x.broadcast_div(&short.where_cond(&bound, &length)?)
}

/// Statistics over positions and groups of channels of `x (B, R, C)` by candle's operators: centred values,
/// mean and biased variance `(B, 1, G, 1)`.
fn grouped(x: &Tensor, (b, r, c): (usize, usize, usize), groups: usize) -> Result<(Tensor, Tensor, Tensor)> {
    let x = x.reshape((b, r, groups, c / groups.max(1)))?;
    let mean = x.mean_keepdim((1, 3))?;
    let d = x.broadcast_sub(&mean)?;
    let var = d.sqr()?.mean_keepdim((1, 3))?;
    Ok((d, mean, var))
}

/// With statistics over all but the last dimension of `x (.., C)`, then `act`; `gb (2, C)` stacks weight and
/// bias. Returns the result `(.., C)`, the mean `(C)` and the biased variance `(C)`, the last two without
/// graph (Ioffe and Szegedy 2015, arXiv 1502.03167).
///
/// # Errors
/// If shapes do not fit, `x` has no elements, or `path` asks for the fused kernel and a tensor is not f32 on
/// the CPU.
pub fn batch_norm(
    x: &Tensor,
    gb: &Tensor,
    eps: f64,
    act: Act,
    path: Path,
) -> Result<(Tensor, Tensor, Tensor)> {
    let c = channels("batch_norm", x, 1)?;
    check_gb("batch_norm", Some(gb), c)?;
    if x.elem_count() == 0 {
        bail!("batch_norm: input of shape {:?} has no elements to take statistics of", x.dims())
    }
    let m = x.elem_count() / c;
    if wants_fused("batch_norm", path, &[x, gb])? {
        let saved = Arc::new(OnceLock::new());
        let op = Normalise {
            groups: Groups { samples: 1, positions: m, channels: c, groups: c },
            eps,
            act,
            saved: saved.clone(),
        };
        let y = x.contiguous()?.apply_op2(&gb.contiguous()?, op)?;
        return match saved.get() {
            Some(s) => Ok((y, tensor(s.mean.clone(), c)?, tensor(s.var.clone(), c)?)),
            None => bail!("batch_norm: the forward pass left no statistics"),
        };
    }
    let (d, mean, var) = grouped(x, (1, m, c), c)?;
    let y = affine(&d.broadcast_div(&(&var + eps)?.sqrt()?)?.reshape(x.dims())?, Some(gb))?;
    Ok((act.apply(&y, path)?, mean.detach().reshape(c)?, var.detach().reshape(c)?))
}

/// With given statistics `mean (C)` and `var (C)`, then `act`: `x (.., C)` to `(.., C)`. The statistics get
/// no gradient.
///
/// # Errors
/// If shapes do not fit.
pub fn batch_norm_eval(
    x: &Tensor,
    gb: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
    act: Act,
) -> Result<Tensor> {
    let c = channels("batch_norm_eval", x, 1)?;
    check_gb("batch_norm_eval", Some(gb), c)?;
    if mean.dims() != [c] || var.dims() != [c] {
        bail!("batch_norm_eval: mean {:?} and variance {:?}, expected ({c})", mean.dims(), var.dims())
    }
    let scale = (gb.get(0)? / (var.detach() + eps)?.sqrt()?)?;
    let shift = (gb.get(1)? - (mean.detach() * &scale)?)?;
    if wants_fused("batch_norm_eval", Path::Auto, &[x, gb])? {
        return x.contiguous()?.apply_op2(&Tensor::stack(&[&scale, &shift], 0)?, ScaleShift { act });
    }
    act.apply(&x.broadcast_mul(&scale)?.broadcast_add(&shift)?, Path::Auto)
}

/// With statistics of each sample over space and a group of neighbouring channels: `x (N, S.., C)` in
/// `groups` groups, `gb (2, C)` (Wu and He 2018, arXiv 1803.08494).
///
/// # Errors
/// If shapes do not fit, `groups` does not divide `C`, or `path` asks for the fused kernel and a tensor is
/// not f32 on the CPU.
pub fn group_norm(x: &Tensor, gb: Option<&Tensor>, groups: usize, eps: f64, path: Path) -> Result<Tensor> {
    normalise("group_norm", x, gb, groups, eps, Act::None, path)
}

/// With statistics of each sample and channel over space: `x (N, S.., C)`, `gb (2, C)` (Ulyanov et al. 2016,
/// arXiv 1607.08022).
///
/// # Errors
/// If shapes do not fit, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn instance_norm(x: &Tensor, gb: Option<&Tensor>, eps: f64, path: Path) -> Result<Tensor> {
    instance_norm_act(x, gb, eps, Act::None, path)
}

/// [`instance_norm`], then `act`.
///
/// # Errors
/// As [`instance_norm`].
pub fn instance_norm_act(x: &Tensor, gb: Option<&Tensor>, eps: f64, act: Act, path: Path) -> Result<Tensor> {
    normalise("instance_norm", x, gb, channels("instance_norm", x, 2)?, eps, act, path)
}

fn normalise(
    name: &str,
    x: &Tensor,
    gb: Option<&Tensor>,
    groups: usize,
    eps: f64,
    act: Act,
    path: Path,
) -> Result<Tensor> {
    let c = channels(name, x, 2)?;
    check_gb(name, gb, c)?;
    if groups == 0 || !c.is_multiple_of(groups) {
        bail!("{name}: {groups} groups, expected a divisor of the {c} channels")
    }
    if x.elem_count() == 0 {
        bail!("{name}: input of shape {:?} has no elements to take statistics of", x.dims())
    }
    let n = x.dim(0)?;
    let r = x.elem_count() / (n * c);
    if wants_fused(name, path, &all(x, gb))? {
        let op = Normalise {
            groups: Groups { samples: n, positions: r, channels: c, groups },
            eps,
            act,
            saved: Arc::new(OnceLock::new()),
        };
        return x.contiguous()?.apply_op2(&contiguous_or_plain(gb, c)?, op);
    }
    let (d, _, var) = grouped(x, (n, r, c), groups)?;
    act.apply(&affine(&d.broadcast_div(&(var + eps)?.sqrt()?)?.reshape(x.dims())?, gb)?, path)
}

#[cfg(test)]
mod tests;
