//! PatchTST (Nie et al. 2023, arXiv 2211.14730): a transformer over patches of each channel by itself, with weights
//! that all channels share.
//!
//! Each channel of a window is standardised by its own mean and deviation (`patches`), cut into patches, and passes
//! through blocks with batch normalisation before each part. Names are those of transformers' `PatchTSTModel`:
//! `embedder.input_embedding`, `positional_encoder.position_enc`, `layers.0.self_attn.q_proj`,
//! `layers.0.norm_sublayer1.batchnorm`, `layers.0.ff.0`.

use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::activation::Act;
use selfsup_core::kernels::attention::{AttentionOpts, self_attention};
use selfsup_core::kernels::dropout::dropout;
use selfsup_core::nn::{BatchNorm, Interpolation, Linear, interpolate_positions, sin_cos_1d};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope, Weight};

/// Added to variances before the root (transformers' `minimum_scale`).
const LEAST: f64 = 1e-5;

/// Shape of a [`PatchTst`].
#[derive(Clone, Debug, PartialEq)]
pub struct PatchTstConfig {
    /// Channels of the inputs.
    pub channels: usize,
    /// Samples of a window.
    pub length: usize,
    /// Samples of a patch.
    pub patch: usize,
    /// Samples between the beginnings of two patches.
    pub stride: usize,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; must divide `dim`.
    pub heads: usize,
    /// Width inside the MLPs.
    pub hidden: usize,
    /// Dropout of attention, of both parts of a block, and inside its MLP.
    pub dropout: f32,
}

impl PatchTstConfig {
    /// Patches of a window.
    pub fn patches(&self) -> usize {
        self.length.saturating_sub(self.patch) / self.stride.max(1) + 1
    }

    fn check(&self) -> Result<()> {
        let sizes = [self.channels, self.patch, self.stride, self.dim, self.heads, self.hidden];
        if sizes.contains(&0) || !self.dim.is_multiple_of(self.heads) || self.length < self.patch {
            return Err(Error::config(format!(
                "encoder: patch {}, stride {}, dim {}, heads {}, hidden {} on windows of {} samples: expected sizes above 0, \
                 heads that divide the width and windows of a patch at least",
                self.patch, self.stride, self.dim, self.heads, self.hidden, self.length
            )));
        }
        Ok(())
    }
}

struct Block {
    name: String,
    norm1: BatchNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: BatchNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(scope: &Scope, c: &PatchTstConfig) -> Result<Self> {
        let linear = |name: &str, from: usize, to: usize| {
            Linear::new(&scope.sub(name), from, to, true, Init::Normal(0.02))
        };
        let norm = |name: &str| BatchNorm::new(&scope.sub(name).sub("batchnorm"), c.dim, true);
        Ok(Block {
            name: scope.path().to_string(),
            norm1: norm("norm_sublayer1")?,
            q: linear("self_attn.q_proj", c.dim, c.dim)?,
            k: linear("self_attn.k_proj", c.dim, c.dim)?,
            v: linear("self_attn.v_proj", c.dim, c.dim)?,
            out: linear("self_attn.out_proj", c.dim, c.dim)?,
            norm2: norm("norm_sublayer3")?,
            up: linear("ff.0", c.dim, c.hidden)?,
            down: linear("ff.3", c.hidden, c.dim)?,
        })
    }

    /// `x (N C, L, D)` of `n` samples.
    fn forward(&self, x: &Tensor, n: usize, c: &PatchTstConfig, pass: &Pass) -> Result<Tensor> {
        let (rows, l, d) = x.dims3()?;
        // Dropout knows samples by dimension 0.
        let drop = |x: Tensor, part: &str| -> Result<Tensor> {
            Ok(match pass.dropout(c.dropout, pass.key(&self.name).named(part)) {
                Some(p) => {
                    let shape = x.dims().to_vec();
                    dropout(&x.reshape((n, ()))?, &p, Path::Auto)?.reshape(shape)?
                }
                None => x,
            })
        };
        let y = self.norm1.forward(x, Act::None, pass)?;
        let qkv = [&self.q, &self.k, &self.v].map(|l| l.forward(&y, pass));
        let [q, k, v] = qkv;
        let qkv = Tensor::stack(&[q?, k?, v?], 2)?.reshape((rows, l, 3, c.heads, d / c.heads))?; // (N C, L, 3, H, D / H)
        let mut opts = AttentionOpts {
            dropout: pass.dropout(c.dropout, pass.key(&self.name).named("attention")),
            ..AttentionOpts::default()
        };
        if let Some(drop) = &mut opts.dropout {
            // A sample has a row for each channel.
            drop.first *= (rows / n.max(1)) as u64;
        }
        let y = self_attention(&qkv, None, &opts, Path::Auto)?.reshape((rows, l, d))?;
        let x = (x + drop(self.out.forward(&y, pass)?, "out")?)?;
        let y = self.norm2.forward(&x, Act::None, pass)?;
        let y = drop(self.up.forward_act(&y, Act::GeluErf, pass)?, "hidden")?;
        Ok((&x + drop(self.down.forward(&y, pass)?, "mlp")?)?)
    }
}

/// The network.
pub struct PatchTst {
    config: PatchTstConfig,
    name: String,
    embedding: Linear,
    positions: Weight,
    blocks: Vec<Block>,
}

