//! The text of a table of labels as rows: CSV, TSV, JSON lines.

use super::row::{Row, Split};
use selfsup_core::{Error, Result};
use std::path::Path;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Path,
    Label,
    Transcript,
    Text,
    Mask,
    Group,
    Split,
}

fn column(name: &str) -> Option<Column> {
    let name = name.trim().to_lowercase();
    Some(match name.strip_suffix("_id").unwrap_or(&name) {
        "path" | "file" | "filename" | "id" | "image" | "audio" | "volume" => Column::Path,
        "label" | "class" | "category" | "target" => Column::Label,
        "transcript" | "transcription" | "sentence" => Column::Transcript,
        "text" => Column::Text,
        "mask" | "segmentation" => Column::Mask,
        "group" | "patient" | "speaker" | "subject" | "source" | "client" => Column::Group,
        "split" | "subset" => Column::Split,
        _ => return None,
    })
}

/// Puts a value into a row.
fn put(path: &Path, row: &mut Row, column: Column, value: &str) -> Result<()> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(());
    }
    let text = Some(value.to_string());
    match column {
        Column::Path => row.path = text,
        Column::Label => row.label = text,
        Column::Transcript | Column::Text => row.text = text,
        Column::Mask => row.mask = text,
        Column::Group => row.group = text,
        Column::Split => {
            row.split = Some(match value.to_lowercase().as_str() {
                "train" | "training" => Split::Train,
                "validation" | "valid" | "val" | "dev" => Split::Validation,
                "test" => Split::Test,
                other => {
                    let problem = format_args!(
                        "line {}: split `{other}`: expected train, validation or test",
                        row.line
                    );
                    return Err(Error::file(path, problem));
                }
            });
        }
    }
    Ok(())
}

pub(super) fn table(path: &Path, text: &str, delimiter: char) -> Result<Vec<Row>> {
    let mut lines = fields(path, text, delimiter)?.into_iter();
    let Some((_, head)) = lines.next() else { return Ok(Vec::new()) };
    let columns: Vec<Option<Column>> = head.iter().map(|h| column(h)).collect();
    for (i, c) in columns.iter().enumerate() {
        if c.is_some() && columns[..i].contains(c) {
            return Err(Error::file(
                path,
                format_args!("line 1: two columns mean the same, the second is `{}`", head[i].trim()),
            ));
        }
    }
    if !columns.iter().flatten().any(|c| matches!(c, Column::Path | Column::Text)) {
        let problem = format_args!("line 1: columns {}: expected one called path or text", head.join(", "));
        return Err(Error::file(path, problem));
    }
    let mut rows = Vec::new();
    for (line, values) in lines {
        if values.len() != head.len() {
            return Err(Error::file(
                path,
                format_args!("line {line} has {} fields, expected {} as in line 1", values.len(), head.len()),
            ));
        }
        let mut row = Row { line, ..Row::default() };
        for (c, value) in columns.iter().zip(&values) {
            if let Some(c) = c {
                put(path, &mut row, *c, value)?;
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Fields of each line that is not blank, with its number; a quoted field may hold delimiters, doubled quotes
/// and line breaks (RFC 4180).
fn fields(path: &Path, text: &str, delimiter: char) -> Result<Vec<(usize, Vec<String>)>> {
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
            '"' if field.is_empty() && delimiter != '\t' => quoted = true,
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

pub(super) fn json_lines(path: &Path, text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line)
            .map_err(|e| Error::file(path, format_args!("line {}: not JSON: {e}", i + 1)))?;
        let object = value
            .as_object()
            .ok_or_else(|| Error::file(path, format_args!("line {}: expected an object", i + 1)))?;
        let mut row = Row { line: i + 1, ..Row::default() };
        for (key, value) in object {
            let Some(c) = column(key) else { continue };
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::String(s) => put(path, &mut row, c, s)?,
                serde_json::Value::Number(n) => put(path, &mut row, c, &n.to_string())?,
                serde_json::Value::Bool(b) => put(path, &mut row, c, &b.to_string())?,
                _ => {
                    return Err(Error::file(
                        path,
                        format_args!("line {}: `{key}`: expected a text or a number", i + 1),
                    ));
                }
            }
        }
        if row.path.is_none() && row.text.is_none() {
            return Err(Error::file(path, format_args!("line {}: expected a key `path` or `text`", i + 1)));
        }
        rows.push(row);
    }
    Ok(rows)
}
