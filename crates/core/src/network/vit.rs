//! Vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929) with timm's names; the trunk of ViT, MAE,
//! DINO, DINOv2, I-JEPA and CLIP's image tower. Over volumes as in UNETR (Hatamizadeh et al. 2021, arXiv
//! 2103.10504) and 3-D MAE (Chen et al. 2023, arXiv 2204.00635): `patch_embed.proj.weight` is then
//! `(D, C, p, p, p)`.
//!
//! An input is cut into patches, each a token; a class token may stand in front, and register tokens behind
//! it (Darcet et al. 2023, arXiv 2309.16588). Position embeddings are learned, or fixed sines and cosines as
//! in MAE. An input of another size than the one built for (the small crops of DINO, larger images) gets
//! interpolated positions; fixed ones of volumes are computed for its grid. With rotary positions (DINOv3) there
//! is no table: attention turns queries and keys by the places of their patches.

use super::layout::{channels_last, input};
use crate::encoder::{Encoder, Features, HiddenLayers, Layer, MapEncoder, Scale, TokenEncoder, no_padding};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::nn::{
    Interpolation, LayerNorm, PatchEmbed, Rotation, Transformer, TransformerConfig, interpolate_positions,
    sin_cos,
};
use crate::params::{Role, Weight};
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;

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

/// Shape of a [`ViT`] over `A` axes.
#[derive(Clone, Debug, PartialEq)]
pub struct ViTConfig<const A: usize> {
    /// Sides of the inputs: height and width, or depth, height and width.
    pub size: [usize; A],
    /// Sides of a patch.
    pub patch: [usize; A],
    /// Channels of the inputs.
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
    /// The base of the angles of rotary positions, which stand in place of an embedding (DINOv3; see
    /// [`Rotation`]).
    pub rotary: Option<f64>,
    /// Whether a layer norm stands before the first block (CLIP's).
    pub norm_pre: bool,
    /// Where the last layer norm stands.
    pub final_norm: FinalNorm,
    /// How tokens become one vector.
    pub pool: Pool,
}

impl<const A: usize> ViTConfig<A> {
    /// A standard size. Of images, with a class token: `vit_tiny`, `vit_small`, `vit_base`, `vit_large` (width
    /// 192, 384, 768, 1024); of volumes, without one: `vit3d_tiny`, `vit3d_small`, `vit3d_base`.
    pub fn named(name: &str, size: [usize; A], patch: [usize; A]) -> Option<Self> {
        let (dim, depth, heads) = match (A, name) {
            (2, "vit_tiny") | (3, "vit3d_tiny") => (192, 12, 3),
            (2, "vit_small") | (3, "vit3d_small") => (384, 12, 6),
            (2, "vit_base") | (3, "vit3d_base") => (768, 12, 12),
            (2, "vit_large") => (1024, 24, 16),
            _ => return None,
        };
        let volumes = A == 3;
        Some(ViTConfig {
            size,
            patch,
            channels: if volumes { 1 } else { 3 },
            trunk: TransformerConfig::vit(dim, depth, heads, 4 * dim),
            patch_bias: true,
            class_token: !volumes,
            registers: 0,
            positions: Positioned::Class,
            fixed_positions: false,
            interpolation: if volumes { Interpolation::Linear } else { Interpolation::default() },
            rotary: None,
            norm_pre: false,
            final_norm: FinalNorm::Tokens,
            pool: if volumes { Pool::Mean } else { Pool::Class },
        })
    }

    /// Number of patches along each axis.
    pub fn grid(&self) -> [usize; A] {
        std::array::from_fn(|a| self.size[a].checked_div(self.patch[a]).unwrap_or(0))
    }

    /// Number of tokens in front of the patches: the class token and the registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// Number of rows of the position embedding in front of the patches'.
    pub fn position_prefix(&self) -> usize {
        match self.positions {
            _ if self.rotary.is_some() => 0,
            Positioned::Patches => 0,
            Positioned::Class => usize::from(self.class_token),
            Positioned::All => self.prefix(),
        }
    }

    fn check(&self) -> Result<()> {
        let (size, p) = (&self.size, &self.patch);
        if (0..A).any(|a| p[a] == 0 || size[a] == 0 || !size[a].is_multiple_of(p[a])) {
            return Err(Error::config(if A == 2 && size[0] == size[1] && p[0] == p[1] {
                format!("encoder.patch = {} does not divide the image size {}", p[0], size[0])
            } else {
                format!("{}s of {size:?} are not multiples of encoder.patch = {p:?}", input(A))
            }));
        }
        if self.channels == 0 {
            return Err(Error::config("encoder.channels = 0: expected at least 1"));
        }
        if let Some(base) = self.rotary {
            if !(base > 1.0 && base.is_finite()) {
                return Err(Error::config(format!(
                    "encoder.rotary = {base}: expected a base above 1, such as 100"
                )));
            }
            if self.fixed_positions {
                return Err(Error::config(
                    "this method takes fixed sines and cosines as positions: leave encoder.rotary out",
                ));
            }
        }
        if self.pool == Pool::Class && !self.class_token {
            return Err(Error::config(
                "encoder.pool = \"class\" needs a class token: set encoder.class_token = true or encoder.pool = \"mean\"",
            ));
        }
        Ok(())
    }
}

