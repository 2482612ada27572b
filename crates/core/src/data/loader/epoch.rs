//! The batches of one epoch: a window of batches in the making that workers fill and the iterator empties.

use super::job::{Done, Job};
use crate::data::{Collate, Dataset, LoadedBatch, Permutation, Transform};
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A batch in the making.
pub(super) struct Slot<O, B> {
    number: usize,
    indices: Vec<usize>,
    results: Vec<Option<Result<O, String>>>,
    given: usize,
    left: usize,
    done: Option<Done<B>>,
}

pub(super) struct State<O, B> {
    pub(super) stop: bool,
    pub(super) opened: usize,
    pub(super) end: usize,
    pub(super) window: VecDeque<Slot<O, B>>,
}

pub(super) struct Shared<O, B> {
    pub(super) state: Mutex<State<O, B>>,
    /// There may be a sample to take.
    pub(super) work: Condvar,
    /// A batch is done.
    pub(super) ready: Condvar,
}

impl<O, B> Shared<O, B> {
    fn lock(&self) -> MutexGuard<'_, State<O, B>> {
        // No user code runs under the lock: what it guards is whole even if a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O, B> State<O, B> {
    /// The next `(batch, place in it, sample)`, opening a batch if the window has room.
    fn take(
        &mut self,
        prefetch: usize,
        batch: impl FnOnce(usize) -> Vec<usize>,
    ) -> Option<(usize, usize, usize)> {
        if !self.window.iter().any(|s| s.given < s.indices.len()) {
            if self.window.len() >= prefetch.max(1) || self.opened >= self.end {
                return None;
            }
            let indices = batch(self.opened);
            let results = indices.iter().map(|_| None).collect();
            self.window.push_back(Slot {
                number: self.opened,
                given: 0,
                left: indices.len(),
                indices,
                results,
                done: None,
            });
            self.opened += 1;
        }
        let slot = self.window.iter_mut().find(|s| s.given < s.indices.len())?;
        let place = slot.given;
        slot.given += 1;
        Some((slot.number, place, slot.indices[place]))
    }
}

pub(super) fn work<D, T, C>(
    job: &Job<D, T, C>,
    shared: &Shared<T::Out, C::Batch>,
    order: &Permutation,
    epoch: u64,
) where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    let mut state = shared.lock();
    loop {
        if state.stop {
            return;
        }
        let Some((number, place, index)) =
            state.take(job.config.prefetch, |b| job.sampler.batch_of(order, b))
        else {
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

/// The batches of one epoch, in order. See [`super::Loader::epoch_from`].
pub struct Epoch<D, T, C>
where
    D: Dataset + ?Sized,
    T: Transform<D::Item> + ?Sized,
    C: Collate<T::Out> + ?Sized,
{
    pub(super) job: Arc<Job<D, T, C>>,
    pub(super) shared: Arc<Shared<T::Out, C::Batch>>,
    pub(super) order: Arc<Permutation>,
    pub(super) epoch: u64,
    pub(super) next: usize,
    pub(super) end: usize,
    pub(super) over: bool,
    pub(super) workers: Vec<JoinHandle<()>>,
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
            if self.workers.iter().all(JoinHandle::is_finished)
                && state.window.front().is_none_or(|s| s.done.is_none())
            {
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
            None => Err(Error::Other(format!(
                "loader: all workers ended before batch {} of epoch {}",
                self.next, self.epoch
            ))),
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
