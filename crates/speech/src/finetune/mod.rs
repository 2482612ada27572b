//! Supervised tasks on a pre-trained encoder: recognition by CTC, one class per utterance.

mod classify;
mod ctc;
mod vocabulary;

pub use classify::{Classify, ClassifyConfig};
pub use ctc::{Ctc, CtcConfig};
pub use vocabulary::{Units, Vocabulary};
