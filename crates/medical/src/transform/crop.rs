//! Crops: the box of the foreground, a patch from a random place, the patch in the middle.

use super::extremes;
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// The smallest box that holds every voxel above `threshold`, and a margin; a volume without any stays whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropForeground {
    /// Of the way from the lowest to the highest value, 0 to 1.
    pub threshold: f32,
    /// Voxels kept around the box where the volume has them.
    pub margin: usize,
}

impl Transform<Volume> for CropForeground {
    type Out = Volume;

    fn apply(&self, volume: Volume, _rng: &mut Rng) -> Result<Volume> {
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(Error::config(format!(
                "foreground threshold {}: expected a share from 0 to below 1",
                self.threshold
            )));
        }
        let (low, high) = extremes(volume.values());
        let limit = low + self.threshold * (high - low);
        let shape = volume.shape();
        let [_, h, w] = shape;
        let (mut from, mut to) = (shape, [0usize; 3]);
        for (i, _) in volume.values().iter().enumerate().filter(|(_, v)| **v > limit) {
            for (a, at) in [i / (h * w), i / w % h, i % w].into_iter().enumerate() {
                from[a] = from[a].min(at);
                to[a] = to[a].max(at + 1);
            }
        }
        if to[0] == 0 {
            return Ok(volume);
        }
        let start = from.map(|v| v.saturating_sub(self.margin));
        let end = [0, 1, 2].map(|a| (to[a] + self.margin).min(shape[a]));
        let size = [0, 1, 2].map(|a| end[a] - start[a]);
        volume.part(start.map(|v| v as isize), size, low)
    }
}

/// A patch of `size` (z, y, x) from a random place; along an axis that is shorter the volume is padded on
/// both sides with its lowest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropRandom {
    /// Voxels.
    pub size: [usize; 3],
}

impl Transform<Volume> for CropRandom {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        let shape = volume.shape();
        let start = [0, 1, 2].map(|a| match shape[a].checked_sub(self.size[a]) {
            Some(free) => rng.below(free + 1) as isize,
            None => -(((self.size[a] - shape[a]) / 2) as isize),
        });
        cut(volume, start, self.size)
    }
}

/// The patch of `size` (z, y, x) in the middle, padded where the volume is smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropCenter {
    /// Voxels.
    pub size: [usize; 3],
}

impl Transform<Volume> for CropCenter {
    type Out = Volume;

    fn apply(&self, volume: Volume, _rng: &mut Rng) -> Result<Volume> {
        let shape = volume.shape();
        let start = [0, 1, 2].map(|a| (shape[a] as isize - self.size[a] as isize).div_euclid(2));
        cut(volume, start, self.size)
    }
}

fn cut(volume: Volume, start: [isize; 3], size: [usize; 3]) -> Result<Volume> {
    if start == [0; 3] && size == volume.shape() {
        return Ok(volume);
    }
    let (low, _) = extremes(volume.values());
    volume.part(start, size, low)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_box_is_the_smallest() {
        let grid = crate::Grid::with_spacing([4, 5, 6], [1.0; 3]).unwrap();
        let mut values = vec![0f32; 120];
        (values[(5 + 2) * 6 + 3], values[(2 * 5 + 3) * 6 + 4]) = (1.0, 2.0);
        let v = Volume::new("v", grid, values).unwrap();
        let tight = CropForeground { threshold: 0.1, margin: 0 }.apply(v.clone(), &mut rng(0)).unwrap();
        assert_eq!((tight.shape(), tight.at([0; 3]), tight.at([1; 3])), ([2, 2, 2], Some(1.0), Some(2.0)));
        assert_eq!(
            CropForeground { threshold: 0.1, margin: 9 }.apply(v.clone(), &mut rng(0)).unwrap().values(),
            v.values()
        );
        let flat = Volume::new("flat", v.grid().clone(), vec![3.0; 120]).unwrap();
        assert_eq!(
            CropForeground { threshold: 0.0, margin: 0 }.apply(flat.clone(), &mut rng(0)).unwrap(),
            flat
        );
        assert!(CropForeground { threshold: 1.0, margin: 0 }.apply(flat, &mut rng(0)).is_err());
    }

    proptest! {
        /// A patch has its size, and each of its voxels is the volume's at the same place of the world, or
        /// padding.
        #[test]
        fn patches_keep_places(shape in prop::array::uniform3(1usize..7), size in prop::array::uniform3(1usize..7), seed in 0u64..99) {
            let v = volume(shape, seed);
            let (low, _) = extremes(v.values());
            for patch in [CropRandom { size }.apply(v.clone(), &mut rng(seed)).unwrap(), CropCenter { size }.apply(v.clone(), &mut rng(0)).unwrap()] {
                prop_assert_eq!(patch.shape(), size);
                let mut inside = 0;
                for z in 0..size[0] { for y in 0..size[1] { for x in 0..size[2] {
                    let at = v.grid().index(patch.grid().world([z as f64, y as f64, x as f64])).map(f64::round);
                    let there = if at.iter().all(|a| *a >= 0.0) { v.at(at.map(|a| a as usize)) } else { None };
                    inside += usize::from(there.is_some());
                    prop_assert_eq!(patch.at([z, y, x]), Some(there.unwrap_or(low)));
                }}}
                // Nothing of the volume is lost where there is room for it.
                prop_assert_eq!(inside, (0..3).map(|a| shape[a].min(size[a])).product::<usize>());
            }
        }
    }
}
