//! Low resolution: blocks of voxels are averaged, which is what thicker slices and fewer k-space lines do,
//! and the result is interpolated back onto the grid. What is lost cannot come back from the patch alone:
//! whoever restores it must know anatomy.

use super::rebuilt;
use super::sample::{Interpolation, warp};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// Averages blocks of a side drawn for each axis from `factor[0]` to `factor[1]` voxels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowResolution {
    /// Smallest and largest side of a block.
    pub factor: [usize; 2],
    /// One factor for all axes, instead of one for each.
    pub isotropic: bool,
}

impl LowResolution {
    /// Refuses factors that are none.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        let [low, high] = self.factor;
        if low >= 1 && low <= high && high <= 64 {
            Ok(())
        } else {
            Err(Error::config(format!(
                "method.factor = [{low}, {high}]: expected whole numbers from 1 to 64, the smaller first"
            )))
        }
    }
}

/// Means of blocks; the last one of an axis may be shorter.
fn blocks(values: &[f32], shape: [usize; 3], factor: [usize; 3]) -> (Vec<f32>, [usize; 3]) {
    let small = [0, 1, 2].map(|a| shape[a].div_ceil(factor[a]));
    let mut sums = vec![(0f64, 0u32); small.iter().product()];
    for (i, v) in values.iter().enumerate() {
        let at = [i / (shape[1] * shape[2]), i / shape[2] % shape[1], i % shape[2]];
        let [z, y, x] = [0, 1, 2].map(|a| at[a] / factor[a]);
        let (sum, n) = &mut sums[(z * small[1] + y) * small[2] + x];
        *sum += f64::from(*v);
        *n += 1;
    }
    (sums.into_iter().map(|(s, n)| (s / f64::from(n.max(1))) as f32).collect(), small)
}

impl Transform<Volume> for LowResolution {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        self.check()?;
        let mut draw = || self.factor[0] + rng.below(self.factor[1] - self.factor[0] + 1);
        let first = draw();
        let factor = if self.isotropic { [first; 3] } else { [first, draw(), draw()] };
        if factor == [1; 3] {
            return Ok(volume);
        }
        let shape = volume.shape();
        let (small, coarse) = blocks(volume.values(), shape, factor);
        // The centre of voxel i lies at (i + 0.5) / f - 0.5 of the blocks.
        let place = |at: [usize; 3]| {
            [0, 1, 2]
                .map(|a| ((at[a] as f64 + 0.5) / factor[a] as f64 - 0.5).clamp(0.0, coarse[a] as f64 - 1.0))
        };
        let values = warp(&small, coarse, shape, 0.0, Interpolation::Linear, place);
        rebuilt(&volume, volume.grid().clone(), values, volume.labels().map(<[u16]>::to_vec))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_form() {
        assert_eq!(blocks(&[1.0, 3.0, 5.0], [1, 1, 3], [1, 1, 2]), (vec![2.0, 5.0], [1, 1, 2]));
        let v = volume([4, 4, 4], 0);
        assert_eq!(
            LowResolution { factor: [1, 1], isotropic: true }.apply(v.clone(), &mut rng(0)).unwrap(),
            v
        );
        assert!(LowResolution { factor: [0, 2], isotropic: true }.apply(v, &mut rng(0)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        /// A constant stays, and nothing leaves the range; the energy of differences shrinks.
        #[test]
        fn it_smoothes(shape in prop::array::uniform3(2usize..9), seed in 0u64..99) {
            let v = volume(shape, seed);
            let low = LowResolution { factor: [2, 3], isotropic: seed % 2 == 0 };
            let made = low.apply(v.clone(), &mut rng(seed)).unwrap();
            let (a, b) = super::super::extremes(v.values());
            prop_assert!(made.values().iter().all(|x| (a - 1e-4..=b + 1e-4).contains(x)));
            let var = |v: &[f32]| { let m = v.iter().sum::<f32>() / v.len() as f32; v.iter().map(|x| (x - m).powi(2)).sum::<f32>() };
            prop_assert!(var(made.values()) <= var(v.values()) * 1.05 + 1e-6);
            let flat = Volume::new("flat", v.grid().clone(), vec![2.5; v.values().len()]).unwrap();
            prop_assert_eq!(low.apply(flat.clone(), &mut rng(seed)).unwrap(), flat);
        }
    }
}
