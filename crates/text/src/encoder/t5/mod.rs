//! T5 (Raffel et al. 2020, arXiv 1910.10683): a transformer from text to text. The encoder reads the input,
//! the decoder writes the output token by token, with attention to what it wrote and to the encoder's output.
//!
//! RMS normalisation before each part, no biases, relative positions as a bias of the scores that all blocks
//! of a stack share. With a tied head the scores are `(d^-0.5 h) E^T`. T5 1.1 has gated MLPs and a
//! head of its own, whose input is not scaled.

mod config;
mod layers;
mod position;

pub use config::T5Config;
pub use position::{RelativePositions, bucket};

use crate::folder;
use candle_core::{DType, Device, Tensor};
use layers::{Block, Memory, drop};
use selfsup_core::encoder::HiddenLayers;
use selfsup_core::nn::{Embedding, KvCache, Linear, RmsNorm};
use selfsup_core::weights::{Report, Rule, Rules};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::embedding::embedding;
use selfsup_kernels::linear::linear;

/// Encoder or decoder.
struct Stack {
    name: String,
    positions: RelativePositions,
    blocks: Vec<Block>,
    norm: RmsNorm,
    dropout: f32,
}

impl Stack {
    fn new(scope: &Scope, c: &T5Config, decoder: bool) -> Result<Self> {
        let depth = if decoder { c.decoder_depth } else { c.depth };
        let init = Init::Normal((c.dim as f32).sqrt().recip());
        Ok(Stack {
            name: scope.path().to_string(),
            positions: RelativePositions::new(
                &scope.sub("positions").stem(),
                c.buckets,
                c.heads,
                !decoder,
                c.max_distance,
                init,
            )?,
            blocks: (0..depth)
                .map(|i| Block::new(&scope.sub("blocks").sub(i).block(i), c, decoder))
                .collect::<Result<_>>()?,
            norm: RmsNorm::new(&scope.sub("norm").top(), c.dim, c.eps)?,
            dropout: c.dropout,
        })
    }

    /// `(N, T, D)` through all blocks and the final norm; hidden states after the blocks in `keep` beside it.
    fn forward(
        &self,
        x: Tensor,
        padding: Option<&Tensor>,
        memory: &[Memory],
        keep: &[usize],
        pass: &Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let t = x.dim(1)?;
        let mut bias = self.positions.bias(t, t, x.device(), pass)?;
        if let Some(padding) = padding {
            bias = bias.broadcast_add(padding)?; // (1, H, T, T) + (N, 1, 1, T)
        }
        let mut x = drop(x, self.dropout, &self.name, "input", pass)?;
        let mut hidden = HiddenLayers::numbered(keep, self.blocks.len())?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &bias, memory.get(i), None, pass)?;
            hidden.see(i, &x);
        }
        Ok((drop(self.norm.forward(&x, pass)?, self.dropout, &self.name, "output", pass)?, hidden.layers()?))
    }
}

/// The decoder's cache between tokens: its own keys and values, and those of the encoder's output.
pub struct T5Cache {
    own: KvCache,
    memory: Vec<Tensor>,
    padding: Option<Tensor>,
}

impl T5Cache {
    fn memories(&self) -> Vec<Memory<'_>> {
        self.memory.iter().map(|kv| Memory { kv, bias: self.padding.as_ref() }).collect()
    }
}

/// The model. As an [`Encoder`] it is its encoder: `pooled` is the mean over the tokens that are not padding.
pub struct T5 {
    config: T5Config,
    shared: Embedding,
    encoder: Stack,
    decoder: Stack,
    head: Option<Linear>,
}

