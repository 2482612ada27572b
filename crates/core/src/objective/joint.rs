//! Shared by joint-embedding methods: views, encoder and projector, their slow copy, and how collapse shows.

use super::gauge::{DIMENSION_STD, NEGATIVES, VIEWS_MATCH};
use super::{Band, BuildEncoder, Gauge, Views};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::nn::MlpHead;
use crate::params::{Params, Role};
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::linear::linear;
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
/// D)`; the trainer watches its effective rank too.
///
/// # Errors
/// If `z` has another rank.
pub fn embedding_std(z: &Tensor) -> Result<Gauge> {
    let (n, d) = z.dims2()?;
    let u = l2_normalize(z, 1e-12, Path::Auto)?;
    let centred = u.broadcast_sub(&u.mean_keepdim(0)?)?;
    let sd = (centred.sqr()?.sum(0)? / (n.max(2) - 1) as f64)?.sqrt()?.mean_all()?.to_scalar::<f32>()?;
    Ok(Gauge::above("embedding_std", f64::from(sd) * (d as f64).sqrt(), 0.2).of_rows(z))
}

/// [`embedding_std`] of the pooled tokens of a method that paints patches or predicts tokens: all samples share a
/// large mean in them, so short healthy runs go down to 0.11 (docs/benchmarks/collapse.md), and the bound is lower.
///
/// # Errors
/// If `z` has another rank.
pub fn pooled_spread(z: &Tensor) -> Result<Gauge> {
    Ok(embedding_std(z)?.healthy(Band::above(0.05)))
}

/// Mean standard deviation over the samples of the features as they are, not normalised: for methods whose loss
/// holds it near 1 (VICReg's variance term, the Gaussian of LeJEPA). `z` is `(N, D)`.
///
/// # Errors
/// If `z` has another rank.
pub(super) fn dimension_std(z: &Tensor) -> Result<Gauge> {
    let n = z.dims2()?.0;
    let z = z.detach();
    let centred = z.broadcast_sub(&z.mean_keepdim(0)?)?;
    let sd = (centred.sqr()?.sum(0)? / (n.max(2) - 1) as f64)?.sqrt()?.mean_all()?.to_scalar::<f32>()?;
    Ok(Gauge::plain(DIMENSION_STD, f64::from(sd)))
}

/// Samples that the gauges of pairs look at, and below how many they say nothing.
const MOST: usize = 256;
pub(super) const FEWEST: usize = 16;

/// Cosines of the first rows of `a (N, D)` with those of `b (M, D)`; 256 of each at most.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<Vec<f32>>> {
    let unit = |x: &Tensor| -> Result<Tensor> {
        let first = x.detach().narrow(0, 0, x.dim(0)?.min(MOST))?.contiguous()?;
        Ok(l2_normalize(&first, 1e-12, Path::Auto)?)
    };
    Ok(linear(&unit(a)?, &unit(b)?, None, Path::Auto)?.to_vec2()?)
}

/// How often the nearest row of `b` to a row of `a`, `(N, D)` each, is the one of the same sample: `1 / N`
/// where views tell nothing of their sample, as in a collapse or where all samples are alike. Healthy runs
/// stay above four times that, or a tenth in small batches. Nothing for batches below 16.
///
/// # Errors
/// If shapes differ.
pub fn views_match(a: &Tensor, b: &Tensor) -> Result<Option<Gauge>> {
    if a.dim(0)? < FEWEST {
        return Ok(None);
    }
    let cosines = cosines(a, b)?;
    let n = cosines.len() as f64;
    // A tie is no hit: equal embeddings find nothing.
    let hit = |(i, row): (usize, &Vec<f32>)| row.iter().enumerate().all(|(j, v)| j == i || *v < row[i]);
    let hits = cosines.iter().enumerate().filter(|x| hit(*x)).count() as f64;
    Ok(Some(Gauge::above(VIEWS_MATCH, hits / n, (4.0 / n).min(0.1))))
}

/// How many negatives count in a contrast at a temperature: the perplexity of their softmax, mean over the
/// rows of `a (N, D)`. The negatives are the rows of `b (M, D)`, but for the row of the same number where
/// `paired`. Near 1 the nearest negative alone counts. Nothing for fewer than 16 negatives.
///
/// # Errors
/// If shapes differ.
pub fn contrast(a: &Tensor, b: &Tensor, temperature: f64, paired: bool) -> Result<Option<Gauge>> {
    if b.dim(0)? < FEWEST {
        return Ok(None);
    }
    let perplexity = |(i, row): (usize, Vec<f32>)| {
        let logits = row.iter().enumerate().filter(|(j, _)| !(paired && *j == i));
        let logits: Vec<f64> = logits.map(|(_, v)| f64::from(*v) / temperature).collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|v| (v - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let entropy = |w: &f64| if *w > 0.0 { -(w / sum) * (w / sum).ln() } else { 0.0 };
        weights.iter().map(entropy).sum::<f64>().exp()
    };
    let each: Vec<f64> = cosines(a, b)?.into_iter().enumerate().map(perplexity).collect();
    Ok(Some(Gauge::plain(NEGATIVES, each.iter().sum::<f64>() / each.len().max(1) as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn rows(n: usize, d: usize, f: impl Fn(usize, usize) -> f32) -> Tensor {
        let values = (0..n * d).map(|i| f(i / d, i % d)).collect::<Vec<_>>();
        Tensor::from_vec(values, (n, d), &Device::Cpu).unwrap()
    }

    #[test]
    fn views_of_different_samples_are_told_apart() {
        let eye = rows(16, 16, |i, j| f32::from(u8::from(i == j)));
        let value = |a: &Tensor, b: &Tensor| views_match(a, b).unwrap().unwrap().value;
        assert_eq!(value(&eye, &(&eye * 3.0).unwrap()), 1.0);
        // Shifted by one: no view finds its own.
        assert_eq!(value(&eye, &rows(16, 16, |i, j| f32::from(u8::from((i + 1) % 16 == j)))), 0.0);
        let same = rows(16, 4, |_, j| j as f32);
        assert_eq!(value(&same, &same), 0.0, "equal embeddings find nothing");
        assert!(views_match(&eye.narrow(0, 0, 15).unwrap(), &eye).unwrap().is_none());
    }

    #[test]
    fn dimension_std_is_that_of_each_feature() {
        // Sample standard deviations of 2 and 0.
        let z = Tensor::new(&[[1.0f32, 10.0], [3.0, 10.0], [5.0, 10.0]], &Device::Cpu).unwrap();
        assert!((dimension_std(&z).unwrap().value - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_low_temperature_leaves_one_negative() {
        let circle = rows(32, 2, |i, j| {
            let angle = i as f32 * 0.19;
            if j == 0 { angle.cos() } else { angle.sin() }
        });
        let value = |t, paired| contrast(&circle, &circle, t, paired).unwrap().unwrap().value;
        assert!((value(1e6, false) - 32.0).abs() < 1e-3 && (value(1e6, true) - 31.0).abs() < 1e-3);
        assert!(value(0.5, true) > 5.0);
        // Itself is nearest, then, paired, two equally near neighbours for all rows but those at the ends.
        assert!(value(1e-5, false) < 1.01 && value(1e-5, true) < 2.1);
    }
}
