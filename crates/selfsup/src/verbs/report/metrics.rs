//! The metrics of a run for a page: thinned curves, and the bands in which healthy runs keep them.

use selfsup_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A curve runs through the means of at most so many groups of neighbours.
const POINTS: usize = 300;

/// One metric of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Curve {
    /// Steps.
    pub x: Vec<f64>,
    /// Values.
    pub y: Vec<f64>,
    /// Where healthy runs keep it: low and high end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<[Option<f64>; 2]>,
}

/// The curves of `metrics.jsonl` in `dir` by name; what is always 0 and has no band is left out. None where
/// there are no metrics yet.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn curves(dir: &Path) -> Result<BTreeMap<String, Curve>> {
    let path = dir.join("metrics.jsonl");
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let mut found: BTreeMap<String, Curve> = BTreeMap::new();
    for line in BufReader::new(selfsup_core::file::open(&path)?).lines() {
        let line = line.map_err(|e| Error::io(&path, e))?;
        // A last line may have been cut off by a crash.
        let Ok(Value::Object(values)) = serde_json::from_str(&line) else { continue };
        let Some(step) = values.get("step").and_then(Value::as_f64) else { continue };
        for (name, value) in &values {
            if let (false, Some(value)) = (matches!(name.as_str(), "step" | "epoch" | "time"), value.as_f64())
            {
                let curve = found.entry(name.clone()).or_default();
                curve.x.push(step);
                curve.y.push(value);
            }
        }
    }
    let bands = bands(dir);
    found.retain(|name, curve| bands.contains_key(name) || curve.y.iter().any(|v| *v != 0.0));
    for (name, curve) in &mut found {
        curve.band = bands.get(name).copied();
        (curve.x, curve.y) = (thinned(&curve.x), thinned(&curve.y));
    }
    Ok(found)
}

/// The bands of metrics in `bands.json`, `{"name": {"low": ..., "high": ...}}`; of runs without it the low
/// ends in `bounds.json`, `{"name": low}`.
fn bands(dir: &Path) -> BTreeMap<String, [Option<f64>; 2]> {
    let read = |name: &str| selfsup_core::file::read(dir.join(name));
    let text = read("bands.json").or_else(|_| read("bounds.json")).unwrap_or_default();
    let found: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
    let band = |v: &Value| match v {
        Value::Object(o) => ["low", "high"].map(|end| o.get(end).and_then(Value::as_f64)),
        v => [v.as_f64(), None],
    };
    found
        .iter()
        .map(|(name, v)| (name.clone(), band(v)))
        .filter(|(_, b)| b.iter().any(Option::is_some))
        .collect()
}

/// The means of groups of neighbours, in six digits.
fn thinned(values: &[f64]) -> Vec<f64> {
    let size = values.len().div_ceil(POINTS).max(1);
    values.chunks(size).map(|part| short(part.iter().sum::<f64>() / part.len() as f64)).collect()
}

/// Six significant digits: a page needs no more.
pub(super) fn short(v: f64) -> f64 {
    format!("{v:.5e}").parse().unwrap_or(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_thinned_and_have_their_bands() {
        let dir = tempfile::tempdir().unwrap();
        assert!(curves(dir.path()).unwrap().is_empty());
        let mut lines = String::new();
        for step in 0..1000 {
            lines += &format!(
                "{{\"step\":{step},\"time\":1e9,\"loss\":{},\"zero\":0.0,\"dead\":0.0}}\n",
                1000 - step
            );
        }
        lines += "{\"step\":1000,\"loss\":null}\n{\"step\":1001,\"lo";
        std::fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
        std::fs::write(dir.path().join("bounds.json"), r#"{"dead": 0.2}"#).unwrap();
        assert_eq!(curves(dir.path()).unwrap()["dead"].band, Some([Some(0.2), None]));
        let bands = r#"{"dead": {"low": 0.2}, "loss": {"high": 7.5}, "gone": {}}"#;
        std::fs::write(dir.path().join("bands.json"), bands).unwrap();
        let found = curves(dir.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["dead", "loss"]);
        let loss = &found["loss"];
        assert_eq!((loss.x.len(), loss.x[0], loss.y[0]), (250, 1.5, 998.5));
        assert_eq!((loss.band, found["dead"].band), (Some([None, Some(7.5)]), Some([Some(0.2), None])));
        assert_eq!(short(0.123_456_789), 0.123457);
    }
}