impl T5 {
    /// Builds the model: `shared`, `encoder.blocks.0` ..., `decoder.blocks.0` ..., and `head` if it is not
    /// tied.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: T5Config) -> Result<Self> {
        config.check()?;
        Ok(T5 {
            shared: Embedding::new(
                &scope.sub("shared").stem(),
                config.vocabulary,
                config.dim,
                Init::Normal(1.0),
            )?,
            encoder: Stack::new(&scope.sub("encoder"), &config, false)?,
            decoder: Stack::new(&scope.sub("decoder").top(), &config, true)?,
            head: if config.tied {
                None
            } else {
                // transformers draws it with deviation 1; the scores of d numbers of size 1 would then start
                // at sqrt(d) nats.
                let init = Init::Normal((config.dim as f32).sqrt().recip());
                Some(Linear::new(&scope.sub("head").top(), config.dim, config.vocabulary, false, init)?)
            },
            config,
        })
    }

    /// transformers' names of these parameters.
    ///
    /// # Errors
    /// Never: the rules are constants, which a test reads.
    pub fn rules(tied: bool) -> Result<Rules> {
        let mut rules = vec![
            Rule::drop("encoder.embed_tokens.weight"),
            Rule::drop("decoder.embed_tokens.weight"),
            Rule::drop("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"),
        ];
        rules.push(if tied {
            Rule::drop("lm_head.weight")
        } else {
            Rule::rename("lm_head.weight", "head.weight")
        });
        for stack in ["encoder", "decoder"] {
            let theirs = |rest: &str| format!("{stack}.block.*.layer.{rest}.weight");
            let ours = |rest: &str| format!("{stack}.blocks.*.{rest}.weight");
            let mut attention = vec![("0.SelfAttention", "attn")];
            let mut mlp = 1;
            if stack == "decoder" {
                attention.push(("1.EncDecAttention", "cross"));
                rules.push(Rule::rename(&theirs("1.layer_norm"), &ours("norm2")));
                mlp = 2;
            }
            for (from, to) in attention {
                rules.push(Rule::rename(&theirs(&format!("{from}.q")), &ours(&format!("{to}.q"))));
                rules.push(Rule::concat(&theirs(&format!("{from}.{{k,v}}")), &ours(&format!("{to}.kv")), 0));
                rules.push(Rule::rename(&theirs(&format!("{from}.o")), &ours(&format!("{to}.proj"))));
            }
            rules.push(Rule::rename(
                &format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
                &format!("{stack}.positions.weight"),
            ));
            rules.push(Rule::rename(&theirs("0.layer_norm"), &ours("norm1")));
            rules.push(Rule::rename(
                &theirs(&format!("{mlp}.layer_norm")),
                &ours(&format!("norm{}", mlp + 1)),
            ));
            rules.push(Rule::rename(&theirs(&format!("{mlp}.DenseReluDense.*")), &ours("mlp.*")));
            rules.push(Rule::rename(
                &format!("{stack}.final_layer_norm.weight"),
                &format!("{stack}.norm.weight"),
            ));
        }
        Rules::new(&rules)
    }

    /// Loads the weights of a folder or file of transformers into the model of shape `c` below `prefix`.
    ///
    /// # Errors
    /// As [`folder::load`]; and if the file has a head of its own where `c` says that it is the table of
    /// tokens.
    pub fn load(params: &Params, prefix: &str, path: &std::path::Path, c: &T5Config) -> Result<Report> {
        if c.tied {
            folder::tied(path, "lm_head.weight", "shared.weight")?;
        }
        let heads = ["classification_head", "classifier", "qa_outputs", "score"];
        folder::load(params, prefix, path, &T5::rules(c.tied)?, "transformer", &heads)
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.shared.weight().value().device().clone()
    }

    /// The shape it was built with.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    fn embed(&self, ids: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (_, l) = ids
            .dims2()
            .map_err(|_| Error::input("ids", format!("shape {:?}, expected (N, L)", ids.dims())))?;
        if l == 0 {
            return Err(Error::input("ids", "a sequence of no tokens"));
        }
        Ok(embedding(&self.shared.weight().on(pass)?, ids, None, Path::Auto)?)
    }

    /// The encoder's output `(N, S, D)` for `ids (N, S)`; `valid (N, S)` is 0 at padding.
    ///
    /// # Errors
    /// If shapes do not fit or an id is not in the vocabulary.
    pub fn encode(&self, ids: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let padding = valid.map(padding_bias).transpose()?;
        Ok(self.encoder.forward(self.embed(ids, pass)?, padding.as_ref(), &[], &[], pass)?.0)
    }

    /// The decoder's output `(N, T, D)` for its own input `ids (N, T)` and the encoder's output.
    ///
    /// # Errors
    /// As [`T5::encode`].
    pub fn decode(
        &self,
        ids: &Tensor,
        encoded: &Tensor,
        valid: Option<&Tensor>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let cache = self.cache(encoded, valid, pass)?;
        Ok(self.decoder.forward(self.embed(ids, pass)?, None, &cache.memories(), &[], pass)?.0)
    }

    /// A cache for decoding token by token against the encoder's output `(N, S, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn cache(&self, encoded: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<T5Cache> {
        let memory = self
            .decoder
            .blocks
            .iter()
            .filter_map(|b| b.memory(encoded, pass).transpose())
            .collect::<Result<_>>()?;
        Ok(T5Cache { own: KvCache::new(), memory, padding: valid.map(padding_bias).transpose()? })
    }

    /// The decoder's output for tokens that follow those in `cache`, in evaluation.
    ///
    /// # Errors
    /// As [`T5::decode`].
    pub fn decode_next(&self, ids: &Tensor, cache: &mut T5Cache) -> Result<Tensor> {
        let pass = &Pass::eval();
        let mut x = self.embed(ids, pass)?;
        let (t, s) = (x.dim(1)?, cache.own.len() + x.dim(1)?);
        let bias = self.decoder.positions.bias(t, s, x.device(), pass)?;
        for (i, block) in self.decoder.blocks.iter().enumerate() {
            let memory = cache.memory.get(i).map(|kv| Memory { kv, bias: cache.padding.as_ref() });
            x = block.forward(&x, &bias, memory.as_ref(), Some((&mut cache.own, i)), pass)?;
        }
        self.decoder.norm.forward(&x, pass)
    }

    /// The decoder's output `(.., D)` to scores of the next token, `(.., V)`.
    ///
    /// # Errors
    /// If the last dimension is not the width.
    pub fn scores(&self, decoded: &Tensor, pass: &Pass) -> Result<Tensor> {
        let decoded = match self.config.scaled {
            true => (decoded * (self.config.dim as f64).powf(-0.5))?,
            false => decoded.clone(),
        };
        match &self.head {
            Some(head) => head.forward(&decoded, pass),
            None => Ok(linear(&decoded, &self.shared.weight().on(pass)?, None, Path::Auto)?),
        }
    }

    /// The decoder's input for `labels (N, T)`: shifted right from the padding token, which also stands where
    /// nothing is to be predicted.
    ///
    /// # Errors
    /// If there is no label.
    pub fn shift_right(&self, labels: &Tensor) -> Result<Tensor> {
        let (n, t) = labels.dims2()?;
        let pad = Tensor::full(i64::from(self.config.pad), (n, 1), labels.device())?;
        let labels = labels.to_dtype(DType::I64)?;
        let known = labels.ge(0i64)?.where_cond(&labels, &pad.broadcast_as((n, t))?)?;
        Ok(if t > 1 { Tensor::cat(&[&pad, &known.narrow(1, 0, t - 1)?], 1)? } else { pad })
    }
}

