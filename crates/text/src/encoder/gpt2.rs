//! GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"): a causal transformer
//! over tokens.
//!
//! `h = norm(blocks(wte[ids] + wpe[0..L]))`, scores of the next token `h wte^T`: the table of tokens is also
//! the head. Blocks normalise before each part; weights are drawn with deviation 0.02, those of projections
//! into the residual with `0.02 / sqrt(2 depth)`.
//!
//! Padding stands behind the text, where a causal model never looks, so it needs no mask.

use crate::json::{Keys, act_name, short};
use candle_core::{Device, Tensor};
use selfsup_core::encoder::HiddenLayers;
use selfsup_core::nn::{Embedding, KvCache, LayerNorm, Transformer, TransformerConfig};
use selfsup_core::weights::{Rule, Rules};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope};
use selfsup_kernels::Path as Route;
use selfsup_kernels::activation::Act;
use selfsup_kernels::dropout::dropout;
use selfsup_kernels::embedding::embedding;
use selfsup_kernels::linear::linear;
use serde_json::{Value, json};
use std::path::Path;

/// Shape and regularisation of a [`Gpt2`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2Config {
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence.
    pub positions: usize,
    /// The trunk; causal, normalisation before.
    pub trunk: TransformerConfig,
    /// Dropout of the sum of token and position.
    pub embedding_dropout: f32,
    /// Token that ends a text, written into config.json.
    pub end: Option<u32>,
}

impl Gpt2Config {
    /// A model of this shape with GPT-2's defaults: MLPs four times as wide, tanh GELU, epsilon 1e-5,
    /// dropout 0.1.
    pub fn new(vocabulary: usize, positions: usize, dim: usize, depth: usize, heads: usize) -> Self {
        let deviation = 0.02;
        Gpt2Config {
            vocabulary,
            positions,
            trunk: TransformerConfig {
                act: Act::GeluTanh,
                eps: 1e-5,
                causal: true,
                dropout: 0.1,
                attention_dropout: 0.1,
                init: Init::Normal(deviation),
                residual_init: Some(Init::Normal(deviation / (2.0 * depth.max(1) as f32).sqrt())),
                ..TransformerConfig::vit(dim, depth, heads, 4 * dim)
            },
            embedding_dropout: 0.1,
            end: None,
        }
    }

    /// A standard size by name: `gpt2`, `gpt2_medium`, `gpt2_large`, `gpt2_xl` (1,024 positions).
    pub fn named(name: &str, vocabulary: usize) -> Option<Self> {
        let (dim, depth, heads) = match name {
            "gpt2" => (768, 12, 12),
            "gpt2_medium" => (1024, 24, 16),
            "gpt2_large" => (1280, 36, 20),
            "gpt2_xl" => (1600, 48, 25),
            _ => return None,
        };
        Some(Gpt2Config::new(vocabulary, 1024, dim, depth, heads))
    }

    /// All dropout set to `p`.
    #[must_use]
    pub fn with_dropout(mut self, p: f32) -> Self {
        (self.embedding_dropout, self.trunk.dropout, self.trunk.attention_dropout) = (p, p, p);
        self
    }

    /// From transformers' configuration `value`, read from `path`.
    ///
    /// # Errors
    /// If a size is absent, or it describes what this model is not (an untied head, scaled attention).
    pub fn from_hf(value: &Value, path: &Path) -> Result<Self> {
        let c = Keys { value, path };
        c.of_kind("gpt2")?;
        let same = [
            ("scale_attn_weights", true),
            ("scale_attn_by_inverse_layer_idx", false),
            ("tie_word_embeddings", true),
            ("add_cross_attention", false),
        ];
        if let Some((key, expected)) =
            same.into_iter().find(|(key, expected)| c.flag(key, *expected) != *expected)
        {
            return Err(Error::file(path, format!("{key} = {}: expected {expected}", !expected)));
        }
        let mut out = Gpt2Config::new(
            c.whole("vocab_size", None)?,
            c.whole("n_positions", None)?,
            c.whole("n_embd", None)?,
            c.whole("n_layer", None)?,
            c.whole("n_head", None)?,
        );
        out.trunk.hidden = c.whole("n_inner", Some(4 * out.trunk.dim))?;
        if c.text("activation_function").is_some() {
            out.trunk.act = c.act("activation_function")?;
        }
        out.trunk.eps = c.number("layer_norm_epsilon", 1e-5)?;
        out.trunk.dropout = c.number("resid_pdrop", 0.1)? as f32;
        out.trunk.attention_dropout = c.number("attn_pdrop", 0.1)? as f32;
        out.embedding_dropout = c.number("embd_pdrop", 0.1)? as f32;
        out.end = value.get("eos_token_id").and_then(Value::as_u64).map(|v| v as u32);
        Ok(out)
    }

