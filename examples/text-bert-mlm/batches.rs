//! Examples in memory, as batches of like length.

use anyhow::Result;
use candle_core::Tensor;
use selfsup::core::data::{Collate, Dataset, Loader, LoaderConfig, Transform};
use selfsup::core::{Error, Key};
use selfsup::text::batch::{Example, Pad, Sequences};
use std::sync::Arc;

/// Examples in memory.
pub struct Examples(Vec<Example>);

impl Dataset for Examples {
    type Item = Example;
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> selfsup::core::Result<Example> {
        self.0.get(index).cloned().ok_or_else(|| Error::input("text", format!("{index} of {}", self.0.len())))
    }
}

pub type Loading<T> = Loader<Examples, T, Pad>;

/// Batches of like length, so that little is padded.
pub fn loader<T>(
    examples: Vec<Example>,
    transform: T,
    batch_size: usize,
    shuffle: bool,
    seed: u64,
    pad: u32,
) -> Result<Loading<T>>
where
    T: Transform<Example, Out = Example> + 'static,
{
    let lengths: Vec<u32> = examples.iter().map(|e| e.ids.len() as u32).collect();
    let config =
        LoaderConfig { batch_size, workers: 1, drop_last: false, shuffle, seed, ..LoaderConfig::default() };
    let (data, pad) = (Arc::new(Examples(examples)), Arc::new(Pad { pad, length: None }));
    Ok(Loader::by_length(data, Arc::new(transform), pad, config, lengths, if shuffle { 16 } else { 1 })?)
}

/// Numbers of the examples, the shortest first: batches of like length.
pub fn by_length(examples: &[Example]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&i| (examples[i].ids.len(), i));
    order
}

/// The example without what is known of it.
pub fn plain(e: &Example) -> Example {
    Example { targets: vec![], ..e.clone() }
}

/// What `f` makes of batches of the examples, one row each, in their order.
pub fn rows(
    examples: &[Example],
    pad: u32,
    f: impl Fn(&Sequences) -> Result<Tensor>,
) -> Result<Vec<Vec<f32>>> {
    let mut out = vec![Vec::new(); examples.len()];
    for chunk in by_length(examples).chunks(128) {
        let items = chunk.iter().map(|&i| plain(&examples[i])).collect();
        let batch = Pad { pad, length: None }.collate(items, chunk, Key::new(0))?;
        for (&i, row) in chunk.iter().zip(f(&batch)?.to_vec2::<f32>()?) {
            out[i] = row;
        }
    }
    Ok(out)
}
