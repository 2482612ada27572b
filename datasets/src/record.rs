//! A record: where one sample is, and what is known about it. Decoding is the modality's business.

use selfsup_core::{Error, Result};
use std::path::PathBuf;
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

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A name for messages: a path, or a file and a place in it.
    pub id: String,
    /// Its content.
    pub source: Source,
    /// Its class, an index into [`Records::classes`].
    pub label: Option<u32>,
    /// What must not be divided between training and testing (a patient, a speaker, variants of one picture).
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

    /// The label of record `index`, without reading its content.
    fn label(&self, index: usize) -> Option<u32>;

    /// Names of the classes; empty where there are no labels.
    fn classes(&self) -> &[String];
}

impl<R: Records + ?Sized> Records for Arc<R> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        (**self).get(index)
    }
    fn label(&self, index: usize) -> Option<u32> {
        (**self).label(index)
    }
    fn classes(&self) -> &[String] {
        (**self).classes()
    }
}

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
            Some(i) => Err(Error::input("subset", format!("record {i} of {} does not exist", records.len()))),
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
            None => Err(Error::input("subset", format!("record {index} of {} does not exist", self.indices.len()))),
        }
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.records.label(*self.indices.get(index)?)
    }
    fn classes(&self) -> &[String] {
        self.records.classes()
    }
}
