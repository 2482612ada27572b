//! Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747).
//!
//! - what: grey images of clothes, 28 x 28 pixels, 10 balanced classes; 60,000 for training and 10,000 for testing
//! - bundled: the first 10,000 training images and all test images (8.9 MB); in full: Debian package `dataset-fashion-mnist`
//! - licence: MIT, Zalando SE
//! - use: pre-train on the training images without labels; kNN and linear probe on the test images. Raw pixels are a strong baseline.

use crate::idx::Idx;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// The classes, by label.
pub const CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// Where samples are: `SELFSUP_DATA/NAME`, else the folder of this crate's sources.
pub fn samples(name: &str) -> Result<PathBuf> {
    let mut tried = Vec::new();
    if let Some(data) = std::env::var_os("SELFSUP_DATA") {
        tried.push(Path::new(&data).join(name));
    }
    tried.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name));
    match tried.iter().find(|p| p.is_dir()) {
        Some(found) => Ok(found.clone()),
        None => {
            let list = tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" and ");
            Err(Error::input(name, format!("its files were not found (looked in {list}); set SELFSUP_DATA to the folder that holds {name}/")))
        }
    }
}

/// The bundled images: the first 10,000 for training, or the 10,000 for testing.
///
/// # Errors
/// If the files are not there or damaged.
pub fn bundled(train: bool) -> Result<Idx> {
    open(&samples("fashion-mnist")?, train)
}

/// The images in a folder with the four files of the data set.
///
/// # Errors
/// If the files are not there or damaged.
pub fn open(folder: &Path, train: bool) -> Result<Idx> {
    let part = if train { "train" } else { "t10k" };
    let images = folder.join(format!("{part}-images-idx3-ubyte.gz"));
    let labels = folder.join(format!("{part}-labels-idx1-ubyte.gz"));
    Ok(Idx::open(&images, Some(&labels))?.with_classes(&CLASSES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Records;

    #[test]
    fn bundled_images_are_there() {
        for train in [true, false] {
            let set = bundled(train).unwrap();
            assert_eq!(set.len(), 10_000);
            let mut counts = [0; 10];
            (0..set.len()).for_each(|i| counts[set.label(i).unwrap() as usize] += 1);
            assert!(counts.iter().all(|&c| (900..1100).contains(&c)), "{counts:?}");
        }
    }
}
