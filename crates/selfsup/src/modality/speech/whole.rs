//! Recordings as they are measured: all of each, long ones in windows.

use super::{Speech, Stacked, corpus};
use crate::config::Read;
use crate::set::Set;
use candle_core::Tensor;
use selfsup_core::data::{Collate, Loader, LoaderConfig, Source};
use selfsup_core::objective::{Batch, Inputs};
use selfsup_core::{Encoder, Key, Layer, Pass, Result, Rng};
use selfsup_eval::{Matrix, Means};
use selfsup_speech::batch::{Utterance, together};
use selfsup_speech::data::{Cut, Whole};
use selfsup_speech::encoder::SpeechEncoder;
use selfsup_speech::features::Extractor;
use selfsup_speech::layers::{Timing, statistics};
use selfsup_speech::probe::part_statistics;
use std::sync::Arc;

/// Samples that go through an encoder at once, with their padding: about a minute, for whose first
/// convolution of 512 channels 430 MB are enough.
pub(super) const AT_ONCE: usize = 1 << 20;
/// Samples of a batch: 32 MB.
const BATCH: usize = 1 << 23;

/// Waves of parts with the labels and numbers of the records that they are of.
struct Parts {
    stacked: Stacked,
    owners: Vec<usize>,
}

impl Collate<Utterance> for Parts {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Utterance>, indices: &[usize], key: Key) -> Result<Inputs> {
        let owners: Vec<usize> = indices.iter().filter_map(|&i| self.owners.get(i).copied()).collect();
        self.stacked.collate(items, &owners, key)
    }
}

impl Speech {
    /// The recordings of a set in parts of at most `input.window_seconds`, with `context` seconds beside
    /// each.
    pub(super) fn parts(&self, set: &Set, context: f64) -> Result<Whole> {
        let input = &self.keys.input;
        let timing = Timing::of(&self.encoder, input.audio.rate);
        Whole::new(
            &corpus(set)?,
            self.prepare(false)?,
            &Cut { timing, seconds: input.window_seconds, context },
        )
    }

    /// Batches of parts, as many as memory allows.
    pub(super) fn part_loader<C: Collate<Utterance> + 'static>(
        whole: Arc<Whole>,
        collate: C,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<C::Batch>>>
    where
        C::Batch: 'static,
    {
        let most = (BATCH / whole.longest().max(1)).max(1);
        let loader = LoaderConfig { batch_size: loader.batch_size.min(most), ..loader };
        let same = Arc::new(|wave: Utterance, _: &mut Rng| Ok(wave));
        Ok(Box::new(Loader::new(whole, same, Arc::new(collate), loader)?))
    }

    /// All of every recording of a set, as inputs of the encoder.
    pub(super) fn read_whole(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let whole = Arc::new(self.parts(set, 0.0)?);
        let owners = whole.parts().iter().map(|p| p.clip).collect();
        Self::part_loader(whole, Parts { stacked: Stacked(set.records().clone()), owners }, loader)
    }

    /// Whether two waves of different length go through the encoder one by one, and how many samples do
    /// together.
    pub(super) fn runs(&self, lengths: &[usize]) -> Vec<std::ops::Range<usize>> {
        together(lengths, self.encoder.sees_padding(), AT_ONCE)
    }

    /// Features of a batch. Its rows go through the encoder in parts: what comes out does not depend on what
    /// they were batched with.
    pub(super) fn pooled(&self, encoder: &dyn Encoder, batch: &Inputs, read: Read) -> Result<Tensor> {
        let layers: Vec<Layer> = match read {
            Read::Pooled => Vec::new(),
            Read::Statistics => (0..self.encoder.depth).map(Layer::Hidden).collect(),
        };
        let lengths = SpeechEncoder::lengths(&batch.x, batch.valid.as_ref())?;
        let mut rows = Vec::new();
        for run in self.runs(&lengths) {
            let lengths = &lengths[run.clone()];
            let longest = lengths.iter().copied().max().unwrap_or(0);
            let part = batch.narrow(run.start, run.len())?;
            let trim = |t: &Tensor| t.narrow(1, 0, longest)?.contiguous();
            let padded = lengths.iter().any(|&n| n < longest);
            let valid = part.valid.as_ref().filter(|_| padded).map(trim).transpose()?;
            let made = encoder.forward(&trim(&part.x)?, valid.as_ref(), &layers, &Pass::eval())?;
            rows.push(match read {
                Read::Pooled => made.pooled.detach(),
                Read::Statistics => {
                    let counts: Vec<usize> = lengths.iter().map(|&n| self.encoder.frames(n)).collect();
                    statistics(&made.layers, &counts)?
                }
            });
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Mean and deviation over time of features that need no encoder, of every recording.
    pub(super) fn statistics_of(&self, features: &Extractor, set: &Set) -> Result<Matrix> {
        let whole = self.parts(set, 0.0)?;
        let rows = part_statistics(&whole, &|wave| features.compute(wave))?;
        let (n, d) = (set.len(), rows.first().map_or(0, |(row, _)| row.len()));
        let mut means = Means::of_statistics(n, d, d / 2);
        for (part, (row, frames)) in whole.parts().iter().zip(rows) {
            means.weigh(part.clip, &row, frames as f64)?;
        }
        Matrix::new(means.rows()?, n, d)
    }
}
