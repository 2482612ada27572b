//! Residual networks (He et al. 2015, arXiv 1512.03385) with torchvision's names, over images and, in three
//! dimensions (Hara et al. 2017, arXiv 1711.09577), over volumes; their wide variants (Zagoruyko and
//! Komodakis 2016, arXiv 1605.07146), and MedicalNet's (Chen et al. 2019, arXiv 1904.00625), whose last
//! stages are dilated instead of strided.
//!
//! A block adds `F(x)` to its input: two convolutions of kernel 3, or of kernels 1, 3, 1 with four times the
//! width outside. The stride sits in the convolution of kernel 3. Where the shape changes the shortcut is a
//! convolution of kernel 1 with batch norm. For small inputs (images of 32 pixels and less) the stem is a
//! convolution of kernel 3 and stride 1 without pooling, as SimCLR uses for CIFAR-10 (arXiv 2002.05709, B.9).

use super::layout::channels_last;
use crate::encoder::{Encoder, Features, HiddenLayers, Layer, MapEncoder, Scale, no_padding};
use crate::error::{Error, Result};
use crate::nn::ConvBn;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::norm::add_relu;
use selfsup_kernels::pool::{avg_pool, global_avg_pool, max_pool};
use serde::{Deserialize, Serialize};

/// The shortcut of a block whose shape changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// A convolution of kernel 1 with batch norm (type B).
    Convolution,
    /// Every `stride`-th position and channels of zeros (type A, MedicalNet's ResNet-18 and -34).
    Zeros,
}

/// Shape of a [`ResNet`] over `A` axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNetConfig<const A: usize> {
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Inner width per stage.
    pub widths: Vec<usize>,
    /// Width of the stem.
    pub stem: usize,
    /// Blocks of kernels 1, 3, 1 with expansion 4.
    pub bottleneck: bool,
    /// Width of a bottleneck's convolution of kernel 3 in 64ths of the stage's width: 64, or 128 in the wide
    /// variants.
    pub base_width: usize,
    /// Stem of kernel 3 and stride 1 without pooling, instead of kernel 7 and stride 2 and a max pooling of
    /// kernel 3 and stride 2.
    pub small: bool,
    /// MedicalNet: stages from the third on keep the resolution and dilate their convolutions by 2, 4 ...
    pub dilated: bool,
    /// How the shortcut changes shape.
    pub shortcut: Shortcut,
    /// Channels of the inputs.
    pub channels: usize,
}

