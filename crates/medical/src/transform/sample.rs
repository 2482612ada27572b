//! Values between voxels: trilinear for intensities, nearest for labels.
//!
//! The voxel `i` of an axis of `n` covers `[i - 0.5, i + 0.5)`. A place in `[-0.5, n - 0.5)` on each axis is
//! inside and clamps to the outermost centres (ITK's convention); everything else is outside and gets the
//! fill value.

use rayon::prelude::*;

/// How a value between voxels comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interpolation {
    /// Weighted by the distance to the eight neighbours.
    Linear,
    /// Of the nearest voxel.
    Nearest,
}

/// An array `(D, H, W)` that is read between its voxels.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    values: &'a [f32],
    shape: [usize; 3],
}

/// Inside or not, with room for the rounding of affines: a thousandth of a thousandth of a voxel.
const SLACK: f64 = 1e-6;

impl<'a> Field<'a> {
    /// Of `values` that fill `shape`; `None` if they do not.
    pub fn new(values: &'a [f32], shape: [usize; 3]) -> Option<Self> {
        (values.len() == shape.iter().product::<usize>() && !values.is_empty())
            .then_some(Field { values, shape })
    }

    /// The value at `(z, y, x)`, `None` outside.
    pub fn at(&self, place: [f64; 3], how: Interpolation) -> Option<f32> {
        let mut low = [0usize; 3];
        let mut share = [0f32; 3];
        for a in 0..3 {
            let (n, p) = (self.shape[a] as f64, place[a]);
            if !(p >= -0.5 - SLACK && p < n - 0.5 - SLACK) {
                return None;
            }
            let p = p.clamp(0.0, n - 1.0);
            let p = if how == Interpolation::Nearest { (p + 0.5 - SLACK).floor() } else { p };
            low[a] = (p.floor() as usize).min(self.shape[a] - 1);
            share[a] = (p - low[a] as f64) as f32;
        }
        let [_, h, w] = self.shape;
        let row = |z: usize, y: usize| {
            let at = (z * h + y) * w + low[2];
            let first = self.values[at];
            if share[2] > 0.0 { first + share[2] * (self.values[at + 1] - first) } else { first }
        };
        let plane = |z: usize| {
            let first = row(z, low[1]);
            if share[1] > 0.0 { first + share[1] * (row(z, low[1] + 1) - first) } else { first }
        };
        let first = plane(low[0]);
        Some(if share[0] > 0.0 { first + share[0] * (plane(low[0] + 1) - first) } else { first })
    }
}

/// Values of a new array of `shape`, whose voxel `(z, y, x)` is read at `place(z, y, x)` of the old one.
pub(crate) fn warp(
    values: &[f32],
    old: [usize; 3],
    shape: [usize; 3],
    fill: f32,
    how: Interpolation,
    place: impl Fn([usize; 3]) -> [f64; 3] + Sync,
) -> Vec<f32> {
    let [d, h, w] = shape;
    let mut out = vec![fill; d * h * w];
    let Some(field) = Field::new(values, old) else { return out };
    out.par_chunks_mut(w.max(1)).enumerate().for_each(|(row, out)| {
        let (z, y) = (row / h, row % h);
        for (x, v) in out.iter_mut().enumerate() {
            if let Some(value) = field.at(place([z, y, x]), how) {
                *v = value;
            }
        }
    });
    out
}

/// The same for labels, nearest and 0 outside.
pub(crate) fn warp_labels(
    labels: &[u16],
    old: [usize; 3],
    shape: [usize; 3],
    place: impl Fn([usize; 3]) -> [f64; 3] + Sync,
) -> Vec<u16> {
    // Labels up to 65535 are exact in f32.
    let values: Vec<f32> = labels.iter().map(|&l| f32::from(l)).collect();
    warp(&values, old, shape, 0.0, Interpolation::Nearest, place).into_iter().map(|v| v as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_clamps_and_outside_is_outside() {
        let values = [0.0, 1.0, 2.0, 3.0];
        let field = Field::new(&values, [1, 1, 4]).expect("it fits");
        let at = |x: f64| field.at([0.0, 0.0, x], Interpolation::Linear);
        assert_eq!(
            [at(-0.5), at(0.25), at(3.4), at(3.5), at(-0.6), at(f64::NAN)],
            [Some(0.0), Some(0.25), Some(3.0), None, None, None]
        );
        assert_eq!(field.at([0.0, 0.4, 1.6], Interpolation::Nearest), Some(2.0));
        assert!(Field::new(&values, [1, 1, 5]).is_none());
    }

    #[test]
    fn a_linear_function_is_reproduced() {
        let shape = [3, 4, 5];
        let f = |z: f64, y: f64, x: f64| 2.0 * z - y + 0.5 * x;
        let values: Vec<f32> =
            (0..60).map(|i| f((i / 20) as f64, (i / 5 % 4) as f64, (i % 5) as f64) as f32).collect();
        let field = Field::new(&values, shape).expect("it fits");
        for (z, y, x) in [(0.5, 1.25, 3.75), (2.0, 3.0, 4.0), (1.1, 0.2, 0.3)] {
            let got = field.at([z, y, x], Interpolation::Linear).unwrap_or(f32::NAN);
            assert!((f64::from(got) - f(z, y, x)).abs() < 1e-5, "{got}");
        }
    }
}
