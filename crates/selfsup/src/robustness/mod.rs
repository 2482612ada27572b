//! How a representation stands up to corrupted samples: probes that were fitted on clean samples, or the head
//! of a fine-tuned run, tested on samples that are corrupted, kind by kind and severity by severity.
//!
//! ```text
//! mean           over the kinds, of the mean over the severities
//! relative drop  100 (clean - mean) / clean
//! ```
//!
//! Hendrycks and Dietterich 2019 (arXiv 1903.12261) divide errors by those of AlexNet instead, which exist
//! for ImageNet alone. Kinds that do not count for the mean ([`CorruptionKind::counts`]) are left out of it
//! where there are others.

pub mod plot;
mod probes;
pub mod sheet;
pub mod table;

pub use probes::Probes;

use crate::modality::CorruptionKind;
use selfsup_core::{Error, Result};
use selfsup_eval::protocol::Named;
use serde::{Deserialize, Serialize};

/// Results by set of features (`trained`, `random`, `raw`; `tuned`), and in each by measure (`linear`, `knn`;
/// those of a task).
pub type Scores = Named<Named<f64>>;

/// `robustness.json`. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this format: 1.
    pub format: u32,
    /// The run's folder.
    pub run: String,
    /// Steps of its checkpoint.
    pub step: u64,
    /// `vision`, `text`, `speech`, `medical` or `signals`.
    pub modality: String,
    /// Method, or task of a fine-tuned run.
    pub method: String,
    /// The encoder.
    pub encoder: String,
    /// What the features without an encoder are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw: Option<String>,
    /// Samples that probes were fitted on; none for a fine-tuned run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub train: Option<usize>,
    /// Samples to test on.
    pub test: usize,
    /// Of what is drawn.
    pub seed: u64,
    /// All that decides the numbers: results of another description are not mixed with these.
    pub settings: String,
    /// The measure that tables and pictures show.
    pub measure: String,
    /// On clean samples.
    pub clean: Scores,
    /// The measure by set of features and severity, 0 for clean, each the mean over the kinds that count: what a
    /// page about runs draws.
    #[serde(default)]
    pub rows: Vec<Row>,
    /// On corrupted ones, in the order of the kinds.
    pub kinds: Vec<OfKind>,
    /// Mean over the kinds that count.
    pub mean: Scores,
    /// `100 (clean - mean) / clean`.
    pub relative_drop: Scores,
}

/// The measure of a set of features at a severity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `trained`, `random`, `raw` or `tuned`.
    pub set: String,
    /// 0 for clean.
    pub severity: u8,
    /// Mean over the kinds that count.
    pub mean: f64,
}

/// Results of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfKind {
    /// Its name.
    pub name: String,
    /// What it belongs to.
    pub group: String,
    /// What its severities are.
    pub about: String,
    /// Whether it counts for the mean over kinds.
    pub counts: bool,
    /// By severity, in their order.
    pub severities: Vec<At>,
    /// Mean over the severities.
    pub mean: Scores,
    /// `100 (clean - mean) / clean`.
    pub relative_drop: Scores,
}

impl OfKind {
    /// The value of a measure of a set of features at a severity.
    pub fn at(&self, severity: u8, features: &str, measure: &str) -> Option<f64> {
        of(&self.severities.iter().find(|a| a.severity == severity)?.scores, features, measure)
    }
}

/// Results at one severity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// 1 to 5.
    pub severity: u8,
    /// What was measured.
    pub scores: Scores,
}

/// The value of a measure of a set of features.
pub fn of(scores: &Scores, features: &str, measure: &str) -> Option<f64> {
    scores.get(features)?.get(measure).copied()
}

/// The mean of several results of the same features and measures; one that some have not is left out.
fn mean(all: &[&Scores]) -> Scores {
    let Some(first) = all.first() else { return Scores::default() };
    changed(first, |features, measure, _| {
        let values: Option<Vec<f64>> = all.iter().map(|s| of(s, features, measure)).collect();
        values.map(|v| v.iter().sum::<f64>() / v.len().max(1) as f64)
    })
}

