//! The network that released weights are of: sizes from the shapes of the tensors, the rest from
//! `config.json`. Where both have a number they must agree.

use super::layout::Layout;
use super::normalisation::Normalisation;
use super::stated::{Size, Stated};
use crate::encoder::convnext::KERNEL;
use crate::encoder::{
    Architecture, ConvNeXtConfig, FinalNorm, Pool, Positioned, ResNetConfig, SwinConfig, ViTConfig,
};
use candle_core::Tensor;
use selfsup_core::network::Shortcut;
use selfsup_core::nn::{Interpolation, MlpForm, TransformerConfig};
use selfsup_core::{Error, Result};
use selfsup_kernels::activation::Act;
use std::collections::BTreeMap;
use std::path::Path;

/// The network of released weights.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Described {
    /// The network. Of a vision transformer `size` is what the weights were trained at.
    pub architecture: Architecture,
    /// Keys of `[encoder]` that neither shapes nor `config.json` tell: `architecture` has the usual value.
    pub assumed: Vec<&'static str>,
    /// Those of them for which there is no usual value.
    pub needed: Vec<&'static str>,
    /// How images are normalised for it, where a file beside the weights says so.
    pub normalisation: Option<Normalisation>,
}

/// Tensors under our names, as far as their shapes are asked.
pub(super) struct Shapes<'a> {
    pub path: &'a Path,
    pub tensors: &'a BTreeMap<String, Tensor>,
}

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn wrong(&self, why: String) -> Error {
        Error::file(self.path, why)
    }

    /// The shape of a tensor of this rank.
    fn of<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let t = self.tensors.get(name).ok_or_else(|| {
            let have: Vec<&str> = self.tensors.keys().take(5).map(String::as_str).collect();
            self.wrong(format!("no tensor for {name}; there are {} ...", have.join(", ")))
        })?;
        <[usize; N]>::try_from(t.dims())
            .ok()
            .filter(|dims| !dims.contains(&0))
            .ok_or_else(|| self.wrong(format!("{name}: shape {:?}, expected {N} dimensions", t.dims())))
    }

    /// One more than the largest number behind `stem` in a name.
    fn count(&self, stem: &str) -> usize {
        let number = |name: &String| name.strip_prefix(stem)?.split('.').next()?.parse::<usize>().ok();
        self.tensors.keys().filter_map(number).max().map_or(0, |n| n.saturating_add(1))
    }

    pub fn is_resnet(&self) -> bool {
        self.has("layer1.0.conv1.weight")
    }

    pub fn resnet(&self, stated: Option<&Stated>) -> Result<Described> {
        let [stem, channels, kernel, _] = self.of("conv1.weight")?;
        let bottleneck = self.has("layer1.0.conv3.weight");
        let (mut depths, mut widths, mut base_width) = (Vec::new(), Vec::new(), 64);
        while self.count(&format!("layer{}.", depths.len() + 1)) > 0 {
            let stage = format!("layer{}.", depths.len() + 1);
            depths.push(self.count(&stage));
            let [last, _, _, _] =
                self.of(&format!("{stage}0.conv{}.weight", if bottleneck { 3 } else { 2 }))?;
            widths.push(if bottleneck { last / 4 } else { last });
            if bottleneck {
                let [inner, _, _, _] = self.of(&format!("{stage}0.conv2.weight"))?;
                base_width = (inner * 64).checked_div(last / 4).unwrap_or(64);
            }
        }
        let config = ResNetConfig {
            depths,
            widths,
            stem,
            bottleneck,
            base_width,
            small: kernel == 3,
            dilated: false,
            shortcut: Shortcut::Convolution,
            channels,
        };
        let name = stated.and_then(|s| s.architecture.as_deref()).unwrap_or_default();
        if let (Some(named), Some(stated)) = (ResNetConfig::named(name), stated)
            && stated.sizes.is_empty()
            && (&named.depths, named.bottleneck) != (&config.depths, bottleneck)
            && config.depths.len() == named.depths.len()
            && config.widths == named.widths
        {
            return Err(Error::file(
                &stated.file,
                format!(
                    "architecture: \"{name}\" has stages of {:?} blocks, {} has {:?}",
                    named.depths,
                    self.path.display(),
                    config.depths
                ),
            ));
        }
        let architecture = Architecture::ResNet(config);
        Ok(Described { architecture, assumed: Vec::new(), needed: Vec::new(), normalisation: None })
    }

    pub fn is_swin(&self) -> bool {
        self.has("layers.0.blocks.0.attn.relative_position_bias_table")
    }

    pub fn swin(&self, stated: Option<&Stated>) -> Result<Described> {
        let [dim, channels, patch, across] = self.of("patch_embed.proj.weight")?;
        if patch != across {
            return Err(self.wrong(format!("patches of {patch} x {across} pixels, expected square ones")));
        }
        let (mut depths, mut heads, mut windows) = (Vec::new(), Vec::new(), Vec::new());
        while self.count(&format!("layers.{}.blocks.", depths.len())) > 0 {
            let stage = format!("layers.{}.blocks.", depths.len());
            depths.push(self.count(&stage));
            let [offsets, of] = self.of(&format!("{stage}0.attn.relative_position_bias_table"))?;
            heads.push(of);
            windows.push(offsets.isqrt().div_ceil(2));
        }
        let window = windows.iter().copied().max().unwrap_or(0);
        let image = stated.and_then(|s| s.sizes.iter().find(|(size, ..)| *size == Size::Image));
        // The smallest image whose every map holds a whole window.
        let usual = (patch * window) << (depths.len() - 1).min(8);
        let size = image.map_or(usual, |(_, _, pixels)| *pixels);
        let config = SwinConfig { size, patch, channels, dim, depths, heads, window, drop_path: 0.0 };
        if config.windows() != windows {
            return Err(self.wrong(format!(
                "windows of {windows:?} patches, expected {:?} for images of {size} pixels",
                config.windows()
            )));
        }
        if let Some(stated) = stated {
            self.same_stages(stated, &config.depths, &config.heads)?;
            for (size, key, value) in &stated.sizes {
                let found = match size {
                    Size::Patch => patch,
                    Size::Channels => channels,
                    Size::Width => dim,
                    // A window may be larger than every map.
                    Size::Window if window < *value => continue,
                    Size::Window => window,
                    _ => continue,
                };
                self.same(stated, key, *value, found)?;
            }
        }
        let architecture = Architecture::Swin(config);
        Ok(Described { architecture, assumed: Vec::new(), needed: Vec::new(), normalisation: None })
    }

    /// Refuses depths, or widths or heads, of stages that the weights have otherwise.
    fn same_stages(&self, stated: &Stated, depths: &[usize], others: &[usize]) -> Result<()> {
        for (key, list) in &stated.stages {
            let found = if key == "depths" { depths } else { others };
            if found != list {
                return Err(Error::file(
                    &stated.file,
                    format!("{key}: {list:?}, but the weights in {} have {found:?}", self.path.display()),
                ));
            }
        }
        Ok(())
    }

    pub fn is_convnext(&self) -> bool {
        self.has("stages.0.blocks.0.conv_dw.weight")
    }

    pub fn convnext(&self, stated: Option<&Stated>) -> Result<Described> {
        let [_, channels, patch, across] = self.of("stem.0.weight")?;
        if patch != across {
            return Err(self.wrong(format!("a stem of {patch} x {across} pixels, expected a square one")));
        }
        let (mut depths, mut widths) = (Vec::new(), Vec::new());
        while self.count(&format!("stages.{}.blocks.", depths.len())) > 0 {
            let stage = format!("stages.{}.blocks.", depths.len());
            depths.push(self.count(&stage));
            let [width, _, high, wide] = self.of(&format!("{stage}0.conv_dw.weight"))?;
            if (high, wide) != (KERNEL, KERNEL) {
                return Err(
                    self.wrong(format!("blocks of {high} x {wide} kernels, expected {KERNEL} x {KERNEL}"))
                );
            }
            widths.push(width);
        }
        let layer_scale = self.has("stages.0.blocks.0.gamma").then_some(1e-6);
        let eps = stated.and_then(|s| s.eps);
        let assumed = if eps.is_some() { Vec::new() } else { vec!["eps"] };
        let eps = eps.unwrap_or(1e-6);
        let config = ConvNeXtConfig { depths, widths, patch, channels, layer_scale, drop_path: 0.0, eps };
        if let Some(stated) = stated {
            self.same_stages(stated, &config.depths, &config.widths)?;
            for (size, key, value) in &stated.sizes {
                let found = match size {
                    Size::Patch => patch,
                    Size::Channels => channels,
                    _ => continue,
                };
                self.same(stated, key, *value, found)?;
            }
        }
        let architecture = Architecture::ConvNeXt(config);
        Ok(Described { architecture, assumed, needed: Vec::new(), normalisation: None })
    }

    pub fn vit(&self, layout: Layout, pooled_norm: bool, stated: Option<&Stated>) -> Result<Described> {
        let [dim, channels, patch, across] = self.of("patch_embed.proj.weight")?;
        if patch != across {
            return Err(self.wrong(format!("patches of {patch} x {across} pixels, expected square ones")));
        }
        let [_, hidden] = self.of("blocks.0.mlp.fc2.weight")?;
        let [inside, _] = self.of("blocks.0.mlp.fc1.weight")?;
        let gated = inside == 2 * hidden;
        let mut trunk = TransformerConfig::vit(dim, self.count("blocks."), 1, hidden);
        trunk.layer_scale = self.has("blocks.0.ls1.gamma").then_some(1.0);
        trunk.key_bias = !self.has("blocks.0.attn.q_bias");
        trunk.qkv_bias = self.has("blocks.0.attn.qkv.bias") || !trunk.key_bias;
        trunk.qk_norm = self.has("blocks.0.attn.q_norm.weight");
        let class_token = self.has("cls_token");
        let registers = if self.has("reg_token") { self.of::<3>("reg_token")?[1] } else { 0 };
        // EVA and the Perception Encoder have such biases too, and rotary positions beside a table.
        if !trunk.key_bias && self.has("pos_embed") {
            return Err(self.wrong(
                "blocks.0.attn.q_bias: biases of queries and values alone are read in DINOv3's, which has no pos_embed".into(),
            ));
        }
        // Rotary positions have no table; which base they have only a configuration says.
        let rotary = if self.has("pos_embed") { None } else { stated.and_then(|s| s.rotary) };
        let (positions, side) = if rotary.is_some() {
            let image = stated.and_then(|s| s.sizes.iter().find(|(size, ..)| *size == Size::Image));
            (Positioned::Class, image.map_or(14, |(_, _, pixels)| (pixels / patch).max(1)))
        } else {
            let [_, rows, _] = self.of("pos_embed")?;
            self.positions(rows, usize::from(class_token), registers, layout, stated, patch)?
        };
        let mut assumed = Vec::new();
        let mut told = |key: &'static str, known: bool| {
            if !known {
                assumed.push(key);
            }
        };
        told("heads", stated.is_some_and(|s| s.heads.is_some()));
        told("eps", stated.is_some_and(|s| s.eps.is_some()));
        told("act", gated || stated.is_some_and(|s| s.act.is_some()));
        told("interpolation", rotary.is_some() || stated.is_some_and(|s| s.interpolation.is_some()));
        trunk.heads = stated.and_then(|s| s.heads).unwrap_or((dim / 64).max(1));
        let clip = layout == Layout::Clip;
        let usual_eps = match layout {
            Layout::HfVit => 1e-12,
            Layout::Clip | Layout::Dinov3 | Layout::Dinov3Gated | Layout::TimmDinov3 => 1e-5,
            _ => 1e-6,
        };
        trunk.eps = stated.and_then(|s| s.eps).unwrap_or(usual_eps);
        let usual_form = if clip { MlpForm::QuickGelu } else { MlpForm::Plain };
        (trunk.act, trunk.mlp) = stated.and_then(|s| s.act).unwrap_or((Act::GeluErf, usual_form));
        if gated {
            trunk.mlp = MlpForm::SwiGlu;
        }
        let usual_interpolation = match layout {
            Layout::HfVit | Layout::Clip | Layout::VitMae => Interpolation::Bicubic,
            Layout::Dinov2 | Layout::Dinov2SwiGlu if registers == 0 => Interpolation::Bicubic,
            _ => Interpolation::Antialiased,
        };
        let final_norm = if pooled_norm || clip { FinalNorm::Pooled } else { FinalNorm::Tokens };
        let mean = pooled_norm || !class_token || stated.and_then(|s| s.pool) == Some(Pool::Mean);
        let config = ViTConfig {
            size: [side * patch; 2],
            patch: [patch; 2],
            channels,
            trunk,
            patch_bias: self.has("patch_embed.proj.bias"),
            class_token,
            registers,
            positions,
            fixed_positions: stated.is_some_and(|s| s.fixed_positions),
            interpolation: stated.and_then(|s| s.interpolation).unwrap_or(usual_interpolation),
            rotary,
            norm_pre: self.has("norm_pre.weight"),
            final_norm,
            pool: if mean { Pool::Mean } else { Pool::Class },
        };
        if let Some(stated) = stated {
            self.agree(stated, &config)?;
        }
        let needed = assumed.iter().filter(|key| **key == "heads" || clip && **key == "act");
        let needed = needed.copied().collect();
        Ok(Described { architecture: Architecture::ViT(config), assumed, needed, normalisation: None })
    }

    /// Which tokens the `rows` of the position embedding are of, and how many patches lie along a side.
    fn positions(
        &self,
        rows: usize,
        class: usize,
        registers: usize,
        layout: Layout,
        stated: Option<&Stated>,
        patch: usize,
    ) -> Result<(Positioned, usize)> {
        // timm gives all tokens in front a position, or none of them; DINOv2 the class token alone.
        let timm = matches!(layout, Layout::Timm | Layout::Mm);
        let forms: &[(Positioned, usize)] = if timm && registers > 0 {
            &[(Positioned::Patches, 0), (Positioned::All, class + registers)]
        } else if timm && class > 0 {
            &[(Positioned::Class, class), (Positioned::Patches, 0)]
        } else {
            &[(Positioned::Class, class)]
        };
        let image = stated.and_then(|s| s.sizes.iter().find(|(size, ..)| *size == Size::Image));
        let mut fits: Vec<(Positioned, usize)> = forms
            .iter()
            .filter_map(|(form, prefix)| {
                let side = rows.checked_sub(*prefix)?.isqrt();
                (side > 0 && side * side + prefix == rows).then_some((*form, side))
            })
            .collect();
        // Few rows are squares with and without the tokens in front.
        if let Some((_, _, pixels)) = image.filter(|_| fits.len() > 1) {
            fits.retain(|(_, side)| *side == pixels / patch);
        }
        fits.first().copied().ok_or_else(|| {
            self.wrong(format!(
                "pos_embed: {rows} rows are no square grid of patches with {class} class token and {registers} registers in front"
            ))
        })
    }

    /// Refuses a size of `config.json` that the weights have otherwise.
    fn same(&self, stated: &Stated, key: &str, value: usize, found: usize) -> Result<()> {
        if found == value {
            return Ok(());
        }
        Err(Error::file(
            &stated.file,
            format!("{key} means {value}, but the weights in {} have {found}", self.path.display()),
        ))
    }

    /// Refuses a `config.json` that is not of these weights.
    fn agree(&self, stated: &Stated, config: &ViTConfig) -> Result<()> {
        let trunk = &config.trunk;
        for (size, key, value) in &stated.sizes {
            let found = match size {
                // Pixels beyond the last whole patch count for nothing.
                Size::Image if value / config.patch[0] == config.grid()[0] => continue,
                Size::Image => config.size[0],
                Size::Patch => config.patch[0],
                Size::Channels => config.channels,
                Size::Width => trunk.dim,
                Size::Depth => trunk.depth,
                Size::Hidden => trunk.hidden,
                Size::Registers => config.registers,
                Size::Window => continue,
                Size::Gated => usize::from(trunk.mlp == MlpForm::SwiGlu),
                Size::QkvBias => usize::from(trunk.qkv_bias),
            };
            self.same(stated, key, *value, found)?;
        }
        if trunk.heads == 0 || !trunk.dim.is_multiple_of(trunk.heads) {
            return Err(Error::file(
                &stated.file,
                format!("{} attention heads do not divide a width of {}", trunk.heads, trunk.dim),
            ));
        }
        Ok(())
    }
}
