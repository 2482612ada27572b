//! Failures on purpose, for tests of what a killed process leaves behind.
//!
//! After [`arm`] the n-th file operation of this thread fails and all later ones as well, those that would
//! clean up among them: nothing more reaches the disk, as if the process had been killed there. Every
//! operation that writes a run, a checkpoint or a cache asks [`point`] first. Builds without debug assertions
//! have neither counter nor check.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::path::Path;

thread_local! {
    /// Operations left before the failure; nothing where none is wanted.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Whether an operation has failed.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Lets the next `operations` file operations of this thread pass, and none after them.
pub fn arm(operations: u64) {
    LEFT.set(Some(operations));
    FAILED.set(false);
}

/// Lets all file operations pass again; returns whether the failure happened.
pub fn disarm() -> bool {
    LEFT.set(None);
    FAILED.take()
}

/// Stands before a file operation on `path`.
///
/// # Errors
/// [`Error::Io`] where a test asked for it, and never otherwise.
pub fn point(path: &Path) -> Result<()> {
    if cfg!(debug_assertions)
        && let Some(left) = LEFT.get()
    {
        if left == 0 {
            FAILED.set(true);
            return Err(Error::io(path, std::io::Error::other("failure on purpose")));
        }
        LEFT.set(Some(left - 1));
    }
    Ok(())
}
