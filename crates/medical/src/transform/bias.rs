//! Bias field: the slow brightening and darkening of MR images across the head (Sled et al. 1998; the
//! polynomial model of van Leemput et al. 1999): values are multiplied by `exp` of a polynomial of order 3
//! over `[-1, 1]^3`, whose coefficients are uniform draws.

use super::{check_range, check_share};
use crate::Volume;
use rayon::prelude::*;
use selfsup_core::data::Transform;
use selfsup_core::{Result, Rng};

/// Order of the polynomial.
const ORDER: usize = 3;

/// Random field; the values should start at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BiasField {
    /// Smallest and largest bound of a coefficient: each is drawn uniformly between minus and plus it.
    pub strength: [f32; 2],
    /// Probability of doing anything.
    pub p: f32,
}

impl Transform<Volume> for BiasField {
    type Out = Volume;

    fn apply(&self, mut volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_range("bias", self.strength, 0.0, 5.0)?;
        check_share("bias_p", self.p)?;
        let (run, bound) = (rng.chance(self.p), rng.range_f32(self.strength[0], self.strength[1]));
        let mut terms = Vec::new();
        for i in 0..=ORDER {
            for j in 0..=ORDER - i {
                for k in 0..=ORDER - i - j {
                    // A constant would change the brightness of all.
                    let c = rng.range_f32(-bound, bound);
                    if i + j + k > 0 {
                        terms.push((i, j, k, c));
                    }
                }
            }
        }
        if !run || bound == 0.0 {
            return Ok(volume);
        }
        let shape = volume.shape();
        let [_, h, w] = shape;
        let unit = |at: usize, n: usize| if n > 1 { 2.0 * at as f32 / (n - 1) as f32 - 1.0 } else { 0.0 };
        volume.values_mut().par_chunks_mut(w).enumerate().for_each(|(row, values)| {
            let (z, y) = (unit(row / h, shape[0]), unit(row % h, h));
            // Along a row it is a polynomial of x alone.
            let mut line = [0f32; ORDER + 1];
            for &(i, j, k, c) in &terms {
                line[k] += c * z.powi(i as i32) * y.powi(j as i32);
            }
            for (x, v) in values.iter_mut().enumerate() {
                let x = unit(x, w);
                *v *= line.iter().rev().fold(0.0, |sum, c| sum * x + c).exp();
            }
        });
        Ok(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;

    #[test]
    fn a_smooth_positive_factor() {
        let grid = crate::Grid::with_spacing([9, 10, 11], [1.0; 3]).unwrap();
        let flat = Volume::new("flat", grid, vec![1.0; 990]).unwrap();
        for seed in 0..10 {
            let made =
                BiasField { strength: [0.3, 0.5], p: 1.0 }.apply(flat.clone(), &mut rng(seed)).unwrap();
            // 19 terms of at most 0.5 each.
            assert!(made.values().iter().all(|v| v.ln().abs() <= 9.5) && made.values() != flat.values());
            let steepest = made
                .values()
                .chunks_exact(11)
                .flat_map(|r| r.windows(2))
                .map(|p| (p[0].ln() - p[1].ln()).abs())
                .fold(0.0, f32::max);
            assert!(steepest < 4.0, "{steepest}");
            // The middle has no field.
            assert!((made.at([4, 4, 5]).unwrap().ln()).abs() < 0.6);
        }
        let v = volume([2, 3, 4], 0);
        assert_eq!(BiasField { strength: [0.3, 0.5], p: 0.0 }.apply(v.clone(), &mut rng(0)).unwrap(), v);
        assert!(BiasField { strength: [0.5, 0.3], p: 1.0 }.apply(v, &mut rng(0)).is_err());
    }
}
