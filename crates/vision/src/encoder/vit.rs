//! Vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929) with timm's names; the trunk of ViT, MAE,
//! DINO, DINOv2, I-JEPA and CLIP's image tower.
//!
//! An image is cut into patches, each a token; a class token may stand in front, and register tokens behind
//! it (Darcet et al. 2023, arXiv 2309.16588). Position embeddings are learned, or fixed sines and cosines as
//! in MAE. Another image size than the one built for gets bicubically interpolated positions.

use super::channels_last;
use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::nn::{
    Interpolation, LayerNorm, PatchEmbed, Transformer, TransformerConfig, interpolate_positions, sin_cos_2d,
};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Role, Scope, TokenEncoder, Weight};

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Pool {
    /// The class token.
    Class,
    /// The mean of the patch tokens.
    Mean,
}

/// Which tokens have a position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positioned {
    /// The patches (timm's `no_embed_class`).
    Patches,
    /// The class token, if there is one, and the patches.
    Class,
    /// The class token, the registers and the patches.
    All,
}

/// Where the last layer norm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalNorm {
    /// Over all tokens, before they are pooled.
    Tokens,
    /// Over the pooled vector (CLIP; timm's `fc_norm`). The tokens themselves are those after the last block.
    Pooled,
}

/// Shape of a [`ViT`].
#[derive(Clone, Debug, PartialEq)]
pub struct ViTConfig {
    /// Height and width of the images.
    pub image_size: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Channels of the images.
    pub channels: usize,
    /// The trunk.
    pub trunk: TransformerConfig,
    /// Whether the patch projection has a bias.
    pub patch_bias: bool,
    /// Whether a class token stands in front.
    pub class_token: bool,
    /// Number of register tokens between the class token and the patches.
    pub registers: usize,
    /// Which tokens have a position embedding.
    pub positions: Positioned,
    /// Whether positions are fixed sines and cosines (MAE) or learned.
    pub fixed_positions: bool,
    /// How positions are brought to another grid.
    pub interpolation: Interpolation,
    /// Whether a layer norm stands before the first block (CLIP's).
    pub norm_pre: bool,
    /// Where the last layer norm stands.
    pub final_norm: FinalNorm,
    /// How tokens become one vector.
    pub pool: Pool,
}

impl ViTConfig {
    /// A standard size: `vit_tiny`, `vit_small`, `vit_base`, `vit_large` (width 192, 384, 768, 1024), with a
    /// class token.
    pub fn named(name: &str, image_size: usize, patch: usize) -> Option<Self> {
        let (dim, depth, heads) = match name {
            "vit_tiny" => (192, 12, 3),
            "vit_small" => (384, 12, 6),
            "vit_base" => (768, 12, 12),
            "vit_large" => (1024, 24, 16),
            _ => return None,
        };
        Some(ViTConfig {
            image_size,
            patch,
            channels: 3,
            trunk: TransformerConfig::vit(dim, depth, heads, 4 * dim),
            patch_bias: true,
            class_token: true,
            registers: 0,
            positions: Positioned::Class,
            fixed_positions: false,
            interpolation: Interpolation::default(),
            norm_pre: false,
            final_norm: FinalNorm::Tokens,
            pool: Pool::Class,
        })
    }

    /// Number of tokens in front of the patches: the class token and the registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// Number of rows of the position embedding in front of the patches'.
    pub fn position_prefix(&self) -> usize {
        match self.positions {
            Positioned::Patches => 0,
            Positioned::Class => usize::from(self.class_token),
            Positioned::All => self.prefix(),
        }
    }
}

/// The network without its classifier.
pub struct ViT {
    config: ViTConfig,
    patch: PatchEmbed,
    class: Option<Weight>,
    registers: Option<Weight>,
    positions: Weight,
    norm_pre: Option<LayerNorm>,
    trunk: Transformer,
    norm: LayerNorm,
}

