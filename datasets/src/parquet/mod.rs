//! Parquet tables as on the Hugging Face Hub: of images, `image: struct{bytes, path}` with a `label` (or
//! `images`, a list of them: each is a sample, and those of a row stay together), or of
//! texts, a column of text with a `label`; and tables of embeddings to write.
//!
//! Labels are read at the start. Pictures and texts are read a row group at a time when one of its rows is
//! asked for, and the groups read last are kept up to a number of bytes. Random access is fast when the set
//! fits into that or the row groups are small (the Hub's have 100 to 1,000 rows); convert larger sets to tar
//! shards or a folder.

mod columns;
mod find;
mod labels;
mod thrift;
mod write;

pub use write::embeddings;

use crate::labels::group_column;
use crate::record::{Record, Records, Source, missing};
use crate::split::Split;
use ::parquet::basic::Type as Physical;
use ::parquet::data_type::ByteArray;
use ::parquet::file::reader::FileReader;
use columns::{Column, column, leaves, lists, reader};
use find::{find_counts, find_images, find_lists};
use labels::{hub_names, named, numbered, spread, text};
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of row groups that are kept unless [`Parquet::with_cache`] says otherwise.
const CACHE: u64 = 512 << 20;

const LABELS: [&str; 6] = ["label", "labels", "fine_label", "class", "cls", "target"];

/// What is read of a table.
enum Wanted<'a> {
    /// The column that looks like one of encoded pictures.
    Pictures,
    /// The column of that name.
    Texts(&'a str),
}

impl Wanted<'_> {
    fn find(&self, leaves: &[(Vec<String>, Physical)]) -> Option<usize> {
        match self {
            Wanted::Pictures => find_images(leaves).or_else(|| find_lists(leaves)),
            Wanted::Texts(name) => leaves.iter().position(|(path, kind)| {
                path.len() == 1 && path[0] == *name && *kind == Physical::BYTE_ARRAY
            }),
        }
    }

    fn missing(&self, path: &Path, leaves: &[(Vec<String>, Physical)]) -> Error {
        let found: Vec<String> = leaves.iter().map(|(p, _)| p.join(".")).collect();
        let found = found.join(", ");
        match self {
            Wanted::Pictures => {
                let wanted =
                    "expected `image` (or `img`, `jpg`, `png`) with encoded bytes, or a struct with `bytes`";
                Error::file(path, format_args!("has no column of pictures: found {found}; {wanted}"))
            }
            Wanted::Texts(name) => Error::file(
                path,
                format_args!("has no column `{name}` of text: found {found}; name it with corpus.column"),
            ),
        }
    }
}

/// The pictures or texts of one or more Parquet files.
pub struct Parquet {
    files: Vec<Table>,
    /// Whether a cell that is null is an empty text; a picture must be there.
    texts: bool,
    /// Row groups in the order of their rows.
    groups: Vec<RowGroup>,
    labels: Vec<Option<u32>>,
    names: Vec<Option<String>>,
    classes: Vec<String>,
    cache: Mutex<Vec<(usize, Arc<Cell>)>>,
    limit: u64,
    /// The part of each file.
    splits: Vec<Option<Split>>,
    notes: Vec<String>,
}

struct Table {
    path: PathBuf,
    /// The leaf that holds the encoded pictures, or the texts.
    content: usize,
    /// Whether a row has a list of them.
    listed: bool,
}

struct RowGroup {
    file: usize,
    /// Index within the file.
    index: usize,
    /// Samples of the file before it, and of the whole set after it.
    before: usize,
    end: usize,
    bytes: u64,
}

/// A row group that is being read, or was.
type Cell = Mutex<Option<Arc<Vec<Option<ByteArray>>>>>;

