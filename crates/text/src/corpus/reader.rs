//! Reading texts: plain files, JSON lines and tables with a column of text, as they are or compressed by gzip
//! or zstd.
//!
//! The name decides the format (`.txt`, `.md`, `.jsonl`, `.csv`, `.tsv`, with `.gz` or `.zst` behind it). The
//! reader goes through files line by line, in the order of their paths.

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
    Table(u8),
}

fn format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending {
        e if PLAIN.contains(&e) => Format::Plain,
        "jsonl" | "ndjson" => Format::JsonLines,
        "csv" => Format::Table(b','),
        "tsv" => Format::Table(b'\t'),
        _ => return None,
    })
}

/// The files of text at `path`: itself, or all below a folder by their names, sorted. Hidden ones are left
/// out.
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
            "no files of text, expected txt, md, jsonl, csv or tsv, as they are or with .gz or .zst",
        ));
    }
    found.sort();
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
}

struct Open {
    path: PathBuf,
    lines: Lines,
    format: Format,
    /// The column of a table with the text.
    column: usize,
    /// Rows of a table that have been read and not yet given out.
    found: bool,
}

impl Reader {
    /// Of `files`; `column` names the key or column that holds the text in JSON lines and tables.
    pub fn new(files: Vec<PathBuf>, unit: Unit, column: &str) -> Self {
        Reader { files: files.into(), unit, column: column.to_string(), open: None, failed: false }
    }

    fn open(&self, path: PathBuf) -> Result<Open> {
        let format = format(&path).unwrap_or(Format::Plain);
        let mut open = Open { lines: Lines::open(&path)?, path, format, column: 0, found: false };
        if let Format::Table(separator) = format {
            let header = open.lines.row(&open.path)?.unwrap_or_default();
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
                    let text = json.get(column).and_then(|v| v.as_str()).ok_or_else(|| {
                        let keys: Vec<&str> = json
                            .as_object()
                            .map(|o| o.keys().map(String::as_str).collect())
                            .unwrap_or_default();
                        Error::file(
                            &path,
                            format!(
                                "line {at}: no text under \"{column}\", the keys are {}",
                                keys.join(", ")
                            ),
                        )
                    })?;
                    (text.to_string(), at)
                }
                Format::Table(separator) => {
                    let at = open.lines.line + 1;
                    let Some(row) = open.lines.row(&path)? else { return Ok(None) };
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
                    return Err(Error::file(&open.path, "no text in this file"));
                }
                self.open = None;
            }
            let Some(path) = self.files.pop_front() else { return Ok(None) };
            self.open = Some(self.open(path)?);
        }
    }
}

/// The cells of a row.
fn cells(row: &str, separator: u8, open: &Open) -> Result<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
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
mod tests {
    use super::*;
    use std::io::Write;

    fn read(path: &Path, unit: Unit) -> Result<Vec<String>> {
        Reader::new(files(path)?, unit, "text").map(|d| d.map(|d| d.text)).collect()
    }

    fn fails(path: &Path, part: &str) {
        let e = read(path, Unit::Line).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part) && e.contains(&path.display().to_string()), "{e}");
    }

    #[test]
    fn formats() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let text = "\u{feff}one\r\ntwo words\n\n  \nthree\nfour".as_bytes();
        let plain = write("a.txt", text);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(text).unwrap();
        let gz = write("b.txt.gz", &gz.finish().unwrap());
        let zst = write("c.txt.zst", &zstd::encode_all(text, 3).unwrap());
        for path in [&plain, &gz, &zst] {
            assert_eq!(read(path, Unit::Line).unwrap(), ["one", "two words", "three", "four"]);
            assert_eq!(read(path, Unit::Paragraph).unwrap(), ["one\r\ntwo words", "three\nfour"]);
            assert_eq!(read(path, Unit::File).unwrap(), ["one\r\ntwo words\n\n  \nthree\nfour"]);
        }
        let jsonl = write("d.jsonl", b"{\"text\": \"a\\nb\", \"n\": 1}\n\n{\"text\": \"c\"}\n");
        assert_eq!(read(&jsonl, Unit::Line).unwrap(), ["a\nb", "c"]);
        let table = write("e.csv", b"id,text\n1,\"x, y\nz\"\n2,w\n");
        assert_eq!(read(&table, Unit::Line).unwrap(), ["x, y\nz", "w"]);
        let table = write("f.tsv", b"text\tid\nx y\t1\n");
        assert_eq!(read(&table, Unit::Line).unwrap(), ["x y"]);
        write("ignored.png", b"x");
        write(".hidden.txt", b"x");
        assert_eq!(read(dir.path(), Unit::Line).unwrap().len(), 12 + 2 + 2 + 1);
        let first = Reader::new(vec![plain.clone()], Unit::Paragraph, "text").nth(1).unwrap().unwrap();
        assert_eq!(first.id, format!("{}:5", plain.display()));
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        fails(&write("empty.txt", b""), "no text in this file");
        fails(&write("blank.txt", b" \n\n"), "no text in this file");
        fails(&write("latin.txt", b"good\nna\xefve\n"), "not UTF-8: byte 7 (0xef, line 2)");
        fails(&write("cut.txt", b"abc\xe2\x82"), "not UTF-8: byte 3");
        fails(
            &write("a.jsonl", b"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"),
            "line 2: no text under \"text\", the keys are txt",
        );
        fails(&write("b.jsonl", b"{\n"), "line 1: not JSON");
        fails(&write("a.csv", b"id,body\n1,2\n"), "no column \"text\", the columns are id, body");
        fails(&write("b.csv", b"id,text\n1\n"), "line 2: 1 cells");
        fails(&write("c.csv", b"id,text\n1,\"open\n"), "line 2: a quoted cell that does not end");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all("some words\n".repeat(1000).as_bytes()).unwrap();
        let gz = gz.finish().unwrap();
        fails(&write("cut.txt.gz", &gz[..gz.len() / 2]), "cut.txt.gz");
        let folder = dir.path().join("none");
        std::fs::create_dir(&folder).unwrap();
        fails(&folder, "no files of text");
        assert!(files(&dir.path().join("absent")).is_err());
        // The iterator ends after an error.
        let mut reader = Reader::new(vec![dir.path().join("latin.txt")], Unit::Line, "text");
        assert!(
            reader.next().is_some_and(|r| r.is_ok())
                && reader.next().is_some_and(|r| r.is_err())
                && reader.next().is_none()
        );
    }

    /// A line of 10 MB is one document; one of more than 64 MiB is refused with its number, without being
    /// read whole.
    #[test]
    fn long_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.txt");
        std::fs::write(&path, "word ".repeat(2_000_000)).unwrap();
        assert_eq!(read(&path, Unit::Line).unwrap()[0].len(), 10_000_000);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"short\n").unwrap();
        (0..70).for_each(|_| gz.write_all(&vec![b'x'; 1 << 20]).unwrap());
        let path = dir.path().join("bomb.txt.gz");
        std::fs::write(&path, gz.finish().unwrap()).unwrap();
        fails(&path, "line 2 is longer than 64 MiB");
    }
}
