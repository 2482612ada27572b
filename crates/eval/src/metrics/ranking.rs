//! Metrics of scores that rank samples: ROC and precision-recall. Tied scores are one threshold.

use super::classification::check_scores;
use selfsup_core::{Error, Result};

/// Samples by falling score, as groups of equal scores: (positives, negatives).
fn groups(scores: &[f32], positive: &[bool]) -> Result<Vec<(f64, f64)>> {
    if scores.len() != positive.len() {
        return Err(Error::input("scores", format!("{} for {} labels", scores.len(), positive.len())));
    }
    if let Some(i) = scores.iter().position(|s| s.is_nan()) {
        return Err(Error::input("scores", format!("score {i} is NaN")));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut out: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for i in order {
        // -0.0 and 0.0 are one score, hence the comparison by value.
        if last.is_none_or(|s| s != scores[i]) {
            out.push((0.0, 0.0));
            last = Some(scores[i]);
        }
        if let Some(group) = out.last_mut() {
            if positive[i] { group.0 += 1.0 } else { group.1 += 1.0 }
        }
    }
    Ok(out)
}

fn totals(groups: &[(f64, f64)]) -> (f64, f64) {
    groups.iter().fold((0.0, 0.0), |(p, n), g| (p + g.0, n + g.1))
}

/// Area under the ROC curve of `scores` `(n)`: the chance that a positive sample scores above a negative one,
/// ties counting half.
///
/// # Errors
/// If lengths differ, a score is NaN, or there is no positive or no negative sample.
pub fn auroc(scores: &[f32], positive: &[bool]) -> Result<f64> {
    let groups = groups(scores, positive)?;
    let (positives, negatives) = totals(&groups);
    if positives == 0.0 || negatives == 0.0 {
        return Err(Error::input(
            "AUROC",
            format!("{positives} positive and {negatives} negative samples, expected some of each"),
        ));
    }
    let (mut seen, mut area) = (0.0, 0.0);
    for (p, n) in groups {
        area += n * (seen + 0.5 * p);
        seen += p;
    }
    Ok(area / (positives * negatives))
}

/// Average precision: `sum (R_n - R_{n-1}) P_n` over the thresholds.
///
/// # Errors
/// If lengths differ, a score is NaN, or there is no positive sample.
pub fn average_precision(scores: &[f32], positive: &[bool]) -> Result<f64> {
    let groups = groups(scores, positive)?;
    let (positives, _) = totals(&groups);
    if positives == 0.0 {
        return Err(Error::input("average precision", "no positive sample, expected some"));
    }
    let (mut found, mut taken, mut sum) = (0.0, 0.0, 0.0);
    for (p, n) in groups {
        found += p;
        taken += p + n;
        sum += p * found / taken;
    }
    Ok(sum / positives)
}

/// Unweighted mean of the one-vs-rest AUROC of `scores`, `(n, classes)`, over the classes that have both
/// positive and negative samples.
///
/// # Errors
/// If shapes do not fit, a label is out of range, a score is NaN, or only one class has samples.
pub fn macro_auroc(scores: &[f32], labels: &[u32], classes: usize) -> Result<f64> {
    one_vs_rest("AUROC", scores, labels, classes, auroc)
}

/// Unweighted mean of the one-vs-rest average precision of `scores`, `(n, classes)`, over the classes that
/// have samples and are not alone.
///
/// # Errors
/// As [`macro_auroc`].
pub fn macro_average_precision(scores: &[f32], labels: &[u32], classes: usize) -> Result<f64> {
    one_vs_rest("average precision", scores, labels, classes, average_precision)
}

fn one_vs_rest(
    what: &str,
    scores: &[f32],
    labels: &[u32],
    classes: usize,
    f: fn(&[f32], &[bool]) -> Result<f64>,
) -> Result<f64> {
    check_scores(scores, labels, classes)?;
    let (mut sum, mut count) = (0f64, 0usize);
    for c in 0..classes {
        let positive: Vec<bool> = labels.iter().map(|&y| y as usize == c).collect();
        if positive.iter().any(|&p| p) && !positive.iter().all(|&p| p) {
            let own: Vec<f32> = scores.iter().skip(c).step_by(classes).copied().collect();
            sum += f(&own, &positive)?;
            count += 1;
        }
    }
    if count == 0 {
        return Err(Error::input(what, "only one class has samples, expected at least two"));
    }
    Ok(sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        let y = [true, false, true, false];
        assert_eq!(auroc(&[0.9, 0.8, 0.7, 0.1], &y).unwrap(), 0.75);
        assert_eq!(auroc(&[0.5; 4], &y).unwrap(), 0.5);
        assert_eq!(auroc(&[0.0, -0.0, 0.0, -0.0], &y).unwrap(), 0.5);
        // Precision 1 at recall 1/2, 2/3 at recall 1.
        assert!(
            (average_precision(&[0.9, 0.8, 0.7, 0.1], &y).unwrap() - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12
        );
        assert_eq!(average_precision(&[0.5; 4], &y).unwrap(), 0.5);
        assert!(auroc(&[1.0], &[true]).is_err() && average_precision(&[1.0], &[false]).is_err());
        assert!(auroc(&[f32::NAN, 1.0], &[true, false]).is_err() && auroc(&[1.0], &[]).is_err());
        assert!(macro_auroc(&[0.1, 0.9], &[1], 2).is_err());
    }

    proptest! {
        #[test]
        fn counts_pairs(pairs in proptest::collection::vec((0u8..6, any::<bool>()), 2..40)) {
            let s: Vec<f32> = pairs.iter().map(|p| f32::from(p.0)).collect();
            let y: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            let (mut wins, mut all) = (0.0, 0.0);
            for (a, _) in s.iter().zip(&y).filter(|p| *p.1) {
                for (b, _) in s.iter().zip(&y).filter(|p| !*p.1) {
                    all += 1.0;
                    wins += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            match auroc(&s, &y) {
                Ok(v) => {
                    prop_assert!((v - wins / all).abs() < 1e-12);
                    let turned: Vec<f32> = s.iter().map(|v| -v).collect();
                    prop_assert!((auroc(&turned, &y).unwrap() + v - 1.0).abs() < 1e-12);
                }
                Err(_) => prop_assert_eq!(all, 0.0),
            }
        }
    }
}
