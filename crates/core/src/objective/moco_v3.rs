//! MoCo v3 (Chen et al. 2021, arXiv 2104.02057): contrast within the batch against a moving teacher, with a
//! predictor and no queue.
//!
//! `L = 2T * [CE(q1 k2^T / T) + CE(q2 k1^T / T)]`, the diagonal being the target.

use super::{BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::moco_v3;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MoCoV3Config {
    /// Temperature T (the paper's 0.2 for ViT, 1.0 for ResNet-50).
    pub temperature: f64,
    /// Hidden width of projector and predictor (4096).
    pub hidden_dim: usize,
    /// Width of the projection (256).
    pub out_dim: usize,
    /// Teacher momentum at the start; rises to 1 along a half cosine (the paper's 0.99).
    pub momentum: f64,
}

impl Default for MoCoV3Config {
    fn default() -> Self {
        MoCoV3Config { temperature: 0.2, hidden_dim: 4096, out_dim: 256, momentum: 0.99 }
    }
}

/// The method.
pub struct MoCoV3 {
    config: MoCoV3Config,
    params: Params,
    student: joint::Branch,
    predictor: MlpHead,
    teacher: joint::Teacher,
}

impl MoCoV3 {
    /// Builds student (`encoder`, `projector`, `predictor`) and teacher (`teacher.*`), which starts as a
    /// copy.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: MoCoV3Config) -> Result<Self> {
        let (h, o) = (config.hidden_dim, config.out_dim);
        let project =
            |s: &Scope, d| MlpHead::new(s, &[d, h, h, o], MlpHeadNorm::Batch, MlpHeadNorm::BatchPlain);
        let student = joint::Branch::new(scope, build, project)?;
        let predictor = MlpHead::new(
            &scope.sub("predictor").top(),
            &[o, h, o],
            MlpHeadNorm::Batch,
            MlpHeadNorm::BatchPlain,
        )?;
        let teacher = joint::Teacher::new(scope, build, project)?;
        Ok(MoCoV3 { config, params: scope.params().clone(), student, predictor, teacher })
    }
}

impl OverViews for MoCoV3Config {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(MoCoV3::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for MoCoV3 {
    type Batch = Views;
    type Embeddings = joint::Predicted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.student.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Predicted> {
        let views = joint::two(batch, "MoCo v3")?;
        let projected = self.student.both(views, pass)?;
        let targets = self.teacher.both(views, pass)?;
        joint::Predicted::of(&projected, targets, |z| self.predictor.forward(z, pass))
    }

    fn criterion(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Loss> {
        Ok(moco_v3(&e.a, &e.b, &e.target_a, &e.target_b, self.config.temperature)?.into())
    }

    fn after_step(&self, _e: &joint::Predicted, progress: &Progress, _world: &World) -> Result<()> {
        self.teacher.follow(joint::cosine_to_one(self.config.momentum, progress.fraction()))
    }

    fn gauges(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.target_a)?];
        gauges.extend(joint::views_match(&e.a, &e.target_b)?);
        gauges.extend(joint::contrast(&e.a, &e.target_b, self.config.temperature, true)?);
        Ok(gauges)
    }
}
