//! The names of the same weights in transformers, continuing from them, and folders that transformers opens.
//!
//! Inside, the trunk has timm's names like every trunk here; transformers' names exist at this border only,
//! for loading, saving and gradients alike. Both spellings of weight normalisation are read (`weight_g`,
//! `weight_v` and `parametrizations`); the newer is written.

use crate::encoder::{Family, FrontNorm, SpeechConfig};
use crate::methods::Wav2Vec2Config;
use selfsup_core::checkpoint::{save_safetensors, write_atomic};
use selfsup_core::weights::{self, Beside, Report, Rule, Rules, load_strict};
use selfsup_core::{Error, Params, Result};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;

fn join(side: &str, rest: &str) -> String {
    if side.is_empty() { rest.to_string() } else { format!("{side}.{rest}") }
}

/// transformers' names below the path `theirs` (`wav2vec2` in a model with a head, else empty) as ours below
/// `ours`. What stands beside the encoder (`lm_head`, `project_q` ...) keeps its name.
///
/// # Errors
/// Never for paths without wildcards.
pub fn rules(theirs: &str, ours: &str) -> Result<Rules> {
    let pairs = [
        ("feature_extractor.conv_layers.*.conv.*", "front.*.conv.*"),
        ("feature_extractor.conv_layers.*.layer_norm.*", "front.*.norm.*"),
        ("feature_projection.layer_norm.*", "projection.norm.*"),
        ("feature_projection.projection.*", "projection.linear.*"),
        ("masked_spec_embed", "mask_token"),
        ("encoder.pos_conv_embed.conv.bias", "positions.bias"),
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original0", "positions.length"),
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original1", "positions.direction"),
        ("encoder.pos_conv_embed.layers.*.conv.*", "positions.*.*"),
        ("encoder.layer_norm.*", "norm.*"),
        ("encoder.layers.*.attention.out_proj.*", "blocks.*.attn.proj.*"),
        ("encoder.layers.*.layer_norm.*", "blocks.*.norm1.*"),
        ("encoder.layers.*.final_layer_norm.*", "blocks.*.norm2.*"),
        ("encoder.layers.*.feed_forward.intermediate_dense.*", "blocks.*.mlp.fc1.*"),
        ("encoder.layers.*.feed_forward.output_dense.*", "blocks.*.mlp.fc2.*"),
    ];
    let mut list: Vec<Rule> =
        pairs.iter().map(|(a, b)| Rule::rename(&join(theirs, a), &join(ours, b))).collect();
    list.push(Rule::concat(
        &join(theirs, "encoder.layers.*.attention.{q_proj,k_proj,v_proj}.*"),
        &join(ours, "blocks.*.attn.qkv.*"),
        0,
    ));
    Rules::new(&list)
}

/// Reads `config.json` of a folder.
///
/// # Errors
/// If it cannot be read or describes another kind of model.
pub fn read_config(dir: &Path) -> Result<SpeechConfig> {
    let path = dir.join("config.json");
    let text = selfsup_core::file::read(&path)?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
    SpeechConfig::from_hf(&json).map_err(|e| Error::file(&path, e))
}

/// Heads of transformers' classes that may stand beside the encoder: CTC, classification (with the weights of
/// its layers), wav2vec 2.0's quantiser, x-vectors, HuBERT's clusters.
const HEADS: [&str; 13] = [
    "lm_head",
    "projector",
    "classifier",
    "layer_weights",
    "quantizer",
    "project_q",
    "project_hid",
    "tdnn",
    "feature_extractor.weight",
    "feature_extractor.bias",
    "objective",
    "final_proj",
    "label_embs_concat",
];

/// Reads weights of a transformers folder (or file) into the parameters below `prefix`, which may be the
/// encoder of a method or of a task. Every tensor of the file is used, but for those of a known head, which
/// [`Report::unexpected`] lists; every parameter of the encoder must be there, but for the mask token, which
/// some files lack.
///
/// # Errors
/// If nothing can be read, or the weights are those of another network: keys that are missing, misshapen or
/// that the network has no place for are listed.
pub fn load_pretrained(params: &Params, prefix: &str, path: &Path) -> Result<Report> {
    let tensors = weights::normalise(weights::read(path)?)?;
    let inside = [Family::Wav2vec2, Family::Hubert, Family::Data2vecAudio].map(Family::prefix);
    let theirs = inside
        .iter()
        .find(|p| tensors.keys().any(|k| k.starts_with(&format!("{p}."))))
        .copied()
        .unwrap_or("");
    let spare = !tensors.contains_key(&join(theirs, "masked_spec_embed"));
    let rules = rules(theirs, prefix)?;
    let ours = rules.to_ours(tensors).map_err(|e| Error::file(path, e))?;
    let beside = Beside { heads: &HEADS, may_lack: &|name| spare && name == "mask_token" };
    load_strict(params, prefix, ours, &|name, t| rules.their_names(name, t), &beside, path)
}

