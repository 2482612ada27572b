//! Vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929) with timm's names; the trunk of ViT, MAE,
//! DINO, DINOv2 and I-JEPA.
//!
//! An image is cut into patches, each a token; a class token may stand in front. Position embeddings are
//! learned, or fixed sines and cosines as in MAE. Another image size than the one built for gets bicubically
//! interpolated positions.

use super::channels_last;
use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::nn::{
    LayerNorm, PatchEmbed, Transformer, TransformerConfig, interpolate_positions, sin_cos_2d,
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
    /// Whether a class token stands in front.
    pub class_token: bool,
    /// Whether positions are fixed sines and cosines (MAE) or learned.
    pub fixed_positions: bool,
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
            class_token: true,
            fixed_positions: false,
            pool: Pool::Class,
        })
    }
}

/// The network without its classifier.
pub struct ViT {
    config: ViTConfig,
    patch: PatchEmbed,
    class: Option<Weight>,
    positions: Weight,
    trunk: Transformer,
    norm: LayerNorm,
}

impl ViT {
    /// Builds the network: `patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.0` ..., `norm`.
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
                "encoder.pool = \"class\" needs a class token: set encoder.class_token = true or pool = \"mean\"",
            ));
        }
        let (side, stem) = (config.image_size / p, scope.stem().no_decay());
        let prefix = usize::from(config.class_token);
        let patch_init = if config.fixed_positions { Init::XavierUniform } else { Init::TruncNormal(0.02) };
        let patch = PatchEmbed::new(
            &scope.sub("patch_embed").sub("proj").stem(),
            config.channels,
            dim,
            &[p, p],
            true,
            patch_init,
        )?;
        let class = if config.class_token {
            Some(stem.get("cls_token", (1, 1, dim), Init::Normal(0.02))?)
        } else {
            None
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
        let trunk = Transformer::new(&scope.sub("blocks"), &config.trunk)?;
        let norm = LayerNorm::new(&scope.sub("norm").top(), dim, config.trunk.eps)?;
        Ok(ViT { config, patch, class, positions, trunk, norm })
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
        interpolate_positions(&self.positions.on(pass)?, self.prefix(), (side, side), (rows, columns))
    }

    fn with_class(&self, tokens: &Tensor, positions: &Tensor, pass: &Pass) -> Result<Tensor> {
        match &self.class {
            None => Ok(tokens.clone()),
            Some(class) => {
                let (n, _, d) = tokens.dims3()?;
                let first = (class.on(pass)? + positions.narrow(1, 0, 1)?)?.broadcast_as((n, 1, d))?;
                Ok(Tensor::cat(&[&first, tokens], 1)?)
            }
        }
    }

    fn tokens(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let x = channels_last(x, self.config.channels)?;
        let grid = self.patch.grid(&[x.dim(1)?, x.dim(2)?])?;
        let positions = self.positions_for(grid[0], grid[1], pass)?;
        let l = grid[0] * grid[1];
        let tokens =
            self.patch.forward(&x, pass)?.broadcast_add(&positions.narrow(1, self.prefix(), l)?)?;
        Ok((tokens, positions))
    }

    fn pool(&self, normed: &Tensor) -> Result<Tensor> {
        let (_, l, _) = normed.dims3()?;
        Ok(match self.config.pool {
            Pool::Class => normed.narrow(1, 0, 1)?.squeeze(1)?,
            Pool::Mean => normed.narrow(1, self.prefix(), l - self.prefix())?.mean(1)?,
        })
    }
}

impl Encoder for ViT {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let (tokens, positions) = self.tokens(x, pass)?;
        let hidden = HiddenLayers::of(want, self.trunk.depth())?;
        let (y, layers) =
            self.trunk.forward(&self.with_class(&tokens, &positions, pass)?, None, hidden.asked(), pass)?;
        // The class token alone is needed where nothing else is asked for: the norm of the others is left
        // out.
        if self.config.pool == Pool::Class && !want.contains(&Layer::Tokens) {
            let class = y.narrow(1, 0, 1)?.squeeze(1)?;
            return Ok(Features {
                pooled: self.norm.forward(&class.contiguous()?, pass)?,
                tokens: None,
                layers,
            });
        }
        let y = self.norm.forward(&y, pass)?;
        Ok(Features { pooled: self.pool(&y)?, tokens: want.contains(&Layer::Tokens).then_some(y), layers })
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
            (Some(v), 1) => {
                Some(Tensor::cat(&[Tensor::ones((v.dim(0)?, 1), v.dtype(), v.device())?, v.clone()], 1)?)
            }
            (v, _) => v.cloned(),
        };
        let (y, _) = self.trunk.forward(
            &self.with_class(tokens, &self.positions.on(pass)?, pass)?,
            valid.as_ref(),
            &[],
            pass,
        )?;
        self.norm.forward(&y, pass)
    }

    fn prefix(&self) -> usize {
        usize::from(self.config.class_token)
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
