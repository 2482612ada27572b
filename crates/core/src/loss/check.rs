//! Checks of a loss's arguments: every error names the loss, the argument and the shape that was expected.

use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// The checks of one loss, by its name.
#[derive(Clone, Copy)]
pub(super) struct Check(pub &'static str);

impl Check {
    /// An error about the argument `arg`.
    pub fn wrong(self, arg: &str, problem: impl std::fmt::Display) -> Error {
        Error::input(format_args!("{}: argument `{arg}`", self.0), problem)
    }

    /// `x` as a floating-point tensor that a loss can be computed in: half precision is widened to f32 (sums
    /// of thousands of terms do not fit into 8 or 11 bits), f32 and f64 stay.
    pub fn float(self, arg: &str, x: &Tensor) -> Result<Tensor> {
        match x.dtype() {
            DType::F32 | DType::F64 => Ok(x.clone()),
            DType::F16 | DType::BF16 => Ok(x.to_dtype(DType::F32)?),
            other => {
                Err(self.wrong(arg, format_args!("has dtype {other:?}, expected a floating-point tensor")))
            }
        }
    }

    /// `x` as a non-empty matrix, with its sizes. `shape` is how the documentation calls them, such as `(N,
    /// D)`.
    pub fn matrix(self, arg: &str, x: &Tensor, shape: &str) -> Result<(Tensor, usize, usize)> {
        match *x.dims() {
            [n, d] if n > 0 && d > 0 => Ok((self.float(arg, x)?, n, d)),
            _ => Err(self.wrong(
                arg,
                format_args!("has shape {:?}, expected {shape} with both sizes at least 1", x.dims()),
            )),
        }
    }

    /// `x` in the shape and dtype of `model`, an argument that was already checked under the name
    /// `model_name`.
    pub fn like(self, arg: &str, x: &Tensor, model_name: &str, model: &Tensor) -> Result<Tensor> {
        if x.dims() != model.dims() {
            return Err(self.wrong(
                arg,
                format_args!("has shape {:?}, expected {:?} as `{model_name}` has", x.dims(), model.dims()),
            ));
        }
        let x = self.float(arg, x)?;
        if x.dtype() == model.dtype() { Ok(x) } else { Ok(x.to_dtype(model.dtype())?) }
    }

    /// `x` with exactly the shape `dims`, called `shape` in the documentation. Any dtype.
    pub fn shape(self, arg: &str, x: &Tensor, dims: &[usize], shape: &str) -> Result<()> {
        if x.dims() == dims {
            Ok(())
        } else {
            Err(self.wrong(arg, format_args!("has shape {:?}, expected {dims:?} = {shape}", x.dims())))
        }
    }

    /// A number that must be finite and above zero: a temperature.
    pub fn positive(self, arg: &str, value: f64) -> Result<()> {
        if value > 0.0 && value.is_finite() {
            Ok(())
        } else {
            Err(self.wrong(arg, format_args!("is {value}, expected a finite number above 0")))
        }
    }

    /// A number that must be finite and not below zero: a weight or a margin.
    pub fn not_negative(self, arg: &str, value: f64) -> Result<()> {
        if value >= 0.0 && value.is_finite() {
            Ok(())
        } else {
            Err(self.wrong(arg, format_args!("is {value}, expected a finite number of at least 0")))
        }
    }

    /// A batch of at least two samples; `why` says what one sample lacks.
    pub fn pair_of_samples(self, arg: &str, n: usize, why: &str) -> Result<()> {
        if n >= 2 {
            Ok(())
        } else {
            Err(self.wrong(arg, format_args!("has a batch of {n}, expected at least 2 samples: {why}")))
        }
    }

    /// An integer tensor as i64.
    pub fn integers(self, arg: &str, x: &Tensor) -> Result<Tensor> {
        match x.dtype() {
            DType::I64 => Ok(x.clone()),
            d if d.is_int() => Ok(x.to_dtype(DType::I64)?),
            other => Err(self.wrong(arg, format_args!("has dtype {other:?}, expected integers"))),
        }
    }
}
