//! Extractive question answering (Devlin et al. 2018, arXiv 1810.04805, section 4.2): where in the text does
//! the answer start and end?
//!
//! `L = (-log softmax(s)[start] - log softmax(e)[end]) / 2` with the scores `(s, e) = W h + b` of all tokens.
//! A question without an answer points at the first token (SQuAD 2.0).

use super::{Tune, encoder};
use crate::batch::{IGNORED, Sequences};
use crate::encoder::{Bert, BertConfig, Pool};
use crate::head::{accuracy, mean_cross_entropy};
use candle_core::Tensor;
use selfsup_core::kernels::host::integers;
use selfsup_core::nn::Linear;
use selfsup_core::objective::{Gauge, Loss, Objective};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerConfig {
    /// Which parameters of the encoder change.
    pub tune: Tune,
}

/// The task.
pub struct AnswerFinder {
    params: Params,
    encoder: Bert,
    out: Linear,
}

impl AnswerFinder {
    /// Builds the encoder at `encoder` and the head at `answer`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, bert: &BertConfig, config: &AnswerConfig) -> Result<Self> {
        let encoder = encoder(scope, &BertConfig { pool: Pool::Mean, ..bert.clone() }, config.tune)?;
        let out = Linear::new(&scope.sub("answer").top(), encoder.dim(), 2, true, BertConfig::INIT)?;
        Ok(AnswerFinder { params: scope.params().clone(), encoder, out })
    }

    /// The encoder.
    pub fn bert(&self) -> &Bert {
        &self.encoder
    }

    /// Scores of every token as the answer's first and as its last, `(N, L)` each.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn logits(&self, batch: &Sequences, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let (hidden, _) = self.encoder.hidden(&batch.input()?, batch.valid.as_ref(), &[], pass)?;
        let y = self.out.forward(&hidden, pass)?; // (N, L, 2)
        let part = |i| -> Result<Tensor> { Ok(y.narrow(2, i, 1)?.squeeze(2)?.contiguous()?) };
        Ok((part(0)?, part(1)?))
    }
}

selfsup_core::embeddings! {
    /// Scores of both ends of an answer, and where they are.
    pub struct Ends {
        /// Scores of every token as the first, `(N, L)`.
        graph start: Tensor,
        /// Scores of every token as the last, `(N, L)`.
        graph end: Tensor,
        /// The first token `(N)`.
        fixed first: Tensor,
        /// The last token `(N)`.
        fixed last: Tensor,
    }
}

impl Objective for AnswerFinder {
    type Batch = Sequences;
    type Embeddings = Ends;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Ends> {
        let l = batch.ids.dim(1)? as i64;
        let targets = match &batch.targets {
            Some(t) if t.dims() == [batch.ids.dim(0)?, 2] => t,
            other => {
                let found = other.as_ref().map(|t| t.dims().to_vec());
                return Err(Error::input(
                    "batch.targets",
                    format!("shape {found:?}, expected (N, 2): first and last token of each answer"),
                ));
            }
        };
        // An answer that was cut off with the end of its text is not counted, as in transformers.
        let part = |i| -> Result<Tensor> {
            let ids: Vec<i64> = integers(&targets.narrow(1, i, 1)?)?;
            let ids: Vec<i64> = ids.into_iter().map(|t| if t >= l { IGNORED } else { t }).collect();
            let n = ids.len();
            Ok(Tensor::from_vec(ids, n, batch.ids.device())?)
        };
        let (start, end) = self.logits(batch, pass)?;
        Ok(Ends { start, end, first: part(0)?, last: part(1)? })
    }

    fn criterion(&self, e: &Ends, _pass: &Pass) -> Result<Loss> {
        let start = mean_cross_entropy(&e.start, &e.first, 0.0)?;
        let end = mean_cross_entropy(&e.end, &e.last, 0.0)?;
        Ok(((start + end)? * 0.5)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauges(&self, e: &Ends, _pass: &Pass) -> Result<Vec<Gauge>> {
        Ok(vec![
            Gauge::plain("start_accuracy", accuracy(&e.start, &e.first)?),
            Gauge::plain("end_accuracy", accuracy(&e.end, &e.last)?),
        ])
    }
}
