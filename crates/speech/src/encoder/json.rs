//! transformers' `config.json`, read and written.

use super::config::{Family, FrontNorm, SpeechConfig};
use crate::mask::SpanMask;
use selfsup_core::kernels::activation::Act;
use selfsup_core::{Error, Result};
use serde_json::{Map, Value, json};

impl SpeechConfig {
    /// transformers' `config.json` to a network.
    ///
    /// # Errors
    /// If the model type is another, a size is missing, or the file asks for what is not here (adapters,
    /// batch norm of positions).
    pub fn from_hf(config: &Value) -> Result<Self> {
        let wrong = |key: &str, why: &str| Error::input("config.json", format!("{key}: {why}"));
        let family = match config.get("model_type").and_then(Value::as_str) {
            Some("wav2vec2") => Family::Wav2vec2,
            Some("hubert") => Family::Hubert,
            Some("data2vec-audio") => Family::Data2vecAudio,
            other => {
                return Err(wrong(
                    "model_type",
                    &format!("{other:?}, expected wav2vec2, hubert or data2vec-audio"),
                ));
            }
        };
        for key in ["add_adapter", "conv_pos_batch_norm"] {
            if config.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(wrong(key, "true is not supported"));
            }
        }
        if config.get("adapter_attn_dim").is_some_and(|v| !v.is_null()) {
            return Err(wrong("adapter_attn_dim", "adapters are not supported"));
        }
        let whole = |key: &str, default: usize| match config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_u64().map(|v| v as usize).ok_or_else(|| wrong(key, "expected a whole number")),
        };
        let real = |key: &str, default: f64| config.get(key).and_then(Value::as_f64).unwrap_or(default);
        let flag = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
        let list = |key: &str, default: &[usize]| match config.get(key) {
            None => Ok(default.to_vec()),
            Some(v) => v
                .as_array()
                .and_then(|items| {
                    items.iter().map(|i| i.as_u64().map(|i| i as usize)).collect::<Option<Vec<_>>>()
                })
                .ok_or_else(|| wrong(key, "expected a list of whole numbers")),
        };
        let mut acts = ["hidden_act", "feat_extract_activation"]
            .map(|k| config.get(k).and_then(Value::as_str).unwrap_or("gelu"))
            .into_iter();
        let act = match (acts.next(), acts.next()) {
            (Some("gelu"), Some("gelu")) => Act::GeluErf,
            (Some("relu"), Some("relu")) => Act::Relu,
            (Some("gelu_new" | "gelu_pytorch_tanh"), Some("gelu_new" | "gelu_pytorch_tanh")) => Act::GeluTanh,
            other => {
                return Err(wrong(
                    "hidden_act, feat_extract_activation",
                    &format!("{other:?}, expected gelu, gelu_new or relu for both"),
                ));
            }
        };
        let data2vec = family == Family::Data2vecAudio;
        let front_norm = match config.get("feat_extract_norm").and_then(Value::as_str) {
            _ if data2vec => FrontNorm::Layer,
            None | Some("group") => FrontNorm::Group,
            Some("layer") => FrontNorm::Layer,
            Some(other) => {
                return Err(wrong("feat_extract_norm", &format!("\"{other}\", expected group or layer")));
            }
        };
        let d = SpeechConfig::default();
        let spans = |kind: &str, min: usize| -> Result<SpanMask> {
            let prob =
                if flag("apply_spec_augment", true) { real(&format!("mask_{kind}_prob"), 0.0) } else { 0.0 };
            Ok(SpanMask {
                prob,
                length: whole(&format!("mask_{kind}_length"), 10)?,
                min_spans: whole(&format!("mask_{kind}_min_masks"), min)?,
            })
        };
        let out = SpeechConfig {
            family,
            dim: whole("hidden_size", d.dim)?,
            depth: whole("num_hidden_layers", d.depth)?,
            heads: whole("num_attention_heads", d.heads)?,
            hidden: whole("intermediate_size", d.hidden)?,
            act,
            conv_dim: list("conv_dim", &d.conv_dim)?,
            conv_kernel: list("conv_kernel", &d.conv_kernel)?,
            conv_stride: list("conv_stride", &d.conv_stride)?,
            conv_bias: flag("conv_bias", false),
            front_norm,
            projection_norm: flag("feat_proj_layer_norm", true),
            position_kernel: if data2vec {
                whole("conv_pos_kernel_size", 19)?
            } else {
                whole("num_conv_pos_embeddings", 128)?
            },
            position_groups: whole("num_conv_pos_embedding_groups", 16)?,
            position_layers: if data2vec { whole("num_conv_pos_embeddings", 5)? } else { 1 },
            stable_layer_norm: flag("do_stable_layer_norm", false) && !data2vec,
            eps: real("layer_norm_eps", 1e-5),
            dropout: real("hidden_dropout", 0.1) as f32,
            attention_dropout: real("attention_dropout", 0.1) as f32,
            activation_dropout: real("activation_dropout", 0.1) as f32,
            projection_dropout: real("feat_proj_dropout", 0.0) as f32,
            layer_drop: real("layerdrop", 0.1) as f32,
            front_gradient: d.front_gradient,
            mask: spans("time", 2)?,
            channel_mask: spans("feature", 0)?,
        };
        out.check()?;
        Ok(out)
    }

    /// The network as transformers' `config.json` describes it, without `architectures`.
    pub fn to_hf(&self) -> Map<String, Value> {
        let act = match self.act {
            Act::Relu => "relu",
            Act::GeluTanh => "gelu_new",
            Act::GeluErf | Act::None => "gelu",
        };
        let data2vec = self.family == Family::Data2vecAudio;
        // Decimal digits of an f32, not those of its f64 neighbour.
        let real = |v: f32| (f64::from(v) * 1e6).round() / 1e6;
        let mut value = json!({
            "model_type": self.family.model_type(),
            "hidden_size": self.dim, "num_hidden_layers": self.depth, "num_attention_heads": self.heads,
            "intermediate_size": self.hidden, "hidden_act": act, "feat_extract_activation": act,
            "conv_dim": self.conv_dim, "conv_kernel": self.conv_kernel, "conv_stride": self.conv_stride, "conv_bias": self.conv_bias,
            "num_feat_extract_layers": self.conv_dim.len(),
            "num_conv_pos_embedding_groups": self.position_groups,
            "num_conv_pos_embeddings": if data2vec { self.position_layers } else { self.position_kernel },
            "layer_norm_eps": self.eps,
            "hidden_dropout": real(self.dropout), "attention_dropout": real(self.attention_dropout),
            "activation_dropout": real(self.activation_dropout), "feat_proj_dropout": real(self.projection_dropout),
            "layerdrop": real(self.layer_drop), "final_dropout": real(self.dropout),
            "apply_spec_augment": self.mask.hides() || self.channel_mask.hides(),
            "mask_time_prob": self.mask.prob, "mask_time_length": self.mask.length, "mask_time_min_masks": self.mask.min_spans,
            "mask_feature_prob": self.channel_mask.prob, "mask_feature_length": self.channel_mask.length,
            "mask_feature_min_masks": self.channel_mask.min_spans,
        });
        let Value::Object(mut out) = value.take() else { return Map::new() };
        if data2vec {
            out.insert("conv_pos_kernel_size".into(), self.position_kernel.into());
        } else {
            let norm = if self.front_norm == FrontNorm::Group { "group" } else { "layer" };
            out.insert("feat_extract_norm".into(), norm.into());
            out.insert("do_stable_layer_norm".into(), self.stable_layer_norm.into());
        }
        if self.family == Family::Hubert {
            out.insert("feat_proj_layer_norm".into(), self.projection_norm.into());
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_there_and_back() {
        for family in [Family::Wav2vec2, Family::Hubert, Family::Data2vecAudio] {
            for size in ["tiny", "small", "base", "large"] {
                let mut c = SpeechConfig::named(family, size).unwrap();
                (c.dropout, c.layer_drop, c.mask) = (0.1, 0.05, SpanMask::default());
                assert_eq!(SpeechConfig::from_hf(&Value::Object(c.to_hf())).unwrap(), c, "{family:?} {size}");
            }
        }
        assert!(SpeechConfig::named(Family::Hubert, "huge").is_none());
    }

    #[test]
    fn what_is_not_here_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Map<String, Value>)| {
            let mut json = SpeechConfig::default().to_hf();
            change(&mut json);
            SpeechConfig::from_hf(&Value::Object(json)).unwrap_err().to_string()
        };
        assert!(refused(&|j| drop(j.insert("model_type".into(), "whisper".into()))).contains("whisper"));
        assert!(refused(&|j| drop(j.insert("add_adapter".into(), true.into()))).contains("add_adapter"));
        assert!(refused(&|j| drop(j.insert("conv_dim".into(), json!([512, 512])))).contains("conv_dim"));
        assert!(refused(&|j| drop(j.insert("hidden_size".into(), "x".into()))).contains("hidden_size"));
        assert!(refused(&|j| drop(j.insert("hidden_act".into(), "swish".into()))).contains("swish"));
    }
}
