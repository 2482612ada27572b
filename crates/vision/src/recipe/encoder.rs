//! `[encoder]`: which network, of which size.

use crate::encoder::{Pool, ResNet, ResNetConfig, ViT, ViTConfig};
use selfsup_core::objective::Needs;
use selfsup_core::{Encoder, Error, Result, Scope};
use serde::{Deserialize, Serialize};

/// The keys of a residual network: a standard one by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetKeys {
    /// `resnet18`, `resnet34`, `resnet50`, `resnet101`, `resnet152`, `wide_resnet50_2`, `wide_resnet101_2`,
    /// or `resnet` with `depths` and `widths`.
    pub name: String,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// 3x3 stem without pooling; by default for images of at most 64 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_images: Option<bool>,
    /// Blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// Width per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Width of the stem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// 1x1, 3x3, 1x1 blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<bool>,
    /// Start from these weights: a folder with `model.safetensors` (timm or Hugging Face layout), a file, or
    /// `org/name` on the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ResNetKeys {
    fn default() -> Self {
        ResNetKeys {
            name: "resnet18".into(),
            channels: 3,
            small_images: None,
            depths: None,
            widths: None,
            stem: None,
            bottleneck: None,
            pretrained: None,
        }
    }
}

/// The keys of a vision transformer: a standard one by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViTKeys {
    /// `vit_tiny`, `vit_small`, `vit_base`, `vit_large`, or `vit` with `dim`, `depth` and `heads`.
    pub name: String,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// Pixels of a patch's side; by default 16, or the side of the image over 8 where it is smaller than
    /// 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// Width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Width inside the MLPs, as a multiple of `dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// Stochastic depth of the last block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f32>,
    /// Epsilon of the layer norms; by default what `config.json` beside the pretrained weights says
    /// (transformers' 1e-12), else timm's 1e-6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// How tokens become one vector, `class` or `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Start from these weights: a folder with `model.safetensors` (timm or Hugging Face layout), a file, or
    /// `org/name` on the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ViTKeys {
    fn default() -> Self {
        ViTKeys {
            name: "vit_tiny".into(),
            channels: 3,
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

selfsup_core::encoder_config! {
    /// `[encoder]`: the keys of a network, whose name says which they are.
    pub enum EncoderConfig {
        /// A residual network.
        ResNet(ResNetKeys) = [
            "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2", "resnet",
        ],
        /// A vision transformer.
        ViT(ViTKeys) = ["vit_tiny", "vit_small", "vit_base", "vit_large", "vit"],
    }
}

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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
    /// Channels of the images: 1 or 3.
    pub fn channels(&self) -> usize {
        match self {
            EncoderConfig::ResNet(c) => c.channels,
            EncoderConfig::ViT(c) => c.channels,
        }
    }

    /// The network for images of `size` pixels and a method of these needs.
    ///
    /// # Errors
    /// If the name is unknown or the sizes do not fit.
    pub fn resolve(&self, size: usize, needs: Needs) -> Result<Architecture> {
        if !matches!(self.channels(), 1 | 3) {
            return Err(Error::config(format!("encoder.channels = {}: expected 1 or 3", self.channels())));
        }
        match self {
            EncoderConfig::ResNet(c) => {
                Ok(Architecture::ResNet(c.resolve(size).ok_or_else(|| self.unknown())?))
            }
            EncoderConfig::ViT(c) => {
                let c = c.resolve(size, needs).ok_or_else(|| self.unknown())?;
                if !(c.trunk.eps >= 0.0 && c.trunk.eps.is_finite()) {
                    return Err(Error::config(format!(
                        "encoder.eps = {}: expected a number of at least 0",
                        c.trunk.eps
                    )));
                }
                Ok(Architecture::ViT(c))
            }
        }
    }

    /// Builds the network for images of `size` pixels in `scope`, for a method without needs of its own.
    ///
    /// # Errors
    /// If the name is unknown or the sizes do not fit.
    pub fn build(&self, scope: &Scope, size: usize) -> Result<Box<dyn Encoder>> {
        self.resolve(size, Needs::default())?.build(scope)
    }

    fn unknown(&self) -> Error {
        Error::config(format!(
            "encoder.name = \"{}\": expected one of {}",
            self.name(),
            Self::NAMES.join(", ")
        ))
    }
}

impl ResNetKeys {
    fn resolve(&self, size: usize) -> Option<ResNetConfig> {
        let mut c = ResNetConfig::named(if self.name == "resnet" { "resnet18" } else { &self.name })?;
        c.channels = self.channels;
        c.small_images = self.small_images.unwrap_or(size <= 64);
        c.depths = self.depths.clone().unwrap_or(c.depths);
        c.widths = self.widths.clone().unwrap_or(c.widths);
        c.stem = self.stem.unwrap_or_else(|| c.widths.first().copied().unwrap_or(64));
        c.bottleneck = self.bottleneck.unwrap_or(c.bottleneck);
        Some(c)
    }
}

impl ViTKeys {
    fn resolve(&self, size: usize, needs: Needs) -> Option<ViTConfig> {
        let patch = self.patch.unwrap_or(if size >= 128 { 16 } else { (size / 8).max(1) });
        let name = if self.name == "vit" { "vit_tiny" } else { &self.name };
        let mut c = ViTConfig::named(name, size, patch)?;
        c.channels = self.channels;
        c.trunk.dim = self.dim.unwrap_or(c.trunk.dim);
        c.trunk.depth = self.depth.unwrap_or(c.trunk.depth);
        c.trunk.heads = self.heads.unwrap_or(c.trunk.heads);
        c.trunk.hidden = (c.trunk.dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize;
        c.trunk.drop_path = self.drop_path.unwrap_or(0.0);
        c.trunk.eps = self.eps.unwrap_or(c.trunk.eps);
        c.fixed_positions = needs.fixed_positions;
        if needs.fixed_positions {
            c.trunk.init = selfsup_core::Init::XavierUniform;
        }
        c.pool = self.pool.unwrap_or(if needs.mean_pool { Pool::Mean } else { Pool::Class });
        Some(c)
    }
}
