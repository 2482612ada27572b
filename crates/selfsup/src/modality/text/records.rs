//! Where texts come from: a data set's name, files, Parquet tables; in memory, or by position from the disk.

use crate::set::Set;
use selfsup_core::run::Display;
use selfsup_core::{Error, Result};
use selfsup_datasets::layout::{Arranged, arrange};
use selfsup_datasets::{
    Kind, Layout, Record, Records, Source as Place, Split, fetch, open_tables_of_text, tables,
};
use selfsup_text::corpus::{CorpusConfig, Document, Reader, TextStore, files, folder_name, weight};
use selfsup_text::corrupt::Corrupt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The parts of a corpus by its folders.
struct Parts {
    /// By file; empty where folders do not divide it.
    of: BTreeMap<String, Split>,
    notes: Vec<String>,
}

impl Parts {
    /// Of the files below `root`.
    fn of(root: &Path, files: &[PathBuf], layout: Layout) -> Self {
        let Arranged { files, splits, notes, .. } = arrange(root, files.to_vec(), layout);
        let of = files.iter().zip(splits).filter_map(|(f, s)| Some((f.display().to_string(), s?))).collect();
        // Texts have neither classes by folders nor label images.
        let notes = notes.into_iter().filter(|n| n.contains("are splits")).collect();
        Parts { of, notes }
    }

    /// The part of a document, which is called by its file and line.
    fn split(&self, id: &str) -> Option<Split> {
        self.of.get(id.rsplit_once(':')?.0).copied()
    }
}

/// Documents of files, in memory.
struct Documents(Vec<Document>, Parts);

impl Records for Documents {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        let d = self
            .0
            .get(index)
            .ok_or_else(|| Error::input("texts", format!("there is no text {index} of {}", self.0.len())))?;
        Ok(Record {
            id: d.id.clone(),
            source: Place::Bytes(Arc::from(d.text.as_bytes())),
            label: None,
            group: None,
        })
    }
    fn id(&self, index: usize) -> Result<String> {
        Ok(self.0.get(index).map(|d| d.id.clone()).unwrap_or_default())
    }
    fn split(&self, index: usize) -> Option<Split> {
        self.1.split(&self.0.get(index)?.id)
    }
    fn notes(&self) -> Vec<String> {
        self.1.notes.clone()
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}

/// Documents of files, on disk.
struct Stored(TextStore, Parts);

impl Records for Stored {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        let d = self.0.get(index)?;
        Ok(Record {
            id: d.id,
            source: Place::Bytes(Arc::from(d.text.into_bytes())),
            label: None,
            group: None,
        })
    }
    fn id(&self, index: usize) -> Result<String> {
        self.0.id(index)
    }
    fn split(&self, index: usize) -> Option<Split> {
        if self.1.of.is_empty() { None } else { self.1.split(&self.0.id(index).ok()?) }
    }
    fn notes(&self) -> Vec<String> {
        self.1.notes.clone()
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}

/// The text of a record.
pub(super) fn text_of(records: &dyn Records, index: usize) -> Result<String> {
    let record = records.get(index)?;
    let bytes = record.source.content()?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| Error::input(&record.id, format!("is not UTF-8 at byte {}", e.valid_up_to())))?;
    Ok(text.to_string())
}

/// The text of a record, corrupted by its name.
pub(super) fn corrupted(records: &dyn Records, index: usize, corrupt: Option<Corrupt>) -> Result<String> {
    let text = text_of(records, index)?;
    match corrupt {
        None => Ok(text),
        Some(corrupt) => Ok(corrupt.apply(&text, &records.id(index)?)),
    }
}

/// All texts of a set in order.
pub(super) fn texts(set: &Set) -> impl Iterator<Item = Result<Document>> + Send + '_ {
    let records = set.records();
    (0..set.len()).map(move |i| Ok(Document { id: String::new(), text: text_of(records, i)? }))
}

fn is_name(what: &str) -> bool {
    selfsup_datasets::list().iter().any(|c| c.name == what) || !Path::new(what).exists()
}

