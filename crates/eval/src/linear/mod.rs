//! Linear probes on frozen features: how much of the labels a hyperplane per class can read off.
//!
//! The features are standardised by the training statistics. [`LinearProbe::fit`] minimises scikit-learn's
//! `LogisticRegression` objective `C sum_i nll_i + |W|^2 / 2` (softmax over all classes, also for two;
//! intercepts unpenalised) by L-BFGS to convergence, so the result depends on no learning rate.
//! [`LinearProbe::fit_few`] chooses `C` by stratified cross-validation inside the labels, for few of them.
//! [`LinearProbe::fit_sgd`] is the usual short SGD run of the papers (e.g. SimCLR, arXiv 2002.05709, appendix
//! B.6).

mod cv;
mod fit;
mod ridge;
mod sgd;
mod solver;

pub use cv::{CvConfig, CvReport};
pub use fit::FitReport;
pub use ridge::ridge_r2;
pub use sgd::SgdConfig;

use crate::data::{Features, Matrix, check_labels};
use fit::{check_c, logits};
use rayon::prelude::*;
use selfsup_core::{Error, Key, Result};
use solver::{Preconditioner, Problem, Span, gram, solve};

/// Settings of the fit to convergence.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogisticConfig {
    /// Inverse strength of the penalty, scikit-learn's `C`. Default 0.1.
    pub c: f64,
    /// The fit ends when no entry of the gradient of the mean objective (the objective divided by `C n`) is
    /// larger. Default 1e-5.
    pub tolerance: f64,
    /// Most iterations. Default 1000.
    pub max_iterations: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        LogisticConfig { c: 0.1, tolerance: 1e-5, max_iterations: 1000 }
    }
}

impl LogisticConfig {
    fn check(&self) -> Result<()> {
        check_c(self.c)?;
        if !(self.tolerance.is_finite() && self.tolerance > 0.0) {
            return Err(Error::input(
                "linear probe",
                format!("tolerance {}, expected a positive number", self.tolerance),
            ));
        }
        Ok(())
    }
}

/// Means and scales of columns; constant columns have scale 1.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Standardizer {
    /// Column means.
    pub mean: Vec<f64>,
    /// Column standard deviations (biased, as scikit-learn's `StandardScaler`).
    pub scale: Vec<f64>,
}

impl Standardizer {
    /// No change of `d` columns.
    pub fn none(d: usize) -> Self {
        Standardizer { mean: vec![0.0; d], scale: vec![1.0; d] }
    }

    /// The statistics of `x`.
    pub fn fit(x: Features<'_>) -> Self {
        let d = x.d();
        let mean = crate::math::column_means(x.as_slice(), d);
        let mut square = vec![0f64; d];
        for row in x.as_slice().chunks_exact(d) {
            for (s, (v, m)) in square.iter_mut().zip(row.iter().zip(&mean)) {
                *s += (f64::from(*v) - m).powi(2);
            }
        }
        let scale = square.iter().zip(&mean).map(|(s, m)| {
            let sd = (s / x.n() as f64).sqrt();
            // What is constant up to f32 rounding must not be blown up.
            if sd <= 1e-7 * m.abs() || sd == 0.0 { 1.0 } else { sd }
        });
        Standardizer { scale: scale.collect(), mean }
    }

    /// `(x - mean) / scale`.
    ///
    /// # Errors
    /// If the number of columns differs.
    pub fn apply(&self, x: Features<'_>) -> Result<Matrix> {
        let d = self.mean.len();
        if x.d() != d {
            return Err(Error::input("features", format!("{} columns, expected {d}", x.d())));
        }
        let mut out = x.as_slice().to_vec();
        out.par_chunks_mut(256 * d).for_each(|rows| {
            for row in rows.chunks_exact_mut(d) {
                for (v, (m, s)) in row.iter_mut().zip(self.mean.iter().zip(&self.scale)) {
                    *v = ((f64::from(*v) - m) / s) as f32;
                }
            }
        });
        Matrix::new(out, x.n(), d)
    }
}

/// A linear classifier on standardised features.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LinearProbe {
    /// What the features go through first.
    pub standardizer: Standardizer,
    /// Number of classes.
    pub classes: usize,
    /// `(d, classes)`, for standardised features.
    pub weight: Vec<f64>,
    /// `(classes)`.
    pub bias: Vec<f64>,
    /// How the fit ended.
    pub report: FitReport,
}

impl LinearProbe {
    /// Standardises, then fits to convergence.
    ///
    /// # Errors
    /// If labels are missing or not below `classes`, or the settings are out of range. A fit that stops at
    /// the most iterations is not an error: see [`FitReport::converged`].
    pub fn fit(x: Features<'_>, labels: &[u32], classes: usize, config: &LogisticConfig) -> Result<Self> {
        Self::fit_after(Standardizer::fit(x), x, labels, classes, config)
    }

