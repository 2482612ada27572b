//! The shape of a speech encoder, with the sizes of the papers, read from and written as transformers'
//! `config.json`.

use crate::mask::SpanMask;
use selfsup_core::kernels::activation::Act;
use selfsup_core::{Error, Result};

/// Whose names and details a network follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Family {
    /// wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477).
    #[default]
    Wav2vec2,
    /// HuBERT (Hsu et al. 2021, arXiv 2106.07447): the same network.
    Hubert,
    /// data2vec for audio (Baevski et al. 2022, arXiv 2202.03555): layer norms in the front, a stack of
    /// positional convolutions.
    Data2vecAudio,
}

impl Family {
    /// `model_type` of config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Wav2vec2 => "wav2vec2",
            Family::Hubert => "hubert",
            Family::Data2vecAudio => "data2vec-audio",
        }
    }

    /// The prefix of the encoder's weights in transformers' models with a head.
    pub fn prefix(self) -> &'static str {
        match self {
            Family::Wav2vec2 => "wav2vec2",
            Family::Hubert => "hubert",
            Family::Data2vecAudio => "data2vec_audio",
        }
    }

    /// The stem of transformers' class names.
    pub fn class(self) -> &'static str {
        match self {
            Family::Wav2vec2 => "Wav2Vec2",
            Family::Hubert => "Hubert",
            Family::Data2vecAudio => "Data2VecAudio",
        }
    }
}

/// Where the convolutional front normalises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FrontNorm {
    /// Each channel over time, after the first convolution only (the base models).
    #[default]
    Group,
    /// Each frame over its channels, after every convolution (the large models).
    Layer,
}

/// The shape of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeechConfig {
    /// Whose details it follows.
    pub family: Family,
    /// Width of a frame in the trunk.
    pub dim: usize,
    /// Blocks of the trunk.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the MLPs.
    pub hidden: usize,
    /// Activation of MLPs, front and positional convolution.
    pub act: Act,
    /// Channels of each convolution of the front.
    pub conv_dim: Vec<usize>,
    /// Taps of each.
    pub conv_kernel: Vec<usize>,
    /// Step of each.
    pub conv_stride: Vec<usize>,
    /// Whether they have a bias.
    pub conv_bias: bool,
    /// Where they are normalised.
    pub front_norm: FrontNorm,
    /// Whether frames are normalised before they are projected (not in some distilled HuBERTs).
    pub projection_norm: bool,
    /// Taps of a positional convolution.
    pub position_kernel: usize,
    /// Its groups.
    pub position_groups: usize,
    /// Positional convolutions one after the other (data2vec: 5); the other families have one.
    pub position_layers: usize,
    /// Normalise before each part of a block instead of after it (the large models).
    pub stable_layer_norm: bool,
    /// Epsilon of the layer norms.
    pub eps: f64,
    /// Dropout of the trunk's input and of the outputs of both parts of a block.
    pub dropout: f32,
    /// Dropout of attention weights.
    pub attention_dropout: f32,
    /// Dropout inside the MLPs.
    pub activation_dropout: f32,
    /// Dropout of the projected frames.
    pub projection_dropout: f32,
    /// Chance that a block is left out of a training step.
    pub layer_drop: f32,
    /// Share of the gradient that enters the front, above 0 (fairseq's `feature_grad_mult`).
    pub front_gradient: f64,
    /// Frames that training hides: a masked method's own spans, or SpecAugment in fine-tuning.
    pub mask: SpanMask,
    /// Channels that training sets to zero.
    pub channel_mask: SpanMask,
}

impl Default for SpeechConfig {
    /// The base model of wav2vec 2.0 (section 4.2): 12 blocks of 768, a frame each 20 ms; no dropout.
    fn default() -> Self {
        SpeechConfig {
            family: Family::Wav2vec2,
            dim: 768,
            depth: 12,
            heads: 12,
            hidden: 3072,
            act: Act::GeluErf,
            conv_dim: vec![512; 7],
            conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
            conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
            conv_bias: false,
            front_norm: FrontNorm::Group,
            projection_norm: true,
            position_kernel: 128,
            position_groups: 16,
            position_layers: 1,
            stable_layer_norm: false,
            eps: 1e-5,
            dropout: 0.0,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            projection_dropout: 0.0,
            layer_drop: 0.0,
            front_gradient: 1.0,
            mask: SpanMask::NONE,
            channel_mask: SpanMask::NONE,
        }
    }
}

