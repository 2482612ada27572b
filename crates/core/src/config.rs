//! Configuration: a TOML file, `key=value` overrides, and errors that name the key.
//!
//! Serde says what is wrong ("invalid type: string, expected f64") but often not where: inside a tagged enum (`[method] name = "simclr"`)
//! content is buffered and paths are lost. So after a failure the culprit is found by trial: take one key out, deserialise again, and
//! see whether the complaint changes. Keys that a type ignores without complaint are found by trial as well: a key is unknown if even a
//! nonsensical value (a date) under it is accepted and the key is not in what the result serialises to. Configurations are small, so
//! dozens of trials cost well below a millisecond each.

use crate::error::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Reads `text` (the contents of `file`) and then each override `dotted.key=value` into a `T`. A value is read as TOML where it is
/// TOML (`1e-3`, `true`, `[1, 2]`) and as a string otherwise. Keys that are not given take `T`'s serde defaults.
///
/// # Errors
/// [`Error::Config`] naming file, line and key: for text that is not TOML, an unknown key (with the nearest known one), a value of the
/// wrong type (with what was expected), a missing key.
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
        // The nearest enclosing key with a known place, so that a key within an overriding table is found too.
        (0..=path.len()).rev().find_map(|n| places.get(&dotted(&path[..n])).cloned()).unwrap_or_else(|| file.to_string())
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

/// What differs between two configurations: `(dotted key, old value, new value)` in the order of the keys, with `(not set)` where a
/// side does not have the key. Layout, comments and the order of keys don't count.
///
/// # Errors
/// [`Error::Config`] if either text is not TOML.
pub fn diff(old: &str, new: &str) -> Result<Vec<(String, String, String)>> {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &Value::Table(parse(old, "old configuration")?), &mut a);
    flatten("", &Value::Table(parse(new, "new configuration")?), &mut b);
    let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
    keys.sort_unstable();
    let text = |m: &BTreeMap<String, String>, k: &String| m.get(k).cloned().unwrap_or_else(|| "(not set)".into());
    Ok(keys.into_iter().filter(|k| a.get(*k) != b.get(*k)).map(|k| (k.clone(), text(&a, k), text(&b, k))).collect())
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
            let key = if path.is_empty() { k.get_ref().to_string() } else { format!("{path}.{}", k.get_ref()) };
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
    let parsed = format!("v = {value}").parse::<Table>().ok().filter(|t| t.len() == 1).and_then(|mut t| t.remove("v"));
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
            _ => return Err(refuse(&format!("`{at}` is a value of type {kind}, not a table with a key `{part}`"))),
        };
        at = if at.is_empty() { part.to_string() } else { format!("{at}.{part}") };
    }
    *node = value;
    Ok(at)
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

/// A value that no sensible key takes.
fn nonsense() -> Value {
    "v = 1979-05-27".parse::<Table>().ok().and_then(|mut t| t.remove("v")).unwrap_or(Value::Boolean(true))
}

/// The first key that `T` reads over in silence, with what `value` serialises to.
fn first_ignored<T: DeserializeOwned + Serialize>(root: &Value, value: &T) -> Option<(Vec<Seg>, Value)> {
    let written = Value::try_from(value).ok()?;
    let path = all_paths(root).into_iter().find(|path| {
        matches!(path.last(), Some(Seg::Key(_)))
            && find(&written, path).is_none()
            && try_as::<T>(&with(root, path, Some(nonsense()))).is_ok()
    })?;
    Some((path, written))
}

