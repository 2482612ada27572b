//! Fine-tuning for one class per utterance (speaker, language, command): the frames through a small
//! projection, their mean over the wave, a linear layer over the classes, as transformers'
//! `ForSequenceClassification`.

use super::ctc::encoder_for;
use crate::batch::{Target, Waves};
use crate::encoder::{SpeechConfig, SpeechEncoder};
use candle_core::{D, DType, Tensor};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::softmax::softmax;
use selfsup_core::loss::cross_entropy;
use selfsup_core::nn::Linear;
use selfsup_core::objective::Outputs;
use selfsup_core::{Encoder, Error, Init, Loss, Objective, Params, Pass, Result, Scope, Weight};

/// What a weighted sum of the layers is taken of (SUPERB, arXiv 2105.01051): `softmax(w)` weighs the states
/// `h_0 .. h_L`, the input of the first block and the output of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerSum {
    /// The states as the blocks give them, as transformers 5 sums them.
    #[default]
    States,
    /// With the final norm on the last of them, as transformers 4 summed them: for weights that were trained
    /// so. The same where each part of a block is normalised anyway.
    LastNormed,
}

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
    /// Read a weighted sum of all layers instead of the last (transformers' `use_weighted_layer_sum`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_sum: Option<LayerSum>,
}

impl Default for ClassifyConfig {
    fn default() -> Self {
        ClassifyConfig { freeze_front: true, projection_dim: 256, label_smoothing: 0.0, layer_sum: None }
    }
}

/// The task.
pub struct Classify {
    config: ClassifyConfig,
    params: Params,
    encoder: SpeechEncoder,
    layers: Option<(LayerSum, Weight)>,
    projector: Linear,
    classifier: Linear,
    classes: usize,
}

impl Classify {
    /// Builds the encoder at `encoder`, and `projector` and `classifier` beside it, with `layer_weights`
    /// where layers are summed.
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
        let states = encoder.config().depth + 1;
        let even = Init::Const(1.0 / states as f32);
        let weights =
            |kind| Ok::<_, Error>((kind, scope.top().no_decay().get("layer_weights", states, even)?));
        Ok(Classify {
            params: scope.params().clone(),
            layers: config.layer_sum.map(weights).transpose()?,
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
        let y = match &self.layers {
            None => e.encode(&frames, &hidden, valid.as_ref(), pass)?,
            Some((kind, weights)) => {
                let (last, mut states) = e.states(&frames, &hidden, valid.as_ref(), pass)?;
                if let (LayerSum::LastNormed, Some(state)) = (kind, states.last_mut()) {
                    *state = last;
                }
                let shares = softmax(&weights.on(pass)?.unsqueeze(0)?, Path::Auto)?; // (1, L + 1)
                let mut sum = states[0].broadcast_mul(&shares.narrow(1, 0, 1)?.unsqueeze(2)?)?;
                for (i, state) in states.iter().enumerate().skip(1) {
                    let share = shares.narrow(1, i, 1)?.unsqueeze(2)?; // (1, 1, 1)
                    sum = (sum + state.broadcast_mul(&share)?)?;
                }
                sum
            }
        };
        let y = self.projector.forward(&y, pass)?;
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
        let mut names = self.encoder.may_skip();
        // The states before the final norm are summed.
        if matches!(self.config.layer_sum, Some(LayerSum::States)) && self.encoder.config().stable_layer_norm
        {
            names.extend(["norm.weight", "norm.bias"].map(String::from));
        }
        names.into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}
