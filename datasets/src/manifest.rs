//! A table that is the data set: each row of a CSV, TSV or JSON lines file names a file and what is known
//! about it.
//!
//! The columns are those of [`LabelFile`]; paths are taken as written or from the table's folder on.

use crate::labels::{Columns, LabelFile, is_table, stem};
use crate::recognise::SPEECH;
use crate::record::{Record, Records, Source, missing};
use crate::split::Split;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// The files that a table names, in its order.
pub struct Manifest {
    table: PathBuf,
    files: Vec<PathBuf>,
    rows: LabelFile,
    labels: Vec<Option<u32>>,
    classes: Vec<String>,
}

impl Manifest {
    /// Whether a path ends like a table.
    pub fn is_table(path: &Path) -> bool {
        is_table(path)
    }

    /// Reads the table; `columns` names those whose own names do not say what they hold. A file may be called
    /// without its ending, where one recording fits.
    ///
    /// # Errors
    /// As [`LabelFile::read_with`]; also, with its line, if a row names no file or one that is not there.
    pub fn open(table: &Path, columns: &Columns) -> Result<Self> {
        let rows = LabelFile::read_with(table, columns)?;
        let beside = table.parent().unwrap_or(Path::new(""));
        let mut files = Vec::with_capacity(rows.rows().len());
        for row in rows.rows() {
            let wrong = |problem: &dyn std::fmt::Display| {
                Error::file(table, format_args!("line {}: {problem}", row.line))
            };
            let path = row.path.as_ref().ok_or_else(|| wrong(&"names no file: expected a column `path`"))?;
            let places = [beside.join(path), PathBuf::from(path)];
            let found = places.iter().find(|p| p.is_file()).cloned();
            let found = found.or_else(|| places.iter().find_map(|p| with_ending(p)));
            files.push(found.ok_or_else(|| {
                wrong(&format_args!("`{path}` is no file, as written or below {}", beside.display()))
            })?);
        }
        let classes = rows.classes();
        let number = |name: &String| classes.iter().position(|c| c == name).map(|i| i as u32);
        let labels = rows.rows().iter().map(|r| r.label.as_ref().and_then(number)).collect();
        Ok(Manifest { table: table.to_path_buf(), files, rows, labels, classes })
    }
}

/// The one recording that is called `path` but for its ending.
fn with_ending(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let entries = std::fs::read_dir(path.parent()?).ok()?.flatten().map(|e| e.path());
    let fits = |p: &PathBuf| {
        let file = p.file_name().unwrap_or_default().to_string_lossy();
        stem(&file) == name && SPEECH.holds(p) && p.is_file()
    };
    let found: Vec<PathBuf> = entries.filter(fits).take(2).collect();
    <[PathBuf; 1]>::try_from(found).ok().map(|[only]| only)
}

impl Records for Manifest {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let path = self.files.get(index).ok_or_else(|| missing(self.table.display(), index, self.len()))?;
        let (id, source) = (path.display().to_string(), Source::File(path.clone()));
        Ok(Record { id, source, label: self.label(index), group: self.group(index) })
    }

    fn label(&self, index: usize) -> Option<u32> {
        *self.labels.get(index)?
    }

    fn group(&self, index: usize) -> Option<String> {
        self.rows.rows().get(index)?.group.clone()
    }

    fn transcript(&self, index: usize) -> Option<String> {
        self.rows.rows().get(index)?.text.clone()
    }

    fn alignment(&self, index: usize) -> Option<PathBuf> {
        crate::folder::alignment_beside(self.files.get(index)?)
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.rows.rows().get(index)?.split
    }

    fn notes(&self) -> Vec<String> {
        self.rows.notes().to_vec()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_either_kind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("clips")).unwrap();
        for name in ["a.wav", "b.wav", "b.lab"] {
            std::fs::write(dir.path().join("clips").join(name), "").unwrap();
        }
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let absolute = dir.path().join("clips/b.wav");
        let tsv = write(
            "m.tsv",
            &format!(
                "path\tsentence\tlabel\tclient_id\nclips/a.wav\tBon jour\tfr\ts1\n{}\tHello\ten\ts2\n",
                absolute.display()
            ),
        );
        let jsonl = write(
            "m.jsonl",
            "{\"audio\": \"clips/a.wav\", \"text\": \"Bon jour\", \"label\": \"fr\", \"speaker\": \"s1\"}\n{\"audio\": \"clips/b.wav\", \"text\": \"Hello\", \"label\": \"en\", \"speaker\": \"s2\"}\n",
        );
        for table in [tsv, jsonl] {
            assert!(Manifest::is_table(&table));
            let set = Manifest::open(&table, &Columns::default()).unwrap();
            assert_eq!((set.len(), set.classes()), (2, &["en".to_string(), "fr".to_string()][..]));
            assert_eq!(
                (set.label(0), set.group(0).as_deref(), set.transcript(0).as_deref()),
                (Some(1), Some("s1"), Some("Bon jour"))
            );
            assert!(
                set.get(1).unwrap().id.ends_with("b.wav")
                    && set.alignment(1).is_some()
                    && set.alignment(0).is_none()
            );
            assert!(set.get(2).is_err());
        }
        let e = Manifest::open(
            &write("bad.csv", "path,label\nclips/a.wav,x\nclips/z.wav,y\n"),
            &Columns::default(),
        )
        .err()
        .unwrap()
        .to_string();
        assert!(e.contains("bad.csv: line 3") && e.contains("clips/z.wav"), "{e}");
        let e = Manifest::open(&write("none.csv", "text,label\nhello,x\n"), &Columns::default())
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains("line 2: names no file"), "{e}");
    }
}