impl Parquet {
    /// Opens the files, in the given order; reads labels and groups but no picture.
    ///
    /// # Errors
    /// If a file is not Parquet or damaged, has no column of pictures, labels of two kinds, or if there is no
    /// row.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        Self::read_tables(files, &Wanted::Pictures)
    }

    /// Opens the files as texts: those of the column `column`, with labels and groups as for pictures. A null
    /// is an empty text.
    ///
    /// # Errors
    /// As [`Parquet::open`].
    pub fn open_texts(files: &[PathBuf], column: &str) -> Result<Self> {
        Self::read_tables(files, &Wanted::Texts(column))
    }

    fn read_tables(files: &[PathBuf], wanted: &Wanted) -> Result<Self> {
        let (mut tables, mut groups) = (Vec::new(), Vec::new());
        let (mut numbers, mut texts): (Vec<Option<i64>>, Vec<Option<String>>) = (Vec::new(), Vec::new());
        let (mut names, mut hub) = (Vec::new(), None);
        let (mut rows, mut said) = (0, Vec::new());
        let (mut several, mut empty, mut grouped) = (0, 0, false);
        for (file, path) in files.iter().enumerate() {
            let reader = reader(path)?;
            let leaves = leaves(&reader);
            let content = wanted.find(&leaves).ok_or_else(|| wanted.missing(path, &leaves))?;
            let top = |name: &str| leaves.iter().position(|(p, _)| p.len() == 1 && p[0] == name);
            let label = LABELS.iter().find_map(|l| top(l).map(|i| (*l, i)));
            hub = hub.or_else(|| label.and_then(|(l, _)| hub_names(&reader, l)));
            if label.is_some_and(|(_, leaf)| leaves[leaf].1 == Physical::BOOLEAN) {
                hub = hub.or_else(|| Some(vec!["false".into(), "true".into()]));
            }
            let listed = find_lists(&leaves) == Some(content);
            let counting = find_counts(&leaves, content);
            // By any of the usual names, in any spelling.
            let columns: Vec<String> =
                leaves.iter().map(|(p, _)| if p.len() == 1 { p[0].clone() } else { String::new() }).collect();
            let group = group_column(&columns);
            grouped |= group.is_some();
            if file == 0
                && let Some(group) = group
            {
                said.push(format!("{}: groups are of column `{}`", path.display(), columns[group]));
            }
            tables.push(Table { path: path.clone(), content, listed });
            let (mut before, mut rows_before) = (0, 0);
            for index in 0..reader.num_row_groups() {
                let meta = reader.metadata().row_group(index);
                let bad = || {
                    Error::file(
                        path,
                        format_args!("row group {index} has an impossible number of rows or bytes"),
                    )
                };
                let count = usize::try_from(meta.num_rows()).map_err(|_| bad())?;
                let bytes = u64::try_from(meta.column(content).uncompressed_size()).map_err(|_| bad())?;
                let mut read = |leaf: usize| -> Result<Column> {
                    let column = column(path, &reader, index, leaf)?;
                    let len = match &column {
                        Column::Numbers(v) => v.len(),
                        Column::Texts(v) => v.len(),
                    };
                    if len == count { Ok(column) } else { Err(bad()) }
                };
                let label = label.map(|(_, leaf)| read(leaf)).transpose()?;
                let group = group.map(&mut read).transpose()?;
                let counts = match listed {
                    true => Some(lists(path, &reader, index, counting)?.counts),
                    false => None,
                };
                let counts = counts.as_deref();
                match label {
                    None => {}
                    Some(Column::Numbers(v)) => numbers.extend(spread(v, counts)),
                    Some(Column::Texts(v)) => texts.extend(spread(text(path, v)?, counts)),
                }
                let samples = counts.map_or(count, |c| c.iter().sum());
                let row = |i: usize| counts.map(|_| format!("{}[{}]", path.display(), rows_before + i));
                match group {
                    // Pictures of one row stay in one part.
                    None => names.extend(spread((0..count).map(row).collect(), counts)),
                    Some(Column::Numbers(v)) => {
                        let v = v.into_iter().map(|v| v.map(|v| v.to_string())).collect();
                        names.extend(spread(v, counts));
                    }
                    Some(Column::Texts(v)) => names.extend(spread(text(path, v)?, counts)),
                }
                several += counts.map_or(0, |c| c.iter().filter(|n| **n > 1).count());
                empty += counts.map_or(0, |c| c.iter().filter(|n| **n == 0).count());
                rows += samples;
                groups.push(RowGroup { file, index, before, end: rows, bytes });
                before += samples;
                rows_before += count;
            }
        }
        let what = || files.first().map_or_else(|| "Parquet".to_string(), |p| p.display().to_string());
        if rows == 0 {
            return Err(Error::input(what(), "has no rows, expected at least one"));
        }
        if numbers.len() + texts.len() > 0 && numbers.len() != rows && texts.len() != rows {
            return Err(Error::input(
                what(),
                "and the files beside it have labels of two kinds, or labels in some files only",
            ));
        }
        if several > 0 {
            said.push(format!(
                "{several} rows have several pictures: each is a sample, those of a row stay together"
            ));
        }
        if several == 0 && !grouped {
            names = vec![None; rows];
        }
        if empty > 0 {
            said.push(format!("{empty} rows have no picture"));
        }
        let (labels, classes) =
            if texts.len() == rows { named(&texts) } else { numbered(&what(), numbers, rows, hub)? };
        let texts_wanted = matches!(wanted, Wanted::Texts(_));
        Ok(Parquet {
            files: tables,
            texts: texts_wanted,
            groups,
            labels,
            names,
            classes,
            cache: Mutex::default(),
            limit: CACHE,
            splits: vec![None; files.len()],
            notes: said,
        })
    }

    /// The same with a part for each file, and what is to be said of that.
    #[must_use]
    pub fn with_splits(mut self, splits: Vec<Option<Split>>, notes: Vec<String>) -> Self {
        self.splits = splits;
        self.notes.extend(notes);
        self
    }

    /// Keeps the row groups read last up to `bytes` of pictures (at least one group; 512 MiB unless this is
    /// called).
    #[must_use]
    pub fn with_cache(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    fn read(&self, group: usize) -> Result<Arc<Vec<Option<ByteArray>>>> {
        let cell = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = match cache.iter().position(|(g, _)| *g == group) {
                Some(i) => cache.remove(i).1,
                None => Arc::default(),
            };
            // The latest stands last; those that no longer fit leave from the front.
            cache.push((group, cell.clone()));
            let mut bytes = 0u64;
            let keep = cache.iter().rev().take_while(|(g, _)| {
                bytes = bytes.saturating_add(self.groups[*g].bytes);
                bytes <= self.limit
            });
            let drop = cache.len() - keep.count().max(1);
            cache.drain(..drop);
            cell
        };
        // Others who want this group wait here; those who want another do not.
        let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = &*cell {
            return Ok(rows.clone());
        }
        let RowGroup { file, index, .. } = self.groups[group];
        let Table { path, content, listed } = &self.files[file];
        let reader = reader(path)?;
        if *listed {
            let rows = Arc::new(lists(path, &reader, index, *content)?.values);
            *cell = Some(rows.clone());
            return Ok(rows);
        }
        match column(path, &reader, index, *content)? {
            Column::Texts(rows) => {
                let rows = Arc::new(rows);
                *cell = Some(rows.clone());
                Ok(rows)
            }
            Column::Numbers(_) => {
                Err(Error::file(path, "was exchanged since it was opened: its content is numbers now"))
            }
        }
    }
}

