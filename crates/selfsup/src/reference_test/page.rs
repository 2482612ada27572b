//! The page of all keys: what the sources say of each, with the default that the program has.

use super::source::{Body, Field, Item, Sources, Token, Variant, tokens};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use toml::Value;

/// A key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Its type, in words.
    pub of: String,
    /// As TOML; nothing where it is absent.
    pub default: Option<String>,
    /// Other defaults: of fine-tuning, of other optimisers.
    pub others: Vec<String>,
    pub doc: String,
    /// Whether it is a table whose keys follow, or one of a form of its own.
    pub table: bool,
}

/// A section of a configuration file.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// `[train]`, `[method] simclr`.
    pub title: String,
    /// The modalities that have it; none for all.
    pub modalities: Vec<&'static str>,
    pub doc: String,
    pub entries: Vec<Entry>,
}

/// Finds keys in the sources.
pub struct Finder<'a> {
    pub sources: &'a Sources,
    /// Forms of tables that stand at the end of the page: by name and file.
    pub forms: BTreeMap<(String, PathBuf), Item>,
}

/// Types that are written as a text.
const TEXTS: [&str; 4] = ["String", "PathBuf", "Kind", "Device"];

impl Finder<'_> {
    /// The keys of a struct, below `prefix`.
    pub fn entries(&mut self, item: &Item, prefix: &str, defaults: Option<&Value>, out: &mut Vec<Entry>) {
        let Body::Fields(fields) = &item.body else { panic!("{} is no struct with fields", item.name) };
        for field in fields {
            if has(&field.attributes, "skip") {
                continue;
            }
            let (own, _) = inner(&field.of);
            if has(&field.attributes, "flatten") {
                let below = self.find(&own, item);
                self.entries(&below, prefix, defaults, out);
                continue;
            }
            let key = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
            self.entry(item, field, key, defaults.and_then(|d| d.get(&field.name)), out);
        }
    }

    fn entry(
        &mut self,
        of: &Item,
        field: &Field,
        key: String,
        default: Option<&Value>,
        out: &mut Vec<Entry>,
    ) {
        let (own, list) = inner(&field.of);
        let mut entry = Entry {
            key: key.clone(),
            of: self.kind(&field.of, of, false),
            default: default.map(shown),
            others: Vec::new(),
            doc: sentence(&field.doc),
            table: false,
        };
        let below = self.sources.find(&own, &of.file).filter(|_| !TEXTS.contains(&&*own)).cloned();
        match below {
            Some(below) if matches!(below.body, Body::Fields(_)) && !list && !transparent(&below) => {
                entry.table = true;
                entry.default = None;
                if entry.doc.is_empty() {
                    entry.doc = sentence(&below.doc);
                }
                out.push(entry);
                self.entries(&below, &key, default, out);
            }
            Some(below) => {
                if let (None, false, Body::Variants(variants)) =
                    (&entry.default, field.of.starts_with("Option"), &below.body)
                {
                    // Not written while it is the default, which the enum tells.
                    let first = variants.iter().find(|v| v.attributes.split(';').any(|a| a == "default"));
                    entry.default = first.map(|v| format!("\"{}\"", name_of(v, &below)));
                }
                entry.table = self.choices(&below).is_none();
                out.push(entry);
            }
            None => out.push(entry),
        }
    }

    fn find(&self, name: &str, of: &Item) -> Item {
        let found = self.sources.find(name, &of.file);
        found.unwrap_or_else(|| panic!("{}: no struct or enum {name}", of.file.display())).clone()
    }

    /// The names of an enum whose variants hold nothing.
    fn choices(&self, item: &Item) -> Option<Vec<String>> {
        let Body::Variants(variants) = &item.body else { return None };
        let plain = variants.iter().all(|v| v.body == Body::Nothing);
        plain.then(|| variants.iter().map(|v| name_of(v, item)).collect())
    }

    /// A type in words; `form` where the keys of a table do not follow.
    fn kind(&mut self, of: &str, within: &Item, form: bool) -> String {
        if let Some(inside) = of.strip_prefix("Option<").and_then(|s| s.strip_suffix('>')) {
            return self.kind(inside, within, form);
        }
        if let Some(inside) = of.strip_prefix("Vec<").and_then(|s| s.strip_suffix('>')) {
            return format!("list: {}", self.kind(inside, within, true));
        }
        if let Some((inside, n)) =
            of.strip_prefix('[').and_then(|s| s.strip_suffix(']')).and_then(|s| s.rsplit_once(';'))
        {
            return format!("list of {n}: {}", self.kind(inside, within, true));
        }
        if let Some(inside) = of.strip_prefix('(').and_then(|s| s.strip_suffix(')')) {
            let parts: Vec<String> = inside.split(',').map(|p| self.kind(p, within, true)).collect();
            return format!("list of {}: {}", parts.len(), parts.first().cloned().unwrap_or_default());
        }
        let name = of.rsplit("::").next().unwrap_or(of);
        match name {
            "bool" => "`true` or `false`".into(),
            "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "whole number".into(),
            "f32" | "f64" => "number".into(),
            name if TEXTS.contains(&name) => "text".into(),
            name => {
                let item = self.find(name, within);
                if let Some(choices) = self.choices(&item) {
                    return choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
                }
                match &item.body {
                    Body::Fields(fields) if transparent(&item) => {
                        let of = fields[0].of.clone();
                        self.kind(&of, &item, form)
                    }
                    Body::Types(types) => {
                        let of = types[0].clone();
                        self.kind(&of, &item, form)
                    }
                    Body::Fields(_) if !form => "table".into(),
                    _ => {
                        self.forms.insert((item.name.clone(), item.file.clone()), item.clone());
                        format!("table: {}", form_title(&item))
                    }
                }
            }
        }
    }

    /// The forms of tables that the keys so far have, with those that are in them.
    pub fn shown_forms(&mut self) -> String {
        let mut done: BTreeMap<(String, PathBuf), String> = BTreeMap::new();
        while let Some((key, item)) =
            self.forms.iter().find(|(key, _)| !done.contains_key(*key)).map(|(k, i)| (k.clone(), i.clone()))
        {
            let text = self.form(&item);
            done.insert(key, text);
        }
        done.into_values().collect()
    }

    fn form(&mut self, item: &Item) -> String {
        let mut out = format!("### {}\n\n{}\n", form_title(item), wrapped(&sentence(&item.doc), 0));
        match &item.body {
            Body::Fields(fields) => self.form_fields(fields, item, "", &mut out),
            Body::Variants(variants) => {
                let tag = attribute(&item.attributes, "tag");
                for variant in variants {
                    let name = name_of(variant, item);
                    let (head, fields) = match (&tag, &variant.body) {
                        (Some(tag), Body::Fields(fields)) => (format!("{tag} = \"{name}\""), fields.clone()),
                        (Some(tag), Body::Nothing) => (format!("{tag} = \"{name}\""), Vec::new()),
                        (None, Body::Nothing) => (format!("\"{name}\""), Vec::new()),
                        (None, Body::Types(types)) => {
                            let of = self.kind(&types[0], item, true);
                            (format!("{{ {name} = ... }}` ({of})`"), Vec::new())
                        }
                        other => panic!("{}: {other:?}", item.name),
                    };
                    let head = format!("`{head}`").replace("``", "");
                    out += &wrapped(&format!("- {head}: {}", sentence(&variant.doc)), 2);
                    self.form_fields(&fields, item, "  ", &mut out);
                }
            }
            _ => panic!("{}: no form", item.name),
        }
        out + "\n"
    }

    fn form_fields(&mut self, fields: &[Field], item: &Item, indent: &str, out: &mut String) {
        for field in fields {
            let of = self.kind(&field.of, item, true);
            let text = format!("{indent}- `{}` ({of}): {}", field.name, sentence(&field.doc));
            out.push_str(&wrapped(&text, indent.len() + 2));
        }
    }

    /// The variants of `[method]` or `[encoder]`: names, documentation, keys.
    pub fn named(&self, item: &Item) -> Vec<(Vec<String>, String, Item)> {
        let Body::Variants(variants) = &item.body else { panic!("{} is no enum", item.name) };
        let mut out = Vec::new();
        for v in variants {
            let Body::Types(types) = &v.body else { panic!("{}::{}", item.name, v.name) };
            out.push((v.names.clone(), sentence(&v.doc), self.find(&types[0], item)));
        }
        out
    }
}

