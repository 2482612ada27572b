//! Losses over classes and over alignments: cross entropy together with its softmax, and connectionist
//! temporal classification (CTC).

mod cross_entropy;
mod ctc;

pub use cross_entropy::{cross_entropy, cross_entropy_sum};
pub use ctc::ctc;

#[cfg(test)]
mod tests;
