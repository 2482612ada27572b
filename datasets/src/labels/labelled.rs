//! Records together with what a table says about them.

use super::file::LabelFile;
use super::find::{Meant, Names};
use super::row::Row;
use crate::objects::Objects;
use crate::record::{Record, Records, Source, missing};
use crate::split::Split;
use selfsup_core::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rows of a table as samples.
struct Texts {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Records for Texts {
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        let row = self.rows.get(index).ok_or_else(|| missing(self.path.display(), index, self.rows.len()))?;
        let text = row.text.as_deref().unwrap_or_default();
        let id = format!("{}: line {}", self.path.display(), row.line);
        Ok(Record { id, source: Source::Bytes(Arc::from(text.as_bytes())), label: None, group: None })
    }
}

/// Records with what a table says about them.
pub struct Labelled {
    records: Arc<dyn Records>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
    groups: Vec<Option<String>>,
    texts: Vec<Option<String>>,
    masks: Vec<Option<PathBuf>>,
    splits: Vec<Option<Split>>,
    /// Whether the table says something about the record.
    named: Vec<bool>,
    notes: Vec<String>,
}

impl Labelled {
    fn new(records: Arc<dyn Records>, file: &LabelFile, rows: Vec<Option<usize>>, transcripts: bool) -> Self {
        let classes = file.classes();
        let place: BTreeMap<&str, u32> =
            classes.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
        let (mut labels, mut groups, mut texts, mut splits) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let row = row.map(|r| &file.rows[r]);
            labels.push(row.and_then(|r| place.get(r.label.as_deref()?).copied()));
            // A set may know its groups where the table has no such column.
            groups.push(row.and_then(|r| r.group.clone()).or_else(|| records.group(i)));
            texts.push(row.and_then(|r| r.text.clone()).filter(|_| transcripts));
            splits.push(row.and_then(|r| r.split));
        }
        // A table that divides speaks for all; else the set itself may (its folders).
        if splits.iter().all(Option::is_none) {
            splits = (0..rows.len()).map(|i| records.split(i)).collect();
        }
        let masks = vec![None; rows.len()];
        let notes = records.notes().into_iter().chain(file.notes().iter().cloned()).collect();
        let named = rows.iter().map(Option::is_some).collect();
        Labelled { records, classes, labels, groups, texts, masks, splits, named, notes }
    }

    /// Whether a row of the table is about the record.
    pub fn is_named(&self, index: usize) -> bool {
        self.named.get(index).is_some_and(|n| *n)
    }
}

impl LabelFile {
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
        let beside = self.path.parent().unwrap_or(Path::new(""));
        let names = Names::of(&records, root, beside)?;
        let mut rows: Vec<Option<usize>> = vec![None; records.len()];
        for (r, row) in self.rows.iter().enumerate() {
            let Some(path) = &row.path else {
                return Err(self.wrong(row, "names no record: expected a column `path`"));
            };
            let found = match names.find(path) {
                Meant::These(found) => found,
                Meant::Several(several) => {
                    return Err(self.wrong(
                        row,
                        format_args!("`{path}` is the name of {several} records: give their paths"),
                    ));
                }
                Meant::Nothing => {
                    return Err(self.wrong(
                        row,
                        format_args!(
                            "`{path}` is none of the {} records of {}",
                            records.len(),
                            root.display()
                        ),
                    ));
                }
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
}

impl Records for Labelled {
    fn len(&self) -> usize {
        self.records.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        let record = self.records.get(index)?;
        Ok(Record { label: self.label(index), group: self.group(index), ..record })
    }
    fn id(&self, index: usize) -> Result<String> {
        self.records.id(index)
    }
    fn label(&self, index: usize) -> Option<u32> {
        *self.labels.get(index)?
    }
    fn group(&self, index: usize) -> Option<String> {
        self.groups.get(index)?.clone()
    }
    fn transcript(&self, index: usize) -> Option<String> {
        self.texts.get(index)?.clone().or_else(|| self.records.transcript(index))
    }
    fn alignment(&self, index: usize) -> Option<PathBuf> {
        self.records.alignment(index)
    }
    fn mask(&self, index: usize) -> Option<PathBuf> {
        self.masks.get(index)?.clone().or_else(|| self.records.mask(index))
    }
    fn objects(&self, index: usize) -> Result<Option<Objects>> {
        self.records.objects(index)
    }
    fn whole(&self, index: usize) -> Option<String> {
        self.records.whole(index)
    }
    fn split(&self, index: usize) -> Option<Split> {
        *self.splits.get(index)?
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
}
