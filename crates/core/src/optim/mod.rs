//! Optimisers over [`Params`], with parameter groups, clipping, a schedule and saved state.
//!
//! Vectors (biases, norms), special tokens and position tables get no weight decay. With `layer_decay` the
//! learning rate of block `i` of `n` (from 0) is multiplied by `layer_decay^(n - i)`, that of the stem by
//! `layer_decay^(n + 1)`, and heads keep the whole rate (Clark et al. 2020, arXiv 2003.10555; BEiT, arXiv
//! 2106.08254). The module that makes a parameter says where it stands and whether it decays
//! ([`crate::Scope`]).

mod config;
mod grads;

pub use config::{OptimConfig, OptimKind};
pub use grads::Grads;

use crate::error::{Error, Result};
use crate::params::{Param, Params, Place, Role};
use crate::schedule::{cosine, share};
use candle_core::{DType, Tensor, Var};
use selfsup_kernels::update::{AdamWArgs, LarsArgs, SgdArgs, adamw_all, lars_all, sgd_all};
use std::collections::BTreeMap;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepInfo {
    /// Learning rate before layer-wise decay.
    pub lr: f64,
    /// L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Whether it was clipped.
    pub clipped: bool,
}

struct Slot {
    param: Param,
    decay: bool,
    scale: f64,
    first: Option<Var>,
    second: Option<Var>,
    updates: u64,
}

/// Updates the trained tensors of a set, and owns the moments.
pub struct Optimizer {
    config: OptimConfig,
    slots: Vec<Slot>,
}

impl Optimizer {
    /// An optimiser for the tensors that are trained now.
    ///
    /// # Errors
    /// If the configuration cannot be carried out, naming the key.
    pub fn new(params: &Params, config: OptimConfig) -> Result<Self> {
        config.check()?;
        let trained = params.with_role(Role::Trained);
        // A schedule may cycle momentum where the configuration has none.
        let buffered = config.momentum > 0.0 || config.schedule.beta1(0, 1).is_some();
        let depth = depth(&trained);
        let slots = trained
            .into_iter()
            .map(|param| {
                let zeros = || Var::zeros(param.var.shape(), DType::F32, param.var.device());
                let adam = config.kind == OptimKind::Adamw;
                let scale = match config.layer_decay {
                    None => 1.0,
                    Some(d) => d.powi((depth + 1).saturating_sub(layer(&param, depth)?) as i32),
                };
                Ok(Slot {
                    decay: config.decay_all || param.decay,
                    scale,
                    first: if adam || buffered { Some(zeros()?) } else { None },
                    second: if adam { Some(zeros()?) } else { None },
                    updates: 0,
                    param,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Optimizer { config, slots })
    }

    /// For every trained tensor, in name order: its name, the factor of the learning rate, and whether weight
    /// decay applies.
    pub fn groups(&self) -> Vec<(&str, f64, bool)> {
        self.slots.iter().map(|s| (s.param.name.as_str(), s.scale, s.decay)).collect()
    }

    /// One update at `step` (from 0) of `total`. A tensor without a gradient is left alone, with its moments.
    /// Nothing is written if there is an error.
    ///
    /// # Errors
    /// If a gradient has another shape than its parameter or belongs to none of this optimiser, or if one is
    /// not finite: it is named.
    pub fn step(&mut self, grads: &Grads, step: u64, total: u64) -> Result<StepInfo> {
        let c = &self.config;
        let lr = c.schedule.lr(c.lr, step, total);
        let cycled = c.schedule.beta1(step, total);
        let weight_decay =
            c.weight_decay_end.map_or(c.weight_decay, |end| cosine(c.weight_decay, end, share(step, total)));
        let grad_norm = grads.norm()?;
        if !grad_norm.is_finite() {
            let what = grads
                .first_non_finite()?
                .map_or("the norm of the gradient".to_string(), |n| format!("the gradient of {n}"));
            return Err(Error::NonFinite {
                step,
                what,
                hint: "try a lower optim.lr or optim.clip_grad_norm = 1.0".into(),
            });
        }
        let mut clipped = grads.clone();
        let each = c.clip_grad_each.map_or(Ok(false), |limit| clipped.clip_each(limit))?;
        let left_norm = if each { clipped.norm()? } else { grad_norm };
        let factor =
            c.clip_grad_norm.filter(|limit| left_norm > *limit).map(|limit| limit / (left_norm + 1e-6));
        if let Some(f) = factor {
            clipped.scale(f)?;
        }
        let mut left = clipped;
        let mut work = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            let Some(g) = left.remove(&slot.param.name) else { continue };
            if g.dims() != slot.param.var.dims() {
                let expected = slot.param.var.dims();
                return Err(Error::input(
                    format!("gradient of {}", slot.param.name),
                    format!("shape {:?}, expected {expected:?}", g.dims()),
                ));
            }
            work.push((i, g.contiguous()?));
        }
        if let Some((name, _)) = left.iter().next() {
            return Err(Error::input(
                format!("gradient of {name}"),
                "no tensor of this name was trained when the optimiser was made",
            ));
        }
        work.iter().for_each(|(i, _)| self.slots[*i].updates += 1);
        let work: Vec<(&Slot, Tensor)> = work.into_iter().map(|(i, g)| (&self.slots[i], g)).collect();
        let decay = |s: &Slot| if s.decay { weight_decay } else { 0.0 };
        match c.kind {
            OptimKind::Adamw => {
                let slots = work.into_iter().filter_map(|(s, g)| {
                    let args = AdamWArgs {
                        lr: lr * s.scale,
                        beta1: cycled.unwrap_or(c.betas.0),
                        beta2: c.betas.1,
                        eps: c.eps,
                        weight_decay: decay(s),
                        step: s.updates,
                    };
                    Some((s.param.var.clone(), g, s.first.clone()?, s.second.clone()?, args))
                });
                adamw_all(&slots.collect::<Vec<_>>())?;
            }
            OptimKind::Sgd => {
                let slots = work.into_iter().map(|(s, g)| {
                    let args = SgdArgs {
                        lr: lr * s.scale,
                        momentum: cycled.unwrap_or(c.momentum),
                        dampening: 0.0,
                        weight_decay: decay(s),
                        nesterov: c.nesterov,
                        first: s.updates == 1,
                    };
                    (s.param.var.clone(), g, s.first.clone(), args)
                });
                sgd_all(&slots.collect::<Vec<_>>())?;
            }
            OptimKind::Lars => {
                let slots = work.into_iter().map(|(s, g)| {
                    let args = LarsArgs {
                        lr: lr * s.scale,
                        momentum: cycled.unwrap_or(c.momentum),
                        dampening: 0.0,
                        weight_decay: decay(s),
                        nesterov: c.nesterov,
                        trust: c.trust_coefficient,
                        eps: c.eps,
                        first: s.updates == 1,
                    };
                    (s.param.var.clone(), g, s.first.clone(), args)
                });
                lars_all(&slots.collect::<Vec<_>>())?;
            }
        }
        Ok(StepInfo { lr, grad_norm, clipped: each || factor.is_some() })
    }

    /// Moments and counts by name, for a checkpoint. Tensors share the optimiser's storage.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut out = Vec::new();
        for s in &self.slots {
            for (key, var) in [("first", &s.first), ("second", &s.second)] {
                if let Some(var) = var {
                    out.push((format!("{}/{key}", s.param.name), var.as_detached_tensor()));
                }
            }
            if let Ok(count) = Tensor::new(&[s.updates as i64], &candle_core::Device::Cpu) {
                out.push((format!("{}/updates", s.param.name), count));
            }
        }
        out
    }

    /// Takes over a saved state, all of it or nothing.
    ///
    /// # Errors
    /// If tensors are missing, unexpected or of another shape: they are listed.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let mut have: BTreeMap<&str, &Tensor> = state.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let (mut problems, mut moments, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let mut take = |name: String, dims: &[usize]| match have.remove(name.as_str()) {
            Some(t) if t.dims() == dims => Some(t),
            Some(t) => {
                problems.push(format!("{name} has shape {:?}, expected {dims:?}", t.dims()));
                None
            }
            None => {
                problems.push(format!("{name} is missing"));
                None
            }
        };
        for s in &self.slots {
            let name = &s.param.name;
            for (key, var) in [("first", &s.first), ("second", &s.second)] {
                let Some(var) = var else { continue };
                if let Some(t) = take(format!("{name}/{key}"), var.dims()) {
                    moments.push((var, t.to_dtype(var.dtype())?.to_device(var.device())?.copy()?));
                }
            }
            if let Some(t) = take(format!("{name}/updates"), &[1]) {
                counts.push(
                    t.to_dtype(DType::I64)?.to_vec1::<i64>()?.first().map_or(0, |n| (*n).max(0) as u64),
                );
            }
        }
        problems.extend(have.keys().map(|n| format!("{n} is unexpected")));
        if !problems.is_empty() {
            return Err(Error::input("optimiser state of another run", problems.join("; ")));
        }
        for (var, t) in moments {
            var.set(&t)?;
        }
        self.slots.iter_mut().zip(counts).for_each(|(s, n)| s.updates = n);
        Ok(())
    }
}

