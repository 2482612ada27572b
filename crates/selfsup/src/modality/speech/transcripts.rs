//! Transcripts as they are to be recognised: `[transcript]`.

use selfsup_core::Result;
use selfsup_datasets::{Record, Records, Split};
use selfsup_speech::transcript::TranscriptConfig;
use std::path::PathBuf;
use std::sync::Arc;

/// Records whose transcripts are simplified.
pub struct Simplified {
    records: Arc<dyn Records>,
    config: TranscriptConfig,
}

impl Simplified {
    pub fn new(records: Arc<dyn Records>, config: TranscriptConfig) -> Self {
        Simplified { records, config }
    }
}

impl Records for Simplified {
    fn len(&self) -> usize {
        self.records.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        self.records.get(index)
    }
    fn id(&self, index: usize) -> Result<String> {
        self.records.id(index)
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.records.label(index)
    }
    fn group(&self, index: usize) -> Option<String> {
        self.records.group(index)
    }
    /// What is left; nothing where all of it was a mark of writing.
    fn transcript(&self, index: usize) -> Option<String> {
        let text = self.config.apply(&self.records.transcript(index)?);
        (!text.is_empty()).then_some(text)
    }
    fn alignment(&self, index: usize) -> Option<PathBuf> {
        self.records.alignment(index)
    }
    fn mask(&self, index: usize) -> Option<PathBuf> {
        self.records.mask(index)
    }
    fn whole(&self, index: usize) -> Option<String> {
        self.records.whole(index)
    }
    fn split(&self, index: usize) -> Option<Split> {
        self.records.split(index)
    }
    fn notes(&self) -> Vec<String> {
        self.records.notes()
    }
    fn classes(&self) -> &[String] {
        self.records.classes()
    }
}
