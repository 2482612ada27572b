//! Metrics of predicted classes and class probabilities.

use crate::data::check_labels;
use selfsup_core::{Error, Result};

/// Counts of (true class, predicted class), from which the metrics of predicted classes follow.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// Counts predictions against labels, both `(n)` and below `classes`.
    ///
    /// # Errors
    /// If there are none, the lengths differ, or a class is out of range.
    pub fn new(predictions: &[u32], labels: &[u32], classes: usize) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::input("labels", "none, expected at least one"));
        }
        check_labels("labels", labels, labels.len(), classes)?;
        check_labels("predictions", predictions, labels.len(), classes)?;
        let mut counts = vec![0u64; classes * classes];
        for (&p, &y) in predictions.iter().zip(labels) {
            counts[y as usize * classes + p as usize] += 1;
        }
        Ok(Confusion { classes, counts })
    }

    /// Counts predictions against labels without those that are `ignored` (pixels of no class).
    ///
    /// # Errors
    /// As [`Confusion::new`]; if every label is ignored.
    pub fn without(ignored: u32, predictions: &[u32], labels: &[u32], classes: usize) -> Result<Self> {
        if predictions.len() != labels.len() {
            return Confusion::new(predictions, labels, classes);
        }
        let kept = predictions.iter().zip(labels).filter(|(_, y)| **y != ignored);
        let (predictions, labels): (Vec<u32>, Vec<u32>) = kept.map(|(p, y)| (*p, *y)).unzip();
        Confusion::new(&predictions, &labels, classes)
    }

    /// Counts of nothing yet, for [`Confusion::add`].
    pub fn empty(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes] }
    }

    /// Counts further predictions, without those whose label is `ignored`: the pixels of one more image.
    ///
    /// # Errors
    /// If the lengths differ, or a class is out of range.
    pub fn add(&mut self, ignored: u32, predictions: &[u32], labels: &[u32]) -> Result<()> {
        check_labels("predictions", predictions, labels.len(), self.classes)?;
        for (&p, &y) in predictions.iter().zip(labels).filter(|(_, y)| **y != ignored) {
            check_labels("labels", &[y], 1, self.classes)?;
            self.counts[y as usize * self.classes + p as usize] += 1;
        }
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// `(classes, classes)`: the row is the true class, the column the predicted one.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    fn right(&self, c: usize) -> f64 {
        self.counts[c * self.classes + c] as f64
    }

    fn actual(&self, c: usize) -> f64 {
        self.counts[c * self.classes..(c + 1) * self.classes].iter().sum::<u64>() as f64
    }

    fn predicted(&self, c: usize) -> f64 {
        self.counts.iter().skip(c).step_by(self.classes).sum::<u64>() as f64
    }

    fn total(&self) -> f64 {
        self.counts.iter().sum::<u64>() as f64
    }

    /// Share of samples that are right.
    pub fn accuracy(&self) -> f64 {
        (0..self.classes).map(|c| self.right(c)).sum::<f64>() / self.total()
    }

    /// Share of the samples of each class that were found; `None` for a class without samples.
    pub fn recall(&self) -> Vec<Option<f64>> {
        (0..self.classes).map(|c| ratio(self.right(c), self.actual(c))).collect()
    }

    /// Share of the predictions of each class that are right; `None` for a class that was never predicted.
    pub fn precision(&self) -> Vec<Option<f64>> {
        (0..self.classes).map(|c| ratio(self.right(c), self.predicted(c))).collect()
    }

    /// F1 of each class, `2 TP / (actual + predicted)`; `None` for a class that is neither true nor predicted
    /// anywhere.
    pub fn f1(&self) -> Vec<Option<f64>> {
        (0..self.classes).map(|c| ratio(2.0 * self.right(c), self.actual(c) + self.predicted(c))).collect()
    }

    /// Mean recall over the classes that have samples.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.recall())
    }

    /// Intersection over union of each class (Jaccard index), `TP / (actual + predicted - TP)`; `None` for a
    /// class that is neither true nor predicted anywhere. Of pixels counted over a whole set.
    pub fn iou(&self) -> Vec<Option<f64>> {
        let of = |c: usize| ratio(self.right(c), self.actual(c) + self.predicted(c) - self.right(c));
        (0..self.classes).map(of).collect()
    }

    /// Unweighted mean of the intersection over union over the classes that are true or predicted somewhere.
    pub fn mean_iou(&self) -> f64 {
        mean(self.iou())
    }

    /// Unweighted mean of F1 over the classes that are true or predicted somewhere.
    pub fn macro_f1(&self) -> f64 {
        mean(self.f1())
    }

    /// Matthews' correlation coefficient for any number of classes (Gorodkin 2004); 0 where it is undefined
    /// (only one class true, or only one predicted).
    pub fn mcc(&self) -> f64 {
        let total = self.total();
        let classes = 0..self.classes;
        let right: f64 = classes.clone().map(|c| self.right(c)).sum();
        let both: f64 = classes.clone().map(|c| self.actual(c) * self.predicted(c)).sum();
        let actual: f64 = classes.clone().map(|c| self.actual(c).powi(2)).sum();
        let predicted: f64 = classes.map(|c| self.predicted(c).powi(2)).sum();
        ratio(right * total - both, ((total * total - actual) * (total * total - predicted)).sqrt())
            .unwrap_or(0.0)
    }

    /// Share of the most frequent true class: what always guessing it reaches.
    pub fn majority(&self) -> f64 {
        (0..self.classes).map(|c| self.actual(c)).fold(0.0, f64::max) / self.total()
    }
}

fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

fn mean(values: Vec<Option<f64>>) -> f64 {
    let known: Vec<f64> = values.into_iter().flatten().collect();
    known.iter().sum::<f64>() / known.len().max(1) as f64
}

/// Share of predictions `(n)` that equal the labels `(n)`.
///
/// # Errors
/// If there are none, or the lengths differ.
pub fn accuracy(predictions: &[u32], labels: &[u32]) -> Result<f64> {
    if labels.is_empty() || predictions.len() != labels.len() {
        return Err(Error::input(
            "predictions",
            format!("{} for {} labels, expected as many and at least one", predictions.len(), labels.len()),
        ));
    }
    Ok(predictions.iter().zip(labels).filter(|(p, y)| p == y).count() as f64 / labels.len() as f64)
}

/// Share of samples whose class is among the `k` largest of `scores`, `(n, classes)`; among equal scores the
/// lower class counts as larger.
///
/// # Errors
/// If shapes do not fit, a label is out of range, a score is NaN, or `k` is not in `1..=classes`.
pub fn top_k_accuracy(scores: &[f32], labels: &[u32], classes: usize, k: usize) -> Result<f64> {
    check_scores(scores, labels, classes)?;
    if k == 0 || k > classes {
        return Err(Error::input("top-k accuracy", format!("k = {k}, expected 1 to {classes}")));
    }
    let hit = |(row, &y): (&[f32], &u32)| {
        let (y, own) = (y as usize, row[y as usize]);
        row.iter().enumerate().filter(|&(c, &s)| s > own || (s == own && c < y)).count() < k
    };
    let hits = scores.chunks_exact(classes).zip(labels).filter(|&(row, y)| hit((row, y))).count();
    Ok(hits as f64 / labels.len() as f64)
}

pub(super) fn check_scores(scores: &[f32], labels: &[u32], classes: usize) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::input("labels", "none, expected at least one"));
    }
    check_labels("labels", labels, labels.len(), classes)?;
    if labels.len().checked_mul(classes) != Some(scores.len()) {
        return Err(Error::input(
            "scores",
            format!("{} values, expected {} x {classes}", scores.len(), labels.len()),
        ));
    }
    match scores.iter().position(|s| s.is_nan()) {
        Some(i) => Err(Error::input("scores", format!("row {}, class {} is NaN", i / classes, i % classes))),
        None => Ok(()),
    }
}

/// Expected calibration error (Guo et al. 2017, arXiv 1706.04599): the mean over samples of `|accuracy -
/// confidence|` of their bin. `probs` is `(n, classes)`; the confidence is the largest probability, and bin
/// `i` of `bins` is `(i / bins, (i + 1) / bins]`.
///
/// # Errors
/// If shapes do not fit, a label is out of range, a value is NaN, or `bins` is 0.
pub fn expected_calibration_error(probs: &[f32], labels: &[u32], classes: usize, bins: usize) -> Result<f64> {
    check_scores(probs, labels, classes)?;
    if bins == 0 {
        return Err(Error::input("calibration error", "0 bins, expected at least 1"));
    }
    // Per bin: right minus confidence.
    let mut gap = vec![0f64; bins];
    for (row, &y) in probs.chunks_exact(classes).zip(labels) {
        let best = crate::math::argmax(row);
        let confidence = f64::from(row[best]);
        let bin = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        gap[bin] += f64::from(u8::from(best == y as usize)) - confidence;
    }
    Ok(gap.iter().map(|g| g.abs()).sum::<f64>() / labels.len() as f64)
}

