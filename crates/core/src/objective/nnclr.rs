//! NNCLR (Dwibedi et al. 2021, arXiv 2104.14548): the positive of a view is not its other view but the nearest
//! neighbour of that one in a queue of earlier embeddings: positives that no augmentation makes.
//!
//! `L = -log exp(nn(z_i) . p_i / T) / sum_k exp(nn(z_i) . p_k / T)`, nn(z) the row of the queue with the largest
//! cosine to the projection of one view, p the prediction from the other; mean over both directions.
//!
//! Where we differ: the queue is of the size of the data at most.

use super::queue::Queue;
use super::{
    BuildEncoder, Gauge, Loss, Lowered, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::{nearest, nnclr, nnclr_nt_xent};
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;

/// What a neighbour is told apart from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Negatives {
    /// The predictions of the other samples (the paper).
    #[default]
    Predictions,
    /// These and the neighbours of the other samples (lightly: NT-Xent).
    Both,
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NnclrConfig {
    /// Temperature T (the paper's 0.1; 0.2 for CIFAR in solo-learn).
    pub temperature: f64,
    /// Number of embeddings in the queue (the paper's 98,304).
    pub queue: usize,
    /// What a neighbour is told apart from: `predictions` (the paper) or `both` (lightly).
    pub negatives: Negatives,
    /// Width of the projector's two hidden layers (the paper's 2048).
    pub hidden_dim: usize,
    /// Width of the predictor's hidden layer (the paper's 4096).
    pub predictor_dim: usize,
    /// Width of the projection (the paper's 256).
    pub out_dim: usize,
}

impl Default for NnclrConfig {
    fn default() -> Self {
        NnclrConfig {
            temperature: 0.1,
            queue: 65_536,
            negatives: Negatives::Predictions,
            hidden_dim: 2048,
            predictor_dim: 4096,
            out_dim: 256,
        }
    }
}

/// The method.
pub struct Nnclr {
    config: NnclrConfig,
    params: Params,
    branch: joint::Branch,
    predictor: MlpHead,
    queue: Queue,
}

impl Nnclr {
    /// Builds `encoder`, `projector` (three layers with batch norm), `predictor` and the queue of normalised random
    /// rows.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the queue has no place.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: NnclrConfig) -> Result<Self> {
        let (h, o) = (config.hidden_dim, config.out_dim);
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(s, &[d, h, h, o], MlpHeadNorm::Batch, MlpHeadNorm::Batch)
        })?;
        let dims = [o, config.predictor_dim, o];
        let predictor =
            MlpHead::new(&scope.sub("predictor").top(), &dims, MlpHeadNorm::Batch, MlpHeadNorm::None)?;
        let queue = Queue::new(&scope.top(), "queue", config.queue, o)?;
        Ok(Nnclr { config, params: scope.params().clone(), branch, predictor, queue })
    }
}

impl OverViews for NnclrConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Nnclr::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        let (from, to) = (self.queue, samples.max(1));
        if from <= to {
            return None;
        }
        self.queue = to;
        let why = "a longer queue holds older embeddings of the same samples, which are their own neighbours";
        Some(Lowered { key: "method.queue", from, to, why })
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.predictor_dim, self.out_dim, self.queue) = (16, 16, 8, 20);
    }
}

impl Objective for Nnclr {
    type Batch = Views;
    type Embeddings = joint::Predicted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Predicted> {
        let projected = self.branch.both(joint::two(batch, "NNCLR")?, pass)?;
        joint::Predicted::of(&projected, projected.clone(), |z| self.predictor.forward(z, pass))
    }

    fn criterion(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Loss> {
        let loss = match self.config.negatives {
            Negatives::Predictions => nnclr,
            Negatives::Both => nnclr_nt_xent,
        };
        let (predicted, projected) = ((&e.a, &e.b), (&e.target_a, &e.target_b));
        Ok(loss(predicted, projected, self.queue.rows(), self.config.temperature)?.into())
    }

    /// The queue takes the projections of the first view.
    fn after_step(&self, e: &joint::Predicted, _progress: &Progress, _world: &World) -> Result<()> {
        self.queue.push(&e.target_a)
    }

    /// The spread of the projections, and the mean cosine of a projection with its neighbour.
    fn gauges(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Vec<Gauge>> {
        let near = nearest(&e.target_a, self.queue.rows())?;
        let z = super::queue::unit(&e.target_a)?;
        let cosine = (near * z)?.sum(1)?.mean_all()?.to_scalar::<f32>()?;
        let spread = joint::embedding_std(&e.target_a)?;
        let mut gauges = vec![spread, Gauge::plain("neighbour_cosine", f64::from(cosine))];
        gauges.extend(joint::views_match(&e.a, &e.target_b)?);
        gauges.extend(joint::contrast(&e.a, &e.target_b, self.config.temperature, true)?);
        Ok(gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{self, Parts};
    use super::*;
    use crate::objective::Embedded;

    fn small(negatives: Negatives) -> NnclrConfig {
        let mut config = NnclrConfig { negatives, ..NnclrConfig::default() };
        config.shrink();
        config
    }

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        for negatives in [Negatives::Predictions, Negatives::Both] {
            toy::conforms("nnclr", 0, Parts::BatchNorm, &|scope: &Scope| {
                Ok(Box::new(Nnclr::new(scope, &toy::encoder, small(negatives))?))
            })?;
        }
        Ok(())
    }

    /// After a step the nearest neighbour of the first view is that view itself.
    #[test]
    fn the_queue_holds_the_last_step() -> Result<()> {
        let method = Nnclr::new(&toy::scope(0), &toy::encoder, small(Negatives::Predictions))?;
        let pass = Pass::train(0, Progress::default());
        let e = method.embed(&toy::batch(0, 0, 0)?, &pass)?.detach()?;
        let cosine = || -> Result<f64> { Ok(method.gauges(&e, &pass)?[1].value) };
        assert!(cosine()? < 0.99);
        method.after_step(&e, &Progress::default(), &World::default())?;
        assert!((cosine()? - 1.0).abs() < 1e-5);
        Ok(())
    }

    #[test]
    fn the_queue_is_no_longer_than_the_data() {
        let mut config = NnclrConfig::default();
        assert_eq!(config.fit(900).map(|l| (l.key, l.to)), Some(("method.queue", 900)));
        assert_eq!((config.queue, config.fit(900)), (900, None));
    }
}
