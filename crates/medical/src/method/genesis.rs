//! Models Genesis (Zhou et al. 2019, "Models Genesis: Generic Autodidactic Models for 3D Medical Image
//! Analysis", arXiv 1908.06912).
//!
//! A patch is corrupted in up to three ways, and a U-Net restores it under the mean squared error:
//!
//! - its intensities go through a random monotonous curve: appearance ([`Bezier`]);
//! - voxels of many small boxes change places: texture and borders ([`LocalShuffle`]);
//! - boxes in its middle are painted over, or all but some boxes: local and global context ([`InPaint`],
//!   [`OutPaint`]), never both.
//!
//! Defaults are the authors' (section 4 and their published configuration): curve 0.9, shuffling 0.5,
//! painting 0.9, of which in-painting 0.2. Values should lie in `[0, 1]`. Encoder and decoder are both taken
//! along to segmentation, the encoder alone to classification.

use super::restoration::RestorationLoss;
use crate::Volume;
use crate::transform::{Bezier, InPaint, LocalShuffle, OutPaint};
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenesisConfig {
    /// Probability of the intensity curve.
    pub intensity_p: f32,
    /// Probability of local shuffling.
    pub shuffle_p: f32,
    /// Boxes that are shuffled in a patch of 64 x 64 x 32 voxels; scaled by the number of voxels.
    pub shuffle_boxes: usize,
    /// Longest side of such a box, as a share of the patch's.
    pub shuffle_side: f32,
    /// Probability of painting.
    pub paint_p: f32,
    /// Probability that painting is in-painting.
    pub inner_p: f32,
    /// Most boxes of in-painting.
    pub inner_boxes: usize,
    /// Most boxes that out-painting leaves.
    pub outer_boxes: usize,
    /// Distance of restored and original patch.
    pub loss: RestorationLoss,
}

impl Default for GenesisConfig {
    fn default() -> Self {
        GenesisConfig {
            intensity_p: 0.9,
            shuffle_p: 0.5,
            shuffle_boxes: 10_000,
            shuffle_side: 0.1,
            paint_p: 0.9,
            inner_p: 0.2,
            inner_boxes: 5,
            outer_boxes: 4,
            loss: RestorationLoss::Mse,
        }
    }
}

impl GenesisConfig {
    /// Refuses what is no probability.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        for (key, p) in [
            ("intensity_p", self.intensity_p),
            ("shuffle_p", self.shuffle_p),
            ("paint_p", self.paint_p),
            ("inner_p", self.inner_p),
        ] {
            if !(0.0..=1.0).contains(&p) {
                return Err(Error::config(format!("method.{key} = {p}: expected a probability from 0 to 1")));
            }
        }
        if !(self.shuffle_side > 0.0 && self.shuffle_side <= 1.0) {
            return Err(Error::config(format!(
                "method.shuffle_side = {}: expected a share above 0 and at most 1",
                self.shuffle_side
            )));
        }
        if self.inner_boxes == 0 || self.outer_boxes == 0 {
            return Err(Error::config("method.inner_boxes and method.outer_boxes: expected at least 1"));
        }
        Ok(())
    }
}

/// Voxels of the authors' patches.
const VOXELS: f64 = 64.0 * 64.0 * 32.0;

/// Corrupts a patch.
#[derive(Clone, Debug)]
pub struct Corruption(pub GenesisConfig);

impl Transform<Volume> for Corruption {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        let c = &self.0;
        c.check()?;
        let boxes = (c.shuffle_boxes as f64 * volume.values().len() as f64 / VOXELS).ceil() as usize;
        // The authors' order: shuffling sees the original intensities.
        let volume = LocalShuffle { boxes, side: c.shuffle_side, p: c.shuffle_p }.apply(volume, rng)?;
        let volume = Bezier { p: c.intensity_p }.apply(volume, rng)?;
        if !rng.chance(c.paint_p) {
            return Ok(volume);
        }
        if rng.chance(c.inner_p) {
            InPaint { boxes: c.inner_boxes, p: 1.0 }.apply(volume, rng)
        } else {
            OutPaint { boxes: c.outer_boxes, p: 1.0 }.apply(volume, rng)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{rng, volume};

    #[test]
    fn nothing_is_corrupted_with_probability_0_and_something_with_1() {
        let v = volume([12, 12, 12], 1);
        let none =
            GenesisConfig { intensity_p: 0.0, shuffle_p: 0.0, paint_p: 0.0, ..GenesisConfig::default() };
        assert_eq!(Corruption(none.clone()).apply(v.clone(), &mut rng(1)).unwrap(), v);
        for inner_p in [0.0, 1.0] {
            let paint = GenesisConfig { paint_p: 1.0, inner_p, ..none.clone() };
            assert_ne!(Corruption(paint).apply(v.clone(), &mut rng(1)).unwrap(), v);
        }
        for bad in [
            GenesisConfig { paint_p: 1.5, ..none.clone() },
            GenesisConfig { shuffle_side: 0.0, ..none.clone() },
            GenesisConfig { inner_boxes: 0, ..none },
        ] {
            assert!(
                Corruption(bad).apply(v.clone(), &mut rng(1)).unwrap_err().to_string().contains("method.")
            );
        }
    }
}
