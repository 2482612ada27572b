//! The names of the same weights in timm, torchvision and transformers, and continuing from them.
//!
//! Ours are torchvision's for ResNets and timm's for vision transformers. The layout of a file is recognised
//! by its keys.

use crate::encoder::{Pool, ViTConfig};
use selfsup_core::nn::TransformerConfig;
use selfsup_core::weights::{self, Options, Report, Rule, Rules};
use selfsup_core::{Error, Params, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Who wrote a file of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// timm and torchvision: our own names, with counters and classifiers that we have not.
    Timm,
    /// transformers' ViT and I-JEPA.
    HfVit,
    /// transformers' DINOv2.
    Dinov2,
    /// transformers' ViTMAEForPreTraining, with its decoder.
    VitMae,
}

/// transformers' encoder blocks below `from` as ours below `to`.
fn blocks(from: &str, to: &str, dinov2: bool) -> Vec<Rule> {
    let name =
        |side: &str, rest: &str| if side.is_empty() { rest.to_string() } else { format!("{side}.{rest}") };
    let mut rules = Vec::new();
    for kind in ["weight", "bias"] {
        let from = |rest: &str| name(from, &format!("{rest}.{kind}"));
        let to = |rest: &str| name(to, &format!("{rest}.{kind}"));
        rules.push(Rule::concat(&from("*.attention.attention.{query,key,value}"), &to("*.attn.qkv"), 0));
        rules.push(Rule::rename(&from("*.attention.output.dense"), &to("*.attn.proj")));
        if dinov2 {
            for part in ["norm1", "norm2", "mlp.fc1", "mlp.fc2"] {
                rules.push(Rule::rename(&from(&format!("*.{part}")), &to(&format!("*.{part}"))));
            }
        } else {
            rules.push(Rule::rename(&from("*.layernorm_before"), &to("*.norm1")));
            rules.push(Rule::rename(&from("*.layernorm_after"), &to("*.norm2")));
            rules.push(Rule::rename(&from("*.intermediate.dense"), &to("*.mlp.fc1")));
            rules.push(Rule::rename(&from("*.output.dense"), &to("*.mlp.fc2")));
        }
    }
    if dinov2 {
        for i in [1, 2] {
            rules.push(Rule::rename(
                &name(from, &format!("*.layer_scale{i}.lambda1")),
                &name(to, &format!("*.ls{i}.gamma")),
            ));
        }
    }
    rules
}

/// What stands around the blocks of transformers' vision models, below `from`, as ours below `to`.
fn embeddings(from: &str, to: &str) -> Vec<Rule> {
    let name =
        |side: &str, rest: &str| if side.is_empty() { rest.to_string() } else { format!("{side}.{rest}") };
    let mut rules = vec![
        Rule::rename(&name(from, "embeddings.cls_token"), &name(to, "cls_token")),
        Rule::rename(&name(from, "embeddings.position_embeddings"), &name(to, "pos_embed")),
    ];
    for kind in ["weight", "bias"] {
        let projection = name(from, &format!("embeddings.patch_embeddings.projection.{kind}"));
        rules.push(Rule::rename(&projection, &name(to, &format!("patch_embed.proj.{kind}"))));
        rules.push(Rule::rename(
            &name(from, &format!("layernorm.{kind}")),
            &name(to, &format!("norm.{kind}")),
        ));
    }
    rules
}

impl Layout {
    /// How its names become ours and back.
    ///
    /// # Panics
    /// Never: the rules are constants, which a test reads.
    #[allow(clippy::expect_used)]
    pub fn rules(self) -> Rules {
        let rules = match self {
            Layout::Timm => vec![Rule::drop("**.num_batches_tracked")],
            Layout::HfVit => {
                let mut rules = embeddings("", "");
                rules.extend(blocks("encoder.layer", "blocks", false));
                rules
            }
            Layout::Dinov2 => {
                let mut rules = embeddings("", "");
                rules.push(Rule::drop("embeddings.mask_token"));
                rules.extend(blocks("encoder.layer", "blocks", true));
                rules
            }
            Layout::VitMae => {
                let mut rules = embeddings("vit", "encoder");
                rules.extend(blocks("vit.encoder.layer", "encoder.blocks", false));
                rules.extend(blocks("decoder.decoder_layers", "decoder.blocks", false));
                rules.push(Rule::rename("decoder.decoder_pos_embed", "decoder.pos_embed"));
                for kind in ["weight", "bias"] {
                    for part in ["embed", "norm", "pred"] {
                        rules.push(Rule::rename(
                            &format!("decoder.decoder_{part}.{kind}"),
                            &format!("decoder.{part}.{kind}"),
                        ));
                    }
                }
                rules
            }
        };
        Rules::new(&rules).expect("constant rules are well formed")
    }

    /// Recognises a layout by the keys of a file.
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Layout {
        let mut found = Layout::Timm;
        for key in keys {
            if key.contains("decoder.decoder_layers") {
                return Layout::VitMae;
            }
            if key.contains("layer_scale1.lambda1") {
                found = Layout::Dinov2;
            } else if key.contains("attention.attention.query") && found == Layout::Timm {
                found = Layout::HfVit;
            }
        }
        found
    }
}

/// The result of [`load_pretrained`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pretrained {
    /// The layout of the file.
    pub layout: Layout,
    /// Which tensors matched; names are relative to the encoder.
    pub report: Report,
}

