//! A table of labels as it was read.

use super::cells::Cells;
use super::columns::Columns;
use super::row::Row;
use super::table::rows;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// A table that was read whole.
#[derive(Clone, Debug)]
pub struct LabelFile {
    pub(super) path: PathBuf,
    pub(super) rows: Vec<Row>,
    /// The classes that another table has, where this one must have the same.
    known: Option<Vec<String>>,
    weak_path: bool,
    notes: Vec<String>,
}

/// Whether a path ends like a table of labels.
pub fn is_table(path: &Path) -> bool {
    let endings = ["csv", "tsv", "jsonl", "ndjson", "json"];
    path.extension().is_some_and(|e| endings.iter().any(|x| e.eq_ignore_ascii_case(x)))
}

impl LabelFile {
    /// Reads the table at `path`; its ending says which format: `.csv`, `.tsv`, `.jsonl`, `.ndjson` or
    /// `.json`. Columns are found by their names.
    ///
    /// # Errors
    /// As [`LabelFile::read_with`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &Columns::default())
    }

    /// Reads the table at `path`; `columns` names those whose own names do not say what they hold.
    ///
    /// # Errors
    /// Naming the file and the line: not UTF-8, a wrong number of fields, no known column, a named column that
    /// is absent, two columns that could be the same, an unknown split.
    pub fn read_with(path: &Path, columns: &Columns) -> Result<Self> {
        let bytes = selfsup_core::file::read(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            Error::file(path, format_args!("line {line} is not UTF-8"))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let cells = match ending.as_str() {
            "jsonl" | "ndjson" | "json" => Cells::json(path, text)?,
            "tsv" => Cells::delimited(path, text, '\t')?,
            "csv" => Cells::delimited(path, text, delimiter(text.lines().next().unwrap_or_default()))?,
            _ => {
                return Err(Error::file(
                    path,
                    "labels: expected a file ending in .csv, .tsv, .jsonl, .ndjson or .json",
                ));
            }
        };
        let (rows, chosen) = rows(path, cells, columns)?;
        if rows.is_empty() {
            return Err(Error::file(path, "holds no row"));
        }
        let (weak_path, notes) = (chosen.weak_path, chosen.notes);
        Ok(LabelFile { path: path.to_path_buf(), rows, known: None, weak_path, notes })
    }

    /// Its rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What its columns were taken for, which were not read, and which could be groups: lines to print.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether the table holds the samples themselves: a text in each row, and no path but an identifier.
    pub fn holds_texts(&self) -> bool {
        self.rows.iter().all(|r| r.text.is_some() && (r.path.is_none() || self.weak_path))
    }

    /// Names of the classes, sorted: as numbers if all of them are.
    pub fn classes(&self) -> Vec<String> {
        if let Some(known) = &self.known {
            return known.clone();
        }
        let mut classes: Vec<String> = self.rows.iter().filter_map(|r| r.label.clone()).collect();
        classes.sort();
        classes.dedup();
        if classes.iter().all(|c| c.parse::<i64>().is_ok()) {
            classes.sort_by_key(|c| c.parse::<i64>().unwrap_or(0));
        }
        classes
    }

    /// The same table with the classes of another one (of the training data), in their order.
    ///
    /// # Errors
    /// Naming the line of a label that is none of them.
    pub fn among(mut self, classes: &[String]) -> Result<Self> {
        let unknown = |r: &&Row| r.label.as_ref().is_some_and(|l| !classes.contains(l));
        if let Some(row) = self.rows.iter().find(unknown) {
            let label = row.label.as_deref().unwrap_or_default();
            return Err(self.wrong(
                row,
                format_args!("label `{label}`: expected one of the training data, {classes:?}"),
            ));
        }
        self.known = Some(classes.to_vec());
        Ok(self)
    }

    /// An error about a row, with its line.
    pub(super) fn wrong(&self, row: &Row, problem: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format_args!("line {}: {problem}", row.line))
    }
}

/// What stands between the fields of a CSV file, by its first line: a comma if there is one.
fn delimiter(head: &str) -> char {
    [',', ';', '\t'].into_iter().find(|d| head.contains(*d)).unwrap_or(',')
}
