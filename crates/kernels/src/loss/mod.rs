//! Losses as one node of the graph each: cross entropy together with its softmax, against classes or
//! distributions; the denominators of contrastive losses; the error of removed patches; Dice; and
//! connectionist temporal classification (CTC).

mod cross_entropy;
mod ctc;
mod dice;
mod log_sum_exp;
mod masked_pixels;
mod soft_cross_entropy;

pub use cross_entropy::{cross_entropy, cross_entropy_sum};
pub use ctc::ctc;
pub use dice::dice_cross_entropy;
pub use log_sum_exp::log_sum_exp;
pub use masked_pixels::masked_pixels;
pub use soft_cross_entropy::soft_cross_entropy;

#[cfg(test)]
mod tests;
