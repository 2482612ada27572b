//! Layers of the heads.

use candle_core::Tensor;
use selfsup_core::nn::Conv;
use selfsup_core::{Init, Pass, Result, Scope, Weight};
use selfsup_kernels::Path;
use selfsup_kernels::activation::relu;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::norm::group_norm;

/// Groups of a normalisation (Wu and He 2018, arXiv 1803.08494); fewer where they do not divide the channels.
const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

/// A convolution of 3 x 3, group normalisation and ReLU: nothing depends on the other samples of a batch.
pub(super) struct ConvGn {
    conv: Conv,
    weight: Weight,
    bias: Weight,
    groups: usize,
}

impl ConvGn {
    /// `scope.conv.weight`, `scope.norm.weight`, `scope.norm.bias`.
    pub(super) fn new(scope: &Scope, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        let norm = scope.sub("norm");
        let groups =
            (1..=GROUPS.min(outputs / 4).max(1)).rev().find(|g| outputs.is_multiple_of(*g)).unwrap_or(1);
        Ok(ConvGn {
            conv: conv3(&scope.sub("conv"), inputs, outputs, false, init)?,
            weight: norm.get("weight", outputs, Init::Const(1.0))?,
            bias: norm.get("bias", outputs, Init::Const(0.0))?,
            groups,
        })
    }

    /// `(N, H, W, in)` to `(N, H, W, out)`.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = self.conv.forward(x, pass)?;
        let packed = Tensor::stack(&[self.weight.on(pass)?, self.bias.on(pass)?], 0)?;
        Ok(relu(&group_norm(&y, Some(&packed), self.groups, EPS, Path::Auto)?, Path::Auto)?)
    }
}

/// A convolution of 3 x 3 that keeps the size.
pub(super) fn conv3(scope: &Scope, inputs: usize, outputs: usize, bias: bool, init: Init) -> Result<Conv> {
    Conv::new(scope, inputs, outputs, &[3; 2], ConvSpec::new().padding(1), bias, init)
}
