//! Cells of linear probes on features: `C` is chosen by cross-validation inside the labelled samples.

use super::cells::rounded;
use crate::task::classification::measures;
use selfsup_core::{Key, Result};
use selfsup_eval::linear::{CvConfig, Standardizer};
use selfsup_eval::metrics::softmax;
use selfsup_eval::{LinearProbe, Matrix};
use serde::{Deserialize, Serialize};

/// `C` where the labels are too few to choose it by: scikit-learn's.
const USUAL_C: f64 = 1.0;
/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// What a cell found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Measures of the test samples by name, in the task's order.
    pub values: Vec<(String, f64)>,
    /// What was chosen inside the labelled samples.
    pub chosen: Chosen,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What was chosen inside the labelled samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// `C` of a probe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub c: Option<f64>,
    /// Learning rate of a training.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<f64>,
    /// Its steps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub steps: Option<u64>,
    /// Labelled samples that chose; 0 where they were too few, and the usual value was taken.
    pub by: usize,
    /// The last step that was looked at was the best: more might be better.
    #[serde(default)]
    pub at_end: bool,
}

/// Features of the training and the test samples.
pub struct Features {
    train: Matrix,
    test: Matrix,
    /// Of all training samples: statistics need no labels.
    statistics: Standardizer,
}

impl Features {
    /// Features of both sides.
    pub fn new((train, test): (Matrix, Matrix)) -> Self {
        Features { statistics: Standardizer::fit(train.view()), train, test }
    }

    /// A probe of the samples `labelled`, measured on the test samples.
    ///
    /// # Errors
    /// If labels and features do not fit together.
    pub fn probe(
        &self,
        labelled: &[usize],
        labels: &[u32],
        test_labels: &[u32],
        classes: usize,
        key: Key,
    ) -> Result<Found> {
        let started = std::time::Instant::now();
        let x = self.train.view().select(labelled)?;
        let y: Vec<u32> = labelled.iter().map(|i| labels[*i]).collect();
        let enough = y.len() >= (2 * classes).max(FOLDS);
        let cv = if enough {
            CvConfig { folds: FOLDS, ..CvConfig::default() }
        } else {
            CvConfig { folds: 2, grid: vec![USUAL_C], ..CvConfig::default() }
        };
        let (probe, _) = LinearProbe::fit_few(x.view(), &y, classes, &cv, Some(&self.statistics), key)?;
        let logits = probe.logits(self.test.view())?;
        let probabilities = softmax(&logits, classes, 1.0)?;
        let values = measures(&probabilities, test_labels, classes)?;
        Ok(Found {
            values: values.into_iter().map(|(name, v)| (name, rounded(v))).collect(),
            chosen: Chosen {
                c: Some(probe.report.c),
                by: if enough { y.len() } else { 0 },
                ..Chosen::default()
            },
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_labels_are_worth_more() {
        let mut r = Key::new(5).rng();
        let mut side = |n: usize| {
            let labels: Vec<u32> = (0..n).map(|i| (i % 3) as u32).collect();
            let rows = labels
                .iter()
                .flat_map(|y| {
                    (0..8).map(|j| if j == *y { 1.5 } else { 0.0 } + r.normal()).collect::<Vec<f32>>()
                })
                .collect();
            (Matrix::new(rows, n, 8).unwrap(), labels)
        };
        let ((train, y), (test, z)) = (side(600), side(600));
        let features = Features::new((train, test));
        let accuracy = |n: usize| {
            let labelled: Vec<usize> = (0..n).collect();
            let found = features.probe(&labelled, &y, &z, 3, Key::new(0)).unwrap();
            assert_eq!(found.values[0].0, "accuracy");
            (found.values[0].1, found.chosen)
        };
        let (few, chosen) = accuracy(3);
        assert_eq!((chosen.by, chosen.c), (0, Some(USUAL_C)), "one of each class chooses nothing");
        let (many, chosen) = accuracy(600);
        assert_eq!(chosen.by, 600);
        assert!(many > few + 5.0 && many > 65.0, "{few} {many}");
    }
}
