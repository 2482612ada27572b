//! Frames: one vector for each instant of a recording.

use selfsup_core::{Error, Result};

/// Row-major `(frames, dim)` with the instants that the rows belong to.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    values: Vec<f32>,
    dim: usize,
    /// Middle of the first frame, in seconds.
    pub centre: f64,
    /// From one frame to the next, in seconds.
    pub step: f64,
}

impl Frames {
    /// `values` as rows of `dim`; the first frame's middle lies at `centre`, the others follow each `step`
    /// seconds.
    ///
    /// # Errors
    /// If the values are not whole rows.
    pub fn new(values: Vec<f32>, dim: usize, centre: f64, step: f64) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::input("frames", format!("{} values as rows of {dim}", values.len())));
        }
        Ok(Frames { values, dim, centre, step })
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values of a frame.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, frame after frame.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// All values, frame after frame.
    pub fn into_vec(self) -> Vec<f32> {
        self.values
    }

    /// Frame `i`; empty if there is none.
    pub fn row(&self, i: usize) -> &[f32] {
        self.values.get(i * self.dim..(i + 1) * self.dim).unwrap_or(&[])
    }

    /// Middle of frame `i` in seconds.
    pub fn instant(&self, i: usize) -> f64 {
        self.centre + self.step * i as f64
    }

    /// The frames of each `middle` seconds `centre + i * step`, picked from the nearest here: features at
    /// another rate's instants.
    #[must_use]
    pub fn at(&self, centre: f64, step: f64, n: usize) -> Frames {
        let last = self.len().saturating_sub(1);
        let mut values = Vec::with_capacity(n * self.dim);
        for i in 0..n {
            let place = ((centre + step * i as f64 - self.centre) / self.step).round().max(0.0) as usize;
            values.extend_from_slice(self.row(place.min(last)));
        }
        Frames { values, dim: self.dim, centre, step }
    }

    /// Features of the same instants as one, those of the first set first: their dimensions add up.
    ///
    /// # Errors
    /// If there are none, or their instants differ.
    pub fn side_by_side(sets: &[Frames]) -> Result<Frames> {
        let Some(first) = sets.first() else { return Err(Error::input("features", "none to join")) };
        if let Some(other) =
            sets.iter().find(|f| (f.len(), f.centre, f.step) != (first.len(), first.centre, first.step))
        {
            return Err(Error::input(
                "features",
                format!("{} frames beside {}: expected the same instants", other.len(), first.len()),
            ));
        }
        let values =
            (0..first.len()).flat_map(|i| sets.iter().flat_map(move |f| f.row(i))).copied().collect();
        Frames::new(values, sets.iter().map(Frames::dim).sum(), first.centre, first.step)
    }

    /// Each frame followed by its first `orders` time differences: `d_t = sum_k k (x_{t+k} - x_{t-k}) / 10`
    /// for k = 1, 2, of which the second is that of the first; at the ends the outermost frame is repeated.
    #[must_use]
    pub fn with_deltas(&self, orders: usize) -> Frames {
        let mut parts = vec![self.values.clone()];
        for order in 0..orders {
            let next = deltas(&parts[order], self.dim);
            parts.push(next);
        }
        let mut values = Vec::with_capacity(self.values.len() * parts.len());
        for t in 0..self.len() {
            parts.iter().for_each(|p| values.extend_from_slice(&p[t * self.dim..(t + 1) * self.dim]));
        }
        Frames { values, dim: self.dim * parts.len(), ..*self }
    }

    /// Each frame with the `context` frames on each side, in order of time; at the ends the outermost frame
    /// is repeated.
    #[must_use]
    pub fn with_context(&self, context: usize) -> Frames {
        let (n, width) = (self.len(), 2 * context + 1);
        let mut values = Vec::with_capacity(self.values.len() * width);
        for t in 0..n {
            for k in 0..width {
                values.extend_from_slice(self.row((t + k).saturating_sub(context).min(n.saturating_sub(1))));
            }
        }
        Frames { values, dim: self.dim * width, ..*self }
    }

    /// Mean 0 and variance 1 in each dimension over these frames; what is constant becomes 0.
    pub fn normalize(&mut self) {
        let n = self.len().max(1) as f64;
        for j in 0..self.dim {
            let column = || self.values.iter().skip(j).step_by(self.dim).map(|v| f64::from(*v));
            let mean = column().sum::<f64>() / n;
            let scale = 1.0 / (column().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-8);
            self.values
                .iter_mut()
                .skip(j)
                .step_by(self.dim)
                .for_each(|v| *v = ((f64::from(*v) - mean) * scale) as f32);
        }
    }

    /// Mean and standard deviation of each dimension: one vector of `2 dim` for the utterance.
    pub fn pooled(&self) -> Vec<f32> {
        let n = self.len().max(1) as f64;
        let mut out = vec![0f32; 2 * self.dim];
        for j in 0..self.dim {
            let column = || self.values.iter().skip(j).step_by(self.dim).map(|v| f64::from(*v));
            let mean = column().sum::<f64>() / n;
            out[j] = mean as f32;
            out[self.dim + j] = (column().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt() as f32;
        }
        out
    }
}