/// What stands on the encoder in a folder.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Head {
    /// Nothing: `AutoModel`.
    #[default]
    None,
    /// `lm_head` over the characters of a vocabulary, as (token, id): `AutoModelForCTC`.
    Ctc(Vec<(String, usize)>),
    /// `projector` of this width and `classifier` over these names: `AutoModelForAudioClassification`.
    Classes(usize, Vec<String>),
    /// `quantizer`, `project_q` and `project_hid` of wav2vec 2.0: `Wav2Vec2ForPreTraining`.
    Quantizer(Wav2Vec2Config),
}

/// Writes `config.json`, `model.safetensors`, `preprocessor_config.json` (and for CTC `vocab.json` and
/// `tokenizer_config.json`) into `dir`, from the parameters below `prefix` and, with a head, those beside it.
/// `normalised` says that waves come with mean 0 and variance 1.
///
/// # Errors
/// If a file cannot be written.
pub fn save_folder(
    dir: &Path,
    params: &Params,
    prefix: &str,
    config: &SpeechConfig,
    head: &Head,
    normalised: bool,
) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let inside = if *head == Head::None { "" } else { config.family.prefix() };
    let mut ours = std::collections::BTreeMap::new();
    for (name, t) in weights::export(params, prefix) {
        ours.insert(format!("encoder.{name}"), t);
    }
    let beside: &[&str] = match head {
        Head::None => &[],
        Head::Ctc(_) => &["lm_head"],
        Head::Classes(..) => &["projector", "classifier"],
        Head::Quantizer(_) => &["quantizer", "project_q", "project_hid"],
    };
    for path in beside {
        for (name, t) in weights::export(params, path) {
            ours.insert(format!("{path}.{name}"), t);
        }
    }
    let theirs = rules(inside, "encoder")?.to_theirs(ours)?;
    save_safetensors(dir.join("model.safetensors"), &theirs.into_iter().collect::<Vec<_>>())?;
    let mut description = config.to_hf();
    let class = config.family.class();
    let architecture = match head {
        Head::None => format!("{class}Model"),
        Head::Ctc(_) => format!("{class}ForCTC"),
        Head::Classes(..) => format!("{class}ForSequenceClassification"),
        Head::Quantizer(_) => format!("{class}ForPreTraining"),
    };
    description.insert("architectures".into(), json!([architecture]));
    match head {
        Head::None => {}
        Head::Ctc(vocabulary) => {
            description.insert("vocab_size".into(), vocabulary.len().into());
            for (key, value) in [
                ("pad_token_id", json!(0)),
                ("ctc_loss_reduction", json!("mean")),
                ("ctc_zero_infinity", json!(true)),
            ] {
                description.insert(key.into(), value);
            }
            let map: Map<String, Value> =
                vocabulary.iter().map(|(token, id)| (token.clone(), json!(id))).collect();
            text(&dir.join("vocab.json"), &Value::Object(map))?;
            let tokenizer = json!({
                "tokenizer_class": "Wav2Vec2CTCTokenizer", "pad_token": "<pad>", "unk_token": "<unk>", "bos_token": null,
                "eos_token": null, "word_delimiter_token": "|", "replace_word_delimiter_char": " ", "do_lower_case": false,
            });
            text(&dir.join("tokenizer_config.json"), &tokenizer)?;
        }
        Head::Classes(width, names) => {
            description.insert("classifier_proj_size".into(), (*width).into());
            description.insert("use_weighted_layer_sum".into(), false.into());
            let label = |i: usize| i.to_string();
            let forth: Map<String, Value> =
                names.iter().enumerate().map(|(i, n)| (label(i), json!(n))).collect();
            let back: Map<String, Value> =
                names.iter().enumerate().map(|(i, n)| (n.clone(), json!(i))).collect();
            description.insert("id2label".into(), Value::Object(forth));
            description.insert("label2id".into(), Value::Object(back));
        }
        Head::Quantizer(c) => {
            for (key, value) in [
                ("num_codevector_groups", json!(c.groups)),
                ("num_codevectors_per_group", json!(c.codes)),
                ("codevector_dim", json!(c.code_dim)),
                ("proj_codevector_dim", json!(c.out_dim)),
                ("num_negatives", json!(c.negatives)),
                ("contrastive_logits_temperature", json!(c.temperature)),
                ("diversity_loss_weight", json!(c.diversity_weight)),
            ] {
                description.insert(key.into(), value);
            }
        }
    }
    text(&dir.join("config.json"), &Value::Object(description))?;
    let preprocessor = json!({
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "sampling_rate": 16_000, "padding_value": 0.0,
        "padding_side": "right", "do_normalize": normalised,
        // With statistics over time in the first convolution the models were trained without a mask, and see
        // padding as silence.
        "return_attention_mask": config.front_norm == FrontNorm::Layer,
    });
    text(&dir.join("preprocessor_config.json"), &preprocessor)
}

fn text(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e))? + "\n";
    write_atomic(path, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
}
