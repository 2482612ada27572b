//! `[method]`: which objective, and what it makes of a volume.

use super::Architecture;
use crate::augment::{Augment, AugmentConfig, Wanted};
use crate::encoder::ViT3d;
use crate::method::genesis::Corruption;
use crate::method::{GenesisConfig, Restoration, RestorationLoss, SuperResolutionConfig};
use selfsup_core::config::Unread;
use selfsup_core::objective::{self, Needs, Networks, Views, boxed};
use selfsup_core::{Encoder, Error, Result, Scope, TokenEncoder};

selfsup_core::methods_over_views! {
    /// `[method]`: `name` and the method's own keys. Methods over views are those of images.
    pub enum MethodConfig {
        /// Models Genesis.
        Genesis(GenesisConfig) = "genesis",
        /// Low resolution to high resolution.
        SuperResolution(SuperResolutionConfig) = "super-resolution",
    }
}

impl MethodConfig {
    /// What encoder the method needs.
    pub fn needs(&self) -> Needs {
        self.over_views().map_or_else(Needs::default, |m| m.needs())
    }

    /// Whether a decoder is trained that segmentation can start from.
    pub fn restores(&self) -> bool {
        self.over_views().is_none()
    }

    /// Keys of `[augment]` that the method does not read: of those that [`MethodConfig::views`] wants one
    /// patch for, everything that tells views apart.
    pub fn unread(&self) -> Vec<Unread> {
        if self.over_views().is_some_and(|m| m.wanted().compares()) {
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

    /// What makes a sample of a volume ([`AugmentConfig::views`]).
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn views(&self, augment: &AugmentConfig) -> Result<Augment> {
        let wanted = match self {
            MethodConfig::Genesis(c) => {
                c.check()?;
                Wanted::Corrupted(Box::new(Corruption(c.clone())))
            }
            MethodConfig::SuperResolution(c) => Wanted::Corrupted(Box::new(c.corruption()?)),
            other => match other.over_views().map(|m| m.wanted()) {
                // Small crops are not made of volumes: methods of multi-crop compare the views alone.
                Some(objective::Wanted::Joint(n) | objective::Wanted::Multi(n)) => Wanted::Joint(n),
                Some(objective::Wanted::Plain) | None => Wanted::Plain,
            },
        };
        augment.views(wanted)
    }

    /// Builds the method around the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or a method that hides patches is given another encoder than a
    /// transformer.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        let restore = |loss: RestorationLoss| -> Result<Method> {
            Ok(boxed(Restoration::new(scope, architecture.dense(scope, 1, false)?, loss)))
        };
        match self {
            MethodConfig::Genesis(c) => {
                c.check()?;
                restore(c.loss)
            }
            MethodConfig::SuperResolution(c) => {
                c.corruption()?;
                restore(c.loss)
            }
            other => match other.over_views() {
                Some(method) => method.build(scope, architecture),
                None => Err(Error::config(format!("method {}: cannot be built from views", self.name()))),
            },
        }
    }
}

impl Networks for Architecture {
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.build(scope)
    }

    fn tokens(&self, scope: &Scope) -> Result<Box<dyn TokenEncoder>> {
        match self {
            Architecture::ViT(c, _) => Ok(Box::new(ViT3d::new(scope, c.clone())?)),
            _ => Err(Error::config(
                "this method hides patches and needs a vision transformer: set encoder.name to vit3d_tiny, vit3d_small, vit3d_base or vit3d",
            )),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Architecture::UNet(c) => c.channels,
            Architecture::Monai(c) => c.in_channels,
            Architecture::ResNet(c, _) => c.channels,
            Architecture::ViT(c, _) => c.channels,
        }
    }
}

/// Any method over views of volumes.
pub type Method = objective::Method<Views>;
