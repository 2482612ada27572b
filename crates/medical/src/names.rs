//! The names of the same weights in MONAI, MedicalNet and timm, and continuing from them.
//!
//! MONAI's U-Net nests levels (`model.1.submodule.1.submodule.0`); MedicalNet's checkpoints wrap
//! torchvision's names in `module.`; the vision transformer has timm's own. The layout of a file is
//! recognised by its keys.

use crate::encoder::{ActKind, MonaiConfig, NormKind};
use selfsup_core::weights::{self, Options, Report, Rule, Rules};
use selfsup_core::{Error, Params, Result};
use serde_json::{Value, json};
use std::path::Path;

/// MONAI's names of a whole U-Net of `levels` levels, as ours (`encoder.i`, `decoder.i`).
///
/// # Errors
/// None for numbers of levels that a [`MonaiConfig`] may have.
pub fn monai(levels: usize) -> Result<Rules> {
    let mut rules = vec![Rule::drop("**.num_batches_tracked")];
    let mut path = "model".to_string();
    for i in 0..levels.saturating_sub(1) {
        rules.push(Rule::prefix(&format!("{path}.0"), &format!("encoder.{i}")));
        rules.push(Rule::prefix(&format!("{path}.2"), &format!("decoder.{i}")));
        path.push_str(".1.submodule");
    }
    rules.push(Rule::prefix(&path, &format!("encoder.{}", levels.saturating_sub(1))));
    Rules::new(&rules)
}

/// The configuration of a MONAI U-Net as its keyword arguments.
pub fn monai_json(c: &MonaiConfig) -> Value {
    let norm = match c.norm {
        NormKind::InstancePlain => json!("INSTANCE"),
        NormKind::Instance => json!(["INSTANCE", {"affine": true}]),
        NormKind::Batch => json!("BATCH"),
        NormKind::None => Value::Null,
    };
    let act = match c.act {
        ActKind::Prelu => json!("PRELU"),
        ActKind::Relu => json!("RELU"),
        ActKind::LeakyRelu => json!("LEAKYRELU"),
        ActKind::None => Value::Null,
    };
    json!({
        "spatial_dims": 3, "in_channels": c.in_channels, "out_channels": c.out_channels, "channels": c.channels, "strides": c.strides,
        "num_res_units": c.num_res_units, "kernel_size": c.kernel_size, "up_kernel_size": c.up_kernel_size, "norm": norm, "act": act,
    })
}

/// Reads the keyword arguments of a MONAI U-Net.
///
/// # Errors
/// Naming the key that is missing or that this network cannot have.
pub fn monai_config(value: &Value) -> Result<MonaiConfig> {
    let wrong = |key: &str, expected: &str| {
        Error::input(
            "config.json",
            format!("{key} = {}: expected {expected}", value.get(key).unwrap_or(&Value::Null)),
        )
    };
    let whole = |key: &str, default: Option<usize>| match value.get(key) {
        None => default.ok_or_else(|| wrong(key, "a whole number")),
        Some(v) => v.as_u64().map(|v| v as usize).ok_or_else(|| wrong(key, "a whole number")),
    };
    let list = |key: &str| -> Result<Vec<usize>> {
        let items =
            value.get(key).and_then(Value::as_array).ok_or_else(|| wrong(key, "a list of whole numbers"))?;
        items
            .iter()
            .map(|v| v.as_u64().map(|v| v as usize).ok_or_else(|| wrong(key, "a list of whole numbers")))
            .collect()
    };
    if whole("spatial_dims", Some(3))? != 3 {
        return Err(wrong("spatial_dims", "3"));
    }
    // A layer is a name, or a name and its arguments.
    let layer = |key: &str| -> Option<(String, bool)> {
        match value.get(key)? {
            Value::String(name) => Some((name.to_uppercase(), false)),
            Value::Array(parts) => {
                let affine =
                    parts.get(1).and_then(|a| a.get("affine")).and_then(Value::as_bool).unwrap_or(false);
                Some((parts.first()?.as_str()?.to_uppercase(), affine))
            }
            _ => None,
        }
    };
    let norm = match layer("norm").as_ref().map(|(n, a)| (n.as_str(), *a)) {
        None if value.get("norm").is_none_or(Value::is_null) => NormKind::InstancePlain,
        Some(("INSTANCE", false)) => NormKind::InstancePlain,
        Some(("INSTANCE", true)) => NormKind::Instance,
        Some(("BATCH", _)) => NormKind::Batch,
        _ => return Err(wrong("norm", "INSTANCE or BATCH")),
    };
    let act = match layer("act").as_ref().map(|(n, _)| n.as_str()) {
        None if value.get("act").is_none_or(Value::is_null) => ActKind::Prelu,
        Some("PRELU") => ActKind::Prelu,
        Some("RELU") => ActKind::Relu,
        Some("LEAKYRELU") => ActKind::LeakyRelu,
        _ => return Err(wrong("act", "PRELU, RELU or LEAKYRELU")),
    };
    Ok(MonaiConfig {
        num_res_units: whole("num_res_units", Some(0))?,
        kernel_size: whole("kernel_size", Some(3))?,
        up_kernel_size: whole("up_kernel_size", Some(3))?,
        norm,
        act,
        ..MonaiConfig::new(
            whole("in_channels", None)?,
            whole("out_channels", None)?,
            &list("channels")?,
            &list("strides")?,
        )
    })
}

