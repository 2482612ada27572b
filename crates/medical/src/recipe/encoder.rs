//! `[encoder]`: which network, of which size.

use crate::encoder::{
    ActKind, Dense, MapEncoder, MonaiConfig, MonaiDecoder, MonaiEncoder, NormKind, ResNet3d, ResNet3dConfig,
    UNet, UNetConfig, UpDecoder, UpSpec, ViT3d, ViT3dConfig,
};
use crate::per_axis::three_or_none;
use selfsup_core::network::Shortcut;
use selfsup_core::objective::Needs;
use selfsup_core::{Encoder, Error, Result, Role, Scope};
use serde::{Deserialize, Serialize};

/// The keys of a U-Net of two convolutions a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNetKeys {
    /// `unet3d`, or `unet2d` (every plane by itself).
    pub name: String,
    /// Width of each level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Normalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    /// Activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<ActKind>,
    /// Start from these weights: a folder with `model.safetensors`, or a file; MONAI, MedicalNet and our own
    /// names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for UNetKeys {
    fn default() -> Self {
        UNetKeys { name: "unet3d".into(), widths: None, norm: None, act: None, pretrained: None }
    }
}

/// The keys of MONAI's U-Net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonaiKeys {
    /// `monai_unet`.
    pub name: String,
    /// Width of each level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Stride into each level but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strides: Option<Vec<usize>>,
    /// Convolutions of a residual unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_res_units: Option<usize>,
    /// Normalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    /// Activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<ActKind>,
    /// Start from these weights: a folder with `model.safetensors`, or a file; MONAI, MedicalNet and our own
    /// names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for MonaiKeys {
    fn default() -> Self {
        MonaiKeys {
            name: "monai_unet".into(),
            widths: None,
            strides: None,
            num_res_units: None,
            norm: None,
            act: None,
            pretrained: None,
        }
    }
}

/// The keys of a residual network: a standard one by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNet3dKeys {
    /// `resnet3d10`, `resnet3d18`, `resnet3d34`, `resnet3d50`, or `resnet3d` with `depths` and `widths`.
    pub name: String,
    /// Blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// Width of each stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Width of the stem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// 1x1x1, 3x3x3, 1x1x1 blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<bool>,
    /// 3x3x3 stem without stride and pooling; by default for patches of at most 32 voxels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small: Option<bool>,
    /// MedicalNet's dilated last stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dilated: Option<bool>,
    /// How shortcuts change shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// Normalisation of the decoder above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    /// Start from these weights: a folder with `model.safetensors`, or a file; MONAI, MedicalNet and our own
    /// names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ResNet3dKeys {
    fn default() -> Self {
        ResNet3dKeys {
            name: "resnet3d18".into(),
            depths: None,
            widths: None,
            stem: None,
            bottleneck: None,
            small: None,
            dilated: None,
            shortcut: None,
            norm: None,
            pretrained: None,
        }
    }
}

/// The keys of a vision transformer: a standard one by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViT3dKeys {
    /// `vit3d_tiny`, `vit3d_small`, `vit3d_base`, or `vit3d` with `dim`, `depth` and `heads`.
    pub name: String,
    /// Voxels of a box's sides (z, y, x); by default an eighth of the patch, at least 2. One number stands for all
    /// three.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "three_or_none")]
    pub patch: Option<[usize; 3]>,
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
    /// Normalisation of the decoder above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    /// Start from these weights: a folder with `model.safetensors`, or a file; MONAI, MedicalNet and our own
    /// names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ViT3dKeys {
    fn default() -> Self {
        ViT3dKeys {
            name: "vit3d_tiny".into(),
            patch: None,
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            drop_path: None,
            norm: None,
            pretrained: None,
        }
    }
}

selfsup_core::encoder_config! {
    /// `[encoder]`: the keys of a network, whose name says which they are.
    pub enum EncoderConfig {
        /// A U-Net of two convolutions a stage.
        UNet(UNetKeys) = ["unet3d", "unet2d"],
        /// MONAI's U-Net.
        Monai(MonaiKeys) = ["monai_unet"],
        /// A residual network.
        ResNet(ResNet3dKeys) = ["resnet3d10", "resnet3d18", "resnet3d34", "resnet3d50", "resnet3d"],
        /// A vision transformer.
        ViT(ViT3dKeys) = ["vit3d_tiny", "vit3d_small", "vit3d_base", "vit3d"],
    }
}

/// The normalisation of a decoder above a network that has another one, or none.
const DECODER_NORM: NormKind = NormKind::Instance;

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// A U-Net of two convolutions a stage.
    UNet(UNetConfig),
    /// MONAI's U-Net.
    Monai(MonaiConfig),
    /// A residual network, and the normalisation of a decoder that brings its maps back to voxels.
    ResNet(ResNet3dConfig, NormKind),
    /// A vision transformer, and the normalisation of its decoder.
    ViT(ViT3dConfig, NormKind),
}

