//! ConvNeXt (Liu et al. 2022, arXiv 2201.03545) with timm's names: a residual network in the manner of a vision
//! transformer.
//!
//! The stem cuts the image into patches; between stages a convolution of 2x2 and stride 2 halves the map, after
//! a layer norm. A block is a 7x7 convolution of each channel by itself, a layer norm, an MLP with four times the
//! width, a learned factor for each channel (LayerScale), and the residual:
//!
//! `x + gamma * MLP(LN(depthwise(x)))`
//!
//! The features are the layer norm of the mean over the last map.

use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, MapEncoder, Scale, no_padding};
use selfsup_core::network::channels_last;
use selfsup_core::nn::{Conv, LayerNorm, Mlp};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope, Weight};
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::dropout::drop_path;
use selfsup_kernels::pool::global_avg_pool;

/// Epsilon of all norms but that of the features.
const EPS: f64 = 1e-6;

/// Side of a block's depthwise kernel.
pub(crate) const KERNEL: usize = 7;

/// The authors' initial values of convolutions and linear layers.
const INIT: Init = Init::TruncNormal(0.02);

/// Shape of a [`ConvNeXt`].
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNeXtConfig {
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Width per stage.
    pub widths: Vec<usize>,
    /// Side of the stem's patches.
    pub patch: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Initial value of LayerScale, if used.
    pub layer_scale: Option<f32>,
    /// Stochastic depth of the last block; earlier ones grow linearly towards it.
    pub drop_path: f32,
    /// Epsilon of the norm of the features.
    pub eps: f64,
}

impl ConvNeXtConfig {
    /// A standard size: `convnext_tiny`, `convnext_small`, `convnext_base`, `convnext_large`,
    /// `convnext_xlarge`.
    pub fn named(name: &str) -> Option<Self> {
        let (depths, width) = match name {
            "convnext_tiny" => ([3, 3, 9, 3], 96),
            "convnext_small" => ([3, 3, 27, 3], 96),
            "convnext_base" => ([3, 3, 27, 3], 128),
            "convnext_large" => ([3, 3, 27, 3], 192),
            "convnext_xlarge" => ([3, 3, 27, 3], 256),
            _ => return None,
        };
        Some(ConvNeXtConfig {
            depths: depths.to_vec(),
            widths: [1, 2, 4, 8].map(|factor| factor * width).to_vec(),
            patch: 4,
            channels: 3,
            layer_scale: Some(1e-6),
            drop_path: 0.0,
            eps: EPS,
        })
    }
}

struct Block {
    name: String,
    depthwise: Conv,
    norm: LayerNorm,
    mlp: Mlp,
    gamma: Option<Weight>,
    drop_path: f32,
}

