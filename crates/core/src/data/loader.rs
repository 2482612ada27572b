//! Worker threads that read and transform samples, and batches that come out in order.
//!
//! Workers take single samples, not whole batches: all of them work on the first batch at once, so it comes after
//! `batch_size / workers` samples' time, and one slow sample delays one batch. Batches are handed out in order from a window of
//! `prefetch` batches; whoever finishes a batch's last sample also collates it. A panic in a third-party decoder is caught and becomes
//! an error that names the sample.

use super::{Collate, Dataset, Permutation, Sampler, SamplerConfig, Source, Transform};
use crate::error::{Error, Result};
use selfsup_kernels::rng::Key;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How samples are read and batched.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples in a batch (over all processes together).
    pub batch_size: usize,
    /// Threads that read and transform; 0 does it in the caller's thread. The batches are the same for any number.
    pub workers: usize,
    /// Batches that are prepared or ready at one time; at least 1.
    pub prefetch: usize,
    /// Leave out an epoch's short last batch.
    pub drop_last: bool,
    /// A new random order each epoch; else the data set's order.
    pub shuffle: bool,
    /// Decides order and augmentation.
    pub seed: u64,
    /// Share of samples, counted over the run, that may be unreadable: they are skipped and their batch is that much shorter. With 0
    /// the first bad sample ends the run.
    pub max_bad_fraction: f64,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig { batch_size: 256, workers: 4, prefetch: 2, drop_last: true, shuffle: true, seed: 0, max_bad_fraction: 0.0 }
    }
}

/// A batch and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedBatch<B> {
    /// What the collate made.
    pub batch: B,
    /// The samples in it, in order.
    pub indices: Vec<usize>,
    /// The samples that are missing from it, with the reason.
    pub bad: Vec<(usize, String)>,
}

/// What the workers share that does not change.
struct Job<D: ?Sized, T: ?Sized, C: ?Sized> {
    dataset: Arc<D>,
    transform: Arc<T>,
    collate: Arc<C>,
    sampler: Sampler,
    config: LoaderConfig,
    /// Samples of an epoch that this process takes.
    per_epoch: u64,
    bad: AtomicU64,
    seen: AtomicU64,
}

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
    /// [`Error::Config`] for what [`Sampler::new`] refuses and for a `max_bad_fraction` outside `[0, 1]`.
    pub fn new(dataset: Arc<D>, transform: Arc<T>, collate: Arc<C>, config: LoaderConfig) -> Result<Self> {
        Self::sharded(dataset, transform, collate, config, 0, 1)
    }

    /// A loader for process `rank` of `world`, which takes its part of every batch.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn sharded(dataset: Arc<D>, transform: Arc<T>, collate: Arc<C>, config: LoaderConfig, rank: usize, world: usize) -> Result<Self> {
        let sampler = Self::sampler_for(dataset.len(), &config, rank, world)?;
        Self::sampled(dataset, transform, collate, config, sampler, world)
    }

    /// A loader for one process whose batches hold samples of like length ([`Sampler::by_length`]): `lengths` are those of the samples, in
    /// any unit, and `window` batches are sorted together.
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
        let sampler = Self::sampler_for(dataset.len(), &config, 0, 1)?.by_length(lengths, window)?;
        Self::sampled(dataset, transform, collate, config, sampler, 1)
    }

    fn sampler_for(len: usize, config: &LoaderConfig, rank: usize, world: usize) -> Result<Sampler> {
        let &LoaderConfig { batch_size, shuffle, drop_last, seed, .. } = config;
        Sampler::new(len, SamplerConfig { batch_size, shuffle, drop_last, seed, rank, world })
    }

    fn sampled(dataset: Arc<D>, transform: Arc<T>, collate: Arc<C>, config: LoaderConfig, sampler: Sampler, world: usize) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.max_bad_fraction) {
            return Err(Error::config(format!("max_bad_fraction is {}, expected 0 to 1", config.max_bad_fraction)));
        }
        let LoaderConfig { batch_size, drop_last, .. } = config;
        let counted = if drop_last { sampler.batches() * batch_size } else { dataset.len() };
        let per_epoch = (counted / world).max(1) as u64;
        let (bad, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Loader(Arc::new(Job { dataset, transform, collate, sampler, config, per_epoch, bad, seen })))
    }

    /// What decides which samples make up a batch.
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

    /// The batches `first_batch..` of `epoch`, in order; none if `first_batch` is past the end. The iterator ends after its first error.
    /// Dropping it stops the workers as soon as the samples under way are done.
    ///
    /// # Errors
    /// If a thread cannot be started. The iterator's own errors: a bad sample (named) with `max_bad_fraction = 0`, more bad samples
    /// than allowed, a batch without a good sample, and what the collate refuses.
    pub fn epoch_from(&self, epoch: u64, first_batch: usize) -> Result<Epoch<D, T, C>> {
        let order = Arc::new(self.0.sampler.order(epoch));
        let end = self.batches();
        let state = State { stop: false, opened: first_batch, end, window: VecDeque::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), ready: Condvar::new() });
        let mut out = Epoch { job: self.0.clone(), shared, order, epoch, next: first_batch, end, over: false, workers: Vec::new() };
        let workers = if first_batch < end { self.0.config.workers } else { 0 };
        for i in 0..workers {
            let (job, shared, order) = (out.job.clone(), out.shared.clone(), out.order.clone());
            let worker = std::thread::Builder::new()
                .name(format!("loader-{i}"))
                .spawn(move || work(&job, &shared, &order, epoch))
                .map_err(|e| Error::Other(format!("loader: cannot start worker thread {i} of {workers}: {e}")))?;
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
    fn epoch_from(&self, epoch: u64, first_batch: usize) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<C::Batch>>> + '_>> {
        Ok(Box::new(Loader::epoch_from(self, epoch, first_batch)?))
    }
    fn counts(&self) -> (u64, u64) {
        Loader::counts(self)
    }
    fn restore_counts(&self, bad: u64, seen: u64) {
        Loader::restore_counts(self, bad, seen);
    }
}

