//! Classification of tokens: names, parts of speech (Devlin et al. 2018, arXiv 1810.04805, section 5.3). The
//! first piece of a word carries its label, the others are ignored ([`align_labels`]).

use super::{Tune, before_head, check, encoder};
use crate::batch::{IGNORED, Sequences};
use crate::encoder::{Bert, BertConfig, Pool};
use crate::head::{Predicted, accuracy, mean_cross_entropy};
use candle_core::{DType, Tensor};
use selfsup_core::nn::Linear;
use selfsup_core::objective::{Gauge, Loss, Objective, Outputs};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenConfig {
    /// Number of classes.
    pub classes: usize,
    /// Dropout before the classifier (transformers' 0.1).
    pub dropout: f32,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Which parameters of the encoder change.
    pub tune: Tune,
}

impl Default for TokenConfig {
    fn default() -> Self {
        TokenConfig { classes: 2, dropout: 0.1, label_smoothing: 0.0, tune: Tune::All }
    }
}

/// The task.
pub struct TokenClassifier {
    config: TokenConfig,
    params: Params,
    encoder: Bert,
    out: Linear,
}

impl TokenClassifier {
    /// Builds the encoder at `encoder` and the head at `classifier`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, bert: &BertConfig, config: TokenConfig) -> Result<Self> {
        check(config.classes, config.dropout, config.label_smoothing)?;
        let encoder = encoder(scope, &BertConfig { pool: Pool::Mean, ..bert.clone() }, config.tune)?;
        let out = Linear::new(
            &scope.sub("classifier").top(),
            encoder.dim(),
            config.classes,
            true,
            BertConfig::INIT,
        )?;
        Ok(TokenClassifier { params: scope.params().clone(), encoder, out, config })
    }

    /// The encoder.
    pub fn bert(&self) -> &Bert {
        &self.encoder
    }

    /// Scores of the classes of every token, `(N, L, C)`.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn logits(&self, batch: &Sequences, pass: &Pass) -> Result<Tensor> {
        let (hidden, _) = self.encoder.hidden(&batch.input()?, batch.valid.as_ref(), &[], pass)?;
        self.out.forward(&before_head(hidden, self.config.dropout, pass)?, pass)
    }

    /// The class of every place, `(N, L)`; what stands at padded or ignored places means nothing.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn predict(&self, batch: &Sequences) -> Result<Vec<Vec<u32>>> {
        Ok(self.logits(batch, &Pass::eval())?.detach().argmax(2)?.to_dtype(DType::U32)?.to_vec2()?)
    }
}

/// Labels of tokens from those of words: the first token of each word gets its label, all else is ignored.
/// `words` are the word of each token (`None` for special tokens).
///
/// # Errors
/// If a token belongs to a word without a label.
pub fn align_labels(words: &[Option<u32>], labels: &[i64]) -> Result<Vec<i64>> {
    let mut last = None;
    words
        .iter()
        .map(|&word| {
            let first = word.is_some() && word != last;
            last = word;
            match word.filter(|_| first) {
                None => Ok(IGNORED),
                Some(w) => labels.get(w as usize).copied().ok_or_else(|| {
                    Error::input(
                        format!("word {w}"),
                        format!("has no label: there are {} labels", labels.len()),
                    )
                }),
            }
        })
        .collect()
}

impl Objective for TokenClassifier {
    type Batch = Sequences;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    /// Scores of the labelled tokens alone, `(M, C)`.
    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Outputs> {
        let predicted = Predicted::of(batch.token_labels()?)?;
        let (hidden, _) = self.encoder.hidden(&batch.input()?, batch.valid.as_ref(), &[], pass)?;
        // Dropout first, while samples are dimension 0.
        let hidden = before_head(hidden, self.config.dropout, pass)?;
        let logits = self.out.forward(&predicted.pick(&hidden)?, pass)?; // (N, L, D) -> (M, D) -> (M, C)
        Ok(Outputs { outputs: logits, targets: predicted.labels })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        Ok(mean_cross_entropy(&e.outputs, &e.targets, self.config.label_smoothing)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauges(&self, e: &Outputs, _pass: &Pass) -> Result<Vec<Gauge>> {
        Ok(vec![Gauge::plain("token_accuracy", accuracy(&e.outputs, &e.targets)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pieces_carry_the_label() -> Result<()> {
        let words = [None, Some(0), Some(0), Some(1), Some(2), Some(2), None, None];
        assert_eq!(align_labels(&words, &[7, 8, 9])?, [IGNORED, 7, IGNORED, 8, 9, IGNORED, IGNORED, IGNORED]);
        assert!(align_labels(&words, &[7, 8]).is_err());
        Ok(())
    }
}
