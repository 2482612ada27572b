//! The cells of a table as they are written: CSV, TSV, JSON lines and JSON arrays.

use super::columns::Spread;
use selfsup_core::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How deep keys of nested JSON are looked for.
const DEPTH: usize = 8;

/// A value of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// A text, or a number or truth value as it is written.
    Text(String),
    /// A list.
    List,
}

/// A table: names of columns, and the cells of each line that has some.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) head: Vec<String>,
    /// The line, from 1, and cells with their columns; what is absent has no cell.
    pub(super) lines: Vec<(usize, Vec<(usize, Cell)>)>,
}

impl Cells {
    /// How the values of a column differ.
    pub(super) fn spread(&self, column: usize) -> Spread {
        let mut seen = BTreeSet::new();
        let mut filled = 0;
        for (_, cells) in &self.lines {
            let Some((_, Cell::Text(text))) = cells.iter().find(|(c, _)| *c == column) else { continue };
            let text = text.trim();
            if !text.is_empty() {
                filled += 1;
                seen.insert(text);
            }
        }
        Spread { filled, distinct: seen.len() }
    }

    /// A CSV or TSV table with a head.
    ///
    /// # Errors
    /// Naming the line: a quoted field that does not end, a wrong number of fields.
    pub(super) fn delimited(path: &Path, text: &str, delimiter: char) -> Result<Self> {
        let quotes = delimiter != '\t' || quoted_throughout(text.lines().next().unwrap_or_default());
        let mut lines = fields(path, text, delimiter, quotes)?.into_iter();
        let Some((_, head)) = lines.next() else { return Ok(Cells::default()) };
        let mut out = Vec::new();
        for (line, values) in lines {
            if values.len() != head.len() {
                let problem = format_args!(
                    "line {line} has {} fields, expected {} as in line 1",
                    values.len(),
                    head.len()
                );
                return Err(Error::file(path, problem));
            }
            out.push((line, values.into_iter().map(Cell::Text).enumerate().collect()));
        }
        Ok(Cells { head, lines: out })
    }

    /// JSON: a line an object, an array of objects, or an object that holds one such array.
    ///
    /// # Errors
    /// Naming the line: not JSON, no object.
    pub(super) fn json(path: &Path, text: &str) -> Result<Self> {
        let mut cells = Cells::default();
        let mut places = BTreeMap::new();
        for (line, value) in objects(path, text)? {
            if !value.is_object() {
                return Err(Error::file(path, format_args!("line {line}: expected an object")));
            }
            let mut row = Vec::new();
            flatten(String::new(), value, DEPTH, &mut |key, cell| {
                let next = places.len();
                let column = *places.entry(key).or_insert(next);
                row.push((column, cell));
            });
            cells.lines.push((line, row));
        }
        cells.head = vec![String::new(); places.len()];
        places.into_iter().for_each(|(key, column)| cells.head[column] = key);
        Ok(cells)
    }
}

/// Keys of nested objects as paths (`meta.patient`).
fn flatten(key: String, value: Value, depth: usize, put: &mut impl FnMut(String, Cell)) {
    match value {
        Value::Null => {}
        Value::String(text) => put(key, Cell::Text(text)),
        Value::Number(n) => put(key, Cell::Text(n.to_string())),
        Value::Bool(b) => put(key, Cell::Text(b.to_string())),
        Value::Array(_) => put(key, Cell::List),
        Value::Object(object) if depth > 0 => {
            for (name, value) in object {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                flatten(key, value, depth - 1, put);
            }
        }
        Value::Object(_) => put(key, Cell::List),
    }
}

