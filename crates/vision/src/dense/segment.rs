//! Semantic segmentation: a class for every pixel, by a linear layer on the last map of an encoder, or by a
//! small decoder over all of its maps.
//!
//! The linear head is that of DINOv2's evaluation (Oquab et al. 2023, arXiv 2304.07193, section 7.4): batch
//! norm, a 1 x 1 convolution, and linear resizing to the pixels. The decoder sums the levels of a feature
//! pyramid at the finest resolution (Kirillov et al. 2019, arXiv 1901.02446, with one convolution a level).
//! The loss is the cross entropy over the pixels that count.

use super::layers::ConvGn;
use super::pyramid::Pyramid;
use super::stages::Stages;
use crate::encoder::Architecture;
use candle_core::{DType, Device, Tensor};
use selfsup_core::kernels::host::indices;
use selfsup_core::kernels::host::integers;
use selfsup_core::loss::{IGNORED, cross_entropy};
use selfsup_core::nn::{BatchNorm, Linear};
use selfsup_core::objective::{Batch, Gauge, Loss, Objective, Outputs};
use selfsup_core::{Encoder, Error, Init, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::resize::{Resize, resize};
use serde::{Deserialize, Serialize};

/// Views with a class for every pixel.
#[derive(Clone, Debug)]
pub struct MaskBatch {
    /// `(N, C, H, W)`.
    pub x: Tensor,
    /// `(N, H, W)`, i64: a class, or -100 where a pixel does not count.
    pub labels: Tensor,
    /// Pixels that count, of each view.
    pub counted: Vec<usize>,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
}

impl Batch for MaskBatch {
    fn samples(&self) -> usize {
        self.counted.len()
    }

    /// Pixels that count.
    fn weight(&self) -> f64 {
        self.counted.iter().sum::<usize>() as f64
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(MaskBatch {
            x: self.x.narrow(0, start, len)?,
            labels: self.labels.narrow(0, start, len)?,
            counted: self.counted.get(start..start + len).unwrap_or_default().to_vec(),
            indices: self.indices.get(start..start + len).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(MaskBatch { x: self.x.to_device(device)?, labels: self.labels.to_device(device)?, ..self.clone() })
    }
}

/// What stands on the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HeadKind {
    /// A linear layer where the encoder is frozen, else a decoder.
    #[default]
    Auto,
    /// Batch norm and a linear layer on the last map.
    Linear,
    /// A feature pyramid over all maps.
    Pyramid,
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentConfig {
    /// Number of classes, at least 2.
    pub classes: usize,
    /// The encoder is not trained: it runs as in evaluation.
    pub frozen: bool,
    /// What stands on it.
    pub head: HeadKind,
    /// Channels of the decoder.
    pub width: usize,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        SegmentConfig { classes: 2, frozen: false, head: HeadKind::Auto, width: 128 }
    }
}

enum Head {
    Linear(BatchNorm, Linear),
    Pyramid(Pyramid, ConvGn, Linear),
}

/// The objective.
pub struct Segment {
    config: SegmentConfig,
    params: Params,
    stages: Stages,
    head: Head,
}

impl Segment {
    /// Builds the encoder at `encoder` and what stands on it at `head`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, architecture: &Architecture, config: SegmentConfig) -> Result<Self> {
        if config.classes < 2 || config.width == 0 {
            return Err(Error::config(format!(
                "{} classes and a decoder of width {}: expected at least 2 classes and a width above 0",
                config.classes, config.width
            )));
        }
        let stages = Stages::new(&scope.sub("encoder"), architecture)?;
        let (top, scales) = (scope.sub("head").top(), stages.scales());
        let linear = match config.head {
            HeadKind::Auto => config.frozen,
            kind => kind == HeadKind::Linear,
        };
        let last = |inputs: usize| {
            Linear::new(&top.sub("linear"), inputs, config.classes, true, Init::TruncNormal(0.01))
        };
        let head = if linear {
            let inputs = stages.encoder().dim();
            Head::Linear(BatchNorm::new(&top.sub("norm"), inputs, true)?, last(inputs)?)
        } else {
            stages.freeze_unused(scope.params(), "encoder");
            Head::Pyramid(
                Pyramid::new(&top.sub("pyramid"), &scales, scales.len().max(3), config.width)?,
                ConvGn::new(&top.sub("fuse"), config.width, config.width, Init::KaimingFanOut)?,
                last(config.width)?,
            )
        };
        Ok(Segment { config, params: scope.params().clone(), stages, head })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// Scores before the softmax at the resolution of the head, `(N, H', W', classes)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn coarse(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match &self.head {
            Head::Linear(norm, linear) => {
                let map = self.stages.last(x, self.config.frozen, pass)?;
                linear.forward(&norm.forward(&map, Act::None, pass)?, pass)
            }
            Head::Pyramid(pyramid, fuse, linear) => {
                let maps = self.stages.maps(x, self.config.frozen, pass)?;
                let levels = pyramid.forward(&maps, pass)?;
                let Some((finest, coarser)) = levels.split_first() else {
                    return Err(Error::input("pyramid", "no levels"));
                };
                let size = [finest.dim(1)?, finest.dim(2)?];
                let all = coarser.iter().try_fold(finest.clone(), |sum, level| -> Result<Tensor> {
                    Ok((sum + resize(level, &size, Resize::Linear, Path::Auto)?)?)
                })?;
                linear.forward(&fuse.forward(&all, pass)?, pass)
            }
        }
    }

    /// Scores before the softmax for every pixel of `x (N, C, H, W)`: `(N, H, W, classes)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let size = [x.dim(2)?, x.dim(3)?];
        Ok(resize(&self.coarse(x, pass)?, &size, Resize::Linear, Path::Auto)?)
    }

    /// The class of each pixel of an image of `height x width`, of which the view `x (1, C, H, W)` shows all
    /// in its first `shown` (rows, columns): scores are resized before one wins.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn classes_of(&self, x: &Tensor, shown: [usize; 2], size: [usize; 2]) -> Result<Vec<u32>> {
        let logits = self.logits(x, &Pass::eval())?.detach();
        let part = logits.narrow(1, 0, shown[0])?.narrow(2, 0, shown[1])?.contiguous()?;
        let scores = resize(&part, &size, Resize::Linear, Path::Auto)?;
        Ok(indices(&scores.argmax(candle_core::D::Minus1)?)?)
    }
}

