//! Element-wise activations.

use crate::Path;
use candle_core::{Result, Tensor};

/// An activation that other kernels fuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Act {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`, derivative 0 at 0.
    Relu,
    /// `x Phi(x)`, exact.
    GeluErf,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// `max(x, 0)`; the derivative at 0 is 0, as in PyTorch.
///
/// # Errors
/// If the device refuses.
pub fn relu(x: &Tensor, _path: Path) -> Result<Tensor> {
    // Not candle's: its derivative at 0 is 1.
    x * x.detach().gt(0.0)?.to_dtype(x.dtype())?
}

/// `x Phi(x)` with the error function (Hendrycks and Gimpel 2016, arXiv 1606.08415).
///
/// # Errors
/// If the device refuses.
pub fn gelu_erf(x: &Tensor, _path: Path) -> Result<Tensor> {
    x.gelu_erf()
}

/// The tanh approximation of GELU.
///
/// # Errors
/// If the device refuses.
pub fn gelu_tanh(x: &Tensor, _path: Path) -> Result<Tensor> {
    x.gelu()
}

/// `x sigmoid(x)`.
///
/// # Errors
/// If the device refuses.
pub fn silu(x: &Tensor, _path: Path) -> Result<Tensor> {
    x.silu()
}

/// `max(x, 0) + w min(x, 0)` with one weight `w (1)`.
///
/// # Errors
/// If the device refuses.
pub fn prelu(x: &Tensor, w: &Tensor, path: Path) -> Result<Tensor> {
    relu(x, path)? - relu(&x.neg()?, path)?.broadcast_mul(w)?
}
