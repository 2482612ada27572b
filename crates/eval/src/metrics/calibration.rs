//! Whether a probability means what it says: Brier score, temperature scaling, and accuracy on the surest
//! samples.

use super::classification::check_scores;
use selfsup_core::{Error, Result};

/// Brier score (1950): the mean over samples of the sum over classes of `(p - [class is true])^2`; `probs` is
/// `(n, classes)`. Between 0 and 2.
///
/// # Errors
/// If shapes do not fit, a label is out of range, or a value is NaN.
pub fn brier(probs: &[f32], labels: &[u32], classes: usize) -> Result<f64> {
    check_scores(probs, labels, classes)?;
    let of = |(row, &y): (&[f32], &u32)| -> f64 {
        let gap = |(c, p): (usize, &f32)| (f64::from(*p) - f64::from(u8::from(c == y as usize))).powi(2);
        row.iter().enumerate().map(gap).sum()
    };
    Ok(probs.chunks_exact(classes).zip(labels).map(of).sum::<f64>() / labels.len() as f64)
}

/// Probabilities of `logits / temperature`, `(n, classes)`.
///
/// # Errors
/// If the logits are not rows of `classes`, one is not finite, or the temperature is not positive.
pub fn softmax(logits: &[f32], classes: usize, temperature: f64) -> Result<Vec<f32>> {
    check_logits(logits, classes)?;
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::input("softmax", format!("temperature {temperature}, expected one above 0")));
    }
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        out.extend(probabilities(row, 1.0 / temperature).into_iter().map(|p| p as f32));
    }
    Ok(out)
}

/// The temperature at which `logits`, `(n, classes)`, have the lowest negative log-likelihood of the labels
/// (Guo et al. 2017, arXiv 1706.04599): fitted on samples that the classifier has not seen, and then used on
/// others. Between 1e-3 and 1e3: where all are classified rightly (or none better than by chance) the optimum
/// lies at no finite temperature.
///
/// # Errors
/// If shapes do not fit, a label is out of range, or a logit is not finite.
pub fn fit_temperature(logits: &[f32], labels: &[u32], classes: usize) -> Result<f64> {
    check_scores(logits, labels, classes)?;
    check_logits(logits, classes)?;
    // In b = 1 / T the loss is convex; its slope is the mean of sum_c p_c z_c - z_y.
    let slope = |b: f64| -> f64 {
        let rows = logits.chunks_exact(classes).zip(labels);
        rows.map(|(row, &y)| {
            let mean: f64 = probabilities(row, b).iter().zip(row).map(|(p, z)| p * f64::from(*z)).sum();
            mean - f64::from(row[y as usize])
        })
        .sum()
    };
    let (mut low, mut high) = (-1e3f64.ln(), 1e3f64.ln());
    if slope(1.0) == 0.0 {
        return Ok(1.0);
    }
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        if slope(middle.exp()) <= 0.0 { low = middle } else { high = middle }
    }
    Ok((-0.5 * (low + high)).exp())
}

/// Accuracy on the share `coverage` of the samples whose largest probability is highest (El-Yaniv and Wiener
/// 2010): what is right where the others are left to somebody else. `probs` is `(n, classes)`; one sample is
/// taken at least. Of samples that are as sure as the last one taken all count, each for the share of them
/// that fits, so the order of the samples plays no part.
///
/// # Errors
/// If shapes do not fit, a label is out of range, a value is NaN, or `coverage` is not above 0 and at most 1.
pub fn selective_accuracy(probs: &[f32], labels: &[u32], classes: usize, coverage: f64) -> Result<f64> {
    check_scores(probs, labels, classes)?;
    if !(coverage > 0.0 && coverage <= 1.0) {
        let problem = format!("coverage {coverage}, expected a share above 0 and at most 1");
        return Err(Error::input("selective accuracy", problem));
    }
    let mut sure: Vec<(f32, bool)> = probs
        .chunks_exact(classes)
        .zip(labels)
        .map(|(row, &y)| {
            let best = crate::math::argmax(row);
            (row[best], best == y as usize)
        })
        .collect();
    sure.sort_by(|a, b| b.0.total_cmp(&a.0));
    let taken = ((coverage * sure.len() as f64).round() as usize).max(1);
    let last = sure[taken - 1].0;
    let right = |some: &[(f32, bool)]| some.iter().filter(|(_, right)| *right).count() as f64;
    let above = sure.partition_point(|(p, _)| *p > last);
    let tied = sure.partition_point(|(p, _)| *p >= last) - above;
    let share = (taken - above) as f64 / tied as f64;
    Ok((right(&sure[..above]) + share * right(&sure[above..above + tied])) / taken as f64)
}

