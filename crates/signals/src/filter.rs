//! Butterworth filters in second-order sections, with the numbers of scipy (`butter(..., output="sos")`, `sosfilt`,
//! `sosfiltfilt`).

mod complex;
mod design;

use selfsup_core::{Error, Result};

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Butterworth {
    sections: Vec<[f64; 6]>,
}

impl Butterworth {
    /// Lets frequencies from `low` to `high` Hz pass, of signals of `rate` samples a second.
    ///
    /// # Errors
    /// If the order is 0 or above 20, or `0 < low < high < rate / 2` does not hold.
    pub fn band(order: usize, low: f64, high: f64, rate: f64) -> Result<Self> {
        check(order, &[("low", low), ("high", high)], rate)?;
        if low >= high {
            return Err(Error::config(format!(
                "a band from {low} to {high} Hz: expected the lower end first"
            )));
        }
        Ok(Butterworth { sections: design::band(order, 2.0 * low / rate, 2.0 * high / rate) })
    }

    /// Lets frequencies below `end` Hz pass.
    ///
    /// # Errors
    /// As [`Butterworth::band`].
    pub fn below(order: usize, end: f64, rate: f64) -> Result<Self> {
        check(order, &[("end", end)], rate)?;
        Ok(Butterworth { sections: design::below(order, 2.0 * end / rate) })
    }

    /// Lets frequencies above `end` Hz pass.
    ///
    /// # Errors
    /// As [`Butterworth::band`].
    pub fn above(order: usize, end: f64, rate: f64) -> Result<Self> {
        check(order, &[("end", end)], rate)?;
        Ok(Butterworth { sections: design::above(order, 2.0 * end / rate) })
    }

    /// The sections, each `b0 b1 b2 a0 a1 a2`.
    pub fn sections(&self) -> &[[f64; 6]] {
        &self.sections
    }

    /// Filters from the first sample on, as a monitor would: later samples change nothing before them.
    pub fn causal(&self, x: &[f32]) -> Vec<f32> {
        let mut state = vec![[0.0; 2]; self.sections.len()];
        let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        self.run(&x, &mut state).into_iter().map(|v| v as f32).collect()
    }

    /// Filters forwards and backwards, so that nothing is shifted in time; the ends are mirrored about their values.
    ///
    /// # Errors
    /// If the signal is too short for the filter.
    pub fn zero_phase(&self, x: &[f32]) -> Result<Vec<f32>> {
        let count = |k: usize| self.sections.iter().filter(|s| s[k] == 0.0).count();
        let taps = 2 * self.sections.len() + 1 - count(2).min(count(5));
        let edge = 3 * taps;
        let (Some(first), Some(last)) = (x.first(), x.last()) else { return Ok(Vec::new()) };
        if x.len() <= edge {
            let problem = format!("{} samples, expected more than {edge} to filter without a shift", x.len());
            return Err(Error::input("a signal", problem));
        }
        let odd = |end: f32, v: f32| 2.0 * f64::from(end) - f64::from(v);
        let mut y: Vec<f64> = x[1..=edge].iter().rev().map(|v| odd(*first, *v)).collect();
        y.extend(x.iter().map(|v| f64::from(*v)));
        y.extend(x[x.len() - 1 - edge..x.len() - 1].iter().rev().map(|v| odd(*last, *v)));
        for _ in 0..2 {
            let start = y.first().copied().unwrap_or(0.0);
            let mut state: Vec<[f64; 2]> = self.steady().iter().map(|s| s.map(|v| v * start)).collect();
            y = self.run(&y, &mut state);
            y.reverse();
        }
        Ok(y[edge..edge + x.len()].iter().map(|v| *v as f32).collect())
    }

    /// All sections one after the other, in direct form II transposed.
    fn run(&self, x: &[f64], state: &mut [[f64; 2]]) -> Vec<f64> {
        let step = |mut v: f64, state: &mut [[f64; 2]]| {
            for (s, z) in self.sections.iter().zip(state) {
                let y = s[0] * v + z[0];
                z[0] = s[1] * v - s[4] * y + z[1];
                z[1] = s[2] * v - s[5] * y;
                v = y;
            }
            v
        };
        x.iter().map(|v| step(*v, state)).collect()
    }

    /// The state after a signal that has been 1 for ever.
    fn steady(&self) -> Vec<[f64; 2]> {
        let mut scale = 1.0;
        self.sections
            .iter()
            .map(|&[b0, b1, b2, _, a1, a2]| {
                // [[1 + a1, -1], [a2, 1]] z = [b1 - a1 b0, b2 - a2 b0].
                let (r0, r1) = (b1 - a1 * b0, b2 - a2 * b0);
                let first = (r0 + r1) / (1.0 + a1 + a2);
                let state = [first, r1 - a2 * first].map(|v| v * scale);
                scale *= (b0 + b1 + b2) / (1.0 + a1 + a2);
                state
            })
            .collect()
    }
}

fn check(order: usize, ends: &[(&str, f64)], rate: f64) -> Result<()> {
    if !(1..=20).contains(&order) {
        return Err(Error::config(format!("a filter of order {order}: expected 1 to 20")));
    }
    for (name, end) in ends {
        if !(*end > 0.0 && *end < rate / 2.0) {
            let problem = format!(
                "{name} = {end} Hz at {rate} samples a second: expected above 0 and below half of it"
            );
            return Err(Error::config(problem));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    fn wave(hz: f64, n: usize) -> Vec<f32> {
        (0..n).map(|i| (2.0 * PI * hz * i as f64 / 250.0).sin() as f32).collect()
    }

    fn size(x: &[f32]) -> f32 {
        let middle = &x[x.len() / 4..x.len() * 3 / 4];
        (middle.iter().map(|v| v * v).sum::<f32>() / middle.len() as f32 * 2.0).sqrt()
    }

    #[test]
    fn what_passes_and_what_does_not() {
        let size_of = |f: &Butterworth, hz| size(&f.zero_phase(&wave(hz, 2000)).unwrap());
        let band = Butterworth::band(3, 5.0, 20.0, 250.0).unwrap();
        assert!((size_of(&band, 10.0) - 1.0).abs() < 0.01 && size_of(&band, 0.5) < 0.01);
        assert!(size_of(&band, 60.0) < 0.01);
        let (below, above) =
            (Butterworth::below(5, 20.0, 250.0).unwrap(), Butterworth::above(4, 20.0, 250.0).unwrap());
        assert!((size_of(&below, 5.0) - 1.0).abs() < 0.01 && size_of(&below, 60.0) < 0.01);
        assert!((size_of(&above, 60.0) - 1.0).abs() < 0.01 && size_of(&above, 5.0) < 0.01);
        // At the edge half of the power: once each way.
        assert!((size_of(&below, 20.0) - 0.5).abs() < 0.01);
        assert!((size(&below.causal(&wave(5.0, 2000))) - 1.0).abs() < 0.01);
    }

    #[test]
    fn impossible_filters_are_refused() {
        assert!(Butterworth::band(3, 20.0, 5.0, 250.0).is_err());
        assert!(Butterworth::below(3, 125.0, 250.0).is_err() && Butterworth::above(0, 5.0, 250.0).is_err());
        let f = Butterworth::below(2, 20.0, 250.0).unwrap();
        assert!(f.zero_phase(&[1.0; 5]).is_err() && f.zero_phase(&[]).unwrap().is_empty());
    }
}
