//! Fine-tuning for one class per utterance (speaker, language, command): the frames through a small
//! projection, their mean over the wave, a linear layer over the classes, as transformers'
//! `ForSequenceClassification`.

use super::ctc::encoder_for;
use crate::batch::{Target, Waves};
use crate::encoder::{SpeechConfig, SpeechEncoder};
use candle_core::{D, DType, Tensor};
use selfsup_core::loss::cross_entropy;
use selfsup_core::nn::Linear;
use selfsup_core::objective::Outputs;
use selfsup_core::{Encoder, Error, Init, Loss, Objective, Params, Pass, Result, Scope};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifyConfig {
    /// Keep the convolutional front as it is.
    pub freeze_front: bool,
    /// Width of the projection (256).
    pub projection_dim: usize,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
}

impl Default for ClassifyConfig {
    fn default() -> Self {
        ClassifyConfig { freeze_front: true, projection_dim: 256, label_smoothing: 0.0 }
    }
}

/// The task.
pub struct Classify {
    config: ClassifyConfig,
    params: Params,
    encoder: SpeechEncoder,
    projector: Linear,
    classifier: Linear,
    classes: usize,
}

impl Classify {
    /// Builds the encoder at `encoder`, and `projector` and `classifier` beside it.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, encoder: SpeechConfig, config: ClassifyConfig, classes: usize) -> Result<Self> {
        if classes < 2 || config.projection_dim == 0 || !(0.0..1.0).contains(&config.label_smoothing) {
            return Err(Error::config(format!(
                "task: {classes} classes, projection_dim = {}, label_smoothing = {}: expected at least 2, at least 1, and 0 or more and below 1",
                config.projection_dim, config.label_smoothing
            )));
        }
        let encoder = encoder_for(scope, encoder, config.freeze_front)?;
        let init = Init::Normal(0.02);
        Ok(Classify {
            params: scope.params().clone(),
            projector: Linear::new(
                &scope.sub("projector").top(),
                encoder.config().dim,
                config.projection_dim,
                true,
                init,
            )?,
            classifier: Linear::new(
                &scope.sub("classifier").top(),
                config.projection_dim,
                classes,
                true,
                init,
            )?,
            encoder,
            config,
            classes,
        })
    }

    /// The encoder.
    pub fn speech(&self) -> &SpeechEncoder {
        &self.encoder
    }

    /// Scores of the classes, `(N, classes)`.
    ///
    /// # Errors
    /// If a wave is too short for a frame.
    pub fn logits(&self, batch: &Waves, pass: &Pass) -> Result<Tensor> {
        let e = &self.encoder;
        let counts = e.frame_counts(&batch.lengths)?;
        let frames = e.frames(&batch.values, pass)?;
        let width = frames.dim(1)?;
        let valid = e.frame_mask(&counts, width, frames.device())?;
        let hidden = e.augment(&counts, width, pass, frames.device())?;
        let y = self.projector.forward(&e.encode(&frames, &hidden, valid.as_ref(), pass)?, pass)?;
        self.classifier.forward(&e.pool(&y, valid.as_ref())?, pass)
    }
}

impl Objective for Classify {
    type Batch = Waves;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Waves, pass: &Pass) -> Result<Outputs> {
        let mut labels = Vec::with_capacity(batch.targets.len());
        for (i, target) in batch.targets.iter().enumerate() {
            let name = || format!("sample {}", batch.indices.get(i).copied().unwrap_or(i));
            match target {
                Target::Class(c) if (*c as usize) < self.classes => labels.push(i64::from(*c)),
                Target::Class(c) => {
                    return Err(Error::input(name(), format!("class {c}, expected one of {}", self.classes)));
                }
                _ => return Err(Error::input(name(), "no class")),
            }
        }
        let labels = Tensor::from_vec(labels, batch.targets.len(), batch.values.device())?;
        Ok(Outputs { outputs: self.logits(batch, pass)?, targets: labels })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        let right = e
            .outputs
            .detach()
            .argmax(D::Minus1)?
            .to_dtype(DType::I64)?
            .eq(&e.targets)?
            .to_dtype(DType::F32)?
            .mean_all()?;
        let value = cross_entropy(&e.outputs, &e.targets, self.config.label_smoothing)?;
        Ok(Loss { value, parts: vec![("accuracy", right)] })
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}
