//! BERT and its relatives: a transformer with normalisation after each part, over the sum of word, position
//! and type embeddings.
//!
//! Devlin et al. 2018, "BERT", arXiv 1810.04805; Liu et al. 2019, "RoBERTa", arXiv 1907.11692 (positions
//! start behind the padding token's id, one type); Clark et al. 2020, "ELECTRA", arXiv 2003.10555 (embeddings
//! narrower than the trunk, projected). As in transformers, a place that holds the padding token trains
//! neither that token's row nor, in RoBERTa, its position's.

mod config;
mod embeddings;
mod pooled;

pub use config::{BertConfig, Family, Pool};
pub use embeddings::BertEmbeddings;
pub(crate) use embeddings::drop_out;
pub use pooled::PooledBert;

use candle_core::{D, Tensor};
use selfsup_core::encoder::HiddenLayers;
use selfsup_core::nn::{Linear, Transformer};
use selfsup_core::{Encoder, Error, Features, Layer, Pass, Result, Scope};

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
    /// Embeddings at `embeddings`, blocks at `blocks`, and where they are needed a projection at `project`
    /// and the pooler at `pooler`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, config: BertConfig) -> Result<Self> {
        config.check()?;
        let embeddings = BertEmbeddings::new(&scope.sub("embeddings").stem(), &config)?;
        Bert::sharing(scope, config, embeddings)
    }

    /// The same around embeddings that exist already (ELECTRA's generator).
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn sharing(scope: &Scope, config: BertConfig, embeddings: BertEmbeddings) -> Result<Self> {
        config.check()?;
        let (e, d) = (config.embedding_dim, config.dim);
        let linear = |scope: Scope, name: &str, inputs: usize| {
            Linear::new(&scope.sub(name), inputs, d, true, BertConfig::INIT)
        };
        Ok(Bert {
            project: if e == d { None } else { Some(linear(scope.stem(), "project", e)?) },
            trunk: Transformer::new(&scope.sub("blocks"), &config.trunk())?,
            pooler: if config.pool == Pool::Pooler { Some(linear(scope.top(), "pooler", d)?) } else { None },
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

    /// All tokens after the last block, `(N, L, D)`, and the hidden states that `keep` names: `x` as
    /// [`Encoder::forward`] takes it.
    ///
    /// # Errors
    /// If shapes do not fit, an id is outside the vocabulary, or a sequence is longer than the positions.
    pub fn hidden(
        &self,
        x: &Tensor,
        valid: Option<&Tensor>,
        keep: &[usize],
        pass: &Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (ids, types) = match *x.dims() {
            [_, _] => (x.clone(), None),
            [_, 2, _] => (
                x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
                Some(x.narrow(1, 1, 1)?.squeeze(1)?.contiguous()?),
            ),
            ref other => {
                return Err(Error::input(
                    "batch.ids",
                    format!("shape {other:?}, expected ids (N, L), or ids and types (N, 2, L)"),
                ));
            }
        };
        if let Some(v) = valid
            && v.dims() != ids.dims()
        {
            return Err(Error::input("valid", format!("shape {:?}, expected {:?}", v.dims(), ids.dims())));
        }
        let mut y = self.embeddings.forward(&self.config, &ids, types.as_ref(), pass)?;
        if let Some(project) = &self.project {
            y = project.forward(&y, pass)?;
        }
        self.trunk.forward(&y, valid, keep, pass)
    }

    /// One vector a sample, `(N, D)`, of all tokens `(N, L, D)`: of those of the last block, or for
    /// [`Pool::FirstLast`] of the average of two.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn pool(&self, hidden: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let first = || -> Result<Tensor> { Ok(hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?) };
        match (self.config.pool, &self.pooler) {
            (Pool::Mean | Pool::FirstLast, _) => mean_pool(hidden, valid),
            (_, Some(pooler)) => Ok(pooler.forward(&first()?, pass)?.tanh()?),
            (_, None) => first(),
        }
    }
}

/// The mean of `hidden (N, L, D)` over the places where `valid (N, L)` is 1: `(N, D)`. A sequence of nothing
/// but padding gives 0.
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
        let mut keep = HiddenLayers::of(want, self.config.depth)?.asked().to_vec();
        let both = self.config.pool == Pool::FirstLast;
        if both {
            keep.push(0);
        }
        let (y, mut layers) = self.hidden(x, valid, &keep, pass)?;
        let first = if both { layers.pop() } else { None };
        let pooled = match first {
            Some(first) => self.pool(&((first + &y)? * 0.5)?, valid, pass)?,
            None => self.pool(&y, valid, pass)?,
        };
        Ok(Features { pooled, tokens: want.contains(&Layer::Tokens).then_some(y), layers })
    }

    fn dim(&self) -> usize {
        self.config.dim
    }
}

#[cfg(test)]
mod tests {
    use super::embeddings::behind_padding;
    use super::*;
    use candle_core::{DType, Device};
    use selfsup_core::Params;

    fn small(family: Family) -> BertConfig {
        BertConfig {
            dim: 8,
            embedding_dim: 8,
            depth: 2,
            heads: 2,
            hidden: 16,
            positions: 12,
            ..BertConfig::base(family, 20)
        }
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
    fn first_and_last_are_averaged() -> Result<()> {
        let (_, bert) = build(BertConfig { pool: Pool::FirstLast, ..small(Family::Electra) })?;
        let ids = Tensor::new(&[[5u32, 6, 7, 0]], &Device::Cpu)?;
        let valid = Tensor::new(&[[1f32, 1.0, 1.0, 0.0]], &Device::Cpu)?;
        let wanted =
            bert.forward(&ids, Some(&valid), &[Layer::Hidden(0), Layer::Hidden(1)], &Pass::eval())?;
        let alone = bert.forward(&ids, Some(&valid), &[Layer::Hidden(1)], &Pass::eval())?;
        assert_eq!((wanted.layers.len(), alone.layers.len()), (2, 1));
        let mean = ((mean_pool(&wanted.layers[0], Some(&valid))?
            + mean_pool(&wanted.layers[1], Some(&valid))?)?
            * 0.5)?;
        for features in [&wanted, &alone] {
            assert!((&features.pooled - &mean)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
        }
        assert!((&alone.layers[0] - &wanted.layers[1])?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
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
            let e =
                bert.forward(&x, None, &[], &Pass::eval()).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains(part), "{e}");
        };
        says(
            Tensor::new(&[[1u32, 20]], &Device::Cpu)?,
            "batch.ids: embedding: place 1 holds the id 20, expected one in 0..20",
        );
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
