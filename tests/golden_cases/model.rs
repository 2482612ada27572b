//! What the cases of models share: the folder's configuration, loading its weights, gradients under its
//! names.

use super::case::{Case, Error, Outputs, Result};
use candle_core::{Device, Tensor};
use selfsup_core::weights::{self, Options, Rules};
use selfsup_core::{Params, Role};
use serde_json::Value;
use std::collections::BTreeMap;

/// The outputs of a case that has one path.
pub fn one(outputs: Outputs) -> Result<Vec<(String, Outputs)>> {
    Ok(vec![(String::new(), outputs)])
}

/// The folder's config.json.
pub fn config(case: &Case) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(case.folder.join("config.json"))?)?)
}

/// A whole number of config.json.
pub fn whole(config: &Value, key: &str) -> Result<usize> {
    config
        .get(key)
        .and_then(Value::as_u64)
        .map(|v| v as usize)
        .ok_or_else(|| Error::from(format!("config.json has no {key}")))
}

/// A list of whole numbers of config.json.
pub fn list(config: &Value, key: &str) -> Result<Vec<usize>> {
    let items = config
        .get(key)
        .and_then(Value::as_array)
        .ok_or_else(|| Error::from(format!("config.json has no {key}")))?;
    Ok(items.iter().filter_map(Value::as_u64).map(|v| v as usize).collect())
}

/// Loads the folder's weights into `params` through the rules.
pub fn load(case: &Case, params: &Params, rules: &Rules) -> Result<()> {
    let tensors = rules.to_ours(weights::read(case.folder.join("model.safetensors"))?)?;
    weights::load_into(params, &tensors, "", &Options::default())?;
    Ok(())
}

/// Gradients of `loss` under the file's names, and their norm.
pub fn gradients(params: &Params, loss: &Tensor, rules: &Rules, outputs: &mut Outputs) -> Result<()> {
    let store = loss.backward()?;
    let mut grads = BTreeMap::new();
    let mut square = 0f64;
    for p in params.with_role(Role::Trained) {
        if let Some(g) = store.get(p.var.as_tensor()) {
            square += f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
            grads.insert(p.name, g.clone());
        }
    }
    outputs.insert("expected.grad_norm".into(), Tensor::new(&[square.sqrt() as f32], &Device::Cpu)?);
    outputs.insert("expected.loss".into(), loss.detach());
    for (name, g) in rules.gradients_to_theirs(grads)? {
        outputs.insert(format!("grad.{name}"), g);
    }
    Ok(())
}
