//! Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747).
//!
//! - what: grey images of clothes, 28 x 28 pixels, 10 balanced classes; 60,000 for training and 10,000 for
//!   testing
//! - bundled: the first 10,000 training images and all test images (8.4 MB)
//! - in full: Debian package `dataset-fashion-mnist` (31 MB), or the four files of
//!   github.com/zalandoresearch/fashion-mnist in the folder `fashion-mnist-full` of the cache
//! - licence: MIT, Zalando SE
//! - use: pre-train on the training images without labels; kNN and linear probe on the test images. Raw
//!   pixels are a strong baseline.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, cache, fetch};
use crate::idx::Idx;
use crate::kind::Kind;
use crate::samples;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// The classes, by label.
pub const CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// Training images that are bundled.
const BUNDLED: usize = 10_000;

const FILES: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "dataset-fashion-mnist",
    version: "0.0~git20200523.55506a9-1",
    sha256: "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    holds: Holds { files: 4, bytes: 30_878_551 },
    keep: &[
        "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
        "usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz",
        "usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz",
        "usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz",
    ],
};

/// The cards of this data set.
pub const CARDS: [Card; 4] = [
    Card {
        name: "fashion-mnist",
        kind: Kind::Vision,
        about: "10,000 grey images of clothes for training, 28 x 28, 10 classes",
        licence: "MIT",
        size: "4.2 MB",
        source: "bundled",
        open: || Ok(Box::new(bundled(true)?)),
    },
    Card {
        name: "fashion-mnist/test",
        kind: Kind::Vision,
        about: "the 10,000 images for testing",
        licence: "MIT",
        size: "4.2 MB",
        source: "bundled",
        open: || Ok(Box::new(bundled(false)?)),
    },
    Card {
        name: "fashion-mnist-full",
        kind: Kind::Vision,
        about: "all 60,000 images for training",
        licence: "MIT",
        size: "31 MB",
        source: "apt-get download dataset-fashion-mnist",
        open: || Ok(Box::new(full(true)?)),
    },
    Card {
        name: "fashion-mnist-full/test",
        kind: Kind::Vision,
        about: "the 10,000 images for testing, as fetched",
        licence: "MIT",
        size: "31 MB",
        source: "apt-get download dataset-fashion-mnist",
        open: || Ok(Box::new(full(false)?)),
    },
];

/// The bundled images: the first 10,000 for training, or the 10,000 for testing. They are compiled in; a build
/// of the published crate, which is without them, looks in `SELFSUP_DATA/fashion-mnist`, then in the whole
/// set, which is fetched if need be: the same images from each.
///
/// # Errors
/// If the files are not there and cannot be fetched, or are damaged.
pub fn bundled(train: bool) -> Result<Idx> {
    let part = if train { &FILES[..2] } else { &FILES[2..] };
    let [images, labels] = [part[0], part[1]].map(|file| format!("fashion-mnist/{file}"));
    if let (Some(images_gz), Some(labels_gz)) = (samples::bytes(&images), samples::bytes(&labels)) {
        let set = Idx::of_gzip((Path::new(&images), images_gz), (Path::new(&labels), labels_gz))?;
        return Ok(set.with_classes(&CLASSES).truncate(BUNDLED));
    }
    let beside = cache().ok().map(|c| c.join("fashion-mnist"));
    let Some(folder) = beside.filter(|f| f.is_dir()) else {
        return Ok(full(train)?.truncate(BUNDLED));
    };
    Ok(open(&folder, train)?.truncate(BUNDLED))
}

/// The whole set: 60,000 images for training or 10,000 for testing, fetched as a Debian package the first
/// time.
///
/// # Errors
/// If the files are not in the cache and cannot be fetched, or are damaged.
pub fn full(train: bool) -> Result<Idx> {
    open(&fetch("fashion-mnist-full", &PACKAGE)?, train)
}

/// The images in a folder with the four files of the data set, plain or gzip.
///
/// # Errors
/// If the files are not there or damaged.
pub fn open(folder: &Path, train: bool) -> Result<Idx> {
    let (images, labels) = files(folder, train).ok_or_else(|| {
        Error::file(
            folder,
            format_args!("lacks files of MNIST's naming, expected {} (.gz or not)", FILES.join(", ")),
        )
    })?;
    Ok(Idx::open(&images, Some(&labels))?.with_classes(&CLASSES))
}

/// The images and labels of one part by MNIST's naming.
pub(crate) fn files(folder: &Path, train: bool) -> Option<(PathBuf, PathBuf)> {
    let at = |name: &str| {
        [folder.join(name), folder.join(name.trim_end_matches(".gz"))].into_iter().find(|p| p.is_file())
    };
    let part = if train { &FILES[..2] } else { &FILES[2..] };
    Some((at(part[0])?, at(part[1])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Records, Source};

    #[test]
    fn bundled_images_are_there() {
        for train in [true, false] {
            let set = bundled(train).unwrap();
            assert_eq!(set.len(), 10_000);
            assert_eq!(set.classes(), CLASSES);
            let mut counts = [0; 10];
            (0..set.len()).for_each(|i| counts[set.label(i).unwrap() as usize] += 1);
            assert!(counts.iter().all(|&c| (900..1100).contains(&c)), "{counts:?}");
            assert!(matches!(
                set.get(9_999).unwrap().source,
                Source::Pixels { width: 28, height: 28, channels: 1, .. }
            ));
        }
        // The first labels of the published files.
        let first = |train| (0..5).map(|i| bundled(train).unwrap().label(i).unwrap()).collect::<Vec<_>>();
        assert_eq!((first(true), first(false)), (vec![9, 0, 0, 3, 0], vec![9, 2, 1, 1, 6]));
    }

    #[test]
    fn a_folder_without_the_files_says_which() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path(), true).err().unwrap().to_string().contains("train-images-idx3-ubyte.gz"));
    }

    /// Fetches 31 MB: run with `--ignored` where there is apt-get and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn the_bundled_images_are_the_first_of_all() {
        let (some, all) = (bundled(true).unwrap(), full(true).unwrap());
        assert_eq!(all.len(), 60_000);
        for i in (0..BUNDLED).step_by(37) {
            assert_eq!(some.get(i).unwrap().source, all.get(i).unwrap().source);
            assert_eq!(some.label(i), all.label(i));
        }
        assert_eq!(full(false).unwrap().len(), 10_000);
    }
}
