//! ConvNeXt with the configurations of timm and transformers.

use selfsup_core::{Error, Result};
use selfsup_vision::encoder::ConvNeXtConfig;
use serde_json::{Map, Value, json};

/// The epsilon of all of timm's norms.
const TIMM_EPS: f64 = 1e-6;

/// How Python gets the features that `selfsup embed` writes.
pub(super) const NOTE: &str =
    "model = AutoModel.from_pretrained(DIR)\n    features = model(pixel_values=x).pooler_output";

/// timm's name, and the arguments that differ from its defaults.
///
/// # Errors
/// If the norm of the features has another epsilon than all others.
pub(super) fn timm(c: &ConvNeXtConfig, name: &str) -> Result<(String, Map<String, Value>)> {
    if c.eps != TIMM_EPS {
        return Err(Error::config(format!(
            "layout timm holds encoder.eps = {TIMM_EPS:e} alone, here it is {:e}: use --layout hf",
            c.eps
        )));
    }
    let mut arguments = Map::new();
    let own = name == "convnext";
    if own {
        arguments.insert("depths".into(), json!(c.depths));
        arguments.insert("dims".into(), json!(c.widths));
    }
    if c.patch != 4 {
        arguments.insert("patch_size".into(), json!(c.patch));
    }
    if c.layer_scale.is_none() {
        arguments.insert("ls_init_value".into(), Value::Null);
    }
    Ok((if own { "convnext_tiny" } else { name }.to_string(), arguments))
}

/// `config.json` of transformers for images of `size` pixels.
pub(super) fn hf(c: &ConvNeXtConfig, size: usize) -> Value {
    json!({
        "model_type": "convnext", "architectures": ["ConvNextModel"], "num_channels": c.channels,
        "patch_size": c.patch, "num_stages": c.depths.len(), "depths": c.depths, "hidden_sizes": c.widths,
        "hidden_act": "gelu", "layer_norm_eps": c.eps, "image_size": size,
        "layer_scale_init_value": c.layer_scale.unwrap_or(0.0), "drop_path_rate": 0.0,
    })
}