/// `100 (clean - now) / clean`; nothing where clean is 0.
fn drops(clean: &Scores, now: &Scores) -> Scores {
    changed(clean, |features, measure, clean| {
        let now = of(now, features, measure).filter(|_| clean != 0.0)?;
        Some(100.0 * (clean - now) / clean)
    })
}

/// Whether the same was measured: a number that was written and read again may be a bit off.
fn alike(a: &Scores, b: &Scores) -> bool {
    let all = |s: &Scores| -> Vec<(String, String, f64)> {
        let of = |(name, of): &(String, Named<f64>)| {
            of.0.iter().map(|(measure, v)| (name.clone(), measure.clone(), *v)).collect::<Vec<_>>()
        };
        s.0.iter().flat_map(of).collect()
    };
    let (a, b) = (all(a), all(b));
    a.len() == b.len()
        && a.iter()
            .zip(&b)
            .all(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1) && (a.2 - b.2).abs() <= 1e-9 * a.2.abs())
}

fn changed(scores: &Scores, f: impl Fn(&str, &str, f64) -> Option<f64>) -> Scores {
    let measures = |features: &str, of: &Named<f64>| {
        let kept = of.0.iter().filter_map(|(name, v)| Some((name.clone(), f(features, name, *v)?)));
        Named(kept.collect())
    };
    Named(scores.0.iter().map(|(name, of)| (name.clone(), measures(name, of))).collect())
}

/// One result that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Which corruption.
    pub kind: CorruptionKind,
    /// 1 to 5.
    pub severity: u8,
}

/// All results of these kinds at these severities.
pub fn cells(kinds: &[CorruptionKind], severities: &[u8]) -> Vec<Cell> {
    kinds.iter().flat_map(|&kind| severities.iter().map(move |&severity| Cell { kind, severity })).collect()
}

/// The kinds that are asked for: by name, `all`, or those that count where nothing is.
///
/// # Errors
/// If there is none of a name; the message lists all.
pub fn chosen(all: &[CorruptionKind], names: &[String]) -> Result<Vec<CorruptionKind>> {
    if names.is_empty() {
        return Ok(all.iter().copied().filter(|k| k.counts).collect());
    }
    if names.iter().any(|n| n == "all") {
        return Ok(all.to_vec());
    }
    for name in names {
        if !all.iter().any(|k| k.name == name) {
            let list: Vec<&str> = all.iter().map(|k| k.name).collect();
            return Err(Error::config(format!(
                "--corruptions {name}: expected all or some of {}",
                list.join(", ")
            )));
        }
    }
    Ok(all.iter().copied().filter(|k| names.iter().any(|n| n == k.name)).collect())
}

/// Severities in their order, each once.
///
/// # Errors
/// If there is none, or one is not from 1 to 5.
pub fn severities(given: &[u8]) -> Result<Vec<u8>> {
    let mut all = given.to_vec();
    all.sort_unstable();
    all.dedup();
    match all.iter().find(|s| !(1..=5).contains(*s)) {
        Some(wrong) => {
            Err(Error::config(format!("--severities {wrong}: expected whole numbers from 1 to 5")))
        }
        None if all.is_empty() => Err(Error::config("--severities: expected some of 1,2,3,4,5")),
        None => Ok(all),
    }
}

impl Report {
    /// Takes the results of a report that was measured with the same settings.
    pub fn take(&mut self, older: Report, all: &[CorruptionKind]) {
        if older.format != self.format || older.settings != self.settings || !alike(&older.clean, &self.clean)
        {
            return;
        }
        for kind in older.kinds {
            let Some(known) = all.iter().find(|k| k.name == kind.name) else { continue };
            for at in kind.severities {
                self.put(all, Cell { kind: *known, severity: at.severity }, at.scores);
            }
        }
    }

