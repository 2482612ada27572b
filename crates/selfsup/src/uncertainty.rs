//! Whether a classifier knows when it does not know: calibration of its probabilities, and samples from
//! elsewhere.

use crate::curve::draws::fifth;
use selfsup_core::{Key, Result};
use selfsup_eval::linear::LogisticConfig;
use selfsup_eval::metrics::{
    brier, expected_calibration_error, fit_temperature, negative_log_likelihood, selective_accuracy, softmax,
};
use selfsup_eval::ood::{Detection, Mahalanobis, detection, knn_scores};
use selfsup_eval::protocol::Named;
use selfsup_eval::{Features, LinearProbe};
use std::fmt::Write;

/// Bins of the calibration error.
const BINS: usize = 15;
/// Shares of the samples, the surest first, on which accuracy is measured.
const COVERAGES: [f64; 3] = [0.5, 0.8, 0.9];
/// Shrinkage of covariances: with fewer samples than dimensions they are singular.
const SHRINKAGE: f64 = 0.1;
/// Wider features get no Mahalanobis distance: it inverts a matrix of width times width.
const WIDEST: usize = 4096;
/// Classes that are left out in turn.
const LEFT_OUT: usize = 10;

/// What probabilities are worth. Shares are in percent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Sureness {
    /// Expected calibration error in percent, 15 bins.
    pub ece: f64,
    /// Mean negative log-likelihood of the labels.
    pub nll: f64,
    /// Brier score, between 0 and 2.
    pub brier: f64,
}

impl Sureness {
    fn of(probabilities: &[f32], labels: &[u32], classes: usize) -> Result<Self> {
        Ok(Sureness {
            ece: 100.0 * expected_calibration_error(probabilities, labels, classes, BINS)?,
            nll: negative_log_likelihood(probabilities, labels, classes)?,
            brier: brier(probabilities, labels, classes)?,
        })
    }
}

/// Calibration of a classifier on the test samples.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Calibration {
    /// As it is.
    #[serde(flatten)]
    pub plain: Sureness,
    /// Accuracy in percent on the surest samples, by their share.
    pub selective: Named<f64>,
    /// The temperature that fits samples which the classifier has not seen; absent where there are too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// With the logits divided by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Sureness>,
}

impl Calibration {
    /// Calibration of `logits`, `(n, classes)`.
    ///
    /// # Errors
    /// If shapes do not fit, or a logit is not finite.
    pub fn of(logits: &[f32], labels: &[u32], classes: usize, temperature: Option<f64>) -> Result<Self> {
        let probabilities = softmax(logits, classes, 1.0)?;
        let scaled = match temperature {
            Some(t) => Some(Sureness::of(&softmax(logits, classes, t)?, labels, classes)?),
            None => None,
        };
        let selective = COVERAGES
            .iter()
            .map(|c| {
                let accuracy = selective_accuracy(&probabilities, labels, classes, *c)?;
                Ok((format!("{c}"), 100.0 * accuracy))
            })
            .collect::<Result<_>>()?;
        let plain = Sureness::of(&probabilities, labels, classes)?;
        Ok(Calibration { plain, selective: Named(selective), temperature, scaled })
    }
}

/// The temperature of a linear probe with penalty `c`: fitted on a fifth of the training samples by a probe
/// of the others. `None` where there are too few of a class.
///
/// # Errors
/// If features and labels do not fit together.
pub fn temperature(train: Features<'_>, labels: &[u32], classes: usize, c: f64) -> Result<Option<f64>> {
    let Some((kept, held)) = fifth(labels, classes, Key::new(0).named("temperature")) else {
        return Ok(None);
    };
    let of = |index: &[usize]| index.iter().map(|i| labels[*i]).collect::<Vec<u32>>();
    let config = LogisticConfig { c, ..LogisticConfig::default() };
    let probe = LinearProbe::fit(train.select(&kept)?.view(), &of(&kept), classes, &config)?;
    let logits = probe.logits(train.select(&held)?.view())?;
    fit_temperature(&logits, &of(&held), classes).map(Some)
}

/// How well samples from elsewhere are told, by score.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Elsewhere {
    /// What they are.
    pub data: String,
    /// How many.
    pub samples: usize,
    /// By set of features, then by score.
    pub found: Named<Named<Detection>>,
}

/// Labels of the training samples, where there are some, and the number of classes.
pub type Labels<'a> = Option<(&'a [u32], usize)>;

