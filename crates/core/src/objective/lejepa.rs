//! LeJEPA (Balestriero and LeCun 2025, arXiv 2511.08544): views of a sample lie together, and the embeddings of
//! each view are an isotropic Gaussian, which random directions test. No teacher, no stop-gradient, no schedule.
//!
//! `L = (1 - lambda) mean_v ||z_v - mean_full z||^2 / D + lambda SIGReg(z)`, SIGReg the mean over views and
//! directions of the Epps-Pulley statistic of a normal distribution ([`sigreg`](crate::loss::sigreg)). The
//! directions are new in each step, and the same on all processes.
//!
//! Where we differ: the invariance is a mean over dimensions and is centred on the full-size views, as in lightly,
//! so its lambda is that one. It is a convex combination: with `inv + lambda sigreg` a published lambda means
//! another thing.

use super::swav::Projected;
use super::{
    Band, BuildEncoder, Gauge, GaugeInfo, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed,
    joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::{Knots, directions, lejepa_terms};
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeJepaConfig {
    /// Weight of the Gaussian regulariser, from 0 to 1; the invariance has the rest (the paper's 0.02 to 0.05).
    pub lambda: f64,
    /// Number of random directions in a step (the paper's 1024; 256 in its minimal example).
    pub slices: usize,
    /// Number of points at which characteristic functions are compared (the paper's 17).
    pub knots: usize,
    /// The last of these points (the paper's 3).
    pub t_max: f64,
    /// Width of the two hidden layers of the projector (the paper's 2048).
    pub hidden_dim: usize,
    /// Width of the projection (the paper's 16 to 128).
    pub out_dim: usize,
}

impl Default for LeJepaConfig {
    fn default() -> Self {
        LeJepaConfig { lambda: 0.05, slices: 256, knots: 17, t_max: 3.0, hidden_dim: 2048, out_dim: 64 }
    }
}

/// What its settings mean.
static INFO: [GaugeInfo; 1] =
    [GaugeInfo::new("method.lambda", "share of the Gaussian regulariser in the loss")
        .too_low(
            "nothing holds the embeddings apart: the invariance alone is least for one point",
            "method.lambda of 0.02 to 0.1",
        )
        .too_high(
            "views are hardly asked to agree: the embeddings are a Gaussian that need not follow the sample",
            "method.lambda of 0.02 to 0.1",
        )];

/// The method.
pub struct LeJepa {
    config: LeJepaConfig,
    params: Params,
    branch: joint::Branch,
}

impl LeJepa {
    /// Builds encoder and projector (linear, batch norm, ReLU, twice; linear) at `encoder` and `projector`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or a number of the configuration is not possible.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: LeJepaConfig) -> Result<Self> {
        let bad = |key: &str, value: f64, expected: &str| {
            Err(Error::config(format!("method.{key} = {value}: expected {expected}")))
        };
        if !(0.0..=1.0).contains(&config.lambda) {
            return bad("lambda", config.lambda, "0 to 1");
        }
        if config.slices == 0 {
            return bad("slices", 0.0, "at least 1");
        }
        if config.knots < 2 {
            return bad("knots", config.knots as f64, "at least 2");
        }
        if !(config.t_max > 0.0 && config.t_max.is_finite()) {
            return bad("t_max", config.t_max, "above 0");
        }
        let branch = joint::Branch::new(scope, build, |s, d| {
            let h = config.hidden_dim;
            MlpHead::new(s, &[d, h, h, config.out_dim], MlpHeadNorm::Batch, MlpHeadNorm::None)
        })?;
        Ok(LeJepa { config, params: scope.params().clone(), branch })
    }
}

impl OverViews for LeJepaConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Multi(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(LeJepa::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim, self.slices) = (16, 8, 10);
    }
}

impl Objective for LeJepa {
    type Batch = Views;
    type Embeddings = Projected;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Projected> {
        let (full, small) = joint::crops(batch, "LeJEPA")?;
        Ok(Projected { full: self.branch.each(full, pass)?, small: self.branch.each(small, pass)? })
    }

    /// The statistic is of the whole batch: the trainer gathers it, so its gradient needs no factor for processes.
    fn criterion(&self, e: &Projected, pass: &Pass) -> Result<Loss> {
        let c = &self.config;
        let first = e.full.first().ok_or_else(|| Error::input("batch", "LeJEPA needs full-size views"))?;
        // Of the step, and not of the micro-batch or the process.
        let a = directions(first.dim(1)?, c.slices, pass.key("directions"), first.device())?;
        let knots = Knots { number: c.knots, end: c.t_max };
        Loss::sum(lejepa_terms(&e.full, &e.small, &a, c.lambda, knots)?)
    }

    fn settings(&self) -> Vec<Gauge> {
        vec![Gauge::plain("method.lambda", self.config.lambda).healthy(Band::within(1e-3, 0.5))]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    fn gauges(&self, e: &Projected, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = Vec::new();
        if let Some(first) = e.full.first() {
            gauges.extend([joint::embedding_std(first)?, joint::dimension_std(first)?]);
        }
        if let [first, second, ..] = &e.full[..] {
            gauges.extend(joint::views_match(first, second)?);
        }
        Ok(gauges)
    }

    fn may_skip(&self) -> Vec<String> {
        self.branch.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{self, Parts};
    use super::*;
    use crate::loss::lejepa;
    use crate::pass::Progress;

    fn build(scope: &Scope) -> Result<Box<LeJepa>> {
        let mut config = LeJepaConfig::default();
        config.shrink();
        Ok(Box::new(LeJepa::new(scope, &toy::encoder, config)?))
    }

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        toy::conforms("lejepa", 2, Parts::BatchNorm, &build)
    }

    #[test]
    fn directions_change_with_the_step_alone() -> Result<()> {
        let method = build(&toy::scope(1))?;
        let pass = |step| Pass::train(0, Progress { step, total_steps: 9, epoch: 0 });
        let e = method.embed(&toy::batch(0, 0, 2)?, &pass(0))?;
        let loss = |pass: &Pass| -> Result<f32> { Ok(method.criterion(&e, pass)?.value.to_scalar()?) };
        assert_eq!(loss(&pass(1))?, loss(&pass(1).at(5))?);
        assert_ne!(loss(&pass(1))?, loss(&pass(2))?);
        let a = directions(8, 10, pass(1).key("directions"), e.full[0].device())?;
        let want = lejepa(&e.full, &e.small, &a, 0.05, Knots::default())?.to_scalar::<f32>()?;
        assert!((loss(&pass(1))? - want).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn odd_numbers_are_refused() {
        for (config, key) in [
            (LeJepaConfig { lambda: 2.0, ..LeJepaConfig::default() }, "lambda"),
            (LeJepaConfig { slices: 0, ..LeJepaConfig::default() }, "slices"),
            (LeJepaConfig { knots: 1, ..LeJepaConfig::default() }, "knots"),
            (LeJepaConfig { t_max: 0.0, ..LeJepaConfig::default() }, "t_max"),
        ] {
            let error = LeJepa::new(&toy::scope(0), &toy::encoder, config).err().unwrap().to_string();
            assert!(error.contains(&format!("method.{key}")), "{error}");
        }
    }
}
