//! A network of candle-nn as an encoder.

use super::check::check;
use crate::encoder::{Encoder, Features, Layer, no_padding};
use crate::error::{Error, Result};
use crate::params::{Role, under};
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{DType, ModuleT, Tensor};
use std::sync::{Mutex, PoisonError};

/// Makes a module over the parameters of a scope.
type Build<M> = Box<dyn Fn(&Scope) -> Result<M> + Send + Sync>;

/// An encoder whose forward pass is a module of candle-nn.
///
/// The module maps inputs of the public layout (images `(N, C, H, W)`) to features `(N, D)`, to tokens
/// `(N, L, D)` or to a map `(N, D, H, W)`; of tokens and maps the encoder also returns the mean as pooled
/// features.
///
/// Every pass builds the module anew over the parameters that exist: candle-nn's layers hold tensors, and a
/// tensor knows nothing of a later change of its role, nor do tensors that a constructor computes from
/// others. Building is a look-up by name for each tensor. A module needs neither `Send` nor `Sync`.
///
/// Before its first training pass the module is checked on two samples: no hidden state, a gradient for every
/// trained parameter, and the right one. Training and evaluation are then the same function.
///
/// ```
/// use selfsup_core::candle_nn::{self, Activation, Conv2dConfig};
/// use selfsup_core::prelude::*;
///
/// let scope = Scope::root(&Params::new(), 0, &Device::Cpu).sub("encoder");
/// let network = Foreign::new(&scope, 8, |s: &Scope| {
///     let stride = Conv2dConfig { stride: 2, ..Conv2dConfig::default() };
///     Ok(candle_nn::seq()
///         .add(candle_nn::conv2d(3, 8, 3, stride, s.stem().sub("conv").var_builder())?)
///         .add(Activation::Gelu)
///         .add_fn(|x| x.mean((2, 3)))
///         .add(candle_nn::linear(8, 8, s.top().sub("fc").var_builder())?))
/// })?;
/// let images = Tensor::ones((2, 3, 9, 9), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward(&images, None, &[], &Pass::eval())?.pooled.dims(), [2, 8]);
/// assert!(scope.params().get("encoder.conv.weight").is_some());
/// # Ok::<(), Error>(())
/// ```
pub struct Foreign<M> {
    scope: Scope,
    dim: usize,
    build: Build<M>,
    checked: Mutex<bool>,
}

impl<M: ModuleT> Foreign<M> {
    /// An encoder with features of width `dim` in `scope`. `build` makes the module, with parameters from
    /// [`Scope::var_builder`] or layers of [`crate::nn`]; it runs once here and at every pass, and must make
    /// the same module each time. Use `s.stem()`, `s.block(i)` and `s.top()` to say where parameters stand.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn new(
        scope: &Scope,
        dim: usize,
        build: impl Fn(&Scope) -> Result<M> + Send + Sync + 'static,
    ) -> Result<Self> {
        build(scope)?;
        Ok(Foreign { scope: scope.clone(), dim, build: Box::new(build), checked: Mutex::new(false) })
    }

    /// Whether the optimiser changes any of its parameters.
    fn is_trained(&self) -> bool {
        self.scope.params().with_role(Role::Trained).iter().any(|p| under(&p.name, self.scope.path()))
    }

    /// Refuses a module that cannot be trained, once.
    fn check(&self, x: &Tensor, pass: &Pass) -> Result<()> {
        if !pass.train || !self.is_trained() {
            return Ok(());
        }
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*checked {
            check(&self.scope, &self.build, x)?;
            *checked = true;
        }
        Ok(())
    }

    fn features(&self, y: &Tensor, samples: usize, want: &[Layer]) -> Result<Features> {
        let what = self.scope.path();
        let tokens = match y.rank() {
            2 => None,
            3 => Some(y.clone()), // (N, L, D)
            // (N, D, S..) -> (N, S.., D)
            rank @ (4 | 5) => {
                let axes: Vec<usize> = std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect();
                Some(y.permute(axes)?.contiguous()?)
            }
            _ => {
                return Err(Error::input(
                    what,
                    format!(
                        "the module returned shape {:?}, expected (N, D), (N, L, D) or (N, D, H, W)",
                        y.dims()
                    ),
                ));
            }
        };
        let pooled = match &tokens {
            None => y.clone(),
            Some(t) => t.flatten(1, t.rank() - 2)?.mean(1)?,
        };
        if pooled.dims() != [samples, self.dim] {
            return Err(Error::input(
                what,
                format!(
                    "the module returned shape {:?}: features of width {} for {} samples, expected width {} for {samples}",
                    y.dims(),
                    pooled.dim(1)?,
                    pooled.dim(0)?,
                    self.dim
                ),
            ));
        }
        let refused = want.iter().find_map(|layer| match layer {
            Layer::Pooled => None,
            Layer::Tokens if tokens.is_some() => None,
            Layer::Tokens => Some("Tokens: the module returns one vector for each sample".to_string()),
            Layer::Hidden(i) => {
                Some(format!("Hidden({i}): a module of candle-nn hands out its output alone"))
            }
        });
        match refused {
            Some(problem) => Err(Error::input(what, problem)),
            None => {
                let tokens = tokens.filter(|_| want.contains(&Layer::Tokens));
                Ok(Features { pooled, tokens, layers: Vec::new() })
            }
        }
    }
}

impl<M: ModuleT> Encoder for Foreign<M> {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        if pass.precision != DType::F32 {
            return Err(Error::input(
                self.scope.path(),
                format!("a module of candle-nn computes in F32, but the pass asks for {:?}", pass.precision),
            ));
        }
        self.check(x, pass)?;
        // What passed the check does the same in training; what is frozen must not move statistics.
        let y = (self.build)(&self.scope)?.forward_t(x, false)?;
        self.features(&y, x.dim(0)?, want)
    }

    fn dim(&self) -> usize {
        self.dim
    }
}
