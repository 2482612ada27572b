//! `[method]`: which objective, and what it makes of a volume.

use super::Architecture;
use crate::augment::{Augment, AugmentConfig, Wanted};
use crate::encoder::ViT3d;
use crate::method::genesis::Spoil;
use crate::method::{GenesisConfig, Restoration, RestorationLoss, SuperResolutionConfig};
use selfsup_core::objective::{
    BarlowTwins, BarlowTwinsConfig, Byol, ByolConfig, Mae, MaeConfig, MoCo, MoCoConfig, MoCoV3, MoCoV3Config, Objective, SimClr,
    SimClrConfig, SimSiam, SimSiamConfig, VicReg, VicRegConfig, Views,
};
use selfsup_core::{Error, Result, Scope, TokenEncoder};
use serde::{Deserialize, Serialize};

/// `[method]`: `name` and the method's own keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum MethodConfig {
    /// Models Genesis.
    Genesis(GenesisConfig),
    /// Low resolution to high resolution.
    SuperResolution(SuperResolutionConfig),
    /// Masked autoencoder.
    Mae(MaeConfig),
    /// SimCLR.
    Simclr(SimClrConfig),
    /// MoCo v1 and v2.
    Moco(MoCoConfig),
    /// MoCo v3.
    MocoV3(MoCoV3Config),
    /// BYOL.
    Byol(ByolConfig),
    /// SimSiam.
    Simsiam(SimSiamConfig),
    /// Barlow Twins.
    BarlowTwins(BarlowTwinsConfig),
    /// VICReg.
    Vicreg(VicRegConfig),
}

impl Default for MethodConfig {
    fn default() -> Self {
        MethodConfig::Genesis(GenesisConfig::default())
    }
}

impl MethodConfig {
    /// Every method's name.
    pub const NAMES: [&'static str; 10] =
        ["genesis", "super-resolution", "mae", "simclr", "moco", "moco-v3", "byol", "simsiam", "barlow-twins", "vicreg"];

    /// The defaults of a method.
    ///
    /// # Errors
    /// If there is no such method.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "genesis" => MethodConfig::Genesis(GenesisConfig::default()),
            "super-resolution" => MethodConfig::SuperResolution(SuperResolutionConfig::default()),
            "mae" => MethodConfig::Mae(MaeConfig::default()),
            "simclr" => MethodConfig::Simclr(SimClrConfig::default()),
            "moco" => MethodConfig::Moco(MoCoConfig::default()),
            "moco-v3" => MethodConfig::MocoV3(MoCoV3Config::default()),
            "byol" => MethodConfig::Byol(ByolConfig::default()),
            "simsiam" => MethodConfig::Simsiam(SimSiamConfig::default()),
            "barlow-twins" => MethodConfig::BarlowTwins(BarlowTwinsConfig::default()),
            "vicreg" => MethodConfig::Vicreg(VicRegConfig::default()),
            other => return Err(Error::config(format!("method.name = \"{other}\": expected one of {}", Self::NAMES.join(", ")))),
        })
    }

    /// The method's name.
    pub fn name(&self) -> &'static str {
        match self {
            MethodConfig::Genesis(_) => "genesis",
            MethodConfig::SuperResolution(_) => "super-resolution",
            MethodConfig::Mae(_) => "mae",
            MethodConfig::Simclr(_) => "simclr",
            MethodConfig::Moco(_) => "moco",
            MethodConfig::MocoV3(_) => "moco-v3",
            MethodConfig::Byol(_) => "byol",
            MethodConfig::Simsiam(_) => "simsiam",
            MethodConfig::BarlowTwins(_) => "barlow-twins",
            MethodConfig::Vicreg(_) => "vicreg",
        }
    }

    /// Whether the method hides patches and needs an encoder of tokens.
    pub fn masked(&self) -> bool {
        matches!(self, MethodConfig::Mae(_))
    }

    /// Whether a decoder is trained that segmentation can start from.
    pub fn restores(&self) -> bool {
        matches!(self, MethodConfig::Genesis(_) | MethodConfig::SuperResolution(_))
    }

    /// What makes a sample of a volume; see [`AugmentConfig::views`] for `scale`.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn views(&self, augment: &AugmentConfig, scale: bool) -> Result<Augment> {
        let wanted = match self {
            MethodConfig::Genesis(c) => {
                c.check()?;
                Wanted::Spoilt(Box::new(Spoil(c.clone())))
            }
            MethodConfig::SuperResolution(c) => Wanted::Spoilt(Box::new(c.spoil()?)),
            MethodConfig::Mae(_) => Wanted::Plain,
            _ => Wanted::Joint(2),
        };
        augment.views(wanted, scale)
    }

    /// Builds the method around the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or a masked method is given another encoder than a transformer.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        let encoder = |s: &Scope| architecture.build(s);
        let restore =
            |loss: RestorationLoss| -> Result<Method> { Ok(Box::new(Restoration::new(scope, architecture.dense(scope, 1, false)?, loss))) };
        Ok(match self {
            MethodConfig::Genesis(c) => {
                c.check()?;
                restore(c.loss)?
            }
            MethodConfig::SuperResolution(c) => {
                c.spoil()?;
                restore(c.loss)?
            }
            MethodConfig::Mae(c) => {
                let Architecture::ViT(vit) = architecture else {
                    return Err(Error::config(
                        "method mae hides patches and needs a vision transformer: set encoder.name to vit3d_tiny, vit3d_small, vit3d_base or vit3d",
                    ));
                };
                let tokens = |s: &Scope| -> Result<Box<dyn TokenEncoder>> { Ok(Box::new(ViT3d::new(s, vit.clone())?)) };
                Box::new(Mae::new(scope, &tokens, c.clone())?)
            }
            MethodConfig::Simclr(c) => Box::new(SimClr::new(scope, &encoder, c.clone())?),
            MethodConfig::Moco(c) => Box::new(MoCo::new(scope, &encoder, c.clone())?),
            MethodConfig::MocoV3(c) => Box::new(MoCoV3::new(scope, &encoder, c.clone())?),
            MethodConfig::Byol(c) => Box::new(Byol::new(scope, &encoder, c.clone())?),
            MethodConfig::Simsiam(c) => Box::new(SimSiam::new(scope, &encoder, c.clone())?),
            MethodConfig::BarlowTwins(c) => Box::new(BarlowTwins::new(scope, &encoder, c.clone())?),
            MethodConfig::Vicreg(c) => Box::new(VicReg::new(scope, &encoder, c.clone())?),
        })
    }
}

/// Any method over views of volumes.
pub type Method = Box<dyn Objective<Batch = Views>>;
