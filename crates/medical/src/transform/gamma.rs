//! Gamma: `low + (high - low) u^g` with `u` the value's place between lowest and highest, and `g` drawn
//! log-uniformly (nnU-Net, Isensee et al. 2018, arXiv 1809.10486). With some probability of the negative
//! image, so that dark and bright ends change alike.

use super::{check_range, check_share, extremes};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Result, Rng};

/// Random exponent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gamma {
    /// Smallest and largest exponent.
    pub range: [f32; 2],
    /// Probability of working on the negative.
    pub invert_p: f32,
    /// Probability of doing anything.
    pub p: f32,
}

impl Transform<Volume> for Gamma {
    type Out = Volume;

    fn apply(&self, mut volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_range("gamma", self.range, 0.01, 100.0)?;
        check_share("gamma_p", self.p)?;
        check_share("gamma_invert_p", self.invert_p)?;
        let (run, negative) = (rng.chance(self.p), rng.chance(self.invert_p));
        let gamma = rng.range_f32(self.range[0].ln(), self.range[1].ln()).exp();
        let (low, high) = extremes(volume.values());
        if !run || low >= high {
            return Ok(volume);
        }
        for v in volume.values_mut() {
            let u = ((*v - low) / (high - low)).clamp(0.0, 1.0);
            let u = if negative { 1.0 - (1.0 - u).powf(gamma) } else { u.powf(gamma) };
            *v = low + (high - low) * u;
        }
        Ok(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;

    #[test]
    fn order_and_ends_stay() {
        for seed in 0..20 {
            let v = volume([3, 4, 5], seed);
            let made =
                Gamma { range: [0.5, 2.0], invert_p: 0.5, p: 1.0 }.apply(v.clone(), &mut rng(seed)).unwrap();
            let ((a, b), (c, d)) = (extremes(v.values()), extremes(made.values()));
            assert!((a - c).abs() < 1e-5 && (b - d).abs() < 1e-5);
            let mut order: Vec<usize> = (0..60).collect();
            order.sort_by(|&i, &j| v.values()[i].total_cmp(&v.values()[j]));
            assert!(order.windows(2).all(|w| made.values()[w[0]] <= made.values()[w[1]] + 1e-6));
            assert_eq!(
                Gamma { range: [0.5, 2.0], invert_p: 0.5, p: 0.0 }.apply(v.clone(), &mut rng(seed)).unwrap(),
                v
            );
        }
        assert!(
            Gamma { range: [0.0, 2.0], invert_p: 0.0, p: 1.0 }
                .apply(volume([1, 1, 2], 0), &mut rng(0))
                .is_err()
        );
    }
}
