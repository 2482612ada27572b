//! ELECTRA (Clark et al. 2020, arXiv 2003.10555): a small generator fills in hidden tokens, the discriminator
//! says of each token whether it was replaced.
//!
//! `L = L_MLM(generator) + lambda mean_i BCE(d_i, [x'_i != x_i])`, where `x'` is `x` with a sample from the
//! generator's softmax at each hidden place, drawn without a gradient. A token that the generator happens to
//! guess counts as original. The discriminator learns from all tokens, not from 15%. Both share their
//! embeddings (the paper's section 3.2); the discriminator is what a user takes away.
//!
//! The batch comes masked; hidden places become the mask token all (`mask = 1`). Over micro-batches the
//! second term is averaged by their share of hidden places, which is their share of tokens up to rounding.

use super::unpooled;
use crate::batch::{IGNORED, Sequences};
use crate::encoder::{Bert, BertConfig, Family, Pool};
use crate::head::{LmHead, Predicted, accuracy, hidden_spread, learnt, mean_cross_entropy};
use crate::mask::{HIDDEN_INFO, MaskConfig};
use candle_core::{DType, Device, Tensor};
use selfsup_core::kernels::host::floats;
use selfsup_core::kernels::host::indices;
use selfsup_core::nn::Linear;
use selfsup_core::objective::{Gauge, GaugeInfo, Loss, Objective};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Rng, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::sample::categorical;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ElectraConfig {
    /// Which tokens are hidden, and how; keys that are not given are those of [`ElectraConfig::default`], not
    /// BERT's.
    #[serde(deserialize_with = "masking")]
    pub masking: MaskConfig,
    /// Width of the generator as a share of the discriminator's (the paper's section 3.2: 1/4 to 1/2).
    pub generator_share: f64,
    /// Weight of the discriminator's loss.
    pub lambda: f64,
}

impl Default for ElectraConfig {
    fn default() -> Self {
        let masking = MaskConfig { mask: 1.0, random: 0.0, ..MaskConfig::default() };
        ElectraConfig { masking, generator_share: 0.25, lambda: 50.0 }
    }
}

/// `masking` over ELECTRA's defaults.
fn masking<'de, D: serde::Deserializer<'de>>(given: D) -> std::result::Result<MaskConfig, D::Error> {
    let given = serde_json::Map::deserialize(given)?;
    let mut all = serde_json::to_value(ElectraConfig::default().masking).map_err(D::Error::custom)?;
    if let Some(all) = all.as_object_mut() {
        all.extend(given);
    }
    serde_json::from_value(all).map_err(D::Error::custom)
}

impl ElectraConfig {
    /// The shape of the generator beside a discriminator.
    pub fn generator(&self, discriminator: &BertConfig) -> BertConfig {
        let c = discriminator;
        // Heads keep their width: their number shrinks with the trunk's.
        let heads = ((c.heads as f64 * self.generator_share).round() as usize).max(1);
        BertConfig {
            family: Family::Electra,
            dim: heads * (c.dim / c.heads.max(1)),
            heads,
            hidden: ((c.hidden as f64 * self.generator_share).round() as usize).max(1),
            pool: Pool::Mean,
            ..c.clone()
        }
    }
}

/// The discriminator's head: dense, activation, one score.
#[derive(Clone, Debug)]
struct DetectorHead {
    dense: Linear,
    out: Linear,
    config: BertConfig,
}

impl DetectorHead {
    /// At first everything is original with the probability that it is: `share` of the tokens are hidden (Lin
    /// et al. 2017, arXiv 1708.02002, section 4.1). Were it one half, the first hundred steps would teach the
    /// whole trunk to say the same of every token.
    fn new(scope: &Scope, c: &BertConfig, share: f64) -> Result<Self> {
        let share = share.clamp(1e-3, 1.0 - 1e-3);
        let prior = |d: &Device| Ok(Tensor::new(&[(share / (1.0 - share)).ln() as f32], d)?);
        scope.sub("out").get_with("bias", 1, prior)?;
        Ok(DetectorHead {
            dense: Linear::new(&scope.sub("dense"), c.dim, c.dim, true, BertConfig::INIT)?,
            out: Linear::new(&scope.sub("out"), c.dim, 1, true, BertConfig::INIT)?,
            config: c.clone(),
        })
    }

    /// `(.., D)` to `(.., 1)`.
    fn forward(&self, hidden: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.out.forward(&self.dense.forward_act(hidden, self.config.act, pass)?, pass)
    }
}

/// The method.
pub struct Electra {
    config: ElectraConfig,
    params: Params,
    encoder: Bert,
    detector: DetectorHead,
    generator: Bert,
    head: LmHead,
}