impl Records for Parquet {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let group = self.groups.partition_point(|g| g.end <= index);
        let g = self.groups.get(group).ok_or_else(|| missing("Parquet", index, self.len()))?;
        let rows = self.read(group)?;
        // Rows of the group: its end less their number is where it starts in the whole set.
        let place = (index + rows.len()).checked_sub(g.end).unwrap_or(usize::MAX);
        let id = format!("{}[{}]", self.files[g.file].path.display(), g.before.saturating_add(place));
        match rows.get(place) {
            Some(Some(bytes)) => {
                let source = Source::Bytes(Arc::from(bytes.data()));
                Ok(Record { id, source, label: self.label(index), group: self.group(index) })
            }
            Some(None) if self.texts => Ok(Record {
                id,
                source: Source::Bytes(Arc::default()),
                label: self.label(index),
                group: self.group(index),
            }),
            Some(None) => Err(Error::input(
                id,
                "has no picture: its bytes are null (a table of paths? embed the pictures)",
            )),
            None => Err(Error::input(id, "is gone: the file was exchanged since it was opened")),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        *self.labels.get(index)?
    }

    fn group(&self, index: usize) -> Option<String> {
        self.names.get(index)?.clone()
    }

    fn split(&self, index: usize) -> Option<Split> {
        let group = self.groups.partition_point(|g| g.end <= index);
        *self.splits.get(self.groups.get(group)?.file)?
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Whether a file is a table of texts: it has a column `text` and none of pictures.
pub fn holds_texts(path: &Path) -> bool {
    reader(path).is_ok_and(|r| {
        let leaves = leaves(&r);
        find_images(&leaves).or_else(|| find_lists(&leaves)).is_none()
            && Wanted::Texts("text").find(&leaves).is_some()
    })
}

#[cfg(test)]
mod tests;
