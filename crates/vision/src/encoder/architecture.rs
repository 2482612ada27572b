//! A resolved network of images.

use super::{ConvNeXt, ConvNeXtConfig, ResNet, ResNetConfig, Swin, SwinConfig, ViT, ViTConfig};
use selfsup_core::{Encoder, Result, Scope};

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// A residual network.
    ResNet(ResNetConfig),
    /// A ConvNeXt.
    ConvNeXt(ConvNeXtConfig),
    /// A Swin transformer.
    Swin(SwinConfig),
    /// A vision transformer.
    ViT(ViTConfig),
}

impl Architecture {
    /// Builds the network in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn build(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Architecture::ResNet(c) => Box::new(ResNet::new(scope, c.clone())?),
            Architecture::ConvNeXt(c) => Box::new(ConvNeXt::new(scope, c.clone())?),
            Architecture::Swin(c) => Box::new(Swin::new(scope, c.clone())?),
            Architecture::ViT(c) => Box::new(ViT::new(scope, c.clone())?),
        })
    }
}
