//! Supervised tasks on a pre-trained encoder: recognition by CTC, one class per utterance.

mod classify;
mod ctc;
mod vocabulary;

pub use classify::{Classify, ClassifyConfig, LayerSum};
pub use ctc::{Ctc, CtcConfig, frames_needed};
pub use vocabulary::{Units, Vocabulary};
