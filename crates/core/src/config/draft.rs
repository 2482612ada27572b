//! A configuration as it was given: a file, what stands below it and what the command line changes, parsed
//! once and asked before its type is known.
//!
//! Layers are merged key by key, the higher one wins: defaults, what stands below ([`Draft::below`]: a run's
//! configuration), the file, the overrides. Sections whose keys depend on one of them (`method.name`,
//! `optim.schedule.kind`) are not mixed: where a higher layer changes that tag, it replaces the section
//! whole. Serde says which keys are tags: without its tag an internally tagged enum cannot be read.

use super::diagnose::{Said, diagnose, first_ignored, unknown_key};
use super::path::{Keeps, Seg, TAGS, child, dotted, find, path_of, put, try_as};
use super::text::{lines, parse};
use crate::error::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A configuration as it was given.
#[derive(Clone, Debug)]
pub struct Draft {
    below: Vec<(Table, String)>,
    file: Table,
    origin: String,
    places: BTreeMap<String, String>,
    overrides: Vec<Override>,
    owner: Option<fn(&str) -> Option<String>>,
}

#[derive(Clone, Debug)]
struct Override {
    path: Vec<Seg>,
    value: Value,
    shown: String,
}

/// A key, or a section with all its keys, that nothing reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its dotted path.
    pub key: String,
    /// Who would read it, and why nothing does here: follows the key in a sentence.
    pub why: String,
    /// A key that takes its place: an override of that one over a file with this one is no fault.
    pub instead: Option<&'static str>,
}

impl Unread {
    /// A key with the reason.
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> Unread {
        Unread { key: key.into(), why: why.into(), instead: None }
    }

    /// Several keys of one section with one reason.
    pub fn all(section: &str, keys: &[&str], why: &str) -> Vec<Unread> {
        keys.iter().map(|key| Unread::new(format!("{section}.{key}"), why)).collect()
    }

    /// The same where another key takes their place.
    pub fn all_instead(section: &str, keys: &[&str], instead: &'static str, why: &str) -> Vec<Unread> {
        let mut all = Unread::all(section, keys, why);
        all.iter_mut().for_each(|u| u.instead = Some(instead));
        all
    }
}

