//! Texts one by one, as an encoder takes them: for training the beginning of a long one, for measuring all of
//! it, in windows.

use super::records::{corrupted, text_of};
use candle_core::Tensor;
use selfsup_core::data::{Collate, Dataset};
use selfsup_core::objective::{Batch, Inputs};
use selfsup_core::{Encoder, Error, Key, Pass, Result};
use selfsup_datasets::Records;
use selfsup_text::batch::{Example, Pad};
use selfsup_text::corrupt::Corrupt;
use selfsup_text::tokenizer::Tokenizer;
use std::sync::Arc;

/// Tokens that go through an encoder at once, with their padding: 256 texts of 512.
const AT_ONCE: usize = 1 << 17;

/// Texts that are looked at to say how many are cut.
const LOOKED_AT: usize = 1000;

/// Tokenises the text of a record.
pub(super) struct Tokenised {
    pub(super) records: Arc<dyn Records>,
    pub(super) tokenizer: Tokenizer,
    pub(super) longest: usize,
    /// All windows of a text that is longer than `longest`; else its first tokens.
    pub(super) whole: bool,
    /// How it is corrupted first.
    pub(super) corrupt: Option<Corrupt>,
}

impl Tokenised {
    /// How many of the texts that were looked at are longer than `longest` tokens, and how many were.
    pub(super) fn longer(&self) -> Result<(usize, usize)> {
        let looked = self.records.len().min(LOOKED_AT);
        let mut longer = 0;
        for k in 0..looked {
            let text = text_of(&self.records, k * self.records.len() / looked)?;
            // A token has a byte at least.
            if text.len() > self.longest.saturating_sub(self.tokenizer.around()) {
                longer += usize::from(self.tokenizer.whole(&text, self.longest)?.len() > 1);
            }
        }
        Ok((longer, looked))
    }
}

impl Dataset for Tokenised {
    type Item = Vec<Example>;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Result<Vec<Example>> {
        let text = corrupted(&self.records, index, self.corrupt)?;
        let examples = match self.whole {
            true => self.tokenizer.whole(&text, self.longest)?,
            false => vec![self.tokenizer.example(&text, None, self.longest)?],
        };
        if examples.iter().any(|e| e.ids.is_empty()) {
            return Err(Error::input(self.records.id(index)?, "a text of no tokens"));
        }
        Ok(examples)
    }
}

/// Padded ids with the labels and numbers of their records.
pub(super) struct Stacked {
    pub(super) pad: Pad,
    pub(super) records: Arc<dyn Records>,
}

impl Collate<Vec<Example>> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Vec<Example>>, indices: &[usize], key: Key) -> Result<Inputs> {
        let owners: Vec<usize> =
            items.iter().zip(indices).flat_map(|(parts, &i)| std::iter::repeat_n(i, parts.len())).collect();
        let batch = self.pad.collate(items.into_iter().flatten().collect(), &owners, key)?;
        let labels = owners.iter().filter_map(|&i| self.records.label(i)).collect();
        Ok(Inputs { x: batch.input()?, valid: batch.valid.clone(), labels, indices: owners })
    }
}

/// Features of a batch, some rows after the other: a batch of long texts has many windows.
pub(super) fn pooled(encoder: &dyn Encoder, batch: &Inputs) -> Result<Tensor> {
    let (n, length) = (batch.samples(), batch.x.dim(1)?);
    let most = (AT_ONCE / length.max(1)).max(1);
    let mut rows = Vec::new();
    for first in (0..n).step_by(most) {
        let part = batch.narrow(first, most.min(n - first))?;
        rows.push(encoder.forward(&part.x, part.valid.as_ref(), &[], &Pass::eval())?.pooled.detach());
    }
    Ok(Tensor::cat(&rows, 0)?)
}

/// Tokens of each row.
pub(super) fn tokens(batch: &Inputs) -> Result<Vec<f64>> {
    match &batch.valid {
        None => Ok(vec![batch.x.dim(1)? as f64; batch.samples()]),
        Some(valid) => Ok(valid.sum(1)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect()),
    }
}