/// Mean of `-ln p(label)`; `probs` is `(n, classes)`, clipped below at 1.2e-7 (the resolution of f32).
///
/// # Errors
/// If shapes do not fit, a label is out of range, or a value is NaN.
pub fn negative_log_likelihood(probs: &[f32], labels: &[u32], classes: usize) -> Result<f64> {
    check_scores(probs, labels, classes)?;
    let own = probs
        .chunks_exact(classes)
        .zip(labels)
        .map(|(row, &y)| -f64::from(row[y as usize].max(f32::EPSILON)).ln());
    Ok(own.sum::<f64>() / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        let c = Confusion::new(&[0, 0, 1, 1, 0], &[0, 0, 0, 1, 1], 3).unwrap();
        assert_eq!(c.counts(), [2, 1, 0, 1, 1, 0, 0, 0, 0]);
        assert_eq!(c.accuracy(), 0.6);
        assert_eq!(c.recall(), [Some(2.0 / 3.0), Some(0.5), None]);
        assert!((c.balanced_accuracy() - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
        assert!((c.macro_f1() - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
        // Binary: (TP TN - FP FN) / sqrt(...) = (2 - 1) / sqrt(3 2 3 2).
        assert!((c.mcc() - 1.0 / 6.0).abs() < 1e-12);
        assert_eq!(c.majority(), 0.6);
        assert_eq!(c.iou(), [Some(0.5), Some(1.0 / 3.0), None]);
        assert!((c.mean_iou() - 5.0 / 12.0).abs() < 1e-12);
        let part = Confusion::without(9, &[0, 0, 1, 1, 7], &[0, 0, 0, 1, 9], 2).unwrap();
        assert_eq!(part.counts(), [2, 1, 0, 1]);
        assert!(
            Confusion::without(9, &[0], &[9], 2).is_err() && Confusion::without(9, &[0], &[], 2).is_err()
        );
        assert_eq!(Confusion::new(&[0, 0], &[0, 1], 2).unwrap().mcc(), 0.0);
        let scores = [0.5, 0.3, 0.2, 0.1, 0.1, 0.8];
        assert_eq!(top_k_accuracy(&scores, &[1, 1], 3, 1).unwrap(), 0.0);
        assert_eq!(top_k_accuracy(&scores, &[1, 1], 3, 2).unwrap(), 0.5);
        assert_eq!(top_k_accuracy(&scores, &[1, 1], 3, 3).unwrap(), 1.0);
        // Always sure, right half the time.
        assert_eq!(expected_calibration_error(&[1.0, 0.0, 1.0, 0.0], &[0, 1], 2, 15).unwrap(), 0.5);
        assert!((negative_log_likelihood(&[0.25, 0.75], &[0], 2).unwrap() - 4f64.ln()).abs() < 1e-9);
        assert!(Confusion::new(&[], &[], 2).is_err() && Confusion::new(&[2], &[0], 2).is_err());
        assert!(accuracy(&[1], &[]).is_err() && top_k_accuracy(&[f32::NAN, 0.0], &[0], 2, 1).is_err());
    }

    proptest! {
        #[test]
        fn perfect_and_ranges(labels in proptest::collection::vec(0u32..4, 1..60), seed in 0u64..100) {
            let perfect = Confusion::new(&labels, &labels, 4).unwrap();
            prop_assert!(perfect.accuracy() == 1.0 && perfect.balanced_accuracy() == 1.0 && perfect.macro_f1() == 1.0);
            let mut r = selfsup_core::Key::new(seed).rng();
            let guess: Vec<u32> = labels.iter().map(|_| r.below(4) as u32).collect();
            let c = Confusion::new(&guess, &labels, 4).unwrap();
            prop_assert!((0.0..=1.0).contains(&c.macro_f1()) && (-1.0 - 1e-9..=1.0 + 1e-9).contains(&c.mcc()));
            prop_assert_eq!(c.accuracy(), accuracy(&guess, &labels).unwrap());
        }
    }
}
