//! Sums of squares in a fixed order.

use super::elementwise::CHUNK;
use crate::activation::slices::with;
use crate::linear::simd::simd_fn;
use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

simd_fn! {
    /// In f64, over 16 interleaved partial sums.
    fn chunk(x: &[f32]) -> f64 {
        let mut lanes = [0f64; 16];
        let mut whole = x.chunks_exact(16);
        for c in &mut whole {
            for (lane, &v) in lanes.iter_mut().zip(c) {
                let v = f64::from(v);
                *lane += v * v;
            }
        }
        let rest: f64 = whole.remainder().iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        lanes.iter().sum::<f64>() + rest
    }
}

/// Sum of squares over all tensors together, in f64 on the CPU: the square of the global gradient norm.
///
/// # Errors
/// What candle reports.
pub fn sq_norm(tensors: &[Tensor]) -> Result<f64> {
    Ok(sq_norms(tensors)?.iter().sum())
}

/// Sum of squares of each tensor. Tensors on another device are reduced there; one number each is copied to
/// the host.
///
/// # Errors
/// What candle reports.
pub fn sq_norms(tensors: &[Tensor]) -> Result<Vec<f64>> {
    tensors
        .par_iter()
        .with_max_len(1)
        .map(|t| {
            let t = t.detach();
            if !t.device().is_cpu() || t.dtype() != DType::F32 {
                return t.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
            }
            with(&t, |data| {
                let parts: Vec<f64> = data.par_chunks(CHUNK).map(chunk).collect();
                Ok(parts.iter().sum())
            })
        })
        .collect()
}
