//! MoCo v1 and v2 (He et al. 2019, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297): a query is to find
//! its key among a queue of keys from earlier batches, made by a slowly moving teacher.
//!
//! `L = -log exp(q . k+ / T) / (exp(q . k+ / T) + sum_queue exp(q . k / T))`. Where we differ: the keys'
//! batch is not shuffled across processes, since batch norm sees one view of one process at a time.

use super::queue::Queue;
use super::{
    BuildEncoder, Gauge, Loss, Lowered, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::info_nce_queue;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;
use candle_core::Tensor;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MoCoConfig {
    /// 1: a linear projection, T 0.07 in the paper; 2: a hidden layer, T 0.2.
    pub version: u8,
    /// Temperature T.
    pub temperature: f64,
    /// Number of keys in the queue (the paper's 65,536).
    pub queue: usize,
    /// Width of the hidden layer (version 2).
    pub hidden_dim: usize,
    /// Width of the projection.
    pub out_dim: usize,
    /// Teacher momentum (the paper's 0.999).
    pub momentum: f64,
}

impl Default for MoCoConfig {
    fn default() -> Self {
        MoCoConfig {
            version: 2,
            temperature: 0.2,
            queue: 65_536,
            hidden_dim: 2048,
            out_dim: 128,
            momentum: 0.999,
        }
    }
}

crate::embeddings! {
    /// A query and its key, `(N, D)` each.
    pub struct Keyed {
        /// Projection of the first view by the student.
        graph query: Tensor,
        /// Projection of the second view by the teacher.
        fixed key: Tensor,
    }
}

/// The method.
pub struct MoCo {
    config: MoCoConfig,
    params: Params,
    student: joint::Branch,
    teacher: joint::Teacher,
    queue: Queue,
}

impl MoCo {
    /// Builds student (`encoder`, `projector`), teacher (`teacher.*`) and the queue of normalised random
    /// keys.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the version is neither 1 nor 2.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: MoCoConfig) -> Result<Self> {
        if !matches!(config.version, 1 | 2) {
            return Err(Error::config(format!(
                "method.version = {}: expected 1 or 2 (MoCo v3 is the method \"moco-v3\")",
                config.version
            )));
        }
        let project = |s: &Scope, d| match config.version {
            1 => MlpHead::new(s, &[d, config.out_dim], MlpHeadNorm::None, MlpHeadNorm::None),
            _ => {
                MlpHead::new(s, &[d, config.hidden_dim, config.out_dim], MlpHeadNorm::None, MlpHeadNorm::None)
            }
        };
        let student = joint::Branch::new(scope, build, project)?;
        let teacher = joint::Teacher::new(scope, build, project)?;
        let queue = Queue::new(&scope.top(), "queue", config.queue, config.out_dim)?;
        let params = scope.params().clone();
        Ok(MoCo { config, params, student, teacher, queue })
    }
}

impl OverViews for MoCoConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(MoCo::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    /// The paper's queue is a twentieth of its data. One that is longer than the data holds several keys of
    /// each sample, so a query meets older keys of its own sample as negatives.
    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        let (from, to) = (self.queue, samples.max(1));
        if from <= to {
            return None;
        }
        self.queue = to;
        let why = "a longer queue holds older keys of the same samples, as negatives of themselves";
        Some(Lowered { key: "method.queue", from, to, why })
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim, self.queue, self.momentum) = (16, 8, 20, 0.9);
    }
}

impl Objective for MoCo {
    type Batch = Views;
    type Embeddings = Keyed;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.student.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Keyed> {
        let (a, b) = joint::two(batch, "MoCo")?;
        Ok(Keyed { query: self.student.project(a, pass)?, key: self.teacher.project(b, pass)? })
    }

    fn criterion(&self, e: &Keyed, _pass: &Pass) -> Result<Loss> {
        Ok(info_nce_queue(&e.query, &e.key, self.queue.rows(), self.config.temperature)?.into())
    }

    /// Each query has its own key and the same queue: samples are independent, so accumulation may average.
    fn couples_samples(&self) -> bool {
        false
    }

    /// Moves the teacher, and replaces the oldest keys of the queue by this step's.
    fn after_step(&self, e: &Keyed, _progress: &Progress, world: &World) -> Result<()> {
        self.teacher.follow(self.config.momentum)?;
        self.queue.push(&world.all_gather(&e.key)?)
    }

    fn gauges(&self, e: &Keyed, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.query)?];
        gauges.extend(joint::views_match(&e.query, &e.key)?);
        gauges.extend(joint::contrast(&e.query, self.queue.rows(), self.config.temperature, false)?);
        Ok(gauges)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_no_longer_than_the_data() {
        let mut config = MoCoConfig::default();
        let lowered = config.fit(2_360).unwrap();
        assert_eq!((lowered.key, lowered.from, lowered.to), ("method.queue", 65_536, 2_360));
        assert_eq!((config.queue, config.fit(2_360)), (2_360, None));
        assert_eq!(MoCoConfig::default().fit(1_281_167), None);
    }
}
