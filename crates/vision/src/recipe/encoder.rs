//! `[encoder]`: which network, of which size.

use crate::encoder::{Architecture, ConvNeXtConfig, ResNetConfig, SwinConfig, ViTConfig};
use selfsup_core::network::{FinalNorm, Pool, Positioned};
use selfsup_core::nn::{Interpolation, MlpForm};
use selfsup_core::objective::Needs;
use selfsup_core::{Encoder, Error, Result, Scope};
use selfsup_kernels::activation::Act;
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

/// The keys of a ConvNeXt: a standard one by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvNeXtKeys {
    /// `convnext_tiny`, `convnext_small`, `convnext_base`, `convnext_large`, `convnext_xlarge`, or `convnext`
    /// with `depths` and `widths`.
    pub name: String,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// Pixels of a side of the stem's patches; by default 4, or 2 for images of at most 64 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// Blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// Width per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// Initial value of LayerScale (Touvron et al. 2021, arXiv 2103.17239); by default 1e-6. With 0 there is
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f32>,
    /// Stochastic depth of the last block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f32>,
    /// Epsilon of the layer norm of the features; by default what `config.json` beside the pretrained weights
    /// says (transformers' 1e-12), else timm's 1e-6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Start from these weights: a folder with `model.safetensors` (timm or Hugging Face layout), a file, or
    /// `org/name` on the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ConvNeXtKeys {
    fn default() -> Self {
        ConvNeXtKeys {
            name: "convnext_tiny".into(),
            channels: 3,
            patch: None,
            depths: None,
            widths: None,
            layer_scale: None,
            drop_path: None,
            eps: None,
            pretrained: None,
        }
    }
}

/// The keys of a Swin transformer: a standard one by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwinKeys {
    /// `swin_tiny`, `swin_small`, `swin_base`, `swin_large`, or `swin` with `dim`, `depths` and `heads`.
    pub name: String,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// Pixels of a patch's side; by default 4, or 2 for images of at most 64 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// Patches along a side of a window; by default 7, or 4 for images below 128 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Width of the first stage; each next one has twice as much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<Vec<usize>>,
    /// Attention heads per stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<usize>>,
    /// Stochastic depth of the last block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f32>,
    /// Start from these weights: a folder with `model.safetensors` (timm layout), a file, or `org/name` on the
    /// Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for SwinKeys {
    fn default() -> Self {
        SwinKeys {
            name: "swin_tiny".into(),
            channels: 3,
            patch: None,
            window: None,
            dim: None,
            depths: None,
            heads: None,
            drop_path: None,
            pretrained: None,
        }
    }
}

/// What the MLPs of a vision transformer compute between their two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Phi(x)`.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// `x sigmoid(1.702 x)`: CLIP's.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `silu(a) b` of two halves: that of the largest DINOv2.
    Swiglu,
}

impl Activation {
    fn parts(self) -> (Act, MlpForm) {
        match self {
            Activation::Gelu => (Act::GeluErf, MlpForm::Plain),
            Activation::GeluTanh => (Act::GeluTanh, MlpForm::Plain),
            Activation::QuickGelu => (Act::GeluErf, MlpForm::QuickGelu),
            Activation::Relu => (Act::Relu, MlpForm::Plain),
            Activation::Swiglu => (Act::GeluErf, MlpForm::SwiGlu),
        }
    }

