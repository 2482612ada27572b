//! BERT and its relatives: a transformer with normalisation after each part, over the sum of word, position and type embeddings.
//!
//! Devlin et al. 2018, "BERT", arXiv 1810.04805; Liu et al. 2019, "RoBERTa", arXiv 1907.11692 (positions start behind the padding token's
//! id, one type); Clark et al. 2020, "ELECTRA", arXiv 2003.10555 (embeddings narrower than the trunk, projected).
//! As in transformers, a place that holds the padding token trains neither that token's row nor, in RoBERTa, its position's.

use candle_core::{D, DType, Tensor};
use selfsup_core::nn::{Embedding, LayerNorm, Linear, Transformer, TransformerConfig};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::dropout::dropout;
use selfsup_kernels::embedding::embedding;
use serde::{Deserialize, Serialize};

/// Which of the relatives: they differ in positions, in names and in their heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// BERT's pooler: `tanh(W h_0 + b)` of the first token.
    Pooler,
    /// The first token.
    Class,
    /// The mean over all tokens that are no padding.
    #[default]
    Mean,
}

/// The shape of a [`Bert`].
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
    /// Width inside the perceptrons.
    pub hidden: usize,
    /// Activation of the perceptrons and of the heads.
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
    /// BERT base over `vocabulary` tokens (the paper's section 3): 12 blocks of 768, 12 heads, 512 positions, dropout 0.1.
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

    fn trunk(&self) -> TransformerConfig {
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

    fn check(&self) -> Result<()> {
        if (self.pad as usize) >= self.vocabulary {
            return Err(Error::config(format!("padding token {} of a vocabulary of {}", self.pad, self.vocabulary)));
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

/// Word, position and type embeddings, their sum's norm and dropout. A generator and a discriminator may share one.
#[derive(Clone, Debug)]
pub struct BertEmbeddings {
    name: String,
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
}

impl BertEmbeddings {
    /// Tables at `word`, `position` and `type` of `scope`.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, c: &BertConfig) -> Result<Self> {
        let table = |name: &str, rows: usize| Embedding::new(&scope.sub(name), rows, c.embedding_dim, BertConfig::INIT);
        Ok(BertEmbeddings {
            name: scope.path().to_string(),
            words: table("word", c.vocabulary)?,
            positions: table("position", c.positions)?,
            types: table("type", c.types)?,
            norm: LayerNorm::new(&scope.sub("norm"), c.embedding_dim, c.eps)?,
        })
    }

    /// The word table `(V, E)`, for a tied decoder.
    pub fn table(&self) -> &Tensor {
        self.words.weight()
    }

    /// `ids (N, L)` and their types to `(N, L, E)`.
    fn forward(&self, c: &BertConfig, ids: &Tensor, types: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let (n, l) = ids.dims2()?;
        if l > c.longest() || l == 0 {
            return Err(Error::input(
                "batch.ids",
                format!("sequences of {l} tokens, expected 1 to {}, the positions of the encoder", c.longest()),
            ));
        }
        let roberta = c.family == Family::Roberta;
        let places = if roberta {
            behind_padding(ids, c.pad)?
        } else {
            Tensor::arange(0, l as u32, ids.device())?.broadcast_as((n, l))?.contiguous()?
        };
        let look = |what: &str, table: &Embedding, ids: &Tensor, frozen: Option<u32>| -> Result<Tensor> {
            // An id that the table has not: the tokenizer is that of another model.
            embedding(table.weight(), ids, frozen, Path::Auto).map_err(|e| Error::input(format!("batch.{what}"), Error::from(e)))
        };
        let x = look("ids", &self.words, ids, Some(c.pad))?;
        let x = (x + look("positions", &self.positions, &places, roberta.then_some(c.pad))?)?;
        let types = match types {
            Some(t) => t.clone(),
            None => ids.zeros_like()?,
        };
        let x = self.norm.forward(&(x + look("types", &self.types, &types, None)?)?)?;
        drop_out(x, c.dropout, &self.name, pass)
    }
}

/// Dropout while training, keyed by the module's name and the (micro-)batch.
pub(crate) fn drop_out(x: Tensor, p: f32, name: &str, pass: &Pass) -> Result<Tensor> {
    if pass.train && p > 0.0 { Ok(dropout(&x, p, pass.key(name).named("dropout").fold(pass.offset), Path::Auto)?) } else { Ok(x) }
}

/// RoBERTa's positions: `pad + k` for the `k`-th token that is no padding, `pad` for padding, by the ids alone.
fn behind_padding(ids: &Tensor, pad: u32) -> Result<Tensor> {
    let places: Vec<Vec<u32>> = ids
        .to_dtype(DType::U32)?
        .to_vec2::<u32>()?
        .into_iter()
        .map(|row| {
            let mut next = pad;
            row.into_iter()
                .map(|id| {
                    if id == pad {
                        pad
                    } else {
                        next += 1;
                        next
                    }
                })
                .collect()
        })
        .collect();
    Ok(Tensor::new(places, ids.device())?)
}

/// The encoder.
#[derive(Clone, Debug)]
pub struct Bert {
    config: BertConfig,
    embeddings: BertEmbeddings,
    project: Option<Linear>,
    trunk: Transformer,
    pooler: Option<Linear>,
}

impl Bert {
    /// Embeddings at `embeddings`, blocks at `blocks`, and where they are needed a projection at `project` and the pooler at `pooler`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: BertConfig) -> Result<Self> {
        config.check()?;
        let embeddings = BertEmbeddings::new(&scope.sub("embeddings"), &config)?;
        Bert::sharing(scope, config, embeddings)
    }

    /// The same around embeddings that exist already (ELECTRA's generator).
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn sharing(scope: &Scope, config: BertConfig, embeddings: BertEmbeddings) -> Result<Self> {
        config.check()?;
        let (e, d) = (config.embedding_dim, config.dim);
        let linear = |name: &str, inputs: usize| Linear::new(&scope.sub(name), inputs, d, true, BertConfig::INIT);
        Ok(Bert {
            project: if e == d { None } else { Some(linear("project", e)?) },
            trunk: Transformer::new(&scope.sub("blocks"), &config.trunk())?,
            pooler: if config.pool == Pool::Pooler { Some(linear("pooler", d)?) } else { None },
            embeddings,
            config,
        })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Its embeddings, to be shared.
    pub fn embeddings(&self) -> &BertEmbeddings {
        &self.embeddings
    }

    /// All tokens after the last block, `(N, L, D)`, and the hidden states that `keep` names: `x` as [`Encoder::forward`] takes it.
    ///
    /// # Errors
    /// If shapes do not fit, an id is outside the vocabulary, or a sequence is longer than the positions.
    pub fn hidden(&self, x: &Tensor, valid: Option<&Tensor>, keep: &[usize], pass: &Pass) -> Result<(Tensor, Vec<Tensor>)> {
        let (ids, types) = match *x.dims() {
            [_, _] => (x.clone(), None),
            [_, 2, _] => (x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?, Some(x.narrow(1, 1, 1)?.squeeze(1)?.contiguous()?)),
            ref other => {
                return Err(Error::input("batch.ids", format!("shape {other:?}, expected ids (N, L), or ids and types (N, 2, L)")));
            }
        };
        if let Some(v) = valid
            && v.dims() != ids.dims()
        {
            return Err(Error::input("valid", format!("shape {:?}, expected {:?}", v.dims(), ids.dims())));
        }
        let mut y = self.embeddings.forward(&self.config, &ids, types.as_ref(), pass)?;
        if let Some(project) = &self.project {
            y = project.forward(&y)?;
        }
        self.trunk.forward(&y, valid, keep, pass)
    }

    /// One vector a sample, `(N, D)`, of all tokens `(N, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn pool(&self, hidden: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let first = || -> Result<Tensor> { Ok(hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?) };
        match (self.config.pool, &self.pooler) {
            (Pool::Mean, _) => mean_pool(hidden, valid),
            (_, Some(pooler)) => Ok(pooler.forward(&first()?)?.tanh()?),
            (_, None) => first(),
        }
    }
}

/// The mean of `hidden (N, L, D)` over the places where `valid (N, L)` is 1: `(N, D)`. A sequence of nothing but padding gives 0.
///
/// # Errors
/// If shapes do not fit.
pub fn mean_pool(hidden: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
    match valid {
        None => Ok(hidden.mean(1)?),
        Some(valid) => {
            let valid = valid.to_dtype(hidden.dtype())?;
            let share = valid.broadcast_div(&valid.sum_keepdim(D::Minus1)?.clamp(1.0, f64::INFINITY)?)?;
            Ok(share.unsqueeze(1)?.matmul(hidden)?.squeeze(1)?) // (N, 1, L) (N, L, D) -> (N, D)
        }
    }
}

impl Encoder for Bert {
    /// `x`: ids `(N, L)`, or `(N, 2, L)` with the type of each token in the second row; integers.
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        let keep: Vec<usize> = want.iter().filter_map(|w| if let Layer::Hidden(i) = w { Some(*i) } else { None }).collect();
        let (y, layers) = self.hidden(x, valid, &keep, pass)?;
        Ok(Features { pooled: self.pool(&y, valid)?, tokens: want.contains(&Layer::Tokens).then_some(y), layers })
    }

    fn dim(&self) -> usize {
        self.config.dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use selfsup_core::Params;

    fn small(family: Family) -> BertConfig {
        BertConfig { dim: 8, embedding_dim: 8, depth: 2, heads: 2, hidden: 16, positions: 12, ..BertConfig::base(family, 20) }
    }

    fn build(c: BertConfig) -> Result<(Params, Bert)> {
        let params = Params::new();
        let bert = Bert::new(&Scope::root(&params, 0, &Device::Cpu), c)?;
        Ok((params, bert))
    }

    #[test]
    fn padding_does_not_reach_tokens() -> Result<()> {
        for family in [Family::Bert, Family::Roberta, Family::Electra] {
            let (_, bert) = build(small(family))?;
            let pad = bert.config().pad;
            let short = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
            let long = Tensor::new(&[[5u32, 6, 7, pad, pad]], &Device::Cpu)?;
            let valid = Tensor::new(&[[1f32, 1.0, 1.0, 0.0, 0.0]], &Device::Cpu)?;
            let a = bert.forward(&short, None, &[Layer::Tokens, Layer::Hidden(0)], &Pass::eval())?;
            let b = bert.forward(&long, Some(&valid), &[], &Pass::eval())?;
            assert_eq!((a.layers.len(), a.tokens.is_some(), b.tokens.is_some()), (1, true, false));
            let gap = (a.pooled - b.pooled)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(gap < 1e-5, "{family:?}: {gap}");
        }
        Ok(())
    }

    #[test]
    fn roberta_counts_behind_the_padding() -> Result<()> {
        let ids = Tensor::new(&[[0u32, 7, 1, 8, 1], [1, 1, 5, 6, 7]], &Device::Cpu)?;
        assert_eq!(behind_padding(&ids, 1)?.to_vec2::<u32>()?, [[2, 3, 1, 4, 1], [1, 1, 2, 3, 4]]);
        assert_eq!(BertConfig::base(Family::Roberta, 20).longest(), 512);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() -> Result<()> {
        let (_, bert) = build(small(Family::Bert))?;
        let says = |x: Tensor, part: &str| {
            let e = bert.forward(&x, None, &[], &Pass::eval()).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains(part), "{e}");
        };
        says(Tensor::new(&[[1u32, 20]], &Device::Cpu)?, "batch.ids: embedding: place 1 holds the id 20, expected one in 0..20");
        says(Tensor::zeros((1, 13), DType::U32, &Device::Cpu)?, "13 tokens, expected 1 to 12");
        says(Tensor::zeros((1, 3, 13), DType::U32, &Device::Cpu)?, "ids (N, L)");
        says(Tensor::new(&[[[1u32, 2], [0, 2]]], &Device::Cpu)?, "batch.types");
        assert!(build(BertConfig { pad: 20, ..small(Family::Bert) }).is_err());
        assert!(build(BertConfig { heads: 3, ..small(Family::Bert) }).is_err());
        assert!(build(BertConfig { dropout: 1.0, ..small(Family::Bert) }).is_err());
        assert!(build(BertConfig { positions: 1, ..small(Family::Roberta) }).is_err());
        Ok(())
    }
}