impl Electra {
    /// Builds the discriminator at `encoder` with its head at `head`, the generator at `generator` with its
    /// head at `generator.head`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the generator would have no head or no width.
    pub fn new(scope: &Scope, encoder: BertConfig, config: ElectraConfig) -> Result<Self> {
        if !(config.generator_share > 0.0 && config.generator_share <= 1.0 && config.lambda > 0.0) {
            return Err(Error::config(format!(
                "method: generator_share = {} and lambda = {}, expected a share in (0, 1] and a positive weight",
                config.generator_share, config.lambda
            )));
        }
        let encoder =
            Bert::new(&scope.sub("encoder"), unpooled(BertConfig { family: Family::Electra, ..encoder }))?;
        let c = encoder.config();
        let small = config.generator(c);
        let g = scope.sub("generator");
        Ok(Electra {
            params: scope.params().clone(),
            detector: DetectorHead::new(&scope.sub("head").top(), c, config.masking.share)?,
            generator: Bert::sharing(&g, small.clone(), encoder.embeddings().clone())?,
            head: LmHead::new(&g.sub("head").top(), &small)?,
            encoder,
            config,
        })
    }

    /// The discriminator.
    pub fn bert(&self) -> &Bert {
        &self.encoder
    }

    /// The generator's shape.
    pub fn generator(&self) -> &Bert {
        &self.generator
    }

    /// The discriminator's score of every token, `(N, L)`: positive where it thinks that the token was
    /// replaced.
    ///
    /// # Errors
    /// If the batch does not fit the encoder.
    pub fn scores(&self, ids: &Sequences, pass: &Pass) -> Result<Tensor> {
        let (hidden, _) = self.encoder.hidden(&ids.input()?, ids.valid.as_ref(), &[], pass)?;
        Ok(self.detector.forward(&hidden, pass)?.squeeze(2)?)
    }

    /// What the generator makes of a masked batch: ids with samples at the hidden places, and `(N, L)` labels
    /// of the detector: 1 replaced, 0 original, ignored for padding.
    fn replace(
        &self,
        batch: &Sequences,
        predicted: &Predicted,
        logits: &Tensor,
        pass: &Pass,
    ) -> Result<(Tensor, Tensor)> {
        let (n, l) = batch.ids.dims2()?;
        let device = batch.ids.device();
        let (rows, truth) = (predicted.rows.to_vec1::<u32>()?, predicted.labels.to_vec1::<i64>()?);
        // One number for each place, from the key of its sample: micro-batches draw what the whole batch
        // draws.
        let mut draws = Vec::with_capacity(rows.len());
        let mut current: Option<(usize, Rng)> = None;
        for &row in &rows {
            let sample = row as usize / l;
            if current.as_ref().is_none_or(|(s, _)| *s != sample) {
                current = Some((sample, pass.sample_key("generator", sample).rng()));
            }
            draws.push(current.as_mut().map_or(0.0, |(_, rng)| rng.uniform()));
        }
        // The ids alone come to the host, not the probabilities of the whole vocabulary.
        let drawn = categorical(logits, &draws, Path::Auto)?.to_vec1::<u32>()?;
        let mut ids = indices(&batch.ids)?;
        let mut labels = match &batch.valid {
            None => vec![0i64; n * l],
            Some(v) => floats(v)?.into_iter().map(|v| if v > 0.0 { 0 } else { IGNORED }).collect(),
        };
        for ((&row, &id), &truth) in rows.iter().zip(&drawn).zip(&truth).filter(|(_, t)| **t != IGNORED) {
            ids[row as usize] = id;
            labels[row as usize] = i64::from(i64::from(id) != truth);
        }
        Ok((Tensor::from_vec(ids, (n, l), device)?, Tensor::from_vec(labels, (n, l), device)?))
    }
}

/// Mean binary cross entropy of scores `(M, 1)` against labels 0 and 1 `(M)`, [`IGNORED`] left out: that of
/// the two classes 0 and score.
fn binary_cross_entropy(scores: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let two = Tensor::cat(&[&scores.zeros_like()?, scores], 1)?;
    mean_cross_entropy(&two, labels, 0.0)
}

/// The loss of the detector alone: `scores (N, L)` against `labels (N, L)`.
///
/// # Errors
/// If shapes do not fit, or a label is neither 0, 1 nor [`IGNORED`].
pub fn detection_loss(scores: &Tensor, labels: &Tensor) -> Result<Tensor> {
    binary_cross_entropy(&scores.flatten_all()?.unsqueeze(1)?, &labels.flatten_all()?)
}

