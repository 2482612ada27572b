//! Speech: audio decoding, augmentation, encoders and recipes of self-supervised pre-training, on candle.
//!
//! For programs that pre-train on recordings without transcripts, take features of released models, or
//! fine-tune them (CTC, classes). This crate is enough: its [`prelude`] holds that of `selfsup-core`,
//! candle's tensor included.
//!
//! - [`audio`] decodes wav, flac, mp3, ogg, m4a and aiff at any rate into one channel; [`augment`] changes
//!   waves.
//! - [`encoder`] has the network of wav2vec 2.0, HuBERT and data2vec; [`names`] reads and writes
//!   transformers' folders.
//! - [`methods`] has wav2vec 2.0, HuBERT and data2vec; [`hubert_plan`] runs HuBERT's iterations with their
//!   clusters.
//! - [`finetune`] has CTC and classification, [`probe`] phones by frame.
//!
//! HuBERT features of a recording:
//!
//! ```
//! use selfsup_speech::prelude::*;
//!
//! let hubert = SpeechEncoder::pretrained("../../tests/golden/models/hubert", &Device::Cpu)?;
//! let file = Content::File("tests/audio/chirp.flac".into());
//! let mut wave = load(&file, "chirp", None, &AudioConfig::default())?; // one channel, 16 kHz
//! normalize(&mut wave);
//! let frames = hubert.config().frames(wave.len());
//! let n = wave.len();
//! let x = Tensor::from_vec(wave, (1, n), &Device::Cpu)?;
//! let features = hubert.forward(&x, None, &[Layer::Tokens], &Pass::eval())?;
//! assert_eq!(features.tokens.expect("asked for").dims(), [1, frames, hubert.dim()]);
//! assert_eq!(features.pooled.dims(), [1, hubert.dim()]); // the mean over the frames
//! # Ok::<(), Error>(())
//! ```
//!
//! The example `hubert_features` is a whole program; `docs/library.md` lists more. Data by name is in
//! `selfsup-datasets`, the command in `selfsup`, and the page of each method in `docs/methods`.

pub mod audio;
pub mod augment;
pub mod batch;
mod cluster_labels;
pub mod corrupt;
pub mod data;
pub mod encoder;
pub mod features;
pub mod finetune;
pub mod hubert_plan;
pub mod labels;
pub mod layers;
pub mod mask;
pub mod methods;
pub mod names;
pub mod prelude;
mod pretrained;
pub mod probe;
pub mod recipe;
pub mod search;
pub mod transcript;

pub use selfsup_core;
