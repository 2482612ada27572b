//! Where voxels are: grids in world coordinates, and the turn from the axes of a file to RAS+.
//!
//! World coordinates are millimetres in RAS+: x grows to the patient's right, y to the front, z to the head.
//! An affine `A` maps the index `(x, y, z)` of a voxel's centre to the world: `world = A[..3][..3] * index +
//! A[..3][3]`. Arrays are `(D, H, W) = (z, y, x)`, so that `x` is the fastest axis of the memory, as it is in
//! NIfTI and DICOM.
//!
//! A file may store its axes in any order and direction. [`Stored`] says how; [`Stored::grid`] is the nearest
//! grid of RAS+: axes are permuted and turned round, nothing is interpolated, so the affine of an oblique
//! scan stays oblique. The choice of axes is nibabel's (`io_orientation`): the rotation next to the affine
//! (its polar factor), the clearest axis first.

mod affine;
mod stored;

pub use affine::{Affine, affine_of_spacing, apply, inverse, multiply};
pub(crate) use affine::{column, cross, dot, norm};
pub use stored::Stored;

use affine::determinant;
use selfsup_core::{Error, Result};

/// The places of the voxels of a `(D, H, W)` array: its shape and its affine for `(x, y, z)` indices.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    shape: [usize; 3],
    affine: Affine,
}

impl Grid {
    /// A grid of `shape` `(D, H, W)` with the affine of `(x, y, z)` indices.
    ///
    /// # Errors
    /// If an axis has no voxels, their number does not fit the memory, or the affine is not finite or has an
    /// axis without length.
    pub fn new(shape: [usize; 3], affine: Affine) -> Result<Self> {
        if shape.contains(&0) || voxels_of(shape).is_none() {
            return Err(Error::input(
                "grid",
                format!("{} voxels, expected at least one along each axis", show(shape)),
            ));
        }
        if affine[3] != [0.0, 0.0, 0.0, 1.0] || affine.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Error::input(
                "grid",
                "the affine is not finite, expected a finite 4x4 matrix whose last row is 0 0 0 1",
            ));
        }
        for axis in 0..3 {
            if norm(column(&affine, axis)) < 1e-6 {
                return Err(Error::input(
                    "grid",
                    format!("voxels have no size along {}: zero spacing", ["x", "y", "z"][axis]),
                ));
            }
        }
        let size: f64 = (0..3).map(|a| norm(column(&affine, a))).product();
        if determinant(&affine).abs() < 1e-6 * size {
            return Err(Error::input(
                "grid",
                "two axes of the affine run the same way, expected three directions",
            ));
        }
        Ok(Grid { shape, affine })
    }

    /// A grid of `shape` with `spacing` in mm as (z, y, x), voxel (0, 0, 0) at the origin of the world.
    ///
    /// # Errors
    /// As [`Grid::new`].
    pub fn with_spacing(shape: [usize; 3], spacing: [f64; 3]) -> Result<Self> {
        Grid::new(shape, affine_of_spacing(spacing))
    }

    /// `(D, H, W)`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// Maps `(x, y, z)` indices to mm.
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// Distance of neighbouring voxels in mm, as (z, y, x).
    pub fn spacing(&self) -> [f64; 3] {
        [2, 1, 0].map(|axis| norm(column(&self.affine, axis)))
    }

    /// The place of index (z, y, x) in mm, as (x, y, z).
    pub fn world(&self, index: [f64; 3]) -> [f64; 3] {
        apply(&self.affine, [index[2], index[1], index[0]])
    }

    /// The index (z, y, x), between voxels perhaps, of a place (x, y, z) in mm.
    pub fn index(&self, world: [f64; 3]) -> [f64; 3] {
        let [x, y, z] = apply(&inverse(&self.affine), world);
        [z, y, x]
    }

    /// The affine from the indices `(x, y, z)` of `self` to the indices `(x, y, z)` of `other`: for
    /// resampling.
    pub fn to(&self, other: &Grid) -> Affine {
        multiply(&inverse(&other.affine), &self.affine)
    }

    /// The part of `shape` whose first voxel is `start` (z, y, x); it may lie outside.
    ///
    /// # Errors
    /// As [`Grid::new`].
    pub fn part(&self, start: [isize; 3], shape: [usize; 3]) -> Result<Grid> {
        let origin = self.world(start.map(|v| v as f64));
        let mut affine = self.affine;
        (0..3).for_each(|r| affine[r][3] = origin[r]);
        Grid::new(shape, affine)
    }

    /// The same field of view at another `spacing` (z, y, x): voxel 0 keeps its centre, `round(n * old /
    /// new)` voxels along each axis.
    ///
    /// # Errors
    /// If a spacing is not positive, or as [`Grid::new`].
    pub fn at_spacing(&self, spacing: [f64; 3]) -> Result<Grid> {
        if spacing.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Error::input("spacing", format!("{spacing:?} mm, expected positive numbers")));
        }
        let old = self.spacing();
        let shape = [0, 1, 2].map(|a| ((self.shape[a] as f64 * old[a] / spacing[a]).round() as usize).max(1));
        let mut affine = self.affine;
        for row in affine.iter_mut().take(3) {
            (0..3).for_each(|c| row[c] *= spacing[2 - c] / old[2 - c]);
        }
        Grid::new(shape, affine)
    }

    /// Whether both have the same shape and every corner in the same place, up to `tolerance` of a voxel.
    pub fn is_close(&self, other: &Grid, tolerance: f64) -> bool {
        if self.shape != other.shape {
            return false;
        }
        let smallest = self.spacing().into_iter().fold(f64::INFINITY, f64::min);
        (0..8).all(|corner| {
            let at = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { (self.shape[a] - 1) as f64 } else { 0.0 });
            let (p, q) = (self.world(at), other.world(at));
            norm([p[0] - q[0], p[1] - q[1], p[2] - q[2]]) <= tolerance * smallest
        })
    }
}

