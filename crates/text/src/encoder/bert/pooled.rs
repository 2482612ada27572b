//! The vector that a family's classifier of sequences starts from, as in transformers: the same encoder with
//! `g` as its pooling.
//!
//! BERT: `g = tanh(W h_0 + b)`, its pooler. RoBERTa: `g = tanh(W drop(h_0) + b)`, ELECTRA: `g = gelu(W
//! drop(h_0) + b)`, a layer of the classifier. A linear layer behind dropout makes classes of it.

use super::{Bert, BertConfig, Family, Pool, drop_out};
use candle_core::Tensor;
use selfsup_core::nn::Linear;
use selfsup_core::{Encoder, Features, Layer, Pass, Result, Scope};
use selfsup_kernels::activation::Act;

/// The encoder of a classifier.
pub struct PooledBert {
    encoder: Bert,
    /// Of the families whose pooling is a layer of the classifier.
    dense: Option<Linear>,
    name: String,
}

impl PooledBert {
    /// What of the encoder's parameters belongs to the classifier: its first parts, `pooler` for BERT, `head`
    /// for the others.
    pub const HEAD: [&'static str; 2] = ["pooler", "head"];

    /// The encoder in `scope` with the pooling of its family. That layer is new where the encoder was trained
    /// without it: keep it trained where the encoder is frozen.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: &BertConfig) -> Result<Self> {
        let own = config.family != Family::Bert;
        let pool = if own { Pool::Class } else { Pool::Pooler };
        let encoder = Bert::new(scope, BertConfig { pool, ..config.clone() })?;
        let head = scope.top().sub("head");
        let name = head.path().to_string();
        let dense = if own {
            Some(Linear::new(&head, config.dim, config.dim, true, BertConfig::INIT)?)
        } else {
            None
        };
        Ok(PooledBert { encoder, dense, name })
    }
}

impl Encoder for PooledBert {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        let features = self.encoder.forward(x, valid, want, pass)?;
        let Some(dense) = &self.dense else { return Ok(features) };
        let c = self.encoder.config();
        let first = drop_out(features.pooled, c.dropout, &self.name, pass)?;
        let pooled = match c.family {
            // transformers takes the erf form here whatever the activation of the trunk.
            Family::Electra => dense.forward_act(&first, Act::GeluErf, pass)?,
            _ => dense.forward(&first, pass)?.tanh()?,
        };
        Ok(Features { pooled, ..features })
    }

    fn dim(&self) -> usize {
        self.encoder.dim()
    }
}
