//! Vision transformer of volumes: the volume is cut into boxes, each a token with a position on three axes
//! (Dosovitskiy et al. 2020, arXiv 2010.11929; in three dimensions as in UNETR, Hatamizadeh et al. 2021,
//! arXiv 2103.10504, and 3-D MAE, Chen et al. 2023, arXiv 2204.00635).
//!
//! Trunk and names are those of timm's ViT; `patch_embed.proj.weight` is `(D, C, p, p, p)`.

use super::{MapEncoder, NormKind, Scale, channels_last};
use candle_core::{Device, Tensor};
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::nn::{LayerNorm, PatchEmbed, Transformer, TransformerConfig, sin_cos_3d};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Role, Scope, TokenEncoder, Weight};

/// Shape of a [`ViT3d`].
#[derive(Clone, Debug, PartialEq)]
pub struct ViT3dConfig {
    /// Depth, height and width of the volumes.
    pub size: [usize; 3],
    /// Sides of a box.
    pub patch: [usize; 3],
    /// Channels of the volumes.
    pub channels: usize,
    /// The trunk.
    pub trunk: TransformerConfig,
    /// Whether positions are fixed sines and cosines (MAE), which fit any grid, or learned.
    pub fixed_positions: bool,
    /// Normalisation of a decoder that brings its features back to voxels.
    pub decoder_norm: NormKind,
}

impl ViT3dConfig {
    /// A standard size: `vit3d_tiny`, `vit3d_small`, `vit3d_base` (width 192, 384, 768).
    pub fn named(name: &str, size: [usize; 3], patch: [usize; 3]) -> Option<Self> {
        let (dim, depth, heads) = match name {
            "vit3d_tiny" => (192, 12, 3),
            "vit3d_small" => (384, 12, 6),
            "vit3d_base" => (768, 12, 12),
            _ => return None,
        };
        let trunk = TransformerConfig::vit(dim, depth, heads, 4 * dim);
        Some(ViT3dConfig {
            size,
            patch,
            channels: 1,
            trunk,
            fixed_positions: false,
            decoder_norm: NormKind::Instance,
        })
    }
}

/// The network; its features are the mean of the tokens after the last norm.
pub struct ViT3d {
    config: ViT3dConfig,
    grid: [usize; 3],
    patch: PatchEmbed,
    positions: Weight,
    trunk: Transformer,
    norm: LayerNorm,
}

impl ViT3d {
    /// Builds the network: `patch_embed.proj`, `pos_embed`, `blocks.0` ..., `norm`.
    ///
    /// # Errors
    /// If the size is not a multiple of the patch, or the width does not fit heads or positions.
    pub fn new(scope: &Scope, config: ViT3dConfig) -> Result<Self> {
        let (size, p, dim) = (config.size, config.patch, config.trunk.dim);
        if (0..3).any(|a| p[a] == 0 || size[a] == 0 || !size[a].is_multiple_of(p[a])) {
            return Err(Error::config(format!(
                "volumes of {size:?} voxels are not multiples of encoder.patch = {p:?}"
            )));
        }
        if config.channels == 0 {
            return Err(Error::config("encoder.channels = 0: expected at least 1"));
        }
        let grid = [0, 1, 2].map(|a| size[a] / p[a]);
        let init = if config.fixed_positions { Init::XavierUniform } else { Init::TruncNormal(0.02) };
        let patch = PatchEmbed::new(
            &scope.sub("patch_embed").sub("proj").stem(),
            config.channels,
            dim,
            &p,
            true,
            init,
        )?;
        let stem = scope.stem().no_decay();
        let shape = (1, grid.iter().product::<usize>(), dim);
        let positions = if config.fixed_positions {
            let table = |device: &Device| sin_cos_3d(grid[0], grid[1], grid[2], dim, device);
            stem.with_role(Role::Frozen).get_with("pos_embed", shape, table)?
        } else {
            stem.get("pos_embed", shape, Init::TruncNormal(0.02))?
        };
        let trunk = Transformer::new(&scope.sub("blocks"), &config.trunk)?;
        let norm = LayerNorm::new(&scope.sub("norm").top(), dim, config.trunk.eps)?;
        Ok(ViT3d { config, grid, patch, positions, trunk, norm })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &ViT3dConfig {
        &self.config
    }

    /// Tokens of `x (N, C, D, H, W)` with their positions, `(N, L, D)`.
    fn tokens(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.boxes(&channels_last(x, self.config.channels)?, pass)?.0)
    }

