//! A record: where one sample is, and what is known about it. Decoding is the modality's business.

use crate::objects::Objects;
use crate::split::Split;
use selfsup_core::{Error, Result};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the content of a sample is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A whole file.
    File(PathBuf),
    /// Encoded bytes (a member of a shard, a cell of a table).
    Bytes(Arc<[u8]>),
    /// Pixels that are not encoded, rows of interleaved channels.
    Pixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Values of a pixel.
        channels: u8,
        /// `height * width * channels` values.
        data: Arc<[u8]>,
    },
}

impl Source {
    /// The content: a file's bytes, the encoded bytes, or the pixels.
    ///
    /// # Errors
    /// If the file cannot be read, is not a regular file, or is larger than 2 GiB.
    pub fn content(&self) -> Result<Arc<[u8]>> {
        match self {
            Source::Bytes(data) | Source::Pixels { data, .. } => Ok(data.clone()),
            Source::File(path) => Ok(Arc::from(selfsup_core::file::read(path)?)),
        }
    }
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A name for messages: a path, or a file and a place in it.
    pub id: String,
    /// Its content.
    pub source: Source,
    /// Its class, an index into [`Records::classes`].
    pub label: Option<u32>,
    /// The group that stays on one side of a split (a patient, a speaker, variants of one picture).
    pub group: Option<String>,
}

/// Records that are read by index, from several threads at once.
pub trait Records: Send + Sync {
    /// Number of records.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads record `index`.
    ///
    /// # Errors
    /// If it cannot be read; the message names the file.
    fn get(&self, index: usize) -> Result<Record>;

    /// Its name, see [`Record::id`].
    ///
    /// # Errors
    /// If it cannot be read.
    fn id(&self, index: usize) -> Result<String> {
        Ok(self.get(index)?.id)
    }

    /// The label of record `index`, without reading its content; `None` where the set has no labels.
    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    /// The group of record `index`, without reading its content; `None` where the set has no groups.
    fn group(&self, _index: usize) -> Option<String> {
        None
    }

    /// The transcript of record `index`, where it is known.
    fn transcript(&self, _index: usize) -> Option<String> {
        None
    }

    /// A file that says which phone is said when in record `index` (`.lab`, `.phn`), where there is one.
    fn alignment(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// The file of a label volume on the grid of record `index`, where there is one: its values are
    /// [`Records::classes`].
    fn mask(&self, _index: usize) -> Option<PathBuf> {
        None
    }

    /// The annotated objects of record `index`, where they are known.
    ///
    /// # Errors
    /// If what is annotated cannot be; the message names the file and the place in it.
    fn objects(&self, _index: usize) -> Result<Option<Objects>> {
        Ok(None)
    }

    /// The name of what record `index` is a part of (the volume of a slice), where it is: a table that names
    /// it speaks of all its parts.
    fn whole(&self, _index: usize) -> Option<String> {
        None
    }

    /// The part that record `index` belongs to, where the set is divided (by its folders, by a table).
    fn split(&self, _index: usize) -> Option<Split> {
        None
    }

    /// What was recognised, taken and left out when the set was opened: lines for whoever opens it.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Names of the classes; empty where there are no labels.
    fn classes(&self) -> &[String] {
        &[]
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<R: Records + ?Sized> Records for $pointer<R> {
            fn len(&self) -> usize {
                (**self).len()
            }
            fn get(&self, index: usize) -> Result<Record> {
                (**self).get(index)
            }
            fn id(&self, index: usize) -> Result<String> {
                (**self).id(index)
            }
            fn label(&self, index: usize) -> Option<u32> {
                (**self).label(index)
            }
            fn group(&self, index: usize) -> Option<String> {
                (**self).group(index)
            }
            fn transcript(&self, index: usize) -> Option<String> {
                (**self).transcript(index)
            }
            fn alignment(&self, index: usize) -> Option<PathBuf> {
                (**self).alignment(index)
            }
            fn mask(&self, index: usize) -> Option<PathBuf> {
                (**self).mask(index)
            }
            fn objects(&self, index: usize) -> Result<Option<Objects>> {
                (**self).objects(index)
            }
            fn whole(&self, index: usize) -> Option<String> {
                (**self).whole(index)
            }
            fn split(&self, index: usize) -> Option<Split> {
                (**self).split(index)
            }
            fn notes(&self) -> Vec<String> {
                (**self).notes()
            }
            fn classes(&self) -> &[String] {
                (**self).classes()
            }
        }
    };
}
forward!(Arc);
forward!(Box);

/// Some records of a set, in a given order.
pub struct Subset<R> {
    records: R,
    indices: Vec<usize>,
}

impl<R: Records> Subset<R> {
    /// The records with these indices.
    ///
    /// # Errors
    /// If an index does not exist.
    pub fn new(records: R, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&i| i >= records.len()) {
            Some(i) => Err(missing("subset", *i, records.len())),
            None => Ok(Subset { records, indices }),
        }
    }
}

