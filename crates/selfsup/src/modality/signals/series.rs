//! Where signals lie: series of `.ts` files, or a file for each signal.

use crate::set::Set;
use selfsup_core::{Error, Result, file};
use selfsup_datasets::folder::Folder;
use selfsup_datasets::recognise::files;
use selfsup_datasets::{
    Kind, Layout, Reading, Recogniser, Record, Records, Source, Split, list, open_kind_with,
};
use selfsup_signals::Recording;
use selfsup_signals::prepare::SignalConfig;
use selfsup_signals::read::{self, ts};
use selfsup_signals::window::Window;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of series.
const SERIES: Recogniser = Recogniser { endings: &["ts"], ..Recogniser::new(Kind::Signals) };
/// Files of one signal each.
const RECORDED: Recogniser = Recogniser { endings: &["hea", "edf", "npy"], ..Recogniser::new(Kind::Signals) };
/// Tables of numbers: signals where nothing else is.
const TABLES: Recogniser = Recogniser { endings: &["csv", "tsv"], ..Recogniser::new(Kind::Signals) };

/// Tables that speak of signals and are none.
const NOTES: [&str; 6] = ["labels", "classes", "participants", "metadata", "splits", "subjects"];

/// The signals of a data set's name, a `.ts` file, another file, or a folder of them.
///
/// # Errors
/// If nothing is there, a `.ts` file cannot be read, or two of them have different classes.
pub(crate) fn open(what: &str, layout: Layout) -> Result<Set> {
    if list().iter().any(|card| card.name == what) {
        return Ok(Set::new(open_kind_with(what, Kind::Signals, &Reading::default())?));
    }
    let path = Path::new(what);
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !meta.is_dir() {
        file::regular(path)?;
        return if SERIES.holds(path) {
            Ok(Set::new(Series::read(&[path.to_path_buf()], layout)?))
        } else {
            Ok(Set::new(Folder::one(path)))
        };
    }
    let of = |recogniser: Recogniser| files(path, Kind::Signals, &[recogniser]);
    let series = of(SERIES)?;
    if !series.is_empty() {
        return Ok(Set::new(Series::read(&series, layout)?));
    }
    let mut found = of(RECORDED)?;
    if found.is_empty() {
        found = of(TABLES)?;
        let stem = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        found.retain(|p| !NOTES.contains(&stem(p).as_str()));
    }
    if found.is_empty() {
        return Err(Error::file(
            path,
            "no signals found: looked in all folders for files ending in ts, hea, edf, npy, csv, tsv",
        ));
    }
    Ok(Set::new(Folder::of(path, found, layout)))
}

/// The series of `.ts` files.
struct Series {
    rows: Vec<Row>,
    classes: Vec<String>,
    notes: Vec<String>,
}

struct Row {
    id: String,
    /// The series as a file of its own.
    text: Arc<[u8]>,
    label: Option<u32>,
    split: Option<Split>,
}

impl Series {
    /// All series of all files. `NAME_TRAIN.ts` and `NAME_TEST.ts` are parts, where both are there.
    fn read(paths: &[PathBuf], layout: Layout) -> Result<Self> {
        let part = |path: &Path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
            match stem {
                s if s.ends_with("_train") => Some(Split::Train),
                s if s.ends_with("_test") => Some(Split::Test),
                _ => None,
            }
        };
        let has = |split| paths.iter().any(|p| part(p) == Some(split));
        let divided = layout != Layout::Plain && has(Split::Train) && has(Split::Test);
        let (mut rows, mut classes, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for path in paths {
            let id = path.display().to_string();
            let made = ts::read(path)?;
            if rows.is_empty() {
                classes = made.classes;
            } else if classes != made.classes {
                return Err(Error::file(
                    path,
                    format!(
                        "has the classes {:?}, other files {classes:?}: give a folder of one problem",
                        made.classes
                    ),
                ));
            }
            names.push(format!(
                "{} series of {}",
                made.series.len(),
                path.file_name().unwrap_or_default().to_string_lossy()
            ));
            let split = part(path).filter(|_| divided);
            rows.extend(made.series.iter().enumerate().map(|(i, s)| Row {
                id: format!("{id}:{}", i + 1),
                text: Arc::from(s.text().into_bytes()),
                label: s.label,
                split,
            }));
        }
        Ok(Series { rows, classes, notes: vec![names.join(", ")] })
    }
}