/// A batch whose samples are all read. `batch` is absent where no good sample is left, or where a bad one ends the run anyway.
struct Done<B> {
    batch: Option<Result<B>>,
    indices: Vec<usize>,
    bad: Vec<(usize, String)>,
}

impl<D, T, C> Job<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    /// One sample, with its own generator.
    fn sample(&self, epoch: u64, index: usize) -> Result<T::Out, String> {
        let mut rng = Key::new(self.config.seed).named("augment").fold(epoch).fold(index as u64).rng();
        let run = || self.dataset.get(index).and_then(|item| self.transform.apply(item, &mut rng));
        guarded(run).map_err(|e| e.to_string())
    }

    /// Puts the good samples together.
    fn finish(&self, epoch: u64, number: usize, indices: Vec<usize>, results: Vec<Result<T::Out, String>>) -> Done<C::Batch> {
        let (mut items, mut good, mut bad) = (Vec::with_capacity(indices.len()), Vec::with_capacity(indices.len()), Vec::new());
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
        let collate = || guarded(|| self.collate.collate(items, &good, key)).map_err(|e| name_batch(epoch, number, &good, e));
        let batch = if wanted { Some(collate()) } else { None };
        Done { batch, indices: good, bad }
    }

    /// Counts, and decides whether the bad samples are too many. Called in the order of the batches.
    fn deliver(&self, epoch: u64, number: usize, done: Done<C::Batch>) -> Result<LoadedBatch<C::Batch>> {
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
            // The share is taken of whole epochs, the present one included: one bad sample in the first batch is not 1 in 32.
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
            Err(Error::input(format!("epoch {epoch}, batch {number}"), format!("no good sample in it; sample {index}: {why}")))
        })?;
        Ok(LoadedBatch { batch, indices, bad })
    }
}

/// Runs third-party code; a panic becomes an error.
fn guarded<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Other(format!("panicked: {}", text.unwrap_or("without a message"))))
    })
}

fn name_batch(epoch: u64, number: usize, indices: &[usize], e: Error) -> Error {
    let shown: Vec<String> = indices.iter().take(4).map(usize::to_string).collect();
    let dots = if indices.len() > 4 { ", ..." } else { "" };
    Error::input(format!("epoch {epoch}, batch {number} (samples {}{dots})", shown.join(", ")), e)
}

/// A batch in the making.
struct Slot<O, B> {
    number: usize,
    indices: Vec<usize>,
    results: Vec<Option<Result<O, String>>>,
    given: usize,
    left: usize,
    done: Option<Done<B>>,
}

struct State<O, B> {
    stop: bool,
    opened: usize,
    end: usize,
    window: VecDeque<Slot<O, B>>,
}

struct Shared<O, B> {
    state: Mutex<State<O, B>>,
    /// There may be a sample to take.
    work: Condvar,
    /// A batch is done.
    ready: Condvar,
}