    /// Whether there is a result.
    pub fn has(&self, cell: Cell) -> bool {
        let of_kind = self.kinds.iter().find(|k| k.name == cell.kind.name);
        of_kind.is_some_and(|k| k.severities.iter().any(|a| a.severity == cell.severity))
    }

    /// Adds a result, and brings the means up to date. `all` gives the order of kinds.
    pub fn put(&mut self, all: &[CorruptionKind], cell: Cell, scores: Scores) {
        let CorruptionKind { name, group, about, counts } = cell.kind;
        let place = |name: &str| all.iter().position(|k| k.name == name);
        let at = match self.kinds.iter().position(|k| k.name == name) {
            Some(at) => at,
            None => {
                let at = self.kinds.partition_point(|k| place(&k.name) < place(name));
                let (name, group, about) = (name.to_string(), group.to_string(), about.to_string());
                let (severities, mean, relative_drop) = (Vec::new(), Named::default(), Named::default());
                self.kinds.insert(at, OfKind { name, group, about, counts, severities, mean, relative_drop });
                at
            }
        };
        let kind = &mut self.kinds[at];
        kind.severities.retain(|a| a.severity != cell.severity);
        kind.severities.push(At { severity: cell.severity, scores });
        kind.severities.sort_by_key(|a| a.severity);
        kind.mean = mean(&kind.severities.iter().map(|a| &a.scores).collect::<Vec<_>>());
        kind.relative_drop = drops(&self.clean, &kind.mean);
        self.mean = mean(&self.counted().iter().map(|k| &k.mean).collect::<Vec<_>>());
        self.relative_drop = drops(&self.clean, &self.mean);
        self.rows = self.by_severity();
    }

    fn by_severity(&self) -> Vec<Row> {
        let (counted, severities) = (self.counted(), self.severities());
        let mut rows = Vec::new();
        for set in self.features() {
            let row = |severity: u8, mean: f64| Row { set: set.to_string(), severity, mean };
            rows.extend(of(&self.clean, set, &self.measure).map(|v| row(0, v)));
            for &severity in &severities {
                let at = counted.iter().filter_map(|k| k.at(severity, set, &self.measure));
                let (n, sum) = at.fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
                if n > 0.0 {
                    rows.push(row(severity, sum / n));
                }
            }
        }
        rows
    }

    /// The kinds that the mean is over.
    pub fn counted(&self) -> Vec<&OfKind> {
        let counted: Vec<&OfKind> = self.kinds.iter().filter(|k| k.counts).collect();
        if counted.is_empty() { self.kinds.iter().collect() } else { counted }
    }

