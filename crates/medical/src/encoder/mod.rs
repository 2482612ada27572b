//! Encoders of volumes: U-Nets, residual networks and vision transformers in three dimensions, and the
//! decoders that make maps of them.
//!
//! Public inputs are `(N, C, D, H, W)` = `(N, C, z, y, x)`; inside, activations are channels-last.

pub mod decoder;
pub mod layers;
pub mod monai;
pub mod resnet;
pub mod unet;
pub mod vit;

pub use decoder::{Dense, MapDecoder, UpDecoder, UpSpec};
pub use layers::{ActKind, NormKind};
pub use monai::{MonaiConfig, MonaiDecoder, MonaiEncoder};
pub use resnet::{ResNet3d, ResNet3dConfig};
pub use unet::{UNet, UNetConfig};
pub use vit::{ViT3d, ViT3dConfig};

use candle_core::Tensor;
use selfsup_core::{Encoder, Error, Pass, Result};

/// One of the maps of a [`MapEncoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Channels.
    pub width: usize,
    /// Voxels of the input between neighbouring positions, on each axis (of a planar network: within a
    /// plane); 0 where axes differ.
    pub stride: usize,
}

/// An encoder whose stages are maps, which a decoder brings back to the input's grid.
pub trait MapEncoder: Encoder {
    /// The maps of `x (N, C, D, H, W)`, finest first: `(N, D_i, H_i, W_i, C_i)`.
    ///
    /// # Errors
    /// If the shape does not fit.
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>>;

    /// Width and stride of each map.
    fn scales(&self) -> Vec<Scale>;
}

/// `(N, C, D, H, W)` with the expected number of channels to `(N, D, H, W, C)`, contiguous: the one
/// transposition of a forward pass.
pub(crate) fn channels_last(x: &Tensor, channels: usize) -> Result<Tensor> {
    match *x.dims() {
        [n, c, d, h, w] if c == channels && d > 0 && h > 0 && w > 0 => {
            // One channel has the same order of values both ways.
            if c == 1 {
                Ok(x.contiguous()?.reshape((n, d, h, w, 1))?)
            } else {
                Ok(x.permute((0, 2, 3, 4, 1))?.contiguous()?)
            }
        }
        ref other => Err(Error::input(
            "volume",
            format!("shape {other:?}: expected (N, {channels}, depth, height, width)"),
        )),
    }
}

/// The planes of `x (N, D, H, W, C)` as images, `(N * D, H, W, C)`.
pub(crate) fn planes(x: &Tensor) -> Result<Tensor> {
    let (n, d, h, w, c) = x.dims5()?;
    Ok(x.reshape((n * d, h, w, c))?)
}

/// Planes of `n` volumes, `(n * D, H, W, C)`, as `(n, D, H, W, C)`.
pub(crate) fn volumes(x: &Tensor, n: usize) -> Result<Tensor> {
    let (planes, h, w, c) = x.dims4()?;
    Ok(x.reshape((n, planes / n.max(1), h, w, c))?)
}

/// Refuses spatial sizes of `x (N, S.., C)` that are not multiples of `factor`.
pub(crate) fn divisible(x: &Tensor, factor: usize) -> Result<()> {
    match x.dims() {
        [_, space @ .., _] if space.iter().all(|s| s.is_multiple_of(factor)) => Ok(()),
        dims => Err(Error::input(
            "volume",
            format!(
                "sizes {:?}: this network halves them and needs multiples of {factor}; pad or crop",
                &dims[1..dims.len().max(2) - 1]
            ),
        )),
    }
}