/// Finds the key that `message` is about.
fn diagnose<T: DeserializeOwned>(root: &Value, known: &Value, message: &str, place: &dyn Fn(&[Seg]) -> String) -> Error {
    let changes = |v: &Value| try_as::<T>(v).map_or_else(|m| m != message, |_| true);
    let quoted = quoted(message);
    if let Some(name) = message.strip_prefix("unknown field ").and(quoted.first()) {
        let same = |p: &&Vec<Seg>| p.last() == Some(&Seg::Key(name.clone()));
        let all = all_paths(root);
        let path = all.iter().filter(same).find(|p| changes(&with(root, p, None)));
        let path = path.or_else(|| all.iter().find(same)).cloned().unwrap_or_else(|| vec![Seg::Key(name.clone())]);
        let near = if quoted.len() > 1 { quoted[1..].to_vec() } else { keys_at(known, parent(&path)) };
        return unknown_key(&path, near, known, place);
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
                quoted.split_first().and_then(|(v, all)| nearest(v, all)).map(|n| format!("; did you mean `{n}`?"))
            } else {
                None
            };
            Error::config(format!("{}: `{}`: {text}{}", place(&path), dotted(&path), hint.unwrap_or_default()))
        }
        None => Error::config(format!("{}: {text}", place(&[]))),
    }
}