fn check_logits(logits: &[f32], classes: usize) -> Result<()> {
    if classes == 0 || !logits.len().is_multiple_of(classes) {
        return Err(Error::input("logits", format!("{} values, expected rows of {classes}", logits.len())));
    }
    match logits.iter().position(|v| !v.is_finite()) {
        Some(i) => {
            let problem = format!(
                "row {}, class {} is {}, expected a finite number",
                i / classes,
                i % classes,
                logits[i]
            );
            Err(Error::input("logits", problem))
        }
        None => Ok(()),
    }
}

fn probabilities(row: &[f32], inverse: f64) -> Vec<f64> {
    let largest = row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(f64::from(*v)));
    let mut p: Vec<f64> = row.iter().map(|v| ((f64::from(*v) - largest) * inverse).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|v| *v /= sum);
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    #[test]
    fn closed_forms() {
        // ((1 - 0.6)^2 + 0.4^2 + 0) for the first, (0.1^2 + 0.2^2 + 0.3^2) for the second.
        let b = brier(&[0.6, 0.4, 0.0, 0.1, 0.2, 0.7], &[0, 2], 3).unwrap();
        assert!((b - (0.32 + 0.14) / 2.0).abs() < 1e-7);
        // Two classes, three of four right at a gap of 2: the best probability is 3/4, so T = 2 / ln 3.
        let logits = [2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0];
        let t = fit_temperature(&logits, &[0, 0, 0, 1], 2).unwrap();
        assert!((t - 2.0 / 3f64.ln()).abs() < 1e-6, "{t}");
        let p = softmax(&logits[..2], 2, t).unwrap();
        assert!((p[0] - 0.75).abs() < 1e-6 && (p[1] - 0.25).abs() < 1e-6);
        // All right: as sure as allowed. Nothing known: no temperature is better than another.
        assert!((fit_temperature(&logits, &[0; 4], 2).unwrap() - 1e-3).abs() < 1e-9);
        assert_eq!(fit_temperature(&[1.0; 8], &[0, 1, 0, 1], 2).unwrap(), 1.0);
        assert!(softmax(&logits, 3, 1.0).is_err() && softmax(&logits, 2, 0.0).is_err());
        assert!(fit_temperature(&[f32::INFINITY, 0.0], &[0], 2).is_err());
    }

    #[test]
    fn the_surest_come_first_and_ties_share() {
        let probs = [0.9, 0.1, 0.2, 0.8, 0.6, 0.4, 0.4, 0.6];
        // Right: the first, the third; wrong: the second, the fourth.
        let labels = [0, 0, 0, 0];
        let at = |coverage: f64| selective_accuracy(&probs, &labels, 2, coverage).unwrap();
        assert_eq!((at(0.25), at(0.5), at(1.0)), (1.0, 0.5, 0.5));
        // Two of 0.6, one right: the third sample is half of each.
        assert!((at(0.75) - 1.5 / 3.0).abs() < 1e-12);
        assert_eq!(at(1e-9), 1.0, "one at least");
        for coverage in [0.0, 1.1, f64::NAN] {
            assert!(selective_accuracy(&probs, &labels, 2, coverage).is_err());
        }
    }

    #[test]
    fn the_temperature_of_the_draw_is_found_again() {
        let mut r = Key::new(2).rng();
        let (classes, n) = (5, 4000);
        let logits: Vec<f32> = (0..n * classes).map(|_| r.normal()).collect();
        let truth = softmax(&logits, classes, 0.5).unwrap();
        let labels: Vec<u32> = truth
            .chunks_exact(classes)
            .map(|row| {
                let mut at = r.uniform();
                let found = row.iter().position(|p| {
                    at -= p;
                    at < 0.0
                });
                found.unwrap_or(classes - 1) as u32
            })
            .collect();
        let t = fit_temperature(&logits, &labels, classes).unwrap();
        assert!((t - 0.5).abs() < 0.03, "{t}");
    }
}
