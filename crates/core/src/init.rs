//! Initial values of parameters.

use crate::error::Result;
use candle_core::{Device, Shape, Tensor};
use selfsup_kernels::rng::Key;

/// Initial values. Fans are those of a weight `(out, in, k...)`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
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
    /// A tensor of `shape` drawn with `key`: the same for the same arguments.
    ///
    /// # Errors
    /// If the device refuses the tensor.
    pub(crate) fn draw(self, shape: &Shape, key: Key, device: &Device) -> Result<Tensor> {
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
