//! Mirroring along the axes, each with its own probability.
//!
//! Right and left may be exchanged in a brain and hardly in a chest with its heart: the probability of each
//! axis is a setting. The grid stays that of the patch: a mirrored patch is another sample, not another view
//! of the same place.

use super::{check_share, rebuilt};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Result, Rng};

/// Mirrors along z, y and x with these probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flip(pub [f32; 3]);

fn mirrored<T: Copy>(values: &[T], [d, h, w]: [usize; 3], flips: [bool; 3]) -> Vec<T> {
    let turn = |i: usize, n: usize, flip: bool| if flip { n - 1 - i } else { i };
    let mut out = Vec::with_capacity(values.len());
    for z in 0..d {
        for y in 0..h {
            let row = &values[(turn(z, d, flips[0]) * h + turn(y, h, flips[1])) * w..][..w];
            if flips[2] { out.extend(row.iter().rev()) } else { out.extend_from_slice(row) }
        }
    }
    out
}

impl Transform<Volume> for Flip {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        self.0.iter().try_for_each(|&p| check_share("flip", p))?;
        let flips = self.0.map(|p| rng.chance(p));
        if flips == [false; 3] {
            return Ok(volume);
        }
        let shape = volume.shape();
        let values = mirrored(volume.values(), shape, flips);
        let labels = volume.labels().map(|l| mirrored(l, shape, flips));
        rebuilt(&volume, volume.grid().clone(), values, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;

    #[test]
    fn twice_is_the_same() {
        let v = volume([3, 4, 5], 1);
        for p in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0; 3]] {
            let once = Flip(p).apply(v.clone(), &mut rng(0)).unwrap();
            assert_ne!(once.values(), v.values());
            assert_eq!(Flip(p).apply(once, &mut rng(0)).unwrap(), v);
        }
        let x = Flip([0.0, 0.0, 1.0]).apply(v.clone(), &mut rng(0)).unwrap();
        assert_eq!((x.at([1, 2, 0]), x.labels().unwrap()[0]), (v.at([1, 2, 4]), v.labels().unwrap()[4]));
        assert!(Flip([0.0, 2.0, 0.0]).apply(v, &mut rng(0)).is_err());
    }
}
