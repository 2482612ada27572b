//! The contracting half of a U-Net, in three dimensions (Çiçek et al. 2016, arXiv 1606.06650): stages of two
//! 3x3x3 convolutions, each with instance normalisation (as nnU-Net, Isensee et al. 2018, arXiv 1809.10486;
//! the paper had batch normalisation) and a ReLU, with a 2x2x2 max pooling between stages.
//! [`UpDecoder`](super::UpDecoder) is the other half.
//!
//! A planar one (nnU-Net's 2-D configuration; Ronneberger et al. 2015, arXiv 1505.04597) takes every plane by
//! itself, with 3x3 kernels and 2x2 pooling: for slices, radiographs, and scans whose slices are far apart.
//!
//! The features of a volume are the mean over its coarsest map, as Models Genesis (Zhou et al. 2019, arXiv
//! 1908.06912) classifies from the encoder alone.

use super::layers::{ActKind, DoubleConv, NormKind};
use super::{MapEncoder, Scale, channels_last, divisible, planes, volumes};
use candle_core::Tensor;
use selfsup_core::encoder::{HiddenLayers, no_padding};
use selfsup_core::{Encoder, Error, Features, Layer, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::pool::{global_avg_pool, max_pool};

/// Shape of a [`UNet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UNetConfig {
    /// Channels of the volumes.
    pub channels: usize,
    /// Width of each stage.
    pub widths: Vec<usize>,
    /// Normalisation.
    pub norm: NormKind,
    /// Activation.
    pub act: ActKind,
    /// Every plane by itself, with kernels of two dimensions.
    pub planar: bool,
}

impl UNetConfig {
    /// Instance normalisation and ReLU, in three dimensions.
    pub fn new(channels: usize, widths: &[usize]) -> Self {
        UNetConfig {
            channels,
            widths: widths.to_vec(),
            norm: NormKind::Instance,
            act: ActKind::Relu,
            planar: false,
        }
    }
}

/// The contracting path.
pub struct UNet {
    config: UNetConfig,
    stages: Vec<DoubleConv>,
}

impl UNet {
    /// Stages live at `scope.0`, `scope.1` ...
    ///
    /// # Errors
    /// If there is no stage, or a width of 0.
    pub fn new(scope: &Scope, config: UNetConfig) -> Result<Self> {
        if config.widths.is_empty()
            || config.widths.len() > 8
            || config.widths.contains(&0)
            || config.channels == 0
        {
            return Err(Error::config(format!(
                "encoder.widths = {:?}: expected one to eight widths above 0",
                config.widths
            )));
        }
        let rank = if config.planar { 2 } else { 3 };
        let mut inputs = config.channels;
        let mut stages = Vec::new();
        for (i, &width) in config.widths.iter().enumerate() {
            stages.push(DoubleConv::new(
                &scope.sub(i).block(i),
                rank,
                inputs,
                width,
                config.norm,
                config.act,
            )?);
            inputs = width;
        }
        Ok(UNet { config, stages })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }
}

impl MapEncoder for UNet {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let mut x = channels_last(x, self.config.channels)?;
        let (n, planar) = (x.dim(0)?, self.config.planar);
        if planar {
            x = planes(&x)?;
        }
        let two = if planar { &[2; 2][..] } else { &[2; 3] };
        divisible(&x, 1 << (self.stages.len() - 1))?;
        let mut maps: Vec<Tensor> = Vec::with_capacity(self.stages.len());
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                x = max_pool(&x, two, two, &[0; 3][..two.len()], Path::Auto)?;
            }
            x = stage.forward(&x, pass)?;
            maps.push(if planar { volumes(&x, n)? } else { x.clone() });
        }
        Ok(maps)
    }

    fn scales(&self) -> Vec<Scale> {
        self.config.widths.iter().enumerate().map(|(i, &width)| Scale { width, stride: 1 << i }).collect()
    }
}

impl Encoder for UNet {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        features(self.maps(x, pass)?, want)
    }

    fn dim(&self) -> usize {
        self.config.widths.last().copied().unwrap_or(0)
    }

    fn stride(&self) -> Vec<usize> {
        self.scales()
            .last()
            .map(|s| if self.config.planar { vec![1, s.stride, s.stride] } else { vec![s.stride; 3] })
            .unwrap_or_default()
    }
}

/// Features of the maps, finest first: the mean of the last, and whatever is wanted.
pub(super) fn features(maps: Vec<Tensor>, want: &[Layer]) -> Result<Features> {
    let last = maps.last().ok_or_else(|| Error::input("encoder", "no maps"))?;
    let mut hidden = HiddenLayers::of(want, maps.len())?;
    maps.iter().enumerate().for_each(|(i, map)| hidden.see(i, map));
    Ok(Features {
        pooled: global_avg_pool(last)?,
        tokens: want.contains(&Layer::Tokens).then(|| last.clone()),
        layers: hidden.layers()?,
    })
}
