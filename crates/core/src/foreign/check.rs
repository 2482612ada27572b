//! Whether a module of candle-nn can be trained.
//!
//! A module is a function of its parameters and its input, or it is refused. Its gradient must be that of the
//! function: for each layer, the derivative along a random direction of the layer's parameters is compared
//! with a central difference. The checks run on a copy of the parameters, and change nothing.

use super::backend::STATISTICS;
use super::faults::{BATCH_NORM, CUT, DROPOUT, REFUSED, WRONG, recognise, words};
use crate::error::{Error, Result};
use crate::optim::Grads;
use crate::params::{Param, Params, Role};
use crate::scope::Scope;
use candle_core::{ModuleT, Tensor};
use selfsup_kernels::rng::Key;
use std::collections::BTreeMap;

/// Samples that the check runs on.
const SAMPLES: usize = 2;
/// Largest difference between a derivative and its central difference, relative to the size that derivatives
/// along random directions have.
const TOLERANCE: f64 = 1e-2;
/// Steps of the central difference, relative to the size of the parameters. Large ones cross kinks (ReLU, max
/// pooling), small ones lose digits: one that agrees is enough.
const STEPS: [f64; 3] = [1e-2, 3e-3, 1e-3];
const PAGE: &str = "(docs/adding-an-encoder.md)";

/// Checks the module that `build` makes in `scope`, on the first samples of `x`.
///
/// # Errors
/// Naming the layer and its replacement.
pub(super) fn check<M: ModuleT>(
    scope: &Scope,
    build: &dyn Fn(&Scope) -> Result<M>,
    x: &Tensor,
) -> Result<()> {
    let trial = Trial::new(scope, build, x)?;
    trial.has_no_hidden_state()?;
    trial.gradients_are_right()
}

/// A copy of a module's parameters, with an input.
struct Trial<'a, M> {
    scope: Scope,
    build: &'a dyn Fn(&Scope) -> Result<M>,
    x: Tensor,
}

/// How the gradient of a layer compares with the central difference.
#[derive(PartialEq)]
enum Verdict {
    Right,
    Wrong,
    /// The output depends on it, but candle returned no gradient.
    Missing,
    /// The output does not depend on it, and there is no gradient.
    Unused,
}

impl<'a, M: ModuleT> Trial<'a, M> {
    fn new(scope: &Scope, build: &'a dyn Fn(&Scope) -> Result<M>, x: &Tensor) -> Result<Self> {
        let params = Params::new();
        let copy = scope.over(&params);
        build(&copy)?;
        for p in params.all() {
            if let Some(real) = scope.params().get(&p.name) {
                params.set(&p.name, &real.var.as_tensor().detach())?;
                params.set_role(&p.name, p.role, real.role);
            }
        }
        let x = x.narrow(0, 0, SAMPLES.min(x.dim(0)?))?.detach();
        Ok(Trial { scope: copy, build, x: distinct(&x)? })
    }

    fn has_no_hidden_state(&self) -> Result<()> {
        let module = (self.build)(&self.scope)?;
        let statistics = |p: &Param| {
            let (layer, name) = p.name.rsplit_once('.')?;
            STATISTICS.contains(&name).then(|| layer.to_string())
        };
        if let Some(layer) = self.scope.params().all().iter().find_map(statistics) {
            let problem = format!(
                "{} keeps running statistics of its own, which no step, checkpoint or resumed run sees: {} {PAGE}",
                BATCH_NORM.layer,
                BATCH_NORM.words()
            );
            return Err(Error::input(layer, problem));
        }
        let passes = [true, true, false].map(|train| module.forward_t(&self.x, train));
        let [first, second, evaluation] = passes;
        let (first, second, evaluation) = (first?, second?, evaluation?);
        let told = format!("{}; or {} {PAGE}", DROPOUT.words(), BATCH_NORM.words());
        if differ(&first, &second)? {
            return Err(Error::input(
                self.scope.path(),
                format!(
                    "two training passes over the same samples differ, so the module has hidden state: {told}"
                ),
            ));
        }
        if differ(&first, &evaluation)? {
            return Err(Error::input(
                self.scope.path(),
                format!(
                    "a training pass differs from an evaluation pass, so the module has hidden state: {told}"
                ),
            ));
        }
        Ok(())
    }

