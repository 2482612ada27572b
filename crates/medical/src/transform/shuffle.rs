//! Local shuffling (Models Genesis, Zhou et al. 2019, arXiv 1908.06912, section 3.2): many small boxes, in
//! each of which the voxels change places. Their sides are at most a tenth of the patch's, less than the
//! network sees at once, so texture is lost and shape stays.

use super::{check_share, rebuilt};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// Shuffles boxes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalShuffle {
    /// Number of boxes; the authors' 10,000 for 64 x 64 x 32 voxels with boxes of up to a tenth of the side.
    pub boxes: usize,
    /// Longest side of a box, as a share of the patch's.
    pub side: f32,
    /// Probability of doing anything.
    pub p: f32,
}

impl Transform<Volume> for LocalShuffle {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_share("shuffle_p", self.p)?;
        if !(self.side > 0.0 && self.side <= 1.0) {
            return Err(Error::config(format!(
                "shuffle side {}: expected a share above 0 and at most 1",
                self.side
            )));
        }
        if !rng.chance(self.p) {
            return Ok(volume);
        }
        let shape = volume.shape();
        let [_, h, w] = shape;
        let longest = shape.map(|n| ((n as f32 * self.side) as usize).clamp(1, n));
        let original = volume.values();
        let mut values = original.to_vec();
        let mut places = Vec::new();
        for _ in 0..self.boxes {
            let size = longest.map(|l| 1 + rng.below(l));
            let start = [0, 1, 2].map(|a| rng.below(shape[a] - size[a] + 1));
            places.clear();
            for z in start[0]..start[0] + size[0] {
                for y in start[1]..start[1] + size[1] {
                    places.extend((start[2]..start[2] + size[2]).map(|x| (z * h + y) * w + x));
                }
            }
            // From the original, as the authors do: boxes that overlap do not carry voxels across the patch.
            let mut inside: Vec<f32> = places.iter().map(|&i| original[i]).collect();
            rng.shuffle(&mut inside);
            for (&i, v) in places.iter().zip(inside) {
                values[i] = v;
            }
        }
        rebuilt(&volume, volume.grid().clone(), values, volume.labels().map(<[u16]>::to_vec))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_box_of_all_is_a_permutation() {
        let v = volume([2, 3, 4], 1);
        // The largest box comes up among many; each leaves the same values when it covers all.
        let sorted = |v: &Volume| {
            let mut s = v.values().to_vec();
            s.sort_by(f32::total_cmp);
            s
        };
        let made = LocalShuffle { boxes: 1, side: 1.0, p: 1.0 }.apply(v.clone(), &mut rng(1)).unwrap();
        assert_eq!(sorted(&made), sorted(&v));
        assert!(LocalShuffle { boxes: 1, side: 0.0, p: 1.0 }.apply(v, &mut rng(1)).is_err());
    }

    proptest! {
        /// A value never travels further than a box is long.
        #[test]
        fn values_stay_near(seed in 0u64..100, boxes in 0usize..40) {
            let shape = [10usize, 12, 20];
            let grid = crate::Grid::with_spacing(shape, [1.0; 3]).unwrap();
            let v = Volume::new("index", grid, (0..2400).map(|i| i as f32).collect()).unwrap();
            let made = LocalShuffle { boxes, side: 0.2, p: 1.0 }.apply(v.clone(), &mut rng(seed)).unwrap();
            for (i, &from) in made.values().iter().enumerate() {
                let from = from as usize;
                let gap = |a: usize, b: usize| a.abs_diff(b);
                prop_assert!(gap(i / 240, from / 240) < 2 && gap(i / 20 % 12, from / 20 % 12) < 2 && gap(i % 20, from % 20) < 4);
            }
        }
    }
}
