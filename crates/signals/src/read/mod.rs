//! Readers of files.

pub mod edf;
mod number;
pub mod ts;
pub mod wfdb;

use crate::Recording;
use selfsup_core::{Error, Result};
use std::path::Path;

/// Reads a recording by the ending of its file: `.hea` (WFDB) or `.edf`.
///
/// # Errors
/// Naming the file and what was expected.
pub fn read(path: impl AsRef<Path>) -> Result<Recording> {
    let path = path.as_ref();
    match path.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
        "hea" => wfdb::read(path),
        "edf" => edf::read(path),
        _ => Err(Error::file(path, "no recording that is known: expected a file ending in .hea or .edf")),
    }
}
