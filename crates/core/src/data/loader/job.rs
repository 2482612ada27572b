//! The work of a worker on one sample, and on the samples of a batch.

use super::config::LoaderConfig;
use crate::data::{Collate, Dataset, LoadedBatch, Sampler, Transform};
use crate::error::{Error, Result};
use selfsup_kernels::rng::Key;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The shared state of the workers that does not change.
pub(super) struct Job<D: ?Sized, T: ?Sized, C: ?Sized> {
    pub(super) dataset: Arc<D>,
    pub(super) transform: Arc<T>,
    pub(super) collate: Arc<C>,
    pub(super) sampler: Sampler,
    pub(super) config: LoaderConfig,
    /// Samples of an epoch that this process takes.
    pub(super) per_epoch: u64,
    pub(super) bad: AtomicU64,
    pub(super) seen: AtomicU64,
}

/// A batch whose samples are all read. `batch` is absent where no good sample is left, or where a bad one
/// ends the run anyway.
pub(super) struct Done<B> {
    pub(super) batch: Option<Result<B>>,
    pub(super) indices: Vec<usize>,
    pub(super) bad: Vec<(usize, String)>,
}

impl<D, T, C> Job<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    /// One sample, with its own generator.
    pub(super) fn sample(&self, epoch: u64, index: usize) -> Result<T::Out, String> {
        let mut rng = Key::new(self.config.seed).named("augment").fold(epoch).fold(index as u64).rng();
        let run = || self.dataset.get(index).and_then(|item| self.transform.apply(item, &mut rng));
        guarded(run).map_err(|e| e.to_string())
    }

    /// Puts the good samples together.
    pub(super) fn finish(
        &self,
        epoch: u64,
        number: usize,
        indices: Vec<usize>,
        results: Vec<Result<T::Out, String>>,
    ) -> Done<C::Batch> {
        let (mut items, mut good, mut bad) =
            (Vec::with_capacity(indices.len()), Vec::with_capacity(indices.len()), Vec::new());
        for (index, result) in indices.into_iter().zip(results) {
            match result {
                Ok(item) => {
                    items.push(item);
                    good.push(index);
                }
                Err(why) => bad.push((index, why)),
            }
        }
        let wanted = !items.is_empty() && (bad.is_empty() || self.config.max_bad_fraction > 0.0);
        let key = Key::new(self.config.seed).named("collate").fold(epoch).fold(number as u64);
        let collate = || {
            guarded(|| self.collate.collate(items, &good, key))
                .map_err(|e| name_batch(epoch, number, &good, e))
        };
        let batch = if wanted { Some(collate()) } else { None };
        Done { batch, indices: good, bad }
    }

    /// Counts, and decides whether the bad samples are too many. Called in the order of the batches.
    pub(super) fn deliver(
        &self,
        epoch: u64,
        number: usize,
        done: Done<C::Batch>,
    ) -> Result<LoadedBatch<C::Batch>> {
        let Done { batch, indices, bad } = done;
        let new = (indices.len() + bad.len()) as u64;
        let seen = self.seen.fetch_add(new, Ordering::Relaxed) + new;
        let all_bad = self.bad.fetch_add(bad.len() as u64, Ordering::Relaxed) + bad.len() as u64;
        let fraction = self.config.max_bad_fraction;
        if let Some((index, why)) = bad.first() {
            if fraction == 0.0 {
                return Err(Error::input(
                    format!("sample {index}"),
                    format!("{why} (epoch {epoch}, batch {number}; max_bad_fraction > 0 would skip it)"),
                ));
            }
            // The share is taken of whole epochs, the present one included: one bad sample in the first batch
            // is not 1 in 32.
            let of = seen.div_ceil(self.per_epoch).saturating_mul(self.per_epoch);
            if all_bad as f64 > fraction * of as f64 {
                return Err(Error::input(
                    "data set",
                    format!(
                        "{all_bad} bad samples exceed max_bad_fraction = {fraction} of the {of} samples of the epochs begun; one is sample {index}: {why}"
                    ),
                ));
            }
        }
        let batch = batch.unwrap_or_else(|| {
            let (index, why) = bad.first().map_or((0, ""), |(i, w)| (*i, w.as_str()));
            Err(Error::input(
                format!("epoch {epoch}, batch {number}"),
                format!("no good sample in it; sample {index}: {why}"),
            ))
        })?;
        Ok(LoadedBatch { batch, indices, bad })
    }
}

/// Runs a step of a sample; a panic becomes an error.
fn guarded<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    crate::guard::guarded(f).unwrap_or_else(|panic| {
        // Decoders are guarded where they are called: what comes here is a fault of the code around them.
        Err(Error::Other(format!("a fault of the program, RUST_BACKTRACE=1 shows where: {}", panic.0)))
    })
}

fn name_batch(epoch: u64, number: usize, indices: &[usize], e: Error) -> Error {
    let shown: Vec<String> = indices.iter().take(4).map(usize::to_string).collect();
    let dots = if indices.len() > 4 { ", ..." } else { "" };
    Error::input(format!("epoch {epoch}, batch {number} (samples {}{dots})", shown.join(", ")), e)
}
