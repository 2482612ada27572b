//! HuBERT (Hsu et al. 2021, arXiv 2106.07447): predict the cluster of hidden frames.
//!
//! Clusters come from k-means over features of the waves: MFCCs first, then a hidden layer of the model that
//! was trained on those ([`crate::hubert_plan`] runs the whole sequence). With `o_t` the context and `e_c` an
//! embedding for each cluster,
//!
//! `p(c | t) = softmax_c(cos(A o_t, e_c) / T)`, and the loss is the cross entropy with frame `t`'s cluster,
//! mean over the hidden frames (the paper's alpha = 1; `unmasked_weight` adds that of the visible ones).

use super::frames::Rows;
use super::masked::{Masked, hidden_spread};
use super::usage::Usage;
use crate::batch::{Target, Waves};
use crate::encoder::{SpeechConfig, SpeechEncoder};
use crate::mask::SpanMask;
use candle_core::{D, DType, Tensor};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::norm::l2_normalize;
use selfsup_core::loss::{IGNORED, cross_entropy};
use selfsup_core::nn::Linear;
use selfsup_core::{Encoder, Error, Gauge, Init, Loss, Objective, Params, Pass, Result, Scope, Weight};

/// Hyper-parameters; the defaults are those of the base model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubertConfig {
    /// The hidden spans: 0.8 and 10 frames.
    pub mask: SpanMask,
    /// Width in which context and clusters are compared by cosine (256); 0 for a linear layer over the
    /// clusters instead.
    pub code_dim: usize,
    /// Temperature T of the cosines (0.1).
    pub temperature: f64,
    /// Weight of the loss of visible frames beside that of hidden ones (0).
    pub unmasked_weight: f64,
    /// What the clusters are made of, iteration by iteration: 100 of MFCCs, then 500 of the middle block of
    /// the model before (the 6th of the base model's 12).
    pub iterations: Vec<Iteration>,
}

/// One round of clustering and training.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Iteration {
    /// What is clustered.
    pub features: ClusterFeatures,
    /// Number of clusters.
    pub clusters: usize,
    /// Optimiser steps of the training that follows; 0 for those of `[train]`.
    pub steps: u64,
}

impl Default for Iteration {
    fn default() -> Self {
        Iteration { features: ClusterFeatures::Mfcc, clusters: 100, steps: 0 }
    }
}

/// What k-means clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ClusterFeatures {
    /// MFCCs with first and second differences, one frame each 10 ms.
    #[default]
    Mfcc,
    /// The output of the block half way up the model that the iteration before trained: the 6th of 12, the
    /// 2nd of 4.
    Middle,
    /// The output of a block of that model, counted from 1.
    Layer(usize),
}

impl ClusterFeatures {
    /// The block, counted from 1, of an encoder of `depth` blocks; `None` for what needs no model.
    pub fn block(self, depth: usize) -> Option<usize> {
        match self {
            ClusterFeatures::Mfcc => None,
            ClusterFeatures::Middle => Some(depth.div_ceil(2)),
            ClusterFeatures::Layer(n) => Some(n),
        }
    }
}

impl Default for HubertConfig {
    fn default() -> Self {
        HubertConfig {
            mask: SpanMask { prob: 0.8, ..SpanMask::default() },
            code_dim: 256,
            temperature: 0.1,
            unmasked_weight: 0.0,
            iterations: vec![
                Iteration::default(),
                Iteration { features: ClusterFeatures::Middle, clusters: 500, ..Iteration::default() },
            ],
        }
    }
}

impl HubertConfig {
    fn check(&self) -> Result<()> {
        self.mask.check("method.mask")?;
        if !self.mask.hides() {
            return Err(Error::config(
                "method.mask.prob = 0: HuBERT predicts hidden frames, and none would be",
            ));
        }
        if self.temperature <= 0.0 || self.unmasked_weight < 0.0 {
            return Err(Error::config(format!(
                "method: temperature = {}, unmasked_weight = {}: expected above 0, and at least 0",
                self.temperature, self.unmasked_weight
            )));
        }
        if self.iterations.is_empty()
            || self.iterations.iter().any(|i| i.clusters < 2 || i.features == ClusterFeatures::Layer(0))
        {
            return Err(Error::config(
                "method.iterations: expected at least one, each with 2 clusters or more; layers are counted from 1",
            ));
        }
        if self.iterations.first().is_some_and(|i| i.features != ClusterFeatures::Mfcc) {
            return Err(Error::config(
                "method.iterations: the first has no model before it whose layer could be clustered; use \"mfcc\"",
            ));
        }
        Ok(())
    }