impl Objective for Segment {
    type Batch = MaskBatch;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.stages.encoder()
    }

    fn embed(&self, batch: &MaskBatch, pass: &Pass) -> Result<Outputs> {
        let logits = self.logits(&batch.x, pass)?;
        if batch.labels.dims() != &logits.dims()[..3] {
            return Err(Error::input(
                "batch",
                format!("labels {:?} for views of {:?}", batch.labels.dims(), &logits.dims()[..3]),
            ));
        }
        Ok(Outputs { outputs: logits, targets: batch.labels.clone() })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        let targets = e.targets.flatten_all()?;
        // Crops of nothing but pixels that do not count: no loss, and a gradient of zeros.
        if targets.ne(IGNORED)?.to_dtype(DType::U32)?.max(0)?.to_scalar::<u32>()? == 0 {
            let sum = e.outputs.sum_all()?;
            return Ok(sum.mul(&sum.zeros_like()?)?.into());
        }
        Ok(cross_entropy(&e.outputs.flatten_to(2)?, &targets, 0.0)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Share of the pixels that count that are classified right, in percent.
    fn gauges(&self, e: &Outputs, _pass: &Pass) -> Result<Vec<Gauge>> {
        let said: Vec<u32> = indices(&e.outputs.argmax(candle_core::D::Minus1)?)?;
        let right: Vec<i64> = integers(&e.targets)?;
        let pairs = || said.iter().zip(&right).filter(|(_, r)| **r != IGNORED);
        let hits = pairs().filter(|(s, r)| i64::from(**s) == **r).count();
        Ok(vec![Gauge::plain("pixel_accuracy", 100.0 * hits as f64 / pairs().count().max(1) as f64)])
    }

    fn may_skip(&self) -> Vec<String> {
        self.stages.encoder().may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
