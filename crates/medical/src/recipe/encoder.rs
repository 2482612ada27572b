//! `[encoder]`: which network, of which size.

use crate::encoder::resnet::Shortcut;
use crate::encoder::{
    ActKind, Dense, MapEncoder, MonaiConfig, MonaiDecoder, MonaiEncoder, NormKind, ResNet3d, ResNet3dConfig,
    UNet, UNetConfig, UpDecoder, UpSpec, ViT3d, ViT3dConfig,
};
use selfsup_core::{Encoder, Error, Result, Role, Scope};
use serde::{Deserialize, Serialize};

/// `[encoder]`: a standard network by name; the other keys change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// `unet3d`, `unet2d` (every plane by itself), `monai_unet`, `resnet3d10`, `resnet3d18`, `resnet3d34`,
    /// `resnet3d50`, or `resnet3d` with `depths` and `widths`; `vit3d_tiny`, `vit3d_small`, `vit3d_base`, or
    /// `vit3d` with `dim`, `depth` and `heads`.
    pub name: String,
    /// U-Nets and ResNet: width of each level or stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Normalisation: of a U-Net, or of the decoder above a ResNet or ViT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    /// U-Nets: activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<ActKind>,
    /// MONAI's U-Net: stride into each level but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strides: Option<Vec<usize>>,
    /// MONAI's U-Net: convolutions of a residual unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_res_units: Option<usize>,
    /// ResNet: blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// ResNet: width of the stem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// ResNet: 1x1x1, 3x3x3, 1x1x1 blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<bool>,
    /// ResNet: 3x3x3 stem without stride and pooling; by default for patches of at most 32 voxels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small: Option<bool>,
    /// ResNet: MedicalNet's dilated last stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dilated: Option<bool>,
    /// ResNet: how shortcuts change shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// ViT: voxels of a box's sides (z, y, x); by default an eighth of the patch, at least 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<[usize; 3]>,
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
    /// Start from these weights: a folder with `model.safetensors`, or a file; MONAI, MedicalNet and our own
    /// names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig {
            name: "unet3d".into(),
            widths: None,
            norm: None,
            act: None,
            strides: None,
            num_res_units: None,
            depths: None,
            stem: None,
            bottleneck: None,
            small: None,
            dilated: None,
            shortcut: None,
            patch: None,
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            drop_path: None,
            pretrained: None,
        }
    }
}

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// A U-Net of two convolutions a stage.
    UNet(UNetConfig),
    /// MONAI's U-Net.
    Monai(MonaiConfig),
    /// A residual network.
    ResNet(ResNet3dConfig),
    /// A vision transformer.
    ViT(ViT3dConfig),
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
            Architecture::ResNet(c) => Box::new(ResNet3d::new(scope, c.clone())?),
            Architecture::ViT(c) => Box::new(ViT3d::new(scope, c.clone())?),
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
            Architecture::ViT(c) => Box::new(UpDecoder::new(
                &d,
                &encoder.scales(),
                UpSpec { norm: c.decoder_norm, stem: Some(16), ..spec },
            )?),
            Architecture::ResNet(c) => {
                Box::new(UpDecoder::new(&d, &encoder.scales(), UpSpec { norm: c.decoder_norm, ..spec })?)
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
    /// The network for patches of `size` voxels; `masked` methods get fixed positions as in MAE.
    ///
    /// # Errors
    /// If the name is unknown or the sizes do not fit.
    pub fn resolve(&self, size: [usize; 3], masked: bool) -> Result<Architecture> {
        let longest = size.iter().copied().max().unwrap_or(0);
        if let "unet3d" | "unet2d" = self.name.as_str() {
            let mut c = UNetConfig::new(1, self.widths.as_deref().unwrap_or(&[16, 32, 64, 128]));
            c.norm = self.norm.unwrap_or(c.norm);
            c.act = self.act.unwrap_or(c.act);
            c.planar = self.name == "unet2d";
            return Ok(Architecture::UNet(c));
        }
        if self.name == "monai_unet" {
            let channels = self.widths.clone().unwrap_or_else(|| vec![16, 32, 64, 128]);
            let strides = self.strides.clone().unwrap_or_else(|| vec![2; channels.len().saturating_sub(1)]);
            let mut c = MonaiConfig::new(1, 1, &channels, &strides);
            c.num_res_units = self.num_res_units.unwrap_or(0);
            c.norm = self.norm.unwrap_or(c.norm);
            c.act = self.act.unwrap_or(c.act);
            return Ok(Architecture::Monai(c));
        }
        if self.name.starts_with("resnet3d") {
            let base = if self.name == "resnet3d" {
                ResNet3dConfig::named("resnet3d18")
            } else {
                ResNet3dConfig::named(&self.name)
            };
            let mut c = base.ok_or_else(|| self.unknown())?;
            c.depths = self.depths.clone().unwrap_or(c.depths);
            c.widths = self.widths.clone().unwrap_or(c.widths);
            c.stem = self.stem.unwrap_or_else(|| c.widths.first().copied().unwrap_or(64));
            c.bottleneck = self.bottleneck.unwrap_or(c.bottleneck);
            c.small = self.small.unwrap_or(longest <= 32);
            c.dilated = self.dilated.unwrap_or(false);
            c.shortcut = self.shortcut.unwrap_or(c.shortcut);
            c.decoder_norm = self.norm.unwrap_or(c.decoder_norm);
            return Ok(Architecture::ResNet(c));
        }
        let patch = self.patch.unwrap_or_else(|| size.map(|s| (s / 8).max(2)));
        let base = if self.name == "vit3d" {
            ViT3dConfig::named("vit3d_tiny", size, patch)
        } else {
            ViT3dConfig::named(&self.name, size, patch)
        };
        let mut c = base.ok_or_else(|| self.unknown())?;
        c.trunk.dim = self.dim.unwrap_or(c.trunk.dim);
        c.trunk.depth = self.depth.unwrap_or(c.trunk.depth);
        c.trunk.heads = self.heads.unwrap_or(c.trunk.heads);
        c.trunk.hidden = (c.trunk.dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize;
        c.trunk.drop_path = self.drop_path.unwrap_or(0.0);
        c.decoder_norm = self.norm.unwrap_or(c.decoder_norm);
        c.fixed_positions = masked;
        if masked {
            c.trunk.init = selfsup_core::Init::XavierUniform;
        }
        Ok(Architecture::ViT(c))
    }

    fn unknown(&self) -> Error {
        Error::config(format!(
            "encoder.name = \"{}\": expected unet3d, unet2d, monai_unet, resnet3d10, resnet3d18, resnet3d34, resnet3d50, resnet3d, vit3d_tiny, \
             vit3d_small, vit3d_base or vit3d",
            self.name
        ))
    }
}
