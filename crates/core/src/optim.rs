//! Optimisers over [`Params`], with parameter groups, clipping, a schedule and saved state.
//!
//! Tensors of rank 1 (biases, norms) and the embeddings of tokens and positions get no weight decay. With `layer_decay` the learning rate of
//! block `i` of `n` is multiplied by `layer_decay^(n + 1 - i)` (Clark et al. 2020, arXiv 2003.10555; BEiT, arXiv 2106.08254).

use crate::error::{Error, Result};
use crate::params::{Param, Params, Role};
use crate::schedule::LrSchedule;
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use selfsup_kernels::update::{AdamWArgs, LarsArgs, SgdArgs, adamw_all, lars_all, sgd_all, sq_norms};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimKind {
    /// Decoupled weight decay (Loshchilov and Hutter 2017, arXiv 1711.05101).
    #[default]
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Layer-wise adaptive rates for large batches (You et al. 2017, arXiv 1708.03888).
    Lars,
}

/// `[optim]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// `adamw`, `sgd` or `lars`.
    pub kind: OptimKind,
    /// Base learning rate.
    pub lr: f64,
    /// Weight decay of weights (not of biases, norms, tokens and positions).
    pub weight_decay: f64,
    /// AdamW's decay rates of the moments.
    pub betas: (f64, f64),
    /// AdamW's and LARS's epsilon.
    pub eps: f64,
    /// Momentum of SGD and LARS.
    pub momentum: f64,
    /// Nesterov's look-ahead for SGD and LARS.
    pub nesterov: bool,
    /// LARS's trust coefficient.
    pub trust_coefficient: f64,
    /// Factor of the learning rate from block to block, towards the input; for fine-tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Largest global L2 norm of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Learning rate over the run.
    pub schedule: LrSchedule,
}

impl Default for OptimConfig {
    fn default() -> Self {
        OptimConfig {
            kind: OptimKind::Adamw,
            lr: 1e-3,
            weight_decay: 0.05,
            betas: (0.9, 0.999),
            eps: 1e-8,
            momentum: 0.9,
            nesterov: false,
            trust_coefficient: 1e-3,
            layer_decay: None,
            clip_grad_norm: None,
            schedule: LrSchedule::warmup_cosine(crate::schedule::Span::Ratio(0.1), 0.0),
        }
    }
}

impl OptimConfig {
    fn check(&self) -> Result<()> {
        let bad = |key: &str, value: f64, expected: &str| Err(Error::config(format!("optim.{key} = {value}: expected {expected}")));
        if !self.lr.is_finite() || self.lr < 0.0 {
            return bad("lr", self.lr, "0 or more");
        }
        if !self.weight_decay.is_finite() || self.weight_decay < 0.0 {
            return bad("weight_decay", self.weight_decay, "0 or more");
        }
        for (key, v) in [("betas", self.betas.0), ("betas", self.betas.1), ("momentum", self.momentum)] {
            if !(0.0..1.0).contains(&v) {
                return bad(key, v, "at least 0 and below 1");
            }
        }
        if let Some(c) = self.clip_grad_norm.filter(|c| c.is_nan() || *c <= 0.0) {
            return bad("clip_grad_norm", c, "above 0");
        }
        if let Some(d) = self.layer_decay
            && !(d > 0.0 && d <= 1.0)
        {
            return bad("layer_decay", d, "above 0 and at most 1");
        }
        self.schedule.check(true)
    }
}

/// Gradients by the name of their parameter.
#[derive(Clone, Debug, Default)]
pub struct Grads(BTreeMap<String, Tensor>);

impl Grads {
    /// The gradients of `params` in a store; parameters without one are absent.
    pub fn from_store(store: &GradStore, params: &[Param]) -> Self {
        Grads(params.iter().filter_map(|p| Some((p.name.clone(), store.get(p.var.as_tensor())?.detach()))).collect())
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Whether a parameter has a gradient.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Replaces or adds a gradient.
    pub fn insert(&mut self, name: impl Into<String>, grad: Tensor) {
        self.0.insert(name.into(), grad);
    }

    /// Takes a gradient out: its parameter is left alone in this step.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }

    /// All gradients in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, g)| (n.as_str(), g))
    }

