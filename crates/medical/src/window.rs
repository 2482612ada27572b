//! Intensity windows: from modality units to grey values.
//!
//! DICOM's linear function (PS3.3 C.11.2.1.2): for centre `c` and width `w > 1`,
//!
//! ```text
//! y = ((x - (c - 1/2)) / (w - 1) + 1/2), cut to [0, 1]
//! ```
//!
//! so that `w` values of a whole scale stay apart. Width 1 is a threshold at `c - 1/2`.

use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A window of intensities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Middle of the values that stay apart.
    pub center: f64,
    /// Their extent, at least 1.
    pub width: f64,
}

/// Soft tissue of the brain, in Hounsfield units.
pub const BRAIN: Window = Window { center: 40.0, width: 80.0 };
/// Blood between brain and skull.
pub const SUBDURAL: Window = Window { center: 75.0, width: 215.0 };
/// Bone.
pub const BONE: Window = Window { center: 600.0, width: 2800.0 };
/// Organs of the abdomen.
pub const SOFT_TISSUE: Window = Window { center: 50.0, width: 400.0 };
/// Lungs.
pub const LUNG: Window = Window { center: -600.0, width: 1500.0 };

impl Window {
    /// A window.
    ///
    /// # Errors
    /// If the width is below 1 or a number is not finite.
    pub fn new(center: f64, width: f64) -> Result<Self> {
        if !center.is_finite() || !width.is_finite() || width < 1.0 {
            return Err(Error::input(
                "window",
                format!("centre {center}, width {width}, expected a width of at least 1"),
            ));
        }
        Ok(Window { center, width })
    }

    /// The window that a name stands for: `brain`, `subdural`, `bone`, `soft_tissue`, `lung`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "brain" => BRAIN,
            "subdural" => SUBDURAL,
            "bone" => BONE,
            "soft_tissue" => SOFT_TISSUE,
            "lung" => LUNG,
            _ => return None,
        })
    }

    /// The window from the least to the greatest finite value: 0 and 1 are reached there.
    pub fn of_range(values: &[f32]) -> Self {
        let finite = values.iter().copied().filter(|v| v.is_finite());
        let (low, high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v.into()), h.max(v.into())));
        if low > high {
            return Window { center: 0.5, width: 1.0 };
        }
        // (x - (c - 1/2)) / (w - 1) + 1/2 is 0 at low and 1 at high.
        Window { center: (low + high) / 2.0 + 0.5, width: high - low + 1.0 }
    }

    /// The window from one percentile of the finite values (0 to 100) to another, each taken where it lies
    /// without interpolation.
    pub fn of_percentiles(values: &[f32], low: f32, high: f32) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |q: f32| {
            sorted
                .get((f64::from(q.clamp(0.0, 100.0)) / 100.0 * sorted.len().saturating_sub(1) as f64).round()
                    as usize)
                .copied()
        };
        Window::of_range(&[at(low).unwrap_or(0.0), at(high).unwrap_or(0.0)])
    }

    /// `x` as a grey value from 0 to 1; NaN is 0.
    pub fn apply(&self, x: f32) -> f32 {
        let x = f64::from(x);
        if self.width <= 1.0 {
            return f32::from(u8::from(x > self.center - 0.5));
        }
        let y = ((x - (self.center - 0.5)) / (self.width - 1.0) + 0.5) as f32;
        if y.is_nan() { 0.0 } else { y.clamp(0.0, 1.0) }
    }

    /// Values as 8 bits.
    pub fn to_u8(&self, values: &[f32]) -> Vec<u8> {
        values.iter().map(|v| (self.apply(*v) * 255.0).round() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standards_example() {
        // PS3.3 C.11.2.1.2.1: centre 2048, width 4096 tells 4096 values apart, from 0 to 4095.
        let w = Window::new(2048.0, 4096.0).unwrap();
        assert_eq!((w.apply(0.0), w.apply(4095.0), w.apply(-9.0), w.apply(9e9)), (0.0, 1.0, 0.0, 1.0));
        assert!((w.apply(2047.5) - 0.5).abs() < 1e-6);
        let threshold = Window::new(100.0, 1.0).unwrap();
        assert_eq!((threshold.apply(99.5), threshold.apply(100.0)), (0.0, 1.0));
        assert!(Window::new(0.0, 0.5).is_err() && Window::new(f64::NAN, 9.0).is_err());
        assert_eq!(w.apply(f32::NAN), 0.0);
    }

    #[test]
    fn names_are_windows() {
        assert_eq!(Window::named("brain"), Some(BRAIN));
        assert_eq!(Window::named("teeth"), None);
        // Brain tissue (25 to 40 HU) is inside the brain's window, bone above it, air below.
        let w = BRAIN;
        assert!(
            w.apply(30.0) > 0.2 && w.apply(30.0) < 0.8 && w.apply(1000.0) == 1.0 && w.apply(-1000.0) == 0.0
        );
    }

    proptest! {
        #[test]
        fn a_range_is_used_whole(values in prop::collection::vec(-3000f32..3000.0, 2..50)) {
            let w = Window::of_range(&values);
            let out = w.to_u8(&values);
            let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
            if high - low > 1.0 {
                prop_assert!(out.contains(&0) && out.contains(&255));
            }
            let mut pairs: Vec<_> = values.iter().zip(&out).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(b.0));
            prop_assert!(pairs.windows(2).all(|p| p[0].1 <= p[1].1));
        }
    }
}