    fn gradients_are_right(&self) -> Result<()> {
        let trained = self.scope.params().with_role(Role::Trained);
        let y = self.output()?;
        let mut rng = Key::new(0).named("weights of the outputs").rng();
        let weights: Vec<f32> = (0..y.elem_count()).map(|_| rng.normal()).collect();
        let weights = Tensor::from_vec(weights, y.shape(), y.device())?;
        let backward = (&y * &weights).map_err(Error::from).and_then(|t| Ok(t.sum_all()?));
        let grads = match Grads::backward(&backward?, &trained) {
            Ok((_, grads)) => grads,
            Err(e) => return Err(self.refused(&e)),
        };
        let mut layers: BTreeMap<String, Vec<Param>> = BTreeMap::new();
        for p in trained {
            let layer = p.name.rsplit_once('.').map_or("", |(layer, _)| layer).to_string();
            layers.entry(layer).or_default().push(p);
        }
        let mut verdicts = Vec::new();
        for (layer, params) in &layers {
            verdicts.push((layer.as_str(), self.verdict(params, &grads, &weights)?));
        }
        let of = |wanted: Verdict| -> Vec<&str> {
            verdicts.iter().filter(|(_, v)| *v == wanted).map(|(layer, _)| *layer).collect()
        };
        let (missing, wrong, unused) = (of(Verdict::Missing), of(Verdict::Wrong), of(Verdict::Unused));
        let shown = |names: &[&str]| names.iter().take(4).copied().collect::<Vec<_>>().join(", ");
        // Layers that are faulty themselves, by the names and shapes of their parameters.
        let known = |names: &[&str], cut: bool| -> Vec<String> {
            let fault = |name: &&str| {
                let last = |p: &Param| p.name.rsplit('.').next().unwrap_or_default().to_string();
                let tensors: Vec<_> =
                    layers.get(*name)?.iter().map(|p| (last(p), p.var.dims().to_vec())).collect();
                Some(format!("{name} looks like {}", recognise(&tensors, cut)?.described()))
            };
            names.iter().filter_map(fault).collect()
        };
        let problem = if !missing.is_empty() {
            let told = [known(&missing, true), vec![words(CUT)]].concat().join("; ");
            format!("candle computes no gradient, though the output depends on it: {told} {PAGE}")
        } else if !wrong.is_empty() {
            let told = [known(&wrong, false), vec![words(WRONG)]].concat().join("; ");
            let right = of(Verdict::Right);
            let right = if right.is_empty() {
                String::new()
            } else {
                format!(" (that of {} is right)", shown(&right))
            };
            format!("candle's gradient is not that of a central difference{right}: {told} {PAGE}")
        } else if !unused.is_empty() {
            "the output does not depend on it, so it cannot be trained: leave it out of the module"
                .to_string()
        } else {
            return Ok(());
        };
        let named = [missing, wrong, unused].into_iter().find(|names| !names.is_empty()).unwrap_or_default();
        Err(Error::input(shown(&named), problem))
    }

    fn output(&self) -> Result<Tensor> {
        Ok((self.build)(&self.scope)?.forward_t(&self.x, false)?)
    }

    /// Candle's refusal of a backward pass, with our replacement.
    fn refused(&self, e: &Error) -> Error {
        let text = e.to_string();
        let told = match REFUSED.iter().find(|(part, _)| text.contains(part)) {
            Some((_, fault)) => fault.words(),
            None => format!("{}; {}", words(CUT), words(WRONG)),
        };
        Error::input(self.scope.path(), format!("candle has no gradient for a layer: {text}: {told} {PAGE}"))
    }

