//! From token ids to the trunk's first input: the sum of word, position and type embeddings, its norm and
//! dropout.

use super::{BertConfig, Family};
use candle_core::{DType, Tensor};
use selfsup_core::nn::{Embedding, LayerNorm};
use selfsup_core::{Error, Pass, Result, Scope, Weight};
use selfsup_kernels::Path;
use selfsup_kernels::dropout::dropout;
use selfsup_kernels::embedding::embedding;

/// Word, position and type embeddings, their sum's norm and dropout. A generator and a discriminator may
/// share one.
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
        let table = |name: &str, rows: usize| {
            Embedding::new(&scope.sub(name), rows, c.embedding_dim, BertConfig::INIT)
        };
        Ok(BertEmbeddings {
            name: scope.path().to_string(),
            words: table("word", c.vocabulary)?,
            positions: table("position", c.positions)?,
            types: table("type", c.types)?,
            norm: LayerNorm::new(&scope.sub("norm"), c.embedding_dim, c.eps)?,
        })
    }

    /// The word table `(V, E)`, for a tied decoder.
    pub fn table(&self) -> &Weight {
        self.words.weight()
    }

    /// `ids (N, L)` and their types to `(N, L, E)`.
    pub(super) fn forward(
        &self,
        c: &BertConfig,
        ids: &Tensor,
        types: Option<&Tensor>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let (n, l) = ids.dims2()?;
        if l > c.longest() || l == 0 {
            return Err(Error::input(
                "batch.ids",
                format!(
                    "sequences of {l} tokens, expected 1 to {}, the positions of the encoder",
                    c.longest()
                ),
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
            embedding(&table.weight().on(pass)?, ids, frozen, Path::Auto)
                .map_err(|e| Error::input(format!("batch.{what}"), Error::from(e)))
        };
        let x = look("ids", &self.words, ids, Some(c.pad))?;
        let x = (x + look("positions", &self.positions, &places, roberta.then_some(c.pad))?)?;
        let types = match types {
            Some(t) => t.clone(),
            None => ids.zeros_like()?,
        };
        let x = self.norm.forward(&(x + look("types", &self.types, &types, None)?)?, pass)?;
        drop_out(x, c.dropout, &self.name, pass)
    }
}

/// Dropout of `x (N, ..)` while training, keyed by the module's name and the samples.
pub(crate) fn drop_out(x: Tensor, p: f32, name: &str, pass: &Pass) -> Result<Tensor> {
    match pass.dropout(p, pass.key(name).named("dropout")) {
        Some(drop) => Ok(dropout(&x, &drop, Path::Auto)?),
        None => Ok(x),
    }
}

/// RoBERTa's positions: `pad + k` for the `k`-th token that is no padding, `pad` for padding, by the ids
/// alone.
pub(super) fn behind_padding(ids: &Tensor, pad: u32) -> Result<Tensor> {
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