/// Reads encoder weights from `path` (a file, or a folder with `model.safetensors` or `pytorch_model.bin`)
/// into the parameters below `prefix`. Classifiers and decoders of the file are left out; every parameter of
/// the encoder must be there.
///
/// # Errors
/// If nothing can be read, or the weights are those of another network: missing and misshapen keys are
/// listed.
pub fn load_pretrained(params: &Params, prefix: &str, path: &Path) -> Result<Pretrained> {
    let tensors = weights::read(path)?;
    let layout = Layout::of(tensors.keys().map(String::as_str));
    // `vit.`, `dinov2.`, `encoder.` in front, as in models with a head.
    let mut plain = BTreeMap::new();
    for (name, t) in tensors {
        let stripped = match layout {
            Layout::VitMae => name.as_str(),
            _ => ["vit.", "dinov2.", "ijepa.", "backbone.", "encoder_q."]
                .iter()
                .find_map(|p| name.strip_prefix(p))
                .unwrap_or(&name),
        };
        plain.insert(stripped.to_string(), t);
    }
    // Our own checkpoints and ViT-MAE carry the encoder below `encoder`.
    let mut ours = layout.rules().to_ours(plain)?;
    if ours.keys().any(|k| k.starts_with("encoder.")) {
        ours = ours
            .into_iter()
            .filter_map(|(k, t)| Some((k.strip_prefix("encoder.")?.to_string(), t)))
            .collect();
    }
    let wanted: Vec<String> = params
        .all()
        .into_iter()
        .filter_map(|p| Some(p.name.strip_prefix(prefix)?.strip_prefix('.')?.to_string()))
        .collect();
    let mut missing: Vec<&String> = wanted.iter().filter(|k| !ours.contains_key(*k)).collect();
    if layout == Layout::Timm {
        // A file of float tensors may have been written without running statistics only by mistake: those are
        // never optional.
        missing.retain(|k| !k.ends_with("num_batches_tracked"));
    }
    if !missing.is_empty() {
        let list = missing.iter().take(5).map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::file(
            path,
            format!(
                "weights of another network: {} of {} tensors are missing ({list})",
                missing.len(),
                wanted.len()
            ),
        ));
    }
    let report =
        weights::load_into(params, &ours, prefix, &Options { allow_missing: false, allow_unexpected: true })
            .map_err(|e| Error::file(path, e))?;
    Ok(Pretrained { layout, report })
}

/// The network that `config.json` in a folder of transformers' describes: ViT, DINOv2, I-JEPA or ViT-MAE (its
/// encoder).
///
/// # Errors
/// If the file cannot be read, a size is missing, or it asks for what is not here (SwiGLU, register tokens,
/// another activation than GELU, no biases of queries and keys).
pub fn read_config(folder: &Path) -> Result<ViTConfig> {
    let path = folder.join("config.json");
    let text = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
    let wrong = |key: &str, why: &str| Error::file(&path, format!("{key}: {why}"));
    let kind = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if !["vit", "dinov2", "ijepa", "vit_mae"].contains(&kind) {
        return Err(wrong("model_type", &format!("\"{kind}\", expected vit, dinov2, ijepa or vit_mae")));
    }
    for (key, wanted) in
        [("use_swiglu_ffn", json!(false)), ("hidden_act", json!("gelu")), ("qkv_bias", json!(true))]
    {
        if let Some(found) = json.get(key).filter(|found| **found != wanted) {
            return Err(wrong(key, &format!("{found} is not supported, expected {wanted}")));
        }
    }
    let whole = |key: &str| {
        let value = json.get(key).and_then(Value::as_u64).filter(|v| *v > 0);
        value.map(|v| v as usize).ok_or_else(|| wrong(key, "expected a whole number above 0"))
    };
    let (dim, dinov2) = (whole("hidden_size")?, kind == "dinov2");
    let hidden = if dinov2 {
        (dim as f64 * json.get("mlp_ratio").and_then(Value::as_f64).unwrap_or(4.0)) as usize
    } else {
        whole("intermediate_size")?
    };
    let mut trunk =
        TransformerConfig::vit(dim, whole("num_hidden_layers")?, whole("num_attention_heads")?, hidden);
    trunk.eps =
        json.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(if dinov2 { 1e-6 } else { 1e-12 });
    trunk.layer_scale = dinov2.then_some(1.0);
    let class_token = kind != "ijepa";
    Ok(ViTConfig {
        image_size: whole("image_size")?,
        patch: whole("patch_size")?,
        channels: whole("num_channels")?,
        trunk,
        class_token,
        fixed_positions: kind == "vit_mae",
        pool: if class_token { Pool::Class } else { Pool::Mean },
    })
}

/// The epsilon of the layer norms that `config.json` in the folder of weights states (transformers'
/// `layer_norm_eps`): features differ in the fourth digit with another one.
pub fn stated_eps(folder: &Path) -> Option<f64> {
    let text = std::fs::read(folder.join("config.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).ok()?.get("layer_norm_eps")?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_well_formed_and_recognised() {
        for layout in [Layout::Timm, Layout::HfVit, Layout::Dinov2, Layout::VitMae] {
            let _ = layout.rules();
        }
        assert_eq!(Layout::of(["conv1.weight", "layer1.0.bn1.weight"]), Layout::Timm);
        assert_eq!(Layout::of(["vit.encoder.layer.0.attention.attention.query.weight"]), Layout::HfVit);
        assert_eq!(
            Layout::of([
                "encoder.layer.0.layer_scale1.lambda1",
                "encoder.layer.0.attention.attention.query.weight"
            ]),
            Layout::Dinov2
        );
    }

    #[test]
    fn the_epsilon_beside_the_weights() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(stated_eps(dir.path()), None);
        std::fs::write(dir.path().join("config.json"), r#"{"model_type": "vit", "layer_norm_eps": 1e-12}"#)
            .unwrap();
        assert_eq!(stated_eps(dir.path()), Some(1e-12));
        std::fs::write(dir.path().join("config.json"), "not json").unwrap();
        assert_eq!(stated_eps(dir.path()), None);
    }
}
