//! Samples that come with their targets in files of their own: sentences with tags, questions with answers.

use super::Keys;
use crate::task::TaskConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::{Record, Records, Source as Place};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Refuses keys that tasks on such files do not read.
pub(super) fn check_keys(config: &TaskConfig<Keys>) -> Result<()> {
    let kind = &config.task.kind;
    if !config.data.labels.is_empty() {
        return Err(Error::config(format!(
            "data.labels is not read for {kind}: its files, data.path and data.test, have the targets"
        )));
    }
    let Keys { tokenizer, encoder, .. } = &config.keys;
    if config.task.run.is_empty() && tokenizer.path.is_none() && encoder.pretrained().is_none() {
        return Err(Error::config(format!(
            "{kind} needs a vocabulary: give --run RUN, encoder.pretrained or tokenizer.path"
        )));
    }
    Ok(())
}

/// Records whose content is a value as JSON.
pub(super) struct Packed(Vec<(String, Option<String>, Arc<[u8]>)>);

impl Packed {
    /// Of names, groups and values.
    pub(super) fn new<T: Serialize>(
        items: impl IntoIterator<Item = (String, Option<String>, T)>,
    ) -> Result<Self> {
        let packed = |(id, group, value): (String, Option<String>, T)| {
            let bytes = serde_json::to_vec(&value).map_err(|e| Error::input(&id, e))?;
            Ok((id, group, Arc::from(bytes)))
        };
        Ok(Packed(items.into_iter().map(packed).collect::<Result<_>>()?))
    }
}

/// The value of a record.
pub(super) fn unpacked<T: DeserializeOwned>(records: &dyn Records, index: usize) -> Result<T> {
    let record = records.get(index)?;
    serde_json::from_slice(&record.source.content()?).map_err(|e| Error::input(record.id, e))
}

impl Records for Packed {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        let found = self.0.get(index).ok_or_else(|| {
            Error::input("records", format!("there is no record {index} of {}", self.0.len()))
        })?;
        Ok(Record {
            id: found.0.clone(),
            source: Place::Bytes(found.2.clone()),
            label: None,
            group: found.1.clone(),
        })
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn group(&self, index: usize) -> Option<String> {
        self.0.get(index)?.1.clone()
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}
