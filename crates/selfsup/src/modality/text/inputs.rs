//! Texts one by one, as an encoder takes them.

use super::records::text_of;
use selfsup_core::data::{Collate, Dataset};
use selfsup_core::objective::Inputs;
use selfsup_core::{Error, Key, Result};
use selfsup_datasets::Records;
use selfsup_text::batch::{Example, Pad};
use selfsup_text::tokenizer::Tokenizer;
use std::sync::Arc;

/// Tokenises the text of a record.
pub(super) struct Tokenised {
    pub(super) records: Arc<dyn Records>,
    pub(super) tokenizer: Tokenizer,
    pub(super) longest: usize,
}

impl Dataset for Tokenised {
    type Item = Example;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let example = self.tokenizer.example(&text_of(&self.records, index)?, None, self.longest)?;
        if example.ids.is_empty() {
            return Err(Error::input(self.records.id(index)?, "a text of no tokens"));
        }
        Ok(example)
    }
}

/// Padded ids with the labels of their records.
pub(super) struct Stacked {
    pub(super) pad: Pad,
    pub(super) records: Arc<dyn Records>,
}

impl Collate<Example> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Example>, indices: &[usize], key: Key) -> Result<Inputs> {
        let batch = self.pad.collate(items, indices, key)?;
        let labels = indices.iter().filter_map(|&i| self.records.label(i)).collect();
        Ok(Inputs { x: batch.input()?, valid: batch.valid.clone(), labels, indices: indices.to_vec() })
    }
}
