//! Objectives: what a self-supervised method computes. One file per method; each reads like its paper.
//!
//! The seam is `embed` / `criterion`. `embed` maps samples to embeddings one by one; `criterion` may couple
//! them. Because of it the trainer can accumulate micro-batches into an exact large contrastive batch
//! (GradCache, Gao et al. 2021, arXiv 2101.06983): embed all without a graph, take the gradient of the
//! criterion with respect to the embeddings, embed again with a graph.
//!
//! `loss` only reads; [`Objective::after_step`] is the only writer.

mod barlow;
mod byol;
mod classify;
mod joint;
mod mae;
mod moco;
mod moco_v3;
mod simclr;
mod simsiam;
mod vicreg;

pub use barlow::{BarlowTwins, BarlowTwinsConfig};
pub use byol::{Byol, ByolConfig};
pub use classify::{Classify, ClassifyConfig, Inputs, balanced_weights, class_counts};
pub use joint::{ema, embedding_std};
pub use mae::{Mae, MaeConfig, random_masking};
pub use moco::{MoCo, MoCoConfig};
pub use moco_v3::{MoCoV3, MoCoV3Config};
pub use simclr::{SimClr, SimClrConfig};
pub use simsiam::{SimSiam, SimSiamConfig};
pub use vicreg::{VicReg, VicRegConfig};

use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::optim::Grads;
use crate::params::Params;
use crate::scope::Scope;
use crate::pass::{Pass, Progress, World};
use candle_core::{Device, Tensor};

/// A batch of augmented views of the same samples.
#[derive(Clone, Debug)]
pub struct Views {
    /// Each `(N, C, H, W)` (or the layout of the modality); the first `globals` are full-size views.
    pub views: Vec<Tensor>,
    /// How many of `views` are global; the rest are local crops.
    pub globals: usize,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
}

/// What a batch must tell the trainer.
pub trait Batch: Send + Sized {
    /// Number of samples.
    fn samples(&self) -> usize;

    /// What a loss that is a mean is a mean over: samples, or the masked tokens of a language model. Losses
    /// of micro-batches and of validation batches are averaged with these weights.
    fn weight(&self) -> f64 {
        self.samples() as f64
    }

    /// The samples `start..start + len`.
    ///
    /// # Errors
    /// If there are fewer.
    fn narrow(&self, start: usize, len: usize) -> Result<Self>;

    /// The same batch on another device.
    ///
    /// # Errors
    /// If the device refuses it.
    fn to_device(&self, device: &Device) -> Result<Self>;
}

impl Batch for Views {
    fn samples(&self) -> usize {
        self.views.first().map_or(0, |v| v.dims().first().copied().unwrap_or(0))
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Views {
            views: self.views.iter().map(|v| v.narrow(0, start, len)).collect::<candle_core::Result<_>>()?,
            globals: self.globals,
            indices: self.indices.get(start..start + len).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Views {
            views: self.views.iter().map(|v| v.to_device(device)).collect::<candle_core::Result<_>>()?,
            globals: self.globals,
            indices: self.indices.clone(),
        })
    }
}

/// What `embed` returns: tensors whose dimension 0 runs over the samples, so that micro-batches can be
/// concatenated.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    /// Tensors with a graph: the criterion's gradient flows into them.
    pub graph: Vec<Tensor>,
    /// Tensors without (teacher outputs, targets, masks).
    pub fixed: Vec<Tensor>,
}

impl Embeddings {
    /// The same values without a graph.
    #[must_use]
    pub fn detach(&self) -> Self {
        let detach = |v: &[Tensor]| v.iter().map(Tensor::detach).collect();
        Embeddings { graph: detach(&self.graph), fixed: detach(&self.fixed) }
    }

    /// Concatenates micro-batches along the samples.
    ///
    /// # Errors
    /// If their shapes differ beyond dimension 0.
    pub fn cat(parts: &[Embeddings]) -> Result<Self> {
        let Some(first) = parts.first() else { return Ok(Embeddings::default()) };
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        let join = |pick: &dyn Fn(&Embeddings) -> &Vec<Tensor>, n: usize| -> Result<Vec<Tensor>> {
            (0..n)
                .map(|i| Ok(Tensor::cat(&parts.iter().map(|p| pick(p)[i].clone()).collect::<Vec<_>>(), 0)?))
                .collect()
        };
        Ok(Embeddings {
            graph: join(&|p| &p.graph, first.graph.len())?,
            fixed: join(&|p| &p.fixed, first.fixed.len())?,
        })
    }
}

/// A scalar loss with a graph, and its named parts for the log.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The scalar to minimise.
    pub value: Tensor,
    /// Named terms, detached.
    pub parts: Vec<(&'static str, Tensor)>,
}

