//! A run as its folder tells it. Nothing is written, and nothing of the weights is read.

use selfsup_core::run::{Ended, Run, time_text};
use selfsup_core::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a folder says of its run.
pub(super) struct Entry {
    pub dir: PathBuf,
    pub ended: Ended,
    /// The configuration.
    pub config: toml::Table,
    /// The method, or the task of fine-tuning.
    pub method: String,
    pub encoder: String,
    /// Steps of the newest checkpoint, or of the result.
    pub steps: u64,
    /// `result.json`, where there is one.
    pub result: Option<Value>,
    /// The number that says most, by name.
    pub main: Option<(String, f64)>,
    /// Of all its files.
    pub bytes: u64,
}

impl Entry {
    pub fn read(dir: &Path) -> Result<Self> {
        let run = Run::read(dir)?;
        let text = run.config()?;
        let config: toml::Table =
            text.parse().map_err(|e| Error::file(dir.join("config.toml"), format!("is not TOML: {e}")))?;
        let of = |section: &str, key: &str| {
            config.get(section).and_then(|s| s.get(key)).and_then(toml::Value::as_str).unwrap_or_default()
        };
        let method = match of("task", "kind") {
            "" => of("method", "name"),
            task => task,
        };
        let result: Option<Value> = selfsup_core::file::read(dir.join("result.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let named = |key: &str| result.as_ref().and_then(|r| r[key].as_str()).unwrap_or_default();
        let newest = run.checkpoints(0).list()?.last().map(|(step, _)| *step);
        let done = result.as_ref().and_then(|r| r["training"]["steps"].as_u64());
        let encoder = match of("encoder", "name") {
            "" => named("encoder"),
            name => name,
        };
        Ok(Entry {
            method: method.into(),
            encoder: encoder.into(),
            steps: newest.or(done).unwrap_or(0),
            main: result.as_ref().and_then(main_number).or_else(|| last_loss(dir)),
            bytes: bytes(dir),
            ended: Ended::of(dir),
            dir: dir.to_path_buf(),
            result,
            config,
        })
    }

    /// A section of the result; null where there is none.
    fn part(&self, name: &str) -> Value {
        self.result.as_ref().map_or(Value::Null, |r| r[name].clone())
    }

    /// A number of the result.
    fn number(&self, path: &[&str]) -> Option<f64> {
        path.iter().fold(self.result.as_ref()?, |v, key| &v[*key]).as_f64()
    }

    /// kNN accuracy of the evaluation at the end, in percent.
    pub fn knn(&self) -> Option<f64> {
        self.number(&["probe", "knn", "trained"])
    }

    /// Accuracy of the linear probe, in percent.
    pub fn linear(&self) -> Option<f64> {
        self.number(&["probe", "linear", "trained"])
    }

    /// The last loss.
    pub fn loss(&self) -> Option<f64> {
        self.number(&["training", "loss"])
    }

    /// How long it took.
    pub fn seconds(&self) -> Option<f64> {
        self.number(&["cost", "seconds"]).or_else(|| self.number(&["seconds"]))
    }

    /// When its metrics were written last, in seconds since 1970.
    pub fn written(&self) -> Option<f64> {
        let at = std::fs::metadata(self.dir.join("metrics.jsonl")).ok()?.modified().ok()?;
        Some(at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64())
    }

    /// Whether gauges left their healthy bands: `ok`, or how many alarms there were.
    pub fn gauges(&self) -> String {
        match self.part("training")["bands"].is_object() {
            true => match self.alarms().len() {
                0 => "ok".into(),
                1 => "1 alarm".into(),
                n => format!("{n} alarms"),
            },
            false => "-".into(),
        }
    }

    /// The gauges of all alarms.
    fn alarms(&self) -> Vec<Value> {
        self.part("training")["alarms"].as_array().cloned().unwrap_or_default()
    }

    /// Gauges outside their healthy band at the end.
    pub fn unhealthy(&self) -> Vec<String> {
        let breaches = self.part("training")["unhealthy"].as_array().cloned().unwrap_or_default();
        breaches.iter().filter_map(|b| Some(b["gauge"].as_str()?.to_string())).collect()
    }

    /// What it took, in a few words: time (with that on processors), samples a second, memory; and what was
    /// planned. Runs of earlier versions have the time alone.
    pub fn cost(&self) -> String {
        let cost = self.part("cost");
        let of = |key: &str| cost[key].as_f64();
        let Some(seconds) = of("seconds").or_else(|| self.part("seconds").as_f64()) else {
            return "-".into();
        };
        let mut text = time_text(seconds);
        if let Some(planned) = of("planned_seconds") {
            text += &format!(" of {}", time_text(planned));
        }
        if let Some(processor) = of("processor_seconds") {
            text += &format!(", {} cpu", time_text(processor));
        }
        if let Some(rate) = of("samples_per_second") {
            text += &format!(", {rate:.0}/s");
        }
        if let Some(mb) = of("peak_memory_mb") {
            text += &format!(", {mb:.0} MB");
            if let Some(planned) = of("planned_memory_mb") {
                text += &format!(" of {planned:.0}");
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        json!({
            "run": self.dir, "state": self.ended.state, "error": self.ended.error, "method": self.method,
            "encoder": self.encoder, "steps": self.steps, "bytes": self.bytes,
            "cost": self.part("cost"), "unhealthy": self.unhealthy(), "alarms": self.alarms(),
            "knn": self.knn(), "linear": self.linear(), "loss": self.loss(),
            "main": self.main.as_ref().map(|(name, value)| json!({ "name": name, "value": value })),
        })
    }
}

/// The runs in `dir`: itself, its folders and theirs, by name. A run's own folders (stages) are parts of it.
pub(super) fn found(dir: &Path) -> Result<Vec<Entry>> {
    let mut out = Vec::new();
    look(dir, 2, &mut out)?;
    out.sort_by(|a: &Entry, b| a.dir.cmp(&b.dir));
    Ok(out)
}

fn look(dir: &Path, deeper: usize, out: &mut Vec<Entry>) -> Result<()> {
    if dir.join("config.toml").is_file() {
        match Entry::read(dir) {
            Ok(run) => out.push(run),
            Err(e) => crate::say::warning(format_args!("passed over: {e}")),
        }
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if deeper > 0 && path.is_dir() && !path.is_symlink() {
            // What may not be listed is no run of ours.
            let _ = look(&path, deeper - 1, out);
        }
    }
    Ok(())
}

/// Of a result the number that says most: of the test, of the validation, of the probe, of what needs no
/// labels, the loss.
fn main_number(result: &Value) -> Option<(String, f64)> {
    for part in ["test", "validation"] {
        if let Some((name, value)) = result[part].as_object().and_then(|o| o.iter().next()) {
            return Some((format!("{part} {}", name.replace('_', " ")), value.as_f64()?));
        }
    }
    let at = |path: &[&str]| path.iter().fold(result, |v, key| &v[*key]).as_f64();
    let named = |name: &str, path: &[&str]| Some((name.to_string(), at(path)?));
    named("linear %", &["probe", "linear", "trained"])
        .or_else(|| named("kNN %", &["probe", "knn", "trained"]))
        .or_else(|| named("effective rank", &["unlabelled", "trained", "collapse", "effective_rank"]))
        .or_else(|| named("loss", &["training", "loss"]))
}

/// The last loss of the metrics.
fn last_loss(dir: &Path) -> Option<(String, f64)> {
    let text = selfsup_core::file::text(dir.join("metrics.jsonl")).ok()?;
    let loss = |line: &str| serde_json::from_str::<Value>(line).ok()?["loss"].as_f64();
    Some(("loss".into(), text.lines().rev().find_map(loss)?))
}

/// Bytes of all files below a folder; links are not followed.
pub(super) fn bytes(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|e| bytes(&e.path())).sum()
}

/// Bytes in words.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1_000_000_000 => format!("{:.2} GB", b as f64 / 1e9),
        b if b >= 1_000_000 => format!("{:.1} MB", b as f64 / 1e6),
        b => format!("{:.0} kB", b as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_says_most() {
        let of = |text: &str| main_number(&serde_json::from_str(text).unwrap());
        let named = |name: &str, v: f64| Some((name.to_string(), v));
        let probe = r#"{"probe": {"knn": {"trained": 70.5}, "linear": {"trained": 84.4}}, "training": {"loss": 2.0}}"#;
        assert_eq!(of(probe), named("linear %", 84.4));
        assert_eq!(of(r#"{"training": {"loss": 2.0}}"#), named("loss", 2.0));
        assert_eq!(
            of(r#"{"validation": {"accuracy": 0.5}, "test": {"char_error": 0.25}}"#),
            named("test char error", 0.25)
        );
        assert_eq!(of(r#"{"test": {}, "training": {}}"#), None);
        assert_eq!([size(999), size(2_500_000), size(7_000_000_000)], ["1 kB", "2.5 MB", "7.00 GB"]);
    }
}
