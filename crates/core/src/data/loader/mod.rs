//! Worker threads that read and transform samples, and batches that come out in order.
//!
//! Workers take single samples, not whole batches: all of them work on the first batch at once, so it comes
//! after `batch_size / workers` samples' time, and one slow sample delays one batch. Batches are handed out
//! in order from a window of `prefetch` batches; whoever finishes a batch's last sample also collates it. A
//! panic in a third-party decoder is caught and becomes an error that names the sample.

mod config;
mod epoch;
mod job;
#[cfg(test)]
mod tests;

pub use config::LoaderConfig;
pub use epoch::Epoch;

use crate::data::{Collate, Dataset, LoadedBatch, Sampler, SamplerConfig, Source, Transform};
use crate::error::{Error, Result};
use crate::world::World;
use epoch::{Shared, State, work};
use job::Job;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Reads batches of a data set on worker threads.
pub struct Loader<D: ?Sized, T: ?Sized, C: ?Sized>(Arc<Job<D, T, C>>);

impl<D: ?Sized, T: ?Sized, C: ?Sized> Clone for Loader<D, T, C> {
    /// Both share the counts of bad samples.
    fn clone(&self) -> Self {
        Loader(self.0.clone())
    }
}

impl<D, T, C> Loader<D, T, C>
where
    D: Dataset + ?Sized + 'static,
    T: Transform<D::Item> + ?Sized + 'static,
    C: Collate<T::Out> + ?Sized + 'static,
{
    /// A loader for one process.
    ///
    /// # Errors
    /// What [`Sampler::new`] refuses, and [`Error::Config`] for a `max_bad_fraction` outside `[0, 1]`.
    pub fn new(dataset: Arc<D>, transform: Arc<T>, collate: Arc<C>, config: LoaderConfig) -> Result<Self> {
        let sampler = Self::sampler_for(dataset.len(), &config)?;
        Self::sampled(dataset, transform, collate, config, sampler)
    }

    /// The same loader for one rank of `world`, which reads its part of every batch: the batches of all ranks
    /// together are those of one process. Counts of bad samples start anew.
    ///
    /// # Errors
    /// As [`Sampler::in_world`].
    pub fn in_world(self, world: &World) -> Result<Self> {
        let Job { dataset, transform, collate, sampler, config, .. } = &*self.0;
        let sampler = sampler.clone().in_world(world)?;
        Self::sampled(dataset.clone(), transform.clone(), collate.clone(), config.clone(), sampler)
    }

    /// A loader for one process whose batches hold samples of like length ([`Sampler::by_length`]): `lengths`
    /// are those of the samples, in any unit, and `window` batches are sorted together.
    ///
    /// # Errors
    /// As [`Loader::new`] and [`Sampler::by_length`].
    pub fn by_length(
        dataset: Arc<D>,
        transform: Arc<T>,
        collate: Arc<C>,
        config: LoaderConfig,
        lengths: impl Into<Arc<[u32]>>,
        window: usize,
    ) -> Result<Self> {
        let sampler = Self::sampler_for(dataset.len(), &config)?.by_length(lengths, window)?;
        Self::sampled(dataset, transform, collate, config, sampler)
    }

    fn sampler_for(len: usize, config: &LoaderConfig) -> Result<Sampler> {
        let &LoaderConfig { batch_size, shuffle, drop_last, seed, .. } = config;
        Sampler::new(len, SamplerConfig { batch_size, shuffle, drop_last, seed, ..SamplerConfig::default() })
    }

    fn sampled(
        dataset: Arc<D>,
        transform: Arc<T>,
        collate: Arc<C>,
        config: LoaderConfig,
        sampler: Sampler,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.max_bad_fraction) {
            return Err(Error::config(format!(
                "max_bad_fraction is {}, expected 0 to 1",
                config.max_bad_fraction
            )));
        }
        let LoaderConfig { batch_size, drop_last, .. } = config;
        let counted = if drop_last { sampler.batches() * batch_size } else { dataset.len() };
        let per_epoch = (counted / sampler.ranks()).max(1) as u64;
        let (bad, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Loader(Arc::new(Job { dataset, transform, collate, sampler, config, per_epoch, bad, seen })))
    }

    /// Decides which samples make up a batch.
    pub fn sampler(&self) -> &Sampler {
        &self.0.sampler
    }

    /// The configuration.
    pub fn config(&self) -> &LoaderConfig {
        &self.0.config
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        self.0.sampler.batches()
    }

    /// `(bad samples, samples)` delivered so far in this run, over all epochs.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.bad.load(Ordering::Relaxed), self.0.seen.load(Ordering::Relaxed))
    }

    /// Continues counting from the numbers of a checkpoint.
    pub fn restore_counts(&self, bad: u64, seen: u64) {
        self.0.bad.store(bad, Ordering::Relaxed);
        self.0.seen.store(seen, Ordering::Relaxed);
    }

    /// The batches `first_batch..` of `epoch`, in order; none if `first_batch` is past the end. The iterator
    /// ends after its first error. Dropping it stops the workers as soon as the samples under way are done.
    ///
    /// # Errors
    /// If a thread cannot be started. The iterator's own errors: a bad sample (named) with `max_bad_fraction
    /// = 0`, more bad samples than allowed, a batch without a good sample, and what the collate refuses.
    pub fn epoch_from(&self, epoch: u64, first_batch: usize) -> Result<Epoch<D, T, C>> {
        let order = Arc::new(self.0.sampler.order(epoch));
        let end = self.batches();
        let state = State { stop: false, opened: first_batch, end, window: VecDeque::new() };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), ready: Condvar::new() });
        let mut out = Epoch {
            job: self.0.clone(),
            shared,
            order,
            epoch,
            next: first_batch,
            end,
            over: false,
            workers: Vec::new(),
        };
        let workers = if first_batch < end { self.0.config.workers } else { 0 };
        for i in 0..workers {
            let (job, shared, order) = (out.job.clone(), out.shared.clone(), out.order.clone());
            let worker = std::thread::Builder::new()
                .name(format!("loader-{i}"))
                .spawn(move || work(&job, &shared, &order, epoch))
                .map_err(|e| {
                    Error::Other(format!("loader: cannot start worker thread {i} of {workers}: {e}"))
                })?;
            out.workers.push(worker);
        }
        Ok(out)
    }
}

impl<D, T, C> Source<C::Batch> for Loader<D, T, C>
where
    D: Dataset + ?Sized + 'static,
    T: Transform<D::Item> + ?Sized + 'static,
    C: Collate<T::Out> + ?Sized + 'static,
{
    fn batches(&self) -> usize {
        Loader::batches(self)
    }
    fn epoch_from(
        &self,
        epoch: u64,
        first_batch: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<C::Batch>>> + '_>> {
        Ok(Box::new(Loader::epoch_from(self, epoch, first_batch)?))
    }
    fn counts(&self) -> (u64, u64) {
        Loader::counts(self)
    }
    fn restore_counts(&self, bad: u64, seen: u64) {
        Loader::restore_counts(self, bad, seen);
    }
}
