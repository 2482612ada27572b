//! The start of all methods: a batch behind the convolutions, and the frames of it that are hidden.

use crate::batch::Waves;
use crate::encoder::{Hidden, SpeechEncoder};
use crate::mask::SpanMask;
use candle_core::Tensor;
use selfsup_core::objective::{Band, Gauge, embedding_std};
use selfsup_core::{Pass, Result};

/// The spread of the outputs `(rows, D)` at hidden frames. They look alike until the network tells them by what is
/// around: healthy runs fall to 0.17 for a while (docs/benchmarks/collapse.md), so the bound is lower than that of
/// embeddings of samples.
pub(super) fn hidden_spread(z: &Tensor) -> Result<Gauge> {
    Ok(embedding_std(&z.detach())?.healthy(Band::above(0.1)))
}

/// A batch whose frames are partly to be hidden.
pub(super) struct Masked {
    /// Frames of each wave, padding apart.
    pub(super) counts: Vec<usize>,
    /// The output of the convolutions, `(N, L, C)`.
    pub(super) frames: Tensor,
    /// `(N, L)`, 0 at padding; nothing where there is none.
    pub(super) valid: Option<Tensor>,
    /// `(N, L)` u8, 1 where hidden; drawn from the keys of the samples.
    pub(super) mask: Tensor,
}

impl Masked {
    /// Runs the convolutions and draws the spans.
    pub(super) fn of(encoder: &SpeechEncoder, spans: &SpanMask, batch: &Waves, pass: &Pass) -> Result<Self> {
        Self::behind(encoder, encoder.frames(&batch.values, pass)?, spans, batch, pass)
    }

    /// Draws the spans of frames `(N, L, C)` that the convolutions have made of the batch.
    pub(super) fn behind(
        encoder: &SpeechEncoder,
        frames: Tensor,
        spans: &SpanMask,
        batch: &Waves,
        pass: &Pass,
    ) -> Result<Self> {
        let counts = encoder.frame_counts(&batch.lengths)?;
        let (width, device) = (frames.dim(1)?, frames.device());
        let valid = encoder.frame_mask(&counts, width, device)?;
        let mask = spans.batch(&counts, width, |i| pass.sample_key("mask", i), device)?;
        Ok(Masked { counts, frames, valid, mask })
    }

    /// What is hidden from the encoder.
    pub(super) fn hidden(&self) -> Hidden {
        Hidden { frames: Some(self.mask.clone()), channels: None }
    }

    /// The context of all frames, `(N, L, D)`.
    pub(super) fn encode(&self, encoder: &SpeechEncoder, pass: &Pass) -> Result<Tensor> {
        encoder.encode(&self.frames, &self.hidden(), self.valid.as_ref(), pass)
    }
}
