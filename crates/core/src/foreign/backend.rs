//! candle-nn's `VarBuilder` over a [`Scope`].

use crate::error::{Error, Result};
use crate::params::Param;
use crate::scope::Scope;
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::{Init, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use selfsup_kernels::rng::Key;

/// The names under which batch normalisation asks for its running statistics.
pub(super) const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

impl Scope {
    /// A `VarBuilder` of candle-nn for this scope: `candle_nn::linear(3, 4, scope.stem().var_builder())`.
    ///
    /// A tensor `pp("fc").get(.., "weight")` is the parameter `fc.weight` of the scope, with its role, place
    /// and decay. It is drawn from candle-nn's initialisation, with a key of the seed and the full name, and
    /// is tracked while its role is `Trained`. Running statistics of batch normalisation are buffers.
    ///
    /// Parameters are in single precision on the scope's device; the builder refuses other types and devices
    /// with an error that names the tensor.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let backend: Box<dyn SimpleBackend> = Box::new(OverScope(self.clone()));
        VarBuilder::from_backend(backend, DType::F32, self.device().clone())
    }
}

struct OverScope(Scope);

impl OverScope {
    fn fits(&self, name: &str, dtype: DType, device: &Device) -> Result<()> {
        let have = self.0.device();
        if dtype != DType::F32 {
            return Err(Error::input(
                self.0.full(name),
                format!("asked for as {dtype:?}, but parameters are kept as F32"),
            ));
        }
        if !device.same_device(have) {
            return Err(Error::input(
                self.0.full(name),
                format!(
                    "asked for on {:?}, but the scope makes parameters on {:?}",
                    device.location(),
                    have.location()
                ),
            ));
        }
        Ok(())
    }

    fn existing(&self, name: &str) -> Option<Param> {
        self.0.params().get(&self.0.full(name))
    }
}

impl SimpleBackend for OverScope {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.fits(name, dtype, device)?;
        let make = |device: &Device| draw(init, &shape, self.0.key(name), device);
        let last = name.rsplit('.').next().unwrap_or(name);
        if STATISTICS.contains(&last) {
            return Ok(self.0.buffer_with(name, shape.clone(), make)?.tensor);
        }
        Ok(self.0.get_with(name, shape.clone(), make)?.tensor())
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.fits(name, dtype, device)?;
        match self.existing(name) {
            Some(p) => Ok(p.weight().tensor()),
            None => Err(Error::input(
                self.0.full(name),
                "asked for without a shape, but there is no such parameter yet: ask for it with its shape",
            ))?,
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.existing(name).is_some()
    }
}

/// First values as candle-nn's `init` describes them, drawn with `key` alone.
fn draw(init: Init, shape: &Shape, key: Key, device: &Device) -> Result<Tensor> {
    let mut rng = key.rng();
    let n = shape.elem_count();
    let values: Vec<f32> = match init {
        Init::Const(value) => vec![value as f32; n],
        Init::Randn { mean, stdev } => (0..n).map(|_| mean as f32 + stdev as f32 * rng.normal()).collect(),
        Init::Uniform { lo, up } => (0..n).map(|_| rng.range_f32(lo as f32, up as f32)).collect(),
        Init::Kaiming { dist, fan, non_linearity } => {
            let deviation = non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => (0..n).map(|_| deviation as f32 * rng.normal()).collect(),
                NormalOrUniform::Uniform => {
                    // A uniform distribution in ±b has the standard deviation b / sqrt(3).
                    let bound = (3f64.sqrt() * deviation) as f32;
                    (0..n).map(|_| rng.range_f32(-bound, bound)).collect()
                }
            }
        }
    };
    Ok(Tensor::from_vec(values, shape, device)?)
}