/// The node whose removal changes the complaint. A key that tags an enum changes it too, so nodes whose value the message shows, and
/// nodes without which all is well, go first.
fn culprit<T: DeserializeOwned>(root: &Value, message: &str) -> Option<Vec<Seg>> {
    let mut best: Option<(u32, Vec<Seg>)> = None;
    for path in all_paths(root) {
        let value = find(root, &path)?;
        let shown = match value {
            Value::Table(_) => message.starts_with("invalid type: map"),
            Value::Array(_) => message.starts_with("invalid type: sequence") || message.starts_with("invalid length"),
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
        let score = if inner && !shown { 0 } else { 1 + u32::from(other) + 2 * u32::from(shown) + 4 * u32::from(ok) };
        // Children come after their parents and are the more exact answer.
        if best.as_ref().is_none_or(|(s, p)| score > *s || (score == *s && path.starts_with(p))) {
            best = Some((score, path));
        }
    }
    best.map(|(_, path)| path)
}

fn unknown_key(path: &[Seg], near: Vec<String>, known: &Value, place: &dyn Fn(&[Seg]) -> String) -> Error {
    let (at, full) = (place(path), dotted(path));
    let Some(Seg::Key(name)) = path.last() else { return Error::config(format!("{at}: unknown key `{full}`")) };
    let sibling = |k: &str| dotted(&parent(path).iter().cloned().chain([Seg::Key(k.to_string())]).collect::<Vec<_>>());
    let elsewhere = || all_paths(known).into_iter().find(|p| p.last() == path.last()).map(|p| dotted(&p));
    let hint = match nearest(name, &near).map(|k| sibling(&k)).or_else(elsewhere) {
        Some(k) => format!("did you mean `{k}`?"),
        None if near.is_empty() => "no keys are known here".to_string(),
        None => {
            let mut all: Vec<String> = near.iter().map(|k| format!("`{k}`")).collect();
            all.sort_unstable();
            all.dedup();
            format!("expected one of {}", all.join(", "))
        }
    };
    Error::config(format!("{at}: unknown key `{full}`; {hint}"))
}

fn keys_at(v: &Value, path: &[Seg]) -> Vec<String> {
    find(v, path).and_then(Value::as_table).map(|t| t.keys().cloned().collect()).unwrap_or_default()
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

/// The candidate with the smallest edit distance to `name`, if that is small enough to be a slip of the finger.
fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    let limit = (name.chars().count() / 3).max(2);
    candidates.iter().map(|c| (distance(name, c), c)).filter(|(d, _)| *d <= limit).min().map(|(_, c)| c.clone())
}

/// Damerau-Levenshtein distance in its restricted form (insertions, deletions, substitutions, swaps of neighbours); `-` equals `_`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |s: &str| s.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let mut d = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    d = d.min(rows[i - 2][j - 2] + 1);
                }
                d
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Run {
        epochs: u64,
        learning_rate: f64,
        betas: [f64; 2],
        out: Option<String>,
        method: Method,
        data: Data,
        stages: Vec<Stage>,
    }
    impl Default for Run {
        fn default() -> Self {
            Run {
                epochs: 100,
                learning_rate: 1e-3,
                betas: [0.9, 0.999],
                out: None,
                method: Method::Simclr { temperature: 0.5, symmetric: true },
                data: Data { batch_size: 256, path: String::new(), cache: 0 },
                stages: vec![],
            }
        }
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
    enum Method {
        Simclr {
            temperature: f64,
            #[serde(default)]
            symmetric: bool,
        },
        Byol(Byol),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Byol {
        momentum: f64,
        layers: usize,
    }
    impl Default for Byol {
        fn default() -> Self {
            Byol { momentum: 0.996, layers: 2 }
        }
    }
    /// Ignores unknown keys as far as serde goes, and doesn't write one of its keys.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Data {
        batch_size: usize,
        path: String,
        #[serde(skip_serializing)]
        cache: u32,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Stage {
        name: String,
        steps: u64,
    }

    fn ok(text: &str, overrides: &[&str]) -> Run {
        load(text, "c.toml", overrides).unwrap()
    }
    fn err(text: &str, overrides: &[&str]) -> String {
        load::<Run>(text, "c.toml", overrides).unwrap_err().to_string()
    }

    #[test]
    fn files_and_overrides() {
        assert_eq!(ok("", &[]), Run::default());
        let r = ok(
            "epochs = 3\n[method]\nname = \"simclr\"\ntemperature = 0.2\n[data]\ncache = 7",
            &["learning_rate=1", "out=runs/a b", "data.batch_size = 8", "betas=[0.5, 0.6]", "data.path=2x", "betas.1=0.7"],
        );
        assert_eq!((r.epochs, r.learning_rate, r.betas, r.out.as_deref()), (3, 1.0, [0.5, 0.7], Some("runs/a b")));
        assert_eq!(r.method, Method::Simclr { temperature: 0.2, symmetric: false });
        assert_eq!(r.data, Data { batch_size: 8, path: "2x".into(), cache: 7 });
        assert_eq!(ok("", &["method.name=byol", "method.layers=3"]).method, Method::Byol(Byol { layers: 3, ..Byol::default() }));
        assert_eq!(ok("", &["method={name='byol'}"]).method, Method::Byol(Byol::default()));
        assert_eq!(ok("", &["out=1\nepochs=2"]).out.as_deref(), Some("1\nepochs=2"), "one value, not two keys");
        assert_eq!(ok("", &["out="]).out.as_deref(), Some(""));
        assert_eq!(ok(&to_toml(&r).unwrap(), &["data.cache=7"]), r);
    }

    #[test]
    fn unknown_keys() {
        assert_eq!(err("\nepoch = 1", &[]), "config: c.toml:2: unknown key `epoch`; did you mean `epochs`?");
        assert_eq!(
            err("", &["learning-rate=1"]),
            "config: override `learning-rate=1`: unknown key `learning-rate`; did you mean `learning_rate`?"
        );
        let e = err("[method]\nname = \"simclr\"\ntemperature = 0.5\ntemprature = 1.0", &[]);
        assert_eq!(e, "config: c.toml:4: unknown key `method.temprature`; did you mean `method.temperature`?");
        let e = err("[method]\nname = \"byol\"\nmomentun = 1.0", &[]);
        assert_eq!(e, "config: c.toml:3: unknown key `method.momentun`; did you mean `method.momentum`?");
        // Ignored by serde, refused here; a key that is read but not written is known.
        assert_eq!(err("[data]\nbatchsize = 1", &[]), "config: c.toml:2: unknown key `data.batchsize`; did you mean `data.batch_size`?");
        let e = err("[[stages]]\nname = \"a\"\nsteps = 1\nlr = 2", &[]);
        assert_eq!(e, "config: c.toml:4: unknown key `stages.0.lr`; expected one of `name`, `steps`");
        // The right name in the wrong place.
        assert_eq!(err("temperature = 1", &[]), "config: c.toml:1: unknown key `temperature`; did you mean `method.temperature`?");
        assert_eq!(err("batch_size = 1", &[]), "config: c.toml:1: unknown key `batch_size`; did you mean `data.batch_size`?");
    }

    #[test]
    fn wrong_values() {
        assert_eq!(
            err("epochs = \"many\"", &[]),
            "config: c.toml:1: `epochs`: invalid type: string \"many\", expected a whole number from 0"
        );
        assert_eq!(
            err("", &["epochs=-1"]),
            "config: override `epochs=-1`: `epochs`: invalid value: integer `-1`, expected a whole number from 0"
        );
        let e = err("[method]\nname = \"simclr\"\nsymmetric = true\ntemperature = \"hot\"", &[]);
        assert_eq!(e, "config: c.toml:4: `method.temperature`: invalid type: string \"hot\", expected a number");
        let e = err("[method]\nname = \"byol\"\nmomentum = 0.9\nlayers = 1.5", &[]);
        assert!(e.starts_with("config: c.toml:4: `method.layers`: invalid type: floating point `1.5`"), "{e}");
        let e = err("[method]\nname = \"simclrr\"\ntemperature = 1.0", &[]);
        assert!(e.starts_with("config: c.toml:2: `method.name`: unknown variant `simclrr`"), "{e}");
        assert!(e.ends_with("did you mean `simclr`?"), "{e}");
        let e = err("epochs = { a = 1 }", &[]);
        assert_eq!(e, "config: c.toml:1: `epochs`: invalid type: map, expected a whole number from 0");
        assert!(err("betas = [1.0]", &[]).starts_with("config: c.toml:1: `betas`: invalid length 1"));
        assert!(err("betas = [1.0, \"x\"]", &[]).contains("`betas.1`: invalid type: string \"x\", expected a number"));
        assert!(err("data = 3", &[]).contains("`data`: invalid type: integer `3`"), "{}", err("data = 3", &[]));
        let e = err("epochs = 3\n[method]\nname = \"simclr\"", &[]);
        assert_eq!(e, "config: c.toml:2: `method.temperature` is missing");
        let e = err("[[stages]]\nname = \"a\"", &[]);
        assert_eq!(e, "config: c.toml:1: `stages.0.steps` is missing");
        assert!(err("[method]\ntemperature = 1.0", &[]).contains("`method.name` is missing"));
    }

    #[test]
    fn not_toml_and_not_an_override() {
        assert!(err("epochs = 1\nx == 2", &[]).starts_with("config: c.toml:2: "));
        assert!(err("a = 1\na = 2", &[]).contains("c.toml:2: duplicate key"));
        assert!(err("", &["epochs"]).contains("override `epochs`: expected key=value"));
        assert!(err("", &[".x=1"]).contains("dotted key"));
        assert!(err("epochs = 1", &["epochs.x=1"]).contains("`epochs` is a value of type integer"));
        assert!(err("", &["betas=[1.0,2.0]", "betas.2=1"]).contains("array of 2"));
        assert!(err(&"[".repeat(100_000), &[]).starts_with("config: c.toml"));
        assert!(err(&format!("a = {}", "[".repeat(100_000)), &[]).starts_with("config: c.toml"));
    }

    #[test]
    fn differences() {
        let d = diff("a = 1\n[m]\nname = \"x\"\nt = [1, 2]", "m.name = \"y\"\nm.t = [1,2] # same\nb = true\na = 1").unwrap();
        let s = |x: &str| x.to_string();
        assert_eq!(d, [(s("b"), s("(not set)"), s("true")), (s("m.name"), s("\"x\""), s("\"y\""))]);
        assert!(diff("a = 1", "a").is_err());
        let r = Run::default();
        assert_eq!(diff(&to_toml(&r).unwrap(), &to_toml(&Run { epochs: 7, ..r }).unwrap()).unwrap(), [(s("epochs"), s("100"), s("7"))]);
    }

    #[test]
    fn distances() {
        for (a, b, d) in [("", "ab", 2), ("epochs", "epoch", 1), ("lr", "rl", 1), ("batch-size", "batch_size", 0), ("abc", "xyz", 3)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