    /// Fits to convergence after a given change of the features: [`Standardizer::none`] leaves them as they are.
    ///
    /// # Errors
    /// As [`LinearProbe::fit`]; also if the statistics are of another width.
    pub fn fit_after(
        standardizer: Standardizer,
        x: Features<'_>,
        labels: &[u32],
        classes: usize,
        config: &LogisticConfig,
    ) -> Result<Self> {
        check_labels("linear probe labels", labels, x.n(), classes)?;
        config.check()?;
        let x = standardizer.apply(x)?;
        let data = Reduced::new(&x)?;
        let gram = gram(data.x(), data.d())?;
        let (w, report) = data.fit(labels, classes, config, gram.as_deref())?;
        Ok(Self::assemble(standardizer, classes, w, report))
    }

    /// Standardises, chooses `C` by cross-validation inside the labels, then fits with it to convergence.
    /// Statistics need no labels: where there are unlabelled samples too, hand in theirs (from 100 samples
    /// alone the scale of a rarely used column is a guess); without any, those of `x` are taken.
    ///
    /// # Errors
    /// As [`LinearProbe::fit`]; also if there are fewer samples than folds, the grid is empty, or the
    /// statistics are of another width.
    pub fn fit_few(
        x: Features<'_>,
        labels: &[u32],
        classes: usize,
        cv: &CvConfig,
        statistics: Option<&Standardizer>,
        key: Key,
    ) -> Result<(Self, CvReport)> {
        check_labels("linear probe labels", labels, x.n(), classes)?;
        let standardizer = statistics.cloned().unwrap_or_else(|| Standardizer::fit(x));
        let x = standardizer.apply(x)?;
        let data = Reduced::new(&x)?;
        let gram = gram(data.x(), data.d())?;
        let chosen = cv::choose(data.x(), data.d(), gram.as_deref(), labels, classes, cv, key)?;
        let config = LogisticConfig { c: chosen.c, ..LogisticConfig::default() };
        let (w, report) = data.fit(labels, classes, &config, gram.as_deref())?;
        Ok((Self::assemble(standardizer, classes, w, report), chosen))
    }

    /// Standardises, then trains by SGD with a cosine schedule.
    ///
    /// # Errors
    /// As [`LinearProbe::fit`].
    pub fn fit_sgd(
        x: Features<'_>,
        labels: &[u32],
        classes: usize,
        config: &SgdConfig,
        key: Key,
    ) -> Result<Self> {
        check_labels("linear probe labels", labels, x.n(), classes)?;
        let standardizer = Standardizer::fit(x);
        let x = standardizer.apply(x)?;
        let (w, report) = sgd::train(x.as_slice(), x.d(), labels, classes, config, key)?;
        Ok(Self::assemble(standardizer, classes, w, report))
    }

    fn assemble(standardizer: Standardizer, classes: usize, mut weight: Vec<f64>, report: FitReport) -> Self {
        let bias = weight.split_off(weight.len() - classes);
        LinearProbe { standardizer, classes, weight, bias, report }
    }

    /// Logits, `(n, classes)`.
    ///
    /// # Errors
    /// If the number of columns is not that of the training features.
    pub fn logits(&self, x: Features<'_>) -> Result<Vec<f32>> {
        let x = self.standardizer.apply(x)?;
        let w: Vec<f32> = self.weight.iter().chain(&self.bias).map(|v| *v as f32).collect();
        logits(x.as_slice(), x.d(), &w, self.classes)
    }

    /// The most likely class of each sample, `(n)`; among equals the lower class.
    ///
    /// # Errors
    /// As [`LinearProbe::logits`].
    pub fn predict(&self, x: Features<'_>) -> Result<Vec<u32>> {
        Ok(self.logits(x)?.chunks_exact(self.classes).map(|z| crate::math::argmax(z) as u32).collect())
    }
}

/// Standardised features, in the span of the samples where that is smaller.
struct Reduced<'a> {
    x: &'a Matrix,
    span: Option<Span>,
}

impl<'a> Reduced<'a> {
    fn new(x: &'a Matrix) -> Result<Self> {
        Ok(Reduced { x, span: Span::new(x.as_slice(), x.d())? })
    }

    fn x(&self) -> &[f32] {
        self.span.as_ref().map_or(self.x.as_slice(), |s| &s.z)
    }

    fn d(&self) -> usize {
        self.span.as_ref().map_or(self.x.d(), |s| s.rank)
    }

    /// Parameters `(d + 1, classes)` for the standardised features.
    fn fit(
        &self,
        labels: &[u32],
        classes: usize,
        config: &LogisticConfig,
        gram: Option<&[f64]>,
    ) -> Result<(Vec<f64>, FitReport)> {
        let (d, n) = (self.d(), labels.len());
        let problem = Problem { x: self.x(), d, labels, classes, c: config.c };
        let m = Preconditioner::new(gram, d, n, classes, config.c)?;
        let s = solve(&problem, &m, vec![0.0; (d + 1) * classes], config.tolerance, config.max_iterations)?;
        let report = FitReport {
            c: config.c,
            iterations: s.iterations,
            evaluations: s.evaluations,
            objective: s.value * config.c * n as f64,
            gradient: s.gradient,
            converged: s.gradient <= config.tolerance,
        };
        let w = match &self.span {
            Some(span) => span.lift(&s.w, self.x.as_slice(), self.x.d(), classes)?,
            None => s.w,
        };
        Ok((w, report))
    }
}

#[cfg(test)]
mod tests;
