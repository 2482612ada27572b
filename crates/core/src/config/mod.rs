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
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
pub use diagnose::knows;
pub use draft::{Draft, Keeps, Unread};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use toml::{Table, Value};

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

/// One step of a path into a configuration.
#[derive(Clone, Debug, PartialEq)]
enum Seg {
    Key(String),
    Index(usize),
}

fn dotted(path: &[Seg]) -> String {
    let part = |s: &Seg| match s {
        Seg::Key(k) => k.clone(),
        Seg::Index(i) => i.to_string(),
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

fn parent(path: &[Seg]) -> &[Seg] {
    &path[..path.len().saturating_sub(1)]
}

fn parse(text: &str, file: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let line = e.span().map_or_else(String::new, |s| format!(":{}", line_of(text, s.start)));
        Error::config(format!("{file}{line}: {}", e.message().trim_end()))
    })
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|&b| b == b'\n').count()
}

/// `file:line` of every key, by dotted path.
fn lines(text: &str, file: &str) -> BTreeMap<String, String> {
    use toml::de::{DeTable, DeValue};
    fn walk(t: &DeTable<'_>, path: &str, out: &mut impl FnMut(String, usize)) {
        for (k, v) in t {
            let key =
                if path.is_empty() { k.get_ref().to_string() } else { format!("{path}.{}", k.get_ref()) };
            out(key.clone(), k.span().start);
            match v.get_ref() {
                DeValue::Table(t) => walk(t, &key, out),
                DeValue::Array(a) => {
                    for (i, e) in a.iter().enumerate() {
                        out(format!("{key}.{i}"), e.span().start);
                        if let DeValue::Table(t) = e.get_ref() {
                            walk(t, &format!("{key}.{i}"), out);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let mut out = BTreeMap::new();
    if let Ok(t) = DeTable::parse(text) {
        walk(t.get_ref(), "", &mut |key, byte| {
            out.insert(key, format!("{file}:{}", line_of(text, byte)));
        });
    }
    out
}

fn try_as<T: DeserializeOwned>(v: &Value) -> Result<T, String> {
    v.clone().try_into::<T>().map_err(|e| e.message().trim().to_string())
}

/// The paths of all nodes, parents before children.
fn paths(v: &Value, path: &mut Vec<Seg>, out: &mut Vec<Vec<Seg>>) {
    let mut visit = |seg: Seg, v: &Value, out: &mut Vec<Vec<Seg>>| {
        path.push(seg);
        out.push(path.clone());
        paths(v, path, out);
        path.pop();
    };
    match v {
        Value::Table(t) => t.iter().for_each(|(k, v)| visit(Seg::Key(k.clone()), v, out)),
        Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| visit(Seg::Index(i), v, out)),
        _ => {}
    }
}

fn all_paths(v: &Value) -> Vec<Vec<Seg>> {
    let mut out = Vec::new();
    paths(v, &mut Vec::new(), &mut out);
    out
}

fn find<'a>(v: &'a Value, path: &[Seg]) -> Option<&'a Value> {
    path.iter().try_fold(v, |v, seg| match (seg, v) {
        (Seg::Key(k), Value::Table(t)) => t.get(k),
        (Seg::Index(i), Value::Array(a)) => a.get(*i),
        _ => None,
    })
}

/// A copy in which the node at `path` is replaced, created or (with `None`) removed.
fn with(root: &Value, path: &[Seg], new: Option<Value>) -> Value {
    let mut out = root.clone();
    let Some((last, above)) = path.split_last() else { return out };
    let node = above.iter().try_fold(&mut out, |v, seg| match (seg, v) {
        (Seg::Key(k), Value::Table(t)) => t.get_mut(k),
        (Seg::Index(i), Value::Array(a)) => a.get_mut(*i),
        _ => None,
    });
    match (last, node, new) {
        (Seg::Key(k), Some(Value::Table(t)), Some(new)) => {
            t.insert(k.clone(), new);
        }
        (Seg::Key(k), Some(Value::Table(t)), None) => {
            t.remove(k);
        }
        (Seg::Index(i), Some(Value::Array(a)), Some(new)) if *i < a.len() => a[*i] = new,
        (Seg::Index(i), Some(Value::Array(a)), None) if *i < a.len() => {
            a.remove(*i);
        }
        _ => {}
    }
    out
}