    /// Adds the gradients of another part of the batch.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn add(&mut self, other: &Grads) -> Result<()> {
        for (name, g) in &other.0 {
            let sum = match self.0.get(name) {
                Some(mine) => (mine + g)?,
                None => g.clone(),
            };
            self.0.insert(name.clone(), sum);
        }
        Ok(())
    }

    fn squares(&self) -> Result<Vec<f64>> {
        Ok(sq_norms(&self.0.values().cloned().collect::<Vec<_>>())?)
    }

    /// L2 norm over all gradients.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        Ok(self.squares()?.iter().sum::<f64>().sqrt())
    }

    /// The first name whose gradient has a value that is NaN or infinite.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn first_non_finite(&self) -> Result<Option<String>> {
        Ok(self.squares()?.iter().zip(self.0.keys()).find(|(s, _)| !s.is_finite()).map(|(_, n)| n.clone()))
    }
}

/// What a step did.
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
        let blocks = trained.iter().filter_map(|p| block_of(&p.name)).max().map_or(0, |b| b + 1);
        let slots = trained
            .into_iter()
            .map(|param| {
                let zeros = || Var::zeros(param.var.shape(), DType::F32, param.var.device());
                let adam = config.kind == OptimKind::Adamw;
                let depth = layer_of(&param.name, blocks);
                Ok(Slot {
                    decay: decays(&param),
                    scale: config.layer_decay.map_or(1.0, |d| d.powi((blocks + 1).saturating_sub(depth) as i32)),
                    first: if adam || config.momentum > 0.0 { Some(zeros()?) } else { None },
                    second: if adam { Some(zeros()?) } else { None },
                    updates: 0,
                    param,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Optimizer { config, slots })
    }

    /// One update at `step` of `total`. A tensor without a gradient is left alone, with its moments.
    ///
    /// # Errors
    /// If a gradient has another shape than its parameter.
    pub fn step(&mut self, grads: &Grads, step: u64, total: u64) -> Result<StepInfo> {
        let c = &self.config;
        let lr = c.schedule.lr(c.lr, step, total);
        let cycled = c.schedule.beta1(step, total);
        let grad_norm = grads.norm()?;
        let factor = c.clip_grad_norm.filter(|limit| grad_norm > *limit).map(|limit| limit / (grad_norm + 1e-6));
        let mut work = Vec::new();
        for slot in &mut self.slots {
            let Some(g) = grads.get(&slot.param.name) else { continue };
            slot.updates += 1;
            let g = match factor {
                Some(f) => (g * f)?,
                None => g.clone(),
            };
            work.push((&*slot, g.contiguous()?));
        }
        let decay = |s: &Slot| if s.decay { c.weight_decay } else { 0.0 };
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
        Ok(StepInfo { lr, grad_norm, clipped: factor.is_some() })
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

    /// Takes over a saved state.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape: it is named.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let have: BTreeMap<&str, &Tensor> = state.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let find = |name: String, dims: &[usize]| -> Result<&Tensor> {
            let t = have.get(name.as_str()).ok_or_else(|| Error::input(&name, "missing from the optimiser state of the checkpoint"))?;
            if t.dims() != dims {
                return Err(Error::input(&name, format!("shape {:?} in the checkpoint, expected {dims:?}", t.dims())));
            }
            Ok(*t)
        };
        for s in &mut self.slots {
            let name = &s.param.name;
            for (key, var) in [("first", &s.first), ("second", &s.second)] {
                if let Some(var) = var {
                    let t = find(format!("{name}/{key}"), var.dims())?;
                    var.set(&t.to_dtype(var.dtype())?.to_device(var.device())?.copy()?)?;
                }
            }
            let counted = find(format!("{name}/updates"), &[1])?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
            s.updates = counted.first().copied().unwrap_or(0).max(0) as u64;
        }
        Ok(())
    }
}

/// Weight decay is for matrices and kernels.
fn decays(p: &Param) -> bool {
    let last = p.name.rsplit('.').next().unwrap_or(&p.name);
    p.var.rank() > 1 && !["cls_token", "mask_token", "pos_embed", "position_embeddings"].contains(&last)
}

/// The index after `blocks`, `layers` or `layer` in a name.
fn block_of(name: &str) -> Option<usize> {
    let mut parts = name.split('.');
    while let Some(part) = parts.next() {
        if matches!(part, "blocks" | "layers" | "layer") {
            return parts.next()?.parse().ok();
        }
        // torchvision's layer1 ... layer4
        if let Some(n) = part.strip_prefix("layer").and_then(|n| n.parse::<usize>().ok()) {
            return Some(n.saturating_sub(1));
        }
    }
    None
}

