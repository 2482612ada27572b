//! MONAI's `UNet` in three dimensions: strided convolutions down, transposed ones up, one PReLU weight a
//! block, optionally residual units (Kerfoot et al. 2018, "Left-ventricle quantification using residual
//! U-Net", the network of that name in MONAI, Cardoso et al. 2022, arXiv 2211.02701).
//!
//! MONAI nests the network in itself (`model.1.submodule.1.submodule.0`). Here level `i` of the way down is
//! `encoder.i`, of the way up `decoder.i`; [`names::monai`](crate::names::monai) translates.

use super::decoder::MapDecoder;
use super::layers::{ActKind, BlockSpec, ConvBlock, NormKind};
use super::unet::features;
use super::{MapEncoder, Scale, channels_last, divisible};
use candle_core::Tensor;
use selfsup_core::encoder::no_padding;
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::join::join_channels;
use serde::{Deserialize, Serialize};

/// Shape of the network, in MONAI's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonaiConfig {
    /// Channels of the volumes.
    pub in_channels: usize,
    /// Channels of the result.
    pub out_channels: usize,
    /// Width of each level.
    pub channels: Vec<usize>,
    /// Stride of the convolution into each level but the last, whose stride is 1.
    pub strides: Vec<usize>,
    /// Convolutions of a residual unit; 0 for plain convolutions.
    pub num_res_units: usize,
    /// Kernel of the convolutions, odd.
    pub kernel_size: usize,
    /// Kernel of the transposed convolutions, odd.
    pub up_kernel_size: usize,
    /// Normalisation.
    pub norm: NormKind,
    /// Activation.
    pub act: ActKind,
}

impl MonaiConfig {
    /// MONAI's defaults: kernel 3, instance normalisation without weights, PReLU, no residual units.
    pub fn new(in_channels: usize, out_channels: usize, channels: &[usize], strides: &[usize]) -> Self {
        MonaiConfig {
            in_channels,
            out_channels,
            channels: channels.to_vec(),
            strides: strides.to_vec(),
            num_res_units: 0,
            kernel_size: 3,
            up_kernel_size: 3,
            norm: NormKind::InstancePlain,
            act: ActKind::Prelu,
        }
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.channels.len()
    }

    fn check(&self) -> Result<()> {
        let levels = self.channels.len();
        if levels < 2 || self.strides.len() + 1 != levels || levels > 12 {
            return Err(Error::config(format!(
                "U-Net with channels {:?} and strides {:?}: expected 2 to 12 channels and one stride less",
                self.channels, self.strides
            )));
        }
        if self.channels.contains(&0)
            || self.in_channels == 0
            || self.out_channels == 0
            || self.strides.iter().any(|s| !(1..=8).contains(s))
        {
            return Err(Error::config(format!(
                "U-Net with channels {:?} and strides {:?}: expected channels above 0 and strides from 1 to 8",
                self.channels, self.strides
            )));
        }
        for k in [self.kernel_size, self.up_kernel_size] {
            if k % 2 == 0 {
                return Err(Error::config(format!(
                    "U-Net kernel of size {k}: expected an odd one, which can keep the size"
                )));
            }
        }
        Ok(())
    }

