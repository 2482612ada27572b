//! The values of a tensor on the host, wherever they lie and however they are strided.

use candle_core::{DType, Device, Result, Tensor};

/// The values of a tensor of any shape and floating type as f32, in row-major order.
///
/// # Errors
/// If they cannot be copied from the device.
pub fn floats(t: &Tensor) -> Result<Vec<f32>> {
    on_host(t, DType::F32)?.to_vec1()
}

/// The values of a tensor of whole numbers as i64, in row-major order.
///
/// # Errors
/// If they cannot be copied from the device.
pub fn integers(t: &Tensor) -> Result<Vec<i64>> {
    on_host(t, DType::I64)?.to_vec1()
}

/// The values of a tensor of indices (classes, codes, words) as u32, in row-major order.
///
/// # Errors
/// If they cannot be copied from the device.
pub fn indices(t: &Tensor) -> Result<Vec<u32>> {
    on_host(t, DType::U32)?.to_vec1()
}

fn on_host(t: &Tensor, dtype: DType) -> Result<Tensor> {
    t.detach().to_device(&Device::Cpu)?.flatten_all()?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_and_other_types_are_read_in_row_major_order() -> Result<()> {
        let x = Tensor::new(&[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
        assert_eq!(floats(&x.t()?)?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(floats(&x.narrow(1, 1, 2)?.to_dtype(DType::BF16)?)?, [2.0, 3.0, 5.0, 6.0]);
        assert_eq!(floats(&x.get(0)?.get(1)?)?, [2.0]);
        let bytes = x.t()?.to_dtype(DType::U8)?;
        assert_eq!(integers(&bytes)?, [1, 4, 2, 5, 3, 6]);
        assert_eq!(indices(&bytes)?, [1, 4, 2, 5, 3, 6]);
        Ok(())
    }
}
