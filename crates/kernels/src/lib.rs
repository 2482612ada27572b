//! Differentiable operators for candle.
//!
//! Each operator has two paths: a fused CPU kernel (a candle `CustomOp`, parallel over rayon, split by shape
//! and never by thread count) and a composition of candle operators that runs on CUDA and Metal and has the
//! same gradients. [`Path`] chooses; [`Path::Auto`] takes the fused path for tensors on the CPU.
//!
//! Images, sequences and volumes are channels-last: `(N, W, C)`, `(N, H, W, C)`, `(N, D, H, W, C)`. Weights
//! keep PyTorch's layout `(C_out, C_in / groups, k...)`, so that files need no transposition.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod activation;
pub mod attention;
pub mod conv;
pub mod conv_transpose;
pub mod dropout;
pub mod embedding;
pub mod host;
pub mod join;
pub mod linear;
pub mod loss;
pub mod memory;
pub mod norm;
pub mod pixels;
pub mod pool;
pub mod resize;
pub mod rng;
pub mod sample;
pub mod sink;
#[cfg(test)]
mod small;
pub mod softmax;
pub mod update;
pub mod weight_norm;

use candle_core::Tensor;

/// Which implementation of an operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Path {
    /// Fused on the CPU, composed elsewhere.
    #[default]
    Auto,
    /// The fused CPU kernel; an error on another device.
    Fused,
    /// The composition of candle operators, on any device.
    Composed,
}

impl Path {
    /// Whether the fused kernel is to be used for `x`.
    pub fn fused(self, x: &Tensor) -> bool {
        match self {
            Path::Auto => x.device().is_cpu() && x.dtype() == candle_core::DType::F32,
            Path::Fused => true,
            Path::Composed => false,
        }
    }
}