impl Records for Series {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let row = self.rows.get(index).ok_or_else(|| {
            Error::input("series", format!("there is no series {index} of {}", self.rows.len()))
        })?;
        Ok(Record {
            id: row.id.clone(),
            source: Source::Bytes(row.text.clone()),
            label: row.label,
            group: None,
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.rows.get(index)?.label
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.rows.get(index)?.split
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// What a record holds, as recorded.
///
/// # Errors
/// If it cannot be read; the message names it.
pub(crate) fn recording(record: &Record, config: &SignalConfig) -> Result<Recording> {
    match &record.source {
        Source::File(path) => read::read(path, &config.reading()),
        Source::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| Error::input(&record.id, "is no text: expected a series of a .ts file"))?;
            let made = ts::parse(text, Path::new(&record.id))?;
            let one = made.series.first().ok_or_else(|| Error::input(&record.id, "has no series"))?;
            Ok(one.recording(config.source_rate))
        }
        Source::Pixels { .. } => Err(Error::input(&record.id, "is a picture, expected a signal")),
    }
}

/// The window of a record, as networks read it.
///
/// # Errors
/// If it cannot be read or prepared; the message names it.
pub(crate) fn window(record: &Record, config: &SignalConfig) -> Result<Window> {
    config.prepare(&recording(record, config)?, &record.id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEAD: &str = "@univariate true\n@classLabel true a b\n@data\n";

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn series_have_classes_and_parts() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "X_TRAIN.ts", &format!("{HEAD}1,2,?:a\n4,5,6:b\n"));
        write(dir.path(), "X_TEST.ts", &format!("{HEAD}7,8,9:b\n"));
        let what = dir.path().display().to_string();
        let set = open(&what, Layout::Auto).unwrap();
        // In the order of the names.
        let labels: Vec<Option<u32>> = (0..3).map(|i| set.records().label(i)).collect();
        assert_eq!((set.len(), labels), (3, vec![Some(1), Some(0), Some(1)]));
        let splits: Vec<Option<Split>> = (0..3).map(|i| set.records().split(i)).collect();
        assert_eq!(splits, [Some(Split::Test), Some(Split::Train), Some(Split::Train)]);
        let record = set.records().get(1).unwrap();
        assert!(record.id.ends_with("X_TRAIN.ts:1"), "{}", record.id);
        assert!(recording(&record, &SignalConfig::default()).unwrap().channels[0].samples[2].is_nan());
        assert_eq!(window(&record, &SignalConfig::default()).unwrap().len(), 3);
        let plain = open(&what, Layout::Plain).unwrap();
        assert!((0..3).all(|i| plain.records().split(i).is_none()));
        write(dir.path(), "Y_TEST.ts", "@univariate true\n@classLabel true c\n@data\n1:c\n");
        assert!(open(&what, Layout::Auto).err().unwrap().to_string().contains("one problem"));
    }

    #[test]
    fn folders_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let what = dir.path().display().to_string();
        assert!(open(&what, Layout::Auto).err().unwrap().to_string().contains("no signals found"));
        write(dir.path(), "walk/1.csv", "t,x\n0,1\n1,2\n2,4\n");
        write(dir.path(), "run/2.csv", "t,x\n0,3\n1,2\n2,4\n");
        write(dir.path(), "labels.csv", "path,label\n");
        let set = open(&what, Layout::Auto).unwrap();
        assert_eq!((set.len(), set.classes()), (2, &["run".to_string(), "walk".to_string()][..]));
        assert_eq!(window(&set.records().get(0).unwrap(), &SignalConfig::default()).unwrap().len(), 3);
        // Beside recorded files tables are notes.
        write(dir.path(), "a.edf", "0");
        let set = open(&what, Layout::Auto).unwrap();
        assert_eq!(set.len(), 1);
        let error = window(&set.records().get(0).unwrap(), &SignalConfig::default()).unwrap_err().to_string();
        assert!(error.contains("a.edf"), "{error}");
        assert!(open("no-such-folder", Layout::Auto).is_err());
    }
}
