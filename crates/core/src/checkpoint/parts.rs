//! Files of a cache folder: each under a name of its own, hashed as it is written, and listed in a sealed
//! JSON file that is renamed into place at the end.
//!
//! Two processes that fill one folder therefore never write into each other's files: whichever list is there
//! names the files of one of them, all whole. Who reads compares the BLAKE3 hashes, so a flipped bit is
//! noticed before the data is used.

use super::file::{sync_folder, write_atomic_aside};
use super::{fault, lock::FolderLock};
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const PREFIX: &str = "part-";

/// Letters that no other process and no other call has: process, time and a counter.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{:x}-{time:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A whole part, as the list of its folder has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its file in the folder.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 of its content in hexadecimal.
    pub blake3: String,
}

impl Part {
    /// Opens the file below `folder`, and reads it through once to compare its hash.
    ///
    /// # Errors
    /// If it cannot be read, has another length, or is damaged.
    pub fn open(&self, folder: &Path) -> Result<(PathBuf, File)> {
        let path = folder.join(&self.name);
        let io = |e| Error::io(&path, e);
        if !self.name.starts_with(PREFIX) || self.name.contains(['/', '\\']) {
            return Err(Error::file(folder, format!("a part {:?}, expected {PREFIX}...", self.name)));
        }
        let mut file = crate::file::open(&path)?;
        let found = file.metadata().map_err(io)?.len();
        if found != self.bytes {
            return Err(Error::file(&path, format!("{found} bytes, expected {}", self.bytes)));
        }
        let mut hash = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            };
        }
        if hash.finalize().to_hex().as_str() != self.blake3 {
            return Err(Error::file(&path, "damaged: the checksum does not match"));
        }
        Ok((path, file))
    }
}

/// A part that is being written. Its file goes when this is dropped before [`PartWriter::finish`].
#[derive(Debug)]
pub struct PartWriter {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    hash: blake3::Hasher,
    part: Part,
}

impl PartWriter {
    /// A new file in `folder`, whose name ends with `.ending`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(folder: &Path, ending: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}.{ending}", unique());
        let path = folder.join(&name);
        fault::point(&path)?;
        let file = File::options().write(true).create_new(true).open(&path);
        let file = BufWriter::new(file.map_err(|e| Error::io(&path, e))?);
        let part = Part { name, bytes: 0, blake3: String::new() };
        Ok(PartWriter { path, file: Some(file), hash: blake3::Hasher::new(), part })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|e| Error::io(&self.path, e))?;
        self.hash.update(bytes);
        self.part.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file; what is returned goes into the list of the folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file, which is removed.
    pub fn finish(mut self) -> Result<Part> {
        fault::point(&self.path)?;
        if let Some(file) = &mut self.file {
            let io = |e| Error::io(&self.path, e);
            file.flush().map_err(io)?;
            file.get_ref().sync_all().map_err(io)?;
        }
        // From here on it stays.
        self.file = None;
        self.part.blake3 = self.hash.finalize().to_hex().to_string();
        Ok(self.part.clone())
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() && fault::point(&self.path).is_ok() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What a sealed JSON file holds: a value, and the hash of its JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal<T> {
    blake3: String,
    value: T,
}

fn digest(path: &Path, value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_vec(value).map_err(|e| Error::file(path, e))?;
    Ok(blake3::hash(&text).to_hex().to_string())
}

/// Writes `value` as JSON with its hash: aside under a name of its own, synced, renamed.
///
/// # Errors
/// As [`super::write_atomic`], and for a value without a JSON form.
pub fn write_sealed_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let seal = Seal { blake3: digest(path, value)?, value };
    let text = serde_json::to_vec_pretty(&seal).map_err(|e| Error::file(path, e))?;
    let aside = path.with_extension(format!("{}.tmp", unique()));
    write_atomic_aside(path, &aside, |f| f.write_all(&text).map_err(|e| Error::io(path, e)))
}

/// Reads what [`write_sealed_json`] wrote.
///
/// # Errors
/// If the file cannot be read, or is damaged.
pub fn read_sealed_json<T: Serialize + DeserializeOwned>(path: &Path) -> Result<T> {
    let text = crate::file::read(path)?;
    let seal: Seal<T> =
        serde_json::from_slice(&text).map_err(|e| Error::file(path, format!("not understood: {e}")))?;
    if digest(path, &seal.value)? != seal.blake3 {
        return Err(Error::file(path, "damaged: the checksum does not match"));
    }
    Ok(seal.value)
}

/// What `open` finds in `folder`, or else what `make` puts there. One process at a time makes: the others call
/// `waiting`, wait and take what it made. Parts that nobody finished, and all of the folder's own files that
/// `stale` recognises by name, are removed first.
///
/// # Errors
/// Those of `make`, and a folder that cannot be written.
pub fn made_once<T>(
    folder: &Path,
    stale: impl Fn(&str) -> bool,
    open: impl Fn() -> Option<T>,
    waiting: impl FnOnce(),
    make: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if let Some(found) = open() {
        return Ok(found);
    }
    let _lock = FolderLock::wait(folder, waiting)?;
    if let Some(found) = open() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if (name.starts_with(PREFIX) || stale(&name)) && path.is_file() {
            fault::point(&path)?;
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
    }
    sync_folder(&folder.join(PREFIX))?;
    make()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_show_every_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = PartWriter::create(dir.path(), "bin").unwrap();
        w.write(b"some ").unwrap();
        w.write(b"bytes").unwrap();
        let part = w.finish().unwrap();
        assert_eq!(part.bytes, 10);
        let (path, _) = part.open(dir.path()).unwrap();
        for at in 0..10 {
            let mut bytes = b"some bytes".to_vec();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            let e = part.open(dir.path()).unwrap_err().to_string();
            assert!(e.contains("checksum") && e.contains(&part.name), "{e}");
        }
        std::fs::write(&path, b"some").unwrap();
        assert!(part.open(dir.path()).unwrap_err().to_string().contains("4 bytes, expected 10"));
        let outside = Part { name: "part-/../../x".into(), ..part };
        assert!(outside.open(dir.path()).is_err());
        let mut dropped = PartWriter::create(dir.path(), "bin").unwrap();
        dropped.write(b"x").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "what is not finished goes");
    }

    #[test]
    fn sealed_json_shows_every_flip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.json");
        let list = vec![Part { name: "part-1".into(), bytes: 7, blake3: "00".into() }];
        write_sealed_json(&path, &list).unwrap();
        assert_eq!(read_sealed_json::<Vec<Part>>(&path).unwrap(), list);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut broken = whole.clone();
                broken[at] ^= 1 << bit;
                std::fs::write(&path, &broken).unwrap();
                // White space and the case of a digit carry nothing.
                if let Ok(read) = read_sealed_json::<Vec<Part>>(&path) {
                    assert_eq!(read, list, "bit {bit} of byte {at}");
                }
            }
        }
    }
}
