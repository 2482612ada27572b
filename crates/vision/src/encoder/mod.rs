//! Encoders of images: residual networks, ConvNeXt, Swin and vision transformers.

mod architecture;
mod attention;
pub mod convnext;
pub mod swin;

pub use architecture::Architecture;
pub use attention::last_attention;
pub use convnext::{ConvNeXt, ConvNeXtConfig};
pub use selfsup_core::network::{FinalNorm, Pool, Positioned};
pub use swin::{Swin, SwinConfig};

use selfsup_core::network;

/// A residual network of images.
pub type ResNet = network::ResNet<2>;
/// Its shape.
pub type ResNetConfig = network::ResNetConfig<2>;
/// A vision transformer of images.
pub type ViT = network::ViT<2>;
/// Its shape.
pub type ViTConfig = network::ViTConfig<2>;
