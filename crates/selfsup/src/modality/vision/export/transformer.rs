//! Vision transformers in the names and with the configurations of timm and transformers. What one of them
//! cannot hold is an error that names the key.

use candle_core::Tensor;
use selfsup_core::nn::MlpForm;
use selfsup_core::{Error, Result};
use selfsup_kernels::activation::Act;
use selfsup_vision::encoder::{FinalNorm, Pool, Positioned, ViTConfig};
use selfsup_vision::names::Layout;
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

/// The epsilon of timm's vision transformers, which its configurations cannot state.
pub(super) const TIMM_EPS: f64 = 1e-6;

/// The activation in the words of both libraries.
pub(super) fn activation(c: &ViTConfig) -> &'static str {
    match (c.trunk.mlp, c.trunk.act) {
        (MlpForm::QuickGelu, _) => "quick_gelu",
        (_, Act::GeluTanh) => "gelu_tanh",
        (_, Act::Relu) => "relu",
        _ => "gelu",
    }
}

/// The positions of timm's network: of all tokens in front of the patches, or of none.
pub(super) fn timm_positions(c: &ViTConfig) -> Positioned {
    let all = c.position_prefix() == c.prefix();
    if all { Positioned::All } else { Positioned::Patches }
}

/// The same network with positions of these tokens: rows in front are added to their tokens, rows that are
/// wanted and were not there are 0.
fn positioned(c: &ViTConfig, mut ours: Tensors, wanted: usize) -> Result<Tensors> {
    let rows = c.position_prefix();
    if rows == wanted {
        return Ok(ours);
    }
    let lacking = |name: &str| Error::input(name, "missing in the encoder");
    let table = ours.get("pos_embed").cloned().ok_or_else(|| lacking("pos_embed"))?;
    let mut row = 0;
    for (name, count) in [("cls_token", usize::from(c.class_token)), ("reg_token", c.registers)] {
        if count > 0 && row + count <= rows {
            let token = ours.get(name).ok_or_else(|| lacking(name))?;
            let sum = (token + table.narrow(1, row, count)?)?;
            ours.insert(name.into(), sum);
            row += count;
        }
    }
    let (_, length, dim) = table.dims3()?;
    let patches = table.narrow(1, rows, length - rows)?;
    let zero = Tensor::zeros((1, wanted, dim), table.dtype(), table.device())?;
    let table = if wanted > 0 { Tensor::cat(&[zero, patches], 1)? } else { patches.contiguous()? };
    ours.insert("pos_embed".into(), table);
    Ok(ours)
}

/// The tensors of timm's network.
pub(super) fn timm_tensors(c: &ViTConfig, ours: Tensors) -> Result<Tensors> {
    let wanted = if timm_positions(c) == Positioned::All { c.prefix() } else { 0 };
    let mut tensors = positioned(c, ours, wanted)?;
    // Over pooled features timm's norm has another name; of a class token both are the same.
    if c.final_norm == FinalNorm::Pooled && c.pool == Pool::Mean {
        for kind in ["weight", "bias"] {
            if let Some(t) = tensors.remove(&format!("norm.{kind}")) {
                tensors.insert(format!("fc_norm.{kind}"), t);
            }
        }
    }
    Layout::Timm.rules().to_theirs(tensors)
}

/// The model of transformers that holds a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Vit,
    Ijepa,
    Dinov2,
    Dinov3,
    Clip,
}

impl Family {
    /// # Errors
    /// If none does, naming the key.
    pub fn of(c: &ViTConfig) -> Result<Self> {
        let refuse = |key: &str| Err(Error::config(format!("layout hf has no model with {key}")));
        if c.trunk.qk_norm {
            return refuse("encoder.qk_norm = true: use --layout timm");
        }
        if c.final_norm == FinalNorm::Pooled && c.pool == Pool::Mean {
            return refuse("encoder.final_norm = \"pooled\" and pool = \"mean\": use --layout timm");
        }
        let gated = c.trunk.mlp == MlpForm::SwiGlu;
        if c.rotary.is_some() {
            let whole = c.class_token && c.registers > 0 && c.trunk.layer_scale.is_some();
            if !whole || c.trunk.key_bias || !c.trunk.qkv_bias || c.norm_pre || !c.patch_bias {
                return refuse(
                    "encoder.rotary but DINOv3's: a class token, registers, layer_scale, patch_bias, and key_bias = false",
                );
            }
            return Ok(Family::Dinov3);
        }
        if !c.trunk.key_bias {
            return refuse("encoder.key_bias = false without rotary");
        }
        let dinov2 = c.trunk.layer_scale.is_some() || c.registers > 0 || gated;
        if c.norm_pre {
            if c.patch_bias || !c.class_token || dinov2 || c.final_norm == FinalNorm::Tokens {
                return refuse(
                    "encoder.norm_pre = true but CLIP's: patch_bias = false, final_norm = \"pooled\", a class token and no LayerScale, registers and swiglu",
                );
            }
            return Ok(Family::Clip);
        }
        if !c.patch_bias {
            return refuse("encoder.patch_bias = false without norm_pre");
        }
        if !dinov2 {
            return Ok(if c.class_token { Family::Vit } else { Family::Ijepa });
        }
        if c.trunk.layer_scale.is_none() || !c.class_token {
            return refuse("registers or swiglu without encoder.layer_scale and class_token");
        }
        let plain = (c.trunk.dim as f64 * mlp_ratio(c)) as usize;
        if gated && (plain * 2 / 3).div_ceil(8) * 8 != c.trunk.hidden {
            return refuse("encoder.act = \"swiglu\" and a hidden width that is no multiple of 8");
        }
        Ok(Family::Dinov2)
    }