impl SpeechConfig {
    /// A standard size of a family: `tiny` (4 blocks of 256), `small` (4 of 384), `base` (12 of 768) or
    /// `large` (24 of 1024).
    pub fn named(family: Family, size: &str) -> Option<Self> {
        let base = SpeechConfig { family, ..SpeechConfig::default() };
        let mut c = match size {
            "tiny" => {
                SpeechConfig { dim: 256, depth: 4, heads: 4, hidden: 1024, conv_dim: vec![256; 7], ..base }
            }
            "small" => {
                SpeechConfig { dim: 384, depth: 4, heads: 6, hidden: 1536, conv_dim: vec![256; 7], ..base }
            }
            "base" => base,
            "large" => SpeechConfig {
                dim: 1024,
                depth: 24,
                heads: 16,
                hidden: 4096,
                conv_bias: true,
                front_norm: FrontNorm::Layer,
                stable_layer_norm: true,
                ..base
            },
            _ => return None,
        };
        if family == Family::Data2vecAudio {
            (c.front_norm, c.conv_bias, c.stable_layer_norm) = (FrontNorm::Layer, false, false);
            (c.position_kernel, c.position_layers) = (19, 5);
        }
        Some(c)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        let n = self.conv_dim.len();
        if n == 0 || self.conv_kernel.len() != n || self.conv_stride.len() != n {
            return Err(Error::config(format!(
                "encoder: conv_dim, conv_kernel and conv_stride have {n}, {} and {} entries: expected as many, at least one",
                self.conv_kernel.len(),
                self.conv_stride.len()
            )));
        }
        if self.conv_dim.iter().chain(&self.conv_kernel).chain(&self.conv_stride).any(|&v| v == 0) {
            return Err(Error::config("encoder: an entry of conv_dim, conv_kernel or conv_stride is 0"));
        }
        let (d, g) = (self.dim, self.position_groups);
        if self.depth == 0
            || d == 0
            || self.hidden == 0
            || self.position_kernel == 0
            || self.position_layers == 0
        {
            return Err(Error::config(
                "encoder: dim, depth, hidden, position_kernel and position_layers must be at least 1",
            ));
        }
        if g == 0 || !d.is_multiple_of(g) {
            return Err(Error::config(format!(
                "encoder.position_groups = {g} does not divide the width {d}"
            )));
        }
        for (key, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
            ("projection_dropout", self.projection_dropout),
            ("layer_drop", self.layer_drop),
        ] {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::config(format!("encoder.{key} = {p}: expected 0 or more and below 1")));
            }
        }
        if !(self.front_gradient > 0.0 && self.front_gradient <= 1.0) {
            return Err(Error::config(format!(
                "encoder.front_gradient = {}: expected a share above 0 and at most 1",
                self.front_gradient
            )));
        }
        self.mask.check("encoder.mask")?;
        self.channel_mask.check("encoder.channel_mask")
    }

    /// Frames of a wave of `samples` samples; 0 if it is too short for one.
    pub fn frames(&self, samples: usize) -> usize {
        self.conv_kernel
            .iter()
            .zip(&self.conv_stride)
            .fold(samples, |n, (&k, &s)| if n < k { 0 } else { (n - k) / s + 1 })
    }

    /// Whether what a wave is padded with changes its frames, so that a wave comes to the same frames only
    /// beside waves of its own length: statistics over time, and all but the first of data2vec's positional
    /// convolutions.
    pub fn sees_padding(&self) -> bool {
        self.front_norm == FrontNorm::Group || self.family == Family::Data2vecAudio
    }

    /// Samples between two frames.
    pub fn hop(&self) -> usize {
        self.conv_stride.iter().product()
    }

    /// Samples that a frame sees in the front: a wave must have as many.
    pub fn receptive_field(&self) -> usize {
        self.conv_kernel.iter().zip(&self.conv_stride).rev().fold(1, |n, (&k, &s)| (n - 1) * s + k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_base_model() {
        let c = SpeechConfig::default();
        assert_eq!((c.hop(), c.receptive_field()), (320, 400));
        assert_eq!([399, 400, 719, 720, 16_000, 32_000].map(|n| c.frames(n)), [0, 1, 1, 2, 49, 99]);
        assert_eq!(c.frames(0), 0);
    }
}
