//! Sliding windows: a network that was trained on patches labels a whole volume.
//!
//! Windows overlap; each votes with its probabilities, weighted by a Gaussian about its middle, since a
//! network sees too little around the border of its window. `p(v) = sum_w g_w(v) p_w(v) / sum_w g_w(v)`; the
//! deviation is an eighth of the side (nnU-Net, Isensee et al. 2018, arXiv 1809.10486; MONAI's default).

use crate::transform::extremes;
use crate::transform::sample::{Interpolation, warp};
use crate::{Grid, Volume};
use candle_core::{Device, Tensor};
use selfsup_core::kernels::host::floats;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a volume is cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlidingWindow {
    /// Sides of a window (z, y, x).
    pub size: [usize; 3],
    /// Share of a window that the next one covers again, 0 to below 1.
    pub overlap: f64,
    /// Standard deviation of the weights, as a share of the side; 0 for windows that weigh the same
    /// everywhere.
    pub sigma: f64,
    /// Windows in a batch.
    pub batch: usize,
}

impl Default for SlidingWindow {
    fn default() -> Self {
        SlidingWindow { size: [48; 3], overlap: 0.5, sigma: 0.125, batch: 4 }
    }
}

/// Scores of the voxels of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// `(D, H, W)`.
    pub shape: [usize; 3],
    /// Number of classes, or outputs.
    pub classes: usize,
    /// `(D, H, W, classes)`.
    pub values: Vec<f32>,
}

impl Scores {
    /// The class of the highest score of each voxel, the first of equals.
    pub fn labels(&self) -> Vec<u16> {
        let best = |row: &[f32]| {
            row.iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |b, (i, &v)| if v > b.1 { (i, v) } else { b })
                .0
        };
        self.values.chunks_exact(self.classes.max(1)).map(|row| best(row) as u16).collect()
    }
}

impl Scores {
    /// The class of the highest score of each voxel of `grid`, where these are the scores of the voxels of
    /// `own`: scores are interpolated linearly, then one class wins. Where `own` does not reach, class 0.
    pub fn labels_on(&self, own: &Grid, grid: &Grid) -> Vec<u16> {
        if own.shape() == grid.shape() && own.is_close(grid, 1e-3) {
            return self.labels();
        }
        let m = grid.to(own);
        let place = |[z, y, x]: [usize; 3]| {
            let p = crate::grid::apply(&m, [x as f64, y as f64, z as f64]);
            [p[2], p[1], p[0]]
        };
        let mut best = vec![(0u16, f32::NEG_INFINITY); grid.voxels()];
        // A class at a time: never all of them on the larger grid.
        for class in 0..self.classes {
            let of: Vec<f32> = self.values.iter().skip(class).step_by(self.classes).copied().collect();
            let outside = if class == 0 { 1.0 } else { 0.0 };
            let scores = warp(&of, self.shape, grid.shape(), outside, Interpolation::Linear, place);
            for (best, score) in best.iter_mut().zip(scores) {
                if score > best.1 {
                    *best = (class as u16, score);
                }
            }
        }
        best.into_iter().map(|(class, _)| class).collect()
    }
}

/// First voxels of windows of `window` voxels along an axis of `n`: `step` apart, the last one flush with the
/// end.
pub fn starts(n: usize, window: usize, step: usize) -> Vec<usize> {
    let last = n.saturating_sub(window);
    let mut at: Vec<usize> = (0..last).step_by(step.max(1)).collect();
    at.push(last);
    at
}

/// Weights along an axis; never 0, so that every voxel counts.
fn weights(n: usize, sigma: f64) -> Vec<f32> {
    let (middle, sd) = ((n as f64 - 1.0) / 2.0, sigma * n as f64);
    (0..n)
        .map(
            |i| {
                if sd > 0.0 {
                    (-0.5 * ((i as f64 - middle) / sd).powi(2)).exp().max(1e-3) as f32
                } else {
                    1.0
                }
            },
        )
        .collect()
}

