//! Losses: free functions on tensors that return a scalar with its graph.
//!
//! Shared conventions:
//!
//! - A view, projection or prediction is a matrix `(N, D)`, one row per sample; row `i` of every view belongs
//!   to sample `i`.
//! - What a method calls a target (a key, a teacher's output, a code) is detached here: no gradient reaches
//!   it, whatever it carries.
//! - Half precision is widened to f32; f32 and f64 are computed as they are. The result has rank 0.
//! - Temperatures are above 0, weights at least 0; a shape or a number that does not fit is an error that
//!   names the argument.
//! - Where one sample leaves the loss undefined or constant (nothing to contrast with, no variance), a batch
//!   of one is an error.
//!
//! The equations and papers are listed in docs/methods/losses.md. Losses couple the samples of one process;
//! gather the views before the call where several processes train together.

mod check;
mod classification;
mod clustering;
mod contrastive;
mod detection;
mod distance;
mod gaussian;
mod neighbours;
mod patches;
mod reconstruction;
mod redundancy;
mod regression;
mod rows;
mod segmentation;
#[cfg(test)]
mod testing;

pub use classification::{IGNORED, causal_lm, cross_entropy, ctc_mean, masked_cross_entropy};
pub use clustering::{dino, koleo, sinkhorn, sinkhorn_across, swav, swav_codes, swav_with_codes};
pub use contrastive::{dcl, dclw, info_nce_queue, moco_v3, nt_xent, sup_con, triplet};
pub use detection::{focal, giou, quality};
pub use distance::{huber, l1, mse, smooth_l1};
pub use gaussian::{Knots, directions, lejepa, lejepa_terms, sigreg};
pub use neighbours::{Mining, mined_triplet, nearest, nnclr, nnclr_nt_xent};
pub use patches::{centred, ibot_patch};
pub use reconstruction::{mae_normalized_pixels, masked_l1};
pub use redundancy::{barlow_twins, vicreg, vicreg_terms};
pub use regression::{byol, sim_siam};
pub use rows::soft_cross_entropy;
pub use segmentation::dice_ce;
