//! The files of blocks of a folder: which are in use, which go first when there are too many.
//!
//! A process that reads a file of blocks leaves an empty `.NAME.PID.use` beside it. What is marked so is
//! never removed; marks and unfinished files of processes that are gone are.

use super::private::{Aside, runs};
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// A file of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// When it was last opened.
    pub used: SystemTime,
    /// Whether a process reads it now.
    pub in_use: bool,
}

/// The files of blocks in `folder`, the least recently used first; none where there is no folder. What
/// processes that are gone have left unfinished is removed.
///
/// # Errors
/// If the folder cannot be listed.
pub fn shelved(folder: &Path) -> Result<Vec<Shelved>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder, e)),
    };
    let (mut found, mut marked) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((of, process)) = owner(&name) {
            match (runs(process, &path), name.ends_with(".use")) {
                (true, true) => marked.push(of),
                (true, false) => {}
                (false, _) => drop(std::fs::remove_file(&path)),
            }
        } else if name.ends_with(".blocks")
            && let Ok(meta) = std::fs::symlink_metadata(&path)
        {
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Shelved { path, bytes: meta.len(), used, in_use: false });
        }
    }
    for file in &mut found {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        file.in_use = marked.iter().any(|m| *m == name);
    }
    found.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    Ok(found)
}

/// Name and process of `.NAME.PID.use`, and of `.NAME.NUMBER.PID.tmp`.
fn owner(name: &str) -> Option<(String, u32)> {
    let inner = name.strip_prefix('.')?;
    let inner = inner.strip_suffix(".use").or_else(|| inner.strip_suffix(".tmp"))?;
    let (of, process) = inner.rsplit_once('.')?;
    Some((of.to_string(), process.parse().ok()?))
}

/// Removes files of blocks that no process reads, the least recently used first, until at most `most` bytes
/// are left. Gives the number and the bytes of what was removed.
///
/// # Errors
/// If the folder cannot be listed or a file cannot be removed.
pub fn trim(folder: &Path, most: u64) -> Result<(usize, u64)> {
    let found = shelved(folder)?;
    let mut left: u64 = found.iter().map(|f| f.bytes).sum();
    let mut removed = (0, 0);
    for file in found.into_iter().filter(|f| !f.in_use) {
        if left <= most {
            break;
        }
        remove(&file.path)?;
        left -= file.bytes;
        removed = (removed.0 + 1, removed.1 + file.bytes);
    }
    Ok(removed)
}

/// Removes a file of blocks and what was computed of it.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        // Another process was first.
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(path, e)),
        _ => {}
    }
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else { return Ok(()) };
    let stem = format!("{}.", stem.to_string_lossy());
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&stem) && name.ends_with(".scale.json") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// A mark that this process reads a file; it goes with the last value of the file.
pub(super) struct InUse(PathBuf);

static MARKS: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

impl InUse {
    /// Marks `path`, and makes it the most recently used. Where the folder cannot be written, nothing can be
    /// removed from it either.
    pub(super) fn of(path: &Path) -> InUse {
        if let Ok(file) = selfsup_core::file::open(path) {
            let _ = file.set_modified(SystemTime::now());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mark = path.with_file_name(format!(".{name}.{}.use", std::process::id()));
        let mut marks = MARKS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = marks.entry(mark.clone()).or_default();
        if *count == 0 {
            let aside = Aside(mark.clone());
            let _ = aside.create();
            // It goes with `InUse`, not here.
            std::mem::forget(aside);
        }
        *count += 1;
        InUse(mark)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut marks = MARKS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = marks.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                marks.remove(&self.0);
                let _ = std::fs::remove_file(&self.0);
            }
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![allow(clippy::unwrap_used)] // tests
    use super::*;
    use std::time::Duration;

    /// A file of so many bytes, last used so many seconds ago.
    fn put(folder: &Path, name: &str, bytes: usize, ago: u64) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, vec![0; bytes]).unwrap();
        let when = SystemTime::now() - Duration::from_secs(ago);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(when).unwrap();
        path
    }

    #[test]
    fn the_least_recently_used_go_first_and_never_those_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let old = put(folder, "a.blocks", 100, 300);
        put(folder, "a.0123.scale.json", 5, 300);
        let newer = put(folder, "b.blocks", 100, 200);
        let read = put(folder, "c.blocks", 100, 400);
        // Opening makes it the newest, and marks it.
        let mark = InUse::of(&read);
        let again = InUse::of(&read);
        let found = shelved(folder).unwrap();
        assert_eq!(found.iter().map(|f| &f.path).collect::<Vec<_>>(), [&old, &newer, &read]);
        assert_eq!(found.iter().map(|f| f.in_use).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(trim(folder, 250).unwrap(), (1, 100));
        assert!(!old.exists() && !folder.join("a.0123.scale.json").exists() && newer.exists());
        assert_eq!(trim(folder, 0).unwrap(), (1, 100));
        drop(mark);
        assert_eq!(trim(folder, 0).unwrap(), (0, 0));
        drop(again);
        assert_eq!(trim(folder, 0).unwrap(), (1, 100));
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        assert_eq!(shelved(&folder.join("absent")).unwrap(), []);
    }

    #[test]
    fn what_processes_left_is_removed() {
        // No process has this number: Linux gives out at most 4,194,304.
        let gone = 4_000_000_000u32;
        let dir = tempfile::tempdir().unwrap();
        let names = [
            format!(".a.blocks.0.{gone}.tmp"),
            format!(".a.blocks.{gone}.use"),
            format!(".b.blocks.0.{}.tmp", std::process::id()),
            ".other.tmp".to_string(),
        ];
        for name in &names {
            put(dir.path(), name, 10, 0);
        }
        put(dir.path(), "a.blocks", 10, 0);
        assert!(!shelved(dir.path()).unwrap()[0].in_use);
        let there = names.map(|n| dir.path().join(n).exists());
        assert_eq!(there, [false, false, true, true]);
    }
}
