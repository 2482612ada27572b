//! The probe report: one protocol for every modality.
//!
//! A representation is worth something if it beats the same encoder with random weights and the raw input. So
//! the same measurements are taken on several feature sets of the same samples (`trained`, `random`, `raw`):
//! weighted kNN, a linear probe on all labels, and linear probes on few labels. Few labels are class-balanced
//! draws, the same ones for every feature set; the mean and the standard deviation over draws are given, and
//! `C` is chosen by 5-fold cross-validation inside the labels, so the test set decides nothing.

use crate::data::{Features, check_labels, check_width};
use crate::knn::{KnnConfig, classify};
use crate::linear::{CvConfig, FitReport, LinearProbe, LogisticConfig, Standardizer};
use crate::metrics::Confusion;
use rayon::prelude::*;
use selfsup_core::run::Display;
use selfsup_core::{Error, Key, Result};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Values by name, in the order in which they were put in; a map when serialised.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    fn push(&mut self, name: &str, value: T) {
        self.0.push((name.to_string(), value));
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut out = Named::default();
                while let Some(entry) = map.next_entry()? {
                    out.0.push(entry);
                }
                Ok(out)
            }
        }
        from.deserialize_map(Entries(PhantomData))
    }
}

/// Features of the same training and test samples by one encoder.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSet<'a> {
    /// `trained`, `random`, `raw` ...
    pub name: &'a str,
    /// Training features, `(n, d)`.
    pub train: Features<'a>,
    /// Test features, `(m, d)`.
    pub test: Features<'a>,
}

/// The input of [`evaluate`].
#[derive(Clone, Debug)]
pub struct EvalInput<'a> {
    /// The feature sets that are compared; all of the same samples in the same order.
    pub features: &'a [FeatureSet<'a>],
    /// Labels of the training samples, `(n)`.
    pub train_labels: &'a [u32],
    /// Labels of the test samples, `(m)`.
    pub test_labels: &'a [u32],
    /// Number of classes.
    pub classes: usize,
    /// Numbers of labels for which the linear probe is repeated.
    pub few: &'a [usize],
    /// Class-balanced draws of each.
    pub draws: usize,
    /// Seed of the draws and folds.
    pub seed: u64,
    /// Settings of the kNN vote.
    pub knn: KnnConfig,
    /// Settings of the linear probe on all labels.
    pub linear: LogisticConfig,
    /// Settings of the cross-validation that chooses `C` for few labels.
    pub cv: CvConfig,
}

impl<'a> EvalInput<'a> {
    /// Default settings: 100 and 1,000 labels, 10 draws, seed 0.
    pub fn new(
        features: &'a [FeatureSet<'a>],
        train_labels: &'a [u32],
        test_labels: &'a [u32],
        classes: usize,
    ) -> Self {
        EvalInput {
            features,
            train_labels,
            test_labels,
            classes,
            few: &[100, 1000],
            draws: 10,
            seed: 0,
            knn: KnnConfig::default(),
            linear: LogisticConfig::default(),
            cv: CvConfig::default(),
        }
    }

    fn check(&self) -> Result<()> {
        let Some(first) = self.features.first() else {
            return Err(Error::input("evaluation", "no feature set, expected at least one"));
        };
        let (n, m) = (first.train.n(), first.test.n());
        for (i, set) in self.features.iter().enumerate() {
            if set.name == "sd" || set.name == "c" || self.features[..i].iter().any(|s| s.name == set.name) {
                return Err(Error::input(set.name, "this name of a feature set is taken, expected another"));
            }
            check_width(set.name, set.train, set.test)?;
            if (set.train.n(), set.test.n()) != (n, m) {
                let problem = format!(
                    "{} training and {} test rows, expected {n} and {m} as `{}`",
                    set.train.n(),
                    set.test.n(),
                    first.name
                );
                return Err(Error::input(set.name, problem));
            }
        }
        check_labels("training labels", self.train_labels, n, self.classes)?;
        check_labels("test labels", self.test_labels, m, self.classes)?;
        if self.draws == 0 && !self.few.is_empty() {
            return Err(Error::input("evaluation", "0 draws of few labels, expected at least 1"));
        }
        Ok(())
    }
}

/// Linear probes on few labels: test accuracies in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FewLabels {
    /// Mean over the draws, by feature set.
    #[serde(flatten)]
    pub mean: Named<f64>,
    /// Standard deviation over the draws (`n - 1`; 0 for one draw).
    pub sd: Named<f64>,
    /// The `C` that each draw chose.
    pub c: Named<Vec<f64>>,
}

