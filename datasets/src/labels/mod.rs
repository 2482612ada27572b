//! Labels, transcripts, groups and splits from a table beside the data: CSV, TSV or JSON lines.
//!
//! Columns, by name in any case and order; others are not read:
//!
//! | column | also called | holds |
//! |---|---|---|
//! | `path` | `file`, `filename`, `id`, `image`, `audio`, `volume` | which record: a path (as written, below the data's folder, or below the table's) or a file name |
//! | `label` | `class`, `category`, `target` | its class, any text |
//! | `mask` | `segmentation` | the file of its label volume, from the data's folder or the table's |
//! | `transcript` | `transcription`, `sentence` | what is said in it |
//! | `text` | | without `path`: the sample itself; beside a `path`: its transcript |
//! | `group` | `patient`, `speaker`, `subject`, `source`, and those with `_id` | what must not be divided between splits |
//! | `split` | `subset` | `train`, `validation` (`val`, `dev`) or `test` |

mod labelled;
mod table;
#[cfg(test)]
mod tests;

pub use labelled::Labelled;

use crate::record::Records;
use labelled::Texts;
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use table::{json_lines, table};

/// Which part of a set a record belongs to by its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// To train on.
    Train,
    /// To choose by: early stopping, settings.
    Validation,
    /// To test on.
    Test,
}

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its line, from 1.
    pub line: usize,
    /// Which record.
    pub path: Option<String>,
    /// Its class.
    pub label: Option<String>,
    /// What is said in it, or the sample itself.
    pub text: Option<String>,
    /// The file of its label volume.
    pub mask: Option<String>,
    /// What must stay together.
    pub group: Option<String>,
    /// Its part.
    pub split: Option<Split>,
}

/// A table that was read whole.
#[derive(Clone, Debug)]
pub struct LabelFile {
    path: PathBuf,
    rows: Vec<Row>,
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

    /// The texts of the table as records.
    ///
    /// # Errors
    /// If a row names a path or has no text.
    pub fn texts(&self) -> Result<Labelled> {
        if let Some(row) = self.rows.iter().find(|r| r.text.is_none()) {
            return Err(self.wrong(row, "has no text"));
        }
        let texts = Texts { path: self.path.clone(), rows: self.rows.clone() };
        let rows = (0..self.rows.len()).map(Some).collect();
        Ok(Labelled::new(Arc::new(texts), self, rows, false))
    }

    /// The records of a set with what the table says about them. `root` is the folder that the set was opened
    /// from.
    ///
    /// Records that the table does not name have no label; neither do those that the set itself would label.
    ///
    /// # Errors
    /// If a row names no record or several of the same file name, or two rows name the same one: the line is
    /// in the error.
    pub fn apply(&self, records: Arc<dyn Records>, root: &Path) -> Result<Labelled> {
        // Records by their names and by those of what they are parts of.
        let mut ids: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for i in 0..records.len() {
            for id in [Some(records.id(i)?), records.whole(i)].into_iter().flatten() {
                let name =
                    Path::new(&id).file_name().map_or(id.clone(), |n| n.to_string_lossy().into_owned());
                names.entry(name).or_default().insert(id.clone());
                ids.entry(id).or_default().push(i);
            }
        }
        let beside = self.path.parent().unwrap_or(Path::new(""));
        let mut rows: Vec<Option<usize>> = vec![None; records.len()];
        for (r, row) in self.rows.iter().enumerate() {
            let Some(path) = &row.path else {
                return Err(self.wrong(row, "names no record: expected a column `path`"));
            };
            let written = [PathBuf::from(path), root.join(path), beside.join(path)];
            let named = names
                .get(path)
                .filter(|_| !written.iter().any(|p| ids.contains_key(&p.display().to_string())));
            let found = match named.map(|n| n.len()) {
                Some(several @ 2..) => {
                    return Err(self.wrong(
                        row,
                        format_args!("`{path}` is the name of {several} records: give their paths"),
                    ));
                }
                Some(_) => named.and_then(|n| ids.get(n.first()?)),
                None => written.iter().find_map(|p| ids.get(&p.display().to_string())),
            };
            let Some(found) = found else {
                let problem =
                    format_args!("`{path}` is none of the {} records of {}", records.len(), root.display());
                return Err(self.wrong(row, problem));
            };
            for &i in found {
                if let Some(first) = rows[i] {
                    let first = &self.rows[first];
                    return Err(
                        self.wrong(row, format_args!("`{path}` was named in line {} already", first.line))
                    );
                }
                rows[i] = Some(r);
            }
        }
        let mut labelled = Labelled::new(records, self, rows.clone(), true);
        for (mask, row) in labelled.masks.iter_mut().zip(rows) {
            let Some(row) = row.map(|r| &self.rows[r]) else { continue };
            let Some(name) = &row.mask else { continue };
            let places = [PathBuf::from(name), root.join(name), beside.join(name)];
            let found = places.into_iter().find(|p| p.exists());
            *mask = Some(found.ok_or_else(|| self.wrong(row, format_args!("mask `{name}`: no such file")))?);
        }
        Ok(labelled)
    }

    fn wrong(&self, row: &Row, problem: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format_args!("line {}: {problem}", row.line))
    }
}
