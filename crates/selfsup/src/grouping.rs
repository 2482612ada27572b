//! Groups that a classifier is measured on: a column of the table of labels (`sex`, `site`, `scanner`), or
//! the groups that a data set knows itself (speakers, patients).

use crate::config::DataConfig;
use crate::set::{Set, Unlabelled};
use selfsup_core::{Error, Result};
use selfsup_datasets::labels::is_table;
use selfsup_datasets::{Columns, Kind, LabelFile, Records};
use selfsup_eval::groups::{GroupReport, MEASURES, Narrowed};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// A column of numbers with more different values than this is cut into [`BANDS`].
const DIFFERENT: usize = 12;
/// Parts of as many samples.
const BANDS: usize = 4;
/// The name by which the groups of a data set are asked for, where no column is called so.
const OWN: &str = "group";

/// The group of each sample, as a number in the names.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// The column.
    pub column: String,
    /// Names of the groups.
    pub names: Vec<String>,
    /// The group of each sample; `None` where the column is empty.
    pub of: Vec<Option<u32>>,
}

impl Grouping {
    /// The groups of the samples of `set` by `column` of the tables that `data` names.
    ///
    /// # Errors
    /// If there is no table, it has no such column (the error lists those that it has), or no sample of the
    /// set has a value.
    pub fn of(
        set: &Set,
        column: &str,
        data: &DataConfig,
        kind: Kind,
        open: &dyn Fn(&str) -> Result<Set>,
    ) -> Result<Self> {
        let values = match Self::column(set, column, data, kind, open) {
            Err(_) if column == OWN && known(set) => own(set),
            other => other?,
        };
        if values.iter().all(Option::is_none) {
            let where_from = if data.labels.is_empty() { &data.path } else { &data.labels };
            let problem = format!("--groups {column}: none of the {} test samples has a value", set.len());
            return Err(Error::input(where_from, problem));
        }
        Ok(Self::named(column, &values))
    }

    /// What the tables say of each sample of the set.
    fn column(
        set: &Set,
        column: &str,
        data: &DataConfig,
        kind: Kind,
        open: &dyn Fn(&str) -> Result<Set>,
    ) -> Result<Vec<Option<String>>> {
        if data.labels.is_empty() {
            let also =
                if known(set) { ", or `--groups group` for those that the data has itself" } else { "" };
            return Err(Error::config(format!(
                "--groups {column}: groups are a column of a table: give one with --labels FILE{also}"
            )));
        }
        let second = !data.test.is_empty() && is_table(Path::new(&data.test)) && kind != Kind::Speech;
        let mut tables = vec![&data.labels];
        tables.extend(second.then_some(&data.test));
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for path in tables {
            let columns = Columns { group: Some(column.to_string()), ..data.columns.clone() };
            let table = LabelFile::read_with(Path::new(path), &columns).map_err(|e| told(e, column))?;
            let labelled = if kind == Kind::Text && table.holds_texts() {
                table.texts()?
            } else {
                // Their own groups (speakers) are not to stand where the column is empty.
                let records: Arc<dyn Records> = Arc::new(Unlabelled(open(&data.path)?));
                table.apply(records, Path::new(&data.path))?
            };
            for i in 0..labelled.len() {
                if let Some(value) = labelled.group(i) {
                    found.insert(labelled.id(i)?, value);
                }
            }
        }
        (0..set.len()).map(|i| Ok(found.get(&set.records().id(i)?).cloned())).collect()
    }

    /// Groups by their values: numbers in their order, many different ones in bands of as many samples.
    fn named(column: &str, values: &[Option<String>]) -> Self {
        let different: BTreeSet<&String> = values.iter().flatten().collect();
        let number = |text: &String| text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
        let numbers: Option<Vec<f64>> = different.iter().map(|v| number(v)).collect();
        let (names, of): (Vec<String>, Vec<Option<u32>>) = match numbers {
            Some(numbers) if numbers.len() > DIFFERENT => {
                let all: Vec<Option<f64>> = values.iter().map(|v| v.as_ref().and_then(number)).collect();
                bands(column, &all)
            }
            numbers => {
                let mut names: Vec<String> = different.into_iter().cloned().collect();
                if numbers.is_some() {
                    names.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
                }
                let place = |v: &String| names.iter().position(|n| n == v).map(|i| i as u32);
                let of = values.iter().map(|v| v.as_ref().and_then(place)).collect();
                (names, of)
            }
        };
        Grouping { column: column.to_string(), names, of }
    }
}

/// Numbers cut into parts of about as many samples; equal ones stay together.
fn bands(column: &str, values: &[Option<f64>]) -> (Vec<String>, Vec<Option<u32>>) {
    let mut sorted: Vec<f64> = values.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let mut starts: Vec<f64> = (0..BANDS).map(|b| sorted[b * sorted.len() / BANDS]).collect();
    starts.dedup();
    let band = |v: f64| (starts.partition_point(|s| *s <= v).max(1) - 1) as u32;
    let names = (0..starts.len())
        .map(|b| {
            let within = sorted.iter().filter(|v| band(**v) as usize == b);
            let (low, high) =
                within.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            format!("{column} {low} to {high}")
        })
        .collect();
    (names, values.iter().map(|v| v.map(band)).collect())
}

