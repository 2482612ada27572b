//! What differs between runs: keys of their configurations, and what they came to.

use super::entry::Entry;
use crate::say::say;
use selfsup_core::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Numbers of a result that are settings or machine matters, not outcomes.
const NO_OUTCOME: [&str; 8] =
    ["fit", "dimensions", "knn_k", "knn_temperature", "draws", "since_step", "classes", "sd"];

/// Prints the keys in which the runs differ, then the numbers of their results side by side.
///
/// # Errors
/// If there are fewer than two, or one is no run.
pub fn compare(dirs: &[PathBuf]) -> Result<()> {
    if dirs.len() < 2 {
        return Err(Error::input("runs compare", "expected two runs or more"));
    }
    let runs = dirs.iter().map(|dir| Entry::read(dir)).collect::<Result<Vec<_>>>()?;
    let configs: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let mut out = BTreeMap::new();
            keys("", &toml::Value::Table(run.config.clone()), &mut out);
            out
        })
        .collect();
    let results: Vec<BTreeMap<String, f64>> = runs
        .iter()
        .map(|run| {
            let mut out = BTreeMap::from([("steps".to_string(), run.steps as f64)]);
            numbers("", run.result.as_ref().unwrap_or(&Value::Null), &mut out);
            out
        })
        .collect();
    let differing = rows(&configs).into_iter().filter(|(_, v)| v.iter().any(|x| *x != v[0]));
    let differing: Vec<_> = differing.collect();
    let outcomes = rows(&results);
    say!("{:<36}{}", "", line(runs.iter().map(|r| r.dir.display().to_string())));
    say!("{:<36}{}", "state", line(runs.iter().map(|r| r.ended.state.to_string())));
    for (key, values) in &differing {
        say!("{key:<36}{}", line(values.iter().map(|v| v.map_or("-".into(), Clone::clone))));
    }
    say!("");
    for (name, values) in &outcomes {
        say!("{name:<36}{}", line(values.iter().map(|v| v.map_or("-".into(), |v| shown(*v)))));
    }
    let table = |rows: Vec<(&String, Vec<Value>)>| -> Value {
        Value::Object(rows.into_iter().map(|(k, v)| (k.clone(), Value::from(v))).collect::<Map<_, _>>())
    };
    crate::say::result(&json!({
        "runs": runs.iter().map(Entry::json).collect::<Vec<_>>(),
        "configuration": table(differing.iter().map(|(k, v)| (*k, v.iter().map(|v| json!(v)).collect())).collect()),
        "results": table(outcomes.iter().map(|(k, v)| (*k, v.iter().map(|v| json!(v)).collect())).collect()),
    }));
    Ok(())
}

/// A row for each name, a column for each run.
fn rows<T>(of: &[BTreeMap<String, T>]) -> Vec<(&String, Vec<Option<&T>>)> {
    let mut names: Vec<&String> = of.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| (name, of.iter().map(|run| run.get(name)).collect())).collect()
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.map(|c| format!("{c:>22}")).collect();
    cells.join(" ")
}

fn shown(v: f64) -> String {
    if v.fract() == 0.0 && v.abs() < 1e15 { format!("{v:.0}") } else { format!("{v:.4}") }
}

fn keys(path: &str, v: &toml::Value, out: &mut BTreeMap<String, String>) {
    match v {
        toml::Value::Table(t) => {
            for (k, v) in t {
                keys(&if path.is_empty() { k.clone() } else { format!("{path}.{k}") }, v, out);
            }
        }
        toml::Value::Float(v) => drop(out.insert(path.into(), format!("{v:?}"))),
        v => drop(out.insert(path.into(), v.to_string())),
    }
}

fn numbers(path: &str, v: &Value, out: &mut BTreeMap<String, f64>) {
    match v {
        Value::Object(o) => {
            for (k, v) in o.iter().filter(|(k, _)| !NO_OUTCOME.contains(&k.as_str())) {
                numbers(&if path.is_empty() { k.clone() } else { format!("{path}.{k}") }, v, out);
            }
        }
        v => drop(v.as_f64().map(|v| out.insert(path.into(), v))),
    }
}
