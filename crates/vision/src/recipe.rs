//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.

use crate::encoder::{Pool, ResNet, ResNetConfig, ViT, ViTConfig};
use selfsup_core::objective::{
    BarlowTwins, BarlowTwinsConfig, Byol, ByolConfig, Mae, MaeConfig, MoCo, MoCoConfig, MoCoV3, MoCoV3Config,
    SimClr, SimClrConfig, SimSiam, SimSiamConfig, VicReg, VicRegConfig, Views, boxed,
};
use selfsup_core::{Encoder, Error, Result, Scope, TokenEncoder};
use serde::{Deserialize, Serialize};

/// `[encoder]`: a standard network by name; the other keys change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// `resnet18`, `resnet34`, `resnet50`, `resnet101`, `resnet152`, `wide_resnet50_2`, `wide_resnet101_2`,
    /// or `resnet` with `depths` and `widths`; `vit_tiny`, `vit_small`, `vit_base`, `vit_large`, or `vit`
    /// with `dim`, `depth` and `heads`.
    pub name: String,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// ResNet: 3x3 stem without pooling; by default for images of at most 64 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_images: Option<bool>,
    /// ResNet: blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// ResNet: width per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// ResNet: width of the stem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// ResNet: 1x1, 3x3, 1x1 blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<bool>,
    /// ViT: pixels of a patch's side; by default 16, or the side of the image over 8 where it is smaller than
    /// 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// ViT: width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// ViT: blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// ViT: attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// ViT: width inside the perceptrons, as a multiple of `dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// ViT: stochastic depth of the last block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f32>,
    /// ViT: epsilon of the layer norms; by default what `config.json` beside the pretrained weights says
    /// (transformers' 1e-12), else timm's 1e-6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// ViT: how tokens become one vector, `class` or `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Start from these weights: a folder with `model.safetensors` (timm or Hugging Face layout), a file, or
    /// `org/name` on the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig {
            name: "resnet18".into(),
            channels: 3,
            small_images: None,
            depths: None,
            widths: None,
            stem: None,
            bottleneck: None,
            patch: None,
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            drop_path: None,
            eps: None,
            pool: None,
            pretrained: None,
        }
    }
}

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// A residual network.
    ResNet(ResNetConfig),
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
            Architecture::ViT(c) => Box::new(ViT::new(scope, c.clone())?),
        })
    }
}

impl EncoderConfig {
    /// The network for images of `size` pixels; `masked` methods get fixed positions as in MAE.
    ///
    /// # Errors
    /// If the name is unknown or the sizes do not fit.
    pub fn resolve(&self, size: usize, masked: bool) -> Result<Architecture> {
        if !matches!(self.channels, 1 | 3) {
            return Err(Error::config(format!("encoder.channels = {}: expected 1 or 3", self.channels)));
        }
        if self.name.contains("resnet") {
            let base = if self.name == "resnet" {
                ResNetConfig::named("resnet18")
            } else {
                ResNetConfig::named(&self.name)
            };
            let mut c = base.ok_or_else(|| self.unknown())?;
            c.channels = self.channels;
            c.small_images = self.small_images.unwrap_or(size <= 64);
            c.depths = self.depths.clone().unwrap_or(c.depths);
            c.widths = self.widths.clone().unwrap_or(c.widths);
            c.stem = self.stem.unwrap_or_else(|| c.widths.first().copied().unwrap_or(64));
            c.bottleneck = self.bottleneck.unwrap_or(c.bottleneck);
            return Ok(Architecture::ResNet(c));
        }
        let patch = self.patch.unwrap_or(if size >= 128 { 16 } else { (size / 8).max(1) });
        let base = if self.name == "vit" {
            ViTConfig::named("vit_tiny", size, patch)
        } else {
            ViTConfig::named(&self.name, size, patch)
        };
        let mut c = base.ok_or_else(|| self.unknown())?;
        c.channels = self.channels;
        c.trunk.dim = self.dim.unwrap_or(c.trunk.dim);
        c.trunk.depth = self.depth.unwrap_or(c.trunk.depth);
        c.trunk.heads = self.heads.unwrap_or(c.trunk.heads);
        c.trunk.hidden = (c.trunk.dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize;
        c.trunk.drop_path = self.drop_path.unwrap_or(0.0);
        c.trunk.eps = self.eps.unwrap_or(c.trunk.eps);
        if !(c.trunk.eps >= 0.0 && c.trunk.eps.is_finite()) {
            return Err(Error::config(format!(
                "encoder.eps = {}: expected a number of at least 0",
                c.trunk.eps
            )));
        }
        c.fixed_positions = masked;
        if masked {
            c.trunk.init = selfsup_core::Init::XavierUniform;
        }
        // MAE's class token is not trained towards anything: its papers' probes average the patches or
        // fine-tune.
        c.pool = self.pool.unwrap_or(if masked { Pool::Mean } else { Pool::Class });
        Ok(Architecture::ViT(c))
    }

    fn unknown(&self) -> Error {
        Error::config(format!(
            "encoder.name = \"{}\": expected resnet18, resnet34, resnet50, resnet101, resnet152, wide_resnet50_2, wide_resnet101_2, resnet, \
             vit_tiny, vit_small, vit_base, vit_large or vit",
            self.name
        ))
    }
}

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
            MethodConfig::Simclr(c) => boxed(SimClr::new(scope, &encoder, c.clone())?),
            MethodConfig::Moco(c) => boxed(MoCo::new(scope, &encoder, c.clone())?),
            MethodConfig::MocoV3(c) => boxed(MoCoV3::new(scope, &encoder, c.clone())?),
            MethodConfig::Byol(c) => boxed(Byol::new(scope, &encoder, c.clone())?),
            MethodConfig::Simsiam(c) => boxed(SimSiam::new(scope, &encoder, c.clone())?),
            MethodConfig::BarlowTwins(c) => boxed(BarlowTwins::new(scope, &encoder, c.clone())?),
            MethodConfig::Vicreg(c) => boxed(VicReg::new(scope, &encoder, c.clone())?),
            MethodConfig::Mae(c) => {
                let Architecture::ViT(vit) = architecture else {
                    return Err(Error::config(
                        "method mae hides patches and needs a vision transformer: set encoder.name to vit_tiny, vit_small, vit_base, vit_large or vit",
                    ));
                };
                let tokens =
                    |s: &Scope| -> Result<Box<dyn TokenEncoder>> { Ok(Box::new(ViT::new(s, vit.clone())?)) };
                boxed(Mae::new(scope, &tokens, c.clone())?)
            }
        })
    }
}

/// Any method over image views.
pub type Method = selfsup_core::objective::Method<Views>;
