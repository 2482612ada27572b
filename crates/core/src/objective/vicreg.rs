//! VICReg (Bardes et al. 2021, arXiv 2105.04906): views agree (invariance), each feature varies (variance), features differ (covariance).
//!
//! `L = lambda * s(Z, Z') + mu * (v(Z) + v(Z')) / 2 + nu * (c(Z) + c(Z'))`.

use super::{BuildEncoder, Embeddings, Loss, Objective, Views, Vital, joint};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::vicreg_terms;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::{Params, Scope};
use crate::pass::Pass;

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

/// The method.
pub struct VicReg {
    config: VicRegConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    projector: MlpHead,
}

impl VicReg {
    /// Builds the encoder and an expander of three linear layers, the first two with batch norm and ReLU.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: VicRegConfig) -> Result<Self> {
        let encoder = build(&scope.sub("encoder"))?;
        let dims = [encoder.dim(), config.hidden_dim, config.hidden_dim, config.out_dim];
        let projector = MlpHead::new(&scope.sub("projector"), &dims, MlpHeadNorm::Batch, MlpHeadNorm::None)?;
        Ok(VicReg { config, params: scope.params().clone(), encoder, projector })
    }
}

impl Objective for VicReg {
    type Batch = Views;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Embeddings> {
        let (a, b) = joint::two(batch, "VICReg")?;
        let f = |x| self.projector.forward(&self.encoder.forward(x, None, &[], pass)?.pooled, pass);
        Ok(Embeddings { graph: vec![f(a)?, f(b)?], fixed: vec![] })
    }

    fn criterion(&self, e: &Embeddings, _pass: &Pass) -> Result<Loss> {
        let c = &self.config;
        Loss::sum(vicreg_terms(&e.graph[0], &e.graph[1], c.lambda, c.mu, c.nu)?)
    }

    fn vitals(&self, e: &Embeddings) -> Result<Vec<Vital>> {
        joint::vitals(e)
    }
}
