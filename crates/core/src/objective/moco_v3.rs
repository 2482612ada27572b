//! MoCo v3 (Chen et al. 2021, arXiv 2104.02057): contrast within the batch against a moving teacher, with a predictor and no queue.
//!
//! `L = 2T * [CE(q1 k2^T / T) + CE(q2 k1^T / T)]`, the diagonal being the target.

use super::{BuildEncoder, Embeddings, Loss, Objective, Views, Vital, joint};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::loss::moco_v3;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::{Params, Role, Scope};
use crate::pass::{Pass, Progress, World};

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
    encoder: Box<dyn Encoder>,
    projector: MlpHead,
    predictor: MlpHead,
    teacher: Box<dyn Encoder>,
    teacher_projector: MlpHead,
}

const PATHS: [(&str, &str); 2] = [("encoder", "teacher.encoder"), ("projector", "teacher.projector")];

impl MoCoV3 {
    /// Builds student (`encoder`, `projector`, `predictor`) and teacher (`teacher.*`), which starts as a copy.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: MoCoV3Config) -> Result<Self> {
        let (h, o) = (config.hidden_dim, config.out_dim);
        let project = |s: &Scope, d| MlpHead::new(s, &[d, h, h, o], MlpHeadNorm::Batch, MlpHeadNorm::BatchPlain);
        let encoder = build(&scope.sub("encoder"))?;
        let projector = project(&scope.sub("projector"), encoder.dim())?;
        let predictor = MlpHead::new(&scope.sub("predictor"), &[o, h, o], MlpHeadNorm::Batch, MlpHeadNorm::BatchPlain)?;
        let t = scope.sub("teacher").with_role(Role::Teacher);
        let teacher = build(&t.sub("encoder"))?;
        let teacher_projector = project(&t.sub("projector"), teacher.dim())?;
        let params = scope.params().clone();
        for (from, to) in PATHS {
            params.copy(from, to)?;
        }
        Ok(MoCoV3 { config, params, encoder, projector, predictor, teacher, teacher_projector })
    }
}

impl Objective for MoCoV3 {
    type Batch = Views;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Embeddings> {
        let (a, b) = joint::two(batch, "MoCo v3")?;
        let student = |x| self.predictor.forward(&self.projector.forward(&self.encoder.forward(x, None, &[], pass)?.pooled, pass)?, pass);
        let teacher =
            |x| -> Result<_> { Ok(self.teacher_projector.forward(&self.teacher.forward(x, None, &[], pass)?.pooled, pass)?.detach()) };
        Ok(Embeddings { graph: vec![student(a)?, student(b)?], fixed: vec![teacher(a)?, teacher(b)?] })
    }

    fn criterion(&self, e: &Embeddings, _pass: &Pass) -> Result<Loss> {
        Ok(moco_v3(&e.graph[0], &e.graph[1], &e.fixed[0], &e.fixed[1], self.config.temperature)?.into())
    }

    fn after_step(&self, _e: &Embeddings, progress: &Progress, _world: &World) -> Result<()> {
        joint::ema(&self.params, &PATHS, joint::cosine_to_one(self.config.momentum, progress.fraction()))
    }

    fn vitals(&self, e: &Embeddings) -> Result<Vec<Vital>> {
        e.fixed.first().map(|z| Ok(vec![joint::embedding_std(z)?])).unwrap_or_else(|| Ok(Vec::new()))
    }
}
