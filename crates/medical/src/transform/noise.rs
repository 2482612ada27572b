//! Noise: Gaussian, or Rician as in magnitude images of an MR scanner, `sqrt((v + n1)^2 + n2^2)`
//! (Gudbjartsson and Patz 1995).

use super::{check_range, check_share};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Result, Rng};

/// Random noise; its deviation is drawn uniformly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Smallest and largest standard deviation, in the units of the values.
    pub sd: [f32; 2],
    /// Rician instead of Gaussian; for values from 0.
    pub rician: bool,
    /// Probability of doing anything.
    pub p: f32,
}

impl Transform<Volume> for Noise {
    type Out = Volume;

    fn apply(&self, mut volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_range("noise", self.sd, 0.0, f32::MAX)?;
        check_share("noise_p", self.p)?;
        let (run, sd) = (rng.chance(self.p), rng.range_f32(self.sd[0], self.sd[1]));
        if !run || sd == 0.0 {
            return Ok(volume);
        }
        for v in volume.values_mut() {
            let (a, b) = (*v + sd * rng.normal(), if self.rician { sd * rng.normal() } else { 0.0 });
            *v = if self.rician { a.hypot(b) } else { a };
        }
        Ok(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::rng;
    use super::*;

    #[test]
    fn moments() {
        let grid = crate::Grid::with_spacing([20, 20, 50], [1.0; 3]).unwrap();
        let flat = |value: f32| Volume::new("flat", grid.clone(), vec![value; 20_000]).unwrap();
        let moments = |v: &Volume| {
            let mean = v.values().iter().sum::<f32>() / 20_000.0;
            (mean, v.values().iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 20_000.0)
        };
        let gauss = Noise { sd: [0.5, 0.5], rician: false, p: 1.0 };
        let (mean, var) = moments(&gauss.apply(flat(2.0), &mut rng(1)).unwrap());
        assert!((mean - 2.0).abs() < 0.02 && (var - 0.25).abs() < 0.01, "{mean} {var}");
        // Of nothing but noise the Rician one has the mean sd * sqrt(pi / 2).
        let (mean, _) = moments(&Noise { rician: true, ..gauss }.apply(flat(0.0), &mut rng(1)).unwrap());
        assert!((mean - 0.5 * (std::f32::consts::PI / 2.0).sqrt()).abs() < 0.02, "{mean}");
        assert_eq!(Noise { p: 0.0, ..gauss }.apply(flat(2.0), &mut rng(1)).unwrap(), flat(2.0));
        assert!(Noise { sd: [-1.0, 1.0], ..gauss }.apply(flat(2.0), &mut rng(1)).is_err());
    }
}
