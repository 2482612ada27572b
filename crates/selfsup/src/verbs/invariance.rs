//! Content and style: how well each draw of the augmentation can be read off a representation, before and after the
//! projector (von Kuegelgen et al. 2021, arXiv 2106.04619: what augmentation changes is style, which a contrastive
//! method throws away; what is left is content).

use crate::modality::{Augmented, Modality};
use crate::set::Set;
use crate::verbs::Opened;
use selfsup_core::kernels::host::floats;
use selfsup_core::{Error, Key, Pass, Result};
use selfsup_eval::Matrix;
use selfsup_eval::linear::{LinearProbe, LogisticConfig, ridge_r2};
use serde::Serialize;
use std::fmt::Write;
use std::time::Instant;

/// Samples that are looked at, two thirds of them to fit on.
const SAMPLES: usize = 1500;

/// How well one factor is read.
#[derive(Clone, Debug, Serialize)]
pub struct Factor {
    /// What was drawn.
    pub name: &'static str,
    /// `R2` for numbers (0: no more than their mean is known), `accuracy` in percent for what was done or not.
    pub measure: &'static str,
    /// Accuracy of always saying the more frequent of the two; 0 for numbers.
    pub chance: f64,
    /// Off the encoder.
    pub encoder: f64,
    /// Off what the method compares, behind its projector; `None` for a method that compares no views.
    pub projector: Option<f64>,
}

/// All factors of a modality's augmentation.
#[derive(Clone, Debug, Serialize)]
pub struct Invariance {
    /// By factor.
    pub factors: Vec<Factor>,
    /// Samples, one view each.
    pub samples: usize,
    /// What it took.
    pub seconds: f64,
}

/// Reads the factors off one view each of up to 1,500 samples of `set`.
///
/// # Errors
/// If the modality tells no draws, a sample cannot be read, or there are too few.
pub fn measure<M: Modality>(opened: &Opened<M>, set: &Set) -> Result<Invariance> {
    let started = Instant::now();
    let set = set.clone().limit(SAMPLES)?;
    let (method, key) = (&*opened.method, Key::new(opened.config.train.seed).named("invariance"));
    let (mut before, mut after, mut draws) = (Vec::new(), Vec::new(), Vec::new());
    let mut compares = true;
    for start in (0..set.len()).step_by(opened.config.eval.batch_size.max(1)) {
        let end = (start + opened.config.eval.batch_size.max(1)).min(set.len());
        let Some(Augmented { batch, first, factors, compared }) =
            opened.modality.augmented(&set, start..end, key)?
        else {
            let samples = <M::Keys as crate::config::Keys>::KIND.samples();
            return Err(Error::config(format!(
                "--invariance is for images, whose draws are known, not for {samples}"
            )));
        };
        let pass = Pass::eval();
        let x = first.to_device(&opened.device)?;
        before.push(method.encoder().forward(&x, None, &[], &pass)?.pooled.detach());
        compares &= compared;
        if compares {
            let batch = selfsup_core::objective::Batch::to_device(&batch, &opened.device)?;
            let embeddings = method.embed(&batch, &pass)?;
            let rows = method.gauges(&embeddings, &pass)?.into_iter().find_map(|g| g.rows);
            match rows.filter(|rows| rows.dims().first() == Some(&(end - start))) {
                Some(rows) => after.push(rows.detach()),
                None => compares = false,
            }
        }
        draws.extend(factors);
    }
    let matrix = |parts: &[candle_core::Tensor]| -> Result<Matrix> {
        let all = candle_core::Tensor::cat(parts, 0)?.to_device(&candle_core::Device::Cpu)?;
        let (n, d) = all.dims2()?;
        Matrix::new(floats(&all)?, n, d)
    };
    let before = matrix(&before)?;
    let after = if compares { Some(matrix(&after)?) } else { None };
    let count = draws.first().map_or(0, Vec::len);
    let mut found = Vec::new();
    for k in 0..count {
        let values: Vec<(f64, bool)> = draws.iter().map(|d| (f64::from(d[k].value), d[k].discrete)).collect();
        let discrete = values.iter().all(|v| v.1);
        let values: Vec<f64> = values.into_iter().map(|v| v.0).collect();
        let hits = values.iter().filter(|v| **v > 0.5).count();
        // What never changes cannot be read.
        if values.iter().all(|v| *v == values[0]) {
            continue;
        }
        let share = 100.0 * hits as f64 / values.len() as f64;
        let of = |z: &Matrix| if discrete { accuracy(z, &values) } else { explained(z, &values) };
        found.push(Factor {
            name: draws[0][k].name,
            measure: if discrete { "accuracy" } else { "R2" },
            chance: if discrete { share.max(100.0 - share) } else { 0.0 },
            encoder: of(&before)?,
            projector: after.as_ref().map(of).transpose()?,
        });
    }
    Ok(Invariance { factors: found, samples: set.len(), seconds: started.elapsed().as_secs_f64() })
}

/// The rows to fit on, and those to test on: every third.
fn split(z: &Matrix, values: &[f64]) -> Result<[(Matrix, Vec<f64>); 2]> {
    let of = |test: bool| -> Result<(Matrix, Vec<f64>)> {
        let at: Vec<usize> = (0..z.n()).filter(|i| (i % 3 == 2) == test).collect();
        Ok((z.view().select(&at)?, at.iter().map(|i| values[*i]).collect()))
    };
    Ok([of(false)?, of(true)?])
}

fn explained(z: &Matrix, values: &[f64]) -> Result<f64> {
    let [train, test] = split(z, values)?;
    Ok(ridge_r2((train.0.view(), &train.1), (test.0.view(), &test.1), 1)?.first().copied().unwrap_or(0.0))
}

fn accuracy(z: &Matrix, values: &[f64]) -> Result<f64> {
    let [train, test] = split(z, values)?;
    let classes = |v: &[f64]| v.iter().map(|v| u32::from(*v > 0.5)).collect::<Vec<_>>();
    let probe = LinearProbe::fit(train.0.view(), &classes(&train.1), 2, &LogisticConfig::default())?;
    let told = probe.predict(test.0.view())?;
    let right = told.iter().zip(classes(&test.1)).filter(|(a, b)| **a == *b).count();
    Ok(100.0 * right as f64 / told.len().max(1) as f64)
}

impl Invariance {
    /// As a table.
    pub fn shown(&self) -> String {
        let mut out = format!(
            "what a view tells of how it was made (R2 of ridge regression; accuracy in %, by chance)\n{:<20}{:>12}{:>12}{:>12}\n",
            "", "chance", "encoder", "projector"
        );
        for f in &self.factors {
            let show = |v: f64| if f.measure == "R2" { format!("{v:.2}") } else { format!("{v:.1}%") };
            let _ = writeln!(
                out,
                "{:<20}{:>12}{:>12}{:>12}",
                f.name,
                show(f.chance),
                show(f.encoder),
                f.projector.map_or("-".into(), show)
            );
        }
        let _ = writeln!(out, "(one view each of {} samples)", self.samples);
        out
    }
}