impl PatchTst {
    /// Builds the network. Positions begin as sines and are trained.
    ///
    /// # Errors
    /// If a size does not fit.
    pub fn new(scope: &Scope, config: PatchTstConfig) -> Result<Self> {
        config.check()?;
        let c = &config;
        let embedding = Linear::new(
            &scope.sub("embedder.input_embedding").stem(),
            c.patch,
            c.dim,
            true,
            Init::TorchLinear,
        )?;
        let (l, d) = (c.patches(), c.dim);
        let place = scope.sub("positional_encoder").stem().no_decay();
        let positions = place
            .get_with("position_enc", (l, d), |device| Ok(sin_cos_1d(l, d, device)?.reshape((l, d))?))?;
        let layers = scope.sub("layers");
        let blocks = (0..c.depth).map(|i| Block::new(&layers.sub(i).block(i), c)).collect::<Result<_>>()?;
        Ok(PatchTst { name: scope.path().to_string(), embedding, positions, blocks, config })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &PatchTstConfig {
        &self.config
    }

    /// Patches of `x (N, C, T)`, each channel standardised by the samples that `observed (N, C, T)` marks with 1:
    /// `(N, C, L, P)`. Samples in front that are no whole stride are left out;
    /// a small crop has fewer patches.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn patches(&self, x: &Tensor, observed: Option<&Tensor>) -> Result<Tensor> {
        let c = &self.config;
        let (_, channels, t) = x.dims3()?;
        if channels != c.channels || t < c.patch {
            return Err(Error::input(
                "signal",
                format!(
                    "shape {:?}: expected (N, {}, T) with T of {} at least",
                    x.dims(),
                    c.channels,
                    c.patch
                ),
            ));
        }
        let standard = match observed {
            None => {
                let x = x.broadcast_sub(&x.mean_keepdim(2)?)?;
                x.broadcast_div(&(x.sqr()?.mean_keepdim(2)? + LEAST)?.sqrt()?)?
            }
            Some(seen) => {
                let seen = seen.to_dtype(x.dtype())?;
                let count = seen.sum_keepdim(2)?.maximum(1.0)?;
                let x = x.broadcast_sub(&(x * &seen)?.sum_keepdim(2)?.broadcast_div(&count)?)?;
                let variance = (&x * &seen)?.sqr()?.sum_keepdim(2)?.broadcast_div(&count)?;
                x.broadcast_div(&(variance + LEAST)?.sqrt()?)?
            }
        };
        let count = (t - c.patch) / c.stride + 1;
        let start = t - (c.patch + c.stride * (count - 1));
        let patch = |i: usize| standard.narrow(2, start + i * c.stride, c.patch);
        Ok(Tensor::stack(&(0..count).map(patch).collect::<candle_core::Result<Vec<_>>>()?, 2)?)
    }

    /// The representation of `patches (N, C, L, P)`: `(N, C, L, D)`. Where `mask (N, C, L)` is 1, the patch is 0.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn encode(&self, patches: &Tensor, mask: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        self.run(patches, mask, pass, |_, _| Ok(()))
    }

    /// Positions of `l` patches `(l, D)`: those of a window, or linear between them for another length.
    fn places(&self, l: usize, pass: &Pass) -> Result<Tensor> {
        let (table, own) = (self.positions.on(pass)?, self.config.patches());
        if l == own {
            return Ok(table);
        }
        Ok(interpolate_positions(&table.unsqueeze(0)?, 0, &[own], &[l], Interpolation::Linear)?.squeeze(0)?)
    }

    fn run(
        &self,
        patches: &Tensor,
        mask: Option<&Tensor>,
        pass: &Pass,
        mut see: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let (n, channels, l, p) = patches.dims4()?;
        let kept = match mask {
            None => patches.clone(),
            Some(mask) => {
                let keep = mask.to_dtype(patches.dtype())?.affine(-1.0, 1.0)?.unsqueeze(3)?;
                patches.broadcast_mul(&keep)?
            }
        };
        let rows = kept.reshape((n * channels, l, p))?.contiguous()?.to_dtype(pass.precision)?;
        let mut x = self.embedding.forward(&rows, pass)?.broadcast_add(&self.places(l, pass)?)?;
        if let Some(drop) = pass.dropout(self.config.dropout, pass.key(&self.name).named("positions")) {
            x = dropout(&x.reshape((n, ()))?, &drop, Path::Auto)?.reshape(x.shape())?;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, n, &self.config, pass)?;
            see(i, &together(&x.reshape((n, channels, l, self.config.dim))?)?)?;
        }
        Ok(x.reshape((n, channels, l, self.config.dim))?)
    }
}

/// The channels of a patch side by side: `(N, C, L, D)` to `(N, L, C D)`.
fn together(x: &Tensor) -> Result<Tensor> {
    let (n, c, l, d) = x.dims4()?;
    Ok(x.permute((0, 2, 1, 3))?.contiguous()?.reshape((n, l, c * d))?)
}

impl Encoder for PatchTst {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let mut hidden = HiddenLayers::of(want, self.blocks.len())?;
        let patches = self.patches(x, None)?;
        let y = self.run(&patches, None, pass, |i, y| {
            hidden.see(i, y);
            Ok(())
        })?;
        let tokens = together(&y)?;
        Ok(Features {
            pooled: tokens.mean(1)?,
            tokens: want.contains(&Layer::Tokens).then_some(tokens),
            layers: hidden.layers()?,
        })
    }

    fn dim(&self) -> usize {
        self.config.channels * self.config.dim
    }

    fn stride(&self) -> Vec<usize> {
        vec![self.config.stride]
    }
}
