//! `[encoder]`: which network, over which tokens, from which weights.

use crate::batch::Vocabulary;
use crate::encoder::{Bert, BertConfig, Family, Gpt2, Gpt2Config, Pool, T5, T5Config};
use crate::folder;
use crate::hf;
use selfsup_core::weights::Report;
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The keys of BERT and RoBERTa.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BertKeys {
    /// `bert` or `roberta`: 12 blocks of 768 unless the other keys say so.
    pub name: String,
    /// Width of the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Attention heads; by default one for each 64 of the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Width inside the MLPs, as a multiple of `dim` (4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// The longest sequence (512).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Dropout of embeddings, of the outputs of all parts and of attention weights (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
    /// How tokens become one vector: `mean`, `first-last`, `class` or `pooler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Start from these weights: a folder with `config.json` and `model.safetensors`, whose shape then
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for BertKeys {
    fn default() -> Self {
        BertKeys {
            name: "bert".into(),
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            positions: None,
            dropout: None,
            pool: None,
            pretrained: None,
        }
    }
}

/// The keys of ELECTRA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ElectraKeys {
    /// `electra`: 12 blocks of 768 unless the other keys say so.
    pub name: String,
    /// Width of the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Attention heads; by default one for each 64 of the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Width inside the MLPs, as a multiple of `dim` (4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// Width of the embeddings; by default that of the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_dim: Option<usize>,
    /// The longest sequence (512).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Dropout of embeddings, of the outputs of all parts and of attention weights (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
    /// How tokens become one vector: `mean`, `first-last`, `class` or `pooler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Start from these weights: a folder with `config.json` and `model.safetensors`, whose shape then
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for ElectraKeys {
    fn default() -> Self {
        ElectraKeys {
            name: "electra".into(),
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            embedding_dim: None,
            positions: None,
            dropout: None,
            pool: None,
            pretrained: None,
        }
    }
}

/// The keys of GPT-2: a published size by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpt2Keys {
    /// `gpt2` (12 blocks of 768), `gpt2_medium`, `gpt2_large` or `gpt2_xl`.
    pub name: String,
    /// Width of the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Attention heads; by default one for each 64 of the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Width inside the MLPs, as a multiple of `dim` (4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// The longest sequence (1,024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Dropout of embeddings, of the outputs of all parts and of attention weights (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
    /// Start from these weights: a folder with `config.json` and `model.safetensors`, whose shape then
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for Gpt2Keys {
    fn default() -> Self {
        Gpt2Keys {
            name: "gpt2".into(),
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            positions: None,
            dropout: None,
            pretrained: None,
        }
    }
}

/// The keys of T5: a published size by name; the others change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct T5Keys {
    /// `t5` (as `t5_base`: 12 blocks of 768), `t5_small`, `t5_large`, `t5_1_1_small`, `t5_1_1_base` or
    /// `t5_1_1_large`.
    pub name: String,
    /// Width of the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Attention heads; by default one for each 64 of the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Width inside the MLPs, as a multiple of `dim` (4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// Dropout of embeddings, of the outputs of all parts and of attention weights (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
    /// Start from these weights: a folder with `config.json` and `model.safetensors`, whose shape then
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for T5Keys {
    fn default() -> Self {
        T5Keys {
            name: "t5".into(),
            dim: None,
            depth: None,
            heads: None,
            mlp_ratio: None,
            dropout: None,
            pretrained: None,
        }
    }
}

selfsup_core::encoder_config! {
    /// `[encoder]`: the keys of a network, whose name says which they are.
    pub enum EncoderConfig {
        /// BERT and RoBERTa.
        Bert(BertKeys) = ["bert", "roberta"],
        /// ELECTRA.
        Electra(ElectraKeys) = ["electra"],
        /// GPT-2.
        Gpt2(Gpt2Keys) = ["gpt2", "gpt2_medium", "gpt2_large", "gpt2_xl"],
        /// T5.
        T5(T5Keys) = [
            "t5", "t5_small", "t5_base", "t5_large", "t5_1_1_small", "t5_1_1_base", "t5_1_1_large",
        ],
    }
}

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// BERT, RoBERTa or ELECTRA.
    Bert(BertConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
    /// T5: encoder and decoder.
    T5(T5Config),
}

impl Architecture {
    /// Builds the encoder alone in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn build(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Architecture::Bert(c) => Box::new(Bert::new(scope, c.clone())?),
            Architecture::Gpt2(c) => Box::new(Gpt2::new(scope, c.clone())?),
            Architecture::T5(c) => Box::new(T5::new(scope, c.clone())?),
        })
    }

    /// The longest sequence that the network takes.
    pub fn longest(&self) -> usize {
        match self {
            Architecture::Bert(c) => c.longest(),
            Architecture::Gpt2(c) => c.positions,
            Architecture::T5(_) => usize::MAX,
        }
    }

    /// Number of token ids that it has embeddings for.
    pub fn vocabulary(&self) -> usize {
        match self {
            Architecture::Bert(c) => c.vocabulary,
            Architecture::Gpt2(c) => c.vocabulary,
            Architecture::T5(c) => c.vocabulary,
        }
    }

    /// Loads the weights of the encoder at `prefix` from a folder or file in transformers' layout.
    ///
    /// # Errors
    /// If nothing can be read, or the weights are those of another network; of GPT-2 and a tied T5, if the
    /// file's head is not its table of tokens.
    pub fn load(&self, params: &Params, prefix: &str, path: &Path) -> Result<Report> {
        match self {
            Architecture::Bert(c) => hf::load_pretrained(params, prefix, path, c.family),
            Architecture::Gpt2(_) => {
                folder::tied(path, "lm_head.weight", "wte.weight")?;
                folder::load(params, prefix, path, &Gpt2::rules()?, "transformer", &Gpt2::HEADS)
            }
            Architecture::T5(c) => T5::load(params, prefix, path, c),
        }
    }
}

