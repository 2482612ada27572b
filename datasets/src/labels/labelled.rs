//! Records together with what a table says about them.

use super::{LabelFile, Row, Split};
use crate::record::{Record, Records, Source, missing};
use selfsup_core::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The rows of a table as samples.
pub(super) struct Texts {
    pub(super) path: PathBuf,
    pub(super) rows: Vec<Row>,
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
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}

/// Records with what a table says about them.
pub struct Labelled {
    records: Arc<dyn Records>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
    groups: Vec<Option<String>>,
    texts: Vec<Option<String>>,
    pub(super) masks: Vec<Option<PathBuf>>,
    splits: Vec<Option<Split>>,
}

impl Labelled {
    pub(super) fn new(
        records: Arc<dyn Records>,
        file: &LabelFile,
        rows: Vec<Option<usize>>,
        transcripts: bool,
    ) -> Self {
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
        let masks = vec![None; rows.len()];
        Labelled { records, classes, labels, groups, texts, masks, splits }
    }

    /// The part that a record belongs to, where the table says so.
    pub fn split(&self, index: usize) -> Option<Split> {
        *self.splits.get(index)?
    }

    /// Whether the table divides the records.
    pub fn has_splits(&self) -> bool {
        self.splits.iter().any(Option::is_some)
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
    fn whole(&self, index: usize) -> Option<String> {
        self.records.whole(index)
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
}
