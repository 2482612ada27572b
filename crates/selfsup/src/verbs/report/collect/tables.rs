//! What `selfsup curve` and `selfsup robustness` wrote: numbers and short names of it.

use serde_json::{Map, Value};
use std::path::Path;

/// Names of values that can hold paths or names of samples.
const NAMES: [&str; 11] =
    ["run", "path", "file", "data", "id", "ids", "test", "config", "labels", "error", "settings"];

/// The table at `path`, if there is one. What cannot be read has not been written by this version.
pub(super) fn read(path: &Path, private: bool) -> Option<Value> {
    let found: Value = serde_json::from_slice(&selfsup_core::file::read(path).ok()?).ok()?;
    Some(cleaned(&found, private))
}

/// Without strings under keys that can name samples; without folders.
fn cleaned(value: &Value, private: bool) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .iter()
                .filter(|(key, v)| !(NAMES.contains(&key.as_str()) && holds_text(v)))
                .map(|(key, v)| (key.clone(), cleaned(v, private)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(|v| cleaned(v, private)).collect()),
        Value::String(text) if text.contains(['/', '\\']) && private => Value::from("(left out)"),
        Value::Number(n) if n.is_f64() => {
            let short = n.as_f64().map(crate::verbs::report::metrics::short);
            short.map_or(Value::Null, Value::from)
        }
        other => other.clone(),
    }
}

fn holds_text(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(values) => values.iter().any(holds_text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_names_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("curve.json");
        assert_eq!(read(&path, true), None);
        let text = r#"{"run": "/a/bob", "rows": [{"labels": 10, "path": "bob.png", "mean": 0.123456789,
            "noise": "/n/bob", "method": "probe"}]}"#;
        std::fs::write(&path, text).unwrap();
        let found = read(&path, true).unwrap();
        assert!(!found.to_string().contains("bob"), "{found}");
        assert_eq!(found["rows"][0]["mean"], 0.123457);
        assert_eq!(found["rows"][0]["labels"], 10);
        assert_eq!(found["rows"][0]["method"], "probe");
    }
}
