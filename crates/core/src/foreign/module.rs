//! Our encoders as modules of candle-nn.

use crate::encoder::Encoder;
use crate::pass::Pass;
use candle_core::{Module, Tensor};
use std::ops::Deref;

/// The evaluation pass of an encoder as a `candle_nn::Module`: inputs of the public layout to pooled features
/// `(N, D)`. It wraps a reference, a `Box` or an `Arc`.
///
/// ```
/// use selfsup_core::candle_nn::{self, Module};
/// use selfsup_core::prelude::*;
///
/// let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
/// let encoder = Foreign::new(&scope, 2, |s: &Scope| Ok(candle_nn::linear(3, 2, s.var_builder())?))?;
/// let x = Tensor::ones((4, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(AsModule(&encoder).forward(&x)?.dims(), [4, 2]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AsModule<E>(pub E);

impl<E> Module for AsModule<E>
where
    E: Deref,
    E::Target: Encoder,
{
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.0.forward(x, None, &[], &Pass::eval())?.pooled)
    }
}
