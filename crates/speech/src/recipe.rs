//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.

use crate::batch::Waves;
use crate::encoder::{Family, FrontNorm, SpeechConfig};
use crate::mask::SpanMask;
use crate::methods::{Data2Vec, Data2VecConfig, Hubert, HubertConfig, Wav2Vec2, Wav2Vec2Config};
use selfsup_core::objective::boxed;
use selfsup_core::{Error, Result, Scope};
use serde::{Deserialize, Serialize};

/// `[encoder]`: a standard network by name; the other keys change it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// A family, `wav2vec2`, `hubert` or `data2vec`, and a size: `tiny` (4 blocks of 256), `small` (4 of
    /// 384), `base` (12 of 768) or `large` (24 of 1024): `wav2vec2_base`. An empty name is the method's
    /// family in the size `tiny`.
    pub name: String,
    /// Width of the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Width inside the MLPs, as a multiple of `dim` (4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_ratio: Option<f64>,
    /// Channels of the front's convolutions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_dim: Option<usize>,
    /// Where the front normalises: `group` or `layer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_norm: Option<FrontNorm>,
    /// Normalise before each part of a block instead of after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_layer_norm: Option<bool>,
    /// Taps of the positional convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_kernel: Option<usize>,
    /// Groups of the positional convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_groups: Option<usize>,
    /// Dropout of the trunk's input and of both parts of a block (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
    /// Dropout of attention weights (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_dropout: Option<f32>,
    /// Dropout inside the MLPs (0.0 in pre-training, 0.1 in fine-tuning).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_dropout: Option<f32>,
    /// Dropout of the projected frames (0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection_dropout: Option<f32>,
    /// Chance that a block is left out of a step (0.05 for wav2vec 2.0 and HuBERT; 0 here: it helps deep
    /// trunks only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_drop: Option<f32>,
    /// Share of the gradient that enters the front (1, as in transformers; fairseq's base models of wav2vec
    /// 2.0 and HuBERT 0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_gradient: Option<f64>,
    /// Frames that fine-tuning hides (SpecAugment); a method's own mask takes its place in pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<SpanMask>,
    /// Channels that fine-tuning sets to zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_mask: Option<SpanMask>,
    /// Start from these weights: a folder in transformers' layout, a file, or `org/name` on the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

impl EncoderConfig {
    /// The keys that shape the network.
    pub const SHAPE: [&'static str; 17] = [
        "dim",
        "depth",
        "heads",
        "mlp_ratio",
        "front_dim",
        "front_norm",
        "stable_layer_norm",
        "position_kernel",
        "position_groups",
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "projection_dropout",
        "layer_drop",
        "front_gradient",
        "mask",
        "channel_mask",
    ];

    /// The network; `family` is taken where the name is empty.
    ///
    /// # Errors
    /// If the name is unknown or the sizes do not fit.
    pub fn resolve(&self, family: Family) -> Result<SpeechConfig> {
        let unknown = || {
            Error::config(format!(
                "encoder.name = \"{}\": expected wav2vec2, hubert or data2vec, and tiny, small, base or large, as in wav2vec2_base",
                self.name
            ))
        };
        let (family, size) = match self.name.split_once('_') {
            _ if self.name.is_empty() => (family, "tiny"),
            Some(("wav2vec2", size)) => (Family::Wav2vec2, size),
            Some(("hubert", size)) => (Family::Hubert, size),
            Some(("data2vec", size)) => (Family::Data2vecAudio, size),
            _ => return Err(unknown()),
        };
        let mut c = SpeechConfig::named(family, size).ok_or_else(unknown)?;
        let ratio = self.mlp_ratio.unwrap_or(c.hidden as f64 / c.dim as f64);
        c.dim = self.dim.unwrap_or(c.dim);
        c.hidden = (c.dim as f64 * ratio) as usize;
        c.depth = self.depth.unwrap_or(c.depth);
        // Heads of 64 where the width is changed and the heads are not.
        c.heads = self.heads.unwrap_or(if self.dim.is_some() { (c.dim / 64).max(1) } else { c.heads });
        if let Some(width) = self.front_dim {
            c.conv_dim = vec![width; c.conv_dim.len()];
        }
        c.front_norm = self.front_norm.unwrap_or(c.front_norm);
        c.stable_layer_norm = self.stable_layer_norm.unwrap_or(c.stable_layer_norm);
        if family == Family::Data2vecAudio && (c.front_norm == FrontNorm::Group || c.stable_layer_norm) {
            return Err(Error::config(
                "encoder: data2vec has layer norms in its front and after each part of a block only",
            ));
        }
        c.position_kernel = self.position_kernel.unwrap_or(c.position_kernel);
        c.position_groups = self.position_groups.unwrap_or(c.position_groups);
        c.dropout = self.dropout.unwrap_or(0.1);
        c.attention_dropout = self.attention_dropout.unwrap_or(0.1);
        c.activation_dropout = self.activation_dropout.unwrap_or(0.0);
        c.projection_dropout = self.projection_dropout.unwrap_or(0.0);
        c.layer_drop = self.layer_drop.unwrap_or(0.0);
        c.front_gradient = self.front_gradient.unwrap_or(1.0);
        c.mask = self.mask.unwrap_or(SpanMask::NONE);
        c.channel_mask = self.channel_mask.unwrap_or(SpanMask::NONE);
        if c.heads == 0 || !c.dim.is_multiple_of(c.heads) {
            return Err(Error::config(format!(
                "encoder.heads = {} do not divide encoder.dim = {}",
                c.heads, c.dim
            )));
        }
        c.check()?;
        Ok(c)
    }
}

