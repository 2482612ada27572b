//! The structs and enums of Rust sources with their doc comments: as much of the language as configurations
//! use.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

/// A struct or an enum.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub name: String,
    pub file: PathBuf,
    pub doc: String,
    /// The text of its attributes.
    pub attributes: String,
    pub body: Body,
}

/// What an item, or a variant of an enum, holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Nothing,
    Fields(Vec<Field>),
    /// The types of a tuple.
    Types(Vec<String>),
    Variants(Vec<Variant>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub doc: String,
    pub attributes: String,
    /// Its type, without spaces.
    pub of: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub name: String,
    pub doc: String,
    pub attributes: String,
    pub body: Body,
    /// Names behind `=`: those of `method_config!` and `encoder_config!`.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Doc(String),
    Word(String),
    Text(String),
    Sign(char),
}

/// All items below some folders.
pub struct Sources {
    pub items: Vec<Item>,
    /// For each file the names that its `use` lines bring, with the path they come from.
    uses: BTreeMap<PathBuf, Vec<(String, Vec<String>)>>,
}

impl Sources {
    /// Reads the sources below `folders`; test files are left out.
    pub fn read(folders: &[PathBuf]) -> Self {
        let mut out = Sources { items: Vec::new(), uses: BTreeMap::new() };
        folders.iter().for_each(|folder| out.folder(folder));
        out
    }

    fn folder(&mut self, folder: &Path) {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            if stem.ends_with("tests") || stem.ends_with("_test") {
                continue;
            }
            if path.is_dir() {
                self.folder(&path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let tokens = tokens(&std::fs::read_to_string(&path).unwrap());
                self.items.extend(items(&tokens, &path));
                self.uses.insert(path, uses(&tokens));
            }
        }
    }

    /// The item that a name, or the last name of a path, means in `file`: one of the same file, one that a `use` line brings, or the only
    /// one of the same crate.
    pub fn find(&self, path: &str, file: &Path) -> Option<&Item> {
        let name = path.rsplit("::").next().unwrap_or(path);
        let all: Vec<&Item> = self.items.iter().filter(|i| i.name == name).collect();
        let own = krate(file);
        let within =
            |of: &str| -> Vec<&Item> { all.iter().filter(|i| krate(&i.file) == of).copied().collect() };
        if let Some(here) = all.iter().find(|i| i.file == file) {
            return Some(here);
        }
        if let Some((_, path)) = self.uses.get(file)?.iter().find(|(n, _)| n == name) {
            let of = match path.first()?.as_str() {
                "crate" | "super" | "self" => own.clone(),
                other => other.trim_start_matches("selfsup_").to_string(),
            };
            let found = within(&of);
            // Of several the one whose file the path names.
            let near = |i: &&&Item| {
                let file = i.file.to_string_lossy();
                path.iter().skip(1).filter(|part| file.contains(part.as_str())).count()
            };
            if let Some(best) = found.iter().max_by_key(near) {
                return Some(best);
            }
        }
        within(&own).first().copied()
    }
}

/// The folder name of a file's crate.
fn krate(file: &Path) -> String {
    let parts: Vec<_> = file.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let src = parts.iter().rposition(|p| p == "src").unwrap_or(1);
    parts[src - 1].clone()
}

/// The tokens of a source, without ordinary comments.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut c = text.chars().peekable();
    while let Some(first) = c.next() {
        match first {
            '/' if c.peek() == Some(&'/') => {
                let line: String = line(&mut c);
                if let Some(doc) = line.strip_prefix("//").filter(|l| !l.starts_with('/')) {
                    out.push(Token::Doc(doc.trim().to_string()));
                }
            }
            '"' => out.push(Token::Text(quoted(&mut c))),
            // A lifetime, or a character.
            '\'' => {
                let mut ahead = c.clone();
                let one = ahead.next();
                if one == Some('\\') || ahead.next() == Some('\'') {
                    if c.next() == Some('\\') {
                        c.next();
                    }
                    while c.next().is_some_and(|x| x != '\'') {}
                }
            }
            'r' if matches!(c.peek(), Some('"' | '#')) && raw(&mut c) => {}
            x if x.is_alphanumeric() || x == '_' => {
                let mut word = String::from(x);
                while let Some(next) = c.next_if(|n| n.is_alphanumeric() || *n == '_') {
                    word.push(next);
                }
                out.push(Token::Word(word));
            }
            x if x.is_whitespace() => {}
            x => out.push(Token::Sign(x)),
        }
    }
    out
}

