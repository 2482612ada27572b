//! Paths into a configuration, and configurations with a node changed.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// One step of a path into a configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seg {
    Key(String),
    Index(usize),
}

pub(super) fn dotted(path: &[Seg]) -> String {
    let part = |s: &Seg| match s {
        Seg::Key(k) => k.clone(),
        Seg::Index(i) => i.to_string(),
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

pub(super) fn parent(path: &[Seg]) -> &[Seg] {
    &path[..path.len().saturating_sub(1)]
}

pub(super) fn try_as<T: DeserializeOwned>(v: &Value) -> Result<T, String> {
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

pub(super) fn all_paths(v: &Value) -> Vec<Vec<Seg>> {
    let mut out = Vec::new();
    paths(v, &mut Vec::new(), &mut out);
    out
}

pub(super) fn find<'a>(v: &'a Value, path: &[Seg]) -> Option<&'a Value> {
    path.iter().try_fold(v, |v, seg| match (seg, v) {
        (Seg::Key(k), Value::Table(t)) => t.get(k),
        (Seg::Index(i), Value::Array(a)) => a.get(*i),
        _ => None,
    })
}

/// A copy in which the node at `path` is replaced, created or (with `None`) removed.
pub(super) fn with(root: &Value, path: &[Seg], new: Option<Value>) -> Value {
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

pub(super) fn child(section: &[Seg], key: &str) -> Vec<Seg> {
    section.iter().cloned().chain([Seg::Key(key.to_string())]).collect()
}

/// A dotted key as a path; indices of arrays look like keys.
pub(super) fn path_of(key: &str) -> Vec<Seg> {
    key.split('.').map(|part| Seg::Key(part.trim().to_string())).collect()
}

/// Sets the node at a path of keys; makes the tables above it.
pub(super) fn put(root: &mut Value, path: &[Seg], value: Value) {
    let Some((Seg::Key(first), rest)) = path.split_first() else {
        *root = value;
        return;
    };
    if let Value::Table(t) = root {
        put(t.entry(first).or_insert_with(|| Value::Table(Table::new())), rest, value);
    }
}

/// Names of keys that say which other keys a section has.
pub(super) const TAGS: [&str; 2] = ["name", "kind"];

/// Whether a section keeps its other keys when the tag at a dotted key changes from one value to another;
/// `None` where serde knows.
pub type Keeps<'a> = &'a dyn Fn(&str, &str, &str) -> Option<bool>;