/// 0 for the embedding, `i + 1` for block `i`, `blocks + 1` for what follows them.
fn layer_of(name: &str, blocks: usize) -> usize {
    match block_of(name) {
        Some(b) => b + 1,
        None if ["patch_embed", "cls_token", "pos_embed", "conv1", "bn1", "embeddings"].iter().any(|k| name.contains(k)) => 0,
        None => blocks + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Init, Scope};
    use candle_core::Device;

    fn golden(name: &str, config: OptimConfig, decayed: &str) -> Result<()> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/optim/{name}.safetensors"));
        let t = candle_core::safetensors::load(path, &Device::Cpu)?;
        let params = Params::new();
        let scope = Scope::root(&params, 0, &Device::Cpu);
        for key in ["w", "b"] {
            scope.get(key, t[&format!("input.{key}")].dims(), Init::Const(0.0))?;
            params.set(key, &t[&format!("input.{key}")])?;
        }
        let mut optimizer = Optimizer::new(&params, config.clone())?;
        for slot in &mut optimizer.slots {
            slot.decay = decayed.contains(&slot.param.name);
        }
        for step in 0..5u64 {
            if step == 3 {
                // A saved and reloaded state goes on the same way.
                let state: Vec<(String, Tensor)> = optimizer.state().into_iter().map(|(n, t)| (n, t.copy().unwrap())).collect();
                let decay: Vec<bool> = optimizer.slots.iter().map(|s| s.decay).collect();
                optimizer = Optimizer::new(&params, config.clone())?;
                optimizer.slots.iter_mut().zip(decay).for_each(|(s, d)| s.decay = d);
                optimizer.load_state(&state)?;
            }
            let mut grads = Grads::default();
            for key in ["w", "b"] {
                grads.insert(key, t[&format!("input.g{key}{step}")].clone());
            }
            optimizer.step(&grads, step, 5)?;
            for key in ["w", "b"] {
                let want = &t[&format!("expected.{key}{step}")];
                let got = params.get(key).unwrap().var.as_detached_tensor();
                let gap = (got - want)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                assert!(gap < 1e-5, "{name}: {key} at step {step} is off by {gap}");
            }
        }
        Ok(())
    }

    fn constant(kind: OptimKind) -> OptimConfig {
        OptimConfig { kind, lr: 0.1, schedule: LrSchedule::constant(), ..OptimConfig::default() }
    }

    #[test]
    fn golden_adamw() -> Result<()> {
        golden("adamw", OptimConfig { betas: (0.9, 0.95), weight_decay: 0.05, ..constant(OptimKind::Adamw) }, "w")
    }

    #[test]
    fn golden_sgd() -> Result<()> {
        golden("sgd_momentum", OptimConfig { weight_decay: 0.01, ..constant(OptimKind::Sgd) }, "wb")
    }

    #[test]
    fn golden_lars() -> Result<()> {
        golden("lars", OptimConfig { weight_decay: 1e-3, ..constant(OptimKind::Lars) }, "w")
    }

    #[test]
    fn groups_and_layers() {
        assert_eq!(block_of("encoder.blocks.3.attn.qkv.weight"), Some(3));
        assert_eq!(block_of("encoder.layer2.0.conv1.weight"), Some(1));
        assert_eq!(layer_of("encoder.patch_embed.proj.weight", 12), 0);
        assert_eq!(layer_of("encoder.norm.weight", 12), 13);
    }

    #[test]
    fn clipping_scales_the_whole_gradient() -> Result<()> {
        let params = Params::new();
        Scope::root(&params, 0, &Device::Cpu).get("w", 2, Init::Const(0.0))?;
        let config = OptimConfig { clip_grad_norm: Some(1.0), momentum: 0.0, weight_decay: 0.0, ..constant(OptimKind::Sgd) };
        let mut grads = Grads::default();
        grads.insert("w", Tensor::new(&[3f32, 4.0], &Device::Cpu)?);
        let info = Optimizer::new(&params, config)?.step(&grads, 0, 1)?;
        assert!(info.clipped && (info.grad_norm - 5.0).abs() < 1e-9);
        let w = params.get("w").unwrap().var.to_vec1::<f32>()?;
        assert!((w[0] + 0.06).abs() < 1e-6 && (w[1] + 0.08).abs() < 1e-6);
        Ok(())
    }
}
