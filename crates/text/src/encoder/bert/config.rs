//! The shape of BERT and its relatives.

use selfsup_core::nn::TransformerConfig;
use selfsup_core::{Error, Init, Result};
use selfsup_kernels::activation::Act;
use serde::{Deserialize, Serialize};

/// Which of the relatives: they differ in positions, in names and in their heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Family {
    /// BERT.
    #[default]
    Bert,
    /// RoBERTa: position of a token = padding id + its number among the tokens, counted from 1.
    Roberta,
    /// ELECTRA's generator and discriminator.
    Electra,
}

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pool {
    /// BERT's pooler: `tanh(W h_0 + b)` of the first token.
    Pooler,
    /// The first token.
    Class,
    /// The mean over all tokens that are no padding.
    #[default]
    Mean,
    /// That of the average of the first and the last block's states (Gao et al. 2021, arXiv 2104.08821, table
    /// 1): the last block serves the task of pre-training, and in ELECTRA that task alone.
    FirstLast,
}

/// The shape of a [`super::Bert`].
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Which relative.
    pub family: Family,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the embeddings; where it differs from `dim` they are projected.
    pub embedding_dim: usize,
    /// Width of the trunk.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the MLPs.
    pub hidden: usize,
    /// Activation of the MLPs and of the heads.
    pub act: Act,
    /// Rows of the position table; RoBERTa uses those from `pad + 1` on.
    pub positions: usize,
    /// Rows of the type table.
    pub types: usize,
    /// The padding token.
    pub pad: u32,
    /// Epsilon of the layer norms.
    pub eps: f64,
    /// Dropout of the embeddings and of the outputs of all parts.
    pub dropout: f32,
    /// Dropout of attention weights.
    pub attention_dropout: f32,
    /// How tokens become one vector.
    pub pool: Pool,
}

impl BertConfig {
    /// BERT base over `vocabulary` tokens (the paper's section 3): 12 blocks of 768, 12 heads, 512 positions,
    /// dropout 0.1.
    pub fn base(family: Family, vocabulary: usize) -> Self {
        let roberta = family == Family::Roberta;
        BertConfig {
            family,
            vocabulary,
            embedding_dim: 768,
            dim: 768,
            depth: 12,
            heads: 12,
            hidden: 3072,
            act: Act::GeluErf,
            // RoBERTa's padding token is 1, and two rows stand before the first position.
            positions: if roberta { 514 } else { 512 },
            types: if roberta { 1 } else { 2 },
            pad: u32::from(roberta),
            eps: if roberta { 1e-5 } else { 1e-12 },
            dropout: 0.1,
            attention_dropout: 0.1,
            pool: Pool::Mean,
        }
    }

    /// The longest sequence that the positions hold.
    pub fn longest(&self) -> usize {
        match self.family {
            Family::Roberta => self.positions.saturating_sub(self.pad as usize + 1),
            _ => self.positions,
        }
    }

    /// How weights are drawn: the paper's truncated normal of deviation 0.02.
    pub(crate) const INIT: Init = Init::TruncNormal(0.02);

    pub(super) fn trunk(&self) -> TransformerConfig {
        TransformerConfig {
            act: self.act,
            pre_norm: false,
            eps: self.eps,
            dropout: self.dropout,
            attention_dropout: self.attention_dropout,
            init: Self::INIT,
            ..TransformerConfig::vit(self.dim, self.depth, self.heads, self.hidden)
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if (self.pad as usize) >= self.vocabulary {
            return Err(Error::config(format!(
                "padding token {} of a vocabulary of {}",
                self.pad, self.vocabulary
            )));
        }
        if self.dim == 0 || self.embedding_dim == 0 || self.types == 0 || self.longest() == 0 {
            return Err(Error::config(format!(
                "a {:?} encoder of width {}, embeddings of {}, {} types and {} positions: each must be at least 1",
                self.family,
                self.dim,
                self.embedding_dim,
                self.types,
                self.longest()
            )));
        }
        for (name, p) in [("dropout", self.dropout), ("attention_dropout", self.attention_dropout)] {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::config(format!("encoder.{name} = {p}: expected a share in [0, 1)")));
            }
        }
        Ok(())
    }
}
