//! The configuration of a run for a page: paths lose their folders, and where samples are of people's health
//! all of what could name one.

use selfsup_core::{Error, Result};
use selfsup_datasets::Kind;
use std::path::Path;
use toml::{Table, Value};

/// What stands for a value that is left out.
const LEFT_OUT: &str = "(left out)";

/// The configuration as a table.
///
/// # Errors
/// If it is not TOML.
pub(super) fn table(text: &str, dir: &Path) -> Result<Table> {
    text.parse().map_err(|e| Error::file(dir.join("config.toml"), format!("is not TOML: {e}")))
}

/// Whether samples are of people's health: volumes, pictures that are cut from them, and
/// signals.
pub(super) fn is_private(kind: Kind, config: &Table) -> bool {
    let cut = config.get("volumes").and_then(|v| v.get("slices")).is_some();
    kind == Kind::Medical || kind == Kind::Signals || cut
}

/// Keys and values in their order.
pub(super) fn lines(config: &Table, private: bool) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (key, value) in config {
        add(key, value, private, &mut out);
    }
    out
}

fn add(key: &str, value: &Value, private: bool, out: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(k, v)| add(&format!("{key}.{k}"), v, private, out)),
        value => out.push((key.into(), shown(key, value, private))),
    }
}

/// Keys of `[data]` that say nothing of where samples lie.
const PLAIN: [&str; 1] = ["data.layout"];

fn shown(key: &str, value: &Value, private: bool) -> String {
    match value {
        Value::String(text) => {
            let names = text.contains(['/', '\\']) || key.starts_with("data.") && !PLAIN.contains(&key);
            if private && names && !text.is_empty() { LEFT_OUT.into() } else { last_part(text) }
        }
        Value::Float(v) => format!("{v:?}"),
        Value::Array(values) => {
            let parts: Vec<String> = values.iter().map(|v| shown(key, v, private)).collect();
            format!("[{}]", parts.join(", "))
        }
        Value::Table(table) => {
            let parts: Vec<String> =
                table.iter().map(|(k, v)| format!("{k} = {}", shown(key, v, private))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        value => value.to_string(),
    }
}

/// A path without its folders: they name people and machines.
fn last_part(text: &str) -> String {
    match text.trim_end_matches(['/', '\\']).rsplit_once(['/', '\\']) {
        Some((_, last)) => format!("…/{last}"),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        data = { path = "/home/ann/scans of Bob", labels = 'C:\x\bob.csv', layout = "plain", hold_out = 0.1 }
        volumes = { read = { folders = ["/a/bob"], group = "MRN/7" } }
        encoder = { name = "unet" }
    "#;

    fn of(private: bool) -> Vec<(String, String)> {
        lines(&CONFIG.parse().unwrap(), private)
    }

    #[test]
    fn paths_lose_their_folders() {
        let found = of(false);
        assert_eq!(found[0], ("data.path".into(), "…/scans of Bob".into()));
        assert_eq!(found[1].1, "…/bob.csv");
        assert_eq!(found[3], ("data.hold_out".into(), "0.1".into()));
        assert_eq!(found.last().unwrap().1, "unet");
    }

    #[test]
    fn of_people_nothing_is_said() {
        let text = of(true).into_iter().map(|(k, v)| format!("{k}={v}\n")).collect::<String>();
        for name in ["ob", "ann", "MRN", "csv"] {
            assert!(!text.contains(name), "{name}: {text}");
        }
        assert!(text.contains("data.layout=plain") && text.contains("unet") && text.contains(LEFT_OUT));
        assert!(is_private(Kind::Medical, &Table::new()));
        let cut = "[volumes]\nslices = \"axial\"".parse().unwrap();
        assert!(is_private(Kind::Vision, &cut) && !is_private(Kind::Vision, &Table::new()));
    }
}
