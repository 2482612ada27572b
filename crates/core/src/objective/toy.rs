//! For the tests of methods over views: a small encoder of vectors, batches, and the conformance checks.

use super::{Objective, Views};
use crate::conformance::{Trial, building_twice_changes_nothing, every_parameter_has_a_place};
use crate::encoder::{Encoder, Features, Layer};
use crate::error::Result;
use crate::init::Init;
use crate::nn::Linear;
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{Device, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::dropout::dropout;
use selfsup_kernels::rng::Key;

/// Samples of a batch.
pub(super) const BATCH: usize = 8;
/// Values of a full-size view; a small one has the first half.
const WIDTH: usize = 12;

/// Two layers over vectors of any length up to [`WIDTH`], with dropout between them.
struct Toy {
    first: Linear,
    second: Linear,
}

impl Encoder for Toy {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &[Layer], pass: &Pass) -> Result<Features> {
        let (n, width) = x.dims2()?;
        let x = if width == WIDTH {
            x.clone()
        } else {
            Tensor::cat(&[x.clone(), Tensor::zeros((n, WIDTH - width), x.dtype(), x.device())?], 1)?
        };
        let mut y = self.first.forward_act(&x, Act::GeluErf, pass)?;
        if let Some(drop) = pass.dropout(0.1, pass.key("toy")) {
            y = dropout(&y, &drop, Path::Auto)?;
        }
        Ok(Features { pooled: self.second.forward(&y, pass)?, tokens: None, layers: Vec::new() })
    }
    fn dim(&self) -> usize {
        10
    }
}

/// The encoder in `scope`.
pub(super) fn encoder(scope: &Scope) -> Result<Box<dyn Encoder>> {
    let first = Linear::new(&scope.sub("first").stem(), WIDTH, 16, true, Init::TorchLinear)?;
    let second = Linear::new(&scope.sub("second").block(0), 16, 10, true, Init::TorchLinear)?;
    Ok(Box::new(Toy { first, second }))
}

/// A scope over no parameters yet.
pub(super) fn scope(seed: u64) -> Scope {
    Scope::root(&Params::new(), seed, &Device::Cpu)
}

/// Two full-size views and `small` small ones of the samples of a batch: a place of the sample's own and noise of
/// the view's own. Three of four samples have a label.
pub(super) fn batch(epoch: u64, b: usize, small: usize) -> Result<Views> {
    let view = |which: u64, width: usize| -> Result<Tensor> {
        let mut values = Vec::new();
        for i in b * BATCH..(b + 1) * BATCH {
            let mut place = Key::new(7).fold(i as u64).rng();
            let mut noise = Key::new(8).fold(epoch).fold(i as u64).fold(which).rng();
            values.extend((0..WIDTH).map(|_| place.normal() + 0.3 * noise.normal()).take(width));
        }
        Ok(Tensor::from_vec(values, (BATCH, width), &Device::Cpu)?)
    };
    let indices: Vec<usize> = (b * BATCH..(b + 1) * BATCH).collect();
    let labels = indices.iter().map(|&i| (i % 4 > 0).then_some(i as u32 % 3)).collect();
    let locals = (0..small as u64).map(|v| view(2 + v, WIDTH / 2)).collect::<Result<_>>()?;
    Ok(Views { locals, labels, ..Views::of(vec![view(0, WIDTH)?, view(1, WIDTH)?], indices) })
}

/// Whether the gradient of micro-batches is that of the whole batch.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Parts {
    /// It is.
    Exact,
    /// A head has batch norm, whose statistics are those of a micro-batch.
    BatchNorm,
}

/// The conformance checks of a method on batches with `small` small crops.
pub(super) fn conforms<O: Objective<Batch = Views>>(
    name: &str,
    small: usize,
    parts: Parts,
    build: &(dyn Fn(&Scope) -> Result<Box<O>> + Sync),
) -> Result<()> {
    let dir = tempfile::tempdir().map_err(|e| crate::Error::io("a temporary folder", e))?;
    let trial = Trial::new(name, move |epoch, b| batch(epoch, b, small));
    let of = |seed: u64| build(&scope(seed));
    trial.every_parameter_moves(&*of(0)?, &dir.path().join("moves"))?;
    every_parameter_has_a_place(name, of(0)?.params())?;
    building_twice_changes_nothing(name, build)?;
    trial.resuming_is_exact(of, dir.path())?;
    trial.threads_do_not_change_a_bit(of, dir.path())?;
    if parts == Parts::Exact {
        trial.parts_compute_the_gradient(&*of(1)?, &[1, 3, 4], 2e-4)?;
    }
    trial.ranks_compute_the_gradient(of, 2, 1e-3)
}
