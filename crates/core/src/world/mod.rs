//! The processes (ranks) that train together.
//!
//! A [`World`] is a handle on an engine, a [`Collective`]: one process, ranks on threads, later MPI and NCCL.
//! Its operations can fail, because another process can. Gradients follow one convention: the quantity that
//! is minimised is the mean over the ranks of each rank's loss, so the adjoint of a sum over ranks is the sum
//! of the gradients of all ranks, and that of gathering is the own part of that sum.

mod collective;
mod single;
mod threads;

pub use collective::Collective;
pub use threads::{run_ranks, threads};

use crate::error::{Error, Result};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Shape, Storage, Tensor};
use std::sync::Arc;

/// A handle on the ranks that train together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World(Arc<dyn Collective>);

impl Default for World {
    fn default() -> Self {
        World::new(single::Single)
    }
}

impl World {
    /// The ranks that an engine connects.
    pub fn new(engine: impl Collective + 'static) -> Self {
        World(Arc::new(engine))
    }

    /// Index of this rank.
    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Whether this is the only rank.
    pub fn alone(&self) -> bool {
        self.size() == 1
    }

    /// Sum over the ranks. The gradient is the sum of the gradients of all ranks.
    ///
    /// # Errors
    /// If another rank fails, or shapes differ.
    pub fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        if self.alone() {
            return Ok(x.clone());
        }
        let (sum, engine) = (self.0.sum(&x.detach())?, self.clone());
        Ok(x.contiguous()?.apply_op1(Adjoint {
            name: "all_reduce",
            value: sum,
            of: move |g: &Tensor| engine.0.sum(g),
        })?)
    }

    /// The tensors of all ranks, one after the other in dimension 0. The gradient of the own part is the sum
    /// of its gradients in the losses of all ranks.
    ///
    /// # Errors
    /// If another rank fails, or shapes differ beyond dimension 0.
    pub fn all_gather(&self, x: &Tensor) -> Result<Tensor> {
        if self.alone() {
            return Ok(x.clone());
        }
        let mut parts = self.0.exchange(&x.detach())?;
        if let Some(own) = parts.get_mut(self.rank()) {
            *own = x.clone();
        }
        let (whole, engine) = (Tensor::cat(&parts, 0)?.contiguous()?, self.clone());
        let value = whole.detach();
        Ok(whole.apply_op1(Adjoint { name: "all_gather", value, of: move |g: &Tensor| engine.0.sum(g) })?)
    }

    /// This rank's rows of the sum over the ranks, where rank `r` owns `rows[r]` of them; without a graph.
    ///
    /// # Errors
    /// If another rank fails, or `rows` do not add up.
    pub fn reduce_scatter(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        if rows.len() != self.size() || rows.iter().sum::<usize>() != x.dim(0)? {
            return Err(Error::input("rows", format!("{rows:?} of {:?} on {} ranks", x.dims(), self.size())));
        }
        let start = rows[..self.rank()].iter().sum::<usize>();
        Ok(self.0.sum(&x.detach())?.narrow(0, start, rows[self.rank()])?)
    }

    /// The tensor of rank `root`, without a graph.
    ///
    /// # Errors
    /// If another rank fails, or there is no such rank.
    pub fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor> {
        let all = self.0.exchange(&x.detach())?;
        all.into_iter()
            .nth(root)
            .ok_or_else(|| Error::input("root", format!("{root} of {} ranks", self.size())))
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// If another rank fails.
    pub fn barrier(&self) -> Result<()> {
        self.numbers(&[]).map(|_| ())
    }

    /// The numbers of each rank, in the order of the ranks.
    ///
    /// # Errors
    /// If another rank fails.
    pub fn numbers(&self, own: &[f64]) -> Result<Vec<Vec<f64>>> {
        if self.alone() {
            return Ok(vec![own.to_vec()]);
        }
        // A leading number, since a tensor has at least one value.
        let own: Vec<f64> = std::iter::once(0.0).chain(own.iter().copied()).collect();
        let all = self.0.exchange(&Tensor::new(own, &candle_core::Device::Cpu)?)?;
        all.iter().map(|t| Ok(t.to_vec1::<f64>()?.split_off(1))).collect()
    }

    /// The sum of a number over the ranks.
    ///
    /// # Errors
    /// If another rank fails.
    pub fn total(&self, own: f64) -> Result<f64> {
        Ok(self.numbers(&[own])?.iter().map(|n| n[0]).sum())
    }
}

/// A tensor that takes the place of another one of its shape, and a function that its gradient goes through.
struct Adjoint<F> {
    name: &'static str,
    value: Tensor,
    of: F,
}

impl<F> Adjoint<F> {
    /// The storage of the value, picked by `pick`.
    fn value<S: BackendStorage>(
        &self,
        pick: impl Fn(&Storage) -> Option<&S>,
    ) -> candle_core::Result<(S, Shape)> {
        let value = self.value.contiguous()?;
        let (storage, layout) = value.storage_and_layout();
        match pick(&storage) {
            Some(s) => {
                // A part of a larger storage is cut out first.
                if layout.start_offset() != 0 {
                    candle_core::bail!("{}: expected a tensor with a storage of its own", self.name);
                }
                Ok((s.try_clone(layout)?, value.shape().clone()))
            }
            None => candle_core::bail!("{}: the value lies on another device", self.name),
        }
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> CustomOp1 for Adjoint<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.value(|s| if let Storage::Cpu(s) = s { Some(s) } else { None })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.value(|s| if let Storage::Cuda(s) = s { Some(s) } else { None })
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        self.value(|s| if let Storage::Metal(s) = s { Some(s) } else { None })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        (self.of)(&grad.detach().contiguous()?).map(Some).map_err(candle_core::Error::wrap)
    }
}
