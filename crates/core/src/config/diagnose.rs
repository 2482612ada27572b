//! Which key is wrong, found by trial, and what was probably meant.

use super::path::{Keeps, TAGS, child, path_of, put};
use super::path::{Seg, all_paths, dotted, find, parent, try_as, with};
use crate::error::Error;
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// What an error is about.
pub(super) struct Said<'a> {
    /// All layers in one.
    pub(super) root: &'a Value,
    /// The defaults.
    pub(super) known: &'a Value,
    /// Where a node was given.
    pub(super) place: &'a dyn Fn(&[Seg]) -> String,
    /// Who has a key that is unknown here.
    pub(super) owner: Option<fn(&str) -> Option<String>>,
    /// Which values of a tag belong together.
    pub(super) keeps: Keeps<'a>,
}

/// A value that no sensible key takes.
fn nonsense() -> Value {
    "v = 1979-05-27".parse::<Table>().ok().and_then(|mut t| t.remove("v")).unwrap_or(Value::Boolean(true))
}

/// The first key that `T` reads over in silence, with what `value` serialises to.
pub(super) fn first_ignored<T: DeserializeOwned + Serialize>(
    root: &Value,
    value: &T,
) -> Option<(Vec<Seg>, Value)> {
    let written = Value::try_from(value).ok()?;
    let path = all_paths(root).into_iter().find(|path| {
        matches!(path.last(), Some(Seg::Key(_)))
            && find(&written, path).is_none()
            && try_as::<T>(&with(root, path, Some(nonsense()))).is_ok()
    })?;
    Some((path, written))
}

/// Finds the key that `message` is about.
pub(super) fn diagnose<T: DeserializeOwned>(said: &Said, message: &str) -> Error {
    let Said { root, place, .. } = *said;
    let changes = |v: &Value| try_as::<T>(v).map_or_else(|m| m != message, |_| true);
    let quoted = quoted(message);
    if let Some(name) = message.strip_prefix("unknown field ").and(quoted.first()) {
        let same = |p: &&Vec<Seg>| p.last() == Some(&Seg::Key(name.clone()));
        let all = all_paths(root);
        let path = all.iter().filter(same).find(|p| changes(&with(root, p, None)));
        let path =
            path.or_else(|| all.iter().find(same)).cloned().unwrap_or_else(|| vec![Seg::Key(name.clone())]);
        return unknown_key::<T>(said, &path, None, quoted[1..].to_vec());
    }
    if let Some(name) = message.strip_prefix("missing field ").and(quoted.first()) {
        let mut tables = vec![Vec::new()];
        tables.extend(all_paths(root).into_iter().filter(|p| matches!(find(root, p), Some(Value::Table(_)))));
        let table = tables.into_iter().find(|t| {
            let path: Vec<Seg> = t.iter().cloned().chain([Seg::Key(name.clone())]).collect();
            find(root, &path).is_none() && changes(&with(root, &path, Some(nonsense())))
        });
        let mut path = table.unwrap_or_default();
        let at = place(&path);
        path.push(Seg::Key(name.clone()));
        return Error::config(format!("{at}: `{}` is missing", dotted(&path)));
    }
    let text = plain(message);
    match culprit::<T>(root, message) {
        Some(path) => {
            let hint = if message.starts_with("unknown variant") {
                quoted
                    .split_first()
                    .and_then(|(v, all)| nearest(v, all))
                    .map(|n| format!("; did you mean `{n}`?"))
            } else {
                None
            };
            Error::config(format!(
                "{}: `{}`: {text}{}",
                place(&path),
                dotted(&path),
                hint.unwrap_or_default()
            ))
        }
        None => Error::config(format!("{}: {text}", place(&[]))),
    }
}