impl EncoderConfig {
    /// How tokens become one vector, where it is given.
    pub fn pool(&self) -> Option<Pool> {
        match self {
            EncoderConfig::Bert(c) => c.pool,
            EncoderConfig::Electra(c) => c.pool,
            EncoderConfig::Gpt2(_) | EncoderConfig::T5(_) => None,
        }
    }

    fn dropout(&self) -> Option<f32> {
        match self {
            EncoderConfig::Bert(c) => c.dropout,
            EncoderConfig::Electra(c) => c.dropout,
            EncoderConfig::Gpt2(c) => c.dropout,
            EncoderConfig::T5(c) => c.dropout,
        }
    }

    /// The network over the tokens of `vocabulary`.
    ///
    /// # Errors
    /// If the name is unknown, sizes do not fit, or a pre-trained network has a smaller vocabulary than the
    /// tokenizer.
    pub fn resolve(&self, vocabulary: &Vocabulary) -> Result<Architecture> {
        let unknown = || {
            let known = Self::NAMES.join(", ");
            Error::config(format!("encoder.name = \"{}\": expected one of {known}", self.name()))
        };
        let architecture = match (self, self.pretrained()) {
            (_, Some(folder)) => self.read(Path::new(folder))?,
            (EncoderConfig::Bert(c), None) => Architecture::Bert(c.resolve(vocabulary).ok_or_else(unknown)?),
            (EncoderConfig::Electra(c), None) => Architecture::Bert(c.resolve(vocabulary)),
            (EncoderConfig::Gpt2(c), None) => Architecture::Gpt2(c.resolve(vocabulary).ok_or_else(unknown)?),
            (EncoderConfig::T5(c), None) => Architecture::T5(c.resolve(vocabulary)?.ok_or_else(unknown)?),
        };
        let held = architecture.vocabulary();
        if held < vocabulary.size {
            return Err(Error::config(format!(
                "the tokenizer has {} tokens, the encoder embeddings of {held}: they belong to different models",
                vocabulary.size
            )));
        }
        Ok(architecture)
    }

