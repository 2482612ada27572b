//! The speech encoder of wav2vec 2.0, HuBERT and data2vec: a convolutional front, a projection, a positional
//! convolution and a transformer.
//!
//! Frames beyond the end of a wave are set to zero before the positional convolution and hidden from
//! attention, so a padded wave and the same wave alone come to the same frames. Two things see the padding
//! all the same, as in transformers: the statistics of the first convolution with [`FrontNorm::Group`], and
//! all but the first of data2vec's positional convolutions, near the end of a wave.

mod config;
mod front;
mod json;
mod position;

pub use config::{Family, FrontNorm, SpeechConfig};
pub use front::Front;
pub use position::Positions;

use candle_core::{DType, Tensor};
use selfsup_core::encoder::HiddenLayers;
use selfsup_core::kernels::Path;
use selfsup_core::kernels::dropout::dropout;
use selfsup_core::nn::{LayerNorm, Linear, Transformer, TransformerConfig};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Role, Scope, Weight};

/// The network.
#[derive(Clone, Debug)]
pub struct SpeechEncoder {
    config: SpeechConfig,
    name: String,
    front: Front,
    front_norm: Option<LayerNorm>,
    projection: Linear,
    mask_token: Weight,
    positions: Positions,
    trunk: Transformer,
    norm: LayerNorm,
}

/// What is hidden from the trunk.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    /// `(N, L)` u8, 1 for frames that the mask token replaces.
    pub frames: Option<Tensor>,
    /// `(N, D)` u8, 1 for channels that are set to zero.
    pub channels: Option<Tensor>,
}

/// The trunk of a speech encoder as [`Transformer`] takes it.
pub fn trunk_config(c: &SpeechConfig) -> TransformerConfig {
    TransformerConfig {
        act: c.act,
        pre_norm: c.stable_layer_norm,
        eps: c.eps,
        dropout: c.dropout,
        attention_dropout: c.attention_dropout,
        activation_dropout: c.activation_dropout,
        layer_drop: c.layer_drop,
        init: Init::Normal(0.02),
        ..TransformerConfig::vit(c.dim, c.depth, c.heads, c.hidden)
    }
}

