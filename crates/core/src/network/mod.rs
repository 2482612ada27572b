//! Networks over one to three axes: one residual network and one vision transformer serve signals, images and
//! volumes.
//!
//! The number of axes is a parameter of the type: `ViT<1>` takes `(N, C, T)`, `ViT<2>` takes `(N, C, H, W)`,
//! `ViT<3>` takes `(N, C, D, H, W)`. A modality adds what is its own: the names of released weights, the keys of a file.

mod layout;
mod resnet;
mod vit;

pub use layout::channels_last;
pub use resnet::{ResNet, ResNetConfig, Shortcut};
pub use vit::{FinalNorm, Pool, Positioned, ViT, ViTConfig};
