//! Rotation and scaling about the centre of a patch, in millimetres.
//!
//! A rotation in voxels would shear a scan with thick slices, so the turn happens in the world. Angles are
//! drawn uniformly for each axis, the scale log-uniformly. Corners that turn in from outside get the lowest
//! value, so take a patch with a margin and cut it afterwards.

use super::{check_range, warped};
use crate::Volume;
use crate::grid::{Affine, affine_of_spacing, apply, inverse, multiply};
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// Random rotation and scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotate {
    /// Largest angle about z, y and x, in degrees.
    pub degrees: [f32; 3],
    /// Smallest and largest scale.
    pub scale: [f32; 2],
}

impl Rotate {
    /// Refuses angles and scales that are none.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        if self.degrees.iter().any(|d| !(0.0..=180.0).contains(d)) {
            return Err(Error::config(format!(
                "augment.rotate = {:?}: expected degrees from 0 to 180 about z, y and x",
                self.degrees
            )));
        }
        check_range("zoom", self.scale, 0.1, 10.0)
    }
}

/// A turn by `angles` (z, y, x), in radians, and a scaling, about the origin.
fn turn(angles: [f64; 3], scale: f64) -> Affine {
    let mut all = affine_of_spacing([scale; 3]);
    for (angle, (a, b)) in angles.into_iter().zip([(0, 1), (2, 0), (1, 2)]) {
        let mut m = affine_of_spacing([1.0; 3]);
        (m[a][a], m[a][b], m[b][a], m[b][b]) = (angle.cos(), -angle.sin(), angle.sin(), angle.cos());
        all = multiply(&m, &all);
    }
    all
}

impl Transform<Volume> for Rotate {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        self.check()?;
        let angles = self.degrees.map(|d| f64::from(rng.range_f32(-d, d)).to_radians());
        let scale = f64::from(rng.range_f32(self.scale[0].ln(), self.scale[1].ln())).exp();
        if angles == [0.0; 3] && scale == 1.0 {
            return Ok(volume);
        }
        let shape = volume.shape();
        // Places relative to the centre, in mm: where does what comes to this voxel come from?
        let [sz, sy, sx] = volume.spacing();
        let mm = affine_of_spacing([sz, sy, sx]);
        let back = multiply(&inverse(&mm), &multiply(&inverse(&turn(angles, scale)), &mm));
        let centre = shape.map(|n| (n - 1) as f64 / 2.0);
        let place = |[z, y, x]: [usize; 3]| {
            let p = apply(&back, [x as f64 - centre[2], y as f64 - centre[1], z as f64 - centre[0]]);
            [p[2] + centre[0], p[1] + centre[1], p[0] + centre[2]]
        };
        warped(&volume, place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::extremes;
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn four_quarter_turns_are_none() {
        let quarter = turn([std::f64::consts::FRAC_PI_2, 0.0, 0.0], 1.0);
        let p = apply(&quarter, [1.0, 0.0, 5.0]);
        assert!((p[0]).abs() < 1e-12 && (p[1] - 1.0).abs() < 1e-12 && p[2] == 5.0);
        let four = multiply(&multiply(&quarter, &quarter), &multiply(&quarter, &quarter));
        assert!((0..4).all(|r| (0..4).all(|c| (four[r][c] - f64::from(u8::from(r == c))).abs() < 1e-12)));
    }

    #[test]
    fn no_turn_changes_nothing() {
        let v = volume([3, 4, 5], 1);
        assert_eq!(Rotate { degrees: [0.0; 3], scale: [1.0, 1.0] }.apply(v.clone(), &mut rng(3)).unwrap(), v);
        assert!(
            Rotate { degrees: [200.0, 0.0, 0.0], scale: [1.0, 1.0] }.apply(v.clone(), &mut rng(3)).is_err()
        );
        assert!(Rotate { degrees: [0.0; 3], scale: [1.0, 0.5] }.apply(v, &mut rng(3)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn the_centre_stays_and_values_stay_in_range(half in prop::array::uniform3(1usize..4), seed in 0u64..99) {
            let v = volume(half.map(|h| 2 * h + 1), seed);
            let made = Rotate { degrees: [180.0; 3], scale: [0.7, 1.4] }.apply(v.clone(), &mut rng(seed)).unwrap();
            let (low, high) = extremes(v.values());
            prop_assert_eq!(made.shape(), v.shape());
            prop_assert!(made.values().iter().all(|x| (low - 1e-4..=high + 1e-4).contains(x)));
            prop_assert!((made.at(half).unwrap() - v.at(half).unwrap()).abs() < 1e-4);
        }
    }
}