/// Tells test samples (`inside`) from others (`outside`) by their distance to the training features: that to
/// the
/// `k`-th nearest neighbour, with `k` a thousandth of them and 5 at least, and Mahalanobis'. With labels
/// there is a Gaussian for each class, and the relative distance too.
///
/// # Errors
/// If widths differ.
pub fn detect(
    train: Features<'_>,
    labels: Labels<'_>,
    inside: Features<'_>,
    outside: Features<'_>,
) -> Result<Named<Detection>> {
    let k = (train.n() / 1000).max(5).min(train.n());
    let mut out = vec![(
        format!("knn_{k}"),
        detection(&knn_scores(train, inside, k)?, &knn_scores(train, outside, k)?)?,
    )];
    if train.d() > WIDEST {
        return Ok(Named(out));
    }
    let one = vec![0u32; train.n()];
    let (of, classes) = labels.unwrap_or((&one, 1));
    // Features that do not vary at all have no distance.
    if let Ok(gaussians) = Mahalanobis::fit(train, of, classes, SHRINKAGE) {
        let (near, far) = (gaussians.scores(inside)?, gaussians.scores(outside)?);
        out.push(("mahalanobis".into(), detection(&near, &far)?));
        if labels.is_some() {
            let (near, far) = (gaussians.relative_scores(inside)?, gaussians.relative_scores(outside)?);
            out.push(("relative_mahalanobis".into(), detection(&near, &far)?));
        }
    }
    Ok(Named(out))
}