impl Draft {
    /// Parses `text`, the contents of `origin`.
    ///
    /// # Errors
    /// If it is not TOML, naming the line.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        Ok(Draft {
            below: Vec::new(),
            file: parse(text, origin)?,
            origin: origin.to_string(),
            places: lines(text, origin),
            overrides: Vec::new(),
            owner: None,
        })
    }

    /// Adds the override `dotted.key = value`; spaces around the `=` do not count. A value is read as TOML
    /// where it is TOML (`1e-3`, `true`, `[1, 2]`, `"text"`) and as a string otherwise.
    ///
    /// # Errors
    /// If the text has no `=`, or no key before it.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let refuse = |why: &str| Error::config(format!("override `{text}`: {why}"));
        let (key, value) = text.split_once('=').ok_or_else(|| refuse("expected key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(|part| part.trim().is_empty()) {
            return Err(refuse("expected a dotted key before the `=`"));
        }
        // A text that is several lines of TOML is not a value.
        let parsed = format!("v = {value}")
            .parse::<Table>()
            .ok()
            .filter(|t| t.len() == 1)
            .and_then(|mut t| t.remove("v"));
        let value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
        self.overrides.push(Override { path: path_of(key), value, shown: text.to_string() });
        Ok(())
    }

    /// Adds an override whose value is this text, whatever it looks like.
    pub fn set_text(&mut self, key: &str, text: &str) {
        let value = Value::String(text.to_string());
        self.overrides.push(Override { path: path_of(key), shown: format!("{key}={value}"), value });
    }

    /// Puts a layer below the file, above those that are there; `origin` names it in messages.
    pub fn below(&mut self, layer: Table, origin: &str) {
        self.below.push((layer, origin.to_string()));
    }

    /// Sets who is asked for the owner of a key that is unknown here: the name of another modality.
    pub fn set_owner(&mut self, owner: fn(&str) -> Option<String>) {
        self.owner = Some(owner);
    }

    /// Whether the file has keys.
    pub fn has_file(&self) -> bool {
        !self.file.is_empty()
    }

    /// What the highest layer that has the key says.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let path = path_of(key);
        self.overridden(key)
            .or_else(|| find_in(&self.file, &path))
            .or_else(|| self.below.iter().rev().find_map(|(layer, _)| find_in(layer, &path)))
    }

    /// What the overrides alone say of a key.
    pub fn overridden(&self, key: &str) -> Option<&Value> {
        let path = path_of(key);
        self.overrides
            .iter()
            .rev()
            .filter(|o| path.starts_with(&o.path))
            .find_map(|o| find(&o.value, &path[o.path.len()..]))
    }

    /// [`Draft::get`] where that is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The configuration, as a `T` with its serde defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming file, line and key: an unknown key (with the nearest known one, or with who
    /// has it), a value of the wrong type (with what was expected), a missing key.
    pub fn load<T: DeserializeOwned + Serialize + Default>(&self) -> Result<T> {
        self.load_over(&T::default(), &|_, _, _| None)
    }

    /// The same over other defaults, with tags that serde does not know of (see [`Keeps`]).
    ///
    /// # Errors
    /// As [`Draft::load`].
    pub fn load_over<T: DeserializeOwned + Serialize>(&self, defaults: &T, keeps: Keeps) -> Result<T> {
        let known = Value::try_from(defaults).unwrap_or_else(|_| Value::Table(Table::new()));
        let (root, places) = self.merged::<T>(&known, keeps)?;
        let place = |path: &[Seg]| {
            // The nearest enclosing key with a known place, so that a key within an overriding table is found
            // too.
            (0..=path.len())
                .rev()
                .find_map(|n| places.get(&dotted(&path[..n])).cloned())
                .unwrap_or_else(|| self.origin.clone())
        };
        let said = Said { root: &root, known: &known, place: &place, owner: self.owner, keeps };
        match try_as::<T>(&root) {
            Err(message) => Err(diagnose::<T>(&said, &message)),
            Ok(value) => match first_ignored::<T>(&root, &value) {
                None => Ok(value),
                Some((path, written)) => Err(unknown_key::<T>(&said, &path, Some(&written), Vec::new())),
            },
        }
    }

    /// All layers in one, and where each key was given.
    fn merged<T: DeserializeOwned>(
        &self,
        known: &Value,
        keeps: Keeps,
    ) -> Result<(Value, BTreeMap<String, String>)> {
        let tags = Tags { known, keeps, is_tag: &is_tag::<T> };
        let (mut root, mut places) = (Table::new(), BTreeMap::new());
        for (layer, origin) in &self.below {
            tags.overlay(&mut root, layer, &mut Vec::new());
            let all = super::path::all_paths(&Value::Table(layer.clone()));
            places.extend(all.iter().map(|path| (dotted(path), origin.clone())));
        }
        tags.overlay(&mut root, &self.file, &mut Vec::new());
        places.extend(self.places.clone());
        let mut root = Value::Table(root);
        for o in &self.overrides {
            // Among overrides the last tag counts, wherever it stands between the keys that it goes with.
            if let Some((Seg::Key(tag), section)) = o.path.split_last()
                && TAGS.contains(&tag.as_str())
                && let (Some(new), Some(Value::Table(lower))) =
                    (self.overridden(&dotted(&o.path)), find(&root, section))
            {
                let upper = Table::from_iter([(tag.clone(), new.clone())]);
                if tags.change(section, lower, &upper) {
                    put(&mut root, section, Value::Table(Table::new()));
                }
                put(&mut root, &o.path, new.clone());
            }
        }
        if let (Value::Table(root), Value::Table(defaults)) = (&mut root, known) {
            let stated = |path: &[Seg]| self.overridden(&dotted(path)).is_some();
            tags.fill(root, defaults, &mut Vec::new(), &stated);
        }
        for o in &self.overrides {
            o.apply(&mut root)?;
            places.insert(dotted(&o.path), format!("override `{}`", o.shown));
        }
        Ok((root, places))
    }

    /// Refuses a key that the file or an override gives and that nothing reads. A key whose value changes
    /// nothing (the default, written out) is no fault.
    ///
    /// # Errors
    /// Naming place and key.
    pub fn refuse_unread<T: PartialEq>(
        &self,
        unread: &[Unread],
        config: &T,
        load: &dyn Fn(&Draft) -> Result<T>,
    ) -> Result<()> {
        for key in self.given() {
            let Some(found) = unread.iter().find(|u| below(&key, &u.key)) else { continue };
            if load(&self.without(&key)).is_ok_and(|other| other == *config) {
                continue;
            }
            let by = self.overrides.iter().rev().find(|o| below(&key, &dotted(&o.path)));
            if by.is_none() && found.instead.is_some_and(|other| self.overridden(other).is_some()) {
                continue;
            }
            let place = match by {
                Some(o) => format!("override `{}`", o.shown),
                None => self.places.get(&key).cloned().unwrap_or_else(|| self.origin.clone()),
            };
            return Err(Error::config(format!("{place}: `{key}` {}", found.why)));
        }
        Ok(())
    }

    /// The dotted paths of all values that the file and the overrides give, in that order.
    pub fn given(&self) -> Vec<String> {
        fn walk(v: &Value, path: String, out: &mut Vec<String>) {
            match v {
                Value::Table(t) => t.iter().for_each(|(k, v)| walk(v, join(&path, k), out)),
                _ => out.push(path),
            }
        }
        let mut out = Vec::new();
        walk(&Value::Table(self.file.clone()), String::new(), &mut out);
        self.overrides.iter().for_each(|o| walk(&o.value, dotted(&o.path), &mut out));
        out
    }

    /// The same without what the file and the overrides say of a key.
    fn without(&self, key: &str) -> Draft {
        let path = path_of(key);
        let mut out = self.clone();
        out.file = remove(out.file, &path);
        out.overrides.retain(|o| !o.path.starts_with(&path));
        for o in &mut out.overrides {
            if path.starts_with(&o.path)
                && let Value::Table(t) = &o.value
            {
                o.value = Value::Table(remove(t.clone(), &path[o.path.len()..]));
            }
        }
        out
    }
}