impl<const A: usize> ResNetConfig<A> {
    /// A standard network by name. Of images: `resnet18`, `resnet34`, `resnet50`, `resnet101`, `resnet152`,
    /// `wide_resnet50_2`, `wide_resnet101_2`; of volumes: `resnet3d10`, `resnet3d18`, `resnet3d34`,
    /// `resnet3d50`.
    pub fn named(name: &str) -> Option<Self> {
        let (depths, bottleneck, base_width) = match (A, name) {
            (3, "resnet3d10") => ([1, 1, 1, 1], false, 64),
            (2, "resnet18") | (3, "resnet3d18") => ([2, 2, 2, 2], false, 64),
            (2, "resnet34") | (3, "resnet3d34") => ([3, 4, 6, 3], false, 64),
            (2, "resnet50") | (3, "resnet3d50") => ([3, 4, 6, 3], true, 64),
            (2, "resnet101") => ([3, 4, 23, 3], true, 64),
            (2, "resnet152") => ([3, 8, 36, 3], true, 64),
            (2, "wide_resnet50_2") => ([3, 4, 6, 3], true, 128),
            (2, "wide_resnet101_2") => ([3, 4, 23, 3], true, 128),
            _ => return None,
        };
        Some(ResNetConfig {
            depths: depths.to_vec(),
            widths: vec![64, 128, 256, 512],
            stem: 64,
            bottleneck,
            base_width,
            small: false,
            dilated: false,
            shortcut: Shortcut::Convolution,
            channels: if A == 3 { 1 } else { 3 },
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

enum Change<const A: usize> {
    None,
    Convolution(Box<ConvBn>),
    Zeros { stride: usize, channels: usize },
}

impl<const A: usize> Change<A> {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(match self {
            Change::None => x.clone(),
            Change::Convolution(layer) => layer.forward(x, Act::None, pass)?,
            Change::Zeros { stride, channels } => {
                let kept = avg_pool(x, &[1; A], &[*stride; A], &[0; A], Path::Auto)?;
                kept.pad_with_zeros(A + 1, 0, *channels)?
            }
        })
    }
}

struct Block<const A: usize> {
    body: Vec<ConvBn>,
    change: Change<A>,
}

impl<const A: usize> Block<A> {
    fn new(
        scope: &Scope,
        inputs: usize,
        width: usize,
        (stride, dilation): (usize, usize),
        c: &ResNetConfig<A>,
    ) -> Result<Self> {
        let outputs = width * c.expansion();
        let layer = |i: usize, a: usize, b: usize, k: usize, stride: usize| {
            let spec = if k == 3 {
                ConvSpec::new().stride(stride).padding(dilation).dilation(dilation)
            } else {
                ConvSpec::new()
            };
            ConvBn::new(&scope.sub(format!("conv{i}")), &scope.sub(format!("bn{i}")), a, b, &[k; A], spec)
        };
        let body = if c.bottleneck {
            let inner = width * c.base_width / 64;
            vec![
                layer(1, inputs, inner, 1, 1)?,
                layer(2, inner, inner, 3, stride)?,
                layer(3, inner, outputs, 1, 1)?,
            ]
        } else {
            vec![layer(1, inputs, width, 3, stride)?, layer(2, width, width, 3, 1)?]
        };
        let change = match c.shortcut {
            _ if stride == 1 && inputs == outputs => Change::None,
            Shortcut::Convolution => {
                let s = scope.sub("downsample");
                let spec = ConvSpec::new().stride(stride);
                let layer = ConvBn::new(&s.sub("0"), &s.sub("1"), inputs, outputs, &[1; A], spec)?;
                Change::Convolution(Box::new(layer))
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
        Ok(add_relu(&y, &self.change.forward(x, pass)?, Path::Auto)?)
    }
}

/// The network without its classifier, over `A` axes.
pub struct ResNet<const A: usize> {
    config: ResNetConfig<A>,
    stem: ConvBn,
    stages: Vec<Vec<Block<A>>>,
}

impl<const A: usize> ResNet<A> {
    /// Builds the network: `conv1`, `bn1`, `layer1.0.conv1` ...
    ///
    /// # Errors
    /// If the configuration has no stage, or a depth, a width or a number of channels of 0.
    pub fn new(scope: &Scope, config: ResNetConfig<A>) -> Result<Self> {
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
        let stem = ConvBn::new(&stem.sub("conv1"), &stem.sub("bn1"), c.channels, c.stem, &[kernel; A], spec)?;
        let (mut stages, mut inputs) = (Vec::new(), c.stem);
        for (s, (&depth, &width)) in c.depths.iter().zip(&c.widths).enumerate() {
            let stage = scope.sub(format!("layer{}", s + 1)).block(s);
            let (stride, dilation) = c.step(s);
            let mut blocks = Vec::new();
            for b in 0..depth {
                let step = (if b == 0 { stride } else { 1 }, dilation);
                blocks.push(Block::new(&stage.sub(b), inputs, width, step, c)?);
                inputs = width * c.expansion();
            }
            stages.push(blocks);
        }
        Ok(ResNet { config, stem, stages })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &ResNetConfig<A> {
        &self.config
    }

    /// Runs the network on `x (N, C, S..)`; `see` gets the output of each stage, `(N, S'.., D)`, and the last
    /// one is returned.
    fn run(&self, x: &Tensor, pass: &Pass, mut see: impl FnMut(usize, &Tensor)) -> Result<Tensor> {
        let x = channels_last(x, self.config.channels, A)?;
        let mut x = self.stem.forward(&x, Act::Relu, pass)?;
        if !self.config.small {
            x = max_pool(&x, &[3; A], &[2; A], &[1; A], Path::Auto)?;
        }
        for (s, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = block.forward(&x, pass)?;
            }
            see(s, &x);
        }
        Ok(x)
    }
}

impl<const A: usize> Encoder for ResNet<A> {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let mut hidden = HiddenLayers::of(want, self.stages.len())?;
        let x = self.run(x, pass, |s, x| hidden.see(s, x))?;
        Ok(Features {
            pooled: global_avg_pool(&x)?,
            tokens: want.contains(&Layer::Tokens).then(|| x.clone()),
            layers: hidden.layers()?,
        })
    }

    fn dim(&self) -> usize {
        self.config.widths.last().copied().unwrap_or(0) * self.config.expansion()
    }

    fn stride(&self) -> Vec<usize> {
        self.scales().last().map(|s| vec![s.stride; A]).unwrap_or_default()
    }
}

impl<const A: usize> MapEncoder for ResNet<A> {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let mut maps = Vec::with_capacity(self.stages.len());
        self.run(x, pass, |_, x| maps.push(x.clone()))?;
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
