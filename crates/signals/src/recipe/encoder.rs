//! `[encoder]`: which network, of which size.

use crate::encoder::{
    Dilated, DilatedConfig, PatchTransformer, PatchTransformerConfig, PatchTst, PatchTstConfig, ResNet1d,
    ResNet1dConfig,
};
use selfsup_core::network::{FinalNorm, Pool, Positioned, Shortcut};
use selfsup_core::nn::{Interpolation, TransformerConfig};
use selfsup_core::objective::{Needs, Networks};
use selfsup_core::{Encoder, Error, Result, Scope, TokenEncoder};
use serde::{Deserialize, Serialize};

/// The keys of TS2Vec's dilated convolutions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DilatedKeys {
    /// `dilated`.
    pub name: String,
    /// Channels of the signals; those that `signal.channels` names, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Width of the blocks.
    pub hidden: usize,
    /// Width of the representation.
    pub dim: usize,
    /// Blocks before the last one: each doubles the dilation.
    pub depth: usize,
    /// Dropout of the representation.
    pub dropout: f32,
    /// Start from these weights: a folder with `model.safetensors`, or a file; TS2Vec's names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for DilatedKeys {
    fn default() -> Self {
        DilatedKeys {
            name: "dilated".into(),
            channels: None,
            hidden: 64,
            dim: 320,
            depth: 10,
            dropout: 0.1,
            pretrained: None,
        }
    }
}

/// The keys of a residual network over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetKeys {
    /// `resnet1d18`, `resnet1d34`, `resnet1d50`.
    pub name: String,
    /// Channels of the signals; those that `signal.channels` names, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// Width of each stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Start from these weights: a folder with `model.safetensors`, or a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ResNetKeys {
    fn default() -> Self {
        ResNetKeys { name: "resnet1d18".into(), channels: None, depths: None, widths: None, pretrained: None }
    }
}

/// The keys of a transformer over patches of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchKeys {
    /// `patch_transformer`.
    pub name: String,
    /// Channels of the signals; those that `signal.channels` names, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Samples of a patch; `augment.length` must be a multiple.
    pub patch: usize,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the MLPs, as a multiple of `dim`.
    pub mlp_ratio: f64,
    /// Dropout.
    pub dropout: f32,
    /// Start from these weights: a folder with `model.safetensors`, or a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for PatchKeys {
    fn default() -> Self {
        PatchKeys {
            name: "patch_transformer".into(),
            channels: None,
            patch: 16,
            dim: 128,
            depth: 3,
            heads: 8,
            mlp_ratio: 4.0,
            dropout: 0.0,
            pretrained: None,
        }
    }
}

/// The keys of PatchTST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchTstKeys {
    /// `patchtst`.
    pub name: String,
    /// Channels of the signals; those that `signal.channels` names, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Samples of a patch.
    pub patch: usize,
    /// Samples between the beginnings of two patches; a patch where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the MLPs.
    pub hidden: usize,
    /// Dropout.
    pub dropout: f32,
    /// Start from these weights: a folder with `model.safetensors`, or a file; transformers' names are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for PatchTstKeys {
    fn default() -> Self {
        PatchTstKeys {
            name: "patchtst".into(),
            channels: None,
            patch: 12,
            stride: None,
            dim: 128,
            depth: 3,
            heads: 16,
            hidden: 512,
            dropout: 0.2,
            pretrained: None,
        }
    }
}

selfsup_core::encoder_config! {
    /// `[encoder]`: the keys of a network, whose name says which they are.
    pub enum EncoderConfig {
        /// TS2Vec's dilated convolutions.
        Dilated(DilatedKeys) = ["dilated"],
        /// A residual network over time.
        ResNet(ResNetKeys) = ["resnet1d18", "resnet1d34", "resnet1d50"],
        /// A transformer over patches of time.
        Patch(PatchKeys) = ["patch_transformer"],
        /// PatchTST: a transformer over patches of each channel by itself.
        PatchTst(PatchTstKeys) = ["patchtst"],
    }
}

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// TS2Vec's dilated convolutions.
    Dilated(DilatedConfig),
    /// A residual network over time.
    ResNet(ResNet1dConfig),
    /// A transformer over patches of time.
    Patch(PatchTransformerConfig),
    /// PatchTST.
    PatchTst(PatchTstConfig),
}

impl EncoderConfig {
    /// Channels of the signals, where they are given.
    pub fn channels(&self) -> Option<usize> {
        match self {
            EncoderConfig::Dilated(k) => k.channels,
            EncoderConfig::ResNet(k) => k.channels,
            EncoderConfig::Patch(k) => k.channels,
            EncoderConfig::PatchTst(k) => k.channels,
        }
    }

    /// Sets the channels of the signals.
    pub fn set_channels(&mut self, channels: usize) {
        let key = match self {
            EncoderConfig::Dilated(k) => &mut k.channels,
            EncoderConfig::ResNet(k) => &mut k.channels,
            EncoderConfig::Patch(k) => &mut k.channels,
            EncoderConfig::PatchTst(k) => &mut k.channels,
        };
        *key = Some(channels);
    }

