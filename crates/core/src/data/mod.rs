//! From a data set to batches: read a sample, transform it, put samples together.
//!
//! A [`Dataset`] is indexed, a [`Transform`] turns one item into what a method wants (two crops, a masked
//! sequence), a [`Collate`] makes a batch of them. The [`Sampler`] says which samples make up batch `b` of an
//! epoch without building the epoch's order, so a run resumes at any batch in constant time. The [`Loader`]
//! does the work on threads.
//!
//! Everything random is drawn from keys that name the draw (seed, epoch, sample), so batches are the same for
//! any number of workers.

mod loader;
mod sampler;

pub use loader::{Epoch, Loader, LoaderConfig};
pub use sampler::{Permutation, Sampler, SamplerConfig};

use crate::error::Result;
use selfsup_kernels::rng::{Key, Rng};
use std::sync::Arc;

/// Samples that are read by index.
pub trait Dataset: Send + Sync {
    /// One sample before its transform.
    type Item: Send;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads sample `index`. It may be called from several threads at once.
    ///
    /// # Errors
    /// If the sample cannot be read; the message should name its file.
    fn get(&self, index: usize) -> Result<Self::Item>;
}

/// A change of one sample: decode, crop, mask. Closures `Fn(item, &mut Rng) -> Result<out>` are transforms.
pub trait Transform<I>: Send + Sync {
    /// The result.
    type Out: Send;

    /// Transforms `item`; all randomness comes from `rng`, which depends on seed, epoch and sample alone.
    ///
    /// # Errors
    /// If the item is not what the transform expects.
    fn apply(&self, item: I, rng: &mut Rng) -> Result<Self::Out>;
}

/// How samples become a batch (stacking, padding, masks that span a batch).
pub trait Collate<I>: Send + Sync {
    /// The batch.
    type Batch: Send;

    /// Puts `items` together; `indices` are their numbers in the data set, `key` depends on seed, epoch and
    /// batch alone. There is at least one item.
    ///
    /// # Errors
    /// If the items do not fit together.
    fn collate(&self, items: Vec<I>, indices: &[usize], key: Key) -> Result<Self::Batch>;
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    type Item = D::Item;
    fn len(&self) -> usize {
        (**self).len()
    }
    fn get(&self, index: usize) -> Result<D::Item> {
        (**self).get(index)
    }
}

impl<I, O: Send, F: Fn(I, &mut Rng) -> Result<O> + Send + Sync> Transform<I> for F {
    type Out = O;
    fn apply(&self, item: I, rng: &mut Rng) -> Result<O> {
        self(item, rng)
    }
}

/// A batch and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedBatch<B> {
    /// The batch that the collate made.
    pub batch: B,
    /// The samples in it, in order.
    pub indices: Vec<usize>,
    /// The samples that are missing from it, with the reason.
    pub bad: Vec<(usize, String)>,
}

/// Where a training loop takes its batches from: a [`Loader`] of any data set, or batches made elsewhere.
pub trait Source<B>: Send + Sync {
    /// Batches in one epoch.
    fn batches(&self) -> usize;

    /// The batches `first_batch..` of `epoch`, in order.
    ///
    /// # Errors
    /// If workers cannot be started.
    fn epoch_from(
        &self,
        epoch: u64,
        first_batch: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<B>>> + '_>>;

    /// `(bad samples, samples)` delivered in this run so far; goes into checkpoints.
    fn counts(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Continues counting from the numbers of a checkpoint.
    fn restore_counts(&self, _bad: u64, _seen: u64) {}
}

/// A source chosen at run time is a source.
impl<B> Source<B> for Box<dyn Source<B> + '_> {
    fn batches(&self) -> usize {
        (**self).batches()
    }
    fn epoch_from(
        &self,
        epoch: u64,
        first_batch: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<B>>> + '_>> {
        (**self).epoch_from(epoch, first_batch)
    }
    fn counts(&self) -> (u64, u64) {
        (**self).counts()
    }
    fn restore_counts(&self, bad: u64, seen: u64) {
        (**self).restore_counts(bad, seen);
    }
}
