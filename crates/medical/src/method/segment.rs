//! Segmentation: a class for every voxel, by an encoder (pre-trained or not) and a decoder, under soft Dice
//! plus cross entropy (Milletari et al. 2016, arXiv 1606.04797; the sum as in nnU-Net, Isensee et al. 2018,
//! arXiv 1809.10486).
//!
//! Labels may cover some planes of a patch only: annotators often draw single slices. Then the network sees
//! the whole patch and the loss is taken over those planes.

use crate::encoder::Dense;
use crate::recipe::Architecture;
use candle_core::{D, Device, Tensor};
use selfsup_core::kernels::host::indices;
use selfsup_core::loss::dice_ce;
use selfsup_core::objective::{Batch, Gauge, Loss, Objective, Outputs};
use selfsup_core::weights::{self, Options, Report};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::softmax::softmax;
use std::collections::BTreeMap;

/// Patches with labels.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// `(N, C, D, H, W)`.
    pub x: Tensor,
    /// Classes `(N, D', H, W)` of the planes `from .. from + D'`.
    pub labels: Tensor,
    /// First labelled plane.
    pub from: usize,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
}

impl Batch for Labelled {
    fn samples(&self) -> usize {
        self.x.dims().first().copied().unwrap_or(0)
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Labelled {
            x: self.x.narrow(0, start, len)?,
            labels: self.labels.narrow(0, start, len)?,
            from: self.from,
            indices: self.indices.get(start..start + len).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Labelled {
            x: self.x.to_device(device)?,
            labels: self.labels.to_device(device)?,
            from: self.from,
            indices: self.indices.clone(),
        })
    }
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentConfig {
    /// Number of classes, the background (0) among them.
    pub classes: usize,
    /// The encoder is not trained: it runs as in evaluation.
    pub frozen: bool,
    /// Weight of each class in the cross entropy; none for all alike.
    pub class_weights: Vec<f32>,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        SegmentConfig { classes: 2, frozen: false, class_weights: Vec::new() }
    }
}

/// The objective.
pub struct Segment {
    config: SegmentConfig,
    params: Params,
    net: Dense,
}

impl Segment {
    /// Builds the network with its encoder at `encoder` and its decoder at `decoder`.
    ///
    /// # Errors
    /// If there are fewer than two classes or the network cannot be built.
    pub fn new(scope: &Scope, architecture: &Architecture, config: SegmentConfig) -> Result<Self> {
        if !(2..=65_536).contains(&config.classes) {
            return Err(Error::config(format!(
                "classes = {}: expected 2 to 65536, the background among them",
                config.classes
            )));
        }
        let w = &config.class_weights;
        if !w.is_empty() && (w.len() != config.classes || !w.iter().all(|w| w.is_finite() && *w > 0.0)) {
            return Err(Error::config(format!(
                "class weights {w:?}: expected {} numbers above 0",
                config.classes
            )));
        }
        let net = architecture.dense(scope, config.classes, config.frozen)?;
        Ok(Segment { config, params: scope.params().clone(), net })
    }

    /// Takes over weights of pre-training, named as in its checkpoint (`encoder.0.conv1.weight`): the
    /// encoder, all of it, and with `decoder` whatever of the decoder has the same shape (all but its last
    /// layer, where the number of outputs differs).
    ///
    /// # Errors
    /// If a tensor of the encoder is missing or has another shape.
    pub fn transfer(&self, tensors: &BTreeMap<String, Tensor>, decoder: bool) -> Result<Report> {
        let below = |prefix: &str| -> BTreeMap<String, Tensor> {
            let strip =
                |k: &String| k.strip_prefix(prefix).and_then(|k| k.strip_prefix('.')).map(str::to_string);
            tensors.iter().filter_map(|(k, t)| Some((strip(k)?, t.clone()))).collect()
        };
        let options = Options { allow_missing: false, allow_unexpected: true };
        let report = weights::load_into(&self.params, &below("encoder"), "encoder", &options)?;
        if decoder {
            let mut theirs = below("decoder");
            let same = |name: &str, t: &Tensor| {
                self.params.get(&format!("decoder.{name}")).is_some_and(|p| p.var.dims() == t.dims())
            };
            theirs.retain(|name, t| same(name, t));
            if !theirs.is_empty() {
                weights::load_into(
                    &self.params,
                    &theirs,
                    "decoder",
                    &Options { allow_missing: true, allow_unexpected: true },
                )?;
            }
        }
        Ok(report)
    }

    /// Scores before the softmax, `(N, D, H, W, classes)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        if !self.config.frozen {
            return Ok(self.net.forward(x, pass)?.0);
        }
        let maps: Vec<Tensor> = self.net.encoder.maps(x, &Pass::eval())?.iter().map(Tensor::detach).collect();
        self.net.decoder.decode(&maps, pass)
    }

    /// Probabilities, `(N, D, H, W, classes)`, for [`SlidingWindow`](crate::sliding::SlidingWindow).
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn probabilities(&self, x: &Tensor) -> Result<Tensor> {
        Ok(softmax(&self.logits(x, &Pass::eval())?.detach(), Path::Auto)?)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.config.classes
    }
}

impl Objective for Segment {
    type Batch = Labelled;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.net.encoder.as_ref()
    }

    fn embed(&self, batch: &Labelled, pass: &Pass) -> Result<Outputs> {
        let logits = self.logits(&batch.x, pass)?;
        let (have, planes) = (logits.dim(1)?, batch.labels.dim(1)?);
        if batch.from + planes > have {
            return Err(Error::input(
                "labels",
                format!("of planes {} to {}, but a patch has {have}", batch.from, batch.from + planes),
            ));
        }
        let logits =
            if planes == have { logits } else { logits.narrow(1, batch.from, planes)?.contiguous()? };
        Ok(Outputs { outputs: logits, targets: batch.labels.clone() })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        Ok(dice_ce(&e.outputs, &e.targets, &self.config.class_weights)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Mean Dice of the classes but the background that are there or predicted, over the batch.
    fn gauges(&self, e: &Outputs, _pass: &Pass) -> Result<Vec<Gauge>> {
        let said: Vec<u32> = indices(&e.outputs.argmax(D::Minus1)?)?;
        let right: Vec<u32> = indices(&e.targets)?;
        let mut counts = vec![[0u64; 3]; self.config.classes];
        for (&a, &b) in said.iter().zip(&right) {
            let mut add = |class: u32, k: usize| {
                if let Some(c) = counts.get_mut(class as usize) {
                    c[k] += 1;
                }
            };
            add(a, 0);
            add(b, 1);
            if a == b {
                add(a, 2);
            }
        }
        let seen: Vec<f64> = counts
            .iter()
            .skip(1)
            .filter(|c| c[0] + c[1] > 0)
            .map(|c| 2.0 * c[2] as f64 / (c[0] + c[1]) as f64)
            .collect();
        let dice = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
        Ok(vec![Gauge::plain("dice", dice)])
    }
}
