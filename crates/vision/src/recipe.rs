//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.

mod encoder;
mod released;

pub use crate::encoder::Architecture;
pub use crate::method::{ColourisationConfig, SuperResolutionConfig};
pub use encoder::{Activation, ConvNeXtKeys, EncoderConfig, ResNetKeys, SwinKeys, ViTKeys};

use selfsup_core::objective::{Needs, Networks, Views, Wanted};
use selfsup_core::{Encoder, Error, Result, Scope, TokenEncoder};

selfsup_core::methods_over_views! {
    /// `[method]`: `name` and the method's own keys. All methods of images are methods over views.
    pub enum MethodConfig {
        ..,
        /// Colourisation.
        Colourisation(ColourisationConfig) = "colourisation",
        /// Low resolution to high resolution.
        SuperResolution(SuperResolutionConfig) = "super-resolution",
    }
}

impl MethodConfig {
    /// Which views it reads.
    pub fn wanted(&self) -> Wanted {
        self.over_views().map_or(Wanted::Plain, |m| m.wanted())
    }

    /// What encoder it needs.
    pub fn needs(&self) -> Needs {
        self.over_views().map_or_else(Needs::default, |m| m.needs())
    }

    /// Whether it reads views in gray and, as their targets, their colours ([`crate::data::Colours`]). Its
    /// encoder has never seen colours, so a probe shows it gray pictures too.
    pub fn grays(&self) -> bool {
        matches!(self, MethodConfig::Colourisation(_))
    }

    /// Builds the method around the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or a method that hides patches is given a ResNet.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        match self.over_views() {
            Some(method) => method.build(scope, architecture),
            None => Err(Error::config(format!("method {}: cannot be built from views", self.name()))),
        }
    }
}

impl Networks for Architecture {
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.build(scope)
    }

    fn tokens(&self, scope: &Scope) -> Result<Box<dyn TokenEncoder>> {
        match self {
            Architecture::ViT(c) => Ok(Box::new(crate::encoder::ViT::new(scope, c.clone())?)),
            _ => Err(Error::config(
                "this method hides patches and needs a vision transformer: set encoder.name to vit_tiny, vit_small, vit_base, vit_large or vit",
            )),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Architecture::ResNet(c) => c.channels,
            Architecture::ConvNeXt(c) => c.channels,
            Architecture::Swin(c) => c.channels,
            Architecture::ViT(c) => c.channels,
        }
    }
}

/// Any method over image views.
pub type Method = selfsup_core::objective::Method<Views>;
