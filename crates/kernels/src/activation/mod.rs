//! Element-wise activations. On the CPU each is one node of the graph that keeps its input only; the
//! exponential and the error function are branch-free approximations (module `math`) that the compiler
//! vectorises.

mod act;
mod elementwise;
pub(crate) mod math;
pub(crate) mod slices;
#[cfg(test)]
pub(crate) mod testing;

pub use act::Act;
pub(crate) use elementwise::{act_backward, act_forward};

use crate::Path;
use candle_core::{Result, Tensor, bail};
use elementwise::{Kind, Prelu, Unary};
use slices::wants_fused;

impl Act {
    /// The activation of every element of `x`.
    ///
    /// # Errors
    /// If `path` asks for the fused kernel and `x` is not f32 on the CPU.
    pub fn apply(self, x: &Tensor, path: Path) -> Result<Tensor> {
        match self {
            Act::None => Ok(x.clone()),
            Act::Relu => relu(x, path),
            Act::GeluErf => gelu_erf(x, path),
            Act::GeluTanh => gelu_tanh(x, path),
        }
    }
}

/// The fused node where it is wanted, else `composed`.
fn unary(
    name: &str,
    x: &Tensor,
    kind: Kind,
    path: Path,
    composed: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if wants_fused(name, path, &[x])? { x.contiguous()?.apply_op1(Unary(kind)) } else { composed(x) }
}

/// `max(x, 0)` of any shape; the derivative at 0 is 0, as in PyTorch.
///
/// # Errors
/// If `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn relu(x: &Tensor, path: Path) -> Result<Tensor> {
    // Not candle's: its derivative at 0 is 1. A selection and not a product with a mask, which would make NaN
    // of infinities.
    unary("relu", x, Kind::Relu, path, |x| x.detach().le(0.0)?.where_cond(&x.zeros_like()?, x))
}

/// `x Phi(x)` with the error function, of any shape (Hendrycks and Gimpel 2016, arXiv 1606.08415).
///
/// # Errors
/// If `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn gelu_erf(x: &Tensor, path: Path) -> Result<Tensor> {
    unary("gelu_erf", x, Kind::GeluErf, path, Tensor::gelu_erf)
}

/// The tanh approximation of GELU, `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, of any shape (arXiv
/// 1606.08415).
///
/// # Errors
/// If `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn gelu_tanh(x: &Tensor, path: Path) -> Result<Tensor> {
    unary("gelu_tanh", x, Kind::GeluTanh, path, Tensor::gelu)
}

/// `x sigmoid(x)` of any shape (Elfwing et al. 2017, arXiv 1702.03118).
///
/// # Errors
/// If `path` asks for the fused kernel and `x` is not f32 on the CPU.
pub fn silu(x: &Tensor, path: Path) -> Result<Tensor> {
    unary("silu", x, Kind::Silu, path, Tensor::silu)
}

/// `x` where it is positive, else `w x`, with one weight `w (1)` for all of `x`, of any shape (He et al.
/// 2015, arXiv 1502.01852).
///
/// # Errors
/// If `w` has not one element, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn prelu(x: &Tensor, w: &Tensor, path: Path) -> Result<Tensor> {
    if w.elem_count() != 1 {
        bail!("prelu: weight of shape {:?}, expected one element", w.dims())
    }
    if wants_fused("prelu", path, &[x, w])? {
        return x.contiguous()?.apply_op2(&w.contiguous()?, Prelu);
    }
    let (positive, zero) = (x.detach().gt(0.0)?, x.zeros_like()?);
    positive.where_cond(x, &zero)? + positive.where_cond(&zero, x)?.broadcast_mul(&w.reshape(())?)?
}

#[cfg(test)]
mod tests;
