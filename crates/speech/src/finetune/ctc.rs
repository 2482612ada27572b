//! Fine-tuning for recognition with CTC (Graves et al. 2006; wav2vec 2.0, arXiv 2006.11477, section 3.2): a
//! linear layer over the characters on every frame, the convolutional front frozen;
//! `train.freeze_encoder_steps` leaves the rest of the encoder out of the first steps.
//!
//! The loss of an utterance is divided by the length of its transcript (transformers' `ctc_loss_reduction =
//! "mean"`); one whose transcript does not fit its frames counts 0 and is reported as `transcripts_too_long`.

use crate::batch::{Target, Waves};
use crate::encoder::{SpeechConfig, SpeechEncoder};
use crate::finetune::Vocabulary;
use candle_core::{DType, Device, Tensor};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::dropout::dropout;
use selfsup_core::kernels::loss::ctc;
use selfsup_core::nn::Linear;
use selfsup_core::objective::Outputs;
use selfsup_core::{Encoder, Error, Init, Loss, Objective, Params, Pass, Result, Role, Scope};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CtcConfig {
    /// Keep the convolutional front as it is (the paper does).
    pub freeze_front: bool,
    /// Dropout of the frames before the new layer (0.1 in fairseq's and transformers' defaults).
    pub final_dropout: f32,
}

impl Default for CtcConfig {
    fn default() -> Self {
        CtcConfig { freeze_front: true, final_dropout: 0.1 }
    }
}

/// The encoder for a task, with the front frozen or not.
pub(super) fn encoder_for(scope: &Scope, config: SpeechConfig, freeze_front: bool) -> Result<SpeechEncoder> {
    let front = if freeze_front { Role::Frozen } else { scope.role() };
    SpeechEncoder::with_front(&scope.sub("encoder"), config, front)
}

/// The task.
pub struct Ctc {
    config: CtcConfig,
    params: Params,
    encoder: SpeechEncoder,
    lm_head: Linear,
    vocabulary: usize,
}

impl Ctc {
    /// Builds the encoder at `encoder` and the layer at `lm_head` over `vocabulary` tokens, of which 0 is the
    /// blank. Load pre-trained weights into `encoder` afterwards ([`crate::names::load_pretrained`]).
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, encoder: SpeechConfig, config: CtcConfig, vocabulary: usize) -> Result<Self> {
        if vocabulary < 2 {
            return Err(Error::config(format!(
                "a vocabulary of {vocabulary} tokens: expected the blank and at least one more"
            )));
        }
        if !(0.0..1.0).contains(&config.final_dropout) {
            return Err(Error::config(format!(
                "task.final_dropout = {}: expected 0 or more and below 1",
                config.final_dropout
            )));
        }
        let encoder = encoder_for(scope, encoder, config.freeze_front)?;
        let lm_head = Linear::new(
            &scope.sub("lm_head").top(),
            encoder.config().dim,
            vocabulary,
            true,
            Init::Normal(0.02),
        )?;
        Ok(Ctc { params: scope.params().clone(), encoder, lm_head, config, vocabulary })
    }

    /// The encoder.
    pub fn speech(&self) -> &SpeechEncoder {
        &self.encoder
    }

    /// Scores of the tokens `(N, L, V)` and the number of frames of each wave.
    ///
    /// # Errors
    /// If a wave is too short for a frame.
    pub fn logits(&self, batch: &Waves, pass: &Pass) -> Result<(Tensor, Vec<usize>)> {
        let e = &self.encoder;
        let counts = e.frame_counts(&batch.lengths)?;
        let frames = e.frames(&batch.values, pass)?;
        let width = frames.dim(1)?;
        let valid = e.frame_mask(&counts, width, frames.device())?;
        let hidden = e.augment(&counts, width, pass, frames.device())?;
        let mut y = e.encode(&frames, &hidden, valid.as_ref(), pass)?;
        if let Some(drop) = pass.dropout(self.config.final_dropout, pass.key("final")) {
            y = dropout(&y, &drop, Path::Auto)?;
        }
        Ok((self.lm_head.forward(&y, pass)?, counts))
    }

    /// `(N, 2 + S)` i64: the number of frames, the number of labels, and the labels, padded.
    fn packed(&self, batch: &Waves, counts: &[usize]) -> Result<Tensor> {
        let mut rows = Vec::new();
        for (i, (target, &frames)) in batch.targets.iter().zip(counts).enumerate() {
            let name = || format!("sample {}", batch.indices.get(i).copied().unwrap_or(i));
            let Target::Transcript(ids) = target else { return Err(Error::input(name(), "no transcript")) };
            if let Some(bad) =
                ids.iter().find(|&&id| id == Vocabulary::BLANK || id as usize >= self.vocabulary)
            {
                return Err(Error::input(
                    name(),
                    format!("token {bad}, expected 1 to {}", self.vocabulary - 1),
                ));
            }
            let mut row = vec![frames as i64, ids.len() as i64];
            row.extend(ids.iter().map(|&id| i64::from(id)));
            rows.push(row);
        }
        let width = rows.iter().map(Vec::len).max().unwrap_or(2);
        let flat: Vec<i64> = rows
            .into_iter()
            .flat_map(|mut row| {
                row.resize(width, 0);
                row
            })
            .collect();
        Ok(Tensor::from_vec(flat, (counts.len(), width), &Device::Cpu)?)
    }
}

/// Frames that a transcript needs: one for each label, and a blank between two that are equal.
pub fn frames_needed(ids: &[u32]) -> usize {
    ids.len() + ids.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

impl Objective for Ctc {
    type Batch = Waves;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Waves, pass: &Pass) -> Result<Outputs> {
        let (logits, counts) = self.logits(batch, pass)?;
        Ok(Outputs { outputs: logits, targets: self.packed(batch, &counts)? })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        let packed: Vec<Vec<i64>> = e.targets.to_vec2()?;
        let (n, width) = (packed.len(), packed.first().map_or(2, Vec::len));
        let lengths = |at: usize| packed.iter().map(|row| row[at] as usize).collect::<Vec<_>>();
        let (frames, labels) = (lengths(0), lengths(1));
        let targets = if width > 2 {
            e.targets.narrow(1, 2, width - 2)?.contiguous()?
        } else {
            Tensor::zeros((n, 0), DType::I64, &Device::Cpu)?
        };
        let nll = ctc(&e.outputs, &targets, &frames, &labels, Vocabulary::BLANK as usize)?;
        let fits: Vec<u32> = nll
            .detach()
            .to_vec1::<f32>()?
            .iter()
            .enumerate()
            .filter(|(_, v)| v.is_finite())
            .map(|(i, _)| i as u32)
            .collect();
        let late = Tensor::new((n - fits.len()) as f32, nll.device())?;
        if fits.is_empty() {
            // A batch without a transcript that fits teaches nothing: a loss of 0 with gradients of 0.
            let value = (e.outputs.sum_all()? * 0.0)?;
            return Ok(Loss { parts: vec![("transcripts_too_long", late)], value });
        }
        let share: Vec<f32> = fits.iter().map(|&i| 1.0 / (labels[i as usize].max(1) * n) as f32).collect();
        let device = nll.device();
        let share = Tensor::from_vec(share, fits.len(), device)?;
        let kept = nll.index_select(&Tensor::from_slice(&fits, fits.len(), device)?, 0)?;
        let value = (kept * share)?.sum_all()?;
        Ok(Loss { parts: vec![("transcripts_too_long", late)], value })
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}
