//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file and the Rust interface.
//!
//! A network is a name in [`EncoderConfig::resolve`] and a variant of [`Architecture`]; a method is a variant of [`MethodConfig`], which
//! says how an example gets its labels ([`MethodConfig::prepare`]) and what is trained on them ([`MethodConfig::build`]).

use crate::batch::{Example, Sequences, Vocabulary};
use crate::encoder::{Bert, BertConfig, Family, Pool};
use crate::hf;
use crate::mask::Masking;
use crate::method::{Electra, ElectraConfig, MaskedLm, MaskedLmConfig, SimCse, SimCseConfig};
use selfsup_core::data::Transform;
use selfsup_core::objective::Objective;
use selfsup_core::weights::Report;
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `[encoder]`: a standard network by name; the other keys change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// `bert`, `roberta` or `electra` (12 blocks of 768 unless the other keys say so).
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
    /// Width inside the perceptrons, as a multiple of `dim` (4).
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
    /// How tokens become one vector: `mean`, `class` or `pooler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Start from these weights: a folder with `config.json` and `model.safetensors`, whose shape then counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig {
            name: "bert".into(),
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

/// A resolved network.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// BERT, RoBERTa or ELECTRA.
    Bert(BertConfig),
}

impl Architecture {
    /// Builds the encoder alone in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn build(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Architecture::Bert(c) => Box::new(Bert::new(scope, c.clone())?),
        })
    }

    /// The longest sequence that the network takes.
    pub fn longest(&self) -> usize {
        match self {
            Architecture::Bert(c) => c.longest(),
        }
    }

    /// Loads the weights of the encoder at `prefix` from a folder or file in transformers' layout.
    ///
    /// # Errors
    /// If nothing can be read, or the weights are those of another network.
    pub fn load(&self, params: &Params, prefix: &str, path: &Path) -> Result<Report> {
        match self {
            Architecture::Bert(c) => hf::load_pretrained(params, prefix, path, c.family),
        }
    }
}

