//! Linear layers `y = act(x W^T + b)`, and the matrix products that the other kernels share.
//!
//! On the CPU the layer is one node of the graph: rows are cut into blocks (from the shape alone), each block
//! is one matrix product whose result gets its bias and activation while it is still in the cache. Of the
//! forward only the pre-activation is kept, and only where the derivative needs it. Elsewhere the layer is
//! composed of candle's operators.

pub(crate) mod fused;
pub(crate) mod gemm;
pub(crate) mod simd;

use crate::Path;
use crate::activation::Act;
use crate::activation::slices::wants_fused;
use candle_core::{Result, Tensor, bail};

/// `x W^T + b`: `x (.., K)`, `w (O, K)`, `b (O)` to `(.., O)`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>, path: Path) -> Result<Tensor> {
    linear_act(x, w, b, Act::None, path)
}

/// `act(x W^T + b)`: `x (.., K)`, `w (O, K)`, `b (O)` to `(.., O)`, as one node of the graph on the CPU.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear_act(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act, path: Path) -> Result<Tensor> {
    let (outputs, inputs) = match w.dims() {
        [o, k] => (*o, *k),
        other => bail!("linear: weight of shape {other:?}, expected (out, in)"),
    };
    if x.dims().last() != Some(&inputs) {
        bail!(
            "linear: input of shape {:?}, expected (.., {inputs}) for a weight of shape ({outputs}, {inputs})",
            x.dims()
        )
    }
    if let Some(b) = b
        && b.dims() != [outputs]
    {
        bail!("linear: bias of shape {:?}, expected ({outputs})", b.dims())
    }
    let mut shape = x.dims().to_vec();
    shape.pop();
    let rows: usize = shape.iter().product();
    shape.push(outputs);
    let x = x.reshape((rows, inputs))?;
    let all: Vec<&Tensor> = [&x, w].into_iter().chain(b).collect();
    let y = if wants_fused("linear", path, &all)? {
        fused::linear(&x, w, b, act)?
    } else {
        composed(&x, w, b, act)?
    };
    y.reshape(shape)
}

/// The same by candle's operators, on any device: `x (M, K)` to `(M, O)`.
fn composed(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Act) -> Result<Tensor> {
    let z = x.matmul(&w.t()?)?;
    let z = match b {
        Some(b) => z.broadcast_add(b)?,
        None => z,
    };
    match act {
        Act::None => Ok(z),
        // Not candle's: its derivative at 0 is 1.
        Act::Relu => &z * z.detach().gt(0.0)?.to_dtype(z.dtype())?,
        Act::GeluErf => z.gelu_erf(),
        Act::GeluTanh => z.gelu(),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
