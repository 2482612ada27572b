//! Readers of files: WFDB, EDF and EDF+, UCR and UEA `.ts`, tables of numbers and NumPy arrays.
//!
//! A reader keeps names, units, gains and rates, and marks missing samples with NaN. A malformed file gives an error
//! that names it and says what was expected. What a header promises is compared with the bytes that are there before
//! anything is allocated.

pub mod edf;
pub mod npy;
mod number;
pub mod table;
pub mod ts;
pub mod wfdb;

use crate::Recording;
use selfsup_core::{Error, Result, file};
use std::path::Path;

/// Endings of files that [`read`] takes for one recording each, in lower case.
pub const ENDINGS: [&str; 5] = ["hea", "edf", "csv", "tsv", "npy"];

/// What a reader cannot know from the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadConfig {
    /// Samples a second of files that state no rate: arrays, and tables without a column of times.
    pub rate: Option<f64>,
}

/// Reads the recording in a file, by its ending ([`ENDINGS`]).
///
/// # Errors
/// Naming the file and what was expected.
pub fn read(path: impl AsRef<Path>, config: &ReadConfig) -> Result<Recording> {
    let path = path.as_ref();
    let id = path.display().to_string();
    match path.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
        "hea" => wfdb::read(path),
        "edf" => edf::read(path),
        "csv" | "tsv" => table::read(&file::read(path)?, &id, config.rate),
        "npy" => npy::read(&file::read(path)?, &id, config.rate),
        other => Err(Error::file(
            path,
            format!("ends in `{other}`: expected a recording in a file that ends in {}", ENDINGS.join(", ")),
        )),
    }
}
