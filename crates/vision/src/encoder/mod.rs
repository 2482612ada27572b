//! Encoders of images: residual networks and vision transformers.

mod architecture;
mod attention;

pub use architecture::Architecture;
pub use attention::last_attention;
pub use selfsup_core::network::{FinalNorm, Pool, Positioned};

use selfsup_core::network;

/// A residual network of images.
pub type ResNet = network::ResNet<2>;
/// Its shape.
pub type ResNetConfig = network::ResNetConfig<2>;
/// A vision transformer of images.
pub type ViT = network::ViT<2>;
/// Its shape.
pub type ViTConfig = network::ViTConfig<2>;