/// The texts of a data set's name, of files or of Parquet tables. Files above `corpus.in_memory` are written
/// to the disk once.
pub(super) fn documents(what: &str, corpus: &CorpusConfig, layout: Layout) -> Result<Set> {
    if is_name(what) {
        return Ok(Set::new(selfsup_datasets::open_kind(what, Kind::Text)?));
    }
    let path = Path::new(what);
    if let Some(records) = open_tables_of_text(path, &corpus.column, layout)? {
        return Ok(Set::new(records));
    }
    if let Some(large) = Large::of(what, corpus)? {
        let parts = Parts::of(path, &large.files, layout);
        return large.texts(corpus, parts);
    }
    let files = files(path)?;
    let mut parts = Parts::of(path, &files, layout);
    let mut reader = Reader::new(files, corpus.unit, &corpus.column);
    let (mut all, mut held) = (Vec::new(), 0);
    for document in reader.by_ref() {
        let document = document?;
        held += in_memory(&document);
        // A compressed file of short lines is small, and many times as large in memory.
        if held > corpus.in_memory << 20 {
            drop(all);
            let large = Large::at(path, corpus)?;
            let parts = Parts::of(path, &large.files, layout);
            return large.texts(corpus, parts);
        }
        all.push(document);
    }
    if let Some(first) = reader.empty().first() {
        let empty = reader.empty().len();
        parts.notes.push(format!("{empty} files hold no text, {} for example", first.display()));
    }
    if all.is_empty() {
        return Err(Error::file(path, "no text: the files are empty"));
    }
    Ok(Set::new(Documents(all, parts)))
}

/// About the bytes that a text in memory takes: it, its name, and the two allocations of them.
fn in_memory(document: &Document) -> u64 {
    (size_of::<Document>() + document.id.len() + document.text.len() + 32) as u64
}

/// A corpus that is not held in memory: its files, and the folder for what is made of it.
pub(super) struct Large {
    files: Vec<PathBuf>,
    /// What decides its texts: the files with their sizes and times, and how they are read.
    source: String,
    folder: PathBuf,
}

impl Large {
    /// The corpus at `what`, if its files are larger than `corpus.in_memory`, or its texts lie on the disk.
    pub(super) fn of(what: &str, corpus: &CorpusConfig) -> Result<Option<Self>> {
        let path = Path::new(what);
        if is_name(what) {
            return Ok(None);
        }
        let found = match tables(path)? {
            tables if tables.is_empty() => files(path)?,
            tables => tables,
        };
        if weight(&found)? > corpus.in_memory << 20 {
            return Self::of_files(found, corpus).map(Some);
        }
        // Texts that turned out to be too many for the memory were written; without a cache none were.
        Ok(Self::of_files(found, corpus).ok().filter(|large| large.folder.join("texts").is_dir()))
    }

    /// The corpus at `path`, whatever its size.
    fn at(path: &Path, corpus: &CorpusConfig) -> Result<Self> {
        Self::of_files(files(path)?, corpus)
    }

    fn of_files(found: Vec<PathBuf>, corpus: &CorpusConfig) -> Result<Self> {
        let mut source = format!("unit {:?}, column {}\n", corpus.unit, corpus.column);
        for file in &found {
            let meta = std::fs::metadata(file).map_err(|e| Error::io(file, e))?;
            let time = meta
                .modified()
                .ok()
                .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |d| d.as_nanos());
            source.push_str(&format!("{} {} {time}\n", file.display(), meta.len()));
        }
        let root = match &corpus.cache {
            Some(folder) => PathBuf::from(folder),
            None => fetch::cache()?.join("corpora"),
        };
        Ok(Large { folder: root.join(folder_name(&source)), files: found, source })
    }

    /// Its texts, from the disk: written there first if they are not.
    fn texts(self, corpus: &CorpusConfig, parts: Parts) -> Result<Set> {
        let folder = self.folder.join("texts");
        let note = |line: &str| Display::new(Duration::ZERO).note(line);
        let waiting =
            || note(&format!("waiting for another process, which is making {} ...", folder.display()));
        let store = TextStore::open_or_create(&folder, &self.source, waiting, || {
            let count = self.files.len();
            note(&format!("writing {count} files of text to {} once ...", folder.display()));
            Reader::new(self.files, corpus.unit, &corpus.column)
        })?;
        Ok(Set::new(Stored(store, parts)))
    }

    /// Where the tokens of a part of it are kept, and a description of what decides them.
    pub(super) fn tokens(&self, part: &str) -> (PathBuf, String) {
        let source = format!("{}{part}", self.source);
        (self.folder.join(format!("tokens-{}", folder_name(&source))), source)
    }
}
