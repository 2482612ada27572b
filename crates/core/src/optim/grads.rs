//! The gradients of a step by name: what an objective may adjust and the optimiser reads.

use crate::error::Result;
use crate::params::{Param, under};
use crate::world::World;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use selfsup_kernels::sink;
use selfsup_kernels::update::{scale, sq_norms};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Gradients by the name of their parameter.
#[derive(Clone, Debug, Default)]
pub struct Grads(BTreeMap<String, Grad>);

/// A gradient and the sum of its squares, once somebody has asked for it: the trainer looks for gradients
/// that are not finite and the optimiser takes their norm, of the same numbers.
#[derive(Clone, Debug)]
struct Grad {
    value: Tensor,
    square: OnceLock<f64>,
}

impl From<Tensor> for Grad {
    fn from(value: Tensor) -> Self {
        Grad { value, square: OnceLock::new() }
    }
}

impl Grads {
    /// The gradients of `params` in a store; parameters without one are absent.
    pub fn from_store(store: &GradStore, params: &[Param]) -> Self {
        Grads(
            params
                .iter()
                .filter_map(|p| Some((p.name.clone(), store.get(p.var.as_tensor())?.detach().into())))
                .collect(),
        )
    }

    /// Runs the backward of `loss`: the store, and the gradients of `params`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn backward(loss: &Tensor, params: &[Param]) -> Result<(GradStore, Self)> {
        let (store, leaves) = sink::collect(|| loss.backward())?;
        let mut grads = Grads::from_store(&store, params);
        for p in params {
            if let Some(g) = leaves.get(p.var.as_tensor()) {
                let sum = match grads.remove(&p.name) {
                    None => g.detach(),
                    Some(rest) => (rest + g)?.detach(),
                };
                grads.insert(&p.name, sum);
            }
        }
        Ok((store, grads))
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name).map(|g| &g.value)
    }

    /// Whether a parameter has a gradient.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Replaces or adds a gradient.
    pub fn insert(&mut self, name: impl Into<String>, grad: Tensor) {
        self.0.insert(name.into(), grad.into());
    }

    /// Takes a gradient out: its parameter is left alone in this step.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name).map(|g| g.value)
    }

    /// Takes out the gradients of `part` and of everything below it.
    pub fn remove_under(&mut self, part: &str) {
        self.0.retain(|name, _| !under(name, part));
    }

    /// Number of gradients.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Multiplies every gradient by `factor`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        let scaled = scale(&self.0.values().map(|g| g.value.clone()).collect::<Vec<_>>(), factor)?;
        self.0.values_mut().zip(scaled).for_each(|(g, s)| *g = s.into());
        Ok(())
    }

    /// Scales each gradient whose own L2 norm is above `limit` down to it; the others stay. Returns whether one
    /// was.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn clip_each(&mut self, limit: f64) -> Result<bool> {
        let squares = self.squares()?;
        let mut clipped = false;
        for (g, square) in self.0.values_mut().zip(squares) {
            let norm = square.sqrt();
            if norm > limit {
                let scaled = scale(std::slice::from_ref(&g.value), limit / (norm + 1e-6))?;
                scaled.into_iter().for_each(|s| *g = s.into());
                clipped = true;
            }
        }
        Ok(clipped)
    }

    /// All gradients in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, g)| (n.as_str(), &g.value))
    }

    /// Adds the gradients of another part of the batch.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn add(&mut self, other: &Grads) -> Result<()> {
        for (name, g) in other.iter() {
            let sum = match self.get(name) {
                Some(mine) => (mine + g)?,
                None => g.clone(),
            };
            self.insert(name, sum);
        }
        Ok(())
    }

    /// The sum over all processes, in one message per parameter. A parameter that has no gradient in one of
    /// them counts as 0 there; one that has none anywhere stays absent.
    ///
    /// # Errors
    /// If another process fails.
    pub fn all_reduce(&mut self, world: &World, trained: &[Param]) -> Result<()> {
        if world.alone() {
            return Ok(());
        }
        let have: Vec<f64> = trained.iter().map(|p| f64::from(u8::from(self.contains(&p.name)))).collect();
        let ranks = world.numbers(&have)?;
        for (i, p) in trained.iter().enumerate() {
            if ranks.iter().all(|r| r.get(i).is_none_or(|v| *v == 0.0)) {
                continue;
            }
            let own = match self.get(&p.name) {
                Some(g) => g.clone(),
                None => p.var.as_tensor().zeros_like()?.detach(),
            };
            self.insert(&p.name, world.all_reduce(&own)?.detach());
        }
        Ok(())
    }

    /// The sum of squares of each gradient, in the order of their names; computed of those alone that changed
    /// since the last call.
    fn squares(&self) -> Result<Vec<f64>> {
        let open: Vec<&Grad> = self.0.values().filter(|g| g.square.get().is_none()).collect();
        let sums = sq_norms(&open.iter().map(|g| g.value.clone()).collect::<Vec<_>>())?;
        open.iter().zip(sums).for_each(|(g, sum)| {
            g.square.get_or_init(|| sum);
        });
        Ok(self.0.values().map(|g| g.square.get().copied().unwrap_or(f64::NAN)).collect())
    }

    /// L2 norm over all gradients.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        Ok(self.squares()?.iter().sum::<f64>().sqrt())
    }

    /// The first name whose gradient has a value that is NaN or infinite.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn first_non_finite(&self) -> Result<Option<String>> {
        Ok(self.squares()?.iter().zip(self.0.keys()).find(|(s, _)| !s.is_finite()).map(|(_, n)| n.clone()))
    }
}
