//! Metrics where a sample may have several labels or none.

use super::ranking::{auroc, average_precision};
use selfsup_core::{Error, Result};

/// The measures of [`MultiLabel::new`]; averages over labels are unweighted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MultiLabel {
    /// AUROC of each label; `None` where it has no positive or no negative sample.
    pub auroc: Vec<Option<f64>>,
    /// Mean AUROC over the labels that have one.
    pub macro_auroc: Option<f64>,
    /// Mean average precision over the same labels.
    pub macro_average_precision: Option<f64>,
    /// AUROC over all cells; `None` where all are positive or negative.
    pub micro_auroc: Option<f64>,
    /// Average precision over all cells.
    pub micro_average_precision: Option<f64>,
    /// Mean F1 over all labels, 0 for one that is neither true nor predicted anywhere.
    pub macro_f1: f64,
    /// F1 over all cells.
    pub micro_f1: f64,
    /// Share of cells that are wrong.
    pub hamming_loss: f64,
    /// Share of samples whose labels are all right.
    pub subset_accuracy: f64,
    /// Label ranking average precision: for each true label the share of true ones among those that score at
    /// least as high, mean over the labels of a sample, then over samples; 1 for a sample without labels.
    pub label_ranking_average_precision: f64,
}

impl MultiLabel {
    /// Measures `scores`, `(n, labels)`, against `truth`, `(n, labels)`. A label is predicted where its score
    /// is at least `threshold`.
    ///
    /// # Errors
    /// If there are none, lengths differ, or a score is NaN.
    pub fn new(scores: &[f32], truth: &[bool], labels: usize, threshold: f32) -> Result<Self> {
        if labels == 0
            || truth.is_empty()
            || truth.len() != scores.len()
            || !truth.len().is_multiple_of(labels)
        {
            let problem = format!(
                "{} scores and {} labels, expected rows of {labels} of each",
                scores.len(),
                truth.len()
            );
            return Err(Error::input("several labels", problem));
        }
        if let Some(i) = scores.iter().position(|s| s.is_nan()) {
            return Err(Error::input("scores", format!("row {}, label {} is NaN", i / labels, i % labels)));
        }
        let n = truth.len() / labels;
        let measured = |f: fn(&[f32], &[bool]) -> Result<f64>, scores: &[f32], truth: &[bool]| {
            let both = truth.iter().any(|t| *t) && truth.iter().any(|t| !*t);
            both.then(|| f(scores, truth)).transpose()
        };
        let (mut areas, mut precisions, mut f1) = (Vec::new(), Vec::new(), 0.0);
        let mut all = Cells::default();
        for label in 0..labels {
            let own: Vec<f32> = scores.iter().skip(label).step_by(labels).copied().collect();
            let is: Vec<bool> = truth.iter().skip(label).step_by(labels).copied().collect();
            areas.push(measured(auroc, &own, &is)?);
            precisions.push(measured(average_precision, &own, &is)?);
            let cells = Cells::count(&own, &is, threshold);
            f1 += cells.f1() / labels as f64;
            all.add(&cells);
        }
        let rows = || scores.chunks_exact(labels).zip(truth.chunks_exact(labels));
        let right = |(s, t): &(&[f32], &[bool])| s.iter().zip(*t).all(|(s, t)| (*s >= threshold) == *t);
        Ok(MultiLabel {
            macro_auroc: mean(&areas),
            macro_average_precision: mean(&precisions),
            micro_auroc: measured(auroc, scores, truth)?,
            micro_average_precision: measured(average_precision, scores, truth)?,
            macro_f1: f1,
            micro_f1: all.f1(),
            hamming_loss: (all.missed + all.invented) / truth.len() as f64,
            subset_accuracy: rows().filter(right).count() as f64 / n as f64,
            label_ranking_average_precision: rows().map(|(s, t)| ranking(s, t)).sum::<f64>() / n as f64,
            auroc: areas,
        })
    }
}

/// The label ranking average precision of one sample.
fn ranking(scores: &[f32], truth: &[bool]) -> f64 {
    let of = |own: f32| {
        let above = scores.iter().zip(truth).filter(|(s, _)| **s >= own);
        let (all, right) = above.fold((0.0, 0.0), |(a, r), (_, t)| (a + 1.0, r + f64::from(u8::from(*t))));
        right / all
    };
    let own: Vec<f64> = scores.iter().zip(truth).filter(|(_, t)| **t).map(|(s, _)| of(*s)).collect();
    if own.is_empty() { 1.0 } else { own.iter().sum::<f64>() / own.len() as f64 }
}

#[derive(Default)]
struct Cells {
    found: f64,
    missed: f64,
    invented: f64,
}

impl Cells {
    fn count(scores: &[f32], truth: &[bool], threshold: f32) -> Self {
        let mut cells = Cells::default();
        for (s, t) in scores.iter().zip(truth) {
            match (*s >= threshold, *t) {
                (true, true) => cells.found += 1.0,
                (false, true) => cells.missed += 1.0,
                (true, false) => cells.invented += 1.0,
                (false, false) => {}
            }
        }
        cells
    }

    fn add(&mut self, other: &Cells) {
        self.found += other.found;
        self.missed += other.missed;
        self.invented += other.invented;
    }

    fn f1(&self) -> f64 {
        let all = 2.0 * self.found + self.missed + self.invented;
        if all > 0.0 { 2.0 * self.found / all } else { 0.0 }
    }
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let scores = [0.9, 0.2, 0.4, 0.1, 0.8, 0.6];
        let truth = [true, false, false, false, true, false];
        let m = MultiLabel::new(&scores, &truth, 3, 0.5).unwrap();
        assert_eq!(m.auroc, [Some(1.0), Some(1.0), None]);
        assert_eq!((m.macro_auroc, m.macro_average_precision), (Some(1.0), Some(1.0)));
        // Found 2, invented 1 of 6 cells; the third label is invented alone.
        assert!((m.micro_f1 - 0.8).abs() < 1e-12 && (m.macro_f1 - 2.0 / 3.0).abs() < 1e-12);
        assert!((m.hamming_loss - 1.0 / 6.0).abs() < 1e-12 && m.subset_accuracy == 0.5);
        assert_eq!(m.label_ranking_average_precision, 1.0);
        let ties = MultiLabel::new(&[0.5, 0.5, 0.7], &[true, false, false], 3, 0.5).unwrap();
        assert!((ties.label_ranking_average_precision - 1.0 / 3.0).abs() < 1e-12);
        let none = MultiLabel::new(&[0.1, 0.2], &[false, false], 2, 0.5).unwrap();
        assert_eq!((none.micro_auroc, none.label_ranking_average_precision, none.macro_f1), (None, 1.0, 0.0));
        assert!(MultiLabel::new(&[0.1], &[true, false], 2, 0.5).is_err());
        assert!(MultiLabel::new(&[f32::NAN], &[true], 1, 0.5).is_err());
    }
}
