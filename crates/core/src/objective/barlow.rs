//! Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the cross-correlation of two views' embeddings shall
//! be the identity.
//!
//! `L = sum_i (1 - C_ii)^2 + lambda * sum_{i != j} C_ij^2`, C over features standardised along the batch.

use super::{
    BuildEncoder, Gauge, GaugeInfo, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::barlow_twins;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwinsConfig {
    /// Weight of the off-diagonal terms (the paper's 0.005).
    pub lambda: f64,
    /// Width of the hidden layers of the projector.
    pub hidden_dim: usize,
    /// Width of the embedding (the paper's 8192).
    pub out_dim: usize,
}

impl Default for BarlowTwinsConfig {
    fn default() -> Self {
        BarlowTwinsConfig { lambda: 0.005, hidden_dim: 8192, out_dim: 8192 }
    }
}

/// What its gauges mean where it is special to Barlow Twins.
static INFO: [GaugeInfo; 2] = [
    GaugeInfo::new("embedding_std", "spread of the normalised projections")
    .too_low(
        "all samples get nearly the same embedding (complete collapse), which the diagonal of the\
     cross-correlation should prevent: the learning rate is too high, or the samples hardly differ",
        "a lower optim.lr or a longer warm-up, a larger batch",
    ),
    GaugeInfo::new("method.lambda", "weight of the redundancy term").too_low(
        "nothing keeps features from repeating each other: the diagonal alone leaves one direction many times",
        "method.lambda of 0.001 to 0.01 (the paper's 0.005)",
    ),
];

/// The method.
pub struct BarlowTwins {
    config: BarlowTwinsConfig,
    params: Params,
    branch: joint::Branch,
}

impl BarlowTwins {
    /// Builds the encoder and a projector of three linear layers, the first two with batch norm and ReLU.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: BarlowTwinsConfig) -> Result<Self> {
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(
                s,
                &[d, config.hidden_dim, config.hidden_dim, config.out_dim],
                MlpHeadNorm::Batch,
                MlpHeadNorm::None,
            )
        })?;
        Ok(BarlowTwins { config, params: scope.params().clone(), branch })
    }
}

impl OverViews for BarlowTwinsConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(BarlowTwins::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for BarlowTwins {
    type Batch = Views;
    type Embeddings = joint::Pair;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Pair> {
        self.branch.both(joint::two(batch, "Barlow Twins")?, pass)
    }

    fn criterion(&self, e: &joint::Pair, _pass: &Pass) -> Result<Loss> {
        Ok(barlow_twins(&e.a, &e.b, self.config.lambda)?.into())
    }

    fn settings(&self) -> Vec<Gauge> {
        vec![Gauge::above("method.lambda", self.config.lambda, 1e-5)]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    fn gauges(&self, e: &joint::Pair, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.a)?];
        gauges.extend(joint::views_match(&e.a, &e.b)?);
        Ok(gauges)
    }

    /// The bias of the last linear layer vanishes in the standardisation: its gradient is zero, not absent,
    /// so nothing is skipped.
    fn may_skip(&self) -> Vec<String> {
        Vec::new()
    }
}
