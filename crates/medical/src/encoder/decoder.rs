//! From the maps of an encoder back to the grid of its input: an expanding path with skips (Ronneberger et
//! al. 2015, arXiv 1505.04597; in three dimensions Çiçek et al. 2016, arXiv 1606.06650), for any encoder
//! whose maps are a power of two apart.

use super::layers::{ActKind, BlockSpec, ConvBlock, DoubleConv, NormKind};
use super::{MapEncoder, Scale, planes, volumes};
use candle_core::Tensor;
use selfsup_core::{Error, Init, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::join::join_channels;

/// Maps to one map on the grid of the input.
pub trait MapDecoder: Send + Sync {
    /// `maps`, finest first as of [`MapEncoder::maps`], to `(N, D, H, W, outputs)`.
    ///
    /// # Errors
    /// If they are not the maps that it was built for.
    fn decode(&self, maps: &[Tensor], pass: &Pass) -> Result<Tensor>;
}

/// One doubling of the resolution: transposed convolution, the map of that resolution beside it if there is
/// one, two convolutions.
struct Step {
    up: ConvBlock,
    body: DoubleConv,
    skip: Option<usize>,
}

/// The shape of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct UpSpec {
    /// Values of each voxel.
    pub outputs: usize,
    /// Normalisation.
    pub norm: NormKind,
    /// Activation.
    pub act: ActKind,
    /// Every plane by itself, with kernels of two dimensions; only the two axes of a plane are doubled.
    pub planar: bool,
    /// Width of two convolutions that the finest map goes through before it is joined: for encoders that hand
    /// over the volume itself, since their features are all coarse (UNETR, Hatamizadeh et al. 2021, arXiv
    /// 2103.10504).
    pub stem: Option<usize>,
}

/// The expanding path and its 1x1x1 convolution to the outputs.
pub struct UpDecoder {
    steps: Vec<Step>,
    head: ConvBlock,
    stem: Option<DoubleConv>,
    maps: usize,
    planar: bool,
}

impl UpDecoder {
    /// Steps live at `scope.0` (the coarsest), `scope.1` ..., the last convolution at `scope.head`, those of
    /// the finest map at `scope.stem`.
    ///
    /// # Errors
    /// If the strides of the maps are not powers of two, coarsest last.
    pub fn new(scope: &Scope, scales: &[Scale], spec: UpSpec) -> Result<Self> {
        let UpSpec { outputs, norm, act, planar, stem } = spec;
        let rank = if planar { 2 } else { 3 };
        let Some(last) = scales.last() else {
            return Err(Error::config("a decoder needs maps: the encoder has none"));
        };
        if outputs == 0
            || scales.iter().any(|s| !s.stride.is_power_of_two())
            || scales.windows(2).any(|w| w[0].stride > w[1].stride)
        {
            let strides: Vec<usize> = scales.iter().map(|s| s.stride).collect();
            return Err(Error::config(format!(
                "a decoder over maps of strides {strides:?} with {outputs} outputs: expected powers of two, coarsest last, and outputs above 0"
            )));
        }
        let mut scales = scales.to_vec();
        // Maps that are all as fine as the input have nothing to join.
        let stem = match (stem.filter(|_| last.stride > 1), scales.first_mut()) {
            (Some(width), Some(finest)) => {
                let inputs = std::mem::replace(&mut finest.width, width);
                Some(DoubleConv::new(&scope.sub("stem"), rank, inputs, width, norm, act)?)
            }
            _ => None,
        };
        let (mut width, mut stride, mut steps) = (last.width, last.stride, Vec::new());
        while stride > 1 {
            stride /= 2;
            let skip = scales.iter().rposition(|s| s.stride == stride).filter(|i| i + 1 < scales.len());
            // Without a map of that resolution the width is halved, as it would be in a U-Net.
            let outputs = skip.map_or((width / 2).max(16), |i| scales[i].width);
            let sub = scope.sub(steps.len());
            let spec = BlockSpec {
                kernel: 2,
                stride: 2,
                transposed: true,
                bias: true,
                init: Init::TorchLinear,
                ..BlockSpec::new(rank, width, outputs, NormKind::None, ActKind::None)
            };
            let up = ConvBlock::new(&sub.sub("up"), &sub, &sub, spec)?;
            let joined = outputs + skip.map_or(0, |i| scales[i].width);
            steps.push(Step { up, body: DoubleConv::new(&sub, rank, joined, outputs, norm, act)?, skip });
            width = outputs;
        }
        let head = scope.sub("head");
        let spec = BlockSpec {
            kernel: 1,
            bias: true,
            init: Init::TorchLinear,
            ..BlockSpec::new(rank, width, outputs, NormKind::None, ActKind::None)
        };
        Ok(UpDecoder {
            steps,
            head: ConvBlock::new(&head, &head, &head, spec)?,
            stem,
            maps: scales.len(),
            planar,
        })
    }
}

impl MapDecoder for UpDecoder {
    fn decode(&self, maps: &[Tensor], pass: &Pass) -> Result<Tensor> {
        let (Some(last), true) = (maps.last(), maps.len() == self.maps) else {
            return Err(Error::input("maps", format!("{}, expected {}", maps.len(), self.maps)));
        };
        let map = |i: usize| -> Result<Tensor> {
            let m = if self.planar { planes(&maps[i])? } else { maps[i].clone() };
            match &self.stem {
                Some(stem) if i == 0 => stem.forward(&m, pass),
                _ => Ok(m),
            }
        };
        let mut y = map(maps.len() - 1)?;
        for step in &self.steps {
            y = step.up.forward(&y, pass)?;
            if let Some(i) = step.skip {
                y = join_channels(&y, &map(i)?, Path::Auto)?;
            }
            y = step.body.forward(&y, pass)?;
        }
        let y = self.head.forward(&y, pass)?;
        if self.planar { volumes(&y, last.dim(0)?) } else { Ok(y) }
    }
}

/// An encoder and a decoder: a value, or scores of classes, for every voxel.
pub struct Dense {
    /// At `encoder`.
    pub encoder: Box<dyn MapEncoder>,
    /// At `decoder`.
    pub decoder: Box<dyn MapDecoder>,
}

impl Dense {
    /// `x (N, C, D, H, W)` to `(N, D, H, W, outputs)`, and the coarsest map of the encoder.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let maps = self.encoder.maps(x, pass)?;
        let last = maps.last().cloned().ok_or_else(|| Error::input("encoder", "no maps"))?;
        Ok((self.decoder.decode(&maps, pass)?, last))
    }
}
