//! Optimisers: five updates of a matrix and a bias.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{Device, Tensor};
use selfsup_core::optim::{Grads, OptimConfig, OptimKind, Optimizer};
use selfsup_core::schedule::LrSchedule;
use selfsup_core::{Init, Params, Scope};
use serde_json::Value;

/// Who runs an optimiser's case.
pub fn handler(case: &Case) -> Option<Handler> {
    kind(case.short())?;
    Some(|c| Ok(vec![(String::new(), run(c)?)]))
}

fn kind(name: &str) -> Option<OptimKind> {
    Some(match name {
        "adamw" => OptimKind::Adamw,
        "lars" => OptimKind::Lars,
        n if n.starts_with("sgd") => OptimKind::Sgd,
        _ => return None,
    })
}

fn run(c: &Case) -> Result<Outputs> {
    let kind = kind(c.short()).ok_or("no optimiser")?;
    let mut config = OptimConfig { kind, schedule: LrSchedule::constant(), ..OptimConfig::of(kind) };
    config.lr = c.number("lr", 0.1);
    config.momentum = c.number("momentum", 0.9);
    config.nesterov = c.params.get("nesterov").and_then(Value::as_bool).unwrap_or(false);
    config.betas = (c.number("beta1", 0.9), c.number("beta2", 0.999));
    config.eps = c.number("eps", 1e-8);
    config.trust_coefficient = c.number("trust_coefficient", 1e-3);
    // One value for all tensors, or one for weights and none for biases.
    config.decay_all = c.params.get("weight_decay").is_some();
    config.weight_decay = c.number("weight_decay", c.number("weight_decay_w", 0.0));
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    for name in ["w", "b"] {
        let start = c.input(name)?;
        scope.get(name, start.dims(), Init::Const(0.0))?;
        params.set(name, &start)?;
    }
    let mut optimizer = Optimizer::new(&params, config)?;
    let mut out = Outputs::new();
    for step in 0.. {
        let Some(gw) = c.maybe(&format!("gw{step}")) else { break };
        let mut grads = Grads::default();
        grads.insert("w", gw);
        grads.insert("b", c.input(&format!("gb{step}"))?);
        optimizer.step(&grads, step, 5)?;
        for name in ["w", "b"] {
            let value: Tensor = params.get(name).ok_or("no parameter")?.var.as_tensor().copy()?;
            out.insert(format!("expected.{name}{step}"), value);
        }
    }
    Ok(out)
}
