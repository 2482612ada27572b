//! Parquet tables as on the Hugging Face Hub: of images, `image: struct{bytes, path}` with a `label`, or of texts, a column of text with a
//! `label`; and tables of embeddings to write.
//!
//! Labels are read at the start. Pictures and texts are read a row group at a time when one of its rows is asked for, and the groups read last are kept
//! up to a number of bytes. Random access is fast when the set fits into that or the row groups are small (the Hub's have 100 to 1,000 rows);
//! convert larger sets to tar shards or a folder.

use crate::record::{Record, Records, Source, missing};
use ::parquet::basic::Type as Physical;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use selfsup_core::{Error, Result};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of row groups that are kept unless [`Parquet::with_cache`] says otherwise.
const CACHE: u64 = 512 << 20;

/// Class numbers above this are refused: they are identifiers, not classes.
const CLASSES: i64 = 1_000_000;

const IMAGES: [&str; 6] = ["image", "img", "jpg", "jpeg", "png", "webp"];
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
            Wanted::Pictures => find_images(leaves),
            Wanted::Texts(name) => {
                leaves.iter().position(|(path, kind)| path.len() == 1 && path[0] == *name && *kind == Physical::BYTE_ARRAY)
            }
        }
    }

    fn missing(&self, path: &Path, leaves: &[(Vec<String>, Physical)]) -> Error {
        let found: Vec<String> = leaves.iter().map(|(p, _)| p.join(".")).collect();
        let found = found.join(", ");
        match self {
            Wanted::Pictures => {
                let wanted = "expected `image` (or `img`, `jpg`, `png`) with encoded bytes, or a struct with `bytes`";
                Error::file(path, format_args!("has no column of pictures: found {found}; {wanted}"))
            }
            Wanted::Texts(name) => {
                Error::file(path, format_args!("has no column `{name}` of text: found {found}; name it with corpus.column"))
            }
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
}

struct Table {
    path: PathBuf,
    /// The leaf that holds the encoded pictures, or the texts.
    content: usize,
}

struct RowGroup {
    file: usize,
    /// Index within the file.
    index: usize,
    /// Rows of the file before it, and of the whole set after it.
    before: usize,
    end: usize,
    bytes: u64,
}

/// A row group that is being read, or was.
type Cell = Mutex<Option<Arc<Vec<Option<ByteArray>>>>>;

/// Runs a call into the reader of Parquet: what it reports names the file, and a panic over a damaged file is an error too.
fn guard<T>(path: &Path, f: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Error::file(path, format_args!("not a whole Parquet file: {e}"))),
        Err(_) => Err(Error::file(path, "not a whole Parquet file: its reader gave up")),
    }
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    guard(path, || SerializedFileReader::new(file))
}

/// All `rows` values of a column without lists; `None` where one is null.
fn values<T: DataType>(mut column: ColumnReaderImpl<T>, rows: usize, max_def: i16) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut found) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let (records, ..) = column.read_records(rows - done, Some(&mut levels), None, &mut found)?;
        if records == 0 {
            return Err(ParquetError::General(format!("a column ends after {done} of {rows} rows")));
        }
        done += records;
    }
    if max_def == 0 {
        return Ok(found.into_iter().map(Some).collect());
    }
    let mut found = found.into_iter();
    Ok(levels.into_iter().map(|l| if l == max_def { found.next() } else { None }).collect())
}

/// A column of integers or of text.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<ByteArray>>),
}

/// The values of leaf `leaf` in row group `group`.
fn column(reader: &SerializedFileReader<File>, group: usize, leaf: usize) -> Result<Column, ParquetError> {
    let row_group = reader.get_row_group(group)?;
    let meta = row_group.metadata();
    let rows = usize::try_from(meta.num_rows()).map_err(|_| ParquetError::General("a negative number of rows".into()))?;
    let descr = meta.schema_descr().column(leaf);
    if descr.max_rep_level() != 0 {
        return Err(ParquetError::General(format!("column {} is a list, expected one value a row", descr.path())));
    }
    let d = descr.max_def_level();
    Ok(match row_group.get_column_reader(leaf)? {
        ColumnReader::Int64ColumnReader(r) => Column::Numbers(values(r, rows, d)?),
        ColumnReader::Int32ColumnReader(r) => Column::Numbers(values(r, rows, d)?.into_iter().map(|v| v.map(i64::from)).collect()),
        ColumnReader::ByteArrayColumnReader(r) => Column::Texts(values(r, rows, d)?),
        _ => return Err(ParquetError::General(format!("column {} is neither integers nor text nor bytes", descr.path()))),
    })
}