    fn block(&self, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> BlockSpec {
        BlockSpec {
            kernel,
            stride,
            bias: true,
            init: Init::TorchLinear,
            ..BlockSpec::new(3, inputs, outputs, self.norm, self.act)
        }
    }
}

/// `Convolution`: `conv`, `adn.N`, `adn.A` below the scope.
fn convolution(scope: &Scope, spec: BlockSpec) -> Result<ConvBlock> {
    let adn = scope.sub("adn");
    ConvBlock::new(&scope.sub("conv"), &adn.sub("N"), &adn.sub("A"), spec)
}

fn bare(spec: BlockSpec) -> BlockSpec {
    BlockSpec { norm: NormKind::None, act: ActKind::None, ..spec }
}

/// A plain convolution, or a residual unit of `units` of them: their sum with the input, projected where
/// shapes differ.
struct Unit {
    convolutions: Vec<ConvBlock>,
    projection: Option<ConvBlock>,
    residual: bool,
}

impl Unit {
    fn new(scope: &Scope, spec: BlockSpec, units: usize, last_bare: bool) -> Result<Self> {
        if units == 0 {
            return Ok(Unit {
                convolutions: vec![convolution(scope, spec)?],
                projection: None,
                residual: false,
            });
        }
        let path = scope.sub("conv");
        let mut convolutions = Vec::new();
        for u in 0..units {
            let first = u == 0;
            let unit = BlockSpec {
                inputs: if first { spec.inputs } else { spec.outputs },
                stride: if first { spec.stride } else { 1 },
                ..spec
            };
            let unit = if last_bare && u + 1 == units { bare(unit) } else { unit };
            convolutions.push(convolution(&path.sub(format!("unit{u}")), unit)?);
        }
        let projection = if spec.stride != 1 || spec.inputs != spec.outputs {
            // To other channels alone a 1x1x1 convolution is enough.
            let kernel = if spec.stride == 1 { 1 } else { spec.kernel };
            let r = scope.sub("residual");
            Some(ConvBlock::new(&r, &r, &r, bare(BlockSpec { kernel, ..spec }))?)
        } else {
            None
        };
        Ok(Unit { convolutions, projection, residual: true })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut y = x.clone();
        for block in &self.convolutions {
            y = block.forward(&y, pass)?;
        }
        if !self.residual {
            return Ok(y);
        }
        let shortcut = match &self.projection {
            Some(projection) => projection.forward(x, pass)?,
            None => x.clone(),
        };
        Ok((y + shortcut)?)
    }
}

/// The way down.
pub struct MonaiEncoder {
    config: MonaiConfig,
    levels: Vec<Unit>,
}

impl MonaiEncoder {
    /// Levels live at `scope.0`, `scope.1` ...
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: MonaiConfig) -> Result<Self> {
        config.check()?;
        let mut inputs = config.in_channels;
        let mut levels = Vec::new();
        for (i, &width) in config.channels.iter().enumerate() {
            let stride = config.strides.get(i).copied().unwrap_or(1);
            let spec = config.block(inputs, width, config.kernel_size, stride);
            levels.push(Unit::new(&scope.sub(i).block(i), spec, config.num_res_units, false)?);
            inputs = width;
        }
        Ok(MonaiEncoder { config, levels })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &MonaiConfig {
        &self.config
    }
}

impl MapEncoder for MonaiEncoder {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let mut x = channels_last(x, self.config.in_channels)?;
        divisible(&x, self.config.strides.iter().product())?;
        let mut maps = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            x = level.forward(&x, pass)?;
            maps.push(x.clone());
        }
        Ok(maps)
    }

    fn scales(&self) -> Vec<Scale> {
        let mut stride = 1;
        let strides = self.config.strides.iter().copied().chain([1]);
        self.config
            .channels
            .iter()
            .zip(strides)
            .map(|(&width, s)| {
                stride *= s;
                Scale { width, stride }
            })
            .collect()
    }
}

impl Encoder for MonaiEncoder {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        features(self.maps(x, pass)?, want)
    }

    fn dim(&self) -> usize {
        self.config.channels.last().copied().unwrap_or(0)
    }

    fn stride(&self) -> Vec<usize> {
        self.scales().last().map(|s| vec![s.stride; 3]).unwrap_or_default()
    }
}

/// The way up: of each level the map of the way down and what comes from below, joined, then a transposed
/// convolution.
pub struct MonaiDecoder {
    levels: Vec<(ConvBlock, Option<Unit>)>,
}

impl MonaiDecoder {
    /// Levels live at `scope.0` (the finest), `scope.1` ...
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: &MonaiConfig) -> Result<Self> {
        config.check()?;
        let mut levels = Vec::new();
        for i in 0..config.levels() - 1 {
            let (top, below) = (i == 0, i + 2 == config.levels());
            // From below come as many channels as this level has, from the lowest level its own.
            let inputs = config.channels[i] + if below { config.channels[i + 1] } else { config.channels[i] };
            let outputs = if top { config.out_channels } else { config.channels[i - 1] };
            let spec = BlockSpec {
                transposed: true,
                ..config.block(inputs, outputs, config.up_kernel_size, config.strides[i])
            };
            let level = scope.sub(i);
            if config.num_res_units == 0 {
                levels.push((convolution(&level, if top { bare(spec) } else { spec })?, None));
            } else {
                let unit = config.block(outputs, outputs, config.kernel_size, 1);
                levels
                    .push((convolution(&level.sub(0), spec)?, Some(Unit::new(&level.sub(1), unit, 1, top)?)));
            }
        }
        Ok(MonaiDecoder { levels })
    }
}

impl MapDecoder for MonaiDecoder {
    fn decode(&self, maps: &[Tensor], pass: &Pass) -> Result<Tensor> {
        let [skips @ .., last] = maps else { return Err(Error::input("maps", "none, expected one a level")) };
        if skips.len() != self.levels.len() {
            return Err(Error::input("maps", format!("{}, expected {}", maps.len(), self.levels.len() + 1)));
        }
        let mut y = last.clone();
        for (skip, (up, unit)) in skips.iter().zip(&self.levels).rev() {
            y = up.forward(&join_channels(skip, &y, Path::Auto)?, pass)?;
            if let Some(unit) = unit {
                y = unit.forward(&y, pass)?;
            }
        }
        Ok(y)
    }
}