impl SlidingWindow {
    fn check(&self) -> Result<()> {
        if self.size.contains(&0) || self.batch == 0 {
            return Err(Error::config(format!(
                "windows of {:?} voxels in batches of {}: expected at least 1",
                self.size, self.batch
            )));
        }
        if !((0.0..1.0).contains(&self.overlap) && self.sigma >= 0.0 && self.sigma.is_finite()) {
            return Err(Error::config(format!(
                "window overlap {} and sigma {}: expected a share from 0 to below 1, and a number from 0",
                self.overlap, self.sigma
            )));
        }
        Ok(())
    }

    /// Scores of every voxel of `volume`, which is padded with its lowest value to at least one window.
    /// `predict` maps `(N, 1, D, H, W)` to `(N, D, H, W, classes)`; the last batch may be smaller.
    ///
    /// # Errors
    /// If the configuration is not possible, `predict` fails, or it returns another shape.
    pub fn scores(
        &self,
        volume: &Volume,
        device: &Device,
        mut predict: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Scores> {
        self.check()?;
        let (shape, size) = (volume.shape(), self.size);
        let padded = [0, 1, 2].map(|a| shape[a].max(size[a]));
        let before = [0, 1, 2].map(|a| (padded[a] - shape[a]) / 2);
        let grown;
        let volume = if padded == shape {
            volume
        } else {
            grown = volume.part(before.map(|b| -(b as isize)), padded, extremes(volume.values()).0)?;
            &grown
        };
        let along = [0, 1, 2].map(|a| {
            let step = ((size[a] as f64 * (1.0 - self.overlap)).round() as usize).max(1);
            starts(padded[a], size[a], step)
        });
        let mut places = Vec::new();
        for &z in &along[0] {
            for &y in &along[1] {
                places.extend(along[2].iter().map(|&x| [z, y, x]));
            }
        }
        let line = [0, 1, 2].map(|a| weights(size[a], self.sigma));
        let voxels = size.iter().product::<usize>();
        let (mut sums, mut total, mut classes) = (Vec::new(), vec![0f32; padded.iter().product()], 0);
        for places in places.chunks(self.batch) {
            let mut values = Vec::with_capacity(places.len() * voxels);
            for place in places {
                values.extend_from_slice(volume.part(place.map(|p| p as isize), size, 0.0)?.values());
            }
            let x = Tensor::from_vec(values, (places.len(), 1, size[0], size[1], size[2]), device)?;
            let y = predict(&x)?;
            let c = match *y.dims() {
                [n, d, h, w, c]
                    if n == places.len() && [d, h, w] == size && c > 0 && (classes == 0 || c == classes) =>
                {
                    c
                }
                ref other => {
                    return Err(Error::input(
                        "network",
                        format!("made {other:?} of {:?}: expected (N, D, H, W, classes)", x.dims()),
                    ));
                }
            };
            if classes == 0 {
                classes = c;
                sums = vec![0f32; total.len() * c];
            }
            let y: Vec<f32> = floats(&y)?;
            for (&[z0, y0, x0], scores) in places.iter().zip(y.chunks_exact(voxels * c)) {
                for (row, scores) in scores.chunks_exact(size[2] * c).enumerate() {
                    let (z, y) = (row / size[1], row % size[1]);
                    let weight = line[0][z] * line[1][y];
                    let at = ((z0 + z) * padded[1] + y0 + y) * padded[2] + x0;
                    for (x, scores) in scores.chunks_exact(c).enumerate() {
                        let g = weight * line[2][x];
                        total[at + x] += g;
                        sums[(at + x) * c..(at + x + 1) * c]
                            .iter_mut()
                            .zip(scores)
                            .for_each(|(s, v)| *s += g * v);
                    }
                }
            }
        }
        let mut out = Vec::with_capacity(shape.iter().product::<usize>() * classes);
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                for x in 0..shape[2] {
                    let at = ((z + before[0]) * padded[1] + y + before[1]) * padded[2] + x + before[2];
                    out.extend(sums[at * classes..(at + 1) * classes].iter().map(|s| s / total[at]));
                }
            }
        }
        Ok(Scores { shape, classes, values: out })
    }

    /// The volume with the class of every voxel as its labels.
    ///
    /// # Errors
    /// As [`SlidingWindow::scores`].
    pub fn segment(
        &self,
        volume: &Volume,
        device: &Device,
        predict: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Volume> {
        let labels = self.scores(volume, device, predict)?.labels();
        volume.clone().with_labels(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::volume;
    use proptest::prelude::*;

    #[test]
    fn windows_reach_the_end() {
        assert_eq!(starts(10, 4, 2), [0, 2, 4, 6]);
        assert_eq!(starts(9, 4, 2), [0, 2, 4, 5]);
        assert_eq!(starts(4, 4, 2), [0]);
        assert_eq!(starts(3, 4, 2), [0]);
        let w = weights(5, 0.125);
        assert!(w[2] == 1.0 && w[0] == w[4] && w.iter().all(|v| *v > 0.0));
    }

    /// Two planes of scores on voxels of 2 mm, on voxels of 1 mm: the probability crosses a half in the middle
    /// between them, and what no score covers is background.
    #[test]
    fn probabilities_are_brought_to_another_grid() {
        let own = Grid::with_spacing([1, 1, 2], [1.0, 1.0, 2.0]).unwrap();
        let scores = Scores { shape: [1, 1, 2], classes: 3, values: vec![0.8, 0.1, 0.1, 0.1, 0.2, 0.7] };
        assert_eq!(scores.labels_on(&own, &own), [0, 2]);
        let fine = Grid::with_spacing([1, 1, 6], [1.0, 1.0, 1.0]).unwrap();
        // Places 0, 0.5, 1, 1.5 and outside: 0.45 against 0.4 at 0.5, the last score up to half a voxel on.
        assert_eq!(scores.labels_on(&own, &fine), [0, 0, 2, 0, 0, 0]);
        let shifted = own.part([0, 0, 1], [1, 1, 1]).unwrap();
        assert_eq!(scores.labels_on(&own, &shifted), [2]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let v = volume([4, 4, 4], 0);
        let run = |w: SlidingWindow| w.scores(&v, &Device::Cpu, |x| Ok(x.clone())).unwrap_err().to_string();
        assert!(run(SlidingWindow { size: [0, 1, 1], ..SlidingWindow::default() }).contains("windows"));
        assert!(run(SlidingWindow { overlap: 1.0, ..SlidingWindow::default() }).contains("overlap"));
        assert!(run(SlidingWindow { size: [4; 3], ..SlidingWindow::default() }).contains("network"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        /// A network that returns what it sees returns the volume, whatever the windows: every voxel is
        /// covered and the weights cancel.
        #[test]
        fn the_identity_is_the_identity(shape in prop::array::uniform3(1usize..9), size in prop::array::uniform3(1usize..6), overlap in 0.0f64..0.9, batch in 1usize..5, flat in prop::bool::ANY) {
            let v = volume(shape, 7);
            let window = SlidingWindow { size, overlap, sigma: if flat { 0.0 } else { 0.125 }, batch };
            let scores = window.scores(&v, &Device::Cpu, |x| Ok(x.permute((0, 2, 3, 4, 1))?.contiguous()?)).unwrap();
            prop_assert_eq!((scores.shape, scores.classes), (shape, 1));
            for (a, b) in scores.values.iter().zip(v.values()) {
                prop_assert!((a - b).abs() < 1e-4);
            }
            // Two outputs, the value and its negative: the class says which is larger.
            let made = window.segment(&v, &Device::Cpu, |x| Ok(Tensor::cat(&[x.clone(), x.neg()?], 1)?.permute((0, 2, 3, 4, 1))?.contiguous()?)).unwrap();
            for (l, v) in made.labels().unwrap().iter().zip(v.values()) {
                prop_assert_eq!(*l, u16::from(*v < 0.0));
            }
        }
    }
}