impl<R: Records> Records for Subset<R> {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        match self.indices.get(index) {
            Some(&i) => self.records.get(i),
            None => Err(missing("subset", index, self.indices.len())),
        }
    }
    fn id(&self, index: usize) -> Result<String> {
        match self.indices.get(index) {
            Some(&i) => self.records.id(i),
            None => Err(missing("subset", index, self.indices.len())),
        }
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.records.label(*self.indices.get(index)?)
    }
    fn group(&self, index: usize) -> Option<String> {
        self.records.group(*self.indices.get(index)?)
    }
    fn transcript(&self, index: usize) -> Option<String> {
        self.records.transcript(*self.indices.get(index)?)
    }
    fn alignment(&self, index: usize) -> Option<PathBuf> {
        self.records.alignment(*self.indices.get(index)?)
    }
    fn mask(&self, index: usize) -> Option<PathBuf> {
        self.records.mask(*self.indices.get(index)?)
    }
    fn objects(&self, index: usize) -> Result<Option<Objects>> {
        self.indices.get(index).map_or(Ok(None), |&i| self.records.objects(i))
    }
    fn whole(&self, index: usize) -> Option<String> {
        self.records.whole(*self.indices.get(index)?)
    }
    fn split(&self, index: usize) -> Option<Split> {
        self.records.split(*self.indices.get(index)?)
    }
    fn notes(&self) -> Vec<String> {
        self.records.notes()
    }
    fn classes(&self) -> &[String] {
        self.records.classes()
    }
}

/// Sets one after the other; classes are those of the first, and the others must have the same.
pub struct Concat {
    parts: Vec<Box<dyn Records>>,
}

impl Concat {
    /// All records of `parts` in order.
    ///
    /// # Errors
    /// If there is no part, or the parts have different classes.
    pub fn new(parts: Vec<Box<dyn Records>>) -> Result<Self> {
        let Some(first) = parts.first() else { return Err(Error::input("data", "nothing was named")) };
        match parts.iter().find(|p| p.classes() != first.classes()) {
            Some(other) => Err(Error::input(
                "data",
                format_args!("sets of different classes: {:?} and {:?}", first.classes(), other.classes()),
            )),
            None => Ok(Concat { parts }),
        }
    }

    fn at(&self, index: usize) -> Option<(&dyn Records, usize)> {
        let mut left = index;
        for part in &self.parts {
            if left < part.len() {
                return Some((&**part, left));
            }
            left -= part.len();
        }
        None
    }
}

