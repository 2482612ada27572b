//! Cells of a curve on disk: a file for each, whose name has a hash of all that the cell depends on.
//!
//! A file appears whole (written aside, synced, renamed), so a curve that was stopped goes on with what is
//! there, and gives what an unbroken one gives: both read their numbers from the files. Numbers have six
//! decimals, which JSON gives back to the bit.

use selfsup_core::checkpoint::{FolderLock, pretty_json, write_text};
use selfsup_core::{Error, Result, sha256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The files of a curve. One process writes them at a time.
pub struct Cells {
    folder: PathBuf,
    _lock: FolderLock,
}

/// A file: what it depends on, and what was found.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    key: String,
    depends_on: Value,
    found: T,
}

/// A cell by its name and the hash of what it depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    name: String,
    hash: String,
    depends_on: Value,
}

impl Key {
    /// The cell `name`, which depends on `depends_on`.
    ///
    /// # Errors
    /// Never: a hash of text.
    pub fn new(name: impl Into<String>, depends_on: Value) -> Result<Self> {
        let text = depends_on.to_string();
        let hash = sha256::of(text.as_bytes()).map_err(|e| Error::io("a cell of a curve", e))?;
        Ok(Key { name: name.into(), hash, depends_on })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}.json", self.name, &self.hash[..16.min(self.hash.len())]))
    }
}

/// Six decimals.
pub fn rounded(value: f64) -> f64 {
    let scaled = (value * 1e6).round() / 1e6;
    if scaled.is_finite() { scaled } else { value }
}

impl Cells {
    /// Those of the curve in `out`, whose folder is made if need be.
    ///
    /// # Errors
    /// If it cannot be written, or another process writes it.
    pub fn open(out: &Path) -> Result<Self> {
        let folder = out.join("cells");
        let lock = FolderLock::try_new(&folder)?.ok_or_else(|| {
            Error::file(
                out,
                "another process computes this curve: wait until it ends, or choose another --out",
            )
        })?;
        Ok(Cells { folder, _lock: lock })
    }

    /// What was found for a cell; nothing where it was not computed yet. A damaged file is passed over with a
    /// warning.
    pub fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        let path = key.file(&self.folder);
        if !path.is_file() {
            return None;
        }
        let read = || -> Result<T> {
            let text = selfsup_core::file::text(&path)?;
            let kept: Kept<T> = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
            if kept.key == key.hash { Ok(kept.found) } else { Err(Error::file(&path, "is of another cell")) }
        };
        read().map_err(|e| crate::say::warning(format_args!("{e}: it is computed again"))).ok()
    }

    /// Keeps what was found, and returns it as it will be read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put<T: Serialize + DeserializeOwned>(&self, key: &Key, found: T) -> Result<T> {
        let kept = Kept { key: key.hash.clone(), depends_on: key.depends_on.clone(), found };
        let path = key.file(&self.folder);
        write_text(&path, &pretty_json(&kept)?)?;
        self.get(key).ok_or_else(|| Error::file(&path, "cannot be read back"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let cells = Cells::open(dir.path()).unwrap();
        assert!(Cells::open(dir.path()).is_err(), "one writer");
        let key = |seed: u64| Key::new("linear-100-d0-s0", json!({ "seed": seed, "rate": 3e-4 })).unwrap();
        assert!(cells.get::<f64>(&key(0)).is_none());
        for i in 0..2000u64 {
            let value = rounded(100.0 * (i as f64 + 0.5).sin());
            assert_eq!(cells.put(&key(0), value).unwrap().to_bits(), value.to_bits());
            if i > 50 {
                break;
            }
        }
        assert!(cells.get::<f64>(&key(1)).is_none(), "another dependency is another cell");
        let file = key(0).file(&dir.path().join("cells"));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert!(cells.get::<f64>(&key(0)).is_none());
        std::fs::write(&file, text.replace(&key(0).hash, "0")).unwrap();
        assert!(cells.get::<f64>(&key(0)).is_none());
    }

    #[test]
    fn six_decimals_survive_json() {
        let mut r = selfsup_core::Key::new(3).rng();
        for _ in 0..20_000 {
            let value = rounded(f64::from(r.uniform()) * 200.0 - 100.0 + f64::from(r.uniform()) * 1e-5);
            let back: f64 = serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
            assert_eq!(back.to_bits(), value.to_bits());
        }
    }
}
