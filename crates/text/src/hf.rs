//! Folders of the Hugging Face Hub: `config.json` read and written for BERT, RoBERTa and ELECTRA, and weights
//! loaded by their names.

pub use crate::json::read_config;

use crate::encoder::{BertConfig, Family};
use crate::json::{Keys, act_name, short};
use crate::names::{Head, layout};
use candle_core::Tensor;
use selfsup_core::weights::{self, Beside, Report, load_strict};
use selfsup_core::{Error, Params, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

impl Family {
    /// transformers' `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::Roberta => "roberta",
            Family::Electra => "electra",
        }
    }
}

impl BertConfig {
    /// From transformers' configuration `value`, read from `path`. Unless its pooler is wanted, tokens are
    /// averaged.
    ///
    /// # Errors
    /// If it is that of another kind of model, or of a variant that this encoder is not (relative positions,
    /// a decoder).
    pub fn from_hf(value: &Value, path: &Path) -> Result<Self> {
        let keys = Keys { value, path };
        let family = match keys.text("model_type") {
            Some("bert") => Family::Bert,
            Some("roberta" | "xlm-roberta" | "camembert") => Family::Roberta,
            Some("electra") => Family::Electra,
            other => {
                let found = other.unwrap_or("none");
                return Err(Error::file(
                    path,
                    format!("model_type {found}: expected bert, roberta or electra"),
                ));
            }
        };
        if let Some(kind) = keys.text("position_embedding_type")
            && kind != "absolute"
        {
            return Err(Error::file(path, format!("position_embedding_type \"{kind}\": expected absolute")));
        }
        if keys.flag("is_decoder", false) || !keys.flag("tie_word_embeddings", true) {
            return Err(Error::file(
                path,
                "a decoder, or word embeddings that are not tied: expected an encoder with tied ones",
            ));
        }
        let base = BertConfig::base(family, keys.whole("vocab_size", None)?);
        let dim = keys.whole("hidden_size", None)?;
        Ok(BertConfig {
            dim,
            embedding_dim: if family == Family::Electra {
                keys.whole("embedding_size", Some(128))?
            } else {
                dim
            },
            depth: keys.whole("num_hidden_layers", None)?,
            heads: keys.whole("num_attention_heads", None)?,
            hidden: keys.whole("intermediate_size", None)?,
            act: keys.act("hidden_act")?,
            positions: keys.whole("max_position_embeddings", Some(base.positions))?,
            types: keys.whole("type_vocab_size", Some(2))?,
            pad: keys.whole("pad_token_id", Some(base.pad as usize))? as u32,
            eps: keys.number("layer_norm_eps", 1e-12)?,
            dropout: keys.number("hidden_dropout_prob", 0.1)? as f32,
            attention_dropout: keys.number("attention_probs_dropout_prob", 0.1)? as f32,
            ..base
        })
    }

    /// transformers' configuration with the given class in `architectures`.
    pub fn to_hf(&self, architecture: &str) -> Value {
        let mut value = json!({
            "architectures": [architecture],
            "model_type": self.family.model_type(),
            "vocab_size": self.vocabulary,
            "hidden_size": self.dim,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": self.hidden,
            "hidden_act": act_name(self.act),
            "hidden_dropout_prob": short(self.dropout),
            "attention_probs_dropout_prob": short(self.attention_dropout),
            "max_position_embeddings": self.positions,
            "type_vocab_size": self.types,
            "initializer_range": 0.02,
            "layer_norm_eps": self.eps,
            "pad_token_id": self.pad,
            "position_embedding_type": "absolute",
            "tie_word_embeddings": true,
        });
        if self.family == Family::Electra {
            value["embedding_size"] = self.embedding_dim.into();
        }
        value
    }
}

