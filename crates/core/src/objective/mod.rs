//! Objectives: self-supervised methods. One file per method; each reads like its paper.
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
mod dcl;
mod dino;
mod dino_head;
mod dinov2;
mod embeddings;
pub mod gauge;
#[cfg(test)]
mod grid_tests;
mod ibot;
mod ijepa;
mod inpainting;
mod jigsaw;
mod joint;
mod lejepa;
mod mae;
mod masks;
mod moco;
mod moco_v3;
mod multiblock;
mod nnclr;
mod queue;
mod relative_position;
mod rotation;
mod self_distillation;
mod simclr;
mod simmim;
mod simsiam;
mod sup_con;
mod swav;
mod tiles;
#[cfg(test)]
mod toy;
mod triplet;
mod vicreg;
mod views;

pub use barlow::{BarlowTwins, BarlowTwinsConfig};
pub use byol::{Byol, ByolConfig};
pub use classify::{Classify, ClassifyConfig, Inputs, balanced_weights, class_counts};
pub use dcl::{Dcl, DclConfig};
pub use dino::{Dino, DinoConfig, Outcomes};
pub use dino_head::{Centre, DinoHead, DinoHeadSizes, information, warmed};
pub use dinov2::DinoV2Config;
pub use embeddings::{Change, Embedded, Erased, Field, Outputs};
pub use gauge::{Band, Gauge, GaugeInfo};
pub use ibot::IBotConfig;
pub use ijepa::{IJepa, IJepaConfig, ijepa_targets};
pub use inpainting::{Inpainting, InpaintingConfig};
pub use jigsaw::{Jigsaw, JigsawConfig, far_permutations};
pub use joint::{Pair, Predicted, contrast, ema, embedding_std, pooled_spread, views_match};
pub use lejepa::{LeJepa, LeJepaConfig};
pub use mae::{Mae, MaeConfig, random_masking};
pub use masks::block_mask;
pub use moco::{MoCo, MoCoConfig};
pub use moco_v3::{MoCoV3, MoCoV3Config};
pub use nnclr::{Negatives, Nnclr, NnclrConfig};
pub use relative_position::{RelativePosition, RelativePositionConfig};
pub use rotation::{Rotation, RotationConfig};
pub use self_distillation::{Distilled, SelfDistillation};
pub use simclr::{SimClr, SimClrConfig};
pub use simmim::{SimMim, SimMimConfig};
pub use simsiam::{SimSiam, SimSiamConfig};
pub use sup_con::{Classed, SupCon, SupConConfig};
pub use swav::{Projected, Swav, SwavConfig};
pub use triplet::{Triplet, TripletConfig};
pub use vicreg::{VicReg, VicRegConfig};
pub use views::{BatchRate, Lowered, Needs, Networks, OverViews, Views, Wanted};

use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::optim::Grads;
use crate::params::Params;
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;
use candle_core::{Device, Tensor};

/// What a batch must tell the trainer.
pub trait Batch: Send + Sized {
    /// Number of samples.
    fn samples(&self) -> usize;

    /// The number of items that the mean loss averages over: samples, or the masked tokens of a language
    /// model. The trainer averages losses of micro-batches and of validation batches with these weights.
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

/// What a method was given, should have found or has found, as a person can look at it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What is seen: `input`, `prediction`, `target`.
    pub name: &'static str,
    /// `(N, C, S..)`, the layout of a view.
    pub values: Tensor,
    /// Whether values lie in `[0, 1]`; else they have the units of a view, which the transforms' mean and
    /// deviation undo.
    pub unit: bool,
}

impl Picture {
    /// A picture in the units of a view, without a graph.
    pub fn new(name: &'static str, values: &Tensor) -> Self {
        Picture { name, values: values.detach(), unit: false }
    }

    /// A picture of values in `[0, 1]`, without a graph.
    pub fn unit(name: &'static str, values: &Tensor) -> Self {
        Picture { name, values: values.detach(), unit: true }
    }
}

/// A self-supervised method, or a supervised task.
pub trait Objective: Send + Sync {
    /// The batch that the loader delivers.
    type Batch: Batch;
    /// The embeddings that [`Objective::embed`] returns.
    type Embeddings: Embedded;

    /// Every tensor that outlives a step.
    fn params(&self) -> &Params;

    /// The encoder that a user takes away.
    fn encoder(&self) -> &dyn Encoder;

    /// Embeddings of a batch, with a graph. They depend on each sample alone, but for batch norm.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn embed(&self, batch: &Self::Batch, pass: &Pass) -> Result<Self::Embeddings>;

