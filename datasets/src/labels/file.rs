//! A table of labels as it was read.

use super::row::Row;
use super::table::{json_lines, table};
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// A table that was read whole.
#[derive(Clone, Debug)]
pub struct LabelFile {
    pub(super) path: PathBuf,
    pub(super) rows: Vec<Row>,
}

impl LabelFile {
    /// Reads the table at `path`; its ending says which format: `.csv`, `.tsv`, `.jsonl` or `.ndjson`.
    ///
    /// # Errors
    /// Naming the file and the line: not UTF-8, a wrong number of fields, no known column, two columns of one
    /// meaning, an unknown split.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            Error::file(path, format_args!("line {line} is not UTF-8"))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let rows = match ending.as_str() {
            "jsonl" | "ndjson" => json_lines(path, text)?,
            "tsv" => table(path, text, '\t')?,
            "csv" => {
                let head = text.lines().next().unwrap_or_default();
                table(path, text, if head.contains(';') && !head.contains(',') { ';' } else { ',' })?
            }
            _ => {
                return Err(Error::file(
                    path,
                    "labels: expected a file ending in .csv, .tsv, .jsonl or .ndjson",
                ));
            }
        };
        if rows.is_empty() {
            return Err(Error::file(path, "holds no row"));
        }
        Ok(LabelFile { path: path.to_path_buf(), rows })
    }

    /// Its rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether the table holds the samples themselves: a text and no path in its rows.
    pub fn holds_texts(&self) -> bool {
        self.rows.iter().all(|r| r.path.is_none() && r.text.is_some())
    }

    /// Names of the classes, sorted: as numbers if all of them are.
    pub fn classes(&self) -> Vec<String> {
        let mut classes: Vec<String> = self.rows.iter().filter_map(|r| r.label.clone()).collect();
        classes.sort();
        classes.dedup();
        if classes.iter().all(|c| c.parse::<i64>().is_ok()) {
            classes.sort_by_key(|c| c.parse::<i64>().unwrap_or(0));
        }
        classes
    }

    /// An error about a row, with its line.
    pub(super) fn wrong(&self, row: &Row, problem: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format_args!("line {}: {problem}", row.line))
    }
}
