//! The context of a forward pass: training or not, how far the run is, which samples these are, the world.

use crate::error::{Error, Result};
use crate::params::{Params, Weight};
use crate::world::World;
use candle_core::{DType, Tensor};
use selfsup_kernels::dropout::Dropout;
use selfsup_kernels::rng::Key;
use std::sync::{Arc, Mutex};

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps in all.
    pub total_steps: u64,
    /// Epochs begun.
    pub epoch: u64,
}

impl Progress {
    /// Share of the run that is done, in `[0, 1]`.
    pub fn fraction(&self) -> f64 {
        if self.total_steps == 0 { 1.0 } else { (self.step as f64 / self.total_steps as f64).min(1.0) }
    }
}

/// A write that waits for the end of the step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Deferred {
    /// The buffer takes this value.
    Set(Tensor),
    /// `buffer = (1 - momentum) * buffer + momentum * value`: running statistics, in the order in which they
    /// were handed over.
    Average {
        /// The new statistic.
        value: Tensor,
        /// Its share (PyTorch's momentum of batch normalisation).
        momentum: f64,
    },
}

/// The context of a forward pass. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Batch statistics, dropout and augmentation on.
    pub train: bool,
    /// How far the run is.
    pub progress: Progress,
    /// The processes that train together.
    pub world: World,
    /// Global index of the first sample of this (micro-)batch within the step.
    pub offset: u64,
    /// Layers cast weights to this when they read them; the parameters themselves stay in single precision.
    pub precision: DType,
    drops: bool,
    key: Key,
    deferred: Arc<Mutex<Vec<(String, Deferred)>>>,
}

impl Pass {
    /// A training pass at `progress`.
    pub fn train(seed: u64, progress: Progress) -> Self {
        Pass {
            train: true,
            progress,
            world: World::default(),
            offset: 0,
            precision: DType::F32,
            drops: true,
            key: Key::new(seed).named("pass").fold(progress.step),
            deferred: Arc::default(),
        }
    }

    /// An evaluation pass: running statistics, no dropout, nothing deferred.
    pub fn eval() -> Self {
        Pass { train: false, ..Pass::train(0, Progress::default()) }
    }

    /// The same pass for the micro-batch whose first sample has global index `offset` within the step.
    #[must_use]
    pub fn at(&self, offset: u64) -> Self {
        Pass { offset, ..self.clone() }
    }

    /// The same pass of one rank of `world`.
    #[must_use]
    pub fn in_world(&self, world: World) -> Self {
        Pass { world, ..self.clone() }
    }

    /// The same pass without dropout and batch statistics, for a teacher.
    #[must_use]
    pub fn calm(&self) -> Self {
        Pass { train: false, ..self.clone() }
    }

    /// The same pass without dropout and stochastic depth, and with batch statistics: a teacher that sees each
    /// sample with the whole network (DINO's).
    #[must_use]
    pub fn undropped(&self) -> Self {
        Pass { drops: false, ..self.clone() }
    }

    /// The same pass whose deferred writes are dropped: for recomputing a forward without updating statistics
    /// twice.
    #[must_use]
    pub fn silent(&self) -> Self {
        Pass { deferred: Arc::default(), ..self.clone() }
    }

    /// The key `f(seed, step, name)`; fold in the global sample index for what is drawn per sample.
    pub fn key(&self, name: &str) -> Key {
        self.key.named(name)
    }

    /// The key for sample `i` of this micro-batch.
    pub fn sample_key(&self, name: &str, i: usize) -> Key {
        self.key.named(name).fold(self.offset + i as u64)
    }

    /// Dropout of `share` of the values in this pass, drawn with `key` and the global indices of the samples;
    /// `None` where nothing is dropped. The tensor must have samples in dimension 0.
    pub fn dropout(&self, share: f32, key: Key) -> Option<Dropout> {
        (self.train && self.drops && share > 0.0).then_some(Dropout { share, key, first: self.offset })
    }

    /// Hands over a write to the buffer `name`; it is carried out after the step. Ignored in evaluation.
    pub fn defer(&self, name: &str, write: Deferred) {
        if self.train {
            self.deferred
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push((name.to_string(), write));
        }
    }

    /// The buffer of the first deferred write whose value is NaN or infinite: such a statistic comes from
    /// activations that overflow, also where loss and gradient are finite (what batch norm divides by an
    /// infinite deviation is zero).
    ///
    /// # Errors
    /// If a value has no sum.
    pub fn first_non_finite_deferred(&self) -> Result<Option<String>> {
        let writes = self.deferred.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut names, mut sums) = (Vec::new(), Vec::new());
        for (name, write) in writes.iter() {
            let (Deferred::Set(value) | Deferred::Average { value, .. }) = write;
            if value.dtype().is_float() {
                names.push(name);
                // Sums of doubles: finite values stay finite.
                sums.push(value.detach().to_dtype(DType::F64)?.sum_all()?);
            }
        }
        if sums.is_empty() {
            return Ok(None);
        }
        // One transfer from the device for all.
        let sums = Tensor::stack(&sums, 0)?.to_vec1::<f64>()?;
        Ok(names.into_iter().zip(sums).find(|(_, s)| !s.is_finite()).map(|(name, _)| name.clone()))
    }

    /// Carries out the deferred writes, in the order in which they came.
    ///
    /// # Errors
    /// If a buffer does not exist or has another shape.
    pub fn write_deferred(&self, params: &Params) -> Result<()> {
        let writes =
            std::mem::take(&mut *self.deferred.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (name, write) in writes {
            let new = match write {
                Deferred::Set(value) => value,
                Deferred::Average { value, momentum } => {
                    let old = params
                        .get(&name)
                        .ok_or_else(|| Error::input(&name, "no such buffer"))?
                        .var
                        .as_tensor()
                        .detach();
                    ((old * (1.0 - momentum))? + (value.detach() * momentum)?)?
                }
            };
            params.set(&name, &new)?;
        }
        Ok(())
    }
}

impl Weight {
    /// The value for a forward pass: tracked by the parameter's present role, in the pass's precision.
    ///
    /// # Errors
    /// If the device has no such cast.
    pub fn on(&self, pass: &Pass) -> Result<Tensor> {
        let tensor = self.tensor();
        if tensor.dtype() == pass.precision { Ok(tensor) } else { Ok(tensor.to_dtype(pass.precision)?) }
    }
}
