//! Several encoders on the same samples: how alike their features are, and which is likely to serve best.

use crate::config::Read;
use crate::evaluate::encode;
use crate::geometry::Geometry;
use crate::modality::Modality;
use crate::set::Set;
use crate::verbs::Opened;
use selfsup_core::Result;
use selfsup_core::data::LoaderConfig;
use selfsup_eval::Matrix;
use selfsup_eval::collapse;
use selfsup_eval::metrics::debiased_cka;
use serde::Serialize;
use std::fmt::Write;

/// What is measured of one encoder.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The run or checkpoint.
    pub run: String,
    /// Steps of its training.
    pub step: u64,
    /// Effective rank of its features.
    pub effective_rank: f64,
    /// Decay, intrinsic dimension (expressiveness), learnability.
    pub geometry: Geometry,
    /// CLID (Lu et al. 2022, arXiv 2206.01251): intrinsic dimension and learnability, each standardised over the
    /// encoders compared, summed. `None` where one of them is not defined.
    pub clid: Option<f64>,
}

/// Encoders beside each other.
#[derive(Clone, Debug, Serialize)]
pub struct Alike {
    /// Samples that all of them read.
    pub samples: usize,
    /// Each encoder.
    pub runs: Vec<Measured>,
    /// Debiased linear CKA of each pair: 1 for features that are equal up to rotation and scale, about 0 for
    /// unrelated ones. `None` where it is not defined (all features equal).
    pub cka: Vec<Vec<Option<f64>>>,
}

/// Measures `runs`, by name, on the samples of `set`.
///
/// # Errors
/// If a sample cannot be read.
pub fn compare<M: Modality>(runs: &[(String, Opened<M>)], set: &Set) -> Result<Alike> {
    let mut features: Vec<Matrix> = Vec::new();
    for (_, opened) in runs {
        let loader = LoaderConfig::in_order(opened.config.eval.batch_size, opened.config.train.workers);
        let read: Read = opened.config.eval.read;
        features.push(encode(&opened.modality, opened.method.encoder(), set, read, &loader, &opened.device)?);
    }
    let mut measured = Vec::new();
    for ((name, opened), z) in runs.iter().zip(&features) {
        measured.push(Measured {
            run: name.clone(),
            step: opened.step,
            effective_rank: collapse::diagnose(z.view())?.effective_rank,
            geometry: Geometry::of(z.view())?,
            clid: None,
        });
    }
    let of = |f: fn(&Geometry) -> Option<f64>| {
        measured.iter().map(|m| f(&m.geometry)).collect::<Option<Vec<_>>>().and_then(|v| standardised(&v))
    };
    if let Some((e, l)) = of(|g| g.intrinsic_dimension).zip(of(|g| g.learnability)) {
        measured.iter_mut().zip(e.iter().zip(&l)).for_each(|(m, (e, l))| m.clid = Some(e + l));
    }
    let cka = features
        .iter()
        .map(|a| features.iter().map(|b| debiased_cka(a.view(), b.view()).ok()).collect())
        .collect();
    Ok(Alike { samples: set.len(), runs: measured, cka })
}

/// `(v - mean) / sd`, with the sd of the population; nothing where all are equal.
fn standardised(values: &[f64]) -> Option<Vec<f64>> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    (sd > 0.0).then(|| values.iter().map(|v| (v - mean) / sd).collect())
}

impl Alike {
    /// As tables.
    pub fn shown(&self) -> String {
        let wide = self.runs.iter().map(|r| r.run.chars().count()).max().unwrap_or(0).max(24);
        let number = |v: Option<f64>, digits: usize| v.map_or("-".into(), |v| format!("{v:.digits$}"));
        let mut out = format!(
            "on {} samples that all of them read\n{:<wide$}{:>9}{:>16}{:>22}{:>15}{:>8}\n",
            self.samples, "", "step", "effective rank", "intrinsic dimension", "learnability", "CLID"
        );
        for r in &self.runs {
            let _ = writeln!(
                out,
                "{:<wide$}{:>9}{:>16.1}{:>22}{:>15}{:>8}",
                r.run,
                r.step,
                r.effective_rank,
                number(r.geometry.intrinsic_dimension, 1),
                number(r.geometry.learnability, 2),
                number(r.clid, 2),
            );
        }
        let _ = writeln!(out, "\nhow alike (debiased CKA: 1 the same up to rotation, 0 unrelated)");
        for (i, (r, row)) in self.runs.iter().zip(&self.cka).enumerate() {
            let cells: Vec<String> = row.iter().map(|v| format!("{:>8}", number(*v, 3))).collect();
            let _ = writeln!(out, "{:<wide$}{:>4}{}", r.run, i + 1, cells.concat());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardised_over_the_runs() {
        assert_eq!(standardised(&[1.0, 3.0]), Some(vec![-1.0, 1.0]));
        assert_eq!(standardised(&[2.0, 2.0]), None);
    }
}