    /// transformers' config.json.
    pub fn to_hf(&self) -> Value {
        let t = &self.trunk;
        json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": self.vocabulary,
            "n_positions": self.positions,
            "n_embd": t.dim,
            "n_layer": t.depth,
            "n_head": t.heads,
            "n_inner": t.hidden,
            "activation_function": act_name(t.act),
            "layer_norm_epsilon": t.eps,
            "resid_pdrop": short(t.dropout),
            "attn_pdrop": short(t.attention_dropout),
            "embd_pdrop": short(self.embedding_dropout),
            "bos_token_id": self.end,
            "eos_token_id": self.end,
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        })
    }

    /// Refuses what cannot be built.
    fn check(&self) -> Result<()> {
        if self.vocabulary == 0 || self.positions == 0 || self.trunk.dim == 0 {
            return Err(Error::config(format!(
                "encoder: a vocabulary of {}, {} positions and a width of {}: expected at least 1 of each",
                self.vocabulary, self.positions, self.trunk.dim
            )));
        }
        if !self.trunk.causal {
            return Err(Error::config("encoder: GPT-2 is causal"));
        }
        Ok(())
    }
}

/// The model. Its `pooled` features are the mean over the tokens of a sequence.
pub struct Gpt2 {
    config: Gpt2Config,
    name: String,
    tokens: Embedding,
    positions: Embedding,
    trunk: Transformer,
    norm: LayerNorm,
}

impl Gpt2 {
    /// Builds the model: `wte`, `wpe`, `blocks.0` ..., `norm`.
    ///
    /// # Errors
    /// If a size is 0 or the heads do not divide the width.
    pub fn new(scope: &Scope, config: Gpt2Config) -> Result<Self> {
        config.check()?;
        let (dim, init) = (config.trunk.dim, config.trunk.init);
        Ok(Gpt2 {
            name: scope.path().to_string(),
            tokens: Embedding::new(&scope.sub("wte").stem(), config.vocabulary, dim, init)?,
            positions: Embedding::new(&scope.sub("wpe").stem(), config.positions, dim, init)?,
            trunk: Transformer::new(&scope.sub("blocks"), &config.trunk)?,
            norm: LayerNorm::new(&scope.sub("norm").top(), dim, config.trunk.eps)?,
            config,
        })
    }

