//! Anomalies in series as events: runs of time steps. Point-adjusted F1 is not here: it counts a whole event
//! as found where one of its steps is, and random scores reach high values of it (Kim et al. 2022, arXiv
//! 2109.05257).

use selfsup_core::{Error, Result};
use std::ops::Range;

/// What was found of the events of a series.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Events {
    /// Runs of steps that are anomalous, in order.
    pub truth: Vec<Range<usize>>,
    /// Runs of steps whose score reaches the threshold, in order.
    pub predicted: Vec<Range<usize>>,
    /// True events that a predicted one overlaps.
    pub detected: usize,
    /// Predicted events that overlap no true one.
    pub false_alarms: usize,
    /// Share of the predicted events that overlap a true one; 0 if nothing was predicted.
    pub precision: f64,
    /// Share of the true events that were detected; 0 if there are none.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Share of the predicted steps that are anomalous.
    pub point_precision: f64,
    /// Share of the anomalous steps that were predicted.
    pub point_recall: f64,
}

impl Events {
    /// Compares `scores`, `(steps)`, with the truth, `(steps)`. A step is predicted where its score is at
    /// least `threshold`.
    ///
    /// # Errors
    /// If lengths differ or a score is NaN.
    pub fn new(scores: &[f32], truth: &[bool], threshold: f32) -> Result<Self> {
        if scores.len() != truth.len() {
            let problem = format!("{} scores for {} steps, expected as many", scores.len(), truth.len());
            return Err(Error::input("events", problem));
        }
        if let Some(i) = scores.iter().position(|s| s.is_nan()) {
            return Err(Error::input("events", format!("the score of step {i} is NaN")));
        }
        let above: Vec<bool> = scores.iter().map(|s| *s >= threshold).collect();
        let (events, predicted) = (runs(truth), runs(&above));
        let detected = met(&events, &predicted);
        let right = met(&predicted, &events);
        let both = above.iter().zip(truth).filter(|(a, t)| **a && **t).count();
        let share = |part: usize, all: usize| if all > 0 { part as f64 / all as f64 } else { 0.0 };
        let (precision, recall) = (share(right, predicted.len()), share(detected, events.len()));
        let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        Ok(Events {
            detected,
            false_alarms: predicted.len() - right,
            precision,
            recall,
            f1,
            point_precision: share(both, above.iter().filter(|a| **a).count()),
            point_recall: share(both, truth.iter().filter(|t| **t).count()),
            truth: events,
            predicted,
        })
    }
}

/// Runs of `true`.
fn runs(steps: &[bool]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = None;
    for (i, step) in steps.iter().chain(std::iter::once(&false)).enumerate() {
        match (*step, start) {
            (true, None) => start = Some(i),
            (false, Some(first)) => {
                out.push(first..i);
                start = None;
            }
            _ => {}
        }
    }
    out
}

/// How many of `events` overlap one of `others`; both in order.
fn met(events: &[Range<usize>], others: &[Range<usize>]) -> usize {
    let mut j = 0;
    let mut count = 0;
    for e in events {
        while others.get(j).is_some_and(|o| o.end <= e.start) {
            j += 1;
        }
        count += usize::from(others.get(j).is_some_and(|o| o.start < e.end));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_count() {
        let truth = [false, true, true, false, false, true, false, true];
        let scores = [0.9, 0.9, 0.0, 0.9, 0.9, 0.0, 0.9, 0.9];
        let e = Events::new(&scores, &truth, 0.5).unwrap();
        assert_eq!(e.truth, [1..3, 5..6, 7..8]);
        assert_eq!(e.predicted, [0..2, 3..5, 6..8]);
        assert_eq!((e.detected, e.false_alarms), (2, 1));
        assert!((e.precision - 2.0 / 3.0).abs() < 1e-12 && (e.f1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((e.point_precision, e.point_recall), (2.0 / 6.0, 0.5));
        let nothing = Events::new(&[0.0; 3], &[false; 3], 0.5).unwrap();
        assert_eq!((nothing.precision, nothing.recall, nothing.f1), (0.0, 0.0, 0.0));
        assert!(Events::new(&[0.0], &[], 0.5).is_err() && Events::new(&[f32::NAN], &[true], 0.5).is_err());
    }
}