    /// The network for signals of `length` samples and a method with these needs.
    ///
    /// # Errors
    /// If a key does not fit.
    pub fn resolve(&self, length: usize, needs: Needs) -> Result<Architecture> {
        let channels = self.channels().unwrap_or(1);
        Ok(match self {
            EncoderConfig::Dilated(k) => Architecture::Dilated(DilatedConfig {
                channels,
                hidden: k.hidden,
                dim: k.dim,
                depth: k.depth,
                dropout: k.dropout,
            }),
            EncoderConfig::ResNet(k) => {
                let (depths, bottleneck) = match k.name.as_str() {
                    "resnet1d34" => ([3, 4, 6, 3], false),
                    "resnet1d50" => ([3, 4, 6, 3], true),
                    _ => ([2, 2, 2, 2], false),
                };
                let widths = k.widths.clone().unwrap_or_else(|| vec![64, 128, 256, 512]);
                Architecture::ResNet(ResNet1dConfig {
                    depths: k.depths.clone().unwrap_or_else(|| depths.to_vec()),
                    stem: widths.first().copied().unwrap_or(0),
                    widths,
                    bottleneck,
                    base_width: 64,
                    // Five halvings leave nothing of a short signal.
                    small: length < 128,
                    dilated: false,
                    shortcut: Shortcut::Convolution,
                    channels,
                })
            }
            EncoderConfig::PatchTst(k) => Architecture::PatchTst(PatchTstConfig {
                channels,
                length,
                patch: k.patch,
                stride: k.stride.unwrap_or(k.patch),
                dim: k.dim,
                depth: k.depth,
                heads: k.heads,
                hidden: k.hidden,
                dropout: k.dropout,
            }),
            EncoderConfig::Patch(k) => {
                if k.heads == 0 || !k.dim.is_multiple_of(k.heads) || !(k.mlp_ratio > 0.0 && k.mlp_ratio < 1e3)
                {
                    return Err(Error::config(format!(
                        "encoder.dim = {}, encoder.heads = {}, encoder.mlp_ratio = {}: expected heads that divide the width \
                         and a ratio above 0",
                        k.dim, k.heads, k.mlp_ratio
                    )));
                }
                let hidden = (k.dim as f64 * k.mlp_ratio) as usize;
                Architecture::Patch(PatchTransformerConfig {
                    size: [length],
                    patch: [k.patch],
                    channels,
                    trunk: TransformerConfig {
                        dropout: k.dropout,
                        attention_dropout: k.dropout,
                        ..TransformerConfig::vit(k.dim, k.depth, k.heads, hidden)
                    },
                    patch_bias: true,
                    class_token: false,
                    registers: 0,
                    positions: Positioned::Patches,
                    fixed_positions: needs.fixed_positions,
                    interpolation: Interpolation::Linear,
                    rotary: None,
                    norm_pre: false,
                    final_norm: FinalNorm::Tokens,
                    pool: Pool::Mean,
                })
            }
        })
    }
}

impl Architecture {
    /// The encoder in `scope`.
    ///
    /// # Errors
    /// If a size does not fit.
    pub fn build(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Architecture::Dilated(c) => Box::new(Dilated::new(scope, c.clone())?),
            Architecture::ResNet(c) => Box::new(ResNet1d::new(scope, c.clone())?),
            Architecture::Patch(c) => Box::new(PatchTransformer::new(scope, c.clone())?),
            Architecture::PatchTst(c) => Box::new(PatchTst::new(scope, c.clone())?),
        })
    }

    /// PatchTST in `scope`.
    ///
    /// # Errors
    /// If it is another network.
    pub fn patchtst(&self, scope: &Scope) -> Result<PatchTst> {
        match self {
            Architecture::PatchTst(c) => PatchTst::new(scope, c.clone()),
            _ => Err(Error::config(
                "masked-patches paints the patches of each channel by itself: set encoder.name = \"patchtst\"",
            )),
        }
    }

    /// TS2Vec's encoder in `scope`.
    ///
    /// # Errors
    /// If it is another network.
    pub fn dilated(&self, scope: &Scope) -> Result<Dilated> {
        match self {
            Architecture::Dilated(c) => Dilated::new(scope, c.clone()),
            _ => Err(Error::config(
                "ts2vec hides steps behind the projection of its own encoder: set encoder.name = \"dilated\"",
            )),
        }
    }
}

impl Networks for Architecture {
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.build(scope)
    }

    fn tokens(&self, scope: &Scope) -> Result<Box<dyn TokenEncoder>> {
        match self {
            Architecture::Patch(c) => Ok(Box::new(PatchTransformer::new(scope, c.clone())?)),
            _ => Err(Error::config(
                "this method hides patches and needs a transformer: set encoder.name = \"patch_transformer\"",
            )),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Architecture::Dilated(c) => c.channels,
            Architecture::ResNet(c) => c.channels,
            Architecture::Patch(c) => c.channels,
            Architecture::PatchTst(c) => c.channels,
        }
    }
}
