//! Augmentations of signals: `[augment]`, and the views that methods compare.
//!
//! Values change by jitter, scaling, baseline wander and mains hum (`values`), time by warping and permutation
//! (`time`), the spectrum by masks (`spectrum`), and whole channels are dropped. The choice follows Um et al.
//! 2017 (arXiv 1706.00527) for jitter, scaling, permutation and time warping, and Mehari and Strodthoff 2022
//! (arXiv 2103.12676) for ECG. All randomness comes from the generator that a transform is given.

mod config;
mod spectrum;
mod time;
mod values;

pub use config::{Augment, AugmentConfig, Made};
pub use spectrum::mask_frequencies;
pub use time::{permute, warp};
pub use values::{drop_channels, hum, jitter, scale, wander};
