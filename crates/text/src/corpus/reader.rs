//! Reading texts: plain files, JSON lines and tables with a column of text, as they are or compressed by gzip
//! or zstd.
//!
//! The name decides the format (`.txt`, `.md`, `.jsonl`, `.json`, `.csv`, `.tsv`, with `.gz` or `.zst` behind
//! it). The reader goes through files line by line, in the order of their paths; a `.json` is read whole. In a
//! TSV file a quote is a character, unless each cell of its first line stands in quotes.

use super::items::{items, text_of};
use super::lines::Lines;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// What one document of a plain text file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// Each line that is not blank.
    #[default]
    Line,
    /// Lines between blank lines.
    Paragraph,
    /// The whole file, with its line ends.
    File,
}

/// A text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// File and line, for messages.
    pub id: String,
    /// The text.
    pub text: String,
}

/// Endings of files with text, in front of those of compression.
const PLAIN: [&str; 3] = ["txt", "text", "md"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    JsonLines,
    Json,
    Table(u8),
}

fn format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending {
        e if PLAIN.contains(&e) => Format::Plain,
        "jsonl" | "ndjson" => Format::JsonLines,
        "json" => Format::Json,
        "csv" => Format::Table(b','),
        "tsv" => Format::Table(b'\t'),
        _ => return None,
    })
}

/// The files of text at `path`: itself, or all below a folder by their names, sorted. Hidden ones are left
/// out, and files in `.json` where there are others: they accompany them.
///
/// # Errors
/// If there is none, or a folder cannot be read.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let path = entry.map_err(|e| Error::io(&folder, e))?.path();
            let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            // A link to a folder could lead in circles.
            if !hidden && path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if !hidden && path.is_file() && format(&path).is_some() {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::file(
            path,
            "no files of text, expected txt, md, jsonl, json, csv or tsv, as they are or with .gz or .zst",
        ));
    }
    if found.iter().any(|f| format(f) != Some(Format::Json)) {
        found.retain(|f| format(f) != Some(Format::Json));
    }
    found.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(found)
}

/// An estimate of the bytes of text in `files`, without reading them: compressed files count four times.
///
/// # Errors
/// If a file cannot be looked at.
pub fn weight(files: &[PathBuf]) -> Result<u64> {
    let compressed = |p: &PathBuf| {
        p.extension()
            .is_some_and(|e| ["gz", "zst", "zstd", "parquet"].iter().any(|c| e.eq_ignore_ascii_case(c)))
    };
    let size = |p: &PathBuf| {
        Ok(std::fs::metadata(p).map_err(|e| Error::io(p, e))?.len() * if compressed(p) { 4 } else { 1 })
    };
    files.iter().map(size).sum()
}

/// Reads the documents of files one after the other.
pub struct Reader {
    files: VecDeque<PathBuf>,
    unit: Unit,
    column: String,
    open: Option<Open>,
    failed: bool,
    /// Files that were read to the end, and those of them without a text.
    read: usize,
    empty: Vec<PathBuf>,
}

struct Open {
    path: PathBuf,
    lines: Lines,
    format: Format,
    /// The column of a table with the text.
    column: usize,
    /// Whether cells of a table may stand in quotes.
    quoted: bool,
    /// Lines and texts of a JSON file that was read whole.
    items: VecDeque<(usize, String)>,
    /// Rows of a table that have been read and not yet given out.
    found: bool,
}

impl Reader {
    /// Of `files`; `column` names the column that holds the text in tables, or the key in JSON (in nested
    /// objects by its path, `meta.text`).
    pub fn new(files: Vec<PathBuf>, unit: Unit, column: &str) -> Self {
        let (open, failed, read, empty) = (None, false, 0, Vec::new());
        Reader { files: files.into(), unit, column: column.to_string(), open, failed, read, empty }
    }

    /// The files without a text among those that were read.
    pub fn empty(&self) -> &[PathBuf] {
        &self.empty
    }

    fn open(&self, path: PathBuf) -> Result<Open> {
        let format = format(&path).unwrap_or(Format::Plain);
        let lines = Lines::open(&path)?;
        let (column, quoted, items_read) = (0, false, VecDeque::new());
        let mut open = Open { lines, path, format, column, quoted, items: items_read, found: false };
        if format == Format::Json {
            open.items = items(&mut open.lines, &open.path, &self.column)?;
        }
        if let Format::Table(separator) = format {
            // A file without a first line is an empty one.
            let Some(mut header) = open.lines.next(&open.path)? else { return Ok(open) };
            let separator = if separator == b'\t' || header.contains(',') {
                separator
            } else {
                [b';', b'\t'].into_iter().find(|s| header.as_bytes().contains(s)).unwrap_or(separator)
            };
            open.format = Format::Table(separator);
            open.quoted = !path_is_tsv(&open.path) || quoted_throughout(&header);
            if open.quoted {
                open.lines.rest_of_row(&open.path, separator, &mut header)?;
            }
            let names = cells(&header, separator, &open)?;
            open.column = names.iter().position(|n| n.trim() == self.column).ok_or_else(|| {
                Error::file(
                    &open.path,
                    format!("no column \"{}\", the columns are {}", self.column, names.join(", ")),
                )
            })?;
        }
        Ok(open)
    }