    /// Names of the sets of features.
    pub fn features(&self) -> Vec<&str> {
        self.clean.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Severities that some kind has.
    pub fn severities(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.kinds.iter().flat_map(|k| &k.severities).map(|a| a.severity).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const KINDS: [CorruptionKind; 3] = [
        CorruptionKind { name: "fog", group: "weather", about: "haze", counts: true },
        CorruptionKind { name: "snow", group: "weather", about: "flakes", counts: true },
        CorruptionKind { name: "extra", group: "other", about: "more", counts: false },
    ];

    pub(crate) fn scores(trained: f64, random: f64) -> Scores {
        let one = |v: f64| Named(vec![("linear".to_string(), v), ("knn".to_string(), v - 1.0)]);
        Named(vec![("trained".to_string(), one(trained)), ("random".to_string(), one(random))])
    }

    pub(crate) fn report() -> Report {
        Report {
            format: 1,
            run: "runs/x".into(),
            step: 10,
            modality: "vision".into(),
            method: "simclr".into(),
            encoder: "resnet18".into(),
            raw: Some("raw pixels".into()),
            train: Some(100),
            test: 50,
            seed: 0,
            settings: "s".into(),
            measure: "linear".into(),
            clean: scores(80.0, 60.0),
            rows: Vec::new(),
            kinds: Vec::new(),
            mean: Named::default(),
            relative_drop: Named::default(),
        }
    }

    #[test]
    fn means_and_drops_by_hand() {
        let mut r = report();
        for (kind, severity, trained, random) in
            [(1, 3, 40.0, 30.0), (0, 5, 60.0, 15.0), (0, 1, 70.0, 45.0), (2, 1, 0.0, 0.0)]
        {
            let cell = Cell { kind: KINDS[kind], severity };
            assert!(!r.has(cell));
            r.put(&KINDS, cell, scores(trained, random));
            assert!(r.has(cell));
        }
        assert_eq!(r.kinds.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["fog", "snow", "extra"]);
        assert_eq!((r.features(), r.severities()), (vec!["trained", "random"], vec![1, 3, 5]));
        let linear = |s: &Scores, f: &str| of(s, f, "linear").unwrap();
        // Fog: (70 + 60) / 2; all that count: (65 + 40) / 2, whatever the number of severities.
        assert_eq!((linear(&r.kinds[0].mean, "trained"), linear(&r.mean, "trained")), (65.0, 52.5));
        assert_eq!(linear(&r.relative_drop, "trained"), 100.0 * (80.0 - 52.5) / 80.0);
        assert_eq!(linear(&r.kinds[1].relative_drop, "random"), 50.0);
        // Clean, then at severity 5 that of fog alone, which snow has not.
        let rows: Vec<(&str, u8, f64)> =
            r.rows.iter().map(|r| (r.set.as_str(), r.severity, r.mean)).collect();
        assert_eq!(
            rows[..4],
            [("trained", 0, 80.0), ("trained", 1, 70.0), ("trained", 3, 40.0), ("trained", 5, 60.0)]
        );
        let back: Report = serde_json::from_str(&serde_json::to_string(&r).unwrap()).unwrap();
        assert!(alike(&back.mean, &r.mean) && back.kinds.len() == 3 && back.severities() == r.severities());
        // What is only extra is the mean where there is nothing else; a clean 0 has no drop.
        let mut alone = Report { clean: scores(0.0, 50.0), ..report() };
        alone.put(&KINDS, Cell { kind: KINDS[2], severity: 2 }, scores(0.0, 25.0));
        assert_eq!(of(&alone.relative_drop, "trained", "linear"), None);
        assert_eq!(linear(&alone.relative_drop, "random"), 50.0);
    }

    #[test]
    fn results_of_the_same_settings_are_taken() {
        let mut old = report();
        old.put(&KINDS, Cell { kind: KINDS[1], severity: 3 }, scores(40.0, 30.0));
        let taken = |other: Report| {
            let mut new = report();
            new.take(other, &KINDS);
            new.kinds.len()
        };
        assert_eq!(taken(old.clone()), 1);
        assert_eq!(taken(Report { settings: "other".into(), ..old.clone() }), 0);
        assert_eq!(taken(Report { clean: scores(81.0, 60.0), ..old }), 0, "another clean result");
    }

    #[test]
    fn what_is_asked_for() {
        let names = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|s| (*s).to_string()).collect();
            chosen(&KINDS, &given).map(|k| k.iter().map(|k| k.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["fog", "snow"]);
        assert_eq!(names(&["all"]).unwrap(), ["fog", "snow", "extra"]);
        assert_eq!(names(&["extra", "fog"]).unwrap(), ["fog", "extra"]);
        let error = names(&["rain"]).unwrap_err().to_string();
        assert!(error.contains("--corruptions rain") && error.contains("fog, snow, extra"), "{error}");
        assert_eq!(severities(&[3, 1, 3]).unwrap(), [1, 3]);
        assert!(severities(&[0]).unwrap_err().to_string().contains("--severities 0"));
        assert!(severities(&[6]).is_err() && severities(&[]).is_err());
        assert_eq!(cells(&KINDS, &[1, 5]).len(), 6);
    }
}