    /// Refuses blocks that an encoder of `depth` does not have: a training later it would be too late.
    pub(crate) fn check_blocks(&self, depth: usize) -> Result<()> {
        match self.iterations.iter().filter_map(|i| i.features.block(depth)).find(|n| *n > depth) {
            Some(n) => Err(Error::config(format!(
                "method.iterations: layer {n}, expected 1 to {depth}, the encoder's blocks"
            ))),
            None => Ok(()),
        }
    }
}

/// Scores over the clusters.
enum Scores {
    Cosine { project: Linear, clusters: Weight, temperature: f64 },
    Linear(Linear),
}

/// The method.
pub struct Hubert {
    config: HubertConfig,
    clusters: usize,
    params: Params,
    encoder: SpeechEncoder,
    scores: Scores,
}

impl Hubert {
    /// Builds the encoder at `encoder` and the prediction of `clusters` clusters at `head`. Batches carry
    /// [`Target::Frames`].
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, encoder: SpeechConfig, config: HubertConfig, clusters: usize) -> Result<Self> {
        config.check()?;
        config.check_blocks(encoder.depth)?;
        if clusters < 2 {
            return Err(Error::config(format!("{clusters} clusters: expected at least 2")));
        }
        let encoder =
            SpeechEncoder::new(&scope.sub("encoder"), SpeechConfig { mask: config.mask, ..encoder })?;
        let (head, dim) = (scope.sub("head").top(), encoder.config().dim);
        let scores = if config.code_dim > 0 {
            Scores::Cosine {
                project: Linear::new(&head.sub("project"), dim, config.code_dim, true, Init::TorchLinear)?,
                clusters: head.get("clusters", (clusters, config.code_dim), Init::Uniform(1.0))?,
                temperature: config.temperature,
            }
        } else {
            Scores::Linear(Linear::new(&head, dim, clusters, true, Init::TorchLinear)?)
        };
        Ok(Hubert { params: scope.params().clone(), encoder, scores, config, clusters })
    }

    /// The encoder.
    pub fn speech(&self) -> &SpeechEncoder {
        &self.encoder
    }

    /// Scores `(M, clusters)` of frames `(M, D)`.
    fn scores(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(match &self.scores {
            Scores::Linear(layer) => layer.forward(x, pass)?,
            Scores::Cosine { project, clusters, temperature } => {
                let unit = |x: &Tensor| l2_normalize(x, 1e-8, Path::Auto);
                (unit(&project.forward(x, pass)?)?.matmul(&unit(&clusters.on(pass)?)?.t()?)? / *temperature)?
            }
        })
    }

    /// The likeliest cluster of each frame of `context (N, L, D)`, what the encoder gives where nothing is
    /// hidden:
    /// `(N, L)`.
    ///
    /// # Errors
    /// If the width is not the encoder's.
    pub fn units(&self, context: &Tensor, pass: &Pass) -> Result<Vec<Vec<u32>>> {
        let (n, l, d) = context.dims3()?;
        let scores = self.scores(&context.reshape((n * l, d))?, pass)?.detach();
        Ok(scores.argmax(D::Minus1)?.reshape((n, l))?.to_vec2()?)
    }

    /// Loss over the frames that `rows` picks, and the share of them that are right.
    fn predict(&self, hidden: &Tensor, labels: &[i64], rows: &Rows, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let picked: Vec<i64> = rows.flat().iter().map(|&i| labels[i as usize]).collect();
        let labels = Tensor::from_vec(picked, rows.len(), hidden.device())?;
        let scores = self.scores(&rows.take(hidden)?, pass)?;
        let right = scores
            .detach()
            .argmax(D::Minus1)?
            .to_dtype(DType::I64)?
            .eq(&labels)?
            .to_dtype(DType::F32)?
            .mean_all()?;
        Ok((cross_entropy(&scores, &labels, 0.0)?, right))
    }

    /// Frames that count: hidden (or visible) ones with a cluster.
    fn counted(e: &Clustered, hidden: bool) -> Result<(Rows, Vec<i64>)> {
        let mask: Vec<Vec<u8>> = e.mask.to_vec2()?;
        let labels: Vec<Vec<i64>> = e.labels.to_vec2()?;
        let pick = |(m, l): (&Vec<u8>, &Vec<i64>)| {
            m.iter().zip(l).map(|(m, l)| (*m != 0) == hidden && *l != IGNORED).collect()
        };
        Ok((
            Rows::picked(mask.iter().zip(&labels).map(pick).collect()),
            labels.into_iter().flatten().collect(),
        ))
    }
}

