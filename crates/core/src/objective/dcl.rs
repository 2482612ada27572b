//! DCL and DCLW (Yeh et al. 2021, arXiv 2110.06848): SimCLR whose positive pair is not in the denominator, so that
//! an easy pair does not weaken the gradient of the negatives: small batches lose less.
//!
//! `l(i, j) = -w_ij z_i . z_j / T + log sum_{k of other samples} exp(z_i . z_k / T)`, over both directions of every
//! pair. DCL has `w = 1`; DCLW gives pairs that are apart a larger weight, `w = 2 - exp(s / sigma) / mean exp(s /
//! sigma)`, s the cosine of the pair. The loss may be negative.

use super::{
    BatchRate, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::{dcl, dclw};
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DclConfig {
    /// Temperature T (the paper's 0.1).
    pub temperature: f64,
    /// With it, pairs are weighted (DCLW, the paper's 0.5): how much nearer a pair must be to weigh less. Without
    /// it they are alike (DCL).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Width of the hidden layer of the projection head.
    pub hidden_dim: usize,
    /// Width of the projection (the paper's 128).
    pub out_dim: usize,
}

impl Default for DclConfig {
    fn default() -> Self {
        DclConfig { temperature: 0.1, sigma: None, hidden_dim: 2048, out_dim: 128 }
    }
}

/// The method.
pub struct Dcl {
    config: DclConfig,
    params: Params,
    branch: joint::Branch,
}

impl Dcl {
    /// Builds encoder and head, SimCLR's, at `encoder` and `projector`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or a number of the configuration is not possible.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: DclConfig) -> Result<Self> {
        if let Some(sigma) = config.sigma.filter(|s| !(*s > 0.0 && s.is_finite())) {
            return Err(Error::config(format!("method.sigma = {sigma}: expected a number above 0")));
        }
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(s, &[d, config.hidden_dim, config.out_dim], MlpHeadNorm::Batch, MlpHeadNorm::Batch)
        })?;
        Ok(Dcl { config, params: scope.params().clone(), branch })
    }
}

impl OverViews for DclConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Dcl::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn rate(&self) -> BatchRate {
        BatchRate::Root
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for Dcl {
    type Batch = Views;
    type Embeddings = joint::Pair;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Pair> {
        self.branch.both(joint::two(batch, "DCL")?, pass)
    }

    fn criterion(&self, e: &joint::Pair, _pass: &Pass) -> Result<Loss> {
        let t = self.config.temperature;
        Ok(match self.config.sigma {
            None => dcl(&e.a, &e.b, t)?,
            Some(sigma) => dclw(&e.a, &e.b, t, sigma)?,
        }
        .into())
    }

    fn gauges(&self, e: &joint::Pair, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.a)?];
        gauges.extend(joint::views_match(&e.a, &e.b)?);
        gauges.extend(joint::contrast(&e.a, &e.b, self.config.temperature, true)?);
        Ok(gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{self, Parts};
    use super::*;

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        for sigma in [None, Some(0.5)] {
            let mut config = DclConfig { sigma, ..DclConfig::default() };
            config.shrink();
            toy::conforms("dcl", 0, Parts::BatchNorm, &|scope: &Scope| {
                Ok(Box::new(Dcl::new(scope, &toy::encoder, config.clone())?))
            })?;
        }
        Ok(())
    }

    #[test]
    fn sigma_makes_it_dclw() -> Result<()> {
        let of = |sigma| Dcl::new(&toy::scope(1), &toy::encoder, DclConfig { sigma, ..DclConfig::default() });
        let (plain, weighted) = (of(None)?, of(Some(0.5))?);
        let pass = Pass::eval();
        let e = plain.embed(&toy::batch(0, 0, 0)?, &pass)?;
        let loss = |m: &Dcl| -> Result<f32> { Ok(m.criterion(&e, &pass)?.value.to_scalar()?) };
        assert_eq!(loss(&plain)?, dcl(&e.a, &e.b, 0.1)?.to_scalar::<f32>()?);
        assert_eq!(loss(&weighted)?, dclw(&e.a, &e.b, 0.1, 0.5)?.to_scalar::<f32>()?);
        assert_ne!(loss(&plain)?, loss(&weighted)?);
        assert!(of(Some(0.0)).err().unwrap().to_string().contains("method.sigma"));
        Ok(())
    }
}