/// The report of [`evaluate`]. Accuracies are in percent, on the test samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Accuracy of the weighted kNN vote, by feature set.
    pub knn: Named<f64>,
    /// Accuracy of the linear probe on all labels.
    pub linear: Named<f64>,
    /// Linear probes on few labels, by the number of labels.
    pub linear_at: Named<FewLabels>,
    /// Unweighted mean of F1 of the linear probe on all labels.
    pub linear_macro_f1: Named<f64>,
    /// Mean recall of the linear probe on all labels.
    pub linear_balanced: Named<f64>,
    /// How the fit on all labels ended.
    pub fit: Named<FitReport>,
    /// Dimensions of the features.
    pub dimensions: Named<usize>,
    /// Share of the most frequent test class: what guessing it reaches.
    pub majority: f64,
    /// Number of classes.
    pub classes: usize,
    /// Training samples.
    pub train: usize,
    /// Test samples.
    pub test: usize,
    /// Neighbours that voted.
    pub knn_k: usize,
    /// Temperature of the vote.
    pub knn_temperature: f64,
    /// Draws of each number of few labels.
    pub draws: usize,
    /// Notes on what was left out or changed, and why.
    pub notes: Vec<String>,
}

/// Measures every feature set by the protocol of this module: see [`evaluate_with_logits`].
///
/// # Errors
/// As [`evaluate_with_logits`].
pub fn evaluate(input: &EvalInput<'_>) -> Result<ProbeReport> {
    Ok(evaluate_with_logits(input)?.0)
}

/// Measures every feature set by the protocol of this module; returns beside the report the logits of the test
/// samples, `(m, classes)`, by the linear probe of each set on all labels. The result does not depend on the
/// number of threads.
///
/// A number of labels that the training set cannot provide (more than it has, fewer than the classes or
/// folds) is left out with a note.
///
/// # Errors
/// If shapes and labels do not fit together, two feature sets have one name, or a setting is out of range.
pub fn evaluate_with_logits(input: &EvalInput<'_>) -> Result<(ProbeReport, Named<Vec<f32>>)> {
    input.check()?;
    let mut logits = Named::default();
    let n = input.train_labels.len();
    let mut notes = Vec::new();
    let k = input.knn.k.min(n);
    if k < input.knn.k {
        notes.push(format!("kNN: k {} lowered to the {n} training samples", input.knn.k));
    }
    let vote = KnnConfig { k, ..input.knn.clone() };
    let mut report = ProbeReport {
        knn: Named::default(),
        linear: Named::default(),
        linear_at: Named::default(),
        linear_macro_f1: Named::default(),
        linear_balanced: Named::default(),
        fit: Named::default(),
        dimensions: Named::default(),
        majority: 100.0 * Confusion::new(input.test_labels, input.test_labels, input.classes)?.majority(),
        classes: input.classes,
        train: n,
        test: input.test_labels.len(),
        knn_k: k,
        knn_temperature: vote.temperature,
        draws: input.draws,
        notes,
    };
    // Minutes for many samples: each fit, and each kNN vote, is a piece.
    let pieces = input.features.len() * (2 + input.few.len() * input.draws);
    let shown = Shown {
        display: Mutex::new(Display::counting("probes: fit", Duration::from_secs(10))),
        total: pieces as u64,
        done: AtomicU64::new(0),
    };
    for set in input.features {
        shown.one_more();
        report.dimensions.push(set.name, set.train.d());
        let votes = classify(set.train, input.train_labels, set.test, input.classes, &vote)?;
        report.knn.push(set.name, percent(&votes.predictions, input)?.accuracy() * 100.0);
        shown.one_more();
        let probe = LinearProbe::fit(set.train, input.train_labels, input.classes, &input.linear)?;
        let scores = probe.logits(set.test)?;
        let best = |row: &[f32]| crate::math::argmax(row) as u32;
        let confusion = percent(&scores.chunks_exact(input.classes).map(best).collect::<Vec<_>>(), input)?;
        logits.push(set.name, scores);
        report.linear.push(set.name, 100.0 * confusion.accuracy());
        report.linear_macro_f1.push(set.name, 100.0 * confusion.macro_f1());
        report.linear_balanced.push(set.name, 100.0 * confusion.balanced_accuracy());
        if !probe.report.converged {
            report.notes.push(format!(
                "linear probe on {}: stopped after {} iterations before converging",
                set.name, probe.report.iterations
            ));
        }
        report.fit.push(set.name, probe.report);
    }
    for &size in input.few {
        let least = input.classes.max(input.cv.folds);
        if size > n || size < least {
            report.notes.push(format!("{size} labels: left out, expected {least} to {n}"));
        } else if report.linear_at.get(&size.to_string()).is_none() {
            report.linear_at.push(&size.to_string(), few_labels(input, size, &shown)?);
        }
    }
    Ok((report, logits))
}

fn percent(predictions: &[u32], input: &EvalInput<'_>) -> Result<Confusion> {
    Confusion::new(predictions, input.test_labels, input.classes)
}

/// How far an evaluation is, for people; counted by whichever thread begins a piece.
struct Shown {
    display: Mutex<Display>,
    total: u64,
    done: AtomicU64,
}

