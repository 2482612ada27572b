//! What an engine that connects ranks does.

use crate::error::{Error, Result};
use candle_core::Tensor;
use std::fmt::Debug;

/// An engine that moves tensors between ranks. Every rank calls the same operations in the same order.
pub trait Collective: Debug + Send + Sync {
    /// Index of this rank.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// The tensors of all ranks in their order, without graphs; they may differ in dimension 0.
    ///
    /// # Errors
    /// If another rank is gone or does not answer in time.
    fn exchange(&self, x: &Tensor) -> Result<Vec<Tensor>>;

    /// The sum over the ranks, added in their order, so that all get the same bits.
    ///
    /// # Errors
    /// If another rank is gone or does not answer in time, or shapes differ.
    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        let mut parts = self.exchange(x)?.into_iter();
        let first = parts.next().ok_or_else(|| Error::input("world", "no rank answered"))?;
        parts.try_fold(first, |sum, part| Ok((sum + part)?))
    }
}