selfsup_core::method_config! {
    /// `[method]`: `name` and the method's own keys.
    pub enum MethodConfig {
        /// wav2vec 2.0.
        Wav2vec2(Wav2Vec2Config) = "wav2vec2",
        /// HuBERT.
        Hubert(HubertConfig) = "hubert",
        /// data2vec.
        Data2vec(Data2VecConfig) = "data2vec",
    }
}

impl MethodConfig {
    /// The family of the encoder that goes with it.
    pub fn family(&self) -> Family {
        match self {
            MethodConfig::Wav2vec2(_) => Family::Wav2vec2,
            MethodConfig::Hubert(_) => Family::Hubert,
            MethodConfig::Data2vec(_) => Family::Data2vecAudio,
        }
    }

    /// Whether the method runs in stages ([`crate::hubert_plan`]) instead of one training: then
    /// [`MethodConfig::build`] makes the objective of its first.
    pub fn staged(&self) -> bool {
        matches!(self, MethodConfig::Hubert(_))
    }

    /// Builds the method around the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn build(&self, scope: &Scope, encoder: &SpeechConfig) -> Result<Method> {
        let encoder = encoder.clone();
        Ok(match self {
            MethodConfig::Wav2vec2(c) => boxed(Wav2Vec2::new(scope, encoder, c.clone())?),
            MethodConfig::Hubert(c) => {
                boxed(Hubert::new(scope, encoder, c.clone(), c.iterations.first().map_or(0, |i| i.clusters))?)
            }
            MethodConfig::Data2vec(c) => boxed(Data2Vec::new(scope, encoder, c.clone())?),
        })
    }
}

/// Any method over waves.
pub type Method = selfsup_core::objective::Method<Waves>;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_changes() {
        let c = EncoderConfig { name: "hubert_base".into(), ..EncoderConfig::default() }
            .resolve(Family::Wav2vec2)
            .unwrap();
        assert_eq!((c.family, c.dim, c.depth, c.dropout), (Family::Hubert, 768, 12, 0.1));
        let small =
            EncoderConfig { dim: Some(128), depth: Some(2), front_dim: Some(64), ..EncoderConfig::default() };
        let c = small.resolve(Family::Data2vecAudio).unwrap();
        assert_eq!(
            (c.family, c.heads, c.hidden, c.conv_dim.len(), c.conv_dim[0]),
            (Family::Data2vecAudio, 2, 512, 7, 64)
        );
        let refused = |c: EncoderConfig| c.resolve(Family::Wav2vec2).unwrap_err().to_string();
        assert!(
            refused(EncoderConfig { name: "whisper_tiny".into(), ..EncoderConfig::default() })
                .contains("whisper_tiny")
        );
        assert!(
            refused(EncoderConfig { name: "hubert_huge".into(), ..EncoderConfig::default() })
                .contains("hubert_huge")
        );
        assert!(refused(EncoderConfig { heads: Some(3), ..EncoderConfig::default() }).contains("heads"));
        assert!(
            refused(EncoderConfig { dropout: Some(1.0), ..EncoderConfig::default() }).contains("dropout")
        );
        let grouped = EncoderConfig {
            name: "data2vec_tiny".into(),
            front_norm: Some(FrontNorm::Group),
            ..EncoderConfig::default()
        };
        assert!(refused(grouped).contains("data2vec"));
    }

    #[test]
    fn methods_as_a_file_has_them() {
        let read = |text: &str| serde_json::from_str::<MethodConfig>(text);
        for name in MethodConfig::NAMES {
            let method = MethodConfig::named(name).unwrap();
            assert_eq!((method.name(), method.staged()), (name, name == "hubert"));
            assert_eq!(read(&serde_json::to_string(&method).unwrap()).unwrap(), method);
        }
        let MethodConfig::Hubert(c) =
            read(r#"{"name": "hubert", "iterations": [{"features": "mfcc", "clusters": 50}, {"features": {"layer": 3}, "steps": 9}]}"#)
                .unwrap()
        else {
            panic!("another method")
        };
        assert_eq!(
            (c.iterations[0].clusters, c.iterations[1].features),
            (50, crate::methods::ClusterFeatures::Layer(3))
        );
        assert!(read(r#"{"name": "wav2vec2", "temprature": 1}"#).is_err());
        assert!(MethodConfig::named("cpc").is_err());
    }
}
