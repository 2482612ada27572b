//! BYOL (Grill et al. 2020, arXiv 2006.07733): the student predicts the teacher's projection of the other
//! view; the teacher is the student's moving average.
//!
//! `L = mean over both directions of 2 - 2 cos(q(z_student(x1)), z_teacher(x2))`.

use super::{
    BuildEncoder, Gauge, GaugeInfo, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::byol;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ByolConfig {
    /// Hidden width of projector and predictor (the paper's 4096).
    pub hidden_dim: usize,
    /// Width of the projection (the paper's 256).
    pub out_dim: usize,
    /// Teacher momentum at the start; rises to 1 along a half cosine (the paper's 0.996 for long runs).
    pub momentum: f64,
}

impl Default for ByolConfig {
    fn default() -> Self {
        ByolConfig { hidden_dim: 4096, out_dim: 256, momentum: 0.996 }
    }
}

/// What its gauges mean where it is special to BYOL.
static INFO: [GaugeInfo; 1] = [GaugeInfo::new("embedding_std", "spread of the normalised projections")
    .too_low(
        "all samples get nearly the same projection (complete collapse): nothing repels here, so\
     the predictor and the slow teacher have to hold them apart, and do not: the momentum is too low or the\
     learning rate too high, or the samples hardly differ",
        "a lower optim.lr, method.momentum of 0.99 and more, batch norm in the encoder",
    )];

/// The method.
pub struct Byol {
    config: ByolConfig,
    params: Params,
    student: joint::Branch,
    predictor: MlpHead,
    teacher: joint::Teacher,
}

impl Byol {
    /// Builds student (`encoder`, `projector`, `predictor`) and teacher (`teacher.encoder`,
    /// `teacher.projector`), which starts as a copy.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: ByolConfig) -> Result<Self> {
        let (h, o) = (config.hidden_dim, config.out_dim);
        let project = |s: &Scope, d| MlpHead::new(s, &[d, h, o], MlpHeadNorm::Batch, MlpHeadNorm::None);
        let student = joint::Branch::new(scope, build, project)?;
        let predictor =
            MlpHead::new(&scope.sub("predictor").top(), &[o, h, o], MlpHeadNorm::Batch, MlpHeadNorm::None)?;
        let teacher = joint::Teacher::new(scope, build, project)?;
        Ok(Byol { config, params: scope.params().clone(), student, predictor, teacher })
    }
}

impl OverViews for ByolConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Byol::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for Byol {
    type Batch = Views;
    type Embeddings = joint::Predicted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.student.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<joint::Predicted> {
        let views = joint::two(batch, "BYOL")?;
        let projected = self.student.both(views, pass)?;
        let targets = self.teacher.both(views, pass)?;
        joint::Predicted::of(&projected, targets, |z| self.predictor.forward(z, pass))
    }

    fn criterion(&self, e: &joint::Predicted, _pass: &Pass) -> Result<Loss> {
        Ok(byol(&e.a, &e.b, &e.target_a, &e.target_b)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn after_step(&self, _e: &joint::Predicted, progress: &Progress, _world: &World) -> Result<()> {
        self.teacher.follow(joint::cosine_to_one(self.config.momentum, progress.fraction()))
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
