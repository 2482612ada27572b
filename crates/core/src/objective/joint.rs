//! Shared by joint-embedding methods: views, encoder and projector, their slow copy, and how collapse shows.

use super::{BuildEncoder, Gauge, Views};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::nn::MlpHead;
use crate::params::{Params, Role};
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::norm::l2_normalize;

/// What stands behind the encoder: `(N, D)` to `(N, out_dim)`.
pub(super) trait Head {
    /// The projection of features.
    fn project(&self, features: &Tensor, pass: &Pass) -> Result<Tensor>;
}

impl Head for MlpHead {
    fn project(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.forward(features, pass)
    }
}

/// An encoder with a projector: `g(f(x))`, at `encoder` and `projector` of a scope.
pub(super) struct Branch<H = MlpHead> {
    pub(super) encoder: Box<dyn Encoder>,
    pub(super) projector: H,
}

impl<H: Head> Branch<H> {
    /// `head` builds the projector for features of a width.
    pub(super) fn new(
        scope: &Scope,
        build: &BuildEncoder,
        head: impl Fn(&Scope, usize) -> Result<H>,
    ) -> Result<Self> {
        let encoder = build(&scope.sub("encoder"))?;
        let projector = head(&scope.sub("projector").top(), encoder.dim())?;
        Ok(Branch { encoder, projector })
    }

    /// The features of a view, `(N, D)`.
    pub(super) fn features(&self, view: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.encoder.forward(view, None, &[], pass)?.pooled)
    }

    /// The projection of a view, `(N, out_dim)`.
    pub(super) fn project(&self, view: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.projector.project(&self.features(view, pass)?, pass)
    }

    /// The projections of views one by one, whatever their sizes.
    pub(super) fn each<'a>(
        &self,
        views: impl IntoIterator<Item = &'a Tensor>,
        pass: &Pass,
    ) -> Result<Vec<Tensor>> {
        views.into_iter().map(|view| self.project(view, pass)).collect()
    }

    /// The projections of both views, one after the other: batch norm sees one view at a time.
    pub(super) fn both(&self, (a, b): (&Tensor, &Tensor), pass: &Pass) -> Result<Pair> {
        Ok(Pair { a: self.project(a, pass)?, b: self.project(b, pass)? })
    }
}

/// A copy of a branch, at `teacher.encoder` and `teacher.projector`, which follows it slowly.
pub(super) struct Teacher<H = MlpHead> {
    pub(super) branch: Branch<H>,
    params: Params,
}

/// `(student, teacher)`: the second follows the first.
const PATHS: [(&str, &str); 2] = [("encoder", "teacher.encoder"), ("projector", "teacher.projector")];

impl<H: Head> Teacher<H> {
    /// A copy of the branch in `scope`, which was built with the same `build` and `head`.
    pub(super) fn new(
        scope: &Scope,
        build: &BuildEncoder,
        head: impl Fn(&Scope, usize) -> Result<H>,
    ) -> Result<Self> {
        let branch =
            Branch::new(&scope.sub("teacher").with_role(Role::Teacher).copying(scope.path()), build, head)?;
        Ok(Teacher { branch, params: scope.params().clone() })
    }

    /// As [`Branch::project`], without a graph.
    pub(super) fn project(&self, view: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.branch.project(view, pass)?.detach())
    }

    /// As [`Branch::both`], without a graph.
    pub(super) fn both(&self, (a, b): (&Tensor, &Tensor), pass: &Pass) -> Result<Pair> {
        Ok(Pair { a: self.project(a, pass)?, b: self.project(b, pass)? })
    }

    /// One step after the branch.
    pub(super) fn follow(&self, momentum: f64) -> Result<()> {
        ema(&self.params, &PATHS, momentum)
    }
}

crate::embeddings! {
    /// The projections of two views of the same samples, `(N, D)` each.
    pub struct Pair {
        /// Of the first view.
        graph a: Tensor,
        /// Of the second view.
        graph b: Tensor,
    }
}

crate::embeddings! {
    /// Predictions from two views, and the projections that they are compared with, `(N, D)` each.
    pub struct Predicted {
        /// Prediction from the first view.
        graph a: Tensor,
        /// Prediction from the second view.
        graph b: Tensor,
        /// Target from the first view, which the second predicts.
        fixed target_a: Tensor,
        /// Target from the second view, which the first predicts.
        fixed target_b: Tensor,
    }
}

impl Predicted {
    /// `predict` of the student's projections, beside the targets.
    pub(super) fn of(
        projected: &Pair,
        targets: Pair,
        predict: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let (target_a, target_b) = (targets.a.detach(), targets.b.detach());
        Ok(Predicted { a: predict(&projected.a)?, b: predict(&projected.b)?, target_a, target_b })
    }
}

/// The two views of a method that compares two.
pub(super) fn two<'a>(batch: &'a Views, method: &str) -> Result<(&'a Tensor, &'a Tensor)> {
    match batch.globals.as_slice() {
        [a, b] => Ok((a, b)),
        other => Err(Error::input(
            "batch",
            format!("{method} needs two views of each sample, got {}", other.len()),
        )),
    }
}

/// The full-size views of a method that compares two or more, and the small crops.
pub(super) fn crops<'a>(batch: &'a Views, method: &str) -> Result<(&'a [Tensor], &'a [Tensor])> {
    match batch.globals.as_slice() {
        [_, _, ..] => Ok((&batch.globals, &batch.locals)),
        other => Err(Error::input(
            "batch",
            format!("{method} needs two full-size views of each sample or more, got {}", other.len()),
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
pub fn embedding_std(z: &Tensor) -> Result<Gauge> {
    let (n, d) = z.dims2()?;
    let u = l2_normalize(z, 1e-12, Path::Auto)?;
    let centred = u.broadcast_sub(&u.mean_keepdim(0)?)?;
    let sd = (centred.sqr()?.sum(0)? / (n.max(2) - 1) as f64)?.sqrt()?.mean_all()?.to_scalar::<f32>()?;
    Ok(Gauge::above("embedding_std", f64::from(sd) * (d as f64).sqrt(), 0.2))
}