impl Override {
    fn apply(&self, root: &mut Value) -> Result<()> {
        let refuse = |why: String| Err(Error::config(format!("override `{}`: {why}", self.shown)));
        let mut node = root;
        for (i, part) in self.path.iter().enumerate() {
            let (kind, at, part) =
                (node.type_str(), dotted(&self.path[..i]), dotted(std::slice::from_ref(part)));
            node = match node {
                Value::Table(t) => t.entry(part).or_insert_with(|| Value::Table(Table::new())),
                Value::Array(a) => {
                    let n = a.len();
                    match part.parse::<usize>().ok().and_then(|i| a.get_mut(i)) {
                        Some(element) => element,
                        None => {
                            return refuse(format!(
                                "`{at}` is an array of {n}: `{part}` is not an index of it"
                            ));
                        }
                    }
                }
                _ => {
                    return refuse(format!(
                        "`{at}` is a value of type {kind}, not a table with a key `{part}`"
                    ));
                }
            };
        }
        *node = self.value.clone();
        Ok(())
    }
}

/// Whether a key of a section of the known keys is a tag: its value decides which other keys there are.
type IsTag<'a> = &'a dyn Fn(&Value, &[Seg], &Table, &str) -> bool;

/// Merges layers by what their tags say.
struct Tags<'a> {
    known: &'a Value,
    keeps: Keeps<'a>,
    is_tag: IsTag<'a>,
}

