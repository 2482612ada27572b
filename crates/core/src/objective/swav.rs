//! SwAV (Caron et al. 2020, arXiv 2006.09882): the cluster of one view of a sample is predicted from its other
//! views; clusters are prototypes that a batch is spread over equally.
//!
//! `L = mean over full-size views i of sum_{v != i} H(Q_i, softmax(z_v C^T / T)) / (V - 1)`, Q_i the codes that
//! Sinkhorn makes of `z_i C^T / epsilon`, z and the prototypes C of length 1. A batch that is smaller than the
//! number of prototypes is balanced together with a queue of earlier embeddings, from an epoch on at which they are
//! worth it: before, the loss stalls at ln K.
//!
//! Where we differ: prototypes are brought to length 1 after each step rather than before each one, which is the
//! same; they stand still for an epoch (the paper's 313 steps are one of ImageNet), a tenth of the run at most; the
//! codes balance the batch of all processes; the queue is used as soon as it has rows.

use super::dino_head::information;
use super::gauge::COLD;
use super::queue::{Queue, unit};
use super::{
    Band, BuildEncoder, Gauge, GaugeInfo, Loss, Lowered, Method, Networks, Objective, OverViews, Views,
    Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::{swav_codes, swav_with_codes};
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::optim::Grads;
use crate::params::{Params, Weight};
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;
use candle_core::Tensor;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwavConfig {
    /// Number of prototypes K (the paper's 3,000 for ImageNet; a few times the number of classes).
    pub prototypes: usize,
    /// Temperature T (the paper's 0.1).
    pub temperature: f64,
    /// Sharpness of the codes: Sinkhorn's epsilon (the paper's 0.05).
    pub epsilon: f64,
    /// Rounds of Sinkhorn (the paper's 3).
    pub sinkhorn_iterations: usize,
    /// Embeddings of earlier batches, of each full-size view, that are balanced with the batch; 0 for none (the
    /// paper's 3,840 for batches of 256).
    pub queue: usize,
    /// The epoch from which the queue is used, counted from 0 (the paper's 15).
    pub queue_from_epoch: u64,
    /// Epochs at the start in which the prototypes stand still, a tenth of the run at most (the paper's 1).
    pub freeze_prototypes: u64,
    /// Width of the hidden layer (the paper's 2048).
    pub hidden_dim: usize,
    /// Width of the projection (the paper's 128).
    pub out_dim: usize,
}

impl Default for SwavConfig {
    fn default() -> Self {
        SwavConfig {
            prototypes: 512,
            temperature: 0.1,
            epsilon: 0.05,
            sinkhorn_iterations: 3,
            queue: 3840,
            queue_from_epoch: 15,
            freeze_prototypes: 1,
            hidden_dim: 2048,
            out_dim: 128,
        }
    }
}

crate::embeddings! {
    /// The projections of views, of length 1, `(N, D)` each.
    pub struct Projected {
        /// Of the full-size views.
        graph full: Vec<Tensor>,
        /// Of the small crops.
        graph small: Vec<Tensor>,
    }
}

/// What its settings mean.
static INFO: [GaugeInfo; 2] = [
    COLD,
    GaugeInfo::new("method.epsilon", "how even the assignments of Sinkhorn are")
        .too_low(
            "assignments are all but one-hot, and Sinkhorn does not settle: few prototypes take all samples",
            "method.epsilon = 0.05",
        )
        .too_high(
            "every sample is assigned to all prototypes alike: the targets say nothing",
            "method.epsilon = 0.05",
        ),
];

/// The method.
pub struct Swav {
    config: SwavConfig,
    params: Params,
    branch: joint::Branch,
    /// `(K, D)`.
    prototypes: Weight,
    /// For each full-size view.
    queues: Vec<Queue>,
}

/// Full-size views.
const FULL: usize = 2;
/// The name of the prototypes.
const PROTOTYPES: &str = "prototypes.weight";

impl Swav {
    /// Builds `encoder`, `projector` (linear, batch norm, ReLU, linear), `prototypes` and the queues.
    ///
    /// # Errors
    /// If the encoder cannot be built, or a number of the configuration is not possible.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: SwavConfig) -> Result<Self> {
        if config.prototypes < 2 {
            return Err(Error::config(format!(
                "method.prototypes = {}: expected at least 2",
                config.prototypes
            )));
        }
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(s, &[d, config.hidden_dim, config.out_dim], MlpHeadNorm::Batch, MlpHeadNorm::None)
        })?;
        let top = scope.top();
        let shape = (config.prototypes, config.out_dim);
        let prototypes =
            top.get_with(PROTOTYPES, shape, |_| unit(&top.draw(PROTOTYPES, shape, Init::TorchLinear)?))?;
        let queue = |i: usize| Queue::new(&top, &format!("queue.{i}"), config.queue, config.out_dim);
        let queues = (0..if config.queue > 0 { FULL } else { 0 }).map(queue).collect::<Result<_>>()?;
        Ok(Swav { config, params: scope.params().clone(), branch, prototypes, queues })
    }

    /// The codes of the full-size views, whose `scores` are `(N, K)`.
    fn codes(&self, scores: &[Tensor], pass: &Pass) -> Result<Vec<Tensor>> {
        let c = &self.config;
        let used = pass.train && pass.progress.epoch >= c.queue_from_epoch;
        let code = |(i, scores): (usize, &Tensor)| {
            let earlier = self.queues.get(i).filter(|_| used).map(Queue::written).transpose()?.flatten();
            let earlier =
                earlier.map(|z| Ok::<_, Error>(z.matmul(&self.prototypes.value().t()?)?)).transpose()?;
            swav_codes(scores, earlier.as_ref(), c.sinkhorn_iterations, c.epsilon)
        };
        scores.iter().enumerate().map(code).collect()
    }
}