impl SpeechEncoder {
    /// Builds the network in `scope`. The mask token is trained only where frames are hidden in training.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: SpeechConfig) -> Result<Self> {
        Self::with_front(scope, config, scope.role())
    }

    /// The same with a front of another role: [`Role::Frozen`] for fine-tuning.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn with_front(scope: &Scope, config: SpeechConfig, front: Role) -> Result<Self> {
        config.check()?;
        let c = &config;
        let inputs = c.conv_dim.last().copied().unwrap_or(1);
        let stem = scope.stem();
        let p = stem.sub("projection");
        let token = if c.mask.hides() { stem.no_decay() } else { stem.no_decay().with_role(Role::Frozen) };
        // Where blocks normalise after each part, the norm stands before the first of them.
        let norm = if c.stable_layer_norm { scope.top() } else { stem.clone() };
        Ok(SpeechEncoder {
            name: scope.path().to_string(),
            front: Front::new(&stem.sub("front").with_role(front), c)?,
            front_norm: if c.projection_norm {
                Some(LayerNorm::new(&p.sub("norm"), inputs, c.eps)?)
            } else {
                None
            },
            projection: Linear::new(&p.sub("linear"), inputs, c.dim, true, Init::TorchLinear)?,
            mask_token: token.get("mask_token", c.dim, Init::Uniform(1.0))?,
            positions: Positions::new(&stem.sub("positions"), c)?,
            trunk: Transformer::new(&scope.sub("blocks"), &trunk_config(c))?,
            norm: LayerNorm::new(&norm.sub("norm"), c.dim, c.eps)?,
            config,
        })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &SpeechConfig {
        &self.config
    }

    fn dropped(&self, x: Tensor, p: f32, name: &str, pass: &Pass) -> Result<Tensor> {
        match pass.dropout(p, pass.key(&self.name).named(name)) {
            Some(drop) => Ok(dropout(&x, &drop, Path::Auto)?),
            None => Ok(x),
        }
    }

    /// Waves `(N, T)` to the front's frames, normalised, `(N, L, C)`: the quantiser's input in wav2vec 2.0.
    ///
    /// # Errors
    /// If the waves are too short for one frame.
    pub fn frames(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.normalize(&self.convolve(x, pass)?, pass)
    }

    /// Waves `(N, T)` to what the convolutions make of them, before any normalisation of frames, `(N, L, C)`.
    ///
    /// # Errors
    /// If the waves are too short for one frame.
    pub fn convolve(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = self.front.forward(x, pass)?;
        let share = self.config.front_gradient;
        if share == 1.0 {
            return Ok(y);
        }
        // The difference is zero: it carries the share of the gradient and leaves the values as they are, to
        // the bit.
        let fixed = y.detach();
        Ok(((y - &fixed)? * share)?.add(&fixed)?)
    }

    /// The normalisation between the convolutions and what reads their frames, where the network has one.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn normalize(&self, frames: &Tensor, pass: &Pass) -> Result<Tensor> {
        match &self.front_norm {
            Some(norm) => norm.forward(frames, pass),
            None => Ok(frames.clone()),
        }
    }

    /// Frames of the front to the width of the trunk, `(N, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn project(&self, frames: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.dropped(
            self.projection.forward(frames, pass)?,
            self.config.projection_dropout,
            "projection",
            pass,
        )
    }

    /// Projected frames with what is hidden taken out, and zeros for padding: `valid (N, L)` f32 is 1 for
    /// frames of a wave.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn hide(&self, x: &Tensor, hidden: &Hidden, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let mut x = x.clone();
        if let Some(mask) = &hidden.frames {
            let mask = mask.unsqueeze(2)?.broadcast_as(x.shape())?;
            x = mask.where_cond(&self.mask_token.on(pass)?.broadcast_as(x.shape())?, &x)?;
        }
        if let Some(mask) = &hidden.channels {
            let keep = mask.to_dtype(DType::F32)?.affine(-1.0, 1.0)?;
            x = x.broadcast_mul(&keep.unsqueeze(1)?)?;
        }
        if let Some(valid) = valid {
            x = x.broadcast_mul(&valid.unsqueeze(2)?)?;
        }
        Ok(x)
    }

    /// What enters the first block: positions, and the norm where it comes first.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn place(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = (x + self.positions.forward(x, pass)?)?;
        let x = if self.config.stable_layer_norm { x } else { self.norm.forward(&x, pass)? };
        self.dropped(x, self.config.dropout, "input", pass)
    }

    /// Frames with their places through the trunk to `(N, L, D)`, and the outputs of the blocks named in
    /// `keep`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn contextualize(
        &self,
        x: &Tensor,
        valid: Option<&Tensor>,
        keep: &[usize],
        pass: &Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (y, layers) = self.trunk.forward(x, valid, keep, pass)?;
        Ok((if self.config.stable_layer_norm { self.norm.forward(&y, pass)? } else { y }, layers))
    }

    /// All of it: the front's frames `(N, L, C)` to the last hidden state `(N, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn encode(
        &self,
        frames: &Tensor,
        hidden: &Hidden,
        valid: Option<&Tensor>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let x = self.hide(&self.project(frames, pass)?, hidden, valid, pass)?;
        Ok(self.contextualize(&self.place(&x, pass)?, valid, &[], pass)?.0)
    }

    /// As [`SpeechEncoder::encode`], with the states `h_0 .. h_L` beside the last hidden state: what enters
    /// the first block and what comes out of each, before the final norm of a trunk that has one.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn states(
        &self,
        frames: &Tensor,
        hidden: &Hidden,
        valid: Option<&Tensor>,
        pass: &Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let x = self.place(&self.hide(&self.project(frames, pass)?, hidden, valid, pass)?, pass)?;
        let all: Vec<usize> = (0..self.trunk.depth()).collect();
        let (last, outputs) = self.contextualize(&x, valid, &all, pass)?;
        Ok((last, std::iter::once(x).chain(outputs).collect()))
    }

    /// Frames of waves of `lengths` samples.
    ///
    /// # Errors
    /// If one is too short for a frame.
    pub fn frame_counts(&self, lengths: &[usize]) -> Result<Vec<usize>> {
        lengths
            .iter()
            .enumerate()
            .map(|(i, &n)| match self.config.frames(n) {
                0 => Err(Error::input(
                    format!("wave {i} of the batch"),
                    format!(
                        "{n} samples, expected at least {}, which make one frame",
                        self.config.receptive_field()
                    ),
                )),
                frames => Ok(frames),
            })
            .collect()
    }

    /// `(N, width)` f32, 1 for frames of a wave; `None` if none is padded.
    ///
    /// # Errors
    /// If the device refuses the tensor.
    pub fn frame_mask(
        &self,
        counts: &[usize],
        width: usize,
        device: &candle_core::Device,
    ) -> Result<Option<Tensor>> {
        if counts.iter().all(|&n| n >= width) {
            return Ok(None);
        }
        let mut values = vec![0f32; counts.len() * width];
        for (row, &n) in values.chunks_exact_mut(width.max(1)).zip(counts) {
            row[..n.min(width)].fill(1.0);
        }
        Ok(Some(Tensor::from_vec(values, (counts.len(), width), device)?))
    }

    /// SpecAugment (Park et al. 2019, arXiv 1904.08779) on the trunk's input, from the samples' generators;
    /// nothing outside training.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn augment(
        &self,
        counts: &[usize],
        width: usize,
        pass: &Pass,
        device: &candle_core::Device,
    ) -> Result<Hidden> {
        let c = &self.config;
        if !pass.train {
            return Ok(Hidden::default());
        }
        let key = |name: &'static str| move |i| pass.sample_key(name, i);
        Ok(Hidden {
            frames: if c.mask.hides() {
                Some(c.mask.batch(counts, width, key("mask"), device)?)
            } else {
                None
            },
            channels: if c.channel_mask.hides() {
                Some(c.channel_mask.batch(&vec![c.dim; counts.len()], c.dim, key("channel-mask"), device)?)
            } else {
                None
            },
        })
    }

    /// Mean of `(N, L, D)` over the frames of each wave, `(N, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn pool(&self, tokens: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let Some(valid) = valid else { return Ok(tokens.mean(1)?) };
        let sum = tokens.broadcast_mul(&valid.unsqueeze(2)?)?.sum(1)?;
        Ok(sum.broadcast_div(&valid.sum_keepdim(1)?)?)
    }

    /// Lengths of the waves `x (N, T)` from `valid (N, T)`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn lengths(x: &Tensor, valid: Option<&Tensor>) -> Result<Vec<usize>> {
        let (n, t) = x.dims2()?;
        let Some(valid) = valid else { return Ok(vec![t; n]) };
        if valid.dims() != [n, t] {
            return Err(Error::input("valid", format!("shape {:?}, expected ({n}, {t})", valid.dims())));
        }
        Ok(valid
            .to_dtype(DType::F32)?
            .sum(1)?
            .to_vec1::<f32>()?
            .into_iter()
            .map(|v| v.round() as usize)
            .collect())
    }
}