fn known(set: &Set) -> bool {
    (0..set.len()).any(|i| set.records().group(i).is_some())
}

fn own(set: &Set) -> Vec<Option<String>> {
    (0..set.len()).map(|i| set.records().group(i)).collect()
}

/// The error of an absent column in the words of the flag.
fn told(e: Error, column: &str) -> Error {
    match e {
        Error::Input { what, problem } if problem.contains("no such column") => {
            let key = format!("data.columns.group = \"{column}\"");
            Error::Input { what, problem: problem.replace(&key, &format!("--groups {column}")) }
        }
        other => other,
    }
}

/// Groups as a table: `title` says who scored.
pub fn table(title: &str, report: &GroupReport) -> String {
    let mut out = String::new();
    let _ = write!(out, "{title:<30}{:>8}", "n");
    for measure in MEASURES {
        let _ = write!(out, "{:>11}", shown_name(measure));
    }
    out.push('\n');
    let percent = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{:.1}", 100.0 * v));
    for group in &report.groups {
        let _ = write!(out, "{:<30}{:>8}", group.name, group.n);
        match &group.measures {
            Some(m) => m.values().iter().for_each(|v| {
                let _ = write!(out, "{:>11}", percent(*v));
            }),
            None => {
                let _ = write!(out, "   too small: fewer than {}", report.least);
            }
        }
        out.push('\n');
    }
    if report.without > 0 {
        let _ = writeln!(out, "({} samples have no group)", report.without);
    }
    match &report.worst {
        Some(worst) if !report.gaps.is_empty() => {
            let gaps: Vec<String> = report
                .gaps
                .iter()
                .map(|g| {
                    format!(
                        "{} {:.1} ({:.1} to {:.1}; chance {:.1})",
                        shown_name(&g.measure),
                        100.0 * g.gap,
                        100.0 * g.interval.0,
                        100.0 * g.interval.1,
                        100.0 * g.chance
                    )
                })
                .collect();
            let _ = writeln!(
                out,
                "worst: {worst}. Gaps, with 95% intervals, and what chance stays below: {}",
                gaps.join(", ")
            );
        }
        _ => {
            let _ = writeln!(out, "no gap: fewer than two groups have {} samples", report.least);
        }
    }
    out
}

/// Whether the first of two classifiers serves the groups more alike, in words.
pub fn compared(first: &str, second: &str, found: &[Narrowed]) -> String {
    let mut out = String::new();
    for n in found.iter().filter(|n| matches!(n.measure.as_str(), "accuracy" | "tpr" | "fpr")) {
        let (low, high) = (100.0 * n.interval.0, 100.0 * n.interval.1);
        let verdict = match (n.interval.0 > 0.0, n.interval.1 < 0.0) {
            (_, true) => "narrower",
            (true, _) => "wider",
            _ => "no clear difference",
        };
        let _ = writeln!(
            out,
            "gap of {}, {first} against {second}: {:+.1} ({low:+.1} to {high:+.1}): {verdict}; \
             worst group {:+.1}",
            shown_name(&n.measure),
            100.0 * n.difference,
            100.0 * n.worst
        );
    }
    out
}

fn shown_name(measure: &str) -> String {
    match measure {
        "accuracy" => "accuracy".into(),
        other => other.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|v| (!v.is_empty()).then(|| (*v).to_string())).collect()
    }

    #[test]
    fn values_are_groups_and_many_numbers_are_bands() {
        let g = Grouping::named("sex", &some(&["m", "f", "", "m"]));
        assert_eq!(
            (g.names.as_slice(), g.of),
            (&["f".to_string(), "m".into()][..], vec![Some(1), Some(0), None, Some(1)])
        );
        let g = Grouping::named("site", &some(&["10", "9", "10"]));
        assert_eq!(g.names, ["9", "10"], "numbers in their order");
        let ages: Vec<String> = (0..40).map(|i| (20 + i).to_string()).collect();
        let g = Grouping::named("age", &some(&ages.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(g.names, ["age 20 to 29", "age 30 to 39", "age 40 to 49", "age 50 to 59"]);
        assert_eq!((g.of[0], g.of[9], g.of[10], g.of[39]), (Some(0), Some(0), Some(1), Some(3)));
        // Most of one value: it is a band, and no other begins with it.
        let mut ages: Vec<String> = vec!["50".into(); 30];
        ages.extend((60..75).map(|i| i.to_string()));
        let g = Grouping::named("age", &some(&ages.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(g.names[0], "age 50 to 62");
        assert_eq!(g.of.iter().flatten().count(), 45);
    }
}
