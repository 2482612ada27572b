//! TS2Vec's encoder (Yue et al. 2022, arXiv 2106.10466, section 3.1): a projection of each step, and residual
//! blocks of two convolutions of kernel 3 whose dilation doubles from block to block. Length and rate stay as
//! they are: every step has a representation, which sees `2 (2^(depth + 2) - 2) + 1` steps.
//!
//! The representation of a whole series is the largest value of each feature over time. Names are those of the
//! authors' weights: `input_fc`, `feature_extractor.net.0.conv1.conv`, `.conv2.conv`, `.projector`.

use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::activation::Act;
use selfsup_core::kernels::conv::ConvSpec;
use selfsup_core::kernels::dropout::dropout;
use selfsup_core::kernels::pool::max_pool;
use selfsup_core::network::channels_last;
use selfsup_core::nn::{Conv, Linear};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope};

/// Shape of a [`Dilated`].
#[derive(Clone, Debug, PartialEq)]
pub struct DilatedConfig {
    /// Channels of the inputs.
    pub channels: usize,
    /// Width of the blocks (the paper's 64).
    pub hidden: usize,
    /// Width of the representation (the paper's 320).
    pub dim: usize,
    /// Blocks before the last one (the paper's 10).
    pub depth: usize,
    /// Dropout of the representation (the authors' 0.1).
    pub dropout: f32,
}

/// Dilations above this reach beyond any series.
const DEPTH: usize = 24;

struct Block {
    conv1: Conv,
    conv2: Conv,
    projector: Option<Conv>,
}

impl Block {
    fn new(scope: &Scope, inputs: usize, outputs: usize, dilation: usize, last: bool) -> Result<Self> {
        // Kernel 3: the padding that keeps the length is the dilation.
        let spec = ConvSpec::new().padding(dilation).dilation(dilation);
        let conv = |name: &str, from: usize, kernel: usize, spec: ConvSpec| {
            Conv::new(&scope.sub(name), from, outputs, &[kernel], spec, true, Init::TorchLinear)
        };
        let projector = if inputs != outputs || last {
            Some(conv("projector", inputs, 1, ConvSpec::new())?)
        } else {
            None
        };
        Ok(Block {
            conv1: conv("conv1.conv", inputs, 3, spec)?,
            conv2: conv("conv2.conv", outputs, 3, spec)?,
            projector,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let gelu = |x: &Tensor| Act::GeluErf.apply(x, Path::Auto);
        let y = self.conv1.forward(&gelu(x)?, pass)?;
        let y = self.conv2.forward(&gelu(&y)?, pass)?;
        let shortcut = match &self.projector {
            Some(projector) => projector.forward(x, pass)?,
            None => x.clone(),
        };
        Ok((y + shortcut)?)
    }
}

/// The network.
pub struct Dilated {
    config: DilatedConfig,
    name: String,
    input: Linear,
    blocks: Vec<Block>,
}

impl Dilated {
    /// Builds the network.
    ///
    /// # Errors
    /// If a size is 0, or there are more blocks than dilations.
    pub fn new(scope: &Scope, config: DilatedConfig) -> Result<Self> {
        let c = &config;
        if c.channels == 0 || c.hidden == 0 || c.dim == 0 || c.depth > DEPTH {
            return Err(Error::config(format!(
                "encoder: channels {}, hidden {}, dim {}, depth {}: expected sizes above 0 and a depth of at most {DEPTH}",
                c.channels, c.hidden, c.dim, c.depth
            )));
        }
        let input =
            Linear::new(&scope.sub("input_fc").stem(), c.channels, c.hidden, true, Init::TorchLinear)?;
        let net = scope.sub("feature_extractor.net");
        let block = |i: usize| {
            let last = i == c.depth;
            let outputs = if last { c.dim } else { c.hidden };
            Block::new(&net.sub(i).block(i), c.hidden, outputs, 1 << i, last)
        };
        let blocks = (0..=c.depth).map(block).collect::<Result<_>>()?;
        Ok(Dilated { name: scope.path().to_string(), input, blocks, config })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &DilatedConfig {
        &self.config
    }

    /// The representation of every step of `x (N, C, T)`: `(N, T, D)`. Where `keep (N, T)` is 0,
    /// the projected value is set to 0: the step is hidden.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn steps(&self, x: &Tensor, keep: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        self.run(x, keep, pass, |_, _| ())
    }

    fn run(
        &self,
        x: &Tensor,
        keep: Option<&Tensor>,
        pass: &Pass,
        mut see: impl FnMut(usize, &Tensor),
    ) -> Result<Tensor> {
        let x = channels_last(x, self.config.channels, 1)?.to_dtype(pass.precision)?; // (N, C, T) -> (N, T, C)
        let mut y = self.input.forward(&x, pass)?;
        if let Some(keep) = keep {
            y = y.broadcast_mul(&keep.to_dtype(y.dtype())?.unsqueeze(2)?)?;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            y = block.forward(&y, pass)?;
            see(i, &y);
        }
        match pass.dropout(self.config.dropout, pass.key(&self.name).named("representation")) {
            Some(drop) => Ok(dropout(&y, &drop, Path::Auto)?),
            None => Ok(y),
        }
    }
}

/// The largest value of each feature over time: `(N, T, D)` to `(N, D)`.
///
/// # Errors
/// If the shape does not fit.
pub fn largest(steps: &Tensor) -> Result<Tensor> {
    let t = steps.dim(1)?;
    Ok(max_pool(&steps.contiguous()?, &[t], &[t], &[0], Path::Auto)?.squeeze(1)?)
}

impl Encoder for Dilated {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let mut hidden = HiddenLayers::of(want, self.blocks.len())?;
        let y = self.run(x, None, pass, |i, y| hidden.see(i, y))?;
        Ok(Features {
            pooled: largest(&y)?,
            tokens: want.contains(&Layer::Tokens).then_some(y),
            layers: hidden.layers()?,
        })
    }

    fn dim(&self) -> usize {
        self.config.dim
    }

    fn stride(&self) -> Vec<usize> {
        vec![1]
    }
}
