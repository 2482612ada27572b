//! CIFAR-10 and CIFAR-100 in their binary form (Krizhevsky 2009, "Learning Multiple Layers of Features from
//! Tiny Images").
//!
//! - what: 60,000 colour photos, 32 x 32 pixels, 50,000 for training; 10 or 100 balanced classes
//! - files: `cifar-10-binary.tar.gz` or `cifar-100-binary.tar.gz` of www.cs.toronto.edu/~kriz/cifar.html,
//!   unpacked
//! - licence: none stated; never bundled
//! - use: pre-train on the training images without labels; kNN and linear probe on the test images
//!
//! A record is one label byte (CIFAR-100: a coarse and a fine one, of which the fine counts) and 3 planes of
//! 1,024 bytes. Labels are read at the start, pixels by position.

use crate::record::{Record, Records, Source, missing, read_at};
use selfsup_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PLANE: usize = 32 * 32;

/// Which of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 10 classes, one label byte.
    Ten,
    /// 100 classes, two label bytes.
    Hundred,
}

impl Kind {
    fn labels(self) -> usize {
        match self {
            Kind::Ten => 1,
            Kind::Hundred => 2,
        }
    }

    fn classes(self) -> usize {
        match self {
            Kind::Ten => 10,
            Kind::Hundred => 100,
        }
    }

    /// The set that a file belongs to by its name.
    pub fn of(file: &Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        match name {
            "test_batch.bin" => Some(Kind::Ten),
            "train.bin" | "test.bin" => Some(Kind::Hundred),
            _ if name.starts_with("data_batch_") && name.ends_with(".bin") => Some(Kind::Ten),
            _ => None,
        }
    }
}

/// Images of one or more binary files.
pub struct Cifar {
    kind: Kind,
    /// Each file with the index of the first record after it.
    files: Vec<(PathBuf, usize)>,
    labels: Vec<u8>,
    classes: Vec<String>,
}

/// The files of a set in `folder`, if it has all of one part: `(files, kind)`.
pub(crate) fn files(folder: &Path, train: bool) -> Option<(Vec<PathBuf>, Kind)> {
    let ten: Vec<PathBuf> = if train {
        (1..=5).map(|i| folder.join(format!("data_batch_{i}.bin"))).collect()
    } else {
        vec![folder.join("test_batch.bin")]
    };
    let hundred = vec![folder.join(if train { "train.bin" } else { "test.bin" })];
    [(ten, Kind::Ten), (hundred, Kind::Hundred)]
        .into_iter()
        .find(|(files, _)| files.iter().all(|f| f.is_file()))
}

impl Cifar {
    /// The training or the test images of the folder that the archive unpacks to.
    ///
    /// # Errors
    /// If files are missing or damaged.
    pub fn open(folder: &Path, train: bool) -> Result<Self> {
        let part = if train {
            "data_batch_1.bin to data_batch_5.bin, or train.bin"
        } else {
            "test_batch.bin, or test.bin"
        };
        let (files, kind) = files(folder, train).ok_or_else(|| {
            Error::file(folder, format_args!("not a folder of CIFAR's binary files, expected {part} in it"))
        })?;
        Self::files(&files, kind)
    }

    /// The images of `files`, in their order. Names of classes are read from the file of names beside the
    /// first, if there is one.
    ///
    /// # Errors
    /// If a file is damaged, or there is none.
    pub fn files(files: &[PathBuf], kind: Kind) -> Result<Self> {
        let Some(first) = files.first() else {
            return Err(Error::input("CIFAR", "no files were given, expected at least one"));
        };
        let size = kind.labels() + 3 * PLANE;
        let (mut labels, mut parts) = (Vec::new(), Vec::new());
        for path in files {
            let io = |e| Error::io(path, e);
            let file = selfsup_core::file::open(path)?;
            let len = file.metadata().map_err(io)?.len();
            if len == 0 || len % size as u64 != 0 {
                let problem = format_args!(
                    "has {len} bytes, expected a multiple of {size}: one record is {} label bytes and 3 planes of 1024",
                    kind.labels()
                );
                return Err(Error::file(path, problem));
            }
            let (mut file, mut record) = (std::io::BufReader::with_capacity(1 << 20, file), vec![0; size]);
            for i in 0..len / size as u64 {
                file.read_exact(&mut record).map_err(io)?;
                let label = record[kind.labels() - 1];
                if usize::from(label) >= kind.classes() {
                    return Err(Error::file(
                        path,
                        format_args!("record {i} has label {label}, expected one below {}", kind.classes()),
                    ));
                }
                labels.push(label);
            }
            parts.push((path.clone(), labels.len()));
        }
        Ok(Cifar { kind, files: parts, labels, classes: names(first, kind) })
    }
}