impl EncoderConfig {
    /// Names of the networks.
    pub const NAMES: [&'static str; 3] = ["bert", "roberta", "electra"];

    /// The network over the tokens of `vocabulary`.
    ///
    /// # Errors
    /// If the name is unknown, sizes do not fit, or a pre-trained network has a smaller vocabulary than the tokenizer.
    pub fn resolve(&self, vocabulary: &Vocabulary) -> Result<Architecture> {
        let architecture = match &self.pretrained {
            Some(folder) => self.pretrained(Path::new(folder))?,
            None => match self.name.as_str() {
                "bert" => Architecture::Bert(self.bert(Family::Bert, vocabulary)),
                "roberta" => Architecture::Bert(self.bert(Family::Roberta, vocabulary)),
                "electra" => Architecture::Bert(self.bert(Family::Electra, vocabulary)),
                other => return Err(Error::config(format!("encoder.name = \"{other}\": expected {}", Self::NAMES.join(", ")))),
            },
        };
        let held = match &architecture {
            Architecture::Bert(c) => c.vocabulary,
        };
        if held < vocabulary.size {
            return Err(Error::config(format!(
                "the tokenizer has {} tokens, the encoder embeddings of {held}: they belong to different models",
                vocabulary.size
            )));
        }
        Ok(architecture)
    }

    fn bert(&self, family: Family, vocabulary: &Vocabulary) -> BertConfig {
        let base = BertConfig::base(family, vocabulary.size);
        let dim = self.dim.unwrap_or(base.dim);
        let dropout = self.dropout.unwrap_or(base.dropout);
        // RoBERTa's positions begin behind the padding token.
        let before = if family == Family::Roberta { vocabulary.pad as usize + 1 } else { 0 };
        BertConfig {
            dim,
            depth: self.depth.unwrap_or(base.depth),
            heads: self.heads.unwrap_or((dim / 64).max(1)),
            hidden: (dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize,
            embedding_dim: self.embedding_dim.filter(|_| family == Family::Electra).unwrap_or(dim),
            positions: self.positions.unwrap_or(512) + before,
            pad: vocabulary.pad,
            dropout,
            attention_dropout: dropout,
            pool: self.pool.unwrap_or_default(),
            ..base
        }
    }

    fn pretrained(&self, folder: &Path) -> Result<Architecture> {
        let value = hf::read_config(folder)?;
        let mut c = BertConfig::from_hf(&value, &folder.join("config.json"))?;
        c.pool = self.pool.unwrap_or(c.pool);
        if let Some(p) = self.dropout {
            (c.dropout, c.attention_dropout) = (p, p);
        }
        Ok(Architecture::Bert(c))
    }
}

/// `[method]`: `name` and the method's own keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum MethodConfig {
    /// Masked language modelling: BERT, RoBERTa.
    MaskedLm(MaskedLmConfig),
    /// ELECTRA.
    Electra(ElectraConfig),
    /// SimCSE.
    Simcse(SimCseConfig),
}

impl Default for MethodConfig {
    fn default() -> Self {
        MethodConfig::MaskedLm(MaskedLmConfig::default())
    }
}

impl MethodConfig {
    /// Every method's name.
    pub const NAMES: [&'static str; 3] = ["masked-lm", "electra", "simcse"];

    /// The defaults of a method.
    ///
    /// # Errors
    /// If there is no such method.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "masked-lm" => MethodConfig::MaskedLm(MaskedLmConfig::default()),
            "electra" => MethodConfig::Electra(ElectraConfig::default()),
            "simcse" => MethodConfig::Simcse(SimCseConfig::default()),
            other => return Err(Error::config(format!("method.name = \"{other}\": expected one of {}", Self::NAMES.join(", ")))),
        })
    }

    /// The method's name.
    pub fn name(&self) -> &'static str {
        match self {
            MethodConfig::MaskedLm(_) => "masked-lm",
            MethodConfig::Electra(_) => "electra",
            MethodConfig::Simcse(_) => "simcse",
        }
    }

    /// What writes an example's labels when it is read: masks, spans, the next token.
    ///
    /// # Errors
    /// If the method needs a token that the vocabulary has not.
    pub fn prepare(&self, vocabulary: &Vocabulary) -> Result<Prepare> {
        Ok(match self {
            MethodConfig::MaskedLm(c) => Box::new(Masking::new(c.masking.clone(), vocabulary)?),
            MethodConfig::Electra(c) => Box::new(Masking::new(c.masking.clone(), vocabulary)?),
            MethodConfig::Simcse(_) => Box::new(|e: Example, _: &mut selfsup_core::Rng| Ok(e)),
        })
    }

    /// Builds the method around the network in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or the method needs another kind of network.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        Ok(match (self, architecture) {
            (MethodConfig::MaskedLm(c), Architecture::Bert(e)) => Box::new(MaskedLm::new(scope, e.clone(), c)?),
            (MethodConfig::Electra(c), Architecture::Bert(e)) => Box::new(Electra::new(scope, e.clone(), c.clone())?),
            (MethodConfig::Simcse(c), Architecture::Bert(e)) => Box::new(SimCse::new(scope, e.clone(), c.clone())?),
        })
    }
}

/// What turns an example into one with labels.
pub type Prepare = Box<dyn Transform<Example, Out = Example>>;

/// Any method over token sequences.
pub type Method = Box<dyn Objective<Batch = Sequences>>;

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn vocabulary() -> Vocabulary {
        Vocabulary { size: 30, pad: 1, mask: Some(4), special: vec![0, 1, 2, 3, 4], ..Vocabulary::default() }
    }

    #[test]
    fn names_and_defaults() -> Result<()> {
        for name in MethodConfig::NAMES {
            let method = MethodConfig::named(name)?;
            assert_eq!(method.name(), name);
            method.prepare(&vocabulary())?;
            let small = EncoderConfig { dim: Some(64), depth: Some(1), positions: Some(16), ..EncoderConfig::default() };
            let built = method.build(&Scope::root(&Params::new(), 0, &Device::Cpu), &small.resolve(&vocabulary())?)?;
            assert_eq!(built.encoder().dim(), 64);
        }
        assert!(MethodConfig::named("bert").is_err());
        let other = EncoderConfig { name: "bart".into(), ..EncoderConfig::default() };
        assert!(other.resolve(&vocabulary()).is_err());
        Ok(())
    }

    #[test]
    fn positions_and_heads_follow_the_width() -> Result<()> {
        let c = EncoderConfig { name: "roberta".into(), dim: Some(256), positions: Some(128), ..EncoderConfig::default() };
        let a = c.resolve(&vocabulary())?;
        let Architecture::Bert(b) = &a;
        assert_eq!((b.heads, b.hidden, b.positions, b.pad, a.longest()), (4, 1024, 130, 1, 128));
        Ok(())
    }
}