impl Loss {
    /// The sum of terms, which go into the log by their names.
    ///
    /// # Errors
    /// If there are none, or they are not scalars.
    pub fn sum(terms: Vec<(&'static str, Tensor)>) -> Result<Self> {
        let mut each = terms.iter().map(|(_, term)| term.clone());
        let first = each.next().ok_or_else(|| Error::input("loss", "no terms"))?;
        let value = each.try_fold(first, |a, b| Ok::<_, Error>((a + b)?))?;
        Ok(Loss { value, parts: terms.into_iter().map(|(name, term)| (name, term.detach())).collect() })
    }
}

impl From<Tensor> for Loss {
    fn from(value: Tensor) -> Self {
        Loss { value, parts: Vec::new() }
    }
}

/// A number that shows the health of a run, and the range in which it is healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct Vital {
    /// Its name in the metrics.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// Below this the run is probably collapsing, if there is such a bound.
    pub healthy_above: Option<f64>,
}

/// A self-supervised method.
pub trait Objective: Send + Sync {
    /// What the loader delivers.
    type Batch: Batch;

    /// Every tensor that outlives a step.
    fn params(&self) -> &Params;

    /// The encoder that a user takes away.
    fn encoder(&self) -> &dyn Encoder;

    /// Per-sample embeddings, with graph.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn embed(&self, batch: &Self::Batch, pass: &Pass) -> Result<Embeddings>;

    /// The loss over a whole batch of embeddings.
    ///
    /// # Errors
    /// If the batch is too small for the method.
    fn criterion(&self, embeddings: &Embeddings, pass: &Pass) -> Result<Loss>;

    /// Whether `criterion` couples samples: then accumulation recomputes (GradCache), else it averages
    /// losses.
    fn couples_samples(&self) -> bool {
        true
    }

    /// What the loss of `batch` is a mean over, once its embeddings are known: masked frames that the method
    /// itself has drawn, say. Losses and gradients of micro-batches, and losses of validation batches, are
    /// averaged with these weights.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn weight(&self, batch: &Self::Batch, _embeddings: &Embeddings) -> Result<f64> {
        Ok(batch.weight())
    }

    /// Changes gradients before the optimiser sees them (DINO's frozen last layer, MoCo v3's frozen patch
    /// embedding).
    ///
    /// # Errors
    /// If a gradient cannot be changed.
    fn adjust_grads(&self, _grads: &mut Grads, _progress: &Progress) -> Result<()> {
        Ok(())
    }

    /// The only writer, after the optimiser: teacher, queue, centre. `embeddings` are the detached ones of
    /// the whole step.
    ///
    /// # Errors
    /// If a tensor cannot be written.
    fn after_step(&self, _embeddings: &Embeddings, _progress: &Progress, _world: &World) -> Result<()> {
        Ok(())
    }

    /// What health and collapse look like for this method, from the detached embeddings of a step.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn vitals(&self, _embeddings: &Embeddings) -> Result<Vec<Vital>> {
        Ok(Vec::new())
    }

    /// Names of trained parameters that may stay without a gradient in a step.
    fn may_skip(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A method chosen at run time is a method.
impl<B: Batch> Objective for Box<dyn Objective<Batch = B>> {
    type Batch = B;

    fn params(&self) -> &Params {
        (**self).params()
    }
    fn encoder(&self) -> &dyn Encoder {
        (**self).encoder()
    }
    fn embed(&self, batch: &B, pass: &Pass) -> Result<Embeddings> {
        (**self).embed(batch, pass)
    }
    fn criterion(&self, embeddings: &Embeddings, pass: &Pass) -> Result<Loss> {
        (**self).criterion(embeddings, pass)
    }
    fn couples_samples(&self) -> bool {
        (**self).couples_samples()
    }
    fn weight(&self, batch: &B, embeddings: &Embeddings) -> Result<f64> {
        (**self).weight(batch, embeddings)
    }
    fn adjust_grads(&self, grads: &mut Grads, progress: &Progress) -> Result<()> {
        (**self).adjust_grads(grads, progress)
    }
    fn after_step(&self, embeddings: &Embeddings, progress: &Progress, world: &World) -> Result<()> {
        (**self).after_step(embeddings, progress, world)
    }
    fn vitals(&self, embeddings: &Embeddings) -> Result<Vec<Vital>> {
        (**self).vitals(embeddings)
    }
    fn may_skip(&self) -> Vec<String> {
        (**self).may_skip()
    }
}

/// Builds an encoder in a scope: called once for the student and once more for a teacher.
pub type BuildEncoder<'a> = dyn Fn(&Scope) -> Result<Box<dyn Encoder>> + 'a;