/// The values of a JSON file with the lines that they begin in.
fn objects(path: &Path, text: &str) -> Result<Vec<(usize, Value)>> {
    let wrong =
        |line: usize, e: serde_json::Error| Error::file(path, format_args!("line {line}: not JSON: {e}"));
    if text.trim_start().starts_with('[') {
        return array(path, text);
    }
    // One object may hold the array: {"data": [{...}, ...]}.
    let mut written = text.lines().filter(|l| !l.trim().is_empty());
    let first = written.next().unwrap_or_default();
    let alone = written.next().is_none();
    if (alone || serde_json::from_str::<Value>(first).is_err())
        && let Ok(Value::Object(whole)) = serde_json::from_str::<Value>(text)
    {
        let objects = |v: &Value| v.as_array().is_some_and(|list| list.first().is_some_and(Value::is_object));
        let lists = whole.values().filter(|v| objects(v)).count();
        if lists == 1 {
            // Lines inside of it are not known: items are counted instead.
            let list = whole.into_iter().map(|(_, v)| v).find(objects);
            let items = if let Some(Value::Array(items)) = list { items } else { Vec::new() };
            return Ok(items.into_iter().enumerate().map(|(i, v)| (i + 1, v)).collect());
        }
        if !alone {
            let problem = format_args!("holds {lists} lists of objects, expected one, or an object a line");
            return Err(Error::file(path, problem));
        }
    }
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    lines.map(|(i, l)| Ok((i + 1, serde_json::from_str(l).map_err(|e| wrong(i + 1, e))?))).collect()
}

/// The items of a JSON array with the lines that they begin in.
fn array(path: &Path, text: &str) -> Result<Vec<(usize, Value)>> {
    let (mut items, mut line) = (Vec::new(), 1);
    let mut rest = text;
    // Steps over white space and one mark, and counts lines.
    let mut at = text.find('[').map_or(text.len(), |i| i + 1);
    loop {
        line += rest[..at].matches('\n').count();
        rest = &rest[at..];
        let skipped = rest.len() - rest.trim_start().len();
        line += rest[..skipped].matches('\n').count();
        rest = &rest[skipped..];
        if let Some(end) = rest.strip_prefix(']') {
            if end.trim().is_empty() {
                return Ok(items);
            }
            return Err(Error::file(path, format_args!("line {line}: text after the end of the array")));
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => items.push((line, value)),
            Some(Err(e)) => return Err(Error::file(path, format_args!("line {line}: not JSON: {e}"))),
            None => return Err(Error::file(path, format_args!("line {line}: the array does not end"))),
        }
        at = values.byte_offset();
        let after = rest[at..].trim_start();
        if let Some(next) = after.strip_prefix(',') {
            at = rest.len() - next.len();
        } else if !after.starts_with(']') {
            return Err(Error::file(path, format_args!("line {line}: expected , or ] after this item")));
        }
    }
}

/// Whether each cell of the first line of a TSV file stands in quotes: then quotes are quoting in the whole
/// file, else they are characters.
fn quoted_throughout(head: &str) -> bool {
    let cells = head.trim_end_matches('\r').split('\t');
    cells.clone().all(|c| c.len() > 1 && c.starts_with('"') && c.ends_with('"'))
}

/// Fields of each line that is not blank, with its number; where there are `quotes`, a quoted field may hold
/// delimiters, doubled quotes and line breaks (RFC 4180).
fn fields(path: &Path, text: &str, delimiter: char, quotes: bool) -> Result<Vec<(usize, Vec<String>)>> {
    let (mut out, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut started, mut quoted) = (1, 1, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if quotes && field.is_empty() => quoted = true,
            '\n' if !quoted => {
                if field.ends_with('\r') {
                    field.pop();
                }
                row.push(std::mem::take(&mut field));
                if row.iter().any(|f| !f.trim().is_empty()) {
                    out.push((started, std::mem::take(&mut row)));
                }
                row.clear();
                line += 1;
                started = line;
            }
            c if c == delimiter && !quoted => row.push(std::mem::take(&mut field)),
            c => {
                line += usize::from(c == '\n');
                field.push(c);
            }
        }
    }
    if quoted {
        return Err(Error::file(path, format_args!("line {started}: a quoted field does not end")));
    }
    row.push(field);
    if row.iter().any(|f| !f.trim().is_empty()) {
        out.push((started, row));
    }
    Ok(out)
}