/// The batch's frame labels as `(N, width)` i64, [`IGNORED`] beyond each wave's frames.
///
/// # Errors
/// If a wave has none, or a class is out of range.
pub fn frame_labels(batch: &Waves, counts: &[usize], width: usize, classes: usize) -> Result<Tensor> {
    let mut values = vec![IGNORED; counts.len() * width];
    for (i, (row, target)) in values.chunks_exact_mut(width.max(1)).zip(&batch.targets).enumerate() {
        let name = || format!("sample {}", batch.indices.get(i).copied().unwrap_or(i));
        let Target::Frames(labels) = target else {
            return Err(Error::input(
                name(),
                "no frame labels: HuBERT is trained on the clusters of its frames (see hubert_plan)",
            ));
        };
        if labels.len() < counts[i] {
            return Err(Error::input(
                name(),
                format!("{} frame labels, expected at least {}", labels.len(), counts[i]),
            ));
        }
        for (value, &label) in row.iter_mut().zip(&labels[..counts[i]]) {
            if label != IGNORED && !(0..classes as i64).contains(&label) {
                return Err(Error::input(
                    name(),
                    format!("frame label {label}, expected one of {classes} clusters"),
                ));
            }
            *value = label;
        }
    }
    Ok(Tensor::from_vec(values, (counts.len(), width), batch.values.device())?)
}

selfsup_core::embeddings! {
    /// Frames in their context, and their clusters.
    pub struct Clustered {
        /// `(N, L, D)`.
        graph context: Tensor,
        /// `(N, L)` u8, 1 for masked frames.
        fixed mask: Tensor,
        /// `(N, L)` clusters, ignored beyond a wave's frames.
        fixed labels: Tensor,
    }
}

impl Objective for Hubert {
    type Batch = Waves;
    type Embeddings = Clustered;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Waves, pass: &Pass) -> Result<Clustered> {
        let masked = Masked::of(&self.encoder, &self.config.mask, batch, pass)?;
        let labels = frame_labels(batch, &masked.counts, masked.mask.dim(1)?, self.clusters)?;
        let context = masked.encode(&self.encoder, pass)?;
        Ok(Clustered { context, mask: masked.mask, labels })
    }

    fn criterion(&self, e: &Clustered, pass: &Pass) -> Result<Loss> {
        let (rows, labels) = Self::counted(e, true)?;
        rows.some()?;
        let (masked, right) = self.predict(&e.context, &labels, &rows, pass)?;
        let mut parts = vec![("masked", masked.detach()), ("masked_accuracy", right)];
        let (seen, _) = if self.config.unmasked_weight > 0.0 {
            Self::counted(e, false)?
        } else {
            (Rows::picked(vec![]), vec![])
        };
        let mut value = masked;
        if !seen.is_empty() {
            let (unmasked, right) = self.predict(&e.context, &labels, &seen, pass)?;
            parts.extend([("unmasked", unmasked.detach()), ("unmasked_accuracy", right)]);
            value = (value + (unmasked * self.config.unmasked_weight)?)?;
        }
        Ok(Loss { value, parts })
    }

    /// With a loss of visible frames too there are two means: their micro-batches are then not parts of the
    /// whole.
    fn couples_samples(&self) -> bool {
        self.config.unmasked_weight > 0.0
    }

    fn weight(&self, _batch: &Waves, e: &Clustered) -> Result<f64> {
        Ok(Self::counted(e, true)?.0.len() as f64)
    }

    fn gauges(&self, e: &Clustered, _pass: &Pass) -> Result<Vec<Gauge>> {
        let (rows, labels) = Self::counted(e, true)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let used = Usage::of(rows.flat().iter().filter_map(|&i| u32::try_from(labels[i as usize]).ok()));
        Ok(vec![
            hidden_spread(&rows.take(&e.context)?)?,
            Gauge::above("clusters_in_batch", used.clusters() as f64, 2.0),
            Gauge::above("cluster_perplexity", used.perplexity(), Usage::healthy_above(self.clusters)),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}
