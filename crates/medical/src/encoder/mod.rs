//! Encoders of volumes: U-Nets, residual networks and vision transformers in three dimensions, and the
//! decoders that make maps of them.
//!
//! Public inputs are `(N, C, D, H, W)` = `(N, C, z, y, x)`; inside, activations are channels-last.

pub mod decoder;
pub mod layers;
pub mod monai;
pub mod unet;

pub use decoder::{Dense, MapDecoder, UpDecoder, UpSpec};
pub use layers::{ActKind, NormKind};
pub use monai::{MonaiConfig, MonaiDecoder, MonaiEncoder};
pub use selfsup_core::encoder::{MapEncoder, Scale};
pub use selfsup_core::network::Shortcut;
pub use unet::{UNet, UNetConfig};

use candle_core::Tensor;
use selfsup_core::{Error, Result, network};

/// A residual network of volumes, MedicalNet's variant among them.
pub type ResNet3d = network::ResNet<3>;
/// Its shape.
pub type ResNet3dConfig = network::ResNetConfig<3>;
/// A vision transformer of volumes.
pub type ViT3d = network::ViT<3>;
/// Its shape.
pub type ViT3dConfig = network::ViTConfig<3>;

/// `(N, C, D, H, W)` with the expected number of channels to `(N, D, H, W, C)`, contiguous: the one
/// transposition of a forward pass.
pub(crate) fn channels_last(x: &Tensor, channels: usize) -> Result<Tensor> {
    network::channels_last(x, channels, 3)
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