impl<O, B> Shared<O, B> {
    fn lock(&self) -> MutexGuard<'_, State<O, B>> {
        // No user code runs under the lock: what it guards is whole even if a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O, B> State<O, B> {
    /// The next `(batch, place in it, sample)`, opening a batch if the window has room.
    fn take(&mut self, prefetch: usize, batch: impl FnOnce(usize) -> Vec<usize>) -> Option<(usize, usize, usize)> {
        if !self.window.iter().any(|s| s.given < s.indices.len()) {
            if self.window.len() >= prefetch.max(1) || self.opened >= self.end {
                return None;
            }
            let indices = batch(self.opened);
            let results = indices.iter().map(|_| None).collect();
            self.window.push_back(Slot { number: self.opened, given: 0, left: indices.len(), indices, results, done: None });
            self.opened += 1;
        }
        let slot = self.window.iter_mut().find(|s| s.given < s.indices.len())?;
        let place = slot.given;
        slot.given += 1;
        Some((slot.number, place, slot.indices[place]))
    }
}

fn work<D, T, C>(job: &Job<D, T, C>, shared: &Shared<T::Out, C::Batch>, order: &Permutation, epoch: u64)
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    let mut state = shared.lock();
    loop {
        if state.stop {
            return;
        }
        let Some((number, place, index)) = state.take(job.config.prefetch, |b| job.sampler.batch_of(order, b)) else {
            if state.opened >= state.end {
                return; // every sample of the epoch is given out
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let result = job.sample(epoch, index);
        state = shared.lock();
        let Some(slot) = state.window.iter_mut().find(|s| s.number == number) else { continue };
        slot.results[place] = Some(result);
        slot.left -= 1;
        if slot.left > 0 {
            continue;
        }
        let (indices, results) = (std::mem::take(&mut slot.indices), std::mem::take(&mut slot.results));
        drop(state);
        let done = job.finish(epoch, number, indices, results.into_iter().flatten().collect());
        state = shared.lock();
        if let Some(slot) = state.window.iter_mut().find(|s| s.number == number) {
            slot.done = Some(done);
            shared.ready.notify_all();
        }
    }
}

/// The batches of one epoch, in order. See [`Loader::epoch_from`].
pub struct Epoch<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    job: Arc<Job<D, T, C>>,
    shared: Arc<Shared<T::Out, C::Batch>>,
    order: Arc<Permutation>,
    epoch: u64,
    next: usize,
    end: usize,
    over: bool,
    workers: Vec<JoinHandle<()>>,
}

impl<D, T, C> Epoch<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    fn wait(&self) -> Option<Done<C::Batch>> {
        let mut state = self.shared.lock();
        loop {
            if let Some(done) = state.window.front_mut().and_then(|s| s.done.take()) {
                state.window.pop_front();
                self.shared.work.notify_all();
                return Some(done);
            }
            // Workers catch panics of user code; should one die all the same, this must not wait for ever.
            if self.workers.iter().all(JoinHandle::is_finished) && state.window.front().is_none_or(|s| s.done.is_none()) {
                return None;
            }
            let timeout = std::time::Duration::from_millis(500);
            state = self.shared.ready.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn inline(&self) -> Done<C::Batch> {
        let indices = self.job.sampler.batch_of(&self.order, self.next);
        let mut results = Vec::with_capacity(indices.len());
        for &i in &indices {
            results.push(self.job.sample(self.epoch, i));
        }
        self.job.finish(self.epoch, self.next, indices, results)
    }

    fn stop(&mut self) {
        self.over = true;
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
    }
}

impl<D, T, C> Iterator for Epoch<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    type Item = Result<LoadedBatch<C::Batch>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over || self.next >= self.end {
            return None;
        }
        let out = match if self.workers.is_empty() { Some(self.inline()) } else { self.wait() } {
            Some(done) => self.job.deliver(self.epoch, self.next, done),
            None => Err(Error::Other(format!("loader: all workers ended before batch {} of epoch {}", self.next, self.epoch))),
        };
        self.next += 1;
        if out.is_err() {
            self.stop();
        }
        Some(out)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.over { 0 } else { self.end.saturating_sub(self.next) };
        (usize::from(left > 0), Some(left))
    }
}

impl<D, T, C> Drop for Epoch<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    fn drop(&mut self) {
        self.stop();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to tell: the iterator reported it.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_kernels::rng::Rng;
    use std::time::{Duration, Instant};

    /// Sample `i` is `i`; some fail, some panic, all take a while.
    struct Numbers {
        n: usize,
        fail: Vec<usize>,
        panic: Vec<usize>,
        wait: Duration,
        reads: AtomicU64,
    }

    impl Numbers {
        fn new(n: usize) -> Self {
            Numbers { n, fail: vec![], panic: vec![], wait: Duration::ZERO, reads: AtomicU64::new(0) }
        }
    }

