//! Intensities to one range: windows of Hounsfield units, percentiles, z-scores.
//!
//! A CT has absolute units: a window `[low, high]` of them becomes `[0, 1]` and what lies beyond is cut. An
//! MR image has none: its percentiles or its mean and deviation stand in, taken over the foreground (above
//! the lowest value) if asked for, since air would decide them otherwise.

use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// How intensities are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Scale {
    /// As they are.
    None,
    /// `[low, high]` to `[0, 1]`, cut at both ends. Lungs -1000..400, soft tissue -160..240, brain 0..80 HU.
    Window {
        /// Becomes 0.
        low: f32,
        /// Becomes 1.
        high: f32,
    },
    /// The percentiles `low` and `high` (0 to 100) to `[0, 1]`, cut at both ends.
    Percentiles {
        /// Becomes 0.
        low: f32,
        /// Becomes 1.
        high: f32,
        /// Over voxels above the lowest value only.
        #[serde(default)]
        foreground: bool,
    },
    /// Mean 0 and standard deviation 1.
    ZScore {
        /// Statistics over voxels above the lowest value only.
        #[serde(default)]
        foreground: bool,
    },
}

impl Default for Scale {
    /// Half a percent cut at both ends, as is usual for MR images.
    fn default() -> Self {
        Scale::Percentiles { low: 0.5, high: 99.5, foreground: false }
    }
}

impl Scale {
    /// Refuses bounds that are none.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        match *self {
            Scale::Window { low, high } if !(low < high && low.is_finite() && high.is_finite()) => {
                Err(Error::config(format!(
                    "augment.scale window of {low} to {high}: expected two numbers, the smaller first"
                )))
            }
            Scale::Percentiles { low, high, .. } if !(0.0 <= low && low < high && high <= 100.0) => {
                Err(Error::config(format!(
                    "augment.scale percentiles {low} to {high}: expected two from 0 to 100, the smaller first"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses values that are not finite, by their place.
fn check_finite(volume: &Volume) -> Result<()> {
    let Some(i) = volume.values().iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let [_, h, w] = volume.shape();
    let place = (i / (h * w), i / w % h, i % w);
    Err(Error::input(
        volume.id(),
        format!(
            "the value at voxel (z, y, x) = {place:?} is {}, expected finite numbers",
            volume.values()[i]
        ),
    ))
}

impl Transform<Volume> for Scale {
    type Out = Volume;

    fn apply(&self, mut volume: Volume, _rng: &mut Rng) -> Result<Volume> {
        check_finite(&volume)?;
        let fitted = self.fit(&volume)?;
        volume.values_mut().iter_mut().for_each(|v| *v = fitted.of(*v));
        // What was not measured has the lowest value now.
        volume.set_padding(None);
        Ok(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    fn scaled(values: &[f32], scale: Scale) -> Result<Vec<f32>> {
        let grid = crate::Grid::with_spacing([1, 1, values.len()], [1.0; 3])?;
        Ok(scale.apply(Volume::new("v", grid, values.to_vec())?, &mut rng(0))?.values().to_vec())
    }

    #[test]
    fn closed_forms() {
        assert_eq!(
            scaled(&[-2000.0, -160.0, 40.0, 240.0, 900.0], Scale::Window { low: -160.0, high: 240.0 })
                .unwrap(),
            [0.0, 0.0, 0.5, 1.0, 1.0]
        );
        // Percentiles of 0, 1, 2, 3, 4: the 25th is 1, the 75th is 3.
        assert_eq!(
            scaled(
                &[3.0, 1.0, 0.0, 4.0, 2.0],
                Scale::Percentiles { low: 25.0, high: 75.0, foreground: false }
            )
            .unwrap(),
            [1.0, 0.0, 0.0, 1.0, 0.5]
        );
        // The foreground of 0, 0, 1, 3 is 1, 3: mean 2, deviation 1.
        assert_eq!(
            scaled(&[0.0, 0.0, 1.0, 3.0], Scale::ZScore { foreground: true }).unwrap(),
            [-2.0, -2.0, -1.0, 1.0]
        );
        assert_eq!(scaled(&[7.0, 7.0], Scale::ZScore { foreground: true }).unwrap(), [0.0, 0.0]);
        assert_eq!(scaled(&[7.0, 7.0], Scale::default()).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn what_is_not_a_number_is_named() {
        let e = scaled(&[0.0, f32::NAN], Scale::None).unwrap_err().to_string();
        assert!(e.contains("v:") && e.contains("(0, 0, 1)") && e.contains("NaN"), "{e}");
        assert!(scaled(&[0.0], Scale::Window { low: 1.0, high: 1.0 }).is_err());
        assert!(scaled(&[0.0], Scale::Percentiles { low: 50.0, high: 101.0, foreground: false }).is_err());
    }

    proptest! {
        #[test]
        fn ranges_hold(seed in 0u64..50, shape in prop::array::uniform3(1usize..6), low in 0f32..40.0, high in 60f32..100.0) {
            let v = volume(shape, seed);
            let cut = Scale::Percentiles { low, high, foreground: seed % 2 == 0 }.apply(v.clone(), &mut rng(0)).unwrap();
            prop_assert!(cut.values().iter().all(|x| (0.0..=1.0).contains(x)));
            prop_assert_eq!(cut.labels(), v.labels());
            let z = Scale::ZScore { foreground: false }.apply(v.clone(), &mut rng(0)).unwrap();
            let n = z.values().len() as f32;
            let mean = z.values().iter().sum::<f32>() / n;
            prop_assert!(mean.abs() < 1e-3);
            if n > 1.0 {
                let var = z.values().iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
                prop_assert!((var - 1.0).abs() < 1e-3);
            }
        }
    }
}
