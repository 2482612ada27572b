//! Every tensor that outlives a step, by name and role.
//!
//! A module is built from a [`Scope`]: a name path, a role and a seed. It asks for tensors by name and shape;
//! initial values depend on `(seed, name)` alone, so adding a layer changes no other layer's initial weights.
//! [`Params`] owns what was asked for. A checkpoint is `Params` + optimiser moments + progress, and no trait
//! needs a save or load.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Shape, Tensor, Var};
use selfsup_kernels::rng::Key;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Updated by the optimiser.
    Trained,
    /// Part of the model, not updated (fixed position embeddings, a frozen trunk).
    Frozen,
    /// Follows a trained tensor by exponential moving average.
    Teacher,
    /// Statistics and state: running means, queues, centres.
    Buffer,
}

/// Initial values. Fans are those of a weight `(out, in, k...)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same value.
    Const(f32),
    /// Normal with mean 0.
    Normal(f32),
    /// Normal with mean 0, cut at two standard deviations (timm's `trunc_normal_`).
    TruncNormal(f32),
    /// Uniform in `[-a, a]`.
    Uniform(f32),
    /// Kaiming normal, fan-out, gain sqrt(2) (torchvision's ResNet).
    KaimingFanOut,
    /// Uniform in `±1/sqrt(fan_in)`: PyTorch's default for linear and convolution weights.
    TorchLinear,
    /// Glorot uniform (the ViT and MAE papers' linear layers).
    XavierUniform,
}

impl Init {
    fn draw(self, shape: &Shape, key: Key, device: &Device) -> Result<Tensor> {
        let dims = shape.dims();
        let n = shape.elem_count();
        let receptive: usize = dims.iter().skip(2).product();
        let fan_out = dims.first().copied().unwrap_or(1) * receptive;
        let fan_in = dims.get(1).copied().unwrap_or(1) * receptive;
        let mut r = key.rng();
        let v: Vec<f32> = match self {
            Init::Const(c) => vec![c; n],
            Init::Normal(sd) => (0..n).map(|_| r.normal() * sd).collect(),
            Init::TruncNormal(sd) => (0..n)
                .map(|_| {
                    loop {
                        let x = r.normal();
                        if x.abs() <= 2.0 {
                            break x * sd;
                        }
                    }
                })
                .collect(),
            Init::Uniform(a) => (0..n).map(|_| r.range_f32(-a, a)).collect(),
            Init::KaimingFanOut => {
                let sd = (2.0 / fan_out.max(1) as f32).sqrt();
                (0..n).map(|_| r.normal() * sd).collect()
            }
            Init::TorchLinear => {
                let a = 1.0 / (fan_in.max(1) as f32).sqrt();
                (0..n).map(|_| r.range_f32(-a, a)).collect()
            }
            Init::XavierUniform => {
                let a = (6.0 / (fan_in + fan_out).max(1) as f32).sqrt();
                (0..n).map(|_| r.range_f32(-a, a)).collect()
            }
        };
        Ok(Tensor::from_vec(v, shape, device)?)
    }
}

/// One named tensor.
#[derive(Clone, Debug)]
pub struct Param {
    /// Full dotted name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The storage; written only between steps.
    pub var: Var,
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
        self.lock().values().cloned().collect()
    }

    /// The tensors of one role, in name order.
    pub fn with_role(&self, role: Role) -> Vec<Param> {
        self.lock().values().filter(|p| p.role == role).cloned().collect()
    }

    /// One tensor by full name.
    pub fn get(&self, name: &str) -> Option<Param> {
        self.lock().get(name).cloned()
    }

    /// Changes the role of everything under `prefix` (a dotted path, or "" for all) from one role to another.
    /// Modules that were built before keep their own view of the graph, so call this before building, or for
    /// the optimiser's eyes only.
    pub fn set_role(&self, prefix: &str, from: Role, to: Role) {
        for p in self.lock().values_mut() {
            if p.role == from && under(&p.name, prefix) {
                p.role = to;
            }
        }
    }

    /// Number of values in tensors of `role`.
    pub fn count(&self, role: Role) -> usize {
        self.lock().values().filter(|p| p.role == role).map(|p| p.var.elem_count()).sum()
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
            .map(|p| (p.clone(), format!("{to}{}", &p.name[from.len()..])))
            .filter(|(_, t)| map.contains_key(t))
            .collect()
    }
}