/// Freezes the trained tensors below `prefix` but for the last `blocks` blocks of the trunk and what stands
/// behind it (a final norm); with 0 all of them. Returns how many tensors stay trained.
///
/// # Errors
/// If a tensor has no place.
pub fn train_last_blocks(params: &Params, prefix: &str, blocks: usize) -> Result<usize> {
    let under = |p: &Param| crate::params::under(&p.name, prefix);
    let below: Vec<Param> = params.with_role(Role::Trained).into_iter().filter(under).collect();
    let depth = depth(&below);
    let mut left = 0;
    for p in below {
        if blocks > 0 && layer(&p, depth)? + blocks > depth {
            left += 1;
        } else {
            params.set_role(&p.name, Role::Trained, Role::Frozen);
        }
    }
    Ok(left)
}

/// Number of blocks.
fn depth(params: &[Param]) -> usize {
    let of = |p: &Param| if let Some(Place::Block(i)) = p.place { i + 1 } else { 0 };
    params.iter().map(of).max().unwrap_or(0)
}

/// 0 for the stem, `i + 1` for block `i` of `depth`, `depth + 1` for what stands behind them.
fn layer(p: &Param, depth: usize) -> Result<usize> {
    match p.place {
        Some(Place::Stem) => Ok(0),
        Some(Place::Block(i)) => Ok(i + 1),
        Some(Place::Top) => Ok(depth + 1),
        None => Err(Error::input(
            &p.name,
            "has no place, which layer-wise rates and frozen blocks go by: build it in Scope::stem, block or top",
        )),
    }
}

#[cfg(test)]
mod tests;
