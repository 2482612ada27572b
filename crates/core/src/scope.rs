//! Modules are built from a [`Scope`]: a name path, a role, a place and a seed.
//!
//! A module asks the scope for tensors by name and shape. Initial values depend on `(seed, name)` alone, so a
//! new layer changes no other layer's initial weights. The scope returns an existing tensor as it is, so a
//! second build changes nothing.

use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::{Param, Params, Place, Role, Weight};
use candle_core::{DType, Device, Shape, Tensor};
use selfsup_kernels::rng::Key;

/// A name path, a role, a place and a seed: modules ask it for their tensors.
#[derive(Clone, Debug)]
pub struct Scope {
    params: Params,
    path: String,
    role: Role,
    place: Option<Place>,
    decay: bool,
    /// `(path, other path)`: tensors below the first start as copies of those below the second.
    copies: Option<(String, String)>,
    key: Key,
    device: Device,
}

impl Scope {
    /// The root scope of a model, for trained tensors without a place.
    pub fn root(params: &Params, seed: u64, device: &Device) -> Self {
        Scope {
            params: params.clone(),
            path: String::new(),
            role: Role::Trained,
            place: None,
            decay: true,
            copies: None,
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

    /// The same path for tensors before the first block, unless the scope has a place already.
    #[must_use]
    pub fn stem(&self) -> Self {
        self.at(Place::Stem)
    }

    /// The same path for tensors of block `i`, unless the scope has a place already: the blocks of a decoder
    /// that was built at [`Scope::top`] stay behind the encoder's.
    #[must_use]
    pub fn block(&self, i: usize) -> Self {
        self.at(Place::Block(i))
    }

    /// The same path for tensors behind the last block, unless the scope has a place already.
    #[must_use]
    pub fn top(&self) -> Self {
        self.at(Place::Top)
    }

    fn at(&self, place: Place) -> Self {
        Scope { place: self.place.or(Some(place)), ..self.clone() }
    }

    /// The same path for tensors without weight decay (class, mask and register tokens, position tables).
    #[must_use]
    pub fn no_decay(&self) -> Self {
        Scope { decay: false, ..self.clone() }
    }

    /// The same path for tensors that start as copies of those of the same relative name below `from` (a full
    /// path): a teacher. A tensor without a counterpart there is drawn.
    #[must_use]
    pub fn copying(&self, from: &str) -> Self {
        Scope { copies: Some((self.path.clone(), from.to_string())), ..self.clone() }
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

    /// The full name of `name` in this scope.
    pub fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// The tensor `name`, drawn from `init` where it does not exist yet. Initial values depend on the seed
    /// and the full name only.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn get(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Weight> {
        let shape = shape.into();
        Ok(self.make(name, &shape, self.role, |scope| scope.draw(name, &shape, init))?.weight())
    }

    /// The tensor `name`, made by `make` where it does not exist yet (a sine table, a prior): a second build
    /// leaves its value alone.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape, or `make` fails or returns another shape.
    pub fn get_with(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        make: impl FnOnce(&Device) -> Result<Tensor>,
    ) -> Result<Weight> {
        Ok(self.make(name, &shape.into(), self.role, |scope| Ok(make(&scope.device)?.copy()?))?.weight())
    }

    /// A buffer (running statistics, a queue): never trained, never averaged.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Buffer> {
        let shape = shape.into();
        self.buffer_with(name, shape.clone(), |_| self.draw(name, &shape, init))
    }

    /// A buffer whose first value `make` returns.
    ///
    /// # Errors
    /// As [`Scope::get_with`].
    pub fn buffer_with(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        make: impl FnOnce(&Device) -> Result<Tensor>,
    ) -> Result<Buffer> {
        let p = self.make(name, &shape.into(), Role::Buffer, |scope| Ok(make(&scope.device)?.copy()?))?;
        Ok(Buffer { tensor: p.var.as_tensor().detach(), name: p.name })
    }

    /// Initial values of a tensor `name` of this scope, without making it.
    ///
    /// # Errors
    /// If the device refuses the tensor.
    pub fn draw(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        init.draw(&shape.into(), self.key.named(&self.full(name)), &self.device)
    }

    /// The key that the first values of `name` are drawn with: from the seed and the full name.
    #[cfg(feature = "candle-nn")]
    pub(crate) fn key(&self, name: &str) -> Key {
        self.key.named(&self.full(name))
    }

    /// The same path over other parameters, which are drawn and not copied.
    #[cfg(feature = "candle-nn")]
    pub(crate) fn over(&self, params: &Params) -> Self {
        Scope { params: params.clone(), copies: None, ..self.clone() }
    }

    /// The value that a copying scope starts `full` from.
    fn counterpart(&self, full: &str) -> Option<Tensor> {
        let (here, there) = self.copies.as_ref()?;
        let rest = full.strip_prefix(here.as_str())?;
        let name = if there.is_empty() {
            rest.trim_start_matches('.').to_string()
        } else {
            format!("{there}{rest}")
        };
        Some(self.params.get(&name)?.var.as_tensor().detach())
    }

    fn make(
        &self,
        name: &str,
        shape: &Shape,
        role: Role,
        value: impl FnOnce(&Self) -> Result<Tensor>,
    ) -> Result<Param> {
        let full = self.full(name);
        let p = self.params.get_or_insert(&full, || {
            let value = match self.counterpart(&full) {
                Some(other) => other.copy()?,
                None => value(self)?,
            };
            if value.shape() != shape {
                return Err(Error::input(
                    &full,
                    format!("its first value has shape {:?}, expected {shape:?}", value.shape()),
                ));
            }
            let value = value.to_dtype(DType::F32)?.contiguous()?;
            Param::new(full.clone(), role, self.place, self.decay, &value)
        })?;
        if p.var.shape() != shape {
            let have = p.var.shape();
            return Err(Error::input(
                &full,
                format!("asked for with shape {shape:?}, but exists with {have:?}"),
            ));
        }
        Ok(p)
    }
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
    use crate::params::under;

    #[test]
    fn names_decide_initial_values() -> Result<()> {
        let (a, b) = (Params::new(), Params::new());
        let dev = Device::Cpu;
        let _ = Scope::root(&a, 1, &dev).sub("other").get("weight", (3, 2), Init::Normal(1.0))?;
        let x = Scope::root(&a, 1, &dev).sub("fc").get("weight", (4, 2), Init::TorchLinear)?;
        let y = Scope::root(&b, 1, &dev).sub("fc").get("weight", (4, 2), Init::TorchLinear)?;
        assert_eq!(x.value().to_vec2::<f32>()?, y.value().to_vec2::<f32>()?);
        assert!(Scope::root(&a, 1, &dev).sub("fc").get("weight", (4, 3), Init::TorchLinear).is_err());
        assert!(a.set("fc.weight", &Tensor::zeros((1, 2), DType::F32, &dev)?).is_err());
        a.set("fc.weight", &Tensor::zeros((4, 2), DType::F32, &dev)?)?;
        assert_eq!(x.value().sum_all()?.to_scalar::<f32>()?, 0.0, "handles see the new value");
        Ok(())
    }

    #[test]
    fn a_second_build_changes_nothing() -> Result<()> {
        let params = Params::new();
        let root = Scope::root(&params, 1, &Device::Cpu);
        let table = |value: f32| move |d: &Device| Ok(Tensor::full(value, (2, 3), d)?);
        let first = root.get_with("table", (2, 3), table(1.0))?;
        root.get_with("table", (2, 3), table(2.0))?;
        root.buffer_with("state", (2, 3), table(3.0))?;
        assert_eq!(root.buffer_with("state", (2, 3), table(4.0))?.tensor.to_vec2::<f32>()?, [[3.0; 3]; 2]);
        assert_eq!(first.value().to_vec2::<f32>()?, [[1.0; 3]; 2]);
        let wrong = root.get_with("other", (3, 2), table(0.0)).unwrap_err().to_string();
        assert!(wrong.contains("other") && wrong.contains("[3, 2]"), "{wrong}");
        Ok(())
    }

    #[test]
    fn a_teacher_starts_as_a_copy_and_builds_no_graph() -> Result<()> {
        let p = Params::new();
        let root = Scope::root(&p, 1, &Device::Cpu);
        let student = root.sub("encoder").get("w", 3, Init::Normal(1.0))?;
        let teacher = || root.sub("teacher").with_role(Role::Teacher).copying("");
        let copy = teacher().sub("encoder").get("w", 3, Init::Normal(1.0))?;
        assert_eq!(student.value().to_vec1::<f32>()?, copy.value().to_vec1::<f32>()?);
        assert!(!copy.tensor().track_op() && student.tensor().track_op());
        p.set("encoder.w", &Tensor::zeros(3, DType::F32, &Device::Cpu)?)?;
        let again = teacher().sub("encoder").get("w", 3, Init::Normal(1.0))?;
        assert!(
            again.value().to_vec1::<f32>()?.iter().any(|v| *v != 0.0),
            "an existing teacher stays as it is"
        );
        assert!(under("a.b", "a") && !under("ab", "a"));
        Ok(())
    }

    #[test]
    fn roles_are_looked_up_at_every_use() -> Result<()> {
        let p = Params::new();
        let w = Scope::root(&p, 1, &Device::Cpu).sub("encoder").get("w", (2, 2), Init::Normal(1.0))?;
        p.set_role("encoder", Role::Trained, Role::Frozen);
        assert!(!w.tensor().track_op());
        assert_eq!(p.get("encoder.w").map(|p| p.role), Some(Role::Frozen));
        p.set_role("encoder", Role::Frozen, Role::Trained);
        assert!(w.tensor().track_op());
        Ok(())
    }

    #[test]
    fn the_first_place_holds_and_vectors_do_not_decay() -> Result<()> {
        let p = Params::new();
        let root = Scope::root(&p, 1, &Device::Cpu);
        root.stem().get("a", 2, Init::Const(0.0))?;
        root.top().sub("decoder").block(3).get("b", (2, 2), Init::Const(0.0))?;
        root.block(3).no_decay().get("c", (2, 2), Init::Const(0.0))?;
        root.get("d", (2, 2), Init::Const(0.0))?;
        let found: Vec<_> = p.all().into_iter().map(|p| (p.place, p.decay)).collect();
        let expected = [
            (Some(Place::Stem), false),
            (Some(Place::Block(3)), false),
            (None, true),
            (Some(Place::Top), true),
        ];
        assert_eq!(found, expected); // in name order: a, c, d, decoder.b
        Ok(())
    }
}