impl Tags<'_> {
    /// Whether `upper` gives the section another tag than `lower` has, so that the keys of `lower` mean
    /// nothing to it.
    fn change(&self, section: &[Seg], lower: &Table, upper: &Table) -> bool {
        TAGS.iter().any(|tag| {
            let path = child(section, tag);
            // A section without its tag has that of the defaults.
            let old = lower.get(*tag).or_else(|| find(self.known, &path)).and_then(Value::as_str);
            match (old, upper.get(*tag).and_then(Value::as_str)) {
                (Some(old), Some(new)) if old != new => match (self.keeps)(&dotted(&path), old, new) {
                    Some(keeps) => !keeps,
                    None => (self.is_tag)(self.known, section, lower, tag),
                },
                _ => false,
            }
        })
    }

    fn overlay(&self, root: &mut Table, upper: &Table, at: &mut Vec<Seg>) {
        for (key, value) in upper {
            at.push(Seg::Key(key.clone()));
            match (root.get_mut(key), value) {
                (Some(Value::Table(lower)), Value::Table(upper)) => {
                    if self.change(at, lower, upper) {
                        lower.clear();
                    }
                    self.overlay(lower, upper, at);
                }
                _ => {
                    root.insert(key.clone(), value.clone());
                }
            }
            at.pop();
        }
    }

    /// Puts defaults where nothing is given. A section whose tag is given has the defaults of that tag, which
    /// serde knows.
    fn fill(&self, root: &mut Table, defaults: &Table, at: &mut Vec<Seg>, stated: &dyn Fn(&[Seg]) -> bool) {
        for (key, value) in defaults {
            at.push(Seg::Key(key.clone()));
            match (root.get_mut(key), value) {
                (Some(Value::Table(given)), Value::Table(default)) => {
                    if !self.own(at, given, default, stated) {
                        self.fill(given, default, at, stated);
                    }
                }
                (Some(_), _) => {}
                (None, Value::Table(default)) => {
                    let mut given = Table::new();
                    if !self.own(at, &given, default, stated) {
                        self.fill(&mut given, default, at, stated);
                        root.insert(key.clone(), Value::Table(given));
                    }
                }
                (None, value) => {
                    root.insert(key.clone(), value.clone());
                }
            }
            at.pop();
        }
    }

    /// Whether the tag of a section is given.
    fn own(&self, section: &[Seg], given: &Table, default: &Table, stated: &dyn Fn(&[Seg]) -> bool) -> bool {
        TAGS.iter().any(|tag| {
            let path = child(section, tag);
            let default = default.get(*tag).and_then(Value::as_str);
            (given.contains_key(*tag) || stated(&path))
                && default.is_some_and(|d| {
                    (self.keeps)(&dotted(&path), d, d).is_some()
                        || (self.is_tag)(self.known, section, &Table::new(), tag)
                })
        })
    }
}

/// Whether serde wants the key `tag` in a section before it looks at the others.
fn is_tag<T: DeserializeOwned>(known: &Value, section: &[Seg], keys: &Table, tag: &str) -> bool {
    let mut keys = keys.clone();
    keys.remove(tag);
    let mut probe = known.clone();
    put(&mut probe, section, Value::Table(keys));
    try_as::<T>(&probe).is_err_and(|m| m.starts_with(&format!("missing field `{tag}`")))
}

fn remove(mut table: Table, path: &[Seg]) -> Table {
    match path {
        [Seg::Key(last)] => {
            table.remove(last);
        }
        [Seg::Key(first), rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(first) {
                *inner = remove(std::mem::take(inner), rest);
            }
        }
        _ => {}
    }
    table
}

fn find_in<'a>(table: &'a Table, path: &[Seg]) -> Option<&'a Value> {
    match path.split_first()? {
        (Seg::Key(first), rest) => find(table.get(first)?, rest),
        _ => None,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// Whether `key` is `section` or one of its keys.
fn below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