    /// The tensors of the model.
    pub fn tensors(self, c: &ViTConfig, ours: Tensors) -> Result<Tensors> {
        let wanted = usize::from(c.class_token);
        let ours = if self == Family::Dinov3 { ours } else { positioned(c, ours, wanted)? };
        match self {
            Family::Vit | Family::Ijepa => Layout::HfVit.rules().to_theirs(ours),
            Family::Clip => {
                let theirs = Layout::Clip.rules().to_theirs(ours)?;
                Ok(theirs.into_iter().map(|(name, t)| (format!("vision_model.{name}"), t)).collect())
            }
            Family::Dinov3 => {
                let gated = c.trunk.mlp == MlpForm::SwiGlu;
                let layout = if gated { Layout::Dinov3Gated } else { Layout::Dinov3 };
                let mut theirs = layout.rules().to_theirs(ours)?;
                // Read for masked patches only.
                if let Some(token) = theirs.get("embeddings.cls_token") {
                    let zero = token.zeros_like()?;
                    theirs.insert("embeddings.mask_token".into(), zero);
                }
                Ok(theirs)
            }
            Family::Dinov2 => {
                let gated = c.trunk.mlp == MlpForm::SwiGlu;
                let layout = if gated { Layout::Dinov2SwiGlu } else { Layout::Dinov2 };
                let mut theirs = layout.rules().to_theirs(ours)?;
                // The model with registers has one in any case, and reads it for masked patches only.
                if let Some(token) = theirs.get("embeddings.register_tokens") {
                    let zero = token.narrow(1, 0, 1)?.squeeze(1)?.zeros_like()?;
                    theirs.insert("embeddings.mask_token".into(), zero);
                }
                Ok(theirs)
            }
        }
    }
}

/// DINOv2's `mlp_ratio`: of a gated MLP, whose width is two thirds of it, half as much again.
fn mlp_ratio(c: &ViTConfig) -> f64 {
    let ratio = c.trunk.hidden as f64 / c.trunk.dim as f64;
    if c.trunk.mlp == MlpForm::SwiGlu { ratio * 1.5 } else { ratio }
}

/// `config.json` of transformers.
pub(super) fn hf(c: &ViTConfig, family: Family) -> Value {
    let (kind, model) = match family {
        Family::Vit => ("vit", "ViTModel"),
        Family::Ijepa => ("ijepa", "IJepaModel"),
        Family::Clip => ("clip_vision_model", "CLIPVisionModel"),
        Family::Dinov2 if c.registers > 0 => ("dinov2_with_registers", "Dinov2WithRegistersModel"),
        Family::Dinov2 => ("dinov2", "Dinov2Model"),
        Family::Dinov3 => ("dinov3_vit", "DINOv3ViTModel"),
    };
    let act = if activation(c) == "gelu_tanh" { "gelu_pytorch_tanh" } else { activation(c) };
    let mut out = json!({
        "model_type": kind, "architectures": [model], "hidden_size": c.trunk.dim, "num_hidden_layers": c.trunk.depth,
        "num_attention_heads": c.trunk.heads, "hidden_act": act, "layer_norm_eps": c.trunk.eps,
        "image_size": c.size[0], "patch_size": c.patch[0], "num_channels": c.channels,
    });
    match family {
        Family::Dinov2 => {
            out["mlp_ratio"] = json!(mlp_ratio(c));
            out["use_swiglu_ffn"] = json!(c.trunk.mlp == MlpForm::SwiGlu);
            out["layerscale_value"] = json!(c.trunk.layer_scale);
            out["use_mask_token"] = json!(c.registers > 0);
            if c.registers > 0 {
                out["num_register_tokens"] = json!(c.registers);
            }
        }
        Family::Dinov3 => {
            let gated = c.trunk.mlp == MlpForm::SwiGlu;
            out["intermediate_size"] = json!(c.trunk.hidden);
            out["use_gated_mlp"] = json!(gated);
            if gated {
                out["hidden_act"] = json!("silu");
            }
            out["num_register_tokens"] = json!(c.registers);
            out["layerscale_value"] = json!(c.trunk.layer_scale);
            out["rope_theta"] = json!(c.rotary);
            for (key, value) in [("query_bias", true), ("key_bias", false), ("value_bias", true)] {
                out[key] = json!(value);
            }
        }
        _ => out["intermediate_size"] = json!(c.trunk.hidden),
    }
    if matches!(family, Family::Clip | Family::Dinov3) {
        out["attention_dropout"] = json!(0.0);
    } else {
        out["hidden_dropout_prob"] = json!(0.0);
        out["attention_probs_dropout_prob"] = json!(0.0);
        out["qkv_bias"] = json!(c.trunk.qkv_bias);
    }
    // No model of these reads it: it says which vector was trained and measured.
    out["use_mean_pooling"] = json!(c.pool == Pool::Mean);
    out
}

/// How Python gets the features that `selfsup embed` writes.
pub(super) fn hf_note(c: &ViTConfig, family: Family) -> String {
    let load = match family {
        Family::Vit | Family::Ijepa => "AutoModel.from_pretrained(DIR, add_pooling_layer=False)",
        Family::Clip => "CLIPVisionModel.from_pretrained(DIR)",
        Family::Dinov2 | Family::Dinov3 => "AutoModel.from_pretrained(DIR)",
    };
    let features = match (c.pool, family) {
        (Pool::Mean, _) => format!("model(pixel_values=x).last_hidden_state[:, {}:].mean(1)", c.prefix()),
        (Pool::Class, Family::Clip) => "model(pixel_values=x).pooler_output".to_string(),
        (_, _) => "model(pixel_values=x).last_hidden_state[:, 0]".to_string(),
    };
    format!("model = {load}\n    features = {features}")
}
