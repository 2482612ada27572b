//! Configuration: a TOML file, `key=value` overrides, and errors that name the key.
//!
//! Serde says what is wrong ("invalid type: string, expected f64") but often not where: inside a tagged enum
//! (`[method] name = "simclr"`) content is buffered and paths are lost. So after a failure the culprit is
//! found by trial: take one key out, deserialise again, and see whether the complaint changes. Keys that a
//! type ignores without complaint are found by trial as well: a key is unknown if even a nonsensical value (a
//! date) under it is accepted and the key is not in what the result serialises to. Configurations are small,
//! so dozens of trials cost well below a millisecond each.

mod diagnose;
mod draft;
mod path;
#[cfg(test)]
mod tests;
mod text;

use crate::error::{Error, Result};
pub use diagnose::knows;
pub use draft::{Draft, Unread};
pub use path::Keeps;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use text::parse;
use toml::Value;

/// Reads `text` (the contents of `file`) and then each override `dotted.key=value` into a `T`, as a
/// [`Draft`] does. Keys that are not given take `T`'s defaults.
///
/// # Errors
/// [`Error::Config`] naming file, line and key: for text that is not TOML, else as [`Draft::load`].
///
/// ```
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Config { epochs: u64, learning_rate: f64 }
/// let c: Config = selfsup_core::config::load("epochs = 3", "run.toml", &["learning_rate=0.1"])?;
/// assert_eq!((c.epochs, c.learning_rate), (3, 0.1));
/// let e = selfsup_core::config::load::<Config>("epoch = 3", "run.toml", &[""; 0]).err().map(|e| e.to_string());
/// assert_eq!(e.as_deref(), Some("config: run.toml:1: unknown key `epoch`; did you mean `epochs`?"));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
pub fn load<T>(text: &str, file: &str, overrides: &[impl AsRef<str>]) -> Result<T>
where
    T: DeserializeOwned + Serialize + Default,
{
    let mut draft = Draft::parse(text, file)?;
    overrides.iter().try_for_each(|o| draft.set(o.as_ref()))?;
    draft.load()
}

/// `value` as TOML text: what is written beside a run's checkpoints.
///
/// # Errors
/// [`Error::Config`] if it holds what TOML cannot express (an integer of 2^63 or more).
pub fn to_toml<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).map_err(|e| Error::config(format!("cannot be written as TOML: {e}")))
}

/// What differs between two configurations: `(dotted key, old value, new value)` in the order of the keys,
/// with `(not set)` where a side does not have the key. Layout, comments and the order of keys don't count.
///
/// # Errors
/// [`Error::Config`] if either text is not TOML.
pub fn diff(old: &str, new: &str) -> Result<Vec<(String, String, String)>> {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &Value::Table(parse(old, "old configuration")?), &mut a);
    flatten("", &Value::Table(parse(new, "new configuration")?), &mut b);
    let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
    keys.sort_unstable();
    let text =
        |m: &BTreeMap<String, String>, k: &String| m.get(k).cloned().unwrap_or_else(|| "(not set)".into());
    Ok(keys
        .into_iter()
        .filter(|k| a.get(*k) != b.get(*k))
        .map(|k| (k.clone(), text(&a, k), text(&b, k)))
        .collect())
}

fn flatten(key: &str, v: &Value, out: &mut BTreeMap<String, String>) {
    match v {
        Value::Table(t) => {
            for (k, v) in t {
                flatten(&if key.is_empty() { k.clone() } else { format!("{key}.{k}") }, v, out);
            }
        }
        _ => {
            out.insert(key.to_string(), v.to_string());
        }
    }
}
