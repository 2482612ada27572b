//! Encoders of images: residual networks and vision transformers.

mod architecture;
pub mod resnet;
pub mod vit;

pub use architecture::Architecture;
pub use resnet::{ResNet, ResNetConfig};
pub use vit::{FinalNorm, Pool, Positioned, ViT, ViTConfig};

use candle_core::Tensor;
use selfsup_core::{Error, Result};

/// `(N, C, H, W)` with the expected number of channels to `(N, H, W, C)`, contiguous: the one transposition
/// of a forward pass.
pub(crate) fn channels_last(x: &Tensor, channels: usize) -> Result<Tensor> {
    match *x.dims() {
        [_, c, h, w] if c == channels && h > 0 && w > 0 => {
            // One channel has the same order of values both ways.
            if c == 1 {
                Ok(x.contiguous()?.reshape((x.dim(0)?, h, w, 1))?)
            } else {
                Ok(x.permute((0, 2, 3, 1))?.contiguous()?)
            }
        }
        ref other => {
            Err(Error::input("image", format!("shape {other:?}: expected (N, {channels}, height, width)")))
        }
    }
}