selfsup_core::embeddings! {
    /// What generator and detector make of a batch.
    pub struct Detected {
        /// The generator's masked tokens `(M, E)`.
        graph filled: Tensor,
        /// The detector's scores `(N L, 1)`.
        graph scores: Tensor,
        /// Ids of the masked tokens `(M)`.
        fixed labels: Tensor,
        /// Labels of the detector `(N L)`: 1 replaced, 0 original, ignored for padding.
        fixed replaced: Tensor,
    }
}

impl Objective for Electra {
    type Batch = Sequences;
    type Embeddings = Detected;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    /// The generator's hidden places `(M, E)` and the detector's scores `(N L, 1)`; fixed: their labels.
    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Detected> {
        let predicted = Predicted::of(batch.token_labels()?)?;
        let (hidden, _) = self.generator.hidden(&batch.input()?, batch.valid.as_ref(), &[], pass)?;
        let filled = self.head.transform(&predicted.pick(&hidden)?, pass)?;
        let logits = self.head.logits(&filled.detach(), self.encoder.embeddings().table(), pass)?.detach();
        let (ids, replaced) = self.replace(batch, &predicted, &logits, pass)?;
        let input = match &batch.types {
            None => ids,
            Some(types) => Tensor::stack(&[&ids, types], 1)?,
        };
        let (hidden, _) = self.encoder.hidden(&input, batch.valid.as_ref(), &[], pass)?;
        let (n, l, _) = hidden.dims3()?;
        let scores = self.detector.forward(&hidden, pass)?.reshape((n * l, 1))?;
        Ok(Detected { filled, scores, labels: predicted.labels, replaced: replaced.flatten_all()? })
    }

    fn criterion(&self, e: &Detected, pass: &Pass) -> Result<Loss> {
        let logits = self.head.logits(&e.filled, self.encoder.embeddings().table(), pass)?;
        let generator = mean_cross_entropy(&logits, &e.labels, 0.0)?;
        let detector = binary_cross_entropy(&e.scores, &e.replaced)?;
        let parts = vec![("generator", generator.detach()), ("detector", detector.detach())];
        Ok(Loss { value: (generator + (detector * self.config.lambda)?)?, parts })
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn settings(&self) -> Vec<Gauge> {
        vec![self.config.masking.hidden()]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &HIDDEN_INFO
    }

    fn gauges(&self, e: &Detected, pass: &Pass) -> Result<Vec<Gauge>> {
        let logits = self.head.logits(&e.filled, self.encoder.embeddings().table(), pass)?.detach();
        let scores = Tensor::cat(&[&e.scores.zeros_like()?, &e.scores], 1)?;
        let labels = e.replaced.to_vec1::<i64>()?;
        let replaced: Vec<i64> = labels.iter().map(|&l| if l == 1 { 1 } else { IGNORED }).collect();
        let replaced = Tensor::from_vec(replaced, labels.len(), e.replaced.device())?;
        Ok(vec![
            learnt("generator_accuracy", accuracy(&logits, &e.labels)?, logits.dim(1)?),
            Gauge::plain("detector_accuracy", accuracy(&scores.to_dtype(DType::F32)?, &e.replaced)?),
            // Of the replaced tokens, those that are found: 0 for a detector that calls everything original.
            Gauge::plain("detector_recall", accuracy(&scores.to_dtype(DType::F32)?, &replaced)?),
            hidden_spread(&e.filled)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn masking_keeps_the_defaults_of_the_method() {
        let read = |text: &str| serde_json::from_str::<ElectraConfig>(text);
        let want = ElectraConfig::default().masking;
        assert_eq!(
            read(r#"{"masking": {"share": 0.3}}"#).map(|c| c.masking).ok(),
            Some(MaskConfig { share: 0.3, ..want.clone() })
        );
        assert_eq!(read("{}").map(|c| c.masking).ok(), Some(want));
        assert!(read(r#"{"masking": {"shares": 0.3}}"#).is_err_and(|e| e.to_string().contains("shares")));
    }

    /// `-log sigmoid(s)` for a replaced token, `-log (1 - sigmoid(s))` for an original one; ignored ones do
    /// not count.
    #[test]
    fn detection_is_binary_cross_entropy() -> Result<()> {
        let scores = Tensor::new(&[[2f32, -1.0, 9.0]], &Device::Cpu)?;
        let labels = Tensor::new(&[[1i64, 0, IGNORED]], &Device::Cpu)?;
        let want = ((1.0 + (-2f64).exp()).ln() + (1.0 + (-1f64).exp()).ln()) / 2.0;
        assert!((f64::from(detection_loss(&scores, &labels)?.to_scalar::<f32>()?) - want).abs() < 1e-6);
        Ok(())
    }
}