impl Encoder for SpeechEncoder {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        let counts = self.frame_counts(&Self::lengths(x, valid)?)?;
        let frames = self.frames(x, pass)?;
        let width = frames.dim(1)?;
        let valid = self.frame_mask(&counts, width, x.device())?;
        let hidden = self.augment(&counts, width, pass, x.device())?;
        let y = self.hide(&self.project(&frames, pass)?, &hidden, valid.as_ref(), pass)?;
        let asked = HiddenLayers::of(want, self.trunk.depth())?;
        let (tokens, layers) =
            self.contextualize(&self.place(&y, pass)?, valid.as_ref(), asked.asked(), pass)?;
        Ok(Features {
            pooled: self.pool(&tokens, valid.as_ref())?,
            tokens: want.contains(&Layer::Tokens).then_some(tokens),
            layers,
        })
    }

    fn dim(&self) -> usize {
        self.config.dim
    }

    fn may_skip(&self) -> Vec<String> {
        let c = &self.config;
        let mut names = Vec::new();
        if c.mask.hides() {
            names.push("mask_token".to_string());
        }
        if self.trunk.drops_layers() {
            let parts = ["norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
            for i in 0..c.depth {
                names.extend(
                    parts.iter().flat_map(|p| ["weight", "bias"].map(|k| format!("blocks.{i}.{p}.{k}"))),
                );
            }
        }
        names
    }
}
