//! Residual networks of volumes (He et al. 2015, arXiv 1512.03385; in three dimensions Hara et al. 2017,
//! arXiv 1711.09577) with torchvision's names, and MedicalNet's variant (Chen et al. 2019, arXiv 1904.00625),
//! whose last two stages are dilated instead of strided.
//!
//! For small patches (`small`) the stem is a 3x3x3 convolution of stride 1 without pooling.

use super::unet::features;
use super::{MapEncoder, NormKind, Scale, channels_last};
use candle_core::Tensor;
use selfsup_core::encoder::no_padding;
use selfsup_core::nn::ConvBn;
use selfsup_core::{Encoder, Error, Features, Layer, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::norm::add_relu;
use selfsup_kernels::pool::{avg_pool, max_pool};
use serde::{Deserialize, Serialize};

/// The shortcut of a block whose shape changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// A 1x1x1 convolution with batch norm (type B).
    Convolution,
    /// Every `stride`-th voxel and channels of zeros (type A, MedicalNet's ResNet-18 and -34).
    Zeros,
}

/// Shape of a [`ResNet3d`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNet3dConfig {
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Inner width per stage.
    pub widths: Vec<usize>,
    /// Width of the stem.
    pub stem: usize,
    /// 1x1x1, 3x3x3, 1x1x1 blocks with expansion 4.
    pub bottleneck: bool,
    /// 3x3x3 stem of stride 1 without pooling, instead of 7x7x7 of stride 2 and a 3x3x3 max pooling of stride
    /// 2.
    pub small: bool,
    /// MedicalNet: stages from the third on keep the resolution and dilate their convolutions by 2, 4 ...
    pub dilated: bool,
    /// How the shortcut changes shape.
    pub shortcut: Shortcut,
    /// Normalisation of a decoder that brings its maps back to voxels.
    pub decoder_norm: NormKind,
    /// Channels of the volumes.
    pub channels: usize,
}