/// The node whose removal changes the complaint. A key that tags an enum changes it too, so nodes whose value
/// the message shows, and nodes without which all is well, go first.
fn culprit<T: DeserializeOwned>(root: &Value, message: &str) -> Option<Vec<Seg>> {
    let mut best: Option<(u32, Vec<Seg>)> = None;
    for path in all_paths(root) {
        let value = find(root, &path)?;
        let shown = match value {
            Value::Table(_) => message.starts_with("invalid type: map"),
            Value::Array(_) => {
                message.starts_with("invalid type: sequence") || message.starts_with("invalid length")
            }
            Value::String(s) => message.contains(&format!("{s:?}")) || message.contains(&format!("`{s}`")),
            Value::Float(x) => message.contains("floating point") && message.contains(&x.to_string()),
            other => message.contains(&format!("`{other}`")),
        };
        let inner = matches!(value, Value::Table(_) | Value::Array(_));
        let (ok, other) = match try_as::<T>(&with(root, &path, None)) {
            Ok(_) => (true, true),
            Err(m) if m == message => continue,
            Err(m) => (false, !m.starts_with("missing field")),
        };
        // Where the message shows no table, a table is only where the culprit lies.
        let score =
            if inner && !shown { 0 } else { 1 + u32::from(other) + 2 * u32::from(shown) + 4 * u32::from(ok) };
        // Children come after their parents and are the more exact answer.
        if best.as_ref().is_none_or(|(s, p)| score > *s || (score == *s && path.starts_with(p))) {
            best = Some((score, path));
        }
    }
    best.map(|(_, path)| path)
}

/// The error for a key that is unknown where it stands. `near` are the keys that are known there, where serde
/// has named them; `written` is what the configuration serialises to, where it could be read.
pub(super) fn unknown_key<T: DeserializeOwned>(
    said: &Said,
    path: &[Seg],
    written: Option<&Value>,
    mut near: Vec<String>,
) -> Error {
    let (at, full, section) = ((said.place)(path), dotted(path), parent(path));
    let Some(Seg::Key(name)) = path.last() else {
        return Error::config(format!("{at}: unknown key `{full}`"));
    };
    if let Some((current, others)) = other_variants::<T>(said, section, name) {
        return Error::config(format!("{at}: `{full}` is a key of {}, not of {current}", listed(&others)));
    }
    // The keys of another variant are not known here.
    let same = |tag: &str| {
        let tag = child(section, tag);
        find(said.root, &tag).is_none_or(|v| Some(v) == find(said.known, &tag))
    };
    let known = Some(said.known).filter(|_| TAGS.iter().all(|tag| same(tag)));
    let all = |v: &Value| find(v, section).and_then(Value::as_table).map(|t| t.keys().cloned().collect());
    if near.is_empty() {
        near = [written, known]
            .into_iter()
            .flatten()
            .filter_map(all)
            .flat_map(|keys: Vec<String>| keys)
            .collect();
    }
    near.retain(|k| k != name);
    let hint = match nearest(name, &near) {
        Some(k) => format!("did you mean `{}`?", dotted(&child(section, &k))),
        None => {
            if let Some(owned) = said.owner.and_then(|owner| owned(said.root, path, owner)) {
                return Error::config(format!("{at}: {owned}"));
            }
            let elsewhere = all_paths(said.known).into_iter().find(|p| p.last() == path.last() && p != path);
            match elsewhere {
                Some(p) => format!("did you mean `{}`?", dotted(&p)),
                None if near.is_empty() => "no keys are known here".to_string(),
                None => {
                    let mut all: Vec<String> = near.iter().map(|k| format!("`{k}`")).collect();
                    all.sort_unstable();
                    all.dedup();
                    format!("expected one of {}", all.join(", "))
                }
            }
        }
    };
    Error::config(format!("{at}: unknown key `{full}`; {hint}"))
}

/// The value of the section's tag, and other values of it with which the section has the key `name`.
fn other_variants<T: DeserializeOwned>(
    said: &Said,
    section: &[Seg],
    name: &str,
) -> Option<(String, Vec<String>)> {
    let tag = TAGS.iter().find(|tag| variants::<T>(said.known, section, tag).len() > 1)?;
    let tagged = child(section, tag);
    let current = find(said.root, &tagged).or_else(|| find(said.known, &tagged))?.as_str()?.to_string();
    let mut found: Vec<String> = Vec::new();
    for other in variants::<T>(said.known, section, tag) {
        if other == current || !knows_in::<T>(said.known, section, &[(tag, &other)], name) {
            continue;
        }
        // Names of one network are one: the shortest stands for all.
        let alike =
            found.iter_mut().find(|f| (said.keeps)(&dotted(&tagged), f, &other).is_some_and(|keeps| keeps));
        match alike {
            Some(f) if f.len() > other.len() => *f = other,
            Some(_) => {}
            None => found.push(other),
        }
    }
    (!found.is_empty()).then_some((current, found))
}