fn line(c: &mut Peekable<Chars>) -> String {
    let mut out = String::new();
    while let Some(x) = c.next_if(|x| *x != '\n') {
        out.push(x);
    }
    out
}

fn quoted(c: &mut Peekable<Chars>) -> String {
    let mut out = String::new();
    while let Some(x) = c.next() {
        match x {
            '"' => break,
            '\\' => out.extend(c.next()),
            x => out.push(x),
        }
    }
    out
}

/// Passes over a raw string whose `r` is behind; nothing if it is none.
fn raw(c: &mut Peekable<Chars>) -> bool {
    let mut ahead = c.clone();
    let mut hashes = 0;
    while ahead.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if ahead.next() != Some('"') {
        return false;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let rest: String = ahead.clone().collect();
    let length = rest.find(&end).map_or(0, |at| rest[..at + end.len()].chars().count());
    if length > 0 {
        ahead.nth(length - 1);
    }
    *c = ahead;
    true
}

/// Where the bracket that opens at `at` is closed.
fn closed(t: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (i, token) in t.iter().enumerate().skip(at) {
        match token {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    t.len() - 1
}

/// Doc comments and attributes in front of something; moves `at` behind them and behind `pub`.
fn head(t: &[Token], at: &mut usize) -> (String, String) {
    let (mut doc, mut attributes) = (Vec::new(), String::new());
    while let Some(token) = t.get(*at) {
        match token {
            Token::Doc(line) => doc.push(line.clone()),
            Token::Sign('#') if t.get(*at + 1) == Some(&Token::Sign('[')) => {
                let end = closed(t, *at + 1);
                attributes += &plain(&t[*at + 2..end]);
                attributes.push(';');
                *at = end;
            }
            Token::Word(w) if w == "pub" => {
                if t.get(*at + 1) == Some(&Token::Sign('(')) {
                    *at = closed(t, *at + 1);
                }
            }
            _ => break,
        }
        *at += 1;
    }
    (doc.join("\n"), attributes)
}

/// Tokens without spaces; texts in their quotes.
fn plain(t: &[Token]) -> String {
    t.iter()
        .map(|t| match t {
            Token::Word(w) => w.clone(),
            Token::Text(s) => format!("\"{s}\""),
            Token::Sign(s) => s.to_string(),
            Token::Doc(_) => String::new(),
        })
        .collect()
}

fn items(t: &[Token], file: &Path) -> Vec<Item> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < t.len() {
        let start = i;
        let (doc, attributes) = head(t, &mut i);
        let (Some(Token::Word(what)), Some(Token::Word(name))) = (t.get(i), t.get(i + 1)) else {
            i = i.max(start) + 1;
            continue;
        };
        if what != "struct" && what != "enum" {
            i += 1;
            continue;
        }
        // Behind parameters of the type.
        let mut at = i + 2;
        while at < t.len() && !matches!(t[at], Token::Sign('{' | '(' | ';')) {
            at += 1;
        }
        let body = match (t.get(at), what.as_str()) {
            (Some(Token::Sign('{')), "struct") => Body::Fields(fields(&t[at + 1..closed(t, at)])),
            (Some(Token::Sign('{')), _) => Body::Variants(variants(&t[at + 1..closed(t, at)])),
            (Some(Token::Sign('(')), _) => Body::Types(types(&t[at + 1..closed(t, at)])),
            _ => Body::Nothing,
        };
        out.push(Item { name: name.clone(), file: file.into(), doc, attributes, body });
        i = if at < t.len() && t[at] != Token::Sign(';') { closed(t, at) } else { at } + 1;
    }
    out
}

/// Where the next comma outside of brackets is.
fn comma(t: &[Token], from: usize) -> usize {
    let mut depth = 0;
    for (i, token) in t.iter().enumerate().skip(from) {
        match token {
            Token::Sign('{' | '(' | '[' | '<') => depth += 1,
            Token::Sign('}' | ')' | ']' | '>') => depth -= 1,
            Token::Sign(',') if depth == 0 => return i,
            _ => {}
        }
    }
    t.len()
}

fn fields(t: &[Token]) -> Vec<Field> {
    let (mut out, mut i) = (Vec::new(), 0);
    while i < t.len() {
        let (doc, attributes) = head(t, &mut i);
        let end = comma(t, i);
        if let (Some(Token::Word(name)), Some(Token::Sign(':'))) = (t.get(i), t.get(i + 1)) {
            out.push(Field { name: name.clone(), doc, attributes, of: plain(&t[i + 2..end]) });
        }
        i = end + 1;
    }
    out
}

fn types(t: &[Token]) -> Vec<String> {
    let (mut out, mut i) = (Vec::new(), 0);
    while i < t.len() {
        head(t, &mut i);
        let end = comma(t, i);
        out.push(plain(&t[i..end]));
        i = end + 1;
    }
    out
}

fn variants(t: &[Token]) -> Vec<Variant> {
    let (mut out, mut i) = (Vec::new(), 0);
    while i < t.len() {
        let (doc, attributes) = head(t, &mut i);
        let end = comma(t, i);
        if let Some(Token::Word(name)) = t.get(i) {
            let body = match t.get(i + 1) {
                Some(Token::Sign('{')) => Body::Fields(fields(&t[i + 2..closed(t, i + 1)])),
                Some(Token::Sign('(')) => Body::Types(types(&t[i + 2..closed(t, i + 1)])),
                _ => Body::Nothing,
            };
            let names = t[i..end].iter().filter_map(|t| match t {
                Token::Text(name) => Some(name.clone()),
                _ => None,
            });
            out.push(Variant { name: name.clone(), doc, attributes, body, names: names.collect() });
        }
        i = end + 1;
    }
    out
}

/// The names that `use` lines bring, each with its path.
fn uses(t: &[Token]) -> Vec<(String, Vec<String>)> {
    fn tree(t: &[Token], path: &[String], out: &mut Vec<(String, Vec<String>)>) {
        let mut i = 0;
        while i < t.len() {
            let end = comma(t, i);
            let (mut path, mut at) = (path.to_vec(), i);
            while at < end {
                match &t[at] {
                    Token::Word(w) => path.push(w.clone()),
                    Token::Sign('{') => tree(&t[at + 1..closed(t, at)], &path, out),
                    _ => {}
                }
                if t[at] == Token::Sign('{') {
                    break;
                }
                at += 1;
            }
            if at == end
                && let Some(name) = path.last().cloned()
            {
                out.push((name, path));
            }
            i = end + 1;
        }
    }
    let mut out = Vec::new();
    for (i, token) in t.iter().enumerate() {
        if *token == Token::Word("use".into()) {
            let end = (i..t.len()).find(|e| t[*e] == Token::Sign(';')).unwrap_or(t.len());
            tree(&t[i + 1..end], &[], &mut out);
        }
    }
    out
}

#[test]
fn structs_enums_and_what_is_said_of_them() {
    let text = r##"
        // No doc: 'a' "x".
        use selfsup_core::{nn::Head, schedule::LrSchedule};
        const A: &str = r#"pub struct No { /// x
            a: u8 }"#;
        /// The keys
        /// of it.
        #[derive(Clone)]
        #[serde(default, rename_all = "lowercase")]
        pub struct Keys<K: Bound> {
            /// The rate's `r`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub rate: Option<f64>,
            pairs: Vec<(f32, [u8; 2])>, // trailing
        }
        method_config! {
            /// Which.
            pub enum Which {
                /// One.
                One(OneConfig) = "one",
                /// Two.
                Two { /// Pixels.
                    size: u32, },
                Three,
            }
        }
    "##;
    let tokens = tokens(text);
    let found = items(&tokens, Path::new("crates/x/src/a.rs"));
    assert_eq!(found.iter().map(|i| &*i.name).collect::<Vec<_>>(), ["Keys", "Which"]);
    assert_eq!(
        (&*found[0].doc, found[0].attributes.contains("rename_all=\"lowercase\"")),
        ("The keys\nof it.", true)
    );
    let Body::Fields(fields) = &found[0].body else { panic!("{found:?}") };
    assert_eq!(
        (&*fields[0].name, &*fields[0].doc, &*fields[0].of),
        ("rate", "The rate's `r`.", "Option<f64>")
    );
    assert_eq!((&*fields[1].name, &*fields[1].doc, &*fields[1].of), ("pairs", "", "Vec<(f32,[u8;2])>"));
    let Body::Variants(variants) = &found[1].body else { panic!("{found:?}") };
    assert_eq!(variants[0].names, ["one"]);
    assert_eq!(variants[0].body, Body::Types(vec!["OneConfig".into()]));
    assert!(matches!(&variants[1].body, Body::Fields(f) if f[0].doc == "Pixels." && f[0].of == "u32"));
    assert_eq!((&*variants[2].name, &variants[2].body), ("Three", &Body::Nothing));
    let path = |p: &[&str]| p.iter().map(|s| (*s).to_string()).collect::<Vec<_>>();
    assert_eq!(uses(&tokens)[1], ("LrSchedule".into(), path(&["selfsup_core", "schedule", "LrSchedule"])));
}
