//! Files that are read whole, up to a size.

use selfsup_core::{Error, Result};
use std::path::Path;

/// The bytes of a file that is not larger than `most`.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size > most {
        return Err(Error::file(path, format!("{size} bytes, expected at most {most}")));
    }
    std::fs::read(path).map_err(|e| Error::io(path, e))
}
