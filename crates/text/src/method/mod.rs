//! Self-supervised methods on text, one file each.

mod electra;
mod masked_lm;
mod simcse;

pub use electra::{Electra, ElectraConfig};
pub use masked_lm::{MaskedLm, MaskedLmConfig};
pub use simcse::{SimCse, SimCseConfig};