fn deltas(x: &[f32], dim: usize) -> Vec<f32> {
    let n = x.len() / dim;
    let row = |t: isize| {
        let t = t.clamp(0, n as isize - 1) as usize;
        &x[t * dim..(t + 1) * dim]
    };
    let mut out = Vec::with_capacity(x.len());
    for t in 0..n as isize {
        let (a, b, c, d) = (row(t - 2), row(t - 1), row(t + 1), row(t + 2));
        out.extend((0..dim).map(|j| (c[j] - b[j] + 2.0 * (d[j] - a[j])) / 10.0));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Frames {
        Frames::new((0..n).flat_map(|t| [t as f32, 5.0]).collect(), 2, 0.0125, 0.01).unwrap()
    }

    #[test]
    fn deltas_are_slopes() {
        let d = ramp(9).with_deltas(2);
        assert_eq!(d.dim(), 6);
        assert_eq!(d.row(4), [4.0, 5.0, 1.0, 0.0, 0.0, 0.0]);
        // At the start x_{-1} = x_{-2} = x_0: (1 - 0 + 2 (2 - 0)) / 10.
        assert!((d.row(0)[2] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn context_repeats_the_ends() {
        let c = ramp(3).with_context(2);
        assert_eq!(c.dim(), 10);
        let first: Vec<f32> = c.row(0).iter().step_by(2).copied().collect();
        assert_eq!(first, [0.0, 0.0, 0.0, 1.0, 2.0]);
        let last: Vec<f32> = c.row(2).iter().step_by(2).copied().collect();
        assert_eq!(last, [0.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn side_by_side_joins_the_dimensions_of_each_instant() {
        let both = Frames::side_by_side(&[ramp(3), ramp(3).with_deltas(1)]).unwrap();
        assert_eq!((both.len(), both.dim()), (3, 6));
        assert_eq!(both.row(1)[..4], [1.0, 5.0, 1.0, 5.0]);
        let uneven = Frames::side_by_side(&[ramp(3), ramp(4)]).unwrap_err().to_string();
        assert!(uneven.contains("4 frames beside 3"), "{uneven}");
        assert!(Frames::side_by_side(&[]).is_err());
    }

    #[test]
    fn normalised_and_pooled() {
        let mut f = ramp(5);
        let pooled = f.pooled();
        assert_eq!(pooled[..2], [2.0, 5.0]);
        assert!((pooled[2] - 2f32.sqrt()).abs() < 1e-6 && pooled[3] == 0.0);
        f.normalize();
        assert!(f.row(2)[0].abs() < 1e-6 && f.row(0)[1] == 0.0);
        assert!((f.row(4)[0] - 2f32.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn instants_of_another_rate() {
        // Encoder frames of 20 ms whose middles are 12.5 ms, 32.5 ms ...: every second frame of 10 ms.
        let f = ramp(10).at(0.0125, 0.02, 5);
        assert_eq!((0..5).map(|i| f.row(i)[0]).collect::<Vec<_>>(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ramp(3).at(0.0, 1.0, 2).row(1)[0], 2.0);
        assert!(Frames::new(vec![0.0; 3], 2, 0.0, 1.0).is_err() && Frames::new(vec![], 0, 0.0, 1.0).is_err());
    }
}
