//! The head of a masked language model: `logits = LayerNorm(act(W h + b)) E^T + c`, where `E` is the
//! encoder's own word table (Press and Wolf 2016, arXiv 1608.05859). Logits are made of the places that are
//! predicted, and of no others.

use crate::batch::IGNORED;
use crate::encoder::BertConfig;
use candle_core::{DType, Tensor};
use selfsup_core::kernels::host::integers;
use selfsup_core::nn::{LayerNorm, Linear};
use selfsup_core::objective::{Band, Gauge, embedding_std};
use selfsup_core::{Init, Pass, Result, Scope, Weight};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::embedding::embedding;
use selfsup_kernels::linear::linear;
use selfsup_kernels::loss::cross_entropy_sum;

/// `dense`, `norm` and `bias` of a scope.
#[derive(Clone, Debug)]
pub(crate) struct LmHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Weight,
    act: Act,
}

impl LmHead {
    pub(crate) fn new(scope: &Scope, c: &BertConfig) -> Result<Self> {
        Ok(LmHead {
            dense: Linear::new(&scope.sub("dense"), c.dim, c.embedding_dim, true, BertConfig::INIT)?,
            norm: LayerNorm::new(&scope.sub("norm"), c.embedding_dim, c.eps)?,
            bias: scope.get("bias", c.vocabulary, Init::Const(0.0))?,
            act: c.act,
        })
    }

    /// `(M, D)` to what is compared with the word table, `(M, E)`.
    pub(crate) fn transform(&self, hidden: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.norm.forward(&self.dense.forward_act(hidden, self.act, pass)?, pass)
    }

    /// `(M, E)` and the word table `(V, E)` to `(M, V)`.
    pub(crate) fn logits(&self, transformed: &Tensor, table: &Weight, pass: &Pass) -> Result<Tensor> {
        Ok(linear(transformed, &table.on(pass)?, Some(&self.bias.on(pass)?), Path::Auto)?)
    }
}

/// The places of a batch that are predicted.
pub(crate) struct Predicted {
    /// Their numbers in the flattened `(N L)`, u32, `(M)`.
    pub rows: Tensor,
    /// Their labels `(M)`, i64.
    pub labels: Tensor,
}

impl Predicted {
    /// Of the labels `(N, L)`. A batch without any gets its first place with an ignored label: the loss is
    /// then 0, with a graph, instead of a tensor without rows.
    pub(crate) fn of(labels: &Tensor) -> Result<Self> {
        let device = labels.device();
        let all = integers(labels)?;
        let (mut rows, mut kept): (Vec<u32>, Vec<i64>) =
            all.iter().enumerate().filter(|(_, l)| **l != IGNORED).map(|(i, l)| (i as u32, *l)).unzip();
        if rows.is_empty() {
            (rows, kept) = (vec![0], vec![IGNORED]);
        }
        let m = rows.len();
        Ok(Predicted { rows: Tensor::from_vec(rows, m, device)?, labels: Tensor::from_vec(kept, m, device)? })
    }

    /// Their rows of `hidden (N, L, D)`: `(M, D)`.
    pub(crate) fn pick(&self, hidden: &Tensor) -> Result<Tensor> {
        let (n, l, d) = hidden.dims3()?;
        Ok(embedding(&hidden.reshape((n * l, d))?, &self.rows, None, Path::Auto)?)
    }
}

/// Mean cross entropy of `logits (M, C)` over the labels `(M)` that count; 0 if none does.
pub(crate) fn mean_cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    let count = labels.ne(IGNORED)?.to_dtype(DType::U32)?.sum_all()?.to_scalar::<u32>()?;
    Ok((cross_entropy_sum(logits, labels, smoothing, Path::Auto)? / f64::from(count.max(1)))?)
}

/// Share of the rows of `logits (M, C)` whose largest score is that of their label `(M)`, over the labels
/// that count; 0 if none does.
pub(crate) fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let (best, labels) =
        (logits.argmax(1)?.to_dtype(DType::I64)?.to_vec1::<i64>()?, labels.to_vec1::<i64>()?);
    let (mut right, mut all) = (0usize, 0usize);
    for (b, l) in best.iter().zip(&labels).filter(|(_, l)| **l != IGNORED) {
        right += usize::from(b == l);
        all += 1;
    }
    Ok(right as f64 / all.max(1) as f64)
}

/// The accuracy in predicting tokens that a model stays above as soon as it learns: twice chance among
/// `tokens`, at least 0.01, which frequent tokens alone give.
fn learns_above(tokens: usize) -> f64 {
    (2.0 / tokens.max(1) as f64).clamp(0.01, 0.5)
}

/// Above this share of right tokens, targets can be copied from the input, or the texts repeat.
const COPIED: f64 = 0.97;

/// The share of right predictions of a language model of `tokens`, with the band of healthy runs: above what
/// naming one token gives, below what only copying gives.
pub(crate) fn learnt(name: &'static str, value: f64, tokens: usize) -> Gauge {
    Gauge::plain(name, value).healthy(Band::within(learns_above(tokens), COPIED))
}

/// The spread of the hidden states `(M, D)` that predictions start from, whose effective rank the trainer
/// watches. The spread has no band: places that were hidden look alike at first.
pub(crate) fn hidden_spread(states: &Tensor) -> Result<Gauge> {
    Ok(embedding_std(&states.detach())?.named("hidden_std").healthy(Band::NONE))
}

#[cfg(test)]
mod tests {
    use super::learns_above;

    #[test]
    fn the_bound_of_accuracy_is_above_chance() {
        assert_eq!([30_522, 200, 100, 20, 2].map(learns_above), [0.01, 0.01, 0.02, 0.1, 0.5]);
    }
}
