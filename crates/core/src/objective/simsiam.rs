//! SimSiam (Chen and He 2020, arXiv 2011.10566): a predictor on one view looks for the other view's
//! projection; the stop-gradient alone keeps it from collapsing.
//!
//! `L = D(p1, stop(z2)) / 2 + D(p2, stop(z1)) / 2`, D the negative cosine.

use super::{
    BuildEncoder, Gauge, GaugeInfo, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::sim_siam;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimSiamConfig {
    /// Width of the projector's layers (the paper's 2048).
    pub out_dim: usize,
    /// Width of the predictor's hidden layer (the paper's 512).
    pub predictor_dim: usize,
}

impl Default for SimSiamConfig {
    fn default() -> Self {
        SimSiamConfig { out_dim: 2048, predictor_dim: 512 }
    }
}

/// What its gauges mean where it is special to SimSiam.
static INFO: [GaugeInfo; 1] = [GaugeInfo::new("embedding_std", "spread of the normalised projections").too_low(
    "all samples get nearly the same projection (complete collapse): nothing repels here, so\
     the predictor and the stopped gradient have to hold them apart, and do not: the learning rate is too high,\
     or the samples hardly differ",
    "a lower optim.lr, weight decay above 0 (1e-4 with SGD), batch norm in the encoder",
)];

/// The method.
pub struct SimSiam {
    params: Params,
    branch: joint::Branch,
    predictor: MlpHead,
}

impl SimSiam {
    /// Builds the encoder, a projector of three layers (the last batch norm without weight and bias) and a
    /// bottleneck predictor.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: SimSiamConfig) -> Result<Self> {
        let d = config.out_dim;
        let branch = joint::Branch::new(scope, build, |s, width| {
            MlpHead::new(s, &[width, d, d, d], MlpHeadNorm::Batch, MlpHeadNorm::BatchPlain)
        })?;
        let predictor = MlpHead::new(
            &scope.sub("predictor").top(),
            &[d, config.predictor_dim, d],
            MlpHeadNorm::Batch,
            MlpHeadNorm::None,
        )?;
        Ok(SimSiam { params: scope.params().clone(), branch, predictor })
    }
}

impl OverViews for SimSiamConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(SimSiam::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.predictor_dim, self.out_dim) = (8, 16);
    }
}

impl Objective for SimSiam {
    type Batch = Views;
    type Embeddings = joint::Predicted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Predicted> {
        let projected = self.branch.both(joint::two(batch, "SimSiam")?, pass)?;
        joint::Predicted::of(&projected, projected.clone(), |z| self.predictor.forward(z, pass))
    }

    fn criterion(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Loss> {
        Ok(sim_siam(&e.a, &e.b, &e.target_a, &e.target_b)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    fn gauges(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.target_a)?];
        gauges.extend(joint::views_match(&e.target_a, &e.target_b)?);
        Ok(gauges)
    }
}