/// The values that the key `tag` of a section may have, where they decide which other keys it has.
fn variants<T: DeserializeOwned>(known: &Value, section: &[Seg], tag: &str) -> Vec<String> {
    let mut probe = known.clone();
    put(
        &mut probe,
        section,
        Value::Table(Table::from_iter([(tag.to_string(), Value::String("\u{1}".into()))])),
    );
    match try_as::<T>(&probe) {
        Err(m) if m.starts_with("unknown variant") => quoted(&m).into_iter().skip(1).collect(),
        _ => Vec::new(),
    }
}

/// Whether the section with these keys takes a key `name` too.
fn knows_in<T: DeserializeOwned>(known: &Value, section: &[Seg], keys: &[(&str, &str)], name: &str) -> bool {
    let mut table: Table =
        keys.iter().map(|(k, v)| ((*k).to_string(), Value::String((*v).to_string()))).collect();
    let message = |table: &Table| {
        let mut probe = known.clone();
        put(&mut probe, section, Value::Table(table.clone()));
        try_as::<T>(&probe).err()
    };
    let without = message(&table);
    table.insert(name.to_string(), nonsense());
    // A type that takes any key is no owner of one, and what is no section has none.
    message(&table).is_some_and(|m| {
        Some(&m) != without.as_ref()
            && !m.starts_with(&format!("unknown field `{name}`"))
            && !m.starts_with("missing field")
    })
}

/// Whether a configuration of type `T` has this dotted key, under any value of the tags above it.
pub fn knows<T: DeserializeOwned + Serialize + Default>(key: &str) -> bool {
    let Ok(known) = Value::try_from(T::default()) else { return false };
    let path = path_of(key);
    let Some(Seg::Key(name)) = path.last() else { return false };
    let section = parent(&path);
    if find(&known, &path).is_some() {
        return true;
    }
    !section.is_empty()
        && (knows_in::<T>(&known, section, &[], name)
            || TAGS.iter().any(|tag| {
                let all = variants::<T>(&known, section, tag);
                all.iter().any(|v| knows_in::<T>(&known, section, &[(tag, v)], name))
            }))
}

/// A sentence about who has a key, or one of the keys of a section.
fn owned(root: &Value, path: &[Seg], owner: fn(&str) -> Option<String>) -> Option<String> {
    let section = find(root, path).filter(|v| v.is_table());
    let inner = section.map(all_paths).unwrap_or_default();
    for rest in inner.into_iter().chain([Vec::new()]) {
        let key = dotted(&[path, &rest].concat());
        if let Some(who) = owner(&key) {
            let what = if rest.is_empty() && section.is_some() { "section" } else { "key" };
            return Some(format!("`{key}` is a {what} of {who}"));
        }
    }
    None
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What stands between backquotes.
fn quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// Serde's message without the names of Rust's types.
fn plain(message: &str) -> String {
    let Some((head, expected)) = message.rsplit_once("expected ") else { return message.to_string() };
    let expected = match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{head}expected {expected}")
}

/// The candidate with the smallest edit distance to `name`, if that is small enough to be a slip of the
/// finger.
pub(super) fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    let limit = (name.chars().count() / 3).max(2);
    candidates
        .iter()
        .map(|c| (distance(name, c), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c.clone())
}

/// Damerau-Levenshtein distance in its restricted form (insertions, deletions, substitutions, swaps of
/// neighbours); `-` equals `_`.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let fold =
        |s: &str| s.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let mut d = (rows[i - 1][j] + 1)
                    .min(rows[i][j - 1] + 1)
                    .min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    d = d.min(rows[i - 2][j - 2] + 1);
                }
                d
            };
        }
    }
    rows[a.len()][b.len()]
}