/// The nearest kind of samples from elsewhere: classes of the same data that were left out. One class at a
/// time (ten at most, evenly over them) goes from the training features, and its test samples are to be told
/// from the others; means over the classes. `None` with fewer than three classes.
///
/// # Errors
/// If shapes do not fit.
pub fn left_out(
    (train, labels): (Features<'_>, &[u32]),
    (test, test_labels): (Features<'_>, &[u32]),
    classes: usize,
) -> Result<Option<Named<Detection>>> {
    if classes < 3 {
        return Ok(None);
    }
    let mut sums: Vec<(String, Vec<Detection>)> = Vec::new();
    let some = classes.min(LEFT_OUT);
    for out in (0..some).map(|i| (i * classes / some) as u32) {
        let rows = |labels: &[u32], inside: bool| -> Vec<usize> {
            (0..labels.len()).filter(|i| (labels[*i] != out) == inside).collect()
        };
        let (kept, inside, outside) = (rows(labels, true), rows(test_labels, true), rows(test_labels, false));
        if kept.is_empty() || inside.is_empty() || outside.is_empty() {
            continue;
        }
        let y: Vec<u32> = kept.iter().map(|i| labels[*i]).collect();
        let (train, inside, outside) = (train.select(&kept)?, test.select(&inside)?, test.select(&outside)?);
        let found = detect(train.view(), Some((&y, classes)), inside.view(), outside.view())?;
        for (name, one) in found.0 {
            // The number of neighbours follows that of the samples: classes differ by a few.
            let name = if name.starts_with("knn") { "knn".to_string() } else { name };
            match sums.iter_mut().find(|(n, _)| *n == name) {
                Some((_, all)) => all.push(one),
                None => sums.push((name, vec![one])),
            }
        }
    }
    if sums.is_empty() {
        return Ok(None);
    }
    let mean =
        |all: &[Detection], f: fn(&Detection) -> f64| all.iter().map(f).sum::<f64>() / all.len() as f64;
    let means = sums.into_iter().map(|(name, all)| {
        (name, Detection { auroc: mean(&all, |d| d.auroc), fpr95: mean(&all, |d| d.fpr95) })
    });
    Ok(Some(Named(means.collect())))
}

/// Calibration as a table; `raw` is what features without an encoder are called.
pub fn calibration_table(found: &Named<Calibration>, raw: &str) -> String {
    let mut out = String::new();
    let head = |set: &str| if set == "raw" { raw.to_string() } else { set.to_string() };
    let _ = write!(out, "{:<36}", "how sure the linear probe is");
    for (set, _) in &found.0 {
        let _ = write!(out, "{:>16}", head(set));
    }
    out.push('\n');
    let mut row = |name: &str, of: &dyn Fn(&Calibration) -> String| {
        let _ = write!(out, "{name:<36}");
        for (_, c) in &found.0 {
            let _ = write!(out, "{:>16}", of(c));
        }
        out.push('\n');
    };
    let scaled = |c: &Calibration, of: fn(&Sureness) -> f64, digits: usize| {
        let after = c.scaled.as_ref().map_or(String::new(), |s| format!(" ({:.digits$})", of(s)));
        format!("{:.digits$}{after}", of(&c.plain))
    };
    row("calibration error in % (scaled)", &|c| scaled(c, |s| s.ece, 1));
    row("log-likelihood, negative (scaled)", &|c| scaled(c, |s| s.nll, 3));
    row("Brier score (scaled)", &|c| scaled(c, |s| s.brier, 3));
    row("temperature of the scaling", &|c| c.temperature.map_or("-".into(), |t| format!("{t:.2}")));
    for coverage in COVERAGES {
        let name = format!("accuracy on the surest {:.0}%", 100.0 * coverage);
        row(&name, &|c| c.selective.get(&format!("{coverage}")).map_or("-".into(), |v| format!("{v:.1}")));
    }
    out
}

/// Detection of samples from elsewhere as a table.
pub fn elsewhere_table(all: &[Elsewhere], raw: &str) -> String {
    let mut out = String::new();
    for e in all {
        let _ = writeln!(
            out,
            "samples from elsewhere: {} ({}); AUROC (false positives at 95%)",
            e.data, e.samples
        );
        let _ = write!(out, "{:<24}", "");
        e.found.0.iter().for_each(|(set, _)| {
            let _ = write!(out, "{:>16}", if set == "raw" { raw } else { set });
        });
        out.push('\n');
        let names: Vec<&String> =
            e.found.0.first().map_or(Vec::new(), |(_, f)| f.0.iter().map(|(n, _)| n).collect());
        for name in names {
            let _ = write!(out, "{:<24}", name.replace('_', " "));
            e.found.0.iter().for_each(|(_, f)| {
                let cell = f.get(name).map_or("-".into(), |d| format!("{:.3} ({:.2})", d.auroc, d.fpr95));
                let _ = write!(out, "{cell:>16}");
            });
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_eval::Matrix;

    /// Four classes about the corners of a square.
    fn corners(n: usize, seed: u64) -> (Matrix, Vec<u32>) {
        let mut r = Key::new(seed).rng();
        let labels: Vec<u32> = (0..n).map(|i| (i % 4) as u32).collect();
        let rows = labels
            .iter()
            .flat_map(|y| {
                let at = |bit: u32| if y >> bit & 1 == 1 { 3.0 } else { -3.0 };
                [at(0) + r.normal(), at(1) + r.normal(), r.normal()]
            })
            .collect();
        (Matrix::new(rows, n, 3).unwrap(), labels)
    }

    #[test]
    fn a_probe_that_is_too_sure_is_cooled() {
        // Labels that the features know nothing of, in many dimensions: a weak penalty learns them by heart.
        let mut r = Key::new(7).rng();
        let n = 120;
        let x = Matrix::new((0..n * 60).map(|_| r.normal()).collect(), n, 60).unwrap();
        let y: Vec<u32> = (0..n).map(|_| r.below(2) as u32).collect();
        let t = temperature(x.view(), &y, 2, 100.0).unwrap().unwrap();
        assert!(t > 3.0, "{t}");
        let probe =
            LinearProbe::fit(x.view(), &y, 2, &LogisticConfig { c: 100.0, ..LogisticConfig::default() })
                .unwrap();
        let z = Matrix::new((0..n * 60).map(|_| r.normal()).collect(), n, 60).unwrap();
        let found = Calibration::of(&probe.logits(z.view()).unwrap(), &y, 2, Some(t)).unwrap();
        let scaled = found.scaled.as_ref().unwrap();
        assert!(scaled.nll < found.plain.nll && scaled.ece < found.plain.ece, "{found:?}");
        assert!(temperature(x.view().select(&[0, 1, 2]).unwrap().view(), &y[..3], 2, 1.0).unwrap().is_none());
        let text = calibration_table(&Named(vec![("trained".into(), found)]), "raw");
        assert!(text.contains("surest 80%") && text.contains("temperature"), "{text}");
    }

    #[test]
    fn what_is_far_is_told_and_a_class_that_was_left_out_too() {
        let ((train, y), (test, z)) = (corners(400, 1), corners(200, 2));
        let mut r = Key::new(3).rng();
        let far = Matrix::new((0..300).map(|_| 20.0 + r.normal()).collect(), 100, 3).unwrap();
        let found = detect(train.view(), Some((&y, 4)), test.view(), far.view()).unwrap();
        let names: Vec<&str> = found.0.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["knn_5", "mahalanobis", "relative_mahalanobis"]);
        assert!(found.get("mahalanobis").unwrap().auroc > 0.99, "{found:?}");
        let near = left_out((train.view(), &y), (test.view(), &z), 4).unwrap().unwrap();
        assert!(near.get("knn").unwrap().auroc > 0.9, "{near:?}");
        assert!(left_out((train.view(), &y), (test.view(), &z), 2).unwrap().is_none());
        let alone = detect(train.view(), None, test.view(), far.view()).unwrap();
        assert_eq!(alone.0.len(), 2, "without labels nothing is relative");
        let text = elsewhere_table(
            &[Elsewhere { data: "x".into(), samples: 100, found: Named(vec![("raw".into(), found)]) }],
            "raw pixels",
        );
        assert!(text.contains("raw pixels") && text.contains("relative mahalanobis"), "{text}");
    }
}
