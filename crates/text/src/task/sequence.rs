//! Classification of sequences: `softmax(W g(f(x)) + b)`, with `g` the family's pooling (Devlin et al. 2018,
//! arXiv 1810.04805, section 4.1).

use super::{Tune, before_head, check, encoder};
use crate::batch::Sequences;
use crate::encoder::{Bert, BertConfig, Family, Pool};
use crate::head::{accuracy, mean_cross_entropy};
use candle_core::Tensor;
use selfsup_core::nn::Linear;
use selfsup_core::objective::{Gauge, Loss, Objective, Outputs};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::softmax::softmax;
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceConfig {
    /// Number of classes.
    pub classes: usize,
    /// Dropout before the classifier (transformers' 0.1).
    pub dropout: f32,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// How tokens become one vector. By default the family's: BERT's pooler; for the others the first token
    /// and a layer of the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Which parameters of the encoder change.
    pub tune: Tune,
}

impl Default for SequenceConfig {
    fn default() -> Self {
        SequenceConfig { classes: 2, dropout: 0.1, label_smoothing: 0.0, pool: None, tune: Tune::All }
    }
}

/// The task.
pub struct SequenceClassifier {
    config: SequenceConfig,
    params: Params,
    encoder: Bert,
    /// RoBERTa's and ELECTRA's heads have a layer of their own where BERT has its pooler.
    dense: Option<Linear>,
    out: Linear,
}

impl SequenceClassifier {
    /// Builds the encoder at `encoder` and the head at `classifier`, with the names of transformers.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, bert: &BertConfig, config: SequenceConfig) -> Result<Self> {
        check(config.classes, config.dropout, config.label_smoothing)?;
        let own = bert.family != Family::Bert && config.pool.is_none();
        let pool = config.pool.unwrap_or(if own { Pool::Class } else { Pool::Pooler });
        let encoder = encoder(scope, &BertConfig { pool, ..bert.clone() }, config.tune)?;
        let (d, head) = (encoder.dim(), scope.sub("classifier").top());
        let out = if own { head.sub("out_proj") } else { head.clone() };
        Ok(SequenceClassifier {
            params: scope.params().clone(),
            dense: if own {
                Some(Linear::new(&head.sub("dense"), d, d, true, BertConfig::INIT)?)
            } else {
                None
            },
            out: Linear::new(&out, d, config.classes, true, BertConfig::INIT)?,
            encoder,
            config,
        })
    }

    /// The encoder.
    pub fn bert(&self) -> &Bert {
        &self.encoder
    }

    /// Scores of the classes, `(N, C)`.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn logits(&self, batch: &Sequences, pass: &Pass) -> Result<Tensor> {
        let p = self.config.dropout;
        let x = before_head(
            self.encoder.forward(&batch.input()?, batch.valid.as_ref(), &[], pass)?.pooled,
            p,
            pass,
        )?;
        let x = match (&self.dense, self.encoder.config().family) {
            (None, _) => x,
            (Some(dense), Family::Electra) => {
                dense.forward_act(&x, selfsup_kernels::activation::Act::GeluErf, pass)?
            }
            (Some(dense), _) => dense.forward(&x, pass)?.tanh()?,
        };
        self.out.forward(&x, pass)
    }

    /// Probabilities of the classes, `(N, C)`, without a graph.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn predict(&self, batch: &Sequences) -> Result<Tensor> {
        Ok(softmax(&self.logits(batch, &Pass::eval())?.detach(), Path::Auto)?)
    }
}

impl Objective for SequenceClassifier {
    type Batch = Sequences;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Outputs> {
        let targets = match &batch.targets {
            Some(t) if t.rank() == 1 => t.clone(),
            other => {
                let found = other.as_ref().map(|t| t.dims().to_vec());
                return Err(Error::input(
                    "batch.targets",
                    format!("shape {found:?}, expected one class for each sequence"),
                ));
            }
        };
        Ok(Outputs { outputs: self.logits(batch, pass)?, targets })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        Ok(mean_cross_entropy(&e.outputs, &e.targets, self.config.label_smoothing)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauges(&self, e: &Outputs, _pass: &Pass) -> Result<Vec<Gauge>> {
        Ok(vec![Gauge::plain("accuracy", accuracy(&e.outputs, &e.targets)?)])
    }
}