    /// The next document of the open file.
    fn step(unit: Unit, column: &str, open: &mut Open) -> Result<Option<Document>> {
        let path = open.path.clone();
        loop {
            let (text, line) = match open.format {
                Format::Plain => {
                    let (mut text, mut first) = (String::new(), open.lines.line + 1);
                    while let Some(line) = open.lines.next(&path)? {
                        let blank = line.trim().is_empty();
                        if unit == Unit::Line {
                            text = line;
                            first = open.lines.line;
                            break;
                        }
                        if unit == Unit::Paragraph && blank {
                            if !text.is_empty() {
                                break;
                            }
                            first = open.lines.line + 1;
                            continue;
                        }
                        text.push_str(&line);
                    }
                    if text.is_empty() {
                        return Ok(None);
                    }
                    (text, first)
                }
                Format::JsonLines => {
                    let Some(line) = open.lines.next(&path)? else { return Ok(None) };
                    if line.trim().is_empty() {
                        continue;
                    }
                    let at = open.lines.line;
                    let json: serde_json::Value = serde_json::from_str(&line)
                        .map_err(|e| Error::file(&path, format!("line {at}: not JSON: {e}")))?;
                    (text_of(&path, at, &json, column)?, at)
                }
                Format::Json => match open.items.pop_front() {
                    Some((line, text)) => (text, line),
                    None => return Ok(None),
                },
                Format::Table(separator) => {
                    let at = open.lines.line + 1;
                    let Some(row) = open.lines.row(&path, separator, open.quoted)? else { return Ok(None) };
                    let row = cells(&row, separator, open)?;
                    if row.is_empty() || row.iter().all(|c| c.trim().is_empty()) {
                        continue;
                    }
                    let text = row.get(open.column).cloned().ok_or_else(|| {
                        Error::file(
                            &path,
                            format!(
                                "line {at}: {} cells, but the text is in cell {}",
                                row.len(),
                                open.column + 1
                            ),
                        )
                    })?;
                    (text, at)
                }
            };
            let text = if unit == Unit::File { text.as_str() } else { text.trim_end_matches(['\n', '\r']) };
            if !text.trim().is_empty() {
                open.found = true;
                return Ok(Some(Document {
                    id: format!("{}:{line}", path.display()),
                    text: text.to_string(),
                }));
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(document) = Self::step(self.unit, &self.column, open)? {
                    return Ok(Some(document));
                }
                if !open.found {
                    self.empty.push(open.path.clone());
                }
                self.read += 1;
                self.open = None;
            }
            let Some(path) = self.files.pop_front() else {
                return match self.empty.first() {
                    Some(first) if self.empty.len() == self.read => Err(match self.read {
                        1 => Error::file(first, "no text in this file"),
                        n => Error::file(first, format!("no text in this file and the {} beside it", n - 1)),
                    }),
                    _ => Ok(None),
                };
            };
            self.open = Some(self.open(path)?);
        }
    }
}

fn path_is_tsv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.ends_with(".tsv") || name.contains(".tsv.")
}

/// Whether each cell of the first line of a TSV file stands in quotes: then they are quoting in all of it.
fn quoted_throughout(head: &str) -> bool {
    let cells = head.trim_end_matches(['\n', '\r']).split('\t');
    cells.clone().all(|c| c.len() > 1 && c.starts_with('"') && c.ends_with('"'))
}

/// The cells of a row.
fn cells(row: &str, separator: u8, open: &Open) -> Result<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .quoting(open.quoted)
        .has_headers(false)
        .flexible(true)
        .from_reader(row.as_bytes());
    let mut record = csv::StringRecord::new();
    reader
        .read_record(&mut record)
        .map_err(|e| Error::file(&open.path, format!("line {}: {e}", open.lines.line)))?;
    Ok(record.iter().map(str::to_string).collect())
}

impl Iterator for Reader {
    type Item = Result<Document>;

    /// Ends after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

#[cfg(test)]
mod tests;
