//! Texts in memory, without labels: what a data set of plain prose yields, one paragraph a record.

use crate::record::{Record, Records, Source, missing};
use selfsup_core::Result;
use std::path::PathBuf;

/// Paragraphs in their order.
pub struct Prose {
    path: PathBuf,
    texts: Vec<Box<str>>,
}

impl Prose {
    /// The paragraphs of `path`, which names them in messages.
    pub fn new(path: PathBuf, texts: Vec<Box<str>>) -> Self {
        Prose { path, texts }
    }
}

impl Records for Prose {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let text =
            self.texts.get(index).ok_or_else(|| missing(self.path.display(), index, self.texts.len()))?;
        Ok(Record {
            id: self.id(index)?,
            source: Source::Bytes(text.as_bytes().into()),
            label: None,
            group: None,
        })
    }

    fn id(&self, index: usize) -> Result<String> {
        Ok(format!("{}: paragraph {}", self.path.display(), index + 1))
    }
}

/// `text` with single spaces, and none around it.
pub(crate) fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
