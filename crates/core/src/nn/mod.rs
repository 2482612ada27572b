//! Layers. Each is a plain struct of tensors, built from a [`Scope`](crate::Scope), with a `forward` that
//! reads like its equation.
//!
//! Activations are channels-last; weights keep PyTorch's layout and names.

mod kv_cache;
mod layers;
mod patch;
mod pixels;
mod position;
mod rotary;
mod transformer;

pub use kv_cache::KvCache;
pub use layers::{
    BatchNorm, Conv, ConvBn, Embedding, LayerNorm, Linear, Mlp, MlpForm, MlpHead, MlpHeadNorm, RmsNorm,
};
pub use patch::{PatchEmbed, patchify, unpatchify};
pub use pixels::PixelDecoder;
pub use position::{Interpolation, interpolate_positions, sin_cos, sin_cos_1d, sin_cos_2d, sin_cos_3d};
pub use rotary::Rotation;
pub use transformer::{Block, Transformer, TransformerConfig};
