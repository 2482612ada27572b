//! The layout of inputs, and what messages call them.

use crate::error::{Error, Result};
use candle_core::Tensor;

/// What an input over this many axes is called.
pub(super) fn input(axes: usize) -> &'static str {
    match axes {
        1 => "signal",
        3 => "volume",
        _ => "image",
    }
}

/// `(N, C, S..)` over `axes` axes with the expected number of channels to `(N, S.., C)`, contiguous: the one
/// transposition of a forward pass.
///
/// # Errors
/// If the shape is another, or a size is 0.
pub fn channels_last(x: &Tensor, channels: usize, axes: usize) -> Result<Tensor> {
    let dims = x.dims();
    if dims.len() != axes + 2 || dims[1] != channels || dims[2..].contains(&0) {
        let space = match axes {
            1 => "time",
            3 => "depth, height, width",
            _ => "height, width",
        };
        return Err(Error::input(input(axes), format!("shape {dims:?}: expected (N, {channels}, {space})")));
    }
    // One channel has the same order of values both ways.
    if channels == 1 {
        let shape: Vec<usize> = [&dims[..1], &dims[2..], &[1]].concat();
        return Ok(x.contiguous()?.reshape(shape)?);
    }
    let order: Vec<usize> = [0].into_iter().chain(2..axes + 2).chain([1]).collect();
    Ok(x.permute(order)?.contiguous()?)
}
