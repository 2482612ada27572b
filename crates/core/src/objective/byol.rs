//! BYOL (Grill et al. 2020, arXiv 2006.07733): the student predicts the teacher's projection of the other view; the teacher is the
//! student's moving average.
//!
//! `L = mean over both directions of 2 - 2 cos(q(z_student(x1)), z_teacher(x2))`.

use super::{BuildEncoder, Embeddings, Loss, Objective, Views, Vital, joint};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::byol;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::{Params, Role, Scope};
use crate::pass::{Pass, Progress, World};

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

/// The method.
pub struct Byol {
    config: ByolConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    projector: MlpHead,
    predictor: MlpHead,
    teacher: Box<dyn Encoder>,
    teacher_projector: MlpHead,
}

impl Byol {
    /// Builds student (`encoder`, `projector`, `predictor`) and teacher (`teacher.encoder`, `teacher.projector`), which starts as a copy.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: ByolConfig) -> Result<Self> {
        let (h, o) = (config.hidden_dim, config.out_dim);
        let project = |s: &Scope, d| MlpHead::new(s, &[d, h, o], MlpHeadNorm::Batch, MlpHeadNorm::None);
        let encoder = build(&scope.sub("encoder"))?;
        let projector = project(&scope.sub("projector"), encoder.dim())?;
        let predictor = MlpHead::new(&scope.sub("predictor"), &[o, h, o], MlpHeadNorm::Batch, MlpHeadNorm::None)?;
        let t = scope.sub("teacher").with_role(Role::Teacher);
        let teacher = build(&t.sub("encoder"))?;
        let teacher_projector = project(&t.sub("projector"), teacher.dim())?;
        let params = scope.params().clone();
        for (from, to) in PATHS {
            params.copy(from, to)?;
        }
        Ok(Byol { config, params, encoder, projector, predictor, teacher, teacher_projector })
    }
}

const PATHS: [(&str, &str); 2] = [("encoder", "teacher.encoder"), ("projector", "teacher.projector")];

impl Objective for Byol {
    type Batch = Views;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Embeddings> {
        let (a, b) = joint::two(batch, "BYOL")?;
        let student = |x| self.predictor.forward(&self.projector.forward(&self.encoder.forward(x, None, &[], pass)?.pooled, pass)?, pass);
        let teacher =
            |x| -> Result<_> { Ok(self.teacher_projector.forward(&self.teacher.forward(x, None, &[], pass)?.pooled, pass)?.detach()) };
        Ok(Embeddings { graph: vec![student(a)?, student(b)?], fixed: vec![teacher(a)?, teacher(b)?] })
    }

    fn criterion(&self, e: &Embeddings, _pass: &Pass) -> Result<Loss> {
        Ok(byol(&e.graph[0], &e.graph[1], &e.fixed[0], &e.fixed[1])?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn after_step(&self, _e: &Embeddings, progress: &Progress, _world: &World) -> Result<()> {
        joint::ema(&self.params, &PATHS, joint::cosine_to_one(self.config.momentum, progress.fraction()))
    }

    fn vitals(&self, e: &Embeddings) -> Result<Vec<Vital>> {
        e.fixed.first().map(|z| Ok(vec![joint::embedding_std(z)?])).unwrap_or_else(|| Ok(Vec::new()))
    }
}