/// Reads encoder weights from `path` (a file, or a folder with `model.safetensors`) into the parameters below
/// `prefix`: our own exports and checkpoints, MONAI's U-Net (`levels` of them, for an encoder that is one),
/// MedicalNet's and torchvision-like residual networks, timm-like transformers. Decoders and classifiers of
/// the file are left out; every parameter of the encoder must be there.
///
/// # Errors
/// If nothing can be read, or the weights are those of another network: missing and misshapen keys are
/// listed.
pub fn load_pretrained(params: &Params, prefix: &str, path: &Path, levels: Option<usize>) -> Result<Report> {
    let mut tensors = weights::normalise(weights::read(path)?)?;
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    if let (Some(levels), true) = (levels, tensors.keys().any(|k| k.contains(".submodule."))) {
        // The prefix `model.` of a file in which everything lies below it may be gone.
        if !tensors.keys().any(|k| k.starts_with("model.")) {
            tensors = tensors.into_iter().map(|(k, t)| (format!("model.{k}"), t)).collect();
        }
        tensors = monai(levels)?.to_ours(tensors)?;
    }
    if tensors.keys().any(|k| k.starts_with("encoder.")) {
        tensors = tensors
            .into_iter()
            .filter_map(|(k, t)| Some((k.strip_prefix("encoder.")?.to_string(), t)))
            .collect();
    }
    weights::load_into(params, &tensors, prefix, &Options { allow_missing: false, allow_unexpected: true })
        .map_err(|e| Error::file(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn nested_names_become_levels_and_back() -> Result<()> {
        let t = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?;
        let theirs = [
            "model.0.conv.weight",
            "model.1.submodule.0.adn.A.weight",
            "model.1.submodule.1.submodule.conv.bias",
            "model.1.submodule.2.conv.weight",
            "model.2.0.conv.weight",
            "model.2.1.conv.unit0.conv.weight",
        ];
        let ours = [
            "decoder.0.0.conv.weight",
            "decoder.0.1.conv.unit0.conv.weight",
            "decoder.1.conv.weight",
            "encoder.0.conv.weight",
            "encoder.1.adn.A.weight",
            "encoder.2.conv.bias",
        ];
        let rules = monai(3)?;
        let made = rules.to_ours(theirs.iter().map(|k| ((*k).to_string(), t.clone())).collect())?;
        assert_eq!(made.keys().collect::<Vec<_>>(), ours);
        let mut back: Vec<String> = rules.to_theirs(made)?.into_keys().collect();
        back.sort();
        assert_eq!(back, theirs);
        Ok(())
    }

    #[test]
    fn configurations_round_trip() -> Result<()> {
        let mut c = MonaiConfig::new(1, 3, &[4, 8, 16], &[2, 2]);
        for (norm, act) in [
            (NormKind::InstancePlain, ActKind::Prelu),
            (NormKind::Instance, ActKind::Relu),
            (NormKind::Batch, ActKind::LeakyRelu),
        ] {
            (c.norm, c.act) = (norm, act);
            assert_eq!(monai_config(&monai_json(&c))?, c);
        }
        for bad in [
            json!({"spatial_dims": 2}),
            json!({"norm": "GROUP"}),
            json!({"channels": [1, "x"]}),
            json!({"act": 3}),
        ] {
            let mut value = monai_json(&c);
            for (k, v) in bad.as_object().into_iter().flatten() {
                value[k.as_str()] = v.clone();
            }
            let key = bad.as_object().and_then(|o| o.keys().next().cloned()).unwrap_or_default();
            let error = monai_config(&value).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(&key), "{error}");
        }
        Ok(())
    }
}