    /// Compares the gradient of one layer's parameters.
    fn verdict(&self, params: &[Param], grads: &Grads, weights: &Tensor) -> Result<Verdict> {
        // Derivative along the direction, and the size that it has along random directions.
        let (mut derivative, mut square, mut directions) = (0.0, 0.0, Vec::new());
        let mut missing = false;
        for p in params {
            let value = floats(p.var.as_tensor())?;
            let size = (value.iter().map(|v| v * v).sum::<f64>() / value.len().max(1) as f64).sqrt();
            let size = if size > 0.0 { size } else { 0.05 };
            let mut rng = Key::new(0).named(&p.name).rng();
            let direction: Vec<f64> = value.iter().map(|_| size * f64::from(rng.normal())).collect();
            match grads.get(&p.name) {
                None => missing = true,
                Some(g) => {
                    for (g, d) in floats(g)?.iter().zip(&direction) {
                        derivative += g * d;
                        square += (g * size) * (g * size);
                    }
                }
            }
            directions.push((p, value, direction));
        }
        let mut verdict = Verdict::Wrong;
        for step in STEPS {
            let (above, size) = self.at(&directions, step, weights)?;
            let (below, _) = self.at(&directions, -step, weights)?;
            let difference = (above - below) / (2.0 * step);
            // What single precision cannot tell from 0.
            let noise = f64::from(f32::EPSILON) * size / step;
            if missing {
                verdict = if difference.abs() > noise { Verdict::Missing } else { Verdict::Unused };
                break;
            }
            let typical = square.sqrt().max(difference.abs()).max(derivative.abs());
            if (difference - derivative).abs() <= TOLERANCE * typical + noise {
                verdict = Verdict::Right;
                break;
            }
        }
        for (p, value, _) in &directions {
            self.put(p, value)?;
        }
        Ok(verdict)
    }

    /// The weighted sum of the outputs, and of their sizes, with the parameters a step along the directions.
    fn at(
        &self,
        directions: &[(&Param, Vec<f64>, Vec<f64>)],
        step: f64,
        weights: &Tensor,
    ) -> Result<(f64, f64)> {
        for (p, value, direction) in directions {
            let moved: Vec<f64> = value.iter().zip(direction).map(|(v, d)| v + step * d).collect();
            self.put(p, &moved)?;
        }
        let (y, w) = (floats(&self.output()?)?, floats(weights)?);
        let terms = y.iter().zip(&w).map(|(y, w)| y * w);
        Ok(terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs())))
    }

    fn put(&self, p: &Param, value: &[f64]) -> Result<()> {
        let value: Vec<f32> = value.iter().map(|v| *v as f32).collect();
        self.scope.params().set(&p.name, &Tensor::from_vec(value, p.var.shape(), p.var.device())?)
    }
}

/// Samples with noise of a tenth of their size, where they are numbers: equal or constant samples (black
/// images) would hide faults.
fn distinct(x: &Tensor) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Ok(x.clone());
    }
    let values = floats(x)?;
    let size = (values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt();
    let size = 0.1 * if size > 0.0 && size.is_finite() { size } else { 1.0 };
    let mut rng = Key::new(0).named("noise of the inputs").rng();
    let noisy: Vec<f32> = values.iter().map(|v| (v + size * f64::from(rng.normal())) as f32).collect();
    Ok(Tensor::from_vec(noisy, x.shape(), x.device())?.to_dtype(x.dtype())?)
}

fn floats(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.detach().flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?)
}

/// Whether two outputs differ beyond rounding.
fn differ(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() {
        return Ok(true);
    }
    let (a, b) = (floats(a)?, floats(b)?);
    let size = a.iter().chain(&b).fold(0.0, |m: f64, v| m.max(v.abs()));
    Ok(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-5 * size))
}
