//! In-painting and out-painting (Models Genesis, Zhou et al. 2019, arXiv 1908.06912, section 3.3): boxes of
//! the patch, or all but some boxes in its middle, are replaced by random values. Restoring them teaches the
//! local and the global layout of the body.

use super::{check_share, extremes, rebuilt};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Result, Rng};

/// Smallest distance of a box from the border, in voxels, where the patch has room for it (the authors' 3).
const BORDER: usize = 3;

/// Fills boxes, each with one random value: the first always, each further one with probability 0.95, up to
/// `boxes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InPaint {
    /// Most boxes (the authors' 5).
    pub boxes: usize,
    /// Probability of doing anything.
    pub p: f32,
}

/// Fills everything but some boxes with noise: the first box always, each further one with probability 0.95,
/// up to `boxes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutPaint {
    /// Most boxes (the authors' 4).
    pub boxes: usize,
    /// Probability of doing anything.
    pub p: f32,
}

/// A box whose sides are shares of the patch's between `low` and `high`: its first voxel and its size.
fn place(shape: [usize; 3], low: f32, high: f32, rng: &mut Rng) -> ([usize; 3], [usize; 3]) {
    let size = shape.map(|n| ((n as f32 * rng.range_f32(low, high)).round() as usize).clamp(1, n));
    let start = [0, 1, 2].map(|a| {
        let free = shape[a] - size[a];
        let border = BORDER.min(free / 2);
        border + rng.below(free - 2 * border + 1)
    });
    (start, size)
}

/// Calls `f` with the range of every row of a box.
fn rows(shape: [usize; 3], start: [usize; 3], size: [usize; 3], mut f: impl FnMut(std::ops::Range<usize>)) {
    for z in start[0]..start[0] + size[0] {
        for y in start[1]..start[1] + size[1] {
            let from = (z * shape[1] + y) * shape[2] + start[2];
            f(from..from + size[2]);
        }
    }
}

/// One more box?
fn another(done: usize, most: usize, rng: &mut Rng) -> bool {
    done < most && (done == 0 || rng.chance(0.95))
}

impl Transform<Volume> for InPaint {
    type Out = Volume;

    fn apply(&self, mut volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_share("paint_p", self.p)?;
        if !rng.chance(self.p) {
            return Ok(volume);
        }
        let (shape, (low, high)) = (volume.shape(), extremes(volume.values()));
        let mut done = 0;
        while another(done, self.boxes, rng) {
            let (start, size) = place(shape, 1.0 / 6.0, 1.0 / 3.0, rng);
            let value = rng.range_f32(low, high);
            let values = volume.values_mut();
            rows(shape, start, size, |r| values[r].fill(value));
            done += 1;
        }
        Ok(volume)
    }
}

impl Transform<Volume> for OutPaint {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_share("paint_p", self.p)?;
        if !rng.chance(self.p) {
            return Ok(volume);
        }
        let (shape, (low, high)) = (volume.shape(), extremes(volume.values()));
        let mut values: Vec<f32> = volume.values().iter().map(|_| rng.range_f32(low, high)).collect();
        let mut done = 0;
        while another(done, self.boxes, rng) {
            let (start, size) = place(shape, 3.0 / 7.0, 4.0 / 7.0, rng);
            rows(shape, start, size, |r| values[r.clone()].copy_from_slice(&volume.values()[r]));
            done += 1;
        }
        rebuilt(&volume, volume.grid().clone(), values, volume.labels().map(<[u16]>::to_vec))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn shares_that_change(shape in prop::array::uniform3(8usize..20), seed in 0u64..99) {
            let v = volume(shape, seed);
            let n = v.values().len() as f32;
            let changed = |made: &Volume| made.values().iter().zip(v.values()).filter(|(a, b)| a != b).count() as f32 / n;
            let (low, high) = extremes(v.values());
            let inner = InPaint { boxes: 5, p: 1.0 }.apply(v.clone(), &mut rng(seed)).unwrap();
            // Five boxes of a third of each side at most, rounded up.
            let most = (0..3).map(|a| (shape[a] as f32 / 3.0).round() / shape[a] as f32).product::<f32>();
            prop_assert!(changed(&inner) > 0.0 && changed(&inner) <= 5.0 * most + 1e-5);
            let outer = OutPaint { boxes: 4, p: 1.0 }.apply(v.clone(), &mut rng(seed)).unwrap();
            // One box of three sevenths stays at least.
            let least = (0..3).map(|a| (shape[a] as f32 * 3.0 / 7.0).round() / shape[a] as f32).product::<f32>();
            prop_assert!(changed(&outer) > 0.0 && changed(&outer) <= 1.0 - least + 1e-5);
            for made in [&inner, &outer] {
                prop_assert!(made.values().iter().all(|x| (low..=high).contains(x)));
                prop_assert_eq!(made.labels(), v.labels());
            }
            prop_assert_eq!(&InPaint { boxes: 5, p: 0.0 }.apply(v.clone(), &mut rng(seed)).unwrap(), &v);
            prop_assert_eq!(&OutPaint { boxes: 4, p: 0.0 }.apply(v.clone(), &mut rng(seed)).unwrap(), &v);
        }
    }
}