/// Names of the classes from the file beside, else numbers.
fn names(file: &Path, kind: Kind) -> Vec<String> {
    let beside = match kind {
        Kind::Ten => "batches.meta.txt",
        Kind::Hundred => "fine_label_names.txt",
    };
    let mut text = String::new();
    if let Ok(f) = selfsup_core::file::open(file.with_file_name(beside)) {
        // A file of names that cannot be read costs names, not images.
        let _ = f.take(1 << 16).read_to_string(&mut text);
    }
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() == kind.classes() { names } else { (0..kind.classes()).map(|c| c.to_string()).collect() }
}

impl Records for Cifar {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let part = self.files.partition_point(|(_, end)| *end <= index);
        let (path, _) = self.files.get(part).ok_or_else(|| missing("CIFAR", index, self.len()))?;
        let place = index - if part == 0 { 0 } else { self.files[part - 1].1 };
        let size = self.kind.labels() + 3 * PLANE;
        let planes = read_at(path, (place * size + self.kind.labels()) as u64, 3 * PLANE)?;
        // Planes to interleaved channels.
        let data: Vec<u8> =
            (0..PLANE).flat_map(|i| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]]).collect();
        let source = Source::Pixels { width: 32, height: 32, channels: 3, data: Arc::from(data) };
        Ok(Record {
            id: format!("{}[{place}]", path.display()),
            source,
            label: self.label(index),
            group: None,
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).map(|&l| u32::from(l))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &[u8], seed: usize) -> Vec<u8> {
        labels.iter().copied().chain((0..3 * PLANE).map(|i| ((i + seed) % 251) as u8)).collect()
    }

    #[test]
    fn ten_in_five_files() {
        let dir = tempfile::tempdir().unwrap();
        for i in 1..=5u8 {
            let two = [record(&[i], usize::from(i)), record(&[i + 1], 40)].concat();
            std::fs::write(dir.path().join(format!("data_batch_{i}.bin")), two).unwrap();
        }
        assert!(Cifar::open(dir.path(), false).err().unwrap().to_string().contains("test_batch.bin"));
        std::fs::write(
            dir.path().join("batches.meta.txt"),
            "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n",
        )
        .unwrap();
        let set = Cifar::open(dir.path(), true).unwrap();
        assert_eq!((set.len(), set.classes()[3].as_str(), set.label(9)), (10, "cat", Some(6)));
        let r = set.get(4).unwrap();
        assert!(r.id.ends_with("data_batch_3.bin[0]") && r.label == Some(3), "{}", r.id);
        let Source::Pixels { width: 32, height: 32, channels: 3, data } = &r.source else { panic!() };
        let at = |plane: usize, i: usize| ((plane * PLANE + i + 3) % 251) as u8;
        assert_eq!(data[3 * 77..3 * 78], [at(0, 77), at(1, 77), at(2, 77)]);
        assert_eq!(data.len(), 3 * PLANE);
        assert!(set.get(10).is_err());
    }

    #[test]
    fn hundred_takes_the_fine_label() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("train.bin"), [record(&[3, 99], 0), record(&[3, 4], 1)].concat())
            .unwrap();
        let set = Cifar::open(dir.path(), true).unwrap();
        assert_eq!((set.label(0), set.label(1), set.classes().len()), (Some(99), Some(4), 100));
        assert_eq!(Kind::of(Path::new("x/train.bin")), Some(Kind::Hundred));
        assert_eq!(Kind::of(Path::new("x/data_batch_2.bin")), Some(Kind::Ten));
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test_batch.bin");
        let says = |bytes: &[u8], part: &str| {
            std::fs::write(&path, bytes).unwrap();
            let e = Cifar::open(dir.path(), false).err().unwrap().to_string();
            assert!(e.contains("test_batch.bin") && e.contains(part), "{e}");
        };
        says(&record(&[1], 0)[..3000], "multiple of 3073");
        says(&[], "multiple of 3073");
        says(&[record(&[1], 0), record(&[10], 0)].concat(), "record 1 has label 10");
        assert!(Cifar::files(&[], Kind::Ten).is_err());
        // Cut after it was opened: an error, no short image.
        std::fs::write(&path, record(&[1], 0)).unwrap();
        let set = Cifar::open(dir.path(), false).unwrap();
        std::fs::write(&path, [1, 2, 3]).unwrap();
        assert!(set.get(0).unwrap_err().to_string().contains("cut short"));
    }
}
