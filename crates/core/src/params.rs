//! Every tensor that outlives a step, by name, role and place.
//!
//! [`Params`] owns the tensors that modules asked a [`Scope`](crate::Scope) for. A checkpoint is `Params` +
//! optimiser moments + progress, and no trait needs a save or load. A layer keeps a [`Weight`] of a
//! parameter: a handle that looks up the present role at every forward pass, so freezing a part of a network
//! needs no second build.

use crate::error::{Error, Result};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The purpose of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The optimiser updates it.
    Trained,
    /// Part of the model, not updated (fixed position embeddings, a frozen trunk).
    Frozen,
    /// Follows a trained tensor by exponential moving average.
    Teacher,
    /// Statistics and state: running means, queues, centres.
    Buffer,
}

/// Where a parameter stands between the input and the output of an encoder. Layer-wise learning rates and
/// frozen blocks go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Before the first block: patch, token and position embeddings, a convolutional front.
    Stem,
    /// Block, stage or level `i` of the trunk, counted from the input.
    Block(usize),
    /// Behind the last block: a final norm, a pooler, a head, a decoder.
    Top,
}

/// The role of one tensor, shared by all that hold it.
#[derive(Clone, Debug)]
struct LiveRole(Arc<AtomicU8>);

impl LiveRole {
    fn new(role: Role) -> Self {
        LiveRole(Arc::new(AtomicU8::new(role as u8)))
    }

    fn get(&self) -> Role {
        const ALL: [Role; 4] = [Role::Trained, Role::Frozen, Role::Teacher, Role::Buffer];
        ALL[usize::from(self.0.load(Ordering::Relaxed)) % ALL.len()]
    }

    fn set(&self, role: Role) {
        self.0.store(role as u8, Ordering::Relaxed);
    }
}

/// One named tensor, as it stands when it is asked for.
#[derive(Clone, Debug)]
pub struct Param {
    /// Full dotted name.
    pub name: String,
    /// Its purpose.
    pub role: Role,
    /// Where it stands; `None` if its module did not say: layer-wise rates and frozen blocks then fail.
    pub place: Option<Place>,
    /// Whether weight decay applies: matrices and kernels, but no tokens and fixed-size position tables.
    pub decay: bool,
    /// The storage; written only between steps.
    pub var: Var,
    live: LiveRole,
}

impl Param {
    /// A tensor that nobody holds yet. Vectors never decay, whatever `decay` says.
    pub(crate) fn new(
        name: String,
        role: Role,
        place: Option<Place>,
        decay: bool,
        value: &Tensor,
    ) -> Result<Self> {
        let decay = decay && value.rank() > 1;
        Ok(Param { name, role, place, decay, var: Var::from_tensor(value)?, live: LiveRole::new(role) })
    }

    /// A handle for a layer.
    pub(crate) fn weight(&self) -> Weight {
        Weight { var: self.var.clone(), live: self.live.clone() }
    }

    /// The same with the role that it has now.
    fn now(&self) -> Self {
        Param { role: self.live.get(), ..self.clone() }
    }
}

/// A parameter as a layer holds it. [`Weight::on`] gives the tensor for a forward pass.
#[derive(Clone, Debug)]
pub struct Weight {
    var: Var,
    live: LiveRole,
}

impl Weight {
    /// The value: tracked while the parameter is trained, detached in every other role, so that no graph is
    /// built through frozen parts and teachers. Shares storage with the parameter set.
    pub fn tensor(&self) -> Tensor {
        if self.live.get() == Role::Trained { self.var.as_tensor().clone() } else { self.value() }
    }

    /// The value without a graph.
    pub fn value(&self) -> Tensor {
        self.var.as_tensor().detach()
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        self.var.dims()
    }
}

/// The ordered set of all tensors that outlive a step. Clones share the same tensors.
#[derive(Clone, Debug, Default)]
pub struct Params(Arc<Mutex<BTreeMap<String, Param>>>);

impl Params {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Param>> {
        // A poisoned lock means that a panic happened while reading names: the map itself is still whole.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All tensors in name order.
    pub fn all(&self) -> Vec<Param> {
        self.lock().values().map(Param::now).collect()
    }

    /// The tensors of one role, in name order.
    pub fn with_role(&self, role: Role) -> Vec<Param> {
        self.lock().values().filter(|p| p.live.get() == role).map(Param::now).collect()
    }

    /// One tensor by full name.
    pub fn get(&self, name: &str) -> Option<Param> {
        self.lock().get(name).map(Param::now)
    }

    /// Changes the role of everything under `prefix` (a dotted path, or "" for all) from one role to another.
    /// Modules see the new role at their next forward pass; an optimiser keeps the tensors that were trained
    /// when it was made.
    pub fn set_role(&self, prefix: &str, from: Role, to: Role) {
        for p in self.lock().values() {
            if p.live.get() == from && under(&p.name, prefix) {
                p.live.set(to);
            }
        }
    }

    /// The parameter `name`; without one, the parameter that `make` returns, which then has that name.
    pub(crate) fn get_or_insert(&self, name: &str, make: impl FnOnce() -> Result<Param>) -> Result<Param> {
        if let Some(p) = self.get(name) {
            return Ok(p);
        }
        // Not under the lock: `make` may look at other parameters.
        let made = make()?;
        Ok(self.lock().entry(name.to_string()).or_insert(made).now())
    }

    /// Number of values in tensors of `role`.
    pub fn count(&self, role: Role) -> usize {
        self.lock().values().filter(|p| p.live.get() == role).map(|p| p.var.elem_count()).sum()
    }

    /// Writes `value` into the tensor `name`; never between a forward and its backward.
    ///
    /// # Errors
    /// If there is no such tensor, or its shape differs.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        let p = self.get(name).ok_or_else(|| Error::input(name, "no such parameter"))?;
        if p.var.dims() != value.dims() {
            return Err(Error::input(name, format!("shape {:?}, expected {:?}", value.dims(), p.var.dims())));
        }
        let value = value.to_dtype(p.var.dtype())?.to_device(p.var.device())?.detach().contiguous()?;
        Ok(p.var.set(&value)?)
    }

    /// Copies every tensor under `from` onto the tensor of the same relative name under `to` (a teacher's
    /// start).
    ///
    /// # Errors
    /// If a target is missing or has another shape.
    pub fn copy(&self, from: &str, to: &str) -> Result<()> {
        for (source, target) in self.pairs(from, to) {
            self.set(&target, &source.var.as_tensor().copy()?)?;
        }
        Ok(())
    }

    /// `(parameter under from, name under to)` for every tensor under `from` whose counterpart exists.
    pub fn pairs(&self, from: &str, to: &str) -> Vec<(Param, String)> {
        let map = self.lock();
        map.values()
            .filter(|p| under(&p.name, from))
            .map(|p| (p.now(), format!("{to}{}", &p.name[from.len()..])))
            .filter(|(_, t)| map.contains_key(t))
            .collect()
    }
}

/// Whether the dotted `name` is `prefix` or lies below it.
pub fn under(name: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || (name.starts_with(prefix) && matches!(name.as_bytes().get(prefix.len()), None | Some(b'.')))
}
