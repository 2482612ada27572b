//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.

mod encoder;

pub use encoder::{Architecture, EncoderConfig, ResNetKeys, ViTKeys};

use crate::encoder::ViT;
use selfsup_core::objective::{
    BarlowTwins, BarlowTwinsConfig, Byol, ByolConfig, Mae, MaeConfig, MoCo, MoCoConfig, MoCoV3, MoCoV3Config,
    Objective, SimClr, SimClrConfig, SimSiam, SimSiamConfig, VicReg, VicRegConfig, Views,
};
use selfsup_core::{Error, Result, Scope, TokenEncoder};

selfsup_core::method_config! {
    /// `[method]`: `name` and the method's own keys.
    pub enum MethodConfig {
        /// SimCLR.
        Simclr(SimClrConfig) = "simclr",
        /// MoCo v1 and v2.
        Moco(MoCoConfig) = "moco",
        /// MoCo v3.
        MocoV3(MoCoV3Config) = "moco-v3",
        /// BYOL.
        Byol(ByolConfig) = "byol",
        /// SimSiam.
        Simsiam(SimSiamConfig) = "simsiam",
        /// Barlow Twins.
        BarlowTwins(BarlowTwinsConfig) = "barlow-twins",
        /// VICReg.
        Vicreg(VicRegConfig) = "vicreg",
        /// Masked autoencoder.
        Mae(MaeConfig) = "mae",
    }
}

impl MethodConfig {
    /// Whether the method hides patches and needs an encoder of tokens.
    pub fn masked(&self) -> bool {
        matches!(self, MethodConfig::Mae(_))
    }

    /// Views of each sample.
    pub fn views(&self) -> usize {
        if self.masked() { 1 } else { 2 }
    }

    /// Builds the method around the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or a masked method is given a ResNet.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        let encoder = |s: &Scope| architecture.build(s);
        Ok(match self {
            MethodConfig::Simclr(c) => Box::new(SimClr::new(scope, &encoder, c.clone())?),
            MethodConfig::Moco(c) => Box::new(MoCo::new(scope, &encoder, c.clone())?),
            MethodConfig::MocoV3(c) => Box::new(MoCoV3::new(scope, &encoder, c.clone())?),
            MethodConfig::Byol(c) => Box::new(Byol::new(scope, &encoder, c.clone())?),
            MethodConfig::Simsiam(c) => Box::new(SimSiam::new(scope, &encoder, c.clone())?),
            MethodConfig::BarlowTwins(c) => Box::new(BarlowTwins::new(scope, &encoder, c.clone())?),
            MethodConfig::Vicreg(c) => Box::new(VicReg::new(scope, &encoder, c.clone())?),
            MethodConfig::Mae(c) => {
                let Architecture::ViT(vit) = architecture else {
                    return Err(Error::config(
                        "method mae hides patches and needs a vision transformer: set encoder.name to vit_tiny, vit_small, vit_base, vit_large or vit",
                    ));
                };
                let tokens =
                    |s: &Scope| -> Result<Box<dyn TokenEncoder>> { Ok(Box::new(ViT::new(s, vit.clone())?)) };
                Box::new(Mae::new(scope, &tokens, c.clone())?)
            }
        })
    }
}

/// Any method over image views.
pub type Method = Box<dyn Objective<Batch = Views>>;
