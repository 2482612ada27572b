//! What joint-embedding methods share: views, encoder and projector, their slow copy, and how collapse shows.

use super::{BuildEncoder, Embeddings, Views, Vital};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::nn::MlpHead;
use crate::params::{Params, Role, Scope};
use crate::pass::Pass;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::norm::l2_normalize;

/// An encoder with a projector: `g(f(x))`, at `encoder` and `projector` of a scope.
pub(super) struct Branch {
    pub(super) encoder: Box<dyn Encoder>,
    projector: MlpHead,
}

impl Branch {
    /// `head` builds the projector for features of a width.
    pub(super) fn new(
        scope: &Scope,
        build: &BuildEncoder,
        head: impl Fn(&Scope, usize) -> Result<MlpHead>,
    ) -> Result<Self> {
        let encoder = build(&scope.sub("encoder"))?;
        let projector = head(&scope.sub("projector"), encoder.dim())?;
        Ok(Branch { encoder, projector })
    }

    /// The projection of a view, `(N, out_dim)`.
    pub(super) fn project(&self, view: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.projector.forward(&self.encoder.forward(view, None, &[], pass)?.pooled, pass)
    }

    /// The projections of both views, one after the other.
    pub(super) fn both(&self, (a, b): (&Tensor, &Tensor), pass: &Pass) -> Result<Vec<Tensor>> {
        Ok(vec![self.project(a, pass)?, self.project(b, pass)?])
    }
}

/// A copy of a branch, at `teacher.encoder` and `teacher.projector`, which follows it slowly.
pub(super) struct Teacher {
    branch: Branch,
    params: Params,
}

/// What follows what.
const PATHS: [(&str, &str); 2] = [("encoder", "teacher.encoder"), ("projector", "teacher.projector")];

impl Teacher {
    /// A copy of the branch in `scope`, which was built with the same `build` and `head`.
    pub(super) fn new(
        scope: &Scope,
        build: &BuildEncoder,
        head: impl Fn(&Scope, usize) -> Result<MlpHead>,
    ) -> Result<Self> {
        let branch = Branch::new(&scope.sub("teacher").with_role(Role::Teacher), build, head)?;
        let params = scope.params().clone();
        for (from, to) in PATHS {
            params.copy(from, to)?;
        }
        Ok(Teacher { branch, params })
    }

    /// As [`Branch::project`], without a graph.
    pub(super) fn project(&self, view: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.branch.project(view, pass)?.detach())
    }

    /// As [`Branch::both`], without a graph.
    pub(super) fn both(&self, (a, b): (&Tensor, &Tensor), pass: &Pass) -> Result<Vec<Tensor>> {
        Ok(vec![self.project(a, pass)?, self.project(b, pass)?])
    }

    /// One step after the branch.
    pub(super) fn follow(&self, momentum: f64) -> Result<()> {
        ema(&self.params, &PATHS, momentum)
    }
}

/// The first two views.
pub(super) fn two<'a>(batch: &'a Views, method: &str) -> Result<(&'a Tensor, &'a Tensor)> {
    match batch.views.as_slice() {
        [a, b, ..] => Ok((a, b)),
        other => Err(Error::input(
            "batch",
            format!("{method} needs two views of each sample, got {}", other.len()),
        )),
    }
}

/// `teacher = m * teacher + (1 - m) * student` for each `(student, teacher)` pair of paths; trained tensors
/// only, since the teacher's batch norms keep running statistics of their own.
///
/// # Errors
/// If a tensor cannot be written.
pub fn ema(params: &Params, paths: &[(&str, &str)], momentum: f64) -> Result<()> {
    for (from, to) in paths {
        for (source, target) in params.pairs(from, to) {
            if let Some(t) = params.get(&target)
                && t.role == Role::Teacher
            {
                selfsup_kernels::update::ema(&t.var, &source.var.as_tensor().detach(), momentum)?;
            }
        }
    }
    Ok(())
}

/// BYOL's schedule: from `base` to 1 along a half cosine.
pub(super) fn cosine_to_one(base: f64, fraction: f64) -> f64 {
    1.0 - (1.0 - base) * ((std::f64::consts::PI * fraction).cos() + 1.0) / 2.0
}

/// Mean standard deviation of the L2-normalised features times sqrt(D): 1 when they fill the sphere, 0 when
/// they have collapsed to a point (SimSiam, Chen and He 2020, arXiv 2011.10566, section 4.1). `z` is `(N,
/// D)`.
///
/// # Errors
/// If `z` has another rank.
pub fn embedding_std(z: &Tensor) -> Result<Vital> {
    let (n, d) = z.dims2()?;
    let u = l2_normalize(z, 1e-12, Path::Auto)?;
    let centred = u.broadcast_sub(&u.mean_keepdim(0)?)?;
    let sd = (centred.sqr()?.sum(0)? / (n.max(2) - 1) as f64)?.sqrt()?.mean_all()?.to_scalar::<f32>()?;
    Ok(Vital { name: "embedding_std", value: f64::from(sd) * (d as f64).sqrt(), healthy_above: Some(0.2) })
}

/// The vitals of a method whose first embedding is a view's projection.
pub(super) fn vitals(embeddings: &Embeddings) -> Result<Vec<Vital>> {
    embeddings.graph.first().map(|z| Ok(vec![embedding_std(z)?])).unwrap_or_else(|| Ok(Vec::new()))
}

/// The vitals of a method with a predictor: the projection, which has no gradient there, shows the collapse;
/// the predictor may hide it.
pub(super) fn fixed_vitals(embeddings: &Embeddings) -> Result<Vec<Vital>> {
    embeddings.fixed.first().map(|z| Ok(vec![embedding_std(z)?])).unwrap_or_else(|| Ok(Vec::new()))
}