/// The leaves of a table by their paths, with their types.
fn leaves(reader: &SerializedFileReader<File>) -> Vec<(Vec<String>, Physical)> {
    let schema = reader.metadata().file_metadata().schema_descr();
    schema.columns().iter().map(|c| (c.path().parts().to_vec(), c.physical_type())).collect()
}

fn find_images(leaves: &[(Vec<String>, Physical)]) -> Option<usize> {
    let bytes = |i: &usize| leaves[*i].1 == Physical::BYTE_ARRAY;
    let at = |path: &[&str]| (0..leaves.len()).filter(bytes).find(|&i| leaves[i].0.iter().eq(path.iter()));
    let nested = IMAGES.iter().find_map(|name| at(&[name, "bytes"]));
    let any = || (0..leaves.len()).filter(bytes).find(|&i| leaves[i].0.len() == 2 && leaves[i].0[1] == "bytes");
    nested.or_else(|| IMAGES.iter().find_map(|name| at(&[name]))).or_else(any)
}

/// Names of the classes from the note that the `datasets` library leaves in a file.
fn hub_names(reader: &SerializedFileReader<File>, label: &str) -> Option<Vec<String>> {
    let notes = reader.metadata().file_metadata().key_value_metadata()?;
    let note = notes.iter().find(|n| n.key == "huggingface")?.value.as_ref()?;
    let note: serde_json::Value = serde_json::from_str(note).ok()?;
    let names = note.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|n| n.as_str().map(String::from)).collect()
}

impl Parquet {
    /// Opens the files, in the given order; reads labels and groups but no picture.
    ///
    /// # Errors
    /// If a file is not Parquet or damaged, has no column of pictures, labels of two kinds, or if there is no row.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        Self::read_tables(files, &Wanted::Pictures)
    }

    /// Opens the files as texts: those of the column `column`, with labels and groups as for pictures. A null is an empty text.
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
        let mut rows = 0;
        for (file, path) in files.iter().enumerate() {
            let reader = reader(path)?;
            let leaves = leaves(&reader);
            let content = wanted.find(&leaves).ok_or_else(|| wanted.missing(path, &leaves))?;
            let top = |name: &str| leaves.iter().position(|(p, _)| p.len() == 1 && p[0] == name);
            let label = LABELS.iter().find_map(|l| top(l).map(|i| (*l, i)));
            hub = hub.or_else(|| label.and_then(|(l, _)| hub_names(&reader, l)));
            tables.push(Table { path: path.clone(), content });
            let mut before = 0;
            for index in 0..reader.num_row_groups() {
                let meta = reader.metadata().row_group(index);
                let bad = || Error::file(path, format_args!("row group {index} has an impossible number of rows or bytes"));
                let count = usize::try_from(meta.num_rows()).map_err(|_| bad())?;
                let bytes = u64::try_from(meta.column(content).uncompressed_size()).map_err(|_| bad())?;
                let mut read = |leaf: usize| -> Result<Column> {
                    let column = guard(path, || column(&reader, index, leaf))?;
                    let len = match &column {
                        Column::Numbers(v) => v.len(),
                        Column::Texts(v) => v.len(),
                    };
                    if len == count { Ok(column) } else { Err(bad()) }
                };
                match label.map(|(_, leaf)| read(leaf)).transpose()? {
                    None => {}
                    Some(Column::Numbers(v)) => numbers.extend(v),
                    Some(Column::Texts(v)) => texts.extend(text(path, v)?),
                }
                match top("group").map(&mut read).transpose()? {
                    None => names.resize(names.len() + count, None),
                    Some(Column::Numbers(v)) => names.extend(v.into_iter().map(|v| v.map(|v| v.to_string()))),
                    Some(Column::Texts(v)) => names.extend(text(path, v)?),
                }
                rows += count;
                groups.push(RowGroup { file, index, before, end: rows, bytes });
                before += count;
            }
        }
        let what = || files.first().map_or_else(|| "Parquet".to_string(), |p| p.display().to_string());
        if rows == 0 {
            return Err(Error::input(what(), "has no rows, expected at least one"));
        }
        if numbers.len() + texts.len() > 0 && numbers.len() != rows && texts.len() != rows {
            return Err(Error::input(what(), "and the files beside it have labels of two kinds, or labels in some files only"));
        }
        let (labels, classes) = if texts.len() == rows { named(&texts) } else { numbered(&what(), numbers, rows, hub)? };
        let texts_wanted = matches!(wanted, Wanted::Texts(_));
        Ok(Parquet { files: tables, texts: texts_wanted, groups, labels, names, classes, cache: Mutex::default(), limit: CACHE })
    }

    /// Keeps the row groups read last up to `bytes` of pictures (at least one group; 512 MiB unless this is called).
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
        let Table { path, content } = &self.files[file];
        let reader = reader(path)?;
        match guard(path, || column(&reader, index, *content))? {
            Column::Texts(rows) => {
                let rows = Arc::new(rows);
                *cell = Some(rows.clone());
                Ok(rows)
            }
            Column::Numbers(_) => Err(Error::file(path, "was exchanged since it was opened: its content is numbers now")),
        }
    }
}

