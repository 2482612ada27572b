//! Masked language modelling (Devlin et al. 2018, "BERT", arXiv 1810.04805, section 3.1): hidden tokens are
//! predicted from both sides.
//!
//! `L = -mean over the hidden places of log softmax(head(h_i) E^T + c)[x_i]`, with `E` the encoder's word
//! table. With next-sentence prediction `-log softmax(W tanh(W_p h_0 + b_p) + b)[y]` is added, where `y` is 0
//! if the second text follows the first. RoBERTa (Liu et al. 2019, arXiv 1907.11692) found it of no use, so
//! it is off by default.
//!
//! The batch comes masked ([`crate::mask`]). Logits are computed for hidden places alone: 15% of the work
//! over a vocabulary.

use super::unpooled;
use crate::batch::Sequences;
use crate::encoder::{Bert, BertConfig, Pool};
use crate::head::{LmHead, Predicted, accuracy, hidden_spread, learnt, mean_cross_entropy};
use crate::mask::{HIDDEN_INFO, MaskConfig};
use candle_core::Tensor;
use selfsup_core::nn::Linear;
use selfsup_core::objective::{Gauge, GaugeInfo, Loss, Objective};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskedLmConfig {
    /// Which tokens are hidden, and how.
    pub masking: MaskConfig,
    /// Whether to predict if the second text of a pair follows the first.
    pub next_sentence: bool,
}

/// The method.
pub struct MaskedLm {
    params: Params,
    encoder: Bert,
    head: LmHead,
    next: Option<Linear>,
    masking: MaskConfig,
}

impl MaskedLm {
    /// Builds the encoder at `encoder`, the head at `head`, and with next-sentence prediction the encoder's
    /// pooler and a classifier at `next`.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, encoder: BertConfig, config: &MaskedLmConfig) -> Result<Self> {
        // Without next-sentence prediction nothing would train a pooler.
        let shape = if config.next_sentence {
            BertConfig { pool: Pool::Pooler, ..encoder }
        } else {
            unpooled(encoder)
        };
        let encoder = Bert::new(&scope.sub("encoder"), shape)?;
        let c = encoder.config();
        Ok(MaskedLm {
            params: scope.params().clone(),
            head: LmHead::new(&scope.sub("head").top(), c)?,
            next: if config.next_sentence {
                Some(Linear::new(&scope.sub("next").top(), c.dim, 2, true, BertConfig::INIT)?)
            } else {
                None
            },
            encoder,
            masking: config.masking.clone(),
        })
    }

    /// The encoder.
    pub fn bert(&self) -> &Bert {
        &self.encoder
    }

    /// Scores of every token at every place, `(N, L, V)`: for looking at a model, not for training it.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn logits(&self, batch: &Sequences, pass: &Pass) -> Result<Tensor> {
        let (hidden, _) = self.encoder.hidden(&batch.input()?, batch.valid.as_ref(), &[], pass)?;
        self.head.logits(&self.head.transform(&hidden, pass)?, self.encoder.embeddings().table(), pass)
    }

    /// Scores of "follows" and "does not follow", `(N, 2)`, where the method has them.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn next_logits(&self, batch: &Sequences, pass: &Pass) -> Result<Option<Tensor>> {
        let Some(next) = &self.next else { return Ok(None) };
        let pooled = self.encoder.forward(&batch.input()?, batch.valid.as_ref(), &[], pass)?.pooled;
        Ok(Some(next.forward(&pooled, pass)?))
    }
}

selfsup_core::embeddings! {
    /// What the heads start from. The rows of the tokens are masked tokens, not samples.
    pub struct Masked {
        /// Masked tokens `(M, E)`.
        graph tokens: Tensor,
        /// Next-sentence scores `(N, 2)`.
        graph next: Option<Tensor>,
        /// Ids of the masked tokens `(M)`.
        fixed labels: Tensor,
        /// Whether the second text follows the first `(N)`.
        fixed follows: Option<Tensor>,
    }
}

impl Objective for MaskedLm {
    type Batch = Sequences;
    type Embeddings = Masked;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    /// Of the hidden places `(M, E)`, and the next-sentence scores `(N, 2)`; fixed: their labels.
    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Masked> {
        let predicted = Predicted::of(batch.token_labels()?)?;
        let (hidden, _) = self.encoder.hidden(&batch.input()?, batch.valid.as_ref(), &[], pass)?;
        let hidden_tokens = self.head.transform(&predicted.pick(&hidden)?, pass)?;
        let mut e = Masked { tokens: hidden_tokens, labels: predicted.labels, next: None, follows: None };
        if let Some(next) = &self.next {
            let targets = batch.targets.clone().ok_or_else(|| {
                Error::input(
                    "batch.targets",
                    "next-sentence prediction needs pairs of texts, and whether the second follows the first",
                )
            })?;
            e.next = Some(next.forward(&self.encoder.pool(&hidden, batch.valid.as_ref(), pass)?, pass)?);
            e.follows = Some(targets);
        }
        Ok(e)
    }

    fn criterion(&self, e: &Masked, pass: &Pass) -> Result<Loss> {
        let logits = self.head.logits(&e.tokens, self.encoder.embeddings().table(), pass)?;
        let masked = mean_cross_entropy(&logits, &e.labels, 0.0)?;
        match (&e.next, &e.follows) {
            (Some(scores), Some(targets)) => {
                let next = mean_cross_entropy(scores, targets, 0.0)?;
                let parts = vec![("masked", masked.detach()), ("next", next.detach())];
                Ok(Loss { value: (masked + next)?, parts })
            }
            _ => Ok(masked.into()),
        }
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn settings(&self) -> Vec<Gauge> {
        vec![self.masking.hidden()]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &HIDDEN_INFO
    }

    fn gauges(&self, e: &Masked, pass: &Pass) -> Result<Vec<Gauge>> {
        let logits = self.head.logits(&e.tokens, self.encoder.embeddings().table(), pass)?.detach();
        let mut gauges = vec![
            learnt("masked_accuracy", accuracy(&logits, &e.labels)?, logits.dim(1)?),
            hidden_spread(&e.tokens)?,
        ];
        if let (Some(scores), Some(targets)) = (&e.next, &e.follows) {
            gauges.push(Gauge::plain("next_accuracy", accuracy(scores, targets)?));
        }
        Ok(gauges)
    }
}