impl Block {
    fn new(scope: &Scope, width: usize, layer_scale: Option<f32>, drop_path: f32) -> Result<Self> {
        let spec = ConvSpec::new().padding(KERNEL / 2).groups(width);
        Ok(Block {
            name: scope.path().to_string(),
            depthwise: Conv::new(&scope.sub("conv_dw"), width, width, &[KERNEL; 2], spec, true, INIT)?,
            norm: LayerNorm::new(&scope.sub("norm"), width, EPS)?,
            mlp: Mlp::new(&scope.sub("mlp"), width, 4 * width, Act::GeluErf, INIT)?,
            gamma: layer_scale.map(|value| scope.get("gamma", width, Init::Const(value))).transpose()?,
            drop_path,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = self.norm.forward(&self.depthwise.forward(x, pass)?, pass)?;
        let mut y = self.mlp.forward(&y, pass)?;
        if let Some(gamma) = &self.gamma {
            y = y.broadcast_mul(&gamma.on(pass)?)?;
        }
        if let Some(drop) = pass.dropout(self.drop_path, pass.key(&self.name).named("path")) {
            y = drop_path(&y, &drop)?;
        }
        Ok((x + y)?)
    }
}

/// The convolution that halves a map, and the norm before it.
struct Halving {
    norm: LayerNorm,
    conv: Conv,
}

impl Halving {
    fn new(scope: &Scope, inputs: usize, outputs: usize) -> Result<Self> {
        let spec = ConvSpec::new().stride(2);
        Ok(Halving {
            norm: LayerNorm::new(&scope.sub("0"), inputs, EPS)?,
            conv: Conv::new(&scope.sub("1"), inputs, outputs, &[2; 2], spec, true, INIT)?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.conv.forward(&self.norm.forward(x, pass)?, pass)
    }
}

/// The network without its classifier.
pub struct ConvNeXt {
    config: ConvNeXtConfig,
    stem: (Conv, LayerNorm),
    stages: Vec<(Option<Halving>, Vec<Block>)>,
    norm: LayerNorm,
}

impl ConvNeXt {
    /// Builds the network: `stem.0`, `stem.1`, `stages.0.blocks.0.conv_dw` ..., `stages.1.downsample.0` ...,
    /// `head.norm`.
    ///
    /// # Errors
    /// If the configuration has no stage, or a depth, a width, a patch or a number of channels of 0.
    pub fn new(scope: &Scope, config: ConvNeXtConfig) -> Result<Self> {
        let c = &config;
        if c.depths.is_empty()
            || c.depths.len() != c.widths.len()
            || c.depths.contains(&0)
            || c.widths.contains(&0)
        {
            return Err(Error::config(format!(
                "encoder.depths = {:?} and encoder.widths = {:?}: expected as many widths as depths, all above 0",
                c.depths, c.widths
            )));
        }
        if c.patch == 0 || c.channels == 0 {
            return Err(Error::config(format!(
                "encoder.patch = {} and encoder.channels = {}: expected at least 1",
                c.patch, c.channels
            )));
        }
        let stem = scope.sub("stem").stem();
        let spec = ConvSpec::new().stride(c.patch);
        let stem = (
            Conv::new(&stem.sub("0"), c.channels, c.widths[0], &[c.patch; 2], spec, true, INIT)?,
            LayerNorm::new(&stem.sub("1"), c.widths[0], EPS)?,
        );
        let blocks: usize = c.depths.iter().sum();
        let (mut stages, mut at) = (Vec::new(), 0);
        for (s, (&depth, &width)) in c.depths.iter().zip(&c.widths).enumerate() {
            let stage = scope.sub("stages").sub(s).block(s);
            let halving = match s.checked_sub(1) {
                Some(before) => Some(Halving::new(&stage.sub("downsample"), c.widths[before], width)?),
                None => None,
            };
            let mut list = Vec::new();
            for b in 0..depth {
                let share = if blocks > 1 { at as f32 / (blocks - 1) as f32 } else { 1.0 };
                list.push(Block::new(
                    &stage.sub("blocks").sub(b),
                    width,
                    c.layer_scale,
                    c.drop_path * share,
                )?);
                at += 1;
            }
            stages.push((halving, list));
        }
        let width = c.widths.last().copied().unwrap_or(0);
        let norm = LayerNorm::new(&scope.sub("head").sub("norm").top(), width, c.eps)?;
        Ok(ConvNeXt { config, stem, stages, norm })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &ConvNeXtConfig {
        &self.config
    }

    /// The output of the stem for `x (N, C, H, W)`: `(N, H / p, W / p, D)`.
    ///
    /// # Errors
    /// If the shape does not fit, or the image is smaller than all strides together.
    pub fn embeddings(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = channels_last(x, self.config.channels, 2)?;
        let least = self.config.patch << (self.stages.len() - 1);
        if x.dim(1)? < least || x.dim(2)? < least {
            return Err(Error::input(
                "image",
                format!(
                    "{} x {} pixels: this network takes images from {least} x {least} on",
                    x.dim(1)?,
                    x.dim(2)?
                ),
            ));
        }
        self.stem.1.forward(&self.stem.0.forward(&x, pass)?, pass)
    }

    /// Runs the network; `see` gets the output of each stage, and the last one is returned.
    fn run(&self, x: &Tensor, pass: &Pass, mut see: impl FnMut(usize, &Tensor)) -> Result<Tensor> {
        let mut x = self.embeddings(x, pass)?;
        for (s, (halving, blocks)) in self.stages.iter().enumerate() {
            if let Some(halving) = halving {
                x = halving.forward(&x, pass)?;
            }
            for block in blocks {
                x = block.forward(&x, pass)?;
            }
            see(s, &x);
        }
        Ok(x)
    }
}

impl Encoder for ConvNeXt {
    /// `tokens` is the last map, `(N, H', W', D)`, before the norm; hidden layers are those after each stage.
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let mut hidden = HiddenLayers::of(want, self.stages.len())?;
        let x = self.run(x, pass, |s, x| hidden.see(s, x))?;
        Ok(Features {
            pooled: self.norm.forward(&global_avg_pool(&x)?, pass)?,
            tokens: want.contains(&Layer::Tokens).then_some(x),
            layers: hidden.layers()?,
        })
    }

    fn dim(&self) -> usize {
        self.config.widths.last().copied().unwrap_or(0)
    }

    fn map(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.norm.forward(&self.run(x, pass, |_, _| {})?, pass)
    }

    fn stride(&self) -> Vec<usize> {
        self.scales().last().map(|s| vec![s.stride; 2]).unwrap_or_default()
    }
}

impl MapEncoder for ConvNeXt {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let mut maps = Vec::with_capacity(self.stages.len());
        self.run(x, pass, |_, x| maps.push(x.clone()))?;
        Ok(maps)
    }

    fn scales(&self) -> Vec<Scale> {
        let widths = self.config.widths.iter().enumerate();
        widths.map(|(s, &width)| Scale { width, stride: self.config.patch << s }).collect()
    }
}
