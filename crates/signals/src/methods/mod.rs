//! Methods of signals. Methods over views (SimCLR, VICReg, MAE ...) are those of the core.

mod masked_patches;
mod ts2vec;

pub use masked_patches::{MaskedPatches, MaskedPatchesConfig, masked_mse};
pub use ts2vec::{Crops, Ts2Vec, Ts2VecConfig};
