//! Configuration: a TOML file, `key=value` overrides, and errors that name the key.
//!
//! Serde says what is wrong ("invalid type: string, expected f64") but often not where: inside a tagged enum
//! (`[method] name = "simclr"`) content is buffered and paths are lost. So after a failure the culprit is
//! found by trial: take one key out, deserialise again, and see whether the complaint changes. Keys that a
//! type ignores without complaint are found by trial as well: a key is unknown if even a nonsensical value (a
//! date) under it is accepted and the key is not in what the result serialises to. Configurations are small,
//! so dozens of trials cost well below a millisecond each.

mod diagnose;
mod path;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use diagnose::{diagnose, first_ignored, keys_at, unknown_key};
use path::{Seg, dotted, parent, try_as};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Reads `text` (the contents of `file`) and then each override `dotted.key=value` into a `T`. A value is
/// read as TOML where it is TOML (`1e-3`, `true`, `[1, 2]`) and as a string otherwise. Keys that are not
/// given take `T`'s serde defaults.
///
/// # Errors
/// [`Error::Config`] naming file, line and key: for text that is not TOML, an unknown key (with the nearest
/// known one), a value of the wrong type (with what was expected), a missing key.
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
    let mut root = Value::Table(parse(text, file)?);
    let mut places = lines(text, file);
    for o in overrides {
        let key = set(&mut root, o.as_ref())?;
        places.insert(key, format!("override `{}`", o.as_ref()));
    }
    let place = |path: &[Seg]| {
        // The nearest enclosing key with a known place, so that a key within an overriding table is found
        // too.
        (0..=path.len())
            .rev()
            .find_map(|n| places.get(&dotted(&path[..n])).cloned())
            .unwrap_or_else(|| file.to_string())
    };
    let known = Value::try_from(T::default()).unwrap_or_else(|_| Value::Table(Table::new()));
    match try_as::<T>(&root) {
        Err(message) => Err(diagnose::<T>(&root, &known, &message, &place)),
        Ok(value) => match first_ignored::<T>(&root, &value) {
            None => Ok(value),
            Some((path, written)) => {
                let mut near = keys_at(&written, parent(&path));
                near.extend(keys_at(&known, parent(&path)));
                Err(unknown_key(&path, near, &known, &place))
            }
        },
    }
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

/// Applies one override; returns its key.
fn set(root: &mut Value, text: &str) -> Result<String> {
    let refuse = |why: &str| Error::config(format!("override `{text}`: {why}"));
    let (key, value) = text.split_once('=').ok_or_else(|| refuse("expected key=value"))?;
    let (key, value) = (key.trim(), value.trim());
    if key.split('.').any(str::is_empty) {
        return Err(refuse("expected a dotted key before the `=`"));
    }
    // A text that is several lines of TOML is not a value.
    let parsed =
        format!("v = {value}").parse::<Table>().ok().filter(|t| t.len() == 1).and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
    let (mut node, mut at) = (root, String::new());
    for part in key.split('.') {
        let kind = node.type_str();
        node = match node {
            Value::Table(t) => t.entry(part).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(a) => {
                let n = a.len();
                let i = part.parse::<usize>().ok().filter(|&i| i < n);
                let e = || refuse(&format!("`{at}` is an array of {n}: `{part}` is not an index of it"));
                a.get_mut(i.ok_or_else(e)?).ok_or_else(|| refuse("no such element"))?
            }
            _ => {
                return Err(refuse(&format!(
                    "`{at}` is a value of type {kind}, not a table with a key `{part}`"
                )));
            }
        };
        at = if at.is_empty() { part.to_string() } else { format!("{at}.{part}") };
    }
    *node = value;
    Ok(at)
}