/// `valid (N, S)` to an additive mask `(N, 1, 1, S)`: 0 for tokens, a large negative number for padding
/// (finite: a row of nothing else must stay finite).
fn padding_bias(valid: &Tensor) -> Result<Tensor> {
    Ok(valid.to_dtype(DType::F32)?.affine(3e38, -3e38)?.unsqueeze(1)?.unsqueeze(1)?)
}

impl Encoder for T5 {
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        let hidden = HiddenLayers::of(want, self.encoder.blocks.len())?;
        let padding = valid.map(padding_bias).transpose()?;
        let (y, layers) =
            self.encoder.forward(self.embed(x, pass)?, padding.as_ref(), &[], hidden.asked(), pass)?;
        Ok(Features {
            pooled: super::mean_pool(&y, valid)?,
            tokens: want.contains(&Layer::Tokens).then_some(y),
            layers,
        })
    }

    fn dim(&self) -> usize {
        self.config.dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_kernels::activation::Act;

    fn ids(rows: &[&[u32]]) -> Result<Tensor> {
        Ok(Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu)?)
    }

    fn gap(a: &Tensor, b: &Tensor) -> Result<f32> {
        Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
    }

    #[test]
    fn padding_does_not_matter_and_the_cache_changes_nothing() -> Result<()> {
        for gated in [false, true] {
            let config = T5Config {
                gated,
                tied: !gated,
                head_dim: 3,
                act: Act::GeluTanh,
                ..T5Config::new(20, 8, 2, 2)
            };
            let params = Params::new();
            let model = T5::new(&Scope::root(&params, 1, &Device::Cpu), config)?;
            let pass = Pass::eval();
            let plain = model.encode(&ids(&[&[3, 4, 5]])?, None, &pass)?;
            let valid = Tensor::new(&[[1f32, 1.0, 1.0, 0.0, 0.0]], &Device::Cpu)?;
            let padded = model.encode(&ids(&[&[3, 4, 5, 0, 7]])?, Some(&valid), &pass)?;
            assert!(gap(&plain, &padded.narrow(1, 0, 3)?)? < 1e-5);
            let pooled =
                |x: &Tensor, v: Option<&Tensor>| Ok::<_, Error>(model.forward(x, v, &[], &pass)?.pooled);
            assert!(
                gap(
                    &pooled(&ids(&[&[3, 4, 5]])?, None)?,
                    &pooled(&ids(&[&[3, 4, 5, 0, 7]])?, Some(&valid))?
                )? < 1e-5
            );

            let target = ids(&[&[0, 9, 8, 2, 11, 4]])?;
            let whole = model.decode(&target, &padded, Some(&valid), &pass)?;
            assert!(gap(&whole, &model.decode(&target, &plain, None, &pass)?)? < 1e-5);
            let (mut cache, mut at) = (model.cache(&padded, Some(&valid), &pass)?, 0);
            for t in [2, 1, 3] {
                let y = model.decode_next(&target.narrow(1, at, t)?, &mut cache)?;
                assert!(gap(&y, &whole.narrow(1, at, t)?)? < 1e-5);
                at += t;
            }
        }
        Ok(())
    }

    #[test]
    fn the_decoder_starts_from_padding() -> Result<()> {
        let params = Params::new();
        let model = T5::new(&Scope::root(&params, 1, &Device::Cpu), T5Config::new(20, 8, 1, 2))?;
        let labels = Tensor::new(&[[5i64, 6, 1], [7, 1, -100]], &Device::Cpu)?;
        assert_eq!(model.shift_right(&labels)?.to_vec2::<i64>()?, [[0, 5, 6], [0, 7, 1]]);
        Ok(())
    }

    #[test]
    fn configurations_survive_the_round_trip() -> Result<()> {
        for name in ["t5_small", "t5_1_1_base"] {
            let c = T5Config::named(name, 32128).ok_or_else(|| Error::config(name))?;
            assert_eq!(T5Config::from_hf(&c.to_hf(), std::path::Path::new("c.json"))?, c);
        }
        let sizes = |n: &str| T5Config::named(n, 9).map(|c| (c.dim, c.hidden, c.heads, c.depth));
        assert_eq!(sizes("t5_1_1_small"), Some((512, 1024, 6, 8)));
        assert_eq!(sizes("t5_1_1_base"), Some((768, 2048, 12, 12)));
        assert_eq!(sizes("t5_1_1_large"), Some((1024, 2816, 16, 24)));
        assert!(T5Config::named("small", 9).is_none());
        assert!(
            T5::new(
                &Scope::root(&Params::new(), 1, &Device::Cpu),
                T5Config { buckets: 3, ..T5Config::new(9, 4, 1, 2) }
            )
            .is_err()
        );
        Ok(())
    }
}