/// The methods over views, which stand in a macro of core: names, documentation, keys.
pub fn over_views(sources: &Sources, root: &Path) -> Vec<(Vec<String>, String, Item)> {
    let file = root.join("crates/core/src/recipe.rs");
    let tokens = tokens(&std::fs::read_to_string(&file).unwrap());
    let mut out = Vec::new();
    for window in tokens.windows(4) {
        if let [Token::Word(_), Token::Word(config), Token::Text(name), Token::Text(doc)] = window {
            let item = sources.items.iter().find(|i| i.name == *config).unwrap();
            out.push((vec![name.clone()], doc.clone(), item.clone()));
        }
    }
    assert!(out.len() > 5, "the list of methods over views is not found");
    out
}

fn form_title(item: &Item) -> String {
    let crate_of = item.file.iter().rev().skip_while(|p| *p != "src").nth(1);
    let of = match crate_of.and_then(|c| c.to_str()) {
        Some("vision") => " (images)",
        Some("speech") => " (recordings)",
        Some("medical") => " (volumes)",
        Some("text") => " (texts)",
        Some("signals") => " (signals)",
        _ => "",
    };
    format!("{}{of}", item.name)
}

fn transparent(item: &Item) -> bool {
    has(&item.attributes, "transparent")
}

/// Whether serde's attributes have this word.
fn has(attributes: &str, word: &str) -> bool {
    let parts = attributes.split(';').filter_map(|a| a.strip_prefix("serde(")?.strip_suffix(')'));
    parts.flat_map(|p| p.split(',')).any(|p| p == word)
}