impl Architecture {
    /// Builds the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn maps(&self, scope: &Scope) -> Result<Box<dyn MapEncoder>> {
        Ok(match self {
            Architecture::UNet(c) => Box::new(UNet::new(scope, c.clone())?),
            Architecture::Monai(c) => Box::new(MonaiEncoder::new(scope, c.clone())?),
            Architecture::ResNet(c, _) => Box::new(ResNet3d::new(scope, c.clone())?),
            Architecture::ViT(c, _) => Box::new(ViT3d::new(scope, c.clone())?),
        })
    }

    /// Builds the encoder in `scope`, for methods that take its features.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn build(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(self.maps(scope)?)
    }

    /// Builds encoder and decoder at `encoder` and `decoder` of `scope`: `outputs` values for every voxel.
    /// The tensors of a frozen encoder have the role of such.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn dense(&self, scope: &Scope, outputs: usize, frozen: bool) -> Result<Dense> {
        let (e, d) = (scope.sub("encoder"), scope.sub("decoder").top());
        let e = if frozen { e.with_role(Role::Frozen) } else { e };
        let encoder = self.maps(&e)?;
        let spec =
            UpSpec { outputs, norm: NormKind::Instance, act: ActKind::Relu, planar: false, stem: None };
        let decoder: Box<dyn crate::encoder::MapDecoder> = match self {
            Architecture::Monai(c) => {
                Box::new(MonaiDecoder::new(&d, &MonaiConfig { out_channels: outputs, ..c.clone() })?)
            }
            Architecture::UNet(c) => Box::new(UpDecoder::new(
                &d,
                &encoder.scales(),
                UpSpec { norm: c.norm, act: c.act, planar: c.planar, ..spec },
            )?),
            Architecture::ViT(_, norm) => Box::new(UpDecoder::new(
                &d,
                &encoder.scales(),
                UpSpec { norm: *norm, stem: Some(16), ..spec },
            )?),
            Architecture::ResNet(_, norm) => {
                Box::new(UpDecoder::new(&d, &encoder.scales(), UpSpec { norm: *norm, ..spec })?)
            }
        };
        Ok(Dense { encoder, decoder })
    }

    /// Levels of a MONAI U-Net, for translating its names.
    pub fn monai_levels(&self) -> Option<usize> {
        if let Architecture::Monai(c) = self { Some(c.levels()) } else { None }
    }
}

impl EncoderConfig {
    /// The network for patches of `size` voxels and a method of these needs.
    ///
    /// # Errors
    /// If the name is unknown or the sizes do not fit.
    pub fn resolve(&self, size: [usize; 3], needs: Needs) -> Result<Architecture> {
        let found = match self {
            EncoderConfig::UNet(c) => Some(Architecture::UNet(c.resolve())),
            EncoderConfig::Monai(c) => Some(Architecture::Monai(c.resolve())),
            EncoderConfig::ResNet(c) => {
                c.resolve(size).map(|network| Architecture::ResNet(network, c.norm.unwrap_or(DECODER_NORM)))
            }
            EncoderConfig::ViT(c) => {
                let network = c.resolve(size, needs);
                network.map(|network| Architecture::ViT(network, c.norm.unwrap_or(DECODER_NORM)))
            }
        };
        found.ok_or_else(|| {
            let known = Self::NAMES.join(", ");
            Error::config(format!("encoder.name = \"{}\": expected one of {known}", self.name()))
        })
    }
}

impl UNetKeys {
    fn resolve(&self) -> UNetConfig {
        let mut c = UNetConfig::new(1, self.widths.as_deref().unwrap_or(&[16, 32, 64, 128]));
        c.norm = self.norm.unwrap_or(c.norm);
        c.act = self.act.unwrap_or(c.act);
        c.planar = self.name == "unet2d";
        c
    }
}

impl MonaiKeys {
    fn resolve(&self) -> MonaiConfig {
        let channels = self.widths.clone().unwrap_or_else(|| vec![16, 32, 64, 128]);
        let strides = self.strides.clone().unwrap_or_else(|| vec![2; channels.len().saturating_sub(1)]);
        let mut c = MonaiConfig::new(1, 1, &channels, &strides);
        c.num_res_units = self.num_res_units.unwrap_or(0);
        c.norm = self.norm.unwrap_or(c.norm);
        c.act = self.act.unwrap_or(c.act);
        c
    }
}

impl ResNet3dKeys {
    fn resolve(&self, size: [usize; 3]) -> Option<ResNet3dConfig> {
        let mut c = ResNet3dConfig::named(if self.name == "resnet3d" { "resnet3d18" } else { &self.name })?;
        c.depths = self.depths.clone().unwrap_or(c.depths);
        c.widths = self.widths.clone().unwrap_or(c.widths);
        c.stem = self.stem.unwrap_or_else(|| c.widths.first().copied().unwrap_or(64));
        c.bottleneck = self.bottleneck.unwrap_or(c.bottleneck);
        c.small = self.small.unwrap_or(size.iter().all(|s| *s <= 32));
        c.dilated = self.dilated.unwrap_or(false);
        c.shortcut = self.shortcut.unwrap_or(c.shortcut);
        Some(c)
    }
}

impl ViT3dKeys {
    fn resolve(&self, size: [usize; 3], needs: Needs) -> Option<ViT3dConfig> {
        let patch = self.patch.unwrap_or_else(|| size.map(|s| (s / 8).max(2)));
        let name = if self.name == "vit3d" { "vit3d_tiny" } else { &self.name };
        let mut c = ViT3dConfig::named(name, size, patch)?;
        c.trunk.dim = self.dim.unwrap_or(c.trunk.dim);
        c.trunk.depth = self.depth.unwrap_or(c.trunk.depth);
        c.trunk.heads = self.heads.unwrap_or(c.trunk.heads);
        c.trunk.hidden = (c.trunk.dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize;
        c.trunk.drop_path = self.drop_path.unwrap_or(0.0);
        c.fixed_positions = needs.fixed_positions;
        if needs.fixed_positions {
            c.trunk.init = selfsup_core::Init::XavierUniform;
        }
        Some(c)
    }
}