impl Records for Concat {
    fn len(&self) -> usize {
        self.parts.iter().map(|p| p.len()).sum()
    }
    fn get(&self, index: usize) -> Result<Record> {
        match self.at(index) {
            Some((part, i)) => part.get(i),
            None => Err(missing("data", index, self.len())),
        }
    }
    fn id(&self, index: usize) -> Result<String> {
        match self.at(index) {
            Some((part, i)) => part.id(i),
            None => Err(missing("data", index, self.len())),
        }
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.at(index).and_then(|(part, i)| part.label(i))
    }
    fn group(&self, index: usize) -> Option<String> {
        self.at(index).and_then(|(part, i)| part.group(i))
    }
    fn transcript(&self, index: usize) -> Option<String> {
        self.at(index).and_then(|(part, i)| part.transcript(i))
    }
    fn alignment(&self, index: usize) -> Option<PathBuf> {
        self.at(index).and_then(|(part, i)| part.alignment(i))
    }
    fn mask(&self, index: usize) -> Option<PathBuf> {
        self.at(index).and_then(|(part, i)| part.mask(i))
    }
    fn objects(&self, index: usize) -> Result<Option<Objects>> {
        self.at(index).map_or(Ok(None), |(part, i)| part.objects(i))
    }
    fn whole(&self, index: usize) -> Option<String> {
        self.at(index).and_then(|(part, i)| part.whole(i))
    }
    fn split(&self, index: usize) -> Option<Split> {
        self.at(index).and_then(|(part, i)| part.split(i))
    }
    fn notes(&self) -> Vec<String> {
        self.parts.iter().flat_map(|p| p.notes()).collect()
    }
    fn classes(&self) -> &[String] {
        self.parts.first().map_or(&[], |p| p.classes())
    }
}

/// The error of an index past the end of `what`.
pub(crate) fn missing(what: impl std::fmt::Display, index: usize, len: usize) -> Error {
    Error::input(what, format_args!("there is no record {index}, expected an index below {len}"))
}

/// `len` bytes of a file from `offset`. Opened for each read: a thousand shards must not hold a thousand
/// descriptors.
pub(crate) fn read_at(path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    let io = |e| Error::io(path, e);
    let mut file = selfsup_core::file::open(path)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    // Grows with what is there: a length that lies does not allocate.
    file.take(len as u64).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() < len {
        return Err(Error::file(
            path,
            format_args!("ends after {} of the {len} bytes expected at {offset}; cut short?", bytes.len()),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Three;
    impl Records for Three {
        fn len(&self) -> usize {
            3
        }
        fn get(&self, i: usize) -> Result<Record> {
            Ok(Record {
                id: i.to_string(),
                source: Source::Bytes(Arc::from([])),
                label: self.label(i),
                group: self.group(i),
            })
        }
        fn label(&self, i: usize) -> Option<u32> {
            Some(i as u32 * 10)
        }
        fn group(&self, i: usize) -> Option<String> {
            Some(format!("g{i}"))
        }
        fn classes(&self) -> &[String] {
            &[]
        }
    }

    #[test]
    fn subsets_and_pointers_forward() {
        let set: Box<dyn Records> = Box::new(Three);
        let subset = Subset::new(Arc::new(set), vec![2, 0]).unwrap();
        assert_eq!((subset.len(), subset.label(0), subset.group(1)), (2, Some(20), Some("g0".to_string())));
        assert_eq!(subset.get(0).unwrap().id, "2");
        assert!(subset.get(2).unwrap_err().to_string().contains("below 2"));
        assert!(Subset::new(Three, vec![3]).is_err());
        let both = Concat::new(vec![Box::new(Three), Box::new(subset)]).unwrap();
        assert_eq!(
            (both.len(), both.label(2), both.label(3), both.id(4).unwrap()),
            (5, Some(20), Some(20), "0".to_string())
        );
        assert!(both.get(5).unwrap_err().to_string().contains("below 5"));
        assert!(Concat::new(Vec::new()).is_err());
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"hello").unwrap();
        assert_eq!(read_at(&path, 1, 3).unwrap(), b"ell");
        for (offset, len) in [(3, 3), (9, 1), (0, usize::MAX)] {
            assert!(read_at(&path, offset, len).unwrap_err().to_string().contains("cut short"));
        }
        assert_eq!(&*Source::File(path).content().unwrap(), b"hello");
        assert!(
            Source::File(dir.path().join("absent.jpg"))
                .content()
                .unwrap_err()
                .to_string()
                .contains("absent.jpg")
        );
        assert!(
            Source::File(dir.path().to_path_buf())
                .content()
                .unwrap_err()
                .to_string()
                .contains("regular file")
        );
    }
}