    impl Dataset for Numbers {
        type Item = usize;
        fn len(&self) -> usize {
            self.n
        }
        fn get(&self, index: usize) -> Result<usize> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(self.wait * (1 + index as u32 % 3));
            if self.fail.contains(&index) {
                return Err(Error::file("x.png", "not an image"));
            }
            assert!(!self.panic.contains(&index), "decoder bug at {index}");
            Ok(index)
        }
    }

    type Stacked = (Vec<(usize, u32)>, u64);

    struct Stack;
    impl Collate<(usize, u32)> for Stack {
        type Batch = Stacked;
        fn collate(&self, items: Vec<(usize, u32)>, indices: &[usize], key: Key) -> Result<Self::Batch> {
            assert!(items.iter().map(|x| x.0).eq(indices.iter().copied()));
            Ok((items, key.bits()))
        }
    }

    fn augment(i: usize, rng: &mut Rng) -> Result<(usize, u32)> {
        Ok((i, rng.next_u32()))
    }

    type L = Loader<Numbers, fn(usize, &mut Rng) -> Result<(usize, u32)>, Stack>;

    fn loader(data: Numbers, config: LoaderConfig) -> L {
        Loader::new(Arc::new(data), Arc::new(augment as _), Arc::new(Stack), config).unwrap()
    }

    fn config(workers: usize) -> LoaderConfig {
        LoaderConfig { batch_size: 8, workers, prefetch: 3, drop_last: false, seed: 5, ..LoaderConfig::default() }
    }

    #[test]
    fn the_same_batches_for_any_number_of_workers_and_from_any_start() {
        let all = |workers: usize, epoch, first| {
            let data = Numbers { wait: Duration::from_micros(200), ..Numbers::new(100) };
            loader(data, config(workers)).epoch_from(epoch, first).unwrap().collect::<Result<Vec<_>>>().unwrap()
        };
        let inline = all(0, 1, 0);
        assert_eq!(inline.len(), 13);
        assert_eq!(inline[12].indices.len(), 4);
        for workers in [1, 2, 5, 16] {
            assert_eq!(inline, all(workers, 1, 0), "{workers} workers");
            assert_eq!(inline[7..], all(workers, 1, 7), "{workers} workers, resumed");
        }
        let other = all(2, 2, 0);
        assert_ne!(inline[0].indices, other[0].indices);
        let draw = |bs: &[LoadedBatch<Stacked>]| bs.iter().flat_map(|b| b.batch.0.clone()).find(|x| x.0 == 3);
        assert_ne!(draw(&inline), draw(&other), "augmentation differs between epochs");
        assert!(all(2, 1, 13).is_empty() && all(2, 1, 99).is_empty());
    }

    #[test]
    fn batches_by_length_are_the_same_for_any_number_of_workers() {
        let lengths: Vec<u32> = (0..100).map(|i| i * 37 % 101).collect();
        let all = |workers: usize, first| {
            let (data, augment) = (Arc::new(Numbers::new(100)), Arc::new(augment as fn(usize, &mut Rng) -> Result<(usize, u32)>));
            let l = Loader::by_length(data, augment, Arc::new(Stack), config(workers), lengths.clone(), 6).unwrap();
            l.epoch_from(1, first).unwrap().collect::<Result<Vec<_>>>().unwrap()
        };
        let inline = all(0, 0);
        assert_eq!(inline.iter().map(|b| b.indices.len()).sum::<usize>(), 100);
        let spread = |b: &LoadedBatch<Stacked>| {
            let l = b.indices.iter().map(|&i| lengths[i]);
            l.clone().max().unwrap() - l.min().unwrap()
        };
        assert!(inline[..12].iter().map(spread).sum::<u32>() < 12 * 40, "batches of like lengths");
        assert_eq!(inline[5..], all(3, 5));
    }

    #[test]
    fn a_bad_sample_is_named() {
        for workers in [0, 3] {
            let l = loader(Numbers { fail: vec![42], ..Numbers::new(100) }, config(workers));
            let mut seen = 0;
            let mut epoch = l.epoch_from(0, 0).unwrap();
            let e = loop {
                match epoch.next().unwrap() {
                    Ok(_) => seen += 1,
                    Err(e) => break e,
                }
            };
            assert!(epoch.next().is_none());
            assert!(e.to_string().contains("sample 42") && e.to_string().contains("x.png: not an image"), "{e}");
            assert!(seen < 13);
            let l = loader(Numbers { panic: vec![7], ..Numbers::new(100) }, config(workers));
            let e = l.epoch_from(0, 0).unwrap().find_map(Result::err).unwrap();
            assert!(e.to_string().contains("sample 7") && e.to_string().contains("decoder bug at 7"), "{e}");
        }
    }

    #[test]
    fn bad_samples_are_skipped_up_to_a_share() {
        let run = |workers, fraction, counts: (u64, u64)| {
            let data = Numbers { fail: vec![42, 43], panic: vec![7], ..Numbers::new(100) };
            let l = loader(data, LoaderConfig { max_bad_fraction: fraction, ..config(workers) });
            l.restore_counts(counts.0, counts.1);
            let batches = l.epoch_from(0, 0).unwrap().collect::<Result<Vec<_>>>();
            (batches, l.counts())
        };
        let whole: Vec<_> = loader(Numbers::new(100), config(0)).epoch_from(0, 0).unwrap().map(Result::unwrap).collect();
        for workers in [0, 4] {
            let (batches, counts) = run(workers, 0.03, (0, 0));
            assert_eq!(counts, (3, 100));
            for (b, w) in batches.unwrap().iter().zip(&whole) {
                // Nothing else moves: what is left of a batch is what it was, with the same augmentation.
                let good = w.batch.0.iter().filter(|x| ![42, 43, 7].contains(&x.0)).copied().collect::<Vec<_>>();
                assert_eq!(b.batch.0, good);
                assert_eq!(b.indices.len() + b.bad.len(), w.indices.len());
            }
            let e = run(workers, 0.029, (0, 0)).0.unwrap_err();
            assert!(e.to_string().contains("3 bad samples") && e.to_string().contains("100") && e.to_string().contains("0.029"), "{e}");
            // The count of the run goes on after a resume: 5 of 200 is 0.025.
            assert!(run(workers, 0.025, (2, 100)).0.is_ok());
            assert!(run(workers, 0.025, (3, 100)).0.is_err());
        }
        let data = Numbers { fail: (0..100).collect(), ..Numbers::new(100) };
        let e = loader(data, LoaderConfig { max_bad_fraction: 1.0, ..config(2) }).epoch_from(0, 0).unwrap().next().unwrap();
        assert!(e.unwrap_err().to_string().contains("no good sample"));
    }

    #[test]
    fn workers_share_the_first_batch_and_keep_to_the_window() {
        let data = Numbers { wait: Duration::from_millis(40), ..Numbers::new(800) };
        let l = loader(data, LoaderConfig { prefetch: 2, ..config(8) });
        let reads = || l.0.dataset.reads.load(Ordering::Relaxed);
        let start = Instant::now();
        let mut epoch = l.epoch_from(0, 0).unwrap();
        epoch.next().unwrap().unwrap();
        // One thread needs 8 x 80 ms on average for the batch; eight need 120 ms and what starting them takes.
        assert!(start.elapsed() < Duration::from_millis(450), "{:?}", start.elapsed());
        while reads() < 24 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(reads(), 24, "one batch delivered, two in the window");
        // The rest of the epoch would take 10 s.
        let start = Instant::now();
        epoch.next().unwrap().unwrap();
        drop(epoch);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let before = reads();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(before, reads(), "nothing is read after the drop");
    }

    struct Fussy;
    impl Collate<usize> for Fussy {
        type Batch = ();
        fn collate(&self, items: Vec<usize>, _: &[usize], _: Key) -> Result<()> {
            assert!(!items.contains(&5), "shapes differ");
            Ok(())
        }
    }

    #[test]
    fn a_panic_in_the_collate_names_the_batch_and_dyn_works() {
        let data: Arc<dyn Dataset<Item = usize>> = Arc::new(Numbers::new(16));
        let transform: Arc<dyn Transform<usize, Out = usize>> = Arc::new(|i: usize, _: &mut Rng| Ok(i));
        let collate: Arc<dyn Collate<usize, Batch = ()>> = Arc::new(Fussy);
        let l = Loader::new(data, transform, collate, config(2)).unwrap();
        let source: &dyn Source<()> = &l;
        let e = source.epoch_from(0, 0).unwrap().find_map(Result::err).unwrap();
        assert!(e.to_string().contains("batch") && e.to_string().contains("shapes differ"), "{e}");
    }

    #[test]
    fn configuration_is_checked() {
        let new = |c| Loader::new(Arc::new(Numbers::new(4)), Arc::new(augment), Arc::new(Stack), c).map(|_| ());
        let e = new(LoaderConfig { batch_size: 8, drop_last: true, ..config(0) }).unwrap_err().to_string();
        assert!(e.contains('8') && e.contains('4'), "{e}");
        assert!(new(LoaderConfig { max_bad_fraction: 1.5, ..config(0) }).is_err());
        assert!(new(LoaderConfig { max_bad_fraction: f64::NAN, ..config(0) }).is_err());
    }
}