/// Number of voxels, if it and its bytes fit the memory's addresses.
pub(crate) fn voxels_of(shape: [usize; 3]) -> Option<usize> {
    let n = shape[0].checked_mul(shape[1])?.checked_mul(shape[2])?;
    n.checked_mul(8).filter(|bytes| *bytes < isize::MAX as usize).map(|_| n)
}

/// `3 x 4 x 5`.
pub(crate) fn show(shape: [usize; 3]) -> String {
    format!("{} x {} x {}", shape[0], shape[1], shape[2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LPI: Affine =
        [[-2.0, 0.0, 0.0, 10.0], [0.0, -3.0, 0.0, 20.0], [0.0, 0.0, -4.0, 30.0], [0.0, 0.0, 0.0, 1.0]];

    #[test]
    fn turned_axes_come_out_in_ras() {
        let stored = Stored::new([2, 3, 4], LPI).unwrap();
        assert_eq!((stored.letters().as_str(), stored.is_ras()), ("LPI", false));
        let grid = stored.grid().unwrap();
        assert_eq!((grid.shape(), grid.spacing()), ([4, 3, 2], [4.0, 3.0, 2.0]));
        // The last stored voxel is the first of RAS+.
        assert_eq!(grid.world([0.0; 3]), [10.0 - 2.0, 20.0 - 6.0, 30.0 - 12.0]);
        assert_eq!(stored.to_ras((0..24).collect()), (0..24).rev().collect::<Vec<_>>());
    }

    #[test]
    fn grids_that_cannot_be_are_named() {
        let says = |shape, affine: Affine, part: &str| {
            let e = Grid::new(shape, affine).unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        };
        let one = affine_of_spacing([1.0; 3]);
        says([0, 1, 1], one, "0 x 1 x 1");
        says([usize::MAX, 2, 2], one, "voxels");
        says([1, 1, 1], affine_of_spacing([1.0, 0.0, 1.0]), "zero spacing");
        says([1, 1, 1], affine_of_spacing([f64::NAN, 1.0, 1.0]), "not finite");
        says(
            [1, 1, 1],
            [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
            "the same way",
        );
        assert!(Grid::with_spacing([4, 4, 4], [1.0; 3]).unwrap().at_spacing([1.0, -1.0, 1.0]).is_err());
    }

    #[test]
    fn parts_and_spacings_keep_places() {
        let grid = Stored::new([5, 6, 7], LPI).unwrap().grid().unwrap();
        let part = grid.part([1, -2, 3], [2, 2, 2]).unwrap();
        assert_eq!(part.world([1.0, 1.0, 1.0]), grid.world([2.0, -1.0, 4.0]));
        let finer = grid.at_spacing([2.0, 3.0, 1.0]).unwrap();
        assert_eq!(finer.shape(), [14, 6, 10]);
        assert_eq!(
            (finer.world([0.0; 3]), finer.world([2.0, 1.0, 2.0])),
            (grid.world([0.0; 3]), grid.world([1.0, 1.0, 1.0]))
        );
        assert!(
            !grid.is_close(&finer, 0.1) && grid.is_close(&grid.part([0; 3], grid.shape()).unwrap(), 1e-9)
        );
        assert!(!grid.is_close(&grid.part([0, 0, 1], grid.shape()).unwrap(), 0.5));
    }

    proptest! {
        /// Any rotation, any axis order: places are kept, and the way back is exact.
        #[test]
        fn reorientation_keeps_every_voxel(angles in prop::array::uniform3(-3.2f64..3.2), spacing in prop::array::uniform3(0.3f64..4.0), shape in prop::array::uniform3(1usize..5)) {
            let mut affine = affine_of_spacing(spacing);
            for (axis, angle) in angles.into_iter().enumerate() {
                let (a, b) = ([1, 2, 0][axis], [2, 0, 1][axis]);
                let mut turn = affine_of_spacing([1.0; 3]);
                (turn[a][a], turn[a][b], turn[b][a], turn[b][b]) = (angle.cos(), -angle.sin(), angle.sin(), angle.cos());
                affine = multiply(&turn, &affine);
            }
            affine[0][3] = 7.0;
            let stored = Stored::new(shape, affine).unwrap();
            let grid = stored.grid().unwrap();
            let values: Vec<usize> = (0..shape.iter().product()).collect();
            let ras = stored.to_ras(values.clone());
            prop_assert_eq!(stored.from_ras(&ras), values);
            let [d, h, w] = grid.shape();
            for z in 0..d { for y in 0..h { for x in 0..w {
                let [i, j, k] = stored.index([z, y, x]);
                prop_assert_eq!(ras[(z * h + y) * w + x], (k * shape[1] + j) * shape[0] + i);
                let (p, q) = (grid.world([z as f64, y as f64, x as f64]), apply(&affine, [i as f64, j as f64, k as f64]));
                prop_assert!((0..3).all(|r| (p[r] - q[r]).abs() < 1e-9));
                let back = grid.index(p);
                prop_assert!((back[0] - z as f64).abs() < 1e-6 && (back[2] - x as f64).abs() < 1e-6);
            }}}
            // Each axis runs the way of its own axis of the world, as well as a permutation can have it.
            prop_assert!((0..3).all(|r| grid.affine()[r][r] > -1e-9));
        }
    }
}
