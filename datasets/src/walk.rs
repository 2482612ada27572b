//! The way through all folders below one, with links followed and bounded.

use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// Folders nested deeper than this are refused.
const DEPTH: usize = 64;

/// Most entries that are looked at: links between folders can multiply what is on the disk.
const ENTRIES: usize = 1 << 28;

/// A way through all folders below one.
pub(crate) struct Walk<F> {
    files: Vec<PathBuf>,
    wanted: F,
    /// The folders that lead here, with links followed.
    above: Vec<PathBuf>,
    entries: usize,
}

impl<F: Fn(&Path) -> bool> Walk<F> {
    /// The wanted files below `root`, in the order of their paths as texts (that of Python's `sorted(glob)`). Hidden files and folders are left out, and so are links that
    /// lead back to a folder they lie in (its files are listed anyway). A link that leads nowhere counts as a
    /// file.
    ///
    /// # Errors
    /// If a folder cannot be read, folders are nested deeper than 64, or there are more than 2^28 entries.
    pub(crate) fn files(root: &Path, wanted: F) -> Result<Vec<PathBuf>> {
        let mut walk = Walk { files: Vec::new(), wanted, above: Vec::new(), entries: 0 };
        walk.folder(root)?;
        walk.files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
        Ok(walk.files)
    }

    fn folder(&mut self, dir: &Path) -> Result<()> {
        let io = |e| Error::io(dir, e);
        let real = dir.canonicalize().map_err(io)?;
        if self.above.contains(&real) {
            return Ok(());
        }
        if self.above.len() >= DEPTH {
            return Err(Error::file(dir, format_args!("nested more than {DEPTH} folders deep")));
        }
        self.above.push(real);
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(Error::file(
                    dir,
                    format_args!("more than {ENTRIES} entries up to here: do links multiply the folders?"),
                ));
            }
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // Follows links; fails for one that leads nowhere (or in circles).
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => self.folder(&path)?,
                // A pipe or a socket is not an image, whatever its name: opening it would wait for ever.
                Ok(meta) if !meta.is_file() => {}
                _ if (self.wanted)(&path) => self.files.push(path),
                _ => {}
            }
        }
        self.above.pop();
        Ok(())
    }
}