/// Whether the dotted `name` is `prefix` or lies below it.
pub fn under(name: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || (name.starts_with(prefix) && matches!(name.as_bytes().get(prefix.len()), None | Some(b'.')))
}

/// What modules are built from: a name path, a role, a seed and a device.
#[derive(Clone, Debug)]
pub struct Scope {
    params: Params,
    path: String,
    role: Role,
    key: Key,
    device: Device,
}

impl Scope {
    /// The root scope of a model, for trained tensors.
    pub fn root(params: &Params, seed: u64, device: &Device) -> Self {
        Scope {
            params: params.clone(),
            path: String::new(),
            role: Role::Trained,
            key: Key::new(seed).named("init"),
            device: device.clone(),
        }
    }

    /// The scope `self.path + "." + name`.
    #[must_use]
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Scope { path, ..self.clone() }
    }

    /// The same path for tensors of another role.
    #[must_use]
    pub fn with_role(&self, role: Role) -> Self {
        Scope { role, ..self.clone() }
    }

    /// The device that tensors are created on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The dotted path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The role of the tensors made here.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The set that owns the tensors.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The tensor `name`, created on first use. Trained tensors come back tracked; all others detached, so
    /// that no graph is built through them. Initial values depend on the seed and the full name only.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn get(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        self.get_as(name, shape, init, self.role)
    }

    /// A buffer (running statistics, a queue): never trained, never averaged.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Buffer> {
        let tensor = self.get_as(name, shape, init, Role::Buffer)?;
        Ok(Buffer { name: self.full(name), tensor })
    }

    fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    fn get_as(&self, name: &str, shape: impl Into<Shape>, init: Init, role: Role) -> Result<Tensor> {
        let (shape, full) = (shape.into(), self.full(name));
        let mut map = self.params.lock();
        if let Some(p) = map.get(&full) {
            if p.var.shape() != &shape {
                return Err(Error::input(
                    &full,
                    format!("asked for with shape {shape:?}, but exists with {:?}", p.var.shape()),
                ));
            }
            return Ok(view(p));
        }
        let value = init.draw(&shape, self.key.named(&full), &self.device)?.to_dtype(DType::F32)?;
        let p = Param { name: full.clone(), role, var: Var::from_tensor(&value)? };
        let out = view(&p);
        map.insert(full, p);
        Ok(out)
    }
}

fn view(p: &Param) -> Tensor {
    if p.role == Role::Trained { p.var.as_tensor().clone() } else { p.var.as_tensor().detach() }
}

/// A named buffer: its current value, and the name under which a new value is handed to
/// [`crate::pass::Pass::defer`].
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Full dotted name in [`Params`].
    pub name: String,
    /// The current value (shares storage with the parameter set: it is up to date at every forward).
    pub tensor: Tensor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_initial_values() -> Result<()> {
        let (a, b) = (Params::new(), Params::new());
        let dev = Device::Cpu;
        let _ = Scope::root(&a, 1, &dev).sub("other").get("weight", (3, 2), Init::Normal(1.0))?;
        let x = Scope::root(&a, 1, &dev).sub("fc").get("weight", (4, 2), Init::TorchLinear)?;
        let y = Scope::root(&b, 1, &dev).sub("fc").get("weight", (4, 2), Init::TorchLinear)?;
        assert_eq!(x.to_vec2::<f32>()?, y.to_vec2::<f32>()?);
        assert!(Scope::root(&a, 1, &dev).sub("fc").get("weight", (4, 3), Init::TorchLinear).is_err());
        assert!(a.set("fc.weight", &Tensor::zeros((1, 2), DType::F32, &dev)?).is_err());
        a.set("fc.weight", &Tensor::zeros((4, 2), DType::F32, &dev)?)?;
        assert_eq!(x.sum_all()?.to_scalar::<f32>()?, 0.0, "handles see the new value");
        Ok(())
    }

    #[test]
    fn teacher_pairs() -> Result<()> {
        let p = Params::new();
        let root = Scope::root(&p, 1, &Device::Cpu);
        let s = root.sub("student").get("w", 3, Init::Normal(1.0))?;
        let t = root.sub("teacher").with_role(Role::Teacher).get("w", 3, Init::Normal(1.0))?;
        p.copy("student", "teacher")?;
        assert_eq!(s.to_vec1::<f32>()?, t.to_vec1::<f32>()?);
        assert!(!t.track_op() && s.track_op());
        assert!(under("a.b", "a") && !under("ab", "a"));
        Ok(())
    }
}