    /// That of a trunk.
    pub(super) fn of(act: Act, form: MlpForm) -> Self {
        match (form, act) {
            (MlpForm::SwiGlu, _) => Activation::Swiglu,
            (MlpForm::QuickGelu, _) => Activation::QuickGelu,
            (MlpForm::Plain, Act::GeluTanh) => Activation::GeluTanh,
            (MlpForm::Plain, Act::Relu) => Activation::Relu,
            (MlpForm::Plain, _) => Activation::Gelu,
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
    /// What the MLPs compute between their layers: `gelu`, `gelu_tanh`, `quick_gelu`, `relu` or `swiglu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Activation>,
    /// Initial value of LayerScale (Touvron et al. 2021, arXiv 2103.17239); without one there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f32>,
    /// Whether queries, keys and values have a bias; by default they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qkv_bias: Option<bool>,
    /// Whether keys have one where queries and values have; by default they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_bias: Option<bool>,
    /// Layer norms of queries and keys; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_norm: Option<bool>,
    /// Whether the patch projection has a bias; by default it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_bias: Option<bool>,
    /// Whether a class token stands in front; by default it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_token: Option<bool>,
    /// Register tokens (Darcet et al. 2023, arXiv 2309.16588); by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registers: Option<usize>,
    /// Which tokens have a position embedding: `patches`, `class` (the class token too) or `all` (registers
    /// too).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positioned>,
    /// How position embeddings are brought to images of another size: `bicubic`, `antialiased` or
    /// `linear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// Rotary positions in place of an embedding (Siméoni et al. 2025, arXiv 2508.10104): the base of their
    /// angles, 100 in DINOv3; without one positions are learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary: Option<f64>,
    /// A layer norm before the first block; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_pre: Option<bool>,
    /// Where the last layer norm stands: over all `tokens` or over the `pooled` vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_norm: Option<FinalNorm>,
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
            act: None,
            layer_scale: None,
            qkv_bias: None,
            key_bias: None,
            qk_norm: None,
            patch_bias: None,
            class_token: None,
            registers: None,
            positions: None,
            interpolation: None,
            rotary: None,
            norm_pre: None,
            final_norm: None,
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
        /// A ConvNeXt.
        ConvNeXt(ConvNeXtKeys) = [
            "convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge", "convnext",
        ],
        /// A Swin transformer.
        Swin(SwinKeys) = ["swin_tiny", "swin_small", "swin_base", "swin_large", "swin"],
        /// A vision transformer.
        ViT(ViTKeys) = ["vit_tiny", "vit_small", "vit_base", "vit_large", "vit"],
    }
}

impl EncoderConfig {
    /// Channels of the images: 1 or 3.
    pub fn channels(&self) -> usize {
        match self {
            EncoderConfig::ResNet(c) => c.channels,
            EncoderConfig::ConvNeXt(c) => c.channels,
            EncoderConfig::Swin(c) => c.channels,
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
        let (network, eps) = match self {
            EncoderConfig::ResNet(c) => (c.resolve(size).map(Architecture::ResNet), None),
            EncoderConfig::ConvNeXt(c) => (c.resolve(size).map(Architecture::ConvNeXt), c.eps),
            EncoderConfig::Swin(c) => (c.resolve(size).map(Architecture::Swin), None),
            EncoderConfig::ViT(c) => (c.resolve(size, needs).map(Architecture::ViT), c.eps),
        };
        match eps.filter(|eps| !(*eps >= 0.0 && eps.is_finite())) {
            Some(eps) => Err(Error::config(format!("encoder.eps = {eps}: expected a number of at least 0"))),
            None => network.ok_or_else(|| self.unknown()),
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
        c.small = self.small_images.unwrap_or(size <= 64);
        c.depths = self.depths.clone().unwrap_or(c.depths);
        c.widths = self.widths.clone().unwrap_or(c.widths);
        c.stem = self.stem.unwrap_or_else(|| c.widths.first().copied().unwrap_or(64));
        c.bottleneck = self.bottleneck.unwrap_or(c.bottleneck);
        Some(c)
    }
}

impl ConvNeXtKeys {
    fn resolve(&self, size: usize) -> Option<ConvNeXtConfig> {
        let name = if self.name == "convnext" { "convnext_tiny" } else { &self.name };
        let mut c = ConvNeXtConfig::named(name)?;
        c.channels = self.channels;
        c.patch = self.patch.unwrap_or(if size <= 64 { 2 } else { 4 });
        c.depths = self.depths.clone().unwrap_or(c.depths);
        c.widths = self.widths.clone().unwrap_or(c.widths);
        c.layer_scale = self.layer_scale.or(c.layer_scale).filter(|value| *value != 0.0);
        c.drop_path = self.drop_path.unwrap_or(0.0);
        c.eps = self.eps.unwrap_or(c.eps);
        Some(c)
    }
}

impl SwinKeys {
    fn resolve(&self, size: usize) -> Option<SwinConfig> {
        let mut c = SwinConfig::named(if self.name == "swin" { "swin_tiny" } else { &self.name }, size)?;
        c.channels = self.channels;
        c.patch = self.patch.unwrap_or(if size <= 64 { 2 } else { 4 });
        c.window = self.window.unwrap_or(if size < 128 { 4 } else { 7 });
        c.dim = self.dim.unwrap_or(c.dim);
        c.depths = self.depths.clone().unwrap_or(c.depths);
        c.heads = self.heads.clone().unwrap_or(c.heads);
        c.drop_path = self.drop_path.unwrap_or(0.0);
        Some(c)
    }
}

impl ViTKeys {
    fn resolve(&self, size: usize, needs: Needs) -> Option<ViTConfig> {
        let patch = self.patch.unwrap_or(if size >= 128 { 16 } else { (size / 8).max(1) });
        let name = if self.name == "vit" { "vit_tiny" } else { &self.name };
        let mut c = ViTConfig::named(name, [size; 2], [patch; 2])?;
        c.channels = self.channels;
        c.trunk.dim = self.dim.unwrap_or(c.trunk.dim);
        c.trunk.depth = self.depth.unwrap_or(c.trunk.depth);
        c.trunk.heads = self.heads.unwrap_or(c.trunk.heads);
        // A ratio that was made of two whole numbers gives the first one back.
        c.trunk.hidden = (c.trunk.dim as f64 * self.mlp_ratio.unwrap_or(4.0) + 1e-6) as usize;
        c.trunk.drop_path = self.drop_path.unwrap_or(0.0);
        c.trunk.eps = self.eps.unwrap_or(c.trunk.eps);
        (c.trunk.act, c.trunk.mlp) = self.act.map_or((c.trunk.act, c.trunk.mlp), Activation::parts);
        c.trunk.layer_scale = self.layer_scale;
        c.trunk.qkv_bias = self.qkv_bias.unwrap_or(c.trunk.qkv_bias);
        c.trunk.key_bias = self.key_bias.unwrap_or(c.trunk.key_bias);
        c.trunk.qk_norm = self.qk_norm.unwrap_or(c.trunk.qk_norm);
        c.patch_bias = self.patch_bias.unwrap_or(c.patch_bias);
        c.class_token = self.class_token.unwrap_or(c.class_token);
        c.registers = self.registers.unwrap_or(c.registers);
        c.positions = self.positions.unwrap_or(c.positions);
        c.interpolation = self.interpolation.unwrap_or(c.interpolation);
        c.rotary = self.rotary;
        c.norm_pre = self.norm_pre.unwrap_or(c.norm_pre);
        c.final_norm = self.final_norm.unwrap_or(c.final_norm);
        c.fixed_positions = needs.fixed_positions;
        if needs.fixed_positions {
            c.trunk.init = selfsup_core::Init::XavierUniform;
        }
        c.pool = self.pool.unwrap_or(if needs.mean_pool { Pool::Mean } else { Pool::Class });
        Some(c)
    }
}
