//! Locks on folders: one process at a time writes a run or fills a cache.
//!
//! The lock is the system's, on the open file `.lock` in the folder, so it ends with the process however that
//! ends, and a file that was left behind locks nothing. File systems that know no locks (some network ones)
//! give one to everybody.

use super::fault;
use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::Path;

const NAME: &str = ".lock";

/// A folder that this process alone writes, until this is dropped.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code)] File);

impl FolderLock {
    /// Locks `folder`, which is made if need be; `None` where another process (or another holder in this one)
    /// has locked it.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn try_new(folder: &Path) -> Result<Option<Self>> {
        let file = Self::file(folder)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            // No locks on this file system: to refuse the folder would be worse.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(FolderLock(file))),
        }
    }

    /// Locks `folder`, which is made if need be; where another process has it, calls `waiting` and waits.
    ///
    /// # Errors
    /// As [`FolderLock::try_new`].
    pub fn wait(folder: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(lock) = Self::try_new(folder)? {
            return Ok(lock);
        }
        waiting();
        let file = Self::file(folder)?;
        let _ = file.lock();
        Ok(FolderLock(file))
    }

    /// Whether a process has locked `folder`. Nothing is written: the folder may be on a read-only mount.
    pub fn is_held(folder: &Path) -> bool {
        let Ok(file) = crate::file::open(folder.join(NAME)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    fn file(folder: &Path) -> Result<File> {
        fault::point(folder)?;
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let path = folder.join(NAME);
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io(&path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let first = FolderLock::try_new(&folder).unwrap().unwrap();
        assert!(FolderLock::try_new(&folder).unwrap().is_none() && FolderLock::is_held(&folder));
        assert!(!FolderLock::is_held(&dir.path().join("a")) && !dir.path().join("a/.lock").exists());
        let (said, released) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|s| {
            let waiter = s.spawn(|| {
                let _lock = FolderLock::wait(&folder, || said.store(true, Ordering::SeqCst)).unwrap();
                assert!(released.load(Ordering::SeqCst), "the lock was given away twice");
            });
            while !said.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            released.store(true, Ordering::SeqCst);
            drop(first);
            waiter.join().unwrap();
        });
        assert!(FolderLock::try_new(&folder).unwrap().is_some(), "it ends with its holder");
        assert!(!FolderLock::is_held(&folder));
    }
}