impl ResNet3dConfig {
    /// A standard network by name: `resnet3d10`, `resnet3d18`, `resnet3d34`, `resnet3d50`.
    pub fn named(name: &str) -> Option<Self> {
        let (depths, bottleneck) = match name {
            "resnet3d10" => ([1, 1, 1, 1], false),
            "resnet3d18" => ([2, 2, 2, 2], false),
            "resnet3d34" => ([3, 4, 6, 3], false),
            "resnet3d50" => ([3, 4, 6, 3], true),
            _ => return None,
        };
        Some(ResNet3dConfig {
            depths: depths.to_vec(),
            widths: vec![64, 128, 256, 512],
            stem: 64,
            bottleneck,
            small: false,
            dilated: false,
            shortcut: Shortcut::Convolution,
            decoder_norm: NormKind::Instance,
            channels: 1,
        })
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    /// Stride and dilation of stage `s`.
    fn step(&self, s: usize) -> (usize, usize) {
        match s {
            0 => (1, 1),
            1 => (2, 1),
            _ if self.dilated => (1, 1 << (s - 1).min(16)),
            _ => (2, 1),
        }
    }
}

enum Change {
    None,
    Convolution(Box<ConvBn>),
    Zeros { stride: usize, channels: usize },
}

struct Block {
    body: Vec<ConvBn>,
    change: Change,
}

impl Block {
    fn new(
        scope: &Scope,
        inputs: usize,
        width: usize,
        (stride, dilation): (usize, usize),
        c: &ResNet3dConfig,
    ) -> Result<Self> {
        let outputs = width * c.expansion();
        let layer = |i: usize, a: usize, b: usize, k: usize, stride: usize| {
            let spec = if k == 3 {
                ConvSpec::new().stride(stride).padding(dilation).dilation(dilation)
            } else {
                ConvSpec::new()
            };
            ConvBn::new(&scope.sub(format!("conv{i}")), &scope.sub(format!("bn{i}")), a, b, &[k, k, k], spec)
        };
        let body = if c.bottleneck {
            vec![
                layer(1, inputs, width, 1, 1)?,
                layer(2, width, width, 3, stride)?,
                layer(3, width, outputs, 1, 1)?,
            ]
        } else {
            vec![layer(1, inputs, width, 3, stride)?, layer(2, width, width, 3, 1)?]
        };
        let change = match c.shortcut {
            _ if stride == 1 && inputs == outputs => Change::None,
            Shortcut::Convolution => {
                let s = scope.sub("downsample");
                Change::Convolution(Box::new(ConvBn::new(
                    &s.sub("0"),
                    &s.sub("1"),
                    inputs,
                    outputs,
                    &[1; 3],
                    ConvSpec::new().stride(stride),
                )?))
            }
            Shortcut::Zeros if outputs >= inputs => Change::Zeros { stride, channels: outputs - inputs },
            Shortcut::Zeros => {
                return Err(Error::config(
                    "a shortcut of zeros adds channels: expected widths that do not shrink",
                ));
            }
        };
        Ok(Block { body, change })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut y = x.clone();
        for (i, layer) in self.body.iter().enumerate() {
            let act = if i + 1 == self.body.len() { Act::None } else { Act::Relu };
            y = layer.forward(&y, act, pass)?;
        }
        let shortcut = match &self.change {
            Change::None => x.clone(),
            Change::Convolution(layer) => layer.forward(x, Act::None, pass)?,
            Change::Zeros { stride, channels } => {
                avg_pool(x, &[1; 3], &[*stride; 3], &[0; 3], Path::Auto)?.pad_with_zeros(4, 0, *channels)?
            }
        };
        Ok(add_relu(&y, &shortcut, Path::Auto)?)
    }
}

/// The network without its classifier.
pub struct ResNet3d {
    config: ResNet3dConfig,
    stem: ConvBn,
    stages: Vec<Vec<Block>>,
}

impl ResNet3d {
    /// Builds the network: `conv1`, `bn1`, `layer1.0.conv1` ...
    ///
    /// # Errors
    /// If the configuration has no stage or a width of 0.
    pub fn new(scope: &Scope, config: ResNet3dConfig) -> Result<Self> {
        let c = &config;
        if c.depths.is_empty()
            || c.depths.len() != c.widths.len()
            || c.depths.contains(&0)
            || c.widths.contains(&0)
            || c.stem == 0
            || c.channels == 0
        {
            return Err(Error::config(format!(
                "encoder.depths = {:?} and encoder.widths = {:?}: expected as many widths as depths, all above 0",
                c.depths, c.widths
            )));
        }
        let (kernel, spec) =
            if c.small { (3, ConvSpec::new().padding(1)) } else { (7, ConvSpec::new().stride(2).padding(3)) };
        let stem = scope.stem();
        let stem = ConvBn::new(&stem.sub("conv1"), &stem.sub("bn1"), c.channels, c.stem, &[kernel; 3], spec)?;
        let (mut stages, mut inputs) = (Vec::new(), c.stem);
        for (s, (&depth, &width)) in c.depths.iter().zip(&c.widths).enumerate() {
            let stage = scope.sub(format!("layer{}", s + 1)).block(s);
            let (stride, dilation) = c.step(s);
            let mut blocks = Vec::new();
            for b in 0..depth {
                blocks.push(Block::new(
                    &stage.sub(b),
                    inputs,
                    width,
                    (if b == 0 { stride } else { 1 }, dilation),
                    c,
                )?);
                inputs = width * c.expansion();
            }
            stages.push(blocks);
        }
        Ok(ResNet3d { config, stem, stages })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &ResNet3dConfig {
        &self.config
    }
}

impl MapEncoder for ResNet3d {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let x = channels_last(x, self.config.channels)?;
        let mut x = self.stem.forward(&x, Act::Relu, pass)?;
        if !self.config.small {
            x = max_pool(&x, &[3; 3], &[2; 3], &[1; 3], Path::Auto)?;
        }
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x, pass)?;
            }
            maps.push(x.clone());
        }
        Ok(maps)
    }

    fn scales(&self) -> Vec<Scale> {
        let mut stride = if self.config.small { 1 } else { 4 };
        let widths = self.config.widths.iter().enumerate();
        widths
            .map(|(s, width)| {
                stride *= self.config.step(s).0;
                Scale { width: width * self.config.expansion(), stride }
            })
            .collect()
    }
}

impl Encoder for ResNet3d {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        features(self.maps(x, pass)?, want)
    }

    fn dim(&self) -> usize {
        self.config.widths.last().copied().unwrap_or(0) * self.config.expansion()
    }
}
