//! DICOM files of every encoding: pydicom's collection for tests.
//!
//! - what: 68 files: radiographs, MR, US, CT, enhanced multi-frame; one image in many transfer syntaxes;
//!   files that are damaged on purpose
//! - source: PyPI package `pydicom-data` 1.0.0 (34 MB), or its `data_store/data` in the folder `pydicom-data`
//!   of the cache
//! - licence: MIT
//! - use: the reader of DICOM: recodings of an image must decode alike. Files of one image share a group.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, missing};
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

const PACKAGE: Package = Package {
    client: Client::Pip,
    name: "pydicom-data",
    version: "1.0.0",
    sha256: "622ac97265f1d91f76b5120b5bd6eb0f57737c392ef863b72c71779c91e33637",
    holds: Holds { files: 68, bytes: 58_012_444 },
    keep: &["data_store/data"],
};

/// The card of this data set.
pub const CARD: Card = Card {
    name: "pydicom-data",
    kind: Kind::Medical,
    about: "68 DICOM files: one image in many encodings, multi-frame, damaged ones",
    licence: "MIT",
    size: "34 MB",
    source: "pip download pydicom-data",
    open: || Ok(Box::new(PydicomData::open(&fetch("pydicom-data", &PACKAGE)?)?)),
};

/// The files of a folder with `data/`.
pub struct PydicomData {
    files: Vec<PathBuf>,
}

impl PydicomData {
    /// Lists `folder/data`.
    ///
    /// # Errors
    /// If it is not there or holds no `.dcm`.
    pub fn open(folder: &Path) -> Result<Self> {
        let data = folder.join("data");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&data).map_err(|e| Error::io(&data, e))? {
            let path = entry.map_err(|e| Error::io(&data, e))?.path();
            if path.extension().is_some_and(|e| e == "dcm") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            Err(Error::file(&data, "holds no .dcm files"))
        } else {
            Ok(PydicomData { files })
        }
    }
}

impl Records for PydicomData {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let path = self.files.get(index).ok_or_else(|| missing("pydicom-data", index, self.len()))?;
        Ok(Record {
            id: path.display().to_string(),
            source: Source::File(path.clone()),
            label: None,
            group: self.group(index),
        })
    }

    /// The image: a file's name without what tells of its encoding.
    fn group(&self, index: usize) -> Option<String> {
        let stem = self.files.get(index)?.file_stem()?.to_string_lossy().into_owned();
        let images = [
            "RG1",
            "RG3",
            "US1",
            "MR2",
            "693",
            "emri_small",
            "OBXXXX1A",
            "liver",
            "SC_rgb",
            "SC_ybr",
            "gdcm-US-ALOKA-16",
            "color",
        ];
        Some(images.iter().find(|i| stem.starts_with(**i)).map_or(stem.clone(), |i| (*i).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recodings_share_a_group() {
        let dir = tempfile::tempdir().unwrap();
        assert!(PydicomData::open(dir.path()).is_err());
        std::fs::create_dir(dir.path().join("data")).unwrap();
        assert!(PydicomData::open(dir.path()).err().unwrap().to_string().contains("no .dcm"));
        for name in ["RG1_J2KR.dcm", "RG1_UNCR.dcm", "JPEG-LL.dcm", "notes.txt"] {
            std::fs::write(dir.path().join("data").join(name), "").unwrap();
        }
        let set = PydicomData::open(dir.path()).unwrap();
        let groups: Vec<_> = (0..set.len()).map(|i| set.group(i).unwrap()).collect();
        assert_eq!(groups, ["JPEG-LL", "RG1", "RG1"]);
        assert!(set.get(3).is_err());
    }
}
