//! `[method]`: which objective, and what it makes of a volume.

use super::Architecture;
use crate::augment::{Augment, AugmentConfig, Wanted};
use crate::encoder::ViT3d;
use crate::method::genesis::Spoil;
use crate::method::{GenesisConfig, Restoration, RestorationLoss, SuperResolutionConfig};
use selfsup_core::config::Unread;
use selfsup_core::objective::{
    BarlowTwins, BarlowTwinsConfig, Byol, ByolConfig, Mae, MaeConfig, MoCo, MoCoConfig, MoCoV3, MoCoV3Config,
    Objective, SimClr, SimClrConfig, SimSiam, SimSiamConfig, VicReg, VicRegConfig, Views,
};
use selfsup_core::{Error, Result, Scope, TokenEncoder};

selfsup_core::method_config! {
    /// `[method]`: `name` and the method's own keys.
    pub enum MethodConfig {
        /// Models Genesis.
        Genesis(GenesisConfig) = "genesis",
        /// Low resolution to high resolution.
        SuperResolution(SuperResolutionConfig) = "super-resolution",
        /// Masked autoencoder.
        Mae(MaeConfig) = "mae",
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
    }
}

impl MethodConfig {
    /// Whether the method hides patches and needs an encoder of tokens.
    pub fn masked(&self) -> bool {
        matches!(self, MethodConfig::Mae(_))
    }

    /// Whether a decoder is trained that segmentation can start from.
    pub fn restores(&self) -> bool {
        matches!(self, MethodConfig::Genesis(_) | MethodConfig::SuperResolution(_))
    }

    /// Keys of `[augment]` that the method does not read: of those that [`MethodConfig::views`] wants one patch
    /// for, everything that tells views apart.
    pub fn unread(&self) -> Vec<Unread> {
        if !(self.masked() || self.restores()) {
            return Vec::new();
        }
        let why = format!("is read by methods that compare views: {} sees one patch, mirrored", self.name());
        let joint = [
            "region",
            "rotate",
            "zoom",
            "elastic",
            "elastic_nodes",
            "gamma",
            "gamma_p",
            "noise",
            "noise_p",
            "bias",
            "bias_p",
        ];
        Unread::all("augment", &joint, &why)
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
        let restore = |loss: RestorationLoss| -> Result<Method> {
            Ok(Box::new(Restoration::new(scope, architecture.dense(scope, 1, false)?, loss)))
        };
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
                let tokens = |s: &Scope| -> Result<Box<dyn TokenEncoder>> {
                    Ok(Box::new(ViT3d::new(s, vit.clone())?))
                };
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