    /// Heads of transformers' classes that may stand beside the model.
    pub const HEADS: [&'static str; 4] = ["score", "classifier", "multiple_choice_head", "qa_outputs"];

    /// transformers' names and layouts of these parameters. Its `Conv1D` keeps weights as (in, out).
    ///
    /// # Errors
    /// Never: the rules are constants, which a test reads.
    pub fn rules() -> Result<Rules> {
        let mut rules = vec![
            Rule::drop("h.*.attn.bias"),
            Rule::drop("h.*.attn.masked_bias"),
            Rule::drop("lm_head.weight"),
        ];
        let parts = [
            ("attn.c_attn", "attn.qkv"),
            ("attn.c_proj", "attn.proj"),
            ("mlp.c_fc", "mlp.fc1"),
            ("mlp.c_proj", "mlp.fc2"),
        ];
        for kind in ["weight", "bias"] {
            for (theirs, ours) in parts {
                rules.push(Rule::rename(&format!("h.*.{theirs}.{kind}"), &format!("blocks.*.{ours}.{kind}")));
            }
            for (theirs, ours) in [("ln_1", "norm1"), ("ln_2", "norm2")] {
                rules.push(Rule::rename(&format!("h.*.{theirs}.{kind}"), &format!("blocks.*.{ours}.{kind}")));
            }
            rules.push(Rule::rename(&format!("ln_f.{kind}"), &format!("norm.{kind}")));
        }
        for (_, ours) in parts {
            rules.push(Rule::transpose(&format!("blocks.*.{ours}.weight")));
        }
        Rules::new(&rules)
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.tokens.weight().value().device().clone()
    }

    /// The shape it was built with.
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// Tokens with their positions from `first` on: `ids (N, L)` to `(N, L, D)`.
    fn embed(&self, ids: &Tensor, first: usize, pass: &Pass) -> Result<Tensor> {
        let (_, l) = ids
            .dims2()
            .map_err(|_| Error::input("ids", format!("shape {:?}, expected (N, L)", ids.dims())))?;
        if l == 0 || first + l > self.config.positions {
            return Err(Error::input(
                "ids",
                format!(
                    "a sequence of {} tokens, expected 1 to {}, the positions of the model",
                    first + l,
                    self.config.positions
                ),
            ));
        }
        let x = embedding(&self.tokens.weight().on(pass)?, ids, None, Route::Auto)?
            .broadcast_add(&self.positions.weight().on(pass)?.narrow(0, first, l)?)?;
        match pass.dropout(self.config.embedding_dropout, pass.key(&self.name).named("embedding")) {
            Some(drop) => Ok(dropout(&x, &drop, Route::Auto)?),
            None => Ok(x),
        }
    }

    /// `ids (N, L)`, integers below the vocabulary, to the last hidden states after the final norm, `(N, L,
    /// D)`.
    ///
    /// # Errors
    /// If a sequence is longer than the positions, or an id is not in the vocabulary.
    pub fn hidden(&self, ids: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (y, _) = self.trunk.forward(&self.embed(ids, 0, pass)?, None, &[], pass)?;
        self.norm.forward(&y, pass)
    }

    /// The same for tokens that follow those in `cache`, in evaluation.
    ///
    /// # Errors
    /// As [`Gpt2::hidden`].
    pub fn decode(&self, ids: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        let pass = Pass::eval();
        let x = self.embed(ids, cache.len(), &pass)?;
        self.norm.forward(&self.trunk.decode(&x, cache)?, &pass)
    }

    /// Hidden states `(.., D)` to scores of the next token, `(.., V)`.
    ///
    /// # Errors
    /// If the last dimension is not the width.
    pub fn scores(&self, hidden: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(linear(hidden, &self.tokens.weight().on(pass)?, None, Route::Auto)?)
    }
}

impl Encoder for Gpt2 {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        let hidden = HiddenLayers::of(want, self.trunk.depth())?;
        let (y, layers) = self.trunk.forward(&self.embed(x, 0, pass)?, None, hidden.asked(), pass)?;
        let y = self.norm.forward(&y, pass)?;
        Ok(Features {
            pooled: super::mean_pool(&y, valid)?,
            tokens: want.contains(&Layer::Tokens).then_some(y),
            layers,
        })
    }

    fn dim(&self) -> usize {
        self.config.trunk.dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Params;

    #[test]
    fn configurations_survive_the_round_trip() -> Result<()> {
        let mut c = Gpt2Config::new(100, 20, 8, 2, 2).with_dropout(0.25);
        c.end = Some(7);
        c.trunk.hidden = 24;
        assert_eq!(Gpt2Config::from_hf(&c.to_hf(), Path::new("c.json"))?, c);
        let mut other = c.to_hf();
        other["tie_word_embeddings"] = json!(false);
        let e =
            Gpt2Config::from_hf(&other, Path::new("c.json")).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains("tie_word_embeddings"), "{e}");
        assert!(Gpt2Config::named("gpt2_medium", 50257).is_some() && Gpt2Config::named("gpt3", 1).is_none());
        Ok(())
    }

    #[test]
    fn later_tokens_do_not_matter_and_long_sequences_are_refused() -> Result<()> {
        let params = Params::new();
        let model = Gpt2::new(&Scope::root(&params, 1, &Device::Cpu), Gpt2Config::new(11, 6, 8, 2, 2))?;
        let hidden = |ids: &[u32]| -> Result<Vec<Vec<f32>>> {
            Ok(model
                .hidden(&Tensor::from_vec(ids.to_vec(), (1, ids.len()), &Device::Cpu)?, &Pass::eval())?
                .squeeze(0)?
                .to_vec2()?)
        };
        let (a, b) = (hidden(&[1, 2, 3, 4])?, hidden(&[1, 2, 3, 9])?);
        assert_eq!(a[..3], b[..3]);
        assert_ne!(a[3], b[3]);
        let e = hidden(&[1; 7]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains("7 tokens, expected 1 to 6"), "{e}");
        assert!(hidden(&[11]).is_err());
        Ok(())
    }
}