fn text(path: &Path, values: Vec<Option<ByteArray>>) -> Result<Vec<Option<String>>> {
    let one =
        |v: ByteArray| String::from_utf8(v.data().to_vec()).map_err(|_| Error::file(path, "has a label or group that is not UTF-8 text"));
    values.into_iter().map(|v| v.map(one).transpose()).collect()
}

/// Labels from names: the classes are the names, sorted.
fn named(texts: &[Option<String>]) -> (Vec<Option<u32>>, Vec<String>) {
    let mut classes: Vec<String> = texts.iter().flatten().cloned().collect();
    classes.sort();
    classes.dedup();
    let labels = texts.iter().map(|t| t.as_ref().and_then(|t| classes.binary_search(t).ok()).map(|i| i as u32)).collect();
    (labels, classes)
}

/// Labels from numbers; -1 is the Hub's 'unknown'.
fn numbered(what: &str, numbers: Vec<Option<i64>>, rows: usize, hub: Option<Vec<String>>) -> Result<(Vec<Option<u32>>, Vec<String>)> {
    if let Some((row, n)) = numbers.iter().enumerate().find_map(|(i, n)| n.filter(|n| !(-1..=CLASSES).contains(n)).map(|n| (i, n))) {
        return Err(Error::input(what, format_args!("row {row} has label {n}, expected a class from 0 to {CLASSES}, or -1")));
    }
    let mut labels: Vec<Option<u32>> = numbers.into_iter().map(|n| n.and_then(|n| u32::try_from(n).ok())).collect();
    labels.resize(rows, None);
    let count = labels.iter().flatten().max().map_or(0, |&m| m as usize + 1);
    let classes = hub.filter(|names| names.len() >= count).unwrap_or_else(|| (0..count).map(|c| c.to_string()).collect());
    Ok((labels, classes))
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
            Some(None) if self.texts => {
                Ok(Record { id, source: Source::Bytes(Arc::default()), label: self.label(index), group: self.group(index) })
            }
            Some(None) => Err(Error::input(id, "has no picture: its bytes are null (a table of paths? embed the pictures)")),
            None => Err(Error::input(id, "is gone: the file was exchanged since it was opened")),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        *self.labels.get(index)?
    }

    fn group(&self, index: usize) -> Option<String> {
        self.names.get(index)?.clone()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Whether a file is a table of texts: it has a column `text` and none of pictures.
pub fn holds_texts(path: &Path) -> bool {
    reader(path).is_ok_and(|r| {
        let leaves = leaves(&r);
        find_images(&leaves).is_none() && Wanted::Texts("text").find(&leaves).is_some()
    })
}

/// A Parquet file of embeddings: columns `id` (text), `label` (integer, if there are labels) and `embedding` (a list of `d` floats).
///
/// `values` holds one row of `d` numbers for each of `ids`. The same input gives the same bytes.
///
/// # Errors
/// If the numbers of ids, labels and values do not fit.
pub fn embeddings(ids: &[String], labels: Option<&[u32]>, values: &[f32], d: usize) -> Result<Vec<u8>> {
    let n = ids.len();
    if d == 0 || n.checked_mul(d) != Some(values.len()) {
        return Err(Error::input(
            "embeddings",
            format_args!("{} values for {n} ids, expected {n} times {d}, at least one each", values.len()),
        ));
    }
    if let Some(labels) = labels.filter(|l| l.len() != n) {
        return Err(Error::input("embeddings", format_args!("{} labels for {n} ids, expected {n}", labels.len())));
    }
    write_embeddings(ids, labels, values, d).map_err(|e| Error::Other(format!("embeddings cannot be written as Parquet: {e}")))
}

fn write_embeddings(ids: &[String], labels: Option<&[u32]>, values: &[f32], d: usize) -> Result<Vec<u8>, ParquetError> {
    let label = if labels.is_some() { "required int64 label;" } else { "" };
    let schema = format!(
        "message embeddings {{ required binary id (STRING); {label} \
         required group embedding (LIST) {{ repeated group list {{ required float element; }} }} }}"
    );
    // Embeddings neither repeat nor compress.
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_statistics_enabled(EnabledStatistics::None).build();
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, Arc::new(parse_message_type(&schema)?), Arc::new(properties))?;
    // About 64 MiB a row group.
    let rows = ((16 << 20) / d).clamp(1, 1 << 16);
    for (part, ids) in ids.chunks(rows).enumerate() {
        let from = part * rows;
        let mut group = writer.next_row_group()?;
        if let Some(mut column) = group.next_column()? {
            let ids: Vec<ByteArray> = ids.iter().map(|id| ByteArray::from(id.as_str())).collect();
            column.typed::<ByteArrayType>().write_batch(&ids, None, None)?;
            column.close()?;
        }
        if let Some(labels) = labels
            && let Some(mut column) = group.next_column()?
        {
            let labels: Vec<i64> = labels[from..from + ids.len()].iter().map(|&l| i64::from(l)).collect();
            column.typed::<Int64Type>().write_batch(&labels, None, None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            let count = ids.len() * d;
            let repeated: Vec<i16> = (0..count).map(|i| i16::from(i % d != 0)).collect();
            column.typed::<FloatType>().write_batch(&values[from * d..from * d + count], Some(&vec![1; count]), Some(&repeated))?;
            column.close()?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::data_type::Int32Type;
    use ::parquet::file::metadata::KeyValue;

    const SCHEMA: &str = "message m { optional group image { optional binary bytes; optional binary path (STRING); } optional int64 label; \
                          optional binary group (STRING); }";

    /// Rows of (picture, label) in row groups of `size`; the group is the label as text.
    fn write(path: &Path, rows: &[(Option<&[u8]>, Option<i64>)], size: usize, note: Option<&str>) {
        let file = File::create(path).unwrap();
        let mut w = SerializedFileWriter::new(file, Arc::new(parse_message_type(SCHEMA).unwrap()), Arc::default()).unwrap();
        for rows in rows.chunks(size) {
            let mut g = w.next_row_group().unwrap();
            let bytes: Vec<ByteArray> = rows.iter().filter_map(|r| r.0).map(|b| ByteArray::from(b.to_vec())).collect();
            let defs: Vec<i16> = rows.iter().map(|r| if r.0.is_some() { 2 } else { 1 }).collect();
            let mut c = g.next_column().unwrap().unwrap();
            c.typed::<ByteArrayType>().write_batch(&bytes, Some(&defs), None).unwrap();
            c.close().unwrap();
            let mut c = g.next_column().unwrap().unwrap();
            c.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
            c.close().unwrap();
            let labels: Vec<i64> = rows.iter().filter_map(|r| r.1).collect();
            let defs: Vec<i16> = rows.iter().map(|r| i16::from(r.1.is_some())).collect();
            let mut c = g.next_column().unwrap().unwrap();
            c.typed::<Int64Type>().write_batch(&labels, Some(&defs), None).unwrap();
            c.close().unwrap();
            let texts: Vec<ByteArray> = labels.iter().map(|l| ByteArray::from(l.to_string().as_str())).collect();
            let mut c = g.next_column().unwrap().unwrap();
            c.typed::<ByteArrayType>().write_batch(&texts, Some(&defs), None).unwrap();
            c.close().unwrap();
            g.close().unwrap();
        }
        if let Some(note) = note {
            w.append_key_value_metadata(KeyValue::new("huggingface".to_string(), note.to_string()));
        }
        w.close().unwrap();
    }

    fn says(r: Result<Parquet>, parts: &[&str]) {
        let e = r.err().expect("an error").to_string();
        assert!(parts.iter().all(|p| e.contains(p)), "{e}");
    }

    #[test]
    fn texts_with_labels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.parquet");
        let schema = "message m { optional binary text (STRING); required int64 label; }";
        let mut w =
            SerializedFileWriter::new(File::create(&path).unwrap(), Arc::new(parse_message_type(schema).unwrap()), Arc::default()).unwrap();
        for rows in [&[(Some("eins"), 0), (None, 1)][..], &[(Some("zwölf"), 1)]] {
            let mut g = w.next_row_group().unwrap();
            let texts: Vec<ByteArray> = rows.iter().filter_map(|r| r.0).map(ByteArray::from).collect();
            let defs: Vec<i16> = rows.iter().map(|r| i16::from(r.0.is_some())).collect();
            let mut c = g.next_column().unwrap().unwrap();
            c.typed::<ByteArrayType>().write_batch(&texts, Some(&defs), None).unwrap();
            c.close().unwrap();
            let mut c = g.next_column().unwrap().unwrap();
            c.typed::<Int64Type>().write_batch(&rows.iter().map(|r| r.1).collect::<Vec<_>>(), None, None).unwrap();
            c.close().unwrap();
            g.close().unwrap();
        }
        w.close().unwrap();
        let set = Parquet::open_texts(std::slice::from_ref(&path), "text").unwrap();
        let text = |i: usize| String::from_utf8(set.get(i).unwrap().source.content().unwrap().to_vec()).unwrap();
        assert_eq!((text(2), text(0), text(1)), ("zwölf".into(), "eins".into(), String::new()));
        assert_eq!((set.len(), set.label(2), set.classes().len()), (3, Some(1), 2));
        assert!(holds_texts(&path));
        says(
            Parquet::open_texts(std::slice::from_ref(&path), "body"),
            &["texts.parquet", "no column `body`", "text, label", "corpus.column"],
        );
        says(Parquet::open_texts(std::slice::from_ref(&path), "label"), &["no column `label` of text"]);
        says(Parquet::open(&[path]), &["no column of pictures"]);
    }

    #[test]
    fn two_files_of_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a.parquet"), dir.path().join("b.parquet")];
        let pictures: Vec<Vec<u8>> = (0..7u8).map(|i| vec![i; 100 + usize::from(i)]).collect();
        let row = |i: usize, label: Option<i64>| (Some(pictures[i].as_slice()), label);
        let note = r#"{"info": {"features": {"label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}}"#;
        write(&files[0], &[row(0, Some(2)), row(1, Some(0)), row(2, None), row(3, Some(-1)), row(4, Some(1))], 2, Some(note));
        write(&files[1], &[row(5, Some(0)), (None, Some(1)), row(6, Some(1))], 10, None);
        for cache in [0, 250, 1 << 20] {
            let set = Parquet::open(&files).unwrap().with_cache(cache);
            assert_eq!((set.len(), set.classes()), (8, ["cat", "dog", "owl"].map(String::from).as_slice()));
            let labels: Vec<_> = (0..8).map(|i| set.label(i)).collect();
            assert_eq!(labels, [Some(2), Some(0), None, None, Some(1), Some(0), Some(1), Some(1)]);
            // Out of order and twice, with a cache for none, some or all.
            for i in [4, 0, 5, 3, 3, 1, 2, 7, 0] {
                let record = set.get(i).unwrap();
                assert_eq!(record.source, Source::Bytes(Arc::from(pictures[if i == 7 { 6 } else { i }].as_slice())));
                assert_eq!(record.label, set.label(i));
            }
            assert!(set.get(4).unwrap().id.ends_with("a.parquet[4]") && set.get(7).unwrap().id.ends_with("b.parquet[2]"));
            assert_eq!((set.group(0), set.group(2)), (Some("2".to_string()), None));
            let e = set.get(6).unwrap_err().to_string();
            assert!(e.contains("b.parquet[1]") && e.contains("null"), "{e}");
            assert!(set.get(8).is_err());
        }
    }

    #[test]
    fn threads_share_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let pictures: Vec<Vec<u8>> = (0..60u8).map(|i| vec![i; 50]).collect();
        let rows: Vec<_> = pictures.iter().map(|p| (Some(p.as_slice()), Some(1))).collect();
        write(&path, &rows, 7, None);
        let set = Parquet::open(&[path]).unwrap().with_cache(900);
        std::thread::scope(|s| {
            for t in 0..4 {
                let (set, pictures) = (&set, &pictures);
                s.spawn(move || {
                    for i in 0..200 {
                        let i = (i * 17 + t * 5) % 60;
                        assert_eq!(set.get(i).unwrap().source, Source::Bytes(Arc::from(pictures[i].as_slice())));
                    }
                });
            }
        });
        assert!(set.cache.lock().unwrap().len() <= 3);
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        write(&path, &[(Some(&[1; 300]), Some(0)), (Some(&[2; 300]), Some(1))], 1, None);
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 3, 8, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            says(Parquet::open(std::slice::from_ref(&path)), &["a.parquet", "not a whole"]);
        }
        // Any byte may be wrong: an error or a set, never a panic out of here.
        for at in (0..whole.len()).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(set) = Parquet::open(std::slice::from_ref(&path)) {
                (0..set.len().min(4)).for_each(|i| drop(set.get(i)));
            }
        }
        says(Parquet::open(&[dir.path().join("absent.parquet")]), &["absent.parquet"]);
        write(&path, &[], 1, None);
        says(Parquet::open(std::slice::from_ref(&path)), &["no rows"]);
        write(&path, &[(Some(&[1]), Some(-7))], 1, None);
        says(Parquet::open(std::slice::from_ref(&path)), &["row 0 has label -7"]);
        says(Parquet::open(&[]), &["no rows"]);
        let other = File::create(&path).unwrap();
        let schema = Arc::new(parse_message_type("message m { required int32 age; }").unwrap());
        let mut w = SerializedFileWriter::new(other, schema, Arc::default()).unwrap();
        let mut g = w.next_row_group().unwrap();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<Int32Type>().write_batch(&[1], None, None).unwrap();
        c.close().unwrap();
        g.close().unwrap();
        w.close().unwrap();
        says(Parquet::open(std::slice::from_ref(&path)), &["no column of pictures", "found age", "`image`"]);
    }

    #[test]
    fn embeddings_read_back() {
        let ids: Vec<String> = (0..5).map(|i| format!("{i}.jpg")).collect();
        let values: Vec<f32> = (0..15).map(|v| v as f32 / 2.0).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.parquet");
        for labels in [None, Some([3u32, 1, 4, 1, 5].as_slice())] {
            let bytes = embeddings(&ids, labels, &values, 3).unwrap();
            assert_eq!(bytes, embeddings(&ids, labels, &values, 3).unwrap());
            std::fs::write(&path, bytes).unwrap();
            let rows: Vec<String> = reader(&path).unwrap().get_row_iter(None).unwrap().map(|r| r.unwrap().to_string()).collect();
            assert_eq!(rows.len(), 5);
            assert!(rows[1].contains("1.jpg") && rows[1].contains("[1.5, 2.0, 2.5]"), "{}", rows[1]);
            assert_eq!(rows[2].contains("label: 4"), labels.is_some(), "{}", rows[2]);
        }
        assert!(embeddings(&ids, None, &values, 4).is_err());
        assert!(embeddings(&ids, None, &[], 0).is_err());
        assert!(embeddings(&ids, Some(&[1]), &values, 3).unwrap_err().to_string().contains("1 labels"));
    }
}
