//! Resampling: the same anatomy on another grid.
//!
//! Networks count in voxels; a lesion of 5 mm must be as many of them in every scan. Intensities are
//! interpolated linearly, labels take the nearest. Places are compared in millimetres through the affines, so
//! a volume can also be brought onto the grid of another one.

use super::sample::{Interpolation, warp, warp_labels};
use super::{extremes, rebuilt};
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

/// Share of a voxel by which the ends of an axis may lie beside it on a grid that counts as upright.
const UPRIGHT: f64 = 0.01;

/// The grid along the axes of the world that holds all voxels of `grid`, with its spacing; none if it stands
/// upright already.
///
/// # Errors
/// If it has more voxels than can be counted.
pub fn upright_grid(grid: &Grid) -> Result<Option<Grid>> {
    let ([d, h, w], spacing) = (grid.shape(), grid.spacing());
    let ends = [w - 1, h - 1, d - 1].map(|n| n as f64);
    let affine = grid.affine();
    let beside = |r: usize, c: usize| r != c && (affine[r][c] * ends[c]).abs() > UPRIGHT * spacing[2 - r];
    if !(0..3).any(|r| (0..3).any(|c| beside(r, c))) {
        return Ok(None);
    }
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in 0..8usize {
        let index = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { ends[a] } else { 0.0 });
        let place = crate::grid::apply(affine, index);
        (0..3).for_each(|a| (low[a], high[a]) = (low[a].min(place[a]), high[a].max(place[a])));
    }
    // A thousandth of a voxel may be left out, for the rounding of affines.
    let count = |a: usize| ((high[a] - low[a]) / spacing[2 - a] - 1e-3).ceil().max(0.0) as usize + 1;
    let mut upright = crate::grid::affine_of_spacing(spacing);
    (0..3).for_each(|r| upright[r][3] = low[r]);
    Grid::new([count(2), count(1), count(0)], upright).map(Some)
}

/// `volume` on [`upright_grid`]: a tilted gantry, a sheared or an oblique grid put straight. What no voxel
/// covers was not measured: it gets the value of padding, which lies below all others where the volume has
/// none, and the label 0. Padding stays padding and is mixed with nothing.
///
/// # Errors
/// As [`upright_grid`].
pub fn upright(volume: Volume) -> Result<Volume> {
    let grid = upright_grid(volume.grid()).map_err(|e| Error::input(volume.id(), e))?;
    let Some(grid) = grid else { return Ok(volume) };
    let Some([first, last]) = volume.padding() else {
        let lowest = extremes(volume.values()).0;
        let below = lowest - (1e-3 * lowest.abs()).max(1.0);
        let mut made = resample_to(&volume, &grid, below)?;
        made.set_padding(Some([below, below]));
        return Ok(made);
    };
    let mut marked = volume.clone();
    let padded = |v: &&mut f32| (first..=last).contains(&**v);
    marked.values_mut().iter_mut().filter(padded).for_each(|v| *v = f32::NAN);
    let mut made = resample_to(&marked, &grid, first)?;
    // Between what was measured and what was not: the nearest.
    let m = grid.to(volume.grid());
    let nearest =
        warp(volume.values(), volume.shape(), grid.shape(), first, Interpolation::Nearest, |[z, y, x]| {
            let p = crate::grid::apply(&m, [x as f64, y as f64, z as f64]);
            [p[2], p[1], p[0]]
        });
    made.values_mut().iter_mut().zip(nearest).filter(|(v, _)| v.is_nan()).for_each(|(v, n)| *v = n);
    made.set_padding(Some([first, last]));
    Ok(made)
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

    #[test]
    fn padding_is_mixed_with_nothing() {
        // Turned by 45 degrees about z; two voxels were not measured.
        let s = std::f64::consts::FRAC_1_SQRT_2;
        let affine = [[s, -s, 0.0, 0.0], [s, s, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let grid = Grid::new([2, 6, 6], affine).unwrap();
        let values = (0..72).map(|i| if i == 7 || i == 28 { -2000.0 } else { 100.0 }).collect();
        let mut v = Volume::new("v", grid, values).unwrap();
        v.set_padding(Some([-2000.0, -2000.0]));
        let made = upright(v).unwrap();
        assert!(made.values().iter().all(|x| *x == 100.0 || *x == -2000.0));
        assert_eq!(made.padding(), Some([-2000.0, -2000.0]));
        // The diagonals are 5 sqrt(2) = 7.07 mm.
        assert_eq!(made.shape(), [2, 9, 9]);
        // The middle of the turned square is there, its corners are not.
        assert_eq!((made.at([0, 4, 4]), made.at([0, 0, 0])), (Some(100.0), Some(-2000.0)));
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
