//! HuBERT's batches before there are clusters: what a step costs does not depend on which clusters they are.

use selfsup_core::Result;
use selfsup_core::data::{LoadedBatch, Source};
use selfsup_speech::batch::{Target, Waves};
use selfsup_speech::encoder::SpeechConfig;

/// Batches whose frames have clusters that were made up: to see what a step costs before there are any.
pub(super) struct MadeUp {
    pub(super) batches: Box<dyn Source<Waves>>,
    pub(super) clusters: usize,
    pub(super) encoder: SpeechConfig,
}

impl Source<Waves> for MadeUp {
    fn batches(&self) -> usize {
        self.batches.batches()
    }

    fn epoch_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Waves>>> + '_>> {
        let frames = |samples: &usize| {
            Target::Frames((0..self.encoder.frames(*samples)).map(|t| (t % self.clusters) as i64).collect())
        };
        Ok(Box::new(self.batches.epoch_from(epoch, first)?.map(move |loaded| {
            let mut loaded = loaded?;
            loaded.batch.targets = loaded.batch.lengths.iter().map(frames).collect();
            Ok(loaded)
        })))
    }
}