/// The value of one of serde's attributes.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let rest = attributes.split(&format!("{name}=\"")).nth(1)?;
    Some(rest.split('"').next()?.to_string())
}

/// How serde calls a variant.
fn name_of(variant: &Variant, item: &Item) -> String {
    if let Some(name) = attribute(&variant.attributes, "rename") {
        return name;
    }
    let separator = match attribute(&item.attributes, "rename_all").as_deref() {
        Some("kebab-case") => "-",
        Some("snake_case") => "_",
        Some("lowercase") => "",
        other => panic!("{}: rename_all = {other:?}", item.name),
    };
    let mut out = String::new();
    for (i, c) in variant.name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out += separator;
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// The innermost type, and whether it stands in a list.
fn inner(of: &str) -> (String, bool) {
    let (mut of, mut list) = (of, false);
    loop {
        if let Some(rest) = of.strip_prefix("Option<").and_then(|s| s.strip_suffix('>')) {
            of = rest;
        } else if let Some(rest) = of.strip_prefix("Vec<").and_then(|s| s.strip_suffix('>')) {
            (of, list) = (rest, true);
        } else {
            return (of.rsplit("::").next().unwrap_or(of).to_string(), list);
        }
    }
}

/// A doc comment as a line of text, links as their names.
pub fn sentence(doc: &str) -> String {
    let mut text = doc.split_whitespace().collect::<Vec<_>>().join(" ");
    // [`name`](path) and [`name`].
    while let Some(at) = text.find("[`") {
        let Some(end) = text[at..].find("`]").map(|e| at + e) else { break };
        let mut behind = end + 2;
        if text[behind..].starts_with('(')
            && let Some(close) = text[behind..].find(')')
        {
            behind += close + 1;
        }
        text = format!("{}{}{}", &text[..at], &text[at + 1..=end], &text[behind..]);
    }
    text
}

/// A value as TOML; single-precision numbers with the digits that they have.
pub fn shown(v: &Value) -> String {
    match v {
        Value::Float(x) if f64::from(*x as f32) == *x => {
            let text = format!("{:?}", *x as f32);
            if text.contains('e') { format!("{x:e}") } else { text }
        }
        Value::Float(x) => format!("{x:?}"),
        Value::Array(a) => format!("[{}]", a.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Table(t) if t.is_empty() => "{}".into(),
        Value::Table(t) => {
            let all: Vec<String> = t.iter().map(|(k, v)| format!("{k} = {}", shown(v))).collect();
            format!("{{ {} }}", all.join(", "))
        }
        other => other.to_string(),
    }
}

/// Lines of at most 110 columns; the later ones are indented.
pub fn wrapped(text: &str, indent: usize) -> String {
    let lead: String = text.chars().take_while(|c| *c == ' ').collect();
    let (mut out, mut line) = (String::new(), lead);
    for word in text.split_whitespace() {
        let fresh = line.trim().is_empty();
        if !fresh && line.chars().count() + 1 + word.chars().count() > 110 {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(indent);
            line += word;
        } else {
            if !fresh {
                line.push(' ');
            }
            line += word;
        }
    }
    out + &line + "\n"
}

/// A section on the page.
pub fn section(s: &Section) -> String {
    let of = if s.modalities.is_empty() { String::new() } else { format!(": {}", s.modalities.join(", ")) };
    let mut out = format!("### {}{of}\n\n", s.title);
    if !s.doc.is_empty() {
        out += &wrapped(&s.doc, 0);
        out.push('\n');
    }
    if s.entries.is_empty() {
        out += "No keys of its own.\n";
    }
    for e in &s.entries {
        let mut default = e.default.as_ref().map_or(String::new(), |d| format!(", default `{d}`"));
        e.others.iter().for_each(|other| default += &format!(", {other}"));
        out += &wrapped(&format!("- `{}` ({}{default}): {}", e.key, e.of, e.doc), 2);
    }
    out + "\n"
}
