//! Resampling: the same anatomy on another grid.
//!
//! Networks count in voxels; a lesion of 5 mm must be as many of them in every scan. Intensities are
//! interpolated linearly, labels take the nearest. Places are compared in millimetres through the affines, so
//! a volume can also be brought onto the grid of another one.

use super::rebuilt;
use super::sample::{Interpolation, warp, warp_labels};
use crate::{Grid, Volume};
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// Brings volumes to one voxel size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resample {
    /// Millimetres between voxels as (z, y, x).
    pub spacing: [f64; 3],
    /// The value of what no voxel covers.
    pub fill: f32,
}

/// `volume` on `grid`: linear for values, nearest for labels, `fill` and 0 where the volume does not reach.
///
/// # Errors
/// None for volumes and grids that exist.
pub fn resample_to(volume: &Volume, grid: &Grid, fill: f32) -> Result<Volume> {
    let m = grid.to(volume.grid());
    let place = |[z, y, x]: [usize; 3]| {
        let p = crate::grid::apply(&m, [x as f64, y as f64, z as f64]);
        [p[2], p[1], p[0]]
    };
    let (old, new) = (volume.shape(), grid.shape());
    let values = warp(volume.values(), old, new, fill, Interpolation::Linear, place);
    let labels = volume.labels().map(|l| warp_labels(l, old, new, place));
    rebuilt(volume, grid.clone(), values, labels)
}

impl Transform<Volume> for Resample {
    type Out = Volume;

    fn apply(&self, volume: Volume, _rng: &mut Rng) -> Result<Volume> {
        let grid = volume.grid().at_spacing(self.spacing).map_err(|e| Error::input(volume.id(), e))?;
        if grid.shape() == volume.shape() && grid.is_close(volume.grid(), 1e-3) {
            return Ok(volume);
        }
        resample_to(&volume, &grid, self.fill)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_spacing_changes_nothing() {
        let v = volume([3, 4, 5], 1);
        let same = Resample { spacing: v.spacing(), fill: 0.0 }.apply(v.clone(), &mut rng(0)).unwrap();
        assert_eq!(same, v);
        assert!(
            Resample { spacing: [1.0, 0.0, 1.0], fill: 0.0 }
                .apply(v, &mut rng(0))
                .unwrap_err()
                .to_string()
                .contains("spacing")
        );
    }

    #[test]
    fn onto_its_own_grid_is_exact_and_elsewhere_is_fill() {
        let v = volume([3, 4, 5], 2);
        assert_eq!(resample_to(&v, v.grid(), 0.0).unwrap().values(), v.values());
        let far = v.grid().part([100, 0, 0], [2, 2, 2]).unwrap();
        let made = resample_to(&v, &far, -5.0).unwrap();
        assert!(made.values().iter().all(|&x| x == -5.0) && made.labels().unwrap().iter().all(|&l| l == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        /// Interpolated values lie between the smallest and the largest; labels are among those there were;
        /// the field of view is kept.
        #[test]
        fn values_stay_in_range(shape in prop::array::uniform3(1usize..7), spacing in prop::array::uniform3(0.4f64..3.0), seed in 0u64..99) {
            let v = volume(shape, seed);
            let made = Resample { spacing, fill: v.values()[0] }.apply(v.clone(), &mut rng(0)).unwrap();
            let (low, high) = super::super::extremes(v.values());
            prop_assert!(made.values().iter().all(|x| (low - 1e-4..=high + 1e-4).contains(x)));
            prop_assert!(made.labels().unwrap().iter().all(|l| usize::from(*l) < v.values().len()));
            for ((n, m), (old, new)) in shape.into_iter().zip(made.shape()).zip(v.spacing().into_iter().zip(made.spacing())) {
                prop_assert!((n as f64 * old - m as f64 * new).abs() <= 0.5 * new + 1e-9 || m == 1);
            }
        }
    }
}