impl OverViews for SwavConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Multi(FULL)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Swav::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        let (from, to) = (self.prototypes, samples.max(2));
        if from <= to {
            return None;
        }
        self.prototypes = to;
        let why = "of more prototypes than samples some are nobody's";
        Some(Lowered { key: "method.prototypes", from, to, why })
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim, self.prototypes) = (16, 8, 6);
        (self.queue, self.queue_from_epoch) = (12, 1);
    }
}

impl Objective for Swav {
    type Batch = Views;
    type Embeddings = Projected;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Projected> {
        let (full, small) = joint::crops(batch, "SwAV")?;
        let units =
            |views: &[Tensor]| self.branch.each(views, pass)?.iter().map(unit).collect::<Result<Vec<_>>>();
        Ok(Projected { full: units(full)?, small: units(small)? })
    }

    fn criterion(&self, e: &Projected, pass: &Pass) -> Result<Loss> {
        let prototypes = self.prototypes.on(pass)?.t()?; // (D, K)
        let scores =
            |views: &[Tensor]| views.iter().map(|z| Ok(z.matmul(&prototypes)?)).collect::<Result<Vec<_>>>();
        let (full, small) = (scores(&e.full)?, scores(&e.small)?);
        let codes = self.codes(&full, pass)?;
        Ok(swav_with_codes(&full, &small, &codes, self.config.temperature)?.into())
    }

    /// The prototypes stand still at first.
    fn adjust_grads(&self, grads: &mut Grads, progress: &Progress) -> Result<()> {
        if progress.epoch < self.config.freeze_prototypes && progress.fraction() < 0.1 {
            grads.remove(PROTOTYPES);
        }
        Ok(())
    }

    /// Brings the prototypes to length 1, and moves the queues.
    fn after_step(&self, e: &Projected, _progress: &Progress, _world: &World) -> Result<()> {
        self.params.set(PROTOTYPES, &unit(&self.prototypes.value())?)?;
        self.queues.iter().zip(&e.full).try_for_each(|(queue, z)| queue.push(z))
    }

