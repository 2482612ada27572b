//! Triplets over views (Schroff, Kalenichenko and Philbin 2015, arXiv 1503.03832): two views of a sample are to be
//! nearer to each other than to any other sample by a margin.
//!
//! `l = max(d(a, p) - d(a, n) + margin, 0)`: the anchor a is a view, the positive p the other view of its sample,
//! the negative n a view of another sample of the batch that is nearly as near (semi-hard: farther than p, but the
//! nearest of those). d is the distance of projections of length 1.
//!
//! Where we differ: FaceNet's positives are faces of one person and its distances are squared; here no label is
//! read, and distances are plain, as in PyTorch.

use super::{
    BatchRate, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::{Mining, mined_triplet};
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TripletConfig {
    /// By how much a negative is to be farther than the positive; distances are 0 to 2 (FaceNet's 0.2, of squared
    /// ones).
    pub margin: f64,
    /// Which negative a triplet takes: `semi-hard` or `hardest`.
    pub mining: Mining,
    /// Width of the hidden layer of the projection head.
    pub hidden_dim: usize,
    /// Width of the projection (FaceNet's 128).
    pub out_dim: usize,
}

impl Default for TripletConfig {
    fn default() -> Self {
        TripletConfig { margin: 0.5, mining: Mining::SemiHard, hidden_dim: 2048, out_dim: 128 }
    }
}

/// The method.
pub struct Triplet {
    config: TripletConfig,
    params: Params,
    branch: joint::Branch,
}

impl Triplet {
    /// Builds encoder and head, SimCLR's, at `encoder` and `projector`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the margin is not above 0.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: TripletConfig) -> Result<Self> {
        if !(config.margin > 0.0 && config.margin <= 2.0) {
            return Err(Error::config(format!(
                "method.margin = {}: expected above 0 and at most 2",
                config.margin
            )));
        }
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(s, &[d, config.hidden_dim, config.out_dim], MlpHeadNorm::Batch, MlpHeadNorm::Batch)
        })?;
        Ok(Triplet { config, params: scope.params().clone(), branch })
    }
}

impl OverViews for TripletConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Triplet::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn rate(&self) -> BatchRate {
        BatchRate::Root
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for Triplet {
    type Batch = Views;
    type Embeddings = joint::Pair;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Pair> {
        self.branch.both(joint::two(batch, "triplet")?, pass)
    }

    fn criterion(&self, e: &joint::Pair, _pass: &Pass) -> Result<Loss> {
        Ok(mined_triplet(&e.a, &e.b, self.config.margin, self.config.mining)?.0.into())
    }

    /// The spread of the projections, and the share of triplets that are not yet apart by the margin: the others
    /// have no gradient.
    fn gauges(&self, e: &joint::Pair, _pass: &Pass) -> Result<Vec<Gauge>> {
        let (_, open) = mined_triplet(&e.a, &e.b, self.config.margin, self.config.mining)?;
        let mut gauges = vec![joint::embedding_std(&e.a)?, Gauge::plain("open_triplets", open)];
        gauges.extend(joint::views_match(&e.a, &e.b)?);
        Ok(gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{self, Parts};
    use super::*;

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        for mining in [Mining::SemiHard, Mining::Hardest] {
            let mut config = TripletConfig { mining, ..TripletConfig::default() };
            config.shrink();
            toy::conforms("triplet", 0, Parts::BatchNorm, &|scope: &Scope| {
                Ok(Box::new(Triplet::new(scope, &toy::encoder, config.clone())?))
            })?;
        }
        Ok(())
    }

    #[test]
    fn a_margin_of_nothing_is_refused() {
        let config = TripletConfig { margin: 0.0, ..TripletConfig::default() };
        let error = Triplet::new(&toy::scope(0), &toy::encoder, config).err().unwrap().to_string();
        assert!(error.contains("method.margin"), "{error}");
    }
}
