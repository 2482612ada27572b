//! Data sets by name, and data by path.

use crate::fashion_mnist;
use crate::folder::Folder;
use crate::idx::Idx;
use crate::record::Records;
use selfsup_core::{Error, Result};
use std::path::Path;

/// What is known about a named data set.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// All data sets with a name.
pub const CARDS: &[Card] = &[Card {
    name: "fashion-mnist",
    about: "10,000 grey images of clothes, 28 x 28, 10 classes (fashion-mnist/test: 10,000 for testing)",
    licence: "MIT",
    source: "bundled",
}];

type Open = fn() -> Result<Box<dyn Records>>;
const NAMED: &[(&str, Open)] = &[
    ("fashion-mnist", || Ok(Box::new(fashion_mnist::bundled(true)?))),
    ("fashion-mnist/test", || Ok(Box::new(fashion_mnist::bundled(false)?))),
];

/// Opens a data set by name, or whatever a path leads to: a folder of images, an idx file.
///
/// # Errors
/// If there is nothing of that name, or it cannot be read.
pub fn open(what: &str) -> Result<Box<dyn Records>> {
    if let Some((_, open)) = NAMED.iter().find(|(name, _)| *name == what) {
        return open();
    }
    let path = Path::new(what);
    if path.is_dir() {
        return Ok(Box::new(Folder::open(path)?));
    }
    if path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("idx3") {
            return Ok(Box::new(Idx::open(path, Idx::labels_beside(path).as_deref())?));
        }
        return Err(Error::file(path, "not a kind of data that is known: expected a folder of images or an idx3 file"));
    }
    let names = NAMED.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    Err(Error::input(what, format!("no such file or folder, and no data set of that name (known: {names})")))
}
