//! VICReg (Bardes et al. 2021, arXiv 2105.04906): views agree (invariance), each feature varies (variance),
//! features differ (covariance).
//!
//! `L = lambda * s(Z, Z') + mu * (v(Z) + v(Z')) / 2 + nu * (c(Z) + c(Z'))`.

use super::{
    BuildEncoder, Gauge, GaugeInfo, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::vicreg_terms;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VicRegConfig {
    /// Weight of the invariance term (25).
    pub lambda: f64,
    /// Weight of the variance term (25).
    pub mu: f64,
    /// Weight of the covariance term (1).
    pub nu: f64,
    /// Width of the hidden layers of the expander.
    pub hidden_dim: usize,
    /// Width of the embedding (the paper's 8192).
    pub out_dim: usize,
}

impl Default for VicRegConfig {
    fn default() -> Self {
        VicRegConfig { lambda: 25.0, mu: 25.0, nu: 1.0, hidden_dim: 8192, out_dim: 8192 }
    }
}

/// What its gauges mean where it is special to VICReg.
static INFO: [GaugeInfo; 3] = [
    GaugeInfo::new("embedding_std", "spread of the normalised projections").too_low(
        "all samples get nearly the same embedding (complete collapse): the variance term, which\
     holds each feature apart, is too weak next to the invariance term",
        "method.mu as large as method.lambda (25 and 25), a lower optim.lr",
    ),
    GaugeInfo::new("method.mu", "weight of the variance term").too_low(
        "nothing holds each feature apart: the invariance term alone is least for one point",
        "method.mu as large as method.lambda (25 and 25)",
    ),
    GaugeInfo::new("method.nu", "weight of the covariance term").too_low(
        "nothing keeps features from repeating each other (dimensional collapse)",
        "method.nu = 1 beside method.lambda = 25",
    ),
];

/// The method.
pub struct VicReg {
    config: VicRegConfig,
    params: Params,
    branch: joint::Branch,
}

impl VicReg {
    /// Builds the encoder and an expander of three linear layers, the first two with batch norm and ReLU.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: VicRegConfig) -> Result<Self> {
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(
                s,
                &[d, config.hidden_dim, config.hidden_dim, config.out_dim],
                MlpHeadNorm::Batch,
                MlpHeadNorm::None,
            )
        })?;
        Ok(VicReg { config, params: scope.params().clone(), branch })
    }
}

impl OverViews for VicRegConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(VicReg::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for VicReg {
    type Batch = Views;
    type Embeddings = joint::Pair;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Pair> {
        self.branch.both(joint::two(batch, "VICReg")?, pass)
    }

    fn criterion(&self, e: &joint::Pair, _pass: &Pass) -> Result<Loss> {
        let c = &self.config;
        Loss::sum(vicreg_terms(&e.a, &e.b, c.lambda, c.mu, c.nu)?)
    }

    fn settings(&self) -> Vec<Gauge> {
        let VicRegConfig { lambda, mu, nu, .. } = self.config;
        vec![Gauge::above("method.mu", mu, 0.1 * lambda), Gauge::above("method.nu", nu, 1e-3 * lambda)]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    fn gauges(&self, e: &joint::Pair, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.a)?, joint::dimension_std(&e.a)?];
        gauges.extend(joint::views_match(&e.a, &e.b)?);
        Ok(gauges)
    }
}
