//! Non-linear intensity (Models Genesis, Zhou et al. 2019, arXiv 1908.06912, section 3.1): values go through
//! a cubic Bezier curve with random control points, monotonous, rising or (half of the time) falling.
//!
//! Restoring them teaches appearance: what an organ's intensity is relative to its neighbours'.

use super::{check_share, extremes};
use crate::Volume;
use selfsup_core::data::Transform;
use selfsup_core::{Result, Rng};

/// Points at which the curve is tabulated.
const TABLE: usize = 1000;

/// A random curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bezier {
    /// Probability of doing anything.
    pub p: f32,
}

/// The curve from (0, 0) to (1, 1) with the control points `a` and `b`, sorted so that it is a function: `y`
/// at evenly spaced `x`.
fn table(a: [f32; 2], b: [f32; 2]) -> Vec<f32> {
    let at = |t: f32, i: usize| {
        let s = 1.0 - t;
        3.0 * s * s * t * a[i] + 3.0 * s * t * t * b[i] + t * t * t
    };
    let curve = |i: usize| {
        let mut v: Vec<f32> = (0..TABLE).map(|k| at(k as f32 / (TABLE - 1) as f32, i)).collect();
        // As the authors do: x and y are sorted each, which makes the map monotonous whatever the control
        // points.
        v.sort_by(f32::total_cmp);
        v
    };
    let (xs, ys) = (curve(0), curve(1));
    let mut k = 0;
    (0..TABLE)
        .map(|i| {
            let x = i as f32 / (TABLE - 1) as f32;
            while k + 2 < TABLE && xs[k + 1] < x {
                k += 1;
            }
            let share =
                if xs[k + 1] > xs[k] { ((x - xs[k]) / (xs[k + 1] - xs[k])).clamp(0.0, 1.0) } else { 0.0 };
            ys[k] + share * (ys[k + 1] - ys[k])
        })
        .collect()
}

impl Transform<Volume> for Bezier {
    type Out = Volume;

    fn apply(&self, mut volume: Volume, rng: &mut Rng) -> Result<Volume> {
        check_share("intensity_p", self.p)?;
        let run = rng.chance(self.p);
        let curve = table([rng.uniform(), rng.uniform()], [rng.uniform(), rng.uniform()]);
        let falling = rng.chance(0.5);
        let (low, high) = extremes(volume.values());
        if !run || low >= high {
            return Ok(volume);
        }
        for v in volume.values_mut() {
            let u = ((*v - low) / (high - low)).clamp(0.0, 1.0);
            let u = (if falling { 1.0 - u } else { u }) * (TABLE - 1) as f32;
            let i = (u as usize).min(TABLE - 2);
            let y = curve[i] + (u - i as f32) * (curve[i + 1] - curve[i]);
            *v = low + (high - low) * y;
        }
        Ok(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rng, volume};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_points_on_the_diagonal_are_the_identity() {
        let third = 1.0 / 3.0;
        for (i, y) in table([third, third], [2.0 * third, 2.0 * third]).into_iter().enumerate() {
            assert!((y - i as f32 / 999.0).abs() < 2e-3);
        }
    }

    proptest! {
        #[test]
        fn monotonous_and_in_range(seed in 0u64..200) {
            let v = volume([3, 4, 5], seed);
            let made = Bezier { p: 1.0 }.apply(v.clone(), &mut rng(seed)).unwrap();
            let (low, high) = extremes(v.values());
            prop_assert!(made.values().iter().all(|x| (low - 1e-4..=high + 1e-4).contains(x)));
            let mut order: Vec<usize> = (0..60).collect();
            order.sort_by(|&i, &j| v.values()[i].total_cmp(&v.values()[j]));
            let steps: Vec<f32> = order.windows(2).map(|w| made.values()[w[1]] - made.values()[w[0]]).collect();
            prop_assert!(steps.iter().all(|s| *s >= -1e-5) || steps.iter().all(|s| *s <= 1e-5));
            prop_assert_eq!(Bezier { p: 0.0 }.apply(v.clone(), &mut rng(seed)).unwrap(), v);
        }
    }
}
