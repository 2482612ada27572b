//! The network: two layers over the whole signal.

use candle_core::Tensor;
use selfsup::core::encoder::no_padding;
use selfsup::core::kernels::activation::Act;
use selfsup::core::nn::Linear;
use selfsup::core::{Encoder, Features, Init, Layer, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// `[encoder]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignalKeys {
    /// Values of a signal.
    pub length: usize,
    /// Width of the features.
    pub dim: usize,
}

impl Default for SignalKeys {
    fn default() -> Self {
        SignalKeys { length: 64, dim: 32 }
    }
}

/// The network.
pub struct Signal {
    stem: Linear,
    block: Linear,
    dim: usize,
}

impl Signal {
    /// Layers at `stem` and `block`.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, keys: &SignalKeys) -> Result<Self> {
        let SignalKeys { length, dim } = *keys;
        Ok(Signal {
            stem: Linear::new(&scope.sub("stem").stem(), length, dim, true, Init::TorchLinear)?,
            block: Linear::new(&scope.sub("block").block(0), dim, dim, true, Init::TorchLinear)?,
            dim,
        })
    }
}

impl Encoder for Signal {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, _want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let y = self.stem.forward_act(&x.squeeze(1)?, Act::Relu, pass)?; // (N, 1, T) -> (N, D)
        Ok(Features { pooled: self.block.forward(&y, pass)?, tokens: None, layers: Vec::new() })
    }

    fn dim(&self) -> usize {
        self.dim
    }
}
