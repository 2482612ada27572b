//! Elastic deformation (Simard et al. 2003; as in Ronneberger et al. 2015, arXiv 1505.04597): displacements
//! on a coarse grid, interpolated.
//!
//! Each node of a grid of `nodes` points along every axis moves by a uniform draw of at most `strength` of
//! the distance between nodes. Below one half no two neighbours can cross, so the map does not fold. The
//! outermost nodes stay, which keeps the border where it is.

use super::sample::{Field, Interpolation};
use super::warped;
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// Random displacement of a coarse grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elastic {
    /// Nodes along each axis, with those on the border: at least 3.
    pub nodes: usize,
    /// Largest displacement of a node, as a share of the distance between nodes: 0 to below 0.5.
    pub strength: f32,
}

impl Elastic {
    /// Refuses grids and strengths that are none.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        if !(3..=64).contains(&self.nodes) {
            return Err(Error::config(format!("augment.elastic_nodes = {}: expected 3 to 64", self.nodes)));
        }
        if !(0.0..0.5).contains(&self.strength) {
            return Err(Error::config(format!(
                "augment.elastic = {}: expected a share from 0 to below 0.5, from where it folds",
                self.strength
            )));
        }
        Ok(())
    }
}

impl Transform<Volume> for Elastic {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        self.check()?;
        let (shape, n) = (volume.shape(), self.nodes);
        let steps = shape.map(|s| s.saturating_sub(1) as f64 / (n - 1) as f64);
        let inner = |i: usize| i > 0 && i + 1 < n;
        let moves: [Vec<f32>; 3] = steps.map(|step| {
            let reach = self.strength * step as f32;
            (0..n * n * n)
                .map(|i| {
                    if inner(i / (n * n)) && inner(i / n % n) && inner(i % n) {
                        rng.range_f32(-reach, reach)
                    } else {
                        0.0
                    }
                })
                .collect()
        });
        let fields = [0, 1, 2].map(|a| Field::new(&moves[a], [n; 3]));
        let place = |at: [usize; 3]| {
            // An axis of one voxel lies in the middle of the nodes: a slice is bent in its plane.
            let node = [0, 1, 2]
                .map(|a| if steps[a] > 0.0 { at[a] as f64 / steps[a] } else { (n - 1) as f64 / 2.0 });
            [0, 1, 2].map(|a| {
                let by = fields[a].and_then(|f| f.at(node, Interpolation::Linear)).unwrap_or(0.0);
                // Rounding may lead a hair over the border.
                (at[a] as f64 + f64::from(by)).clamp(0.0, shape[a].saturating_sub(1) as f64)
            })
        };
        warped(&volume, place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_strength_changes_nothing() {
        let v = volume([4, 5, 6], 1);
        assert_eq!(Elastic { nodes: 4, strength: 0.0 }.apply(v.clone(), &mut rng(0)).unwrap(), v);
        for bad in [
            Elastic { nodes: 2, strength: 0.1 },
            Elastic { nodes: 4, strength: 0.5 },
            Elastic { nodes: 4, strength: f32::NAN },
        ] {
            assert!(bad.apply(v.clone(), &mut rng(0)).is_err());
        }
    }

    #[test]
    fn a_slice_is_bent_in_its_plane() {
        for nodes in [3, 4, 5] {
            let v = volume([1, 12, 12], 1);
            let made = Elastic { nodes, strength: 0.45 }.apply(v.clone(), &mut rng(1)).unwrap();
            assert_ne!(made.values(), v.values());
            assert_eq!(made.values()[..12], v.values()[..12]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        /// A ramp along an axis stays monotonous: the map does not fold. The border stays.
        #[test]
        fn it_does_not_fold(shape in prop::array::uniform3(3usize..12), nodes in 3usize..6, seed in 0u64..99) {
            let grid = crate::Grid::with_spacing(shape, [1.0; 3]).unwrap();
            let (h, w) = (shape[1], shape[2]);
            let ramp = (0..shape.iter().product::<usize>()).map(|i| (i % w) as f32).collect();
            let v = Volume::new("ramp", grid, ramp).unwrap();
            let made = Elastic { nodes, strength: 0.45 }.apply(v.clone(), &mut rng(seed)).unwrap();
            for row in made.values().chunks_exact(w) {
                prop_assert!(row.windows(2).all(|p| p[0] <= p[1] + 1e-4), "{:?}", row);
            }
            for y in 0..h {
                prop_assert!((made.at([0, y, w - 1]).unwrap() - (w - 1) as f32).abs() < 1e-4);
            }
        }
    }
}
