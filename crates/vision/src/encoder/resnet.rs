//! Residual networks (He et al. 2015, arXiv 1512.03385) with torchvision's names, and their wide variants
//! (Zagoruyko and Komodakis 2016, arXiv 1605.07146).
//!
//! A block adds `F(x)` to its input: two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the width
//! outside. The stride sits in the 3x3 convolution. Where the shape changes the shortcut is a 1x1 convolution
//! with batch norm. For small images (32 pixels and less) the stem is a 3x3 convolution of stride 1 without
//! pooling, as SimCLR uses for CIFAR-10 (arXiv 2002.05709, B.9).

use super::channels_last;
use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::nn::ConvBn;
use selfsup_core::{Encoder, Error, Features, Layer, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::norm::add_relu;
use selfsup_kernels::pool::{global_avg_pool, max_pool};

/// Shape of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Inner width per stage.
    pub widths: Vec<usize>,
    /// Width of the stem.
    pub stem: usize,
    /// 1x1, 3x3, 1x1 blocks with expansion 4.
    pub bottleneck: bool,
    /// Width of a bottleneck's 3x3 convolution in 64ths of the stage's width: 64, or 128 in the wide
    /// variants.
    pub base_width: usize,
    /// 3x3 stem of stride 1 without pooling, instead of 7x7 of stride 2 and a 3x3 max pooling of stride 2.
    pub small_images: bool,
    /// Channels of the images.
    pub channels: usize,
}

impl ResNetConfig {
    /// A standard network by name: `resnet18`, `resnet34`, `resnet50`, `resnet101`, `resnet152`,
    /// `wide_resnet50_2`, `wide_resnet101_2`.
    pub fn named(name: &str) -> Option<Self> {
        let (depths, bottleneck, base_width) = match name {
            "resnet18" => ([2, 2, 2, 2], false, 64),
            "resnet34" => ([3, 4, 6, 3], false, 64),
            "resnet50" => ([3, 4, 6, 3], true, 64),
            "resnet101" => ([3, 4, 23, 3], true, 64),
            "resnet152" => ([3, 8, 36, 3], true, 64),
            "wide_resnet50_2" => ([3, 4, 6, 3], true, 128),
            "wide_resnet101_2" => ([3, 4, 23, 3], true, 128),
            _ => return None,
        };
        Some(ResNetConfig {
            depths: depths.to_vec(),
            widths: vec![64, 128, 256, 512],
            stem: 64,
            bottleneck,
            base_width,
            small_images: false,
            channels: 3,
        })
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }
}

struct Block {
    body: Vec<ConvBn>,
    downsample: Option<ConvBn>,
}

impl Block {
    fn new(scope: &Scope, inputs: usize, width: usize, stride: usize, c: &ResNetConfig) -> Result<Self> {
        let outputs = width * c.expansion();
        let layer = |i: usize, a: usize, b: usize, k: usize, stride: usize| {
            let spec = ConvSpec::new().stride(stride).padding(k / 2);
            ConvBn::new(&scope.sub(format!("conv{i}")), &scope.sub(format!("bn{i}")), a, b, &[k, k], spec)
        };
        let body = if c.bottleneck {
            let inner = width * c.base_width / 64;
            vec![
                layer(1, inputs, inner, 1, 1)?,
                layer(2, inner, inner, 3, stride)?,
                layer(3, inner, outputs, 1, 1)?,
            ]
        } else {
            vec![layer(1, inputs, width, 3, stride)?, layer(2, width, outputs, 3, 1)?]
        };
        let downsample = if stride != 1 || inputs != outputs {
            let s = scope.sub("downsample");
            Some(ConvBn::new(
                &s.sub("0"),
                &s.sub("1"),
                inputs,
                outputs,
                &[1, 1],
                ConvSpec::new().stride(stride),
            )?)
        } else {
            None
        };
        Ok(Block { body, downsample })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut y = x.clone();
        for (i, layer) in self.body.iter().enumerate() {
            let act = if i + 1 == self.body.len() { Act::None } else { Act::Relu };
            y = layer.forward(&y, act, pass)?;
        }
        let shortcut = match &self.downsample {
            Some(layer) => layer.forward(x, Act::None, pass)?,
            None => x.clone(),
        };
        Ok(add_relu(&y, &shortcut, Path::Auto)?)
    }
}

/// The network without its classifier.
pub struct ResNet {
    config: ResNetConfig,
    stem: ConvBn,
    stages: Vec<Vec<Block>>,
}

impl ResNet {
    /// Builds the network: `conv1`, `bn1`, `layer1.0.conv1` ...
    ///
    /// # Errors
    /// If the configuration has no stage or a width of 0.
    pub fn new(scope: &Scope, config: ResNetConfig) -> Result<Self> {
        if config.depths.is_empty()
            || config.depths.len() != config.widths.len()
            || config.widths.contains(&0)
            || config.stem == 0
        {
            return Err(Error::config(format!(
                "encoder.depths = {:?} and encoder.widths = {:?}: expected as many widths as depths, all above 0",
                config.depths, config.widths
            )));
        }
        let (kernel, spec) = if config.small_images {
            (3, ConvSpec::new().padding(1))
        } else {
            (7, ConvSpec::new().stride(2).padding(3))
        };
        let stem = ConvBn::new(
            &scope.stem().sub("conv1"),
            &scope.stem().sub("bn1"),
            config.channels,
            config.stem,
            &[kernel, kernel],
            spec,
        )?;
        let (mut stages, mut inputs) = (Vec::new(), config.stem);
        for (s, (&depth, &width)) in config.depths.iter().zip(&config.widths).enumerate() {
            let stage = scope.sub(format!("layer{}", s + 1)).block(s);
            let mut blocks = Vec::new();
            for b in 0..depth {
                let stride = if s > 0 && b == 0 { 2 } else { 1 };
                blocks.push(Block::new(&stage.sub(b), inputs, width, stride, &config)?);
                inputs = width * config.expansion();
            }
            stages.push(blocks);
        }
        Ok(ResNet { config, stem, stages })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }
}

impl Encoder for ResNet {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let x = channels_last(x, self.config.channels)?;
        let mut x = self.stem.forward(&x, Act::Relu, pass)?;
        if !self.config.small_images {
            x = max_pool(&x, &[3, 3], &[2, 2], &[1, 1], Path::Auto)?;
        }
        let mut hidden = HiddenLayers::of(want, self.stages.len())?;
        for (s, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = block.forward(&x, pass)?;
            }
            hidden.see(s, &x);
        }
        Ok(Features {
            pooled: global_avg_pool(&x)?,
            tokens: want.contains(&Layer::Tokens).then(|| x.clone()),
            layers: hidden.layers()?,
        })
    }

    fn dim(&self) -> usize {
        self.config.widths.last().copied().unwrap_or(0) * self.config.expansion()
    }
}