    /// The network whose `config.json` lies in `folder`.
    fn read(&self, folder: &Path) -> Result<Architecture> {
        let value = hf::read_config(folder)?;
        let path = folder.join("config.json");
        match value.get("model_type").and_then(serde_json::Value::as_str) {
            Some("gpt2") => {
                let c = Gpt2Config::from_hf(&value, &path)?;
                return Ok(Architecture::Gpt2(self.dropout().map_or(c.clone(), |p| c.with_dropout(p))));
            }
            Some("t5") => {
                let c = T5Config::from_hf(&value, &path)?;
                return Ok(Architecture::T5(T5Config { dropout: self.dropout().unwrap_or(c.dropout), ..c }));
            }
            _ => {}
        }
        let mut c = BertConfig::from_hf(&value, &path)?;
        c.pool = self.pool().unwrap_or(c.pool);
        if let Some(p) = self.dropout() {
            (c.dropout, c.attention_dropout) = (p, p);
        }
        Ok(Architecture::Bert(c))
    }
}

impl BertKeys {
    fn resolve(&self, vocabulary: &Vocabulary) -> Option<BertConfig> {
        // RoBERTa's positions begin behind the padding token.
        let (family, before) = match self.name.as_str() {
            "bert" => (Family::Bert, 0),
            "roberta" => (Family::Roberta, vocabulary.pad as usize + 1),
            _ => return None,
        };
        let base = BertConfig::base(family, vocabulary.size);
        let dim = self.dim.unwrap_or(base.dim);
        let dropout = self.dropout.unwrap_or(base.dropout);
        Some(BertConfig {
            dim,
            depth: self.depth.unwrap_or(base.depth),
            heads: self.heads.unwrap_or((dim / 64).max(1)),
            hidden: (dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize,
            embedding_dim: dim,
            positions: self.positions.unwrap_or(512) + before,
            pad: vocabulary.pad,
            dropout,
            attention_dropout: dropout,
            pool: self.pool.unwrap_or_default(),
            ..base
        })
    }
}

impl ElectraKeys {
    fn resolve(&self, vocabulary: &Vocabulary) -> BertConfig {
        let base = BertConfig::base(Family::Electra, vocabulary.size);
        let dim = self.dim.unwrap_or(base.dim);
        let dropout = self.dropout.unwrap_or(base.dropout);
        BertConfig {
            dim,
            depth: self.depth.unwrap_or(base.depth),
            heads: self.heads.unwrap_or((dim / 64).max(1)),
            hidden: (dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize,
            embedding_dim: self.embedding_dim.unwrap_or(dim),
            positions: self.positions.unwrap_or(512),
            pad: vocabulary.pad,
            dropout,
            attention_dropout: dropout,
            pool: self.pool.unwrap_or_default(),
            ..base
        }
    }
}

impl Gpt2Keys {
    fn resolve(&self, vocabulary: &Vocabulary) -> Option<Gpt2Config> {
        let base = Gpt2Config::named(&self.name, vocabulary.size)?;
        let dim = self.dim.unwrap_or(base.trunk.dim);
        let heads = self.heads.unwrap_or((dim / 64).max(1));
        let positions = self.positions.unwrap_or(base.positions);
        let mut c =
            Gpt2Config::new(vocabulary.size, positions, dim, self.depth.unwrap_or(base.trunk.depth), heads);
        c.trunk.hidden = (dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize;
        c.end = vocabulary.end;
        Some(match self.dropout {
            Some(p) => c.with_dropout(p),
            None => c,
        })
    }
}

impl T5Keys {
    fn resolve(&self, vocabulary: &Vocabulary) -> Result<Option<T5Config>> {
        let name = if self.name == "t5" { "t5_base" } else { &self.name };
        let Some(mut c) = T5Config::named(name, vocabulary.size) else { return Ok(None) };
        if let Some(dim) = self.dim {
            let heads = self.heads.unwrap_or((dim / 64).max(1));
            (c.dim, c.heads, c.head_dim, c.hidden) = (dim, heads, dim / heads.max(1), 4 * dim);
        }
        c.heads = self.heads.unwrap_or(c.heads);
        c.depth = self.depth.unwrap_or(c.depth);
        c.decoder_depth = self.depth.unwrap_or(c.decoder_depth);
        if let Some(ratio) = self.mlp_ratio {
            c.hidden = (c.dim as f64 * ratio) as usize;
        }
        c.dropout = self.dropout.unwrap_or(c.dropout);
        c.pad = vocabulary.pad;
        c.end = vocabulary.end.ok_or_else(|| {
            Error::config("the tokenizer has no token that ends a text (</s>): T5 needs one")
        })?;
        Ok(Some(c))
    }
}