/// The tensors of the model in `folder` (or of a file of weights) that belong to its encoder, under our
/// names, and those of its head.
///
/// # Errors
/// If nothing can be read, or the names are not those of the family.
pub fn read_weights(path: &Path, family: Family, head: Head) -> Result<BTreeMap<String, Tensor>> {
    let tensors = weights::normalise(weights::read(path)?)?;
    let base = format!("{}.", family.model_type());
    // A bare encoder has no base in front of its names; one with a head has it in front of the encoder's.
    let based = tensors.keys().any(|k| k.starts_with(&base));
    let tensors =
        if based { tensors } else { tensors.into_iter().map(|(k, t)| (format!("{base}{k}"), t)).collect() };
    layout(family, head).to_ours(tensors).map_err(|e| Error::file(path, e))
}

/// Heads that may stand beside the encoder, and a pooler that the network may not have.
const HEADS: [&str; 9] = [
    "pooler",
    "cls",
    "lm_head",
    "generator_predictions",
    "generator_lm_head",
    "discriminator_predictions",
    "classifier",
    "qa_outputs",
    "embeddings.token_type_ids",
];

/// Loads the encoder below `prefix` from a folder or file of the Hub. Every tensor of the file is used, but
/// for those of a known head, which [`Report::unexpected`] lists. A pooler (or another layer of
/// [`PooledBert`](crate::encoder::PooledBert)) that the file has not keeps its initial values: masked
/// language models are saved without one.
///
/// # Errors
/// If nothing can be read, or the weights are those of another network: keys that are missing, misshapen or
/// that the network has no place for are listed.
pub fn load_pretrained(params: &Params, prefix: &str, path: &Path, family: Family) -> Result<Report> {
    let ours = read_weights(path, family, Head::None)?;
    let base = format!("{}.", family.model_type());
    // A head in a file of names without a base got it with all the others.
    let unbased = |name: String| match name.strip_prefix(&base) {
        Some(rest) if HEADS.iter().any(|h| rest.split('.').next() == Some(h)) => rest.to_string(),
        Some("embeddings.token_type_ids") => "embeddings.token_type_ids".to_string(),
        _ => name,
    };
    let moved = |name: String| match name.strip_prefix("encoder.") {
        Some(rest) => format!("{prefix}.{rest}"),
        None => unbased(name),
    };
    let ours: BTreeMap<String, Tensor> = ours.into_iter().map(|(k, t)| (moved(k), t)).collect();
    let of_a_head =
        |name: &str| crate::encoder::PooledBert::HEAD.iter().any(|part| name.split('.').next() == Some(part));
    let beside = Beside { heads: &HEADS, may_lack: &of_a_head };
    let back = layout(family, Head::None);
    load_strict(params, prefix, ours, &|name, t| back.their_names(name, t), &beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_kernels::activation::Act;

    #[test]
    fn configurations_go_both_ways() -> Result<()> {
        let path = Path::new("config.json");
        for family in [Family::Bert, Family::Roberta, Family::Electra] {
            let embedding_dim = if family == Family::Electra { 16 } else { 32 };
            let c = BertConfig {
                dim: 32,
                embedding_dim,
                depth: 2,
                heads: 4,
                act: Act::GeluTanh,
                ..BertConfig::base(family, 99)
            };
            assert_eq!(BertConfig::from_hf(&c.to_hf("X"), path)?, c);
            assert_eq!(c.to_hf("X")["hidden_dropout_prob"], json!(0.1));
        }
        Ok(())
    }

    #[test]
    fn what_is_no_such_model_is_refused() {
        let says = |change: Value, part: &str| {
            let mut v = BertConfig::base(Family::Bert, 9).to_hf("X");
            for (k, x) in change.as_object().into_iter().flatten() {
                v[k] = x.clone();
            }
            let e = BertConfig::from_hf(&v, Path::new("d/config.json"))
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(e.contains(part) && e.starts_with("d/config.json"), "{e}");
        };
        says(json!({"model_type": "gpt2"}), "model_type gpt2");
        says(json!({"vocab_size": -1}), "vocab_size = -1");
        says(json!({"vocab_size": null}), "vocab_size = null");
        says(json!({"hidden_act": "swish"}), "hidden_act");
        says(json!({"position_embedding_type": "relative_key"}), "absolute");
        says(json!({"layer_norm_eps": "x"}), "layer_norm_eps");
        says(json!({"is_decoder": true}), "a decoder");
    }
}
