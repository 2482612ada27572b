//! Encoders over `(N, C, T)`: TS2Vec's dilated convolutions, PatchTST, and the residual network and the transformer
//! of the core over one axis.

mod dilated;
mod patchtst;

pub use dilated::{Dilated, DilatedConfig, largest};
pub use patchtst::{PatchTst, PatchTstConfig};

/// A residual network over time.
pub type ResNet1d = selfsup_core::network::ResNet<1>;
/// Its shape.
pub type ResNet1dConfig = selfsup_core::network::ResNetConfig<1>;
/// A transformer over patches of time.
pub type PatchTransformer = selfsup_core::network::ViT<1>;
/// Its shape.
pub type PatchTransformerConfig = selfsup_core::network::ViTConfig<1>;