    /// Tokens of `x (N, D, H, W, C)` with their positions, and the grid that they lie on.
    fn boxes(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, [usize; 3])> {
        let grid = self.patch.grid(&x.dims()[1..4])?;
        let grid = [grid[0], grid[1], grid[2]];
        let positions = if grid == self.grid {
            self.positions.on(pass)?
        } else if self.config.fixed_positions {
            sin_cos_3d(grid[0], grid[1], grid[2], self.config.trunk.dim, x.device())?
        } else {
            return Err(Error::input(
                "volume",
                format!(
                    "{:?} boxes, but positions were learned for {:?}: expected {:?} voxels",
                    grid, self.grid, self.config.size
                ),
            ));
        };
        Ok((self.patch.forward(x, pass)?.broadcast_add(&positions)?, grid))
    }
}

impl Encoder for ViT3d {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let hidden = HiddenLayers::of(want, self.trunk.depth())?;
        let (y, layers) = self.trunk.forward(&self.tokens(x, pass)?, None, hidden.asked(), pass)?;
        let y = self.norm.forward(&y, pass)?;
        Ok(Features { pooled: y.mean(1)?, tokens: want.contains(&Layer::Tokens).then_some(y), layers })
    }

    fn dim(&self) -> usize {
        self.config.trunk.dim
    }
}

/// The volume itself and the tokens: nothing between them is finer than a box.
impl MapEncoder for ViT3d {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let x = channels_last(x, self.config.channels)?;
        let (tokens, [d, h, w]) = self.boxes(&x, pass)?;
        let (y, _) = self.trunk.forward(&tokens, None, &[], pass)?;
        let (n, _, dim) = y.dims3()?;
        let coarse = self.norm.forward(&y, pass)?.reshape((n, d, h, w, dim))?; // (N, L, D) -> (N, d, h, w, D)
        Ok(vec![x, coarse])
    }

    fn scales(&self) -> Vec<Scale> {
        // Boxes that are not cubes have no stride that a decoder could double: 0 is none.
        let p = self.config.patch;
        let own = Scale { width: self.config.channels, stride: 1 };
        vec![own, Scale { width: self.config.trunk.dim, stride: if p == [p[0]; 3] { p[0] } else { 0 } }]
    }
}

impl TokenEncoder for ViT3d {
    fn embed(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.tokens(x, pass)
    }

    fn contextualize(&self, tokens: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        self.norm.forward(&self.trunk.forward(tokens, valid, &[], pass)?.0, pass)
    }

    fn prefix(&self) -> usize {
        0
    }

    fn patchify(&self, x: &Tensor) -> Result<Tensor> {
        self.patch.patchify(&channels_last(x, self.config.channels)?)
    }

    fn patch_dim(&self) -> usize {
        self.config.patch.iter().product::<usize>() * self.config.channels
    }

    fn grid(&self) -> Vec<usize> {
        self.grid.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Params;

    fn vit(fixed: bool) -> Result<ViT3d> {
        let mut config = ViT3dConfig::named("vit3d_tiny", [8, 8, 16], [4, 4, 4])
            .ok_or_else(|| Error::config("no vit3d_tiny"))?;
        config.trunk = TransformerConfig::vit(24, 1, 2, 48);
        config.fixed_positions = fixed;
        ViT3d::new(&Scope::root(&Params::new(), 0, &Device::Cpu), config)
    }

    #[test]
    fn boxes_become_tokens_and_a_map() -> Result<()> {
        let net = vit(true)?;
        let x = Tensor::zeros((2, 1, 8, 8, 16), candle_core::DType::F32, &Device::Cpu)?;
        let features = net.forward(&x, None, &[Layer::Tokens], &Pass::eval())?;
        assert_eq!(features.pooled.dims(), [2, 24]);
        assert_eq!(features.tokens.as_ref().map(|t| t.dims().to_vec()), Some(vec![2, 16, 24]));
        assert_eq!(net.maps(&x, &Pass::eval())?[1].dims(), [2, 2, 2, 4, 24]);
        assert_eq!((net.patchify(&x)?.dims(), net.patch_dim()), ([2, 16, 64].as_slice(), 64));
        Ok(())
    }

    #[test]
    fn other_sizes_need_fixed_positions() -> Result<()> {
        let x = Tensor::zeros((1, 1, 12, 8, 8), candle_core::DType::F32, &Device::Cpu)?;
        assert_eq!(vit(true)?.forward(&x, None, &[], &Pass::eval())?.pooled.dims(), [1, 24]);
        let error = vit(false)?
            .forward(&x, None, &[], &Pass::eval())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(error.contains("learned for"), "{error}");
        let odd = Tensor::zeros((1, 1, 9, 8, 8), candle_core::DType::F32, &Device::Cpu)?;
        assert!(vit(true)?.forward(&odd, None, &[], &Pass::eval()).is_err());
        Ok(())
    }
}
