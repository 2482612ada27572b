//! SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of a sample attract, all other samples of the batch
//! repel.
//!
//! `l(i, j) = -log exp(z_i . z_j / T) / sum_{k != i} exp(z_i . z_k / T)`, over both directions of every pair,
//! z = g(f(x)) normalised. The two views go through the encoder one after the other, as in lightly, so batch
//! norm sees one view at a time.

use super::{
    BatchRate, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::nt_xent;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimClrConfig {
    /// Temperature T (the paper's best for ImageNet is 0.1, lightly's default 0.5).
    pub temperature: f64,
    /// Width of the hidden layer of the projection head.
    pub hidden_dim: usize,
    /// Width of the projection (the paper's 128).
    pub out_dim: usize,
}

impl Default for SimClrConfig {
    fn default() -> Self {
        SimClrConfig { temperature: 0.5, hidden_dim: 2048, out_dim: 128 }
    }
}

/// The method.
pub struct SimClr {
    config: SimClrConfig,
    params: Params,
    branch: joint::Branch,
}

impl SimClr {
    /// Builds encoder and head (`linear - BN - ReLU - linear - BN`, no biases, as SimCLRProjectionHead) at
    /// `encoder` and `projector`.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: SimClrConfig) -> Result<Self> {
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(s, &[d, config.hidden_dim, config.out_dim], MlpHeadNorm::Batch, MlpHeadNorm::Batch)
        })?;
        Ok(SimClr { config, params: scope.params().clone(), branch })
    }
}

impl OverViews for SimClrConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(SimClr::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn rate(&self) -> BatchRate {
        BatchRate::Root
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for SimClr {
    type Batch = Views;
    type Embeddings = joint::Pair;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Pair> {
        self.branch.both(joint::two(batch, "SimCLR")?, pass)
    }

    fn criterion(&self, e: &joint::Pair, _pass: &Pass) -> Result<Loss> {
        Ok(nt_xent(&e.a, &e.b, self.config.temperature)?.into())
    }

    fn gauges(&self, e: &joint::Pair, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.a)?];
        gauges.extend(joint::views_match(&e.a, &e.b)?);
        gauges.extend(joint::contrast(&e.a, &e.b, self.config.temperature, true)?);
        Ok(gauges)
    }
}