impl ViT {
    /// Builds the network: `patch_embed.proj`, `cls_token`, `reg_token`, `pos_embed`, `norm_pre`, `blocks.0`
    /// ..., `norm`.
    ///
    /// # Errors
    /// If the image size is not a multiple of the patch size, or the heads do not divide the width.
    pub fn new(scope: &Scope, config: ViTConfig) -> Result<Self> {
        let (dim, p) = (config.trunk.dim, config.patch);
        if p == 0 || config.image_size == 0 || !config.image_size.is_multiple_of(p) {
            return Err(Error::config(format!(
                "encoder.patch = {p} does not divide the image size {}",
                config.image_size
            )));
        }
        if config.pool == Pool::Class && !config.class_token {
            return Err(Error::config(
                "encoder.pool = \"class\" needs a class token: set encoder.class_token = true or encoder.pool = \"mean\"",
            ));
        }
        let (side, stem) = (config.image_size / p, scope.stem().no_decay());
        let prefix = config.position_prefix();
        let patch_init = if config.fixed_positions { Init::XavierUniform } else { Init::TruncNormal(0.02) };
        let patch = PatchEmbed::new(
            &scope.sub("patch_embed").sub("proj").stem(),
            config.channels,
            dim,
            &[p, p],
            config.patch_bias,
            patch_init,
        )?;
        let class = if config.class_token {
            Some(stem.get("cls_token", (1, 1, dim), Init::Normal(0.02))?)
        } else {
            None
        };
        let registers = match config.registers {
            0 => None,
            n => Some(stem.get("reg_token", (1, n, dim), Init::Normal(0.02))?),
        };
        let shape = (1, prefix + side * side, dim);
        let positions = if config.fixed_positions {
            stem.with_role(Role::Frozen).get_with("pos_embed", shape, |device| {
                let grid = sin_cos_2d(side, side, dim, device)?;
                let zero = Tensor::zeros((1, prefix, dim), grid.dtype(), device)?;
                Ok(if prefix > 0 { Tensor::cat(&[zero, grid], 1)? } else { grid })
            })?
        } else {
            stem.get("pos_embed", shape, Init::TruncNormal(0.02))?
        };
        let norm_pre = if config.norm_pre {
            Some(LayerNorm::new(&scope.sub("norm_pre").stem(), dim, config.trunk.eps)?)
        } else {
            None
        };
        let trunk = Transformer::new(&scope.sub("blocks"), &config.trunk)?;
        let norm = LayerNorm::new(&scope.sub("norm").top(), dim, config.trunk.eps)?;
        Ok(ViT { config, patch, class, registers, positions, norm_pre, trunk, norm })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &ViTConfig {
        &self.config
    }

    /// Positions for a grid of `(rows, columns)`.
    fn positions_for(&self, rows: usize, columns: usize, pass: &Pass) -> Result<Tensor> {
        let side = self.config.image_size / self.config.patch;
        if (rows, columns) == (side, side) {
            return self.positions.on(pass);
        }
        let (prefix, how) = (self.config.position_prefix(), self.config.interpolation);
        interpolate_positions(&self.positions.on(pass)?, prefix, (side, side), (rows, columns), how)
    }

    /// The input of the first block: `tokens (N, L, D)` behind class token and registers, `(N, P + L, D)`.
    fn with_prefix(&self, tokens: &Tensor, positions: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (n, _, d) = tokens.dims3()?;
        let (mut parts, mut row, rows) = (Vec::new(), 0, self.config.position_prefix());
        for weight in [&self.class, &self.registers].into_iter().flatten() {
            let mut part = weight.on(pass)?;
            let count = part.dim(1)?;
            if row + count <= rows {
                part = (part + positions.narrow(1, row, count)?)?;
                row += count;
            }
            parts.push(part.broadcast_as((n, count, d))?.contiguous()?);
        }
        let all = if parts.is_empty() {
            tokens.clone()
        } else {
            parts.push(tokens.clone());
            Tensor::cat(&parts, 1)?
        };
        match &self.norm_pre {
            Some(norm) => norm.forward(&all, pass),
            None => Ok(all),
        }
    }

    /// The input of the first block for images `x (N, C, H, W)`: `(N, P + L, D)`, class token and registers
    /// in front.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn embeddings(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (tokens, positions) = self.tokens(x, pass)?;
        self.with_prefix(&tokens, &positions, pass)
    }

    fn tokens(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let x = channels_last(x, self.config.channels)?;
        let grid = self.patch.grid(&[x.dim(1)?, x.dim(2)?])?;
        let positions = self.positions_for(grid[0], grid[1], pass)?;
        let (l, prefix) = (grid[0] * grid[1], self.config.position_prefix());
        let tokens = self.patch.forward(&x, pass)?.broadcast_add(&positions.narrow(1, prefix, l)?)?;
        Ok((tokens, positions))
    }

    fn pool(&self, tokens: &Tensor) -> Result<Tensor> {
        let (_, l, _) = tokens.dims3()?;
        Ok(match self.config.pool {
            Pool::Class => tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
            Pool::Mean => tokens.narrow(1, self.prefix(), l - self.prefix())?.mean(1)?,
        })
    }
}

impl Encoder for ViT {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let hidden = HiddenLayers::of(want, self.trunk.depth())?;
        let (y, layers) = self.trunk.forward(&self.embeddings(x, pass)?, None, hidden.asked(), pass)?;
        let tokens = want.contains(&Layer::Tokens);
        // The class token alone is needed where nothing else is asked for: the norm of the others is left
        // out.
        if self.config.final_norm == FinalNorm::Pooled || self.config.pool == Pool::Class && !tokens {
            let pooled = self.norm.forward(&self.pool(&y)?, pass)?;
            return Ok(Features { pooled, tokens: tokens.then_some(y), layers });
        }
        let y = self.norm.forward(&y, pass)?;
        Ok(Features { pooled: self.pool(&y)?, tokens: tokens.then_some(y), layers })
    }

    fn dim(&self) -> usize {
        self.config.trunk.dim
    }

    fn may_skip(&self) -> Vec<String> {
        // A method that looks at patches alone may leave the class token's own output unused, but attention
        // still reaches it.
        Vec::new()
    }
}

impl TokenEncoder for ViT {
    fn embed(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.tokens(x, pass)?.0)
    }

    fn contextualize(&self, tokens: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let valid = match (valid, self.prefix()) {
            (v, 0) => v.cloned(),
            (None, _) => None,
            (Some(v), p) => {
                Some(Tensor::cat(&[Tensor::ones((v.dim(0)?, p), v.dtype(), v.device())?, v.clone()], 1)?)
            }
        };
        let (y, _) = self.trunk.forward(
            &self.with_prefix(tokens, &self.positions.on(pass)?, pass)?,
            valid.as_ref(),
            &[],
            pass,
        )?;
        self.norm.forward(&y, pass)
    }

    fn prefix(&self) -> usize {
        self.config.prefix()
    }

    fn patchify(&self, x: &Tensor) -> Result<Tensor> {
        self.patch.patchify(&channels_last(x, self.config.channels)?)
    }

    fn patch_dim(&self) -> usize {
        self.config.patch * self.config.patch * self.config.channels
    }

    fn grid(&self) -> Vec<usize> {
        let side = self.config.image_size / self.config.patch;
        vec![side, side]
    }
}
