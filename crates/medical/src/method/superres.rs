//! Low resolution to high resolution: the patch is averaged over blocks, interpolated back onto its grid, and
//! restored.
//!
//! ```text
//! loss = mean_v |f(up(down(x)))_v - x_v|
//! ```
//!
//! As a pre-text task: Tang et al. 2020 and "SRCNN" (Dong et al. 2014, arXiv 1501.00092), whose input is the
//! interpolated image too. Clinical volumes come with slices of 1 to 8 mm, so a network that knows what lies
//! between slices knows anatomy; and the target is free.
//!
//! The default is the absolute error: it prefers an edge in one place to a blurred one.

use super::restoration::RestorationLoss;
use crate::transform::LowResolution;
use selfsup_core::Result;
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuperResolutionConfig {
    /// Smallest and largest side of the blocks, in voxels.
    pub factor: [usize; 2],
    /// One factor for all axes, instead of one for each (thick slices are one axis only).
    pub isotropic: bool,
    /// Distance of restored and original patch.
    pub loss: RestorationLoss,
}

impl Default for SuperResolutionConfig {
    fn default() -> Self {
        SuperResolutionConfig { factor: [2, 4], isotropic: false, loss: RestorationLoss::L1 }
    }
}

impl SuperResolutionConfig {
    /// What corrupts a patch.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn corruption(&self) -> Result<LowResolution> {
        let made = LowResolution { factor: self.factor, isotropic: self.isotropic };
        made.check()?;
        Ok(made)
    }
}