/// The network without its classifier, over `A` axes.
pub struct ViT<const A: usize> {
    config: ViTConfig<A>,
    patch: PatchEmbed,
    class: Option<Weight>,
    registers: Option<Weight>,
    /// None with rotary positions.
    positions: Option<Weight>,
    norm_pre: Option<LayerNorm>,
    trunk: Transformer,
    norm: LayerNorm,
}

impl<const A: usize> ViT<A> {
    /// Builds the network: `patch_embed.proj`, `cls_token`, `reg_token`, `pos_embed`, `norm_pre`, `blocks.0`
    /// ..., `norm`.
    ///
    /// # Errors
    /// If a side is not a multiple of the patch's, or the width does not fit heads or positions.
    pub fn new(scope: &Scope, config: ViTConfig<A>) -> Result<Self> {
        config.check()?;
        let (dim, grid, stem) = (config.trunk.dim, config.grid(), scope.stem().no_decay());
        let prefix = config.position_prefix();
        let patch_init = if config.fixed_positions { Init::XavierUniform } else { Init::TruncNormal(0.02) };
        let patch = PatchEmbed::new(
            &scope.sub("patch_embed").sub("proj").stem(),
            config.channels,
            dim,
            &config.patch,
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
        let shape = (1, prefix + grid.iter().product::<usize>(), dim);
        let positions = if let Some(base) = config.rotary {
            // Refuses heads that no angles fit.
            Rotation::new(&grid, 0, dim / config.trunk.heads.max(1), base, scope.device())?;
            None
        } else if config.fixed_positions {
            let table = stem.with_role(Role::Frozen).get_with("pos_embed", shape, |device| {
                let grid = sin_cos(&grid, dim, device)?;
                let zero = Tensor::zeros((1, prefix, dim), grid.dtype(), device)?;
                Ok(if prefix > 0 { Tensor::cat(&[zero, grid], 1)? } else { grid })
            })?;
            Some(table)
        } else {
            Some(stem.get("pos_embed", shape, Init::TruncNormal(0.02))?)
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
    pub fn config(&self) -> &ViTConfig<A> {
        &self.config
    }

    /// Positions for a grid of patches, those of the tokens in front of them first; none if they are rotary.
    fn positions_for(&self, grid: &[usize], pass: &Pass) -> Result<Option<Tensor>> {
        let Some(table) = &self.positions else { return Ok(None) };
        let (own, table) = (self.config.grid(), table.on(pass)?);
        if grid == own {
            return Ok(Some(table));
        }
        let prefix = self.config.position_prefix();
        if A == 3 && self.config.fixed_positions {
            // Sines of other places, which their interpolation would only come near to.
            let made = sin_cos(grid, self.config.trunk.dim, table.device())?;
            let whole = if prefix > 0 { Tensor::cat(&[table.narrow(1, 0, prefix)?, made], 1)? } else { made };
            return Ok(Some(whole));
        }
        interpolate_positions(&table, prefix, &own, grid, self.config.interpolation).map(Some)
    }

    /// The angles of rotary positions, if the network has them.
    fn rotation(&self, grid: &[usize], x: &Tensor) -> Result<Option<Rotation>> {
        let head = self.config.trunk.dim / self.config.trunk.heads.max(1);
        let of = |base| Rotation::new(grid, self.config.prefix(), head, base, x.device());
        self.config.rotary.map(of).transpose()
    }

    /// The input of the first block: `tokens (N, L, D)` behind class token and registers, `(N, P + L, D)`.
    fn with_prefix(&self, tokens: &Tensor, positions: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let (n, _, d) = tokens.dims3()?;
        let (mut parts, mut row, rows) = (Vec::new(), 0, self.config.position_prefix());
        for weight in [&self.class, &self.registers].into_iter().flatten() {
            let mut part = weight.on(pass)?;
            let count = part.dim(1)?;
            if let Some(positions) = positions.filter(|_| row + count <= rows) {
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

    /// The input of the first block for inputs `x (N, C, S..)`: `(N, P + L, D)`, class token and registers in
    /// front.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn embeddings(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.start(&channels_last(x, self.config.channels, A)?, pass)?.0)
    }

    /// The input of the first block for `x (N, S.., C)`, with the angles of rotary positions.
    fn start(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Option<Rotation>)> {
        let (tokens, positions) = self.tokens(x, pass)?;
        let rotation = self.rotation(&self.patch.grid(&x.dims()[1..=A])?, x)?;
        Ok((self.with_prefix(&tokens, positions.as_ref(), pass)?, rotation))
    }

    /// Tokens of `x (N, S.., C)` with their positions, `(N, L, D)`, and the positions of all tokens.
    fn tokens(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Option<Tensor>)> {
        let grid = self.patch.grid(&x.dims()[1..=A])?;
        let mut tokens = self.patch.forward(x, pass)?;
        let positions = self.positions_for(&grid, pass)?;
        if let Some(table) = &positions {
            let l = grid.iter().product();
            tokens = tokens.broadcast_add(&table.narrow(1, self.config.position_prefix(), l)?)?;
        }
        Ok((tokens, positions))
    }

    /// The patches of `tokens (N, P + L, D)`: `(N, L, D)`.
    fn patches(&self, tokens: &Tensor) -> Result<Tensor> {
        let prefix = self.config.prefix();
        Ok(tokens.narrow(1, prefix, tokens.dim(1)? - prefix)?)
    }

    fn pool(&self, tokens: &Tensor) -> Result<Tensor> {
        Ok(match self.config.pool {
            Pool::Class => tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
            Pool::Mean => self.patches(tokens)?.mean(1)?,
        })
    }
}

impl<const A: usize> Encoder for ViT<A> {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let hidden = HiddenLayers::of(want, self.trunk.depth())?;
        let (start, rotation) = self.start(&channels_last(x, self.config.channels, A)?, pass)?;
        let (y, layers) =
            self.trunk.forward_rotated(&start, None, rotation.as_ref(), hidden.asked(), pass)?;
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

    fn map(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.maps(x, pass)?.pop().ok_or_else(|| Error::input("encoder", "no maps"))
    }

    fn stride(&self) -> Vec<usize> {
        self.config.patch.to_vec()
    }
}

/// The input itself and the patches' tokens: nothing between them is finer than a patch.
impl<const A: usize> MapEncoder for ViT<A> {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let x = channels_last(x, self.config.channels, A)?;
        let (start, rotation) = self.start(&x, pass)?;
        let (y, _) = self.trunk.forward_rotated(&start, None, rotation.as_ref(), &[], pass)?;
        let y = self.patches(&self.norm.forward(&y, pass)?)?;
        // (N, L, D) -> (N, S.., D)
        let shape = [&[y.dim(0)?][..], &self.patch.grid(&x.dims()[1..=A])?, &[y.dim(2)?]].concat();
        let coarse = y.reshape(shape)?;
        Ok(vec![x, coarse])
    }

    fn scales(&self) -> Vec<Scale> {
        // Patches with unequal sides have no stride that a decoder could double: 0 is none.
        let p = self.config.patch;
        let own = Scale { width: self.config.channels, stride: 1 };
        vec![own, Scale { width: self.config.trunk.dim, stride: if p == [p[0]; A] { p[0] } else { 0 } }]
    }
}

impl<const A: usize> TokenEncoder for ViT<A> {
    fn embed(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.tokens(&channels_last(x, self.config.channels, A)?, pass)?.0)
    }

    fn contextualize(&self, tokens: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let valid = match (valid, self.prefix()) {
            (v, 0) => v.cloned(),
            (None, _) => None,
            (Some(v), p) => {
                Some(Tensor::cat(&[Tensor::ones((v.dim(0)?, p), v.dtype(), v.device())?, v.clone()], 1)?)
            }
        };
        // The rows in front are the same for every grid. Of tokens alone it is not known where they stand.
        let grid = self.config.grid();
        if self.config.rotary.is_some() && tokens.dim(1)? != grid.iter().product::<usize>() {
            return Err(Error::config(
                "this method leaves patches out, and rotary positions need all of them: leave encoder.rotary out",
            ));
        }
        let positions = self.positions.as_ref().map(|p| p.on(pass)).transpose()?;
        let rotation = self.rotation(&grid, tokens)?;
        let start = self.with_prefix(tokens, positions.as_ref(), pass)?;
        let (y, _) = self.trunk.forward_rotated(&start, valid.as_ref(), rotation.as_ref(), &[], pass)?;
        self.norm.forward(&y, pass)
    }

    fn positions(&self, pass: &Pass) -> Result<Option<Tensor>> {
        let (l, prefix) = (self.config.grid().iter().product(), self.config.position_prefix());
        self.positions.as_ref().map(|table| Ok(table.on(pass)?.narrow(1, prefix, l)?)).transpose()
    }

    fn depth(&self) -> usize {
        self.trunk.depth()
    }

    fn prefix(&self) -> usize {
        self.config.prefix()
    }

    fn patchify(&self, x: &Tensor) -> Result<Tensor> {
        self.patch.patchify(&channels_last(x, self.config.channels, A)?)
    }

    fn patch_dim(&self) -> usize {
        self.config.patch.iter().product::<usize>() * self.config.channels
    }

    fn grid(&self) -> Vec<usize> {
        self.config.grid().to_vec()
    }
}

#[cfg(test)]
#[path = "vit_tests.rs"]
mod tests;