    fn settings(&self) -> Vec<Gauge> {
        let SwavConfig { temperature, epsilon, .. } = self.config;
        vec![
            Gauge::above("method.temperature", temperature, 0.01),
            Gauge::plain("method.epsilon", epsilon).healthy(Band::within(0.005, 0.5)),
        ]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    /// The spread of the projections, and how many prototypes the predictions use: the exponential of the entropy
    /// of their mean.
    fn gauges(&self, e: &Projected, _pass: &Pass) -> Result<Vec<Gauge>> {
        let Some(first) = e.full.first() else { return Ok(Vec::new()) };
        let scores = (first.matmul(&self.prototypes.value().t()?)? / self.config.temperature)?;
        let p = scores.broadcast_sub(&scores.max_keepdim(1)?)?.exp()?;
        let (sharpness, said) = information(&p.broadcast_div(&p.sum_keepdim(1)?)?)?;
        let mut gauges =
            vec![joint::embedding_std(first)?, Gauge::plain("prototypes_used", (said - sharpness).exp())];
        if let Some(second) = e.full.get(1) {
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
    use crate::loss::sinkhorn;
    use crate::objective::Embedded;

    fn build(scope: &Scope) -> Result<Box<Swav>> {
        let mut config = SwavConfig::default();
        config.shrink();
        Ok(Box::new(Swav::new(scope, &toy::encoder, config)?))
    }

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        toy::conforms("swav", 3, Parts::BatchNorm, &build)
    }

    #[test]
    fn prototypes_keep_length_1_and_the_queue_waits_for_its_epoch() -> Result<()> {
        let method = build(&toy::scope(1))?;
        let lengths = || -> Result<Vec<f32>> { Ok(method.prototypes.value().sqr()?.sum(1)?.to_vec1()?) };
        assert!(lengths()?.iter().all(|l| (l - 1.0).abs() < 1e-5));
        let pass = |epoch| Pass::train(0, Progress { step: 50, total_steps: 100, epoch });
        let e = method.embed(&toy::batch(0, 0, 1)?, &pass(0))?.detach()?;
        let scores: Vec<Tensor> = e
            .full
            .iter()
            .map(|z| z.matmul(&method.prototypes.value().t()?))
            .collect::<candle_core::Result<_>>()?;
        let same =
            |a: &Tensor, b: &Tensor| -> Result<bool> { Ok(a.to_vec2::<f32>()? == b.to_vec2::<f32>()?) };
        let alone = sinkhorn(&scores[0], 3, 0.05)?;
        assert!(same(&method.codes(&scores, &pass(1))?[0], &alone)?, "an empty queue");
        method.params.set(PROTOTYPES, &(method.prototypes.value() * 3.0)?)?;
        method.after_step(&e, &Progress::default(), &World::default())?;
        assert!(lengths()?.iter().all(|l| (l - 1.0).abs() < 1e-5));
        assert!(same(&method.codes(&scores, &pass(0))?[0], &alone)?, "too early");
        assert!(!same(&method.codes(&scores, &pass(1))?[0], &alone)?);
        // The prototypes stand still in the first epoch, a tenth of the run at most.
        let left = |step, epoch| -> Result<usize> {
            let mut grads = Grads::default();
            grads.insert(PROTOTYPES, scores[0].clone());
            method.adjust_grads(&mut grads, &Progress { step, total_steps: 100, epoch })?;
            Ok(grads.len())
        };
        assert_eq!([left(3, 0)?, left(10, 0)?, left(3, 1)?], [0, 1, 1]);
        Ok(())
    }

    #[test]
    fn prototypes_are_no_more_than_the_data() {
        let mut config = SwavConfig::default();
        assert_eq!(config.fit(512), None);
        assert_eq!(config.fit(100).map(|l| (l.key, l.to)), Some(("method.prototypes", 100)));
        assert_eq!(config.prototypes, 100);
        let none = SwavConfig { prototypes: 1, ..SwavConfig::default() };
        assert!(
            Swav::new(&toy::scope(0), &toy::encoder, none).err().unwrap().to_string().contains("prototypes")
        );
    }
}