    /// The loss over a whole batch of embeddings, of all micro-batches and processes where it couples
    /// samples.
    ///
    /// # Errors
    /// If the batch is too small for the method.
    fn criterion(&self, embeddings: &Self::Embeddings, pass: &Pass) -> Result<Loss>;

    /// Whether `criterion` couples samples. Then the trainer gathers the embeddings of all micro-batches
    /// (GradCache) and processes before it asks for the loss, and dimension 0 of every embedding runs over
    /// the samples; else it averages losses by [`Objective::weight`].
    fn couples_samples(&self) -> bool {
        true
    }

    /// The number of items that the mean loss of `batch` averages over, once its embeddings are known: the
    /// masked frames that a method has drawn, say.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn weight(&self, batch: &Self::Batch, _embeddings: &Self::Embeddings) -> Result<f64> {
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

    /// Moves teacher, queue and centre after the optimiser: the only writer. `embeddings` are the detached
    /// ones of the whole step, of all processes where the method couples samples.
    ///
    /// # Errors
    /// If a tensor cannot be written.
    fn after_step(&self, _embeddings: &Self::Embeddings, _progress: &Progress, _world: &World) -> Result<()> {
        Ok(())
    }

    /// Numbers that show health and collapse, from the detached embeddings of a step.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn gauges(&self, _embeddings: &Self::Embeddings, _pass: &Pass) -> Result<Vec<Gauge>> {
        Ok(Vec::new())
    }

    /// Gauges of the method's settings, known before the first step: a weight of 0 that keeps the method from
    /// collapsing, a temperature far from what is used. One outside its band is an alarm at once.
    fn settings(&self) -> Vec<Gauge> {
        Vec::new()
    }

    /// What the gauges of this method mean, where it is not what [`gauge::described`] says of the same name.
    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &[]
    }

    /// The prediction for the samples of `batch` as pictures, side by side with what it was made from and
    /// what it should be; nothing where a method predicts what cannot be looked at.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn pictures(&self, _batch: &Self::Batch, _pass: &Pass) -> Result<Vec<Picture>> {
        Ok(Vec::new())
    }

    /// Names of trained parameters that may stay without a gradient in a step.
    fn may_skip(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A method over batches `B` that is chosen at run time.
pub type Method<B> = Box<dyn Objective<Batch = B, Embeddings = Erased>>;

/// Hides the type of a method: `boxed(SimClr::new(..)?)`.
pub fn boxed<O: Objective + 'static>(method: O) -> Method<O::Batch> {
    Box::new(Boxed(method))
}

/// A method whose embeddings are [`Erased`].
struct Boxed<O>(O);

impl<O: Objective> Objective for Boxed<O> {
    type Batch = O::Batch;
    type Embeddings = Erased;

    fn params(&self) -> &Params {
        self.0.params()
    }
    fn encoder(&self) -> &dyn Encoder {
        self.0.encoder()
    }
    fn embed(&self, batch: &O::Batch, pass: &Pass) -> Result<Erased> {
        Ok(Erased::new(self.0.embed(batch, pass)?))
    }
    fn criterion(&self, embeddings: &Erased, pass: &Pass) -> Result<Loss> {
        self.0.criterion(embeddings.get()?, pass)
    }
    fn couples_samples(&self) -> bool {
        self.0.couples_samples()
    }
    fn weight(&self, batch: &O::Batch, embeddings: &Erased) -> Result<f64> {
        self.0.weight(batch, embeddings.get()?)
    }
    fn adjust_grads(&self, grads: &mut Grads, progress: &Progress) -> Result<()> {
        self.0.adjust_grads(grads, progress)
    }
    fn after_step(&self, embeddings: &Erased, progress: &Progress, world: &World) -> Result<()> {
        self.0.after_step(embeddings.get()?, progress, world)
    }
    fn gauges(&self, embeddings: &Erased, pass: &Pass) -> Result<Vec<Gauge>> {
        self.0.gauges(embeddings.get()?, pass)
    }
    fn settings(&self) -> Vec<Gauge> {
        self.0.settings()
    }
    fn gauge_info(&self) -> &'static [GaugeInfo] {
        self.0.gauge_info()
    }
    fn pictures(&self, batch: &O::Batch, pass: &Pass) -> Result<Vec<Picture>> {
        self.0.pictures(batch, pass)
    }
    fn may_skip(&self) -> Vec<String> {
        self.0.may_skip()
    }
}

/// Builds an encoder in a scope: called once for the student and once more for a teacher.
pub type BuildEncoder<'a> = dyn Fn(&Scope) -> Result<Box<dyn Encoder>> + 'a;