impl Shown {
    /// A piece begins: those before it are done.
    fn one_more(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        self.display.lock().unwrap_or_else(PoisonError::into_inner).count(done, self.total);
    }
}

fn few_labels(input: &EvalInput<'_>, size: usize, shown: &Shown) -> Result<FewLabels> {
    let key = Key::new(input.seed).named("few labels").fold(size as u64);
    let mut out = FewLabels::default();
    for set in input.features {
        // Of all training samples: the probe sees few labels, not few samples.
        let statistics = Standardizer::fit(set.train);
        let draws: Vec<(f64, f64)> = (0..input.draws as u64)
            .into_par_iter()
            .map(|draw| {
                shown.one_more();
                let key = key.fold(draw);
                let chosen = balanced_draw(input.train_labels, input.classes, size, key);
                let x = set.train.select(&chosen)?;
                let y: Vec<u32> = chosen.iter().map(|&i| input.train_labels[i]).collect();
                let (probe, _) = LinearProbe::fit_few(
                    x.view(),
                    &y,
                    input.classes,
                    &input.cv,
                    Some(&statistics),
                    key.named("folds"),
                )?;
                let confusion = percent(&probe.predict(set.test)?, input)?;
                Ok((100.0 * confusion.accuracy(), probe.report.c))
            })
            .collect::<Result<_>>()?;
        let count = draws.len() as f64;
        let mean = draws.iter().map(|d| d.0).sum::<f64>() / count;
        let square: f64 = draws.iter().map(|d| (d.0 - mean).powi(2)).sum();
        out.mean.push(set.name, mean);
        out.sd.push(set.name, if draws.len() > 1 { (square / (count - 1.0)).sqrt() } else { 0.0 });
        out.c.push(set.name, draws.iter().map(|d| d.1).collect());
    }
    Ok(out)
}

/// `size` training samples, as evenly over the classes as they allow: classes in a random order give one
/// sample each in turn; one that has none left is passed over. Sorted; fewer only if there are fewer labels.
pub fn balanced_draw(labels: &[u32], classes: usize, size: usize, key: Key) -> Vec<usize> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (i, &y) in labels.iter().enumerate() {
        if let Some(class) = members.get_mut(y as usize) {
            class.push(i);
        }
    }
    for (c, class) in members.iter_mut().enumerate() {
        key.fold(c as u64).rng().shuffle(class);
    }
    let order = key.named("order").rng().permutation(classes);
    let mut out = Vec::with_capacity(size.min(labels.len()));
    let mut progress = true;
    while out.len() < size && progress {
        progress = false;
        for &c in &order {
            if out.len() < size
                && let Some(i) = members[c].pop()
            {
                out.push(i);
                progress = true;
            }
        }
    }
    out.sort_unstable();
    out
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.knn.0.iter().map(|(n, _)| n.as_str()).collect();
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let plain = |v: &Named<f64>| {
            names.iter().map(|n| v.get(n).map_or_else(|| "-".into(), |v| format!("{v:.1}"))).collect()
        };
        rows.push((format!("kNN (k {}, T {})", self.knn_k, self.knn_temperature), plain(&self.knn)));
        rows.push((format!("linear, all {} labels", grouped(self.train)), plain(&self.linear)));
        for (size, few) in self.linear_at.0.iter().rev() {
            let cell = |n: &&str| match (few.mean.get(n), few.sd.get(n)) {
                (Some(mean), Some(sd)) => format!("{mean:.1} ± {sd:.1}"),
                _ => "-".into(),
            };
            let size = size.parse().map_or_else(|_| size.clone(), grouped);
            rows.push((format!("linear, {size} labels"), names.iter().map(cell).collect()));
        }
        rows.push((
            "dimensions".into(),
            names
                .iter()
                .map(|n| self.dimensions.get(n).map_or_else(|| "-".into(), usize::to_string))
                .collect(),
        ));
        let width = rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0);
        let columns: Vec<usize> = names
            .iter()
            .enumerate()
            .map(|(i, n)| {
                rows.iter().map(|r| r.1[i].chars().count()).chain([n.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let head = format!("accuracy on {} test samples, %", grouped(self.test));
        let width = width.max(head.chars().count());
        write!(f, "{head:width$}")?;
        for (name, w) in names.iter().zip(&columns) {
            write!(f, "  {name:>w$}")?;
        }
        writeln!(f)?;
        for (label, cells) in &rows {
            write!(f, "{label:width$}")?;
            for (cell, w) in cells.iter().zip(&columns) {
                write!(f, "  {cell:>w$}")?;
            }
            writeln!(f)?;
        }
        let draws = if self.linear_at.0.is_empty() {
            String::new()
        } else {
            format!("; ± is the standard deviation over {} draws", self.draws)
        };
        write!(
            f,
            "always guessing the most frequent of {} classes: {:.1}{draws}",
            self.classes, self.majority
        )?;
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

/// `10000` as `10,000`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
