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

use crate::record::{Record, Records, Source, missing};
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Path,
    Label,
    Transcript,
    Text,
    Mask,
    Group,
    Split,
}

fn column(name: &str) -> Option<Column> {
    let name = name.trim().to_lowercase();
    Some(match name.strip_suffix("_id").unwrap_or(&name) {
        "path" | "file" | "filename" | "id" | "image" | "audio" | "volume" => Column::Path,
        "label" | "class" | "category" | "target" => Column::Label,
        "transcript" | "transcription" | "sentence" => Column::Transcript,
        "text" => Column::Text,
        "mask" | "segmentation" => Column::Mask,
        "group" | "patient" | "speaker" | "subject" | "source" | "client" => Column::Group,
        "split" | "subset" => Column::Split,
        _ => return None,
    })
}

impl LabelFile {
    /// Reads the table at `path`; its ending says which format: `.csv`, `.tsv`, `.jsonl` or `.ndjson`.
    ///
    /// # Errors
    /// Naming the file and the line: not UTF-8, a wrong number of fields, no known column, two columns of one meaning, an unknown split.
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
            _ => return Err(Error::file(path, "labels: expected a file ending in .csv, .tsv, .jsonl or .ndjson")),
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

    /// The records of a set with what the table says about them. `root` is the folder that the set was opened from.
    ///
    /// Records that the table does not name have no label; neither do those that the set itself would label.
    ///
    /// # Errors
    /// If a row names no record or several of the same file name, or two rows name the same one: the line is in the error.
    pub fn apply(&self, records: Arc<dyn Records>, root: &Path) -> Result<Labelled> {
        // Records by their names and by those of what they are parts of.
        let mut ids: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for i in 0..records.len() {
            for id in [Some(records.id(i)?), records.whole(i)].into_iter().flatten() {
                let name = Path::new(&id).file_name().map_or(id.clone(), |n| n.to_string_lossy().into_owned());
                names.entry(name).or_default().insert(id.clone());
                ids.entry(id).or_default().push(i);
            }
        }
        let beside = self.path.parent().unwrap_or(Path::new(""));
        let mut rows: Vec<Option<usize>> = vec![None; records.len()];
        for (r, row) in self.rows.iter().enumerate() {
            let Some(path) = &row.path else { return Err(self.wrong(row, "names no record: expected a column `path`")) };
            let written = [PathBuf::from(path), root.join(path), beside.join(path)];
            let named = names.get(path).filter(|_| !written.iter().any(|p| ids.contains_key(&p.display().to_string())));
            let found = match named.map(|n| n.len()) {
                Some(several @ 2..) => {
                    return Err(self.wrong(row, format_args!("`{path}` is the name of {several} records: give their paths")));
                }
                Some(_) => named.and_then(|n| ids.get(n.first()?)),
                None => written.iter().find_map(|p| ids.get(&p.display().to_string())),
            };
            let Some(found) = found else {
                let problem = format_args!("`{path}` is none of the {} records of {}", records.len(), root.display());
                return Err(self.wrong(row, problem));
            };
            for &i in found {
                if let Some(first) = rows[i] {
                    let first = &self.rows[first];
                    return Err(self.wrong(row, format_args!("`{path}` was named in line {} already", first.line)));
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

/// Puts a value into a row.
fn put(path: &Path, row: &mut Row, column: Column, value: &str) -> Result<()> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(());
    }
    let text = Some(value.to_string());
    match column {
        Column::Path => row.path = text,
        Column::Label => row.label = text,
        Column::Transcript | Column::Text => row.text = text,
        Column::Mask => row.mask = text,
        Column::Group => row.group = text,
        Column::Split => {
            row.split = Some(match value.to_lowercase().as_str() {
                "train" | "training" => Split::Train,
                "validation" | "valid" | "val" | "dev" => Split::Validation,
                "test" => Split::Test,
                other => {
                    let problem = format_args!("line {}: split `{other}`: expected train, validation or test", row.line);
                    return Err(Error::file(path, problem));
                }
            });
        }
    }
    Ok(())
}

fn table(path: &Path, text: &str, delimiter: char) -> Result<Vec<Row>> {
    let mut lines = fields(path, text, delimiter)?.into_iter();
    let Some((_, head)) = lines.next() else { return Ok(Vec::new()) };
    let columns: Vec<Option<Column>> = head.iter().map(|h| column(h)).collect();
    for (i, c) in columns.iter().enumerate() {
        if c.is_some() && columns[..i].contains(c) {
            return Err(Error::file(path, format_args!("line 1: two columns mean the same, the second is `{}`", head[i].trim())));
        }
    }
    if !columns.iter().flatten().any(|c| matches!(c, Column::Path | Column::Text)) {
        let problem = format_args!("line 1: columns {}: expected one called path or text", head.join(", "));
        return Err(Error::file(path, problem));
    }
    let mut rows = Vec::new();
    for (line, values) in lines {
        if values.len() != head.len() {
            return Err(Error::file(path, format_args!("line {line} has {} fields, expected {} as in line 1", values.len(), head.len())));
        }
        let mut row = Row { line, ..Row::default() };
        for (c, value) in columns.iter().zip(&values) {
            if let Some(c) = c {
                put(path, &mut row, *c, value)?;
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Fields of each line that is not blank, with its number; a quoted field may hold delimiters, doubled quotes and line breaks (RFC 4180).
fn fields(path: &Path, text: &str, delimiter: char) -> Result<Vec<(usize, Vec<String>)>> {
    let (mut out, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut started, mut quoted) = (1, 1, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && delimiter != '\t' => quoted = true,
            '\n' if !quoted => {
                if field.ends_with('\r') {
                    field.pop();
                }
                row.push(std::mem::take(&mut field));
                if row.iter().any(|f| !f.trim().is_empty()) {
                    out.push((started, std::mem::take(&mut row)));
                }
                row.clear();
                line += 1;
                started = line;
            }
            c if c == delimiter && !quoted => row.push(std::mem::take(&mut field)),
            c => {
                line += usize::from(c == '\n');
                field.push(c);
            }
        }
    }
    if quoted {
        return Err(Error::file(path, format_args!("line {started}: a quoted field does not end")));
    }
    row.push(field);
    if row.iter().any(|f| !f.trim().is_empty()) {
        out.push((started, row));
    }
    Ok(out)
}

fn json_lines(path: &Path, text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|e| Error::file(path, format_args!("line {}: not JSON: {e}", i + 1)))?;
        let object = value.as_object().ok_or_else(|| Error::file(path, format_args!("line {}: expected an object", i + 1)))?;
        let mut row = Row { line: i + 1, ..Row::default() };
        for (key, value) in object {
            let Some(c) = column(key) else { continue };
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::String(s) => put(path, &mut row, c, s)?,
                serde_json::Value::Number(n) => put(path, &mut row, c, &n.to_string())?,
                serde_json::Value::Bool(b) => put(path, &mut row, c, &b.to_string())?,
                _ => return Err(Error::file(path, format_args!("line {}: `{key}`: expected a text or a number", i + 1))),
            }
        }
        if row.path.is_none() && row.text.is_none() {
            return Err(Error::file(path, format_args!("line {}: expected a key `path` or `text`", i + 1)));
        }
        rows.push(row);
    }
    Ok(rows)
}

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
    masks: Vec<Option<PathBuf>>,
    splits: Vec<Option<Split>>,
}

impl Labelled {
    fn new(records: Arc<dyn Records>, file: &LabelFile, rows: Vec<Option<usize>>, transcripts: bool) -> Self {
        let classes = file.classes();
        let place: BTreeMap<&str, u32> = classes.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
        let (mut labels, mut groups, mut texts, mut splits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn read(name: &str, text: &str) -> Result<LabelFile> {
        LabelFile::read(&file(name, text).1)
    }

    #[test]
    fn formats_agree() {
        let csv =
            read("l.csv", "\u{feff}Path,label,patient_id,split,note\r\na.png,10,p1,train,\"x, \"\"y\"\"\nand z\"\r\n\r\nb.png,9,p2,val,\n")
                .unwrap();
        let tsv = read("l.tsv", "file\tclass\tgroup\tsubset\na.png\t10\tp1\ttrain\nb.png\t9\tp2\tdev\n").unwrap();
        let json = read(
            "l.jsonl",
            "{\"path\":\"a.png\",\"label\":10,\"source\":\"p1\",\"split\":\"train\"}\n{\"id\":\"b.png\",\"label\":\"9\",\"speaker\":\"p2\",\"split\":\"valid\"}",
        )
        .unwrap();
        let plain = |f: &LabelFile| f.rows().iter().map(|r| Row { line: 0, ..r.clone() }).collect::<Vec<_>>();
        assert_eq!(plain(&csv), plain(&tsv));
        assert_eq!(plain(&csv), plain(&json));
        assert_eq!(csv.classes(), ["9", "10"], "numbers are sorted as numbers");
        assert_eq!(csv.rows()[1].line, 5, "a quoted line break and a blank line count");
        assert_eq!(csv.rows()[1].split, Some(Split::Validation));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (name, text, parts) in [
            ("l.csv", "path,label\na.png\n", &["line 2", "1 fields", "expected 2"][..]),
            ("l.csv", "name,label\na,b\n", &["line 1", "name, label", "path or text"]),
            ("l.csv", "path,label,class\na,b,c\n", &["two columns", "class"]),
            ("l.csv", "path,label\n\"a,b\n", &["line 2", "does not end"]),
            ("l.csv", "path,split\na,extra\n", &["line 2", "extra", "validation"]),
            ("l.csv", "path,label\n", &["no row"]),
            ("l.jsonl", "{\"path\":\"a\"}\n{oops\n", &["line 2", "not JSON"]),
            ("l.jsonl", "{\"label\":\"a\"}\n", &["line 1", "path"]),
            ("l.txt", "a", &[".csv"]),
        ] {
            let e = read(name, text).unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.csv");
        std::fs::write(&path, b"path,label\na,b\n\xff,c\n").unwrap();
        assert!(LabelFile::read(&path).unwrap_err().to_string().contains("line 3 is not UTF-8"));
    }

    #[test]
    fn rows_find_their_records() {
        let (dir, path) = file("l.csv", "path,label,speaker,transcript\nx/1.wav,cat,s1,hello\n2.wav,dog,s2,\n");
        for name in ["x/1.wav", "y/2.wav", "y/3.wav"] {
            let file = dir.path().join("data").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, b"").unwrap();
        }
        let root = dir.path().join("data");
        let records: Arc<dyn Records> = Arc::new(Folder::open_kind(&root, crate::Kind::Speech).unwrap());
        let set = LabelFile::read(&path).unwrap().apply(records.clone(), &root).unwrap();
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!((0..3).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(0), Some(1), None]);
        assert_eq!((set.group(1), set.transcript(0), set.transcript(1)), (Some("s2".into()), Some("hello".into()), None));
        assert_eq!(set.get(1).unwrap().label, Some(1));
        let e = read("l.csv", "path,label\n9.wav,cat\n").unwrap().apply(records.clone(), &root).err().unwrap().to_string();
        assert!(e.contains("line 2") && e.contains("9.wav") && e.contains("3 records"), "{e}");
        let e = read("l.csv", "path,label\n2.wav,cat\ny/2.wav,dog\n").unwrap().apply(records, &root).err().unwrap().to_string();
        assert!(e.contains("line 3") && e.contains("line 2 already"), "{e}");
    }

    /// Three slices of each of two volumes.
    struct Slices;

    impl Records for Slices {
        fn len(&self) -> usize {
            6
        }
        fn get(&self, i: usize) -> Result<Record> {
            Ok(Record {
                id: format!("scans/v{}.nii axial {}", i / 3, i % 3),
                source: Source::Bytes(Arc::from([])),
                label: None,
                group: self.group(i),
            })
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn group(&self, i: usize) -> Option<String> {
            self.whole(i)
        }
        fn whole(&self, i: usize) -> Option<String> {
            Some(format!("scans/v{}.nii", i / 3))
        }
        fn classes(&self) -> &[String] {
            &[]
        }
    }

    #[test]
    fn a_row_speaks_of_all_parts_of_what_it_names() {
        let apply = |text: &str| read("l.csv", text).unwrap().apply(Arc::new(Slices), Path::new("scans"));
        let set = apply("path,label,patient\nv1.nii,ill,p7\nscans/v0.nii,well,\n").unwrap();
        assert_eq!((0..6).map(|i| set.label(i)).collect::<Vec<_>>(), [1, 1, 1, 0, 0, 0].map(Some));
        // Without a group of its own a part stays with its whole.
        assert_eq!((set.group(2).as_deref(), set.group(3).as_deref()), (Some("scans/v0.nii"), Some("p7")));
        let one = apply("path,label\nscans/v1.nii axial 2,ill\n").unwrap();
        assert_eq!((one.label(5), one.label(4)), (Some(0), None));
        let e = apply("path,label\nv1.nii,ill\nscans/v1.nii axial 2,well\n").err().unwrap().to_string();
        assert!(e.contains("line 3") && e.contains("line 2 already"), "{e}");
    }

    #[test]
    fn a_table_of_texts_is_a_set() {
        let table = read("l.csv", "text,label\n\"good, really\",yes\nbad,no\n").unwrap();
        assert!(table.holds_texts());
        let set = table.texts().unwrap();
        assert_eq!(&*set.get(0).unwrap().source.content().unwrap(), b"good, really");
        assert_eq!((set.label(0), set.label(1), set.transcript(0)), (Some(1), Some(0), None));
    }
}
