//! The shape of a T5, and transformers' config.json.

use crate::json::{Keys, short};
use selfsup_core::{Error, Result};
use selfsup_kernels::activation::Act;
use serde_json::{Value, json};
use std::path::Path;

/// Shape and regularisation of a [`super::T5`].
#[derive(Clone, Debug, PartialEq)]
pub struct T5Config {
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of a token.
    pub dim: usize,
    /// Blocks of the encoder.
    pub depth: usize,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head; `heads * head_dim` need not be `dim`.
    pub head_dim: usize,
    /// Width inside the MLPs.
    pub hidden: usize,
    /// Their activation.
    pub act: Act,
    /// Whether they are gated (T5 1.1).
    pub gated: bool,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Dropout, everywhere.
    pub dropout: f32,
    /// Buckets of relative positions.
    pub buckets: usize,
    /// Distances from here on share the last bucket.
    pub max_distance: usize,
    /// Whether the table of tokens is also the head (T5; not T5 1.1).
    pub tied: bool,
    /// Whether the decoder's output is scaled by `dim^-0.5` before the head (T5; not T5 1.1).
    pub scaled: bool,
    /// The padding token, which is also what the decoder starts from.
    pub pad: u32,
    /// The token that ends a text.
    pub end: u32,
}

impl T5Config {
    /// A model of this shape with T5's defaults: as many blocks in the decoder, heads of `dim / heads`,
    /// MLPs four times as wide with ReLU, tied, dropout 0.1.
    pub fn new(vocabulary: usize, dim: usize, depth: usize, heads: usize) -> Self {
        T5Config {
            vocabulary,
            dim,
            depth,
            decoder_depth: depth,
            heads,
            head_dim: dim / heads.max(1),
            hidden: 4 * dim,
            act: Act::Relu,
            gated: false,
            eps: 1e-6,
            dropout: 0.1,
            buckets: 32,
            max_distance: 128,
            tied: true,
            scaled: true,
            pad: 0,
            end: 1,
        }
    }

    /// A standard size by name: `t5_small`, `t5_base`, `t5_large`, and `t5_1_1_small`, `t5_1_1_base`,
    /// `t5_1_1_large` (gated, untied).
    pub fn named(name: &str, vocabulary: usize) -> Option<Self> {
        let (dim, depth, heads, hidden) = match name.trim_start_matches("t5_").trim_start_matches("1_1_") {
            "small" => (
                512,
                if name.contains("1_1") { 8 } else { 6 },
                if name.contains("1_1") { 6 } else { 8 },
                2048,
            ),
            "base" => (768, 12, 12, 3072),
            "large" => (1024, 24, 16, 4096),
            _ => return None,
        };
        let mut c = T5Config { hidden, head_dim: 64, ..T5Config::new(vocabulary, dim, depth, heads) };
        if name.starts_with("t5_1_1_") {
            c.hidden = [("small", 1024), ("base", 2048), ("large", 2816)]
                .iter()
                .find(|(n, _)| name.ends_with(n))
                .map_or(hidden, |(_, h)| *h);
            (c.gated, c.tied, c.scaled, c.act) = (true, false, false, Act::GeluTanh);
        } else if !name.starts_with("t5_") {
            return None;
        }
        Some(c)
    }

    /// From transformers' configuration `value`, read from `path`.
    ///
    /// # Errors
    /// If a size is absent, or an activation is unknown.
    pub fn from_hf(value: &Value, path: &Path) -> Result<Self> {
        let c = Keys { value, path };
        c.of_kind("t5")?;
        let mut out = T5Config::new(
            c.whole("vocab_size", None)?,
            c.whole("d_model", None)?,
            c.whole("num_layers", None)?,
            c.whole("num_heads", None)?,
        );
        out.decoder_depth = c.whole("num_decoder_layers", Some(out.depth))?;
        out.head_dim = c.whole("d_kv", None)?;
        out.hidden = c.whole("d_ff", None)?;
        let kind = c.text("feed_forward_proj").unwrap_or("relu");
        (out.gated, out.act) = match kind {
            "relu" => (false, Act::Relu),
            "gelu" => (false, Act::GeluErf),
            "gated-relu" => (true, Act::Relu),
            // transformers reads this name as the tanh form, for the published checkpoints' sake.
            "gated-gelu" => (true, Act::GeluTanh),
            _ => {
                return Err(Error::file(
                    path,
                    format!("feed_forward_proj = \"{kind}\": expected relu, gelu, gated-relu or gated-gelu"),
                ));
            }
        };
        out.eps = c.number("layer_norm_epsilon", 1e-6)?;
        out.dropout = c.number("dropout_rate", 0.1)? as f32;
        out.buckets = c.whole("relative_attention_num_buckets", Some(32))?;
        out.max_distance = c.whole("relative_attention_max_distance", Some(128))?;
        out.tied = c.flag("tie_word_embeddings", true);
        // transformers 5 writes T5 1.1 as tied with outputs that are not scaled; its head is in the file.
        out.scaled = c.flag("scale_decoder_outputs", out.tied);
        out.tied = out.tied && out.scaled;
        out.pad = c.whole("pad_token_id", Some(0))? as u32;
        out.end = c.whole("eos_token_id", Some(1))? as u32;
        let start = c.whole("decoder_start_token_id", Some(out.pad as usize))?;
        if start != out.pad as usize {
            return Err(Error::file(
                path,
                format!("decoder_start_token_id = {start}: expected the padding token {}", out.pad),
            ));
        }
        Ok(out)
    }

    /// transformers' config.json.
    pub fn to_hf(&self) -> Value {
        let act = match self.act {
            Act::GeluErf | Act::GeluTanh => "gelu",
            _ => "relu",
        };
        json!({
            "model_type": "t5",
            "architectures": ["T5ForConditionalGeneration"],
            "is_encoder_decoder": true,
            "vocab_size": self.vocabulary,
            "d_model": self.dim,
            "d_kv": self.head_dim,
            "d_ff": self.hidden,
            "num_layers": self.depth,
            "num_decoder_layers": self.decoder_depth,
            "num_heads": self.heads,
            "feed_forward_proj": if self.gated { format!("gated-{act}") } else { act.to_string() },
            "layer_norm_epsilon": self.eps,
            "dropout_rate": short(self.dropout),
            "relative_attention_num_buckets": self.buckets,
            "relative_attention_max_distance": self.max_distance,
            "tie_word_embeddings": self.tied,
            "scale_decoder_outputs": self.scaled,
            "pad_token_id": self.pad,
            "decoder_start_token_id": self.pad,
            "eos_token_id": self.end,
            "torch_dtype": "float32",
        })
    }

    pub(super) fn check(&self) -> Result<()> {
        let sizes = [
            self.vocabulary,
            self.dim,
            self.depth,
            self.decoder_depth,
            self.heads,
            self.head_dim,
            self.hidden,
        ];
        if sizes.contains(&0) {
            return Err(Error::config(format!("encoder: a size of T5 is 0 in {self:?}")));
        }
        if self.buckets < 4 || !self.buckets.is_multiple_of(2) || self.max_distance <= self.buckets / 2 {
            return Err(Error::config(format!(
                "encoder: {} buckets up to a distance of {}: expected an even number from 4 on, and a distance above half of it",
                self.buckets, self.max_distance
            )));
        }
        let top = self.vocabulary as u32;
        if self.pad >= top || self.end >= top {
            return Err(Error::config(format!(
                "encoder: padding token {} and end {} of a vocabulary of {top}",
                self.pad, self.end
            )));
        }
        Ok(())
    }
}
