//! Convolution over sequences, images and volumes, channels-last: `(N, S.., C_in)` to `(N, S'.., C_out)` with
//! weights `(C_out, C_in / groups, k..)`, and the block convolution + batch norm + activation as one node of
//! the graph.
//!
//! On the CPU a convolution is a matrix product: the input windows of a block of output positions are
//! gathered into a matrix (`positions x taps * C_in`) that stays in the second-level cache, and multiplied
//! with the weights (module `fused`; volumes of few channels: `same`; a kernel for each channel: `depthwise`). Blocks are cut from the shapes alone,
//! so the result has the same bits for any number of threads. Elsewhere the same function is composed of
//! candle's operators (module `composed`), around those of them whose gradients are wrong.

mod biased;
mod composed;
mod depthwise;
mod fused;
mod geometry;
mod instance;
mod node;
mod norm;
mod same;
mod spec;
mod transposed;
mod weights;
mod windows;

pub(crate) use geometry::Geometry;
pub use spec::ConvSpec;

use crate::Path;
use crate::activation::Act;
use candle_core::{Result, Tensor};

/// Convolution of `x (N, S.., C_in)` with `w (C_out, C_in / groups, k..)` and bias `b (C_out)` to `(N, S'..,
/// C_out)`; the rank (1, 2 or 3 spatial axes) is that of `w`. As in PyTorch it is a correlation: the kernel
/// is not flipped.
///
/// # Errors
/// If the shapes do not fit each other or the kernel, dilated, is larger than the padded input.
pub fn conv(x: &Tensor, w: &Tensor, b: Option<&Tensor>, spec: &ConvSpec, path: Path) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), w.dims(), spec)?;
    if let Some(b) = b
        && b.dims() != [geometry.outputs]
    {
        candle_core::bail!("conv: bias of shape {:?}, expected ({})", b.dims(), geometry.outputs)
    }
    if path.fused(x) {
        return node::conv(x, w, b, &geometry);
    }
    composed::conv(x, w, b, spec, &geometry)
}

/// `act(conv(x, w) + b)` as one node of the graph on the CPU; shapes as for [`conv`].
///
/// # Errors
/// If the shapes do not fit.
pub fn conv_act(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    spec: &ConvSpec,
    act: Act,
    path: Path,
) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), w.dims(), spec)?;
    if let Some(b) = b
        && b.dims() != [geometry.outputs]
    {
        candle_core::bail!("conv_act: bias of shape {:?}, expected ({})", b.dims(), geometry.outputs)
    }
    if path.fused(x) {
        return biased::conv_act(x, w, b, &geometry, act);
    }
    act.apply(&composed::conv(x, w, b, spec, &geometry)?, path)
}

/// [`conv`] without bias, batch normalisation with the statistics of the batch (Ioffe and Szegedy 2015, arXiv
/// 1502.03167), then `act`.
///
/// `gb (2, C_out)` holds the weight and the bias of the normalisation. Returns the output `(N, S'.., C_out)`,
/// the batch mean `(C_out)` and the biased variance `(C_out)`, the last two without graph.
///
/// # Errors
/// If the shapes do not fit, as for [`conv`], or `gb` is not `(2, C_out)`.
pub fn conv_bn_act(
    x: &Tensor,
    w: &Tensor,
    gb: &Tensor,
    spec: &ConvSpec,
    eps: f64,
    act: Act,
    path: Path,
) -> Result<(Tensor, Tensor, Tensor)> {
    let geometry = Geometry::new(x.dims(), w.dims(), spec)?;
    if gb.dims() != [2, geometry.outputs] {
        candle_core::bail!(
            "conv_bn_act: weight and bias of shape {:?}, expected (2, {})",
            gb.dims(),
            geometry.outputs
        )
    }
    if path.fused(x)
        && let Some(done) = node::conv_bn_act(x, w, gb, &geometry, eps, act)?
    {
        return Ok(done);
    }
    let y = conv(x, w, None, spec, path)?;
    crate::norm::batch_norm(&y, gb, eps, act, path)
}

/// [`conv`] without bias, normalisation of each sample and channel over space (Ulyanov et al. 2016, arXiv
/// 1607.08022), then `act`.
///
/// `gb (2, C_out)` holds the weight and the bias of the normalisation, if it has them.
///
/// # Errors
/// If the shapes do not fit, as for [`conv`], or `gb` is not `(2, C_out)`.
pub fn conv_instance_act(
    x: &Tensor,
    w: &Tensor,
    gb: Option<&Tensor>,
    spec: &ConvSpec,
    eps: f64,
    act: Act,
    path: Path,
) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), w.dims(), spec)?;
    if let Some(gb) = gb
        && gb.dims() != [2, geometry.outputs]
    {
        candle_core::bail!(
            "conv_instance_act: weight and bias of shape {:?}, expected (2, {})",
            gb.dims(),
            geometry.outputs
        )
    }
    if path.fused(x) && x.elem_count() > 0 {
        return instance::conv_instance_act(x, w, gb, &geometry, eps, act);
    }
    crate::norm::instance_norm_act(&conv(x, w, None, spec, path)?, gb, eps, act, path)
}

/// The fused transposed convolution of `x` with `w (C_in, C_out / groups, k..)` and bias `b (C_out)` to the
/// spatial sizes `out`, where it is a gradient of a convolution; see [`crate::conv_transpose`].
pub(crate) fn transposed(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    out: &[usize],
    spec: &ConvSpec,
) -> Result<Option<Tensor>> {
    let mut shape = vec![x.dim(0)?];
    shape.extend_from_slice(out);
    shape.push(w.dim(1)? * spec.groups);
    let geometry = Geometry::new(&shape, w.dims(), spec)?;
    if geometry.out_shape() != x.dims() {
        return Ok(None);
    }
    transposed::transposed(x, w, b, &geometry).map(Some)
}

#[cfg(test)]
mod tests;
