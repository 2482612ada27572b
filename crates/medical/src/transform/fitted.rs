//! The line that a volume's intensities are put on, found once over the whole volume, in parts.
//!
//! A patch must not be scaled by its own percentiles: the same tissue would have another value in every patch,
//! and a volume that is read in blocks would give other numbers than one in memory. Statistics here are exact
//! and need memory for a part and four histograms, whatever the size of the volume.

use super::scale::Scale;
use crate::Volume;
use selfsup_core::Result;

/// The numbers of a volume in parts, always in the same order.
pub trait Values {
    /// Shows all values to `see`, part by part.
    ///
    /// # Errors
    /// If they cannot be read.
    fn each(&self, see: &mut dyn FnMut(&[f32])) -> Result<()>;

    /// Lowest and highest value that stand for "nothing was measured here" (DICOM's pixel padding).
    fn padding(&self) -> Option<[f32; 2]>;
}

impl Values for Volume {
    fn each(&self, see: &mut dyn FnMut(&[f32])) -> Result<()> {
        see(self.values());
        Ok(())
    }

    fn padding(&self) -> Option<[f32; 2]> {
        Volume::padding(self)
    }
}

/// `(v - offset) * factor`, cut to `[0, 1]` or not; what was not measured becomes what the lowest measured
/// value becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fitted {
    offset: f32,
    factor: f32,
    cut: bool,
    /// Values that stand for nothing, and the value that takes their place.
    padding: Option<([f32; 2], f32)>,
}

impl Fitted {
    /// The scaled value.
    pub fn of(&self, v: f32) -> f32 {
        let v = match self.padding {
            Some(([low, high], instead)) if (low..=high).contains(&v) => instead,
            _ => v,
        };
        let v = (v - self.offset) * self.factor;
        if self.cut { v.clamp(0.0, 1.0) } else { v }
    }

    /// All of it as bits, which text keeps exactly.
    pub(crate) fn to_bits(self) -> [u32; 7] {
        let ([low, high], instead) = self.padding.unwrap_or_default();
        let bits = [self.offset, self.factor, low, high, instead].map(f32::to_bits);
        [bits[0], bits[1], self.cut.into(), self.padding.is_some().into(), bits[2], bits[3], bits[4]]
    }

    /// What [`Fitted::to_bits`] was of.
    pub(crate) fn from_bits([offset, factor, cut, padded, low, high, instead]: [u32; 7]) -> Self {
        let [offset, factor, low, high, instead] = [offset, factor, low, high, instead].map(f32::from_bits);
        let padding = (padded != 0).then_some(([low, high], instead));
        Fitted { offset, factor, cut: cut != 0, padding }
    }
}

/// A number whose order is that of `f32::total_cmp`.
fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// What is counted of a volume: not padding, and above `above`.
struct Chosen<'a> {
    values: &'a dyn Values,
    padding: Option<[f32; 2]>,
    above: Option<f32>,
}

impl Chosen<'_> {
    fn each(&self, see: &mut dyn FnMut(f32)) -> Result<()> {
        self.values.each(&mut |part| {
            for &v in part {
                let padded = self.padding.is_some_and(|[low, high]| (low..=high).contains(&v));
                if !padded && self.above.is_none_or(|low| v > low) {
                    see(v);
                }
            }
        })
    }

    /// How many, and the lowest.
    fn count(&self) -> Result<(u64, f32)> {
        let (mut n, mut low) = (0, f32::INFINITY);
        self.each(&mut |v| (n, low) = (n + 1, low.min(v)))?;
        Ok((n, low))
    }

    /// The `q`-th percentiles (0 to 100), interpolated between neighbours as numpy does.
    fn percentiles(&self, q: [f32; 2]) -> Result<[f32; 2]> {
        let mut coarse = vec![0u64; 1 << 16];
        self.each(&mut |v| coarse[(key(v) >> 16) as usize] += 1)?;
        let n: u64 = coarse.iter().sum();
        // Ranks: the place of each percentile and its neighbour.
        let places = q.map(|q| f64::from(q) / 100.0 * (n.saturating_sub(1)) as f64);
        let ranks: Vec<u64> =
            places.iter().flat_map(|p| [*p as u64, (*p as u64 + 1).min(n.saturating_sub(1))]).collect();
        let found = select(&coarse, &ranks);
        let mut bins: Vec<usize> = found.iter().map(|(bin, _)| *bin).collect();
        bins.sort_unstable();
        bins.dedup();
        let mut fine = vec![vec![0u64; 1 << 16]; bins.len()];
        self.each(&mut |v| {
            let k = key(v);
            if let Ok(at) = bins.binary_search(&((k >> 16) as usize)) {
                fine[at][(k & 0xffff) as usize] += 1;
            }
        })?;
        let at = |(bin, rank): (usize, u64)| {
            let which = bins.binary_search(&bin).unwrap_or_default();
            let low = select(&fine[which], &[rank]).first().map_or(0, |f| f.0);
            value((bin as u32) << 16 | low as u32)
        };
        Ok([0, 1].map(|i| {
            let (low, high) = (at(found[2 * i]), at(found[2 * i + 1]));
            let part = places[i].fract() as f32;
            if part > 0.0 { low + part * (high - low) } else { low }
        }))
    }

    /// Mean and variance.
    fn moments(&self) -> Result<(f64, f64)> {
        let (mut n, mut sum) = (0u64, 0.0);
        self.each(&mut |v| (n, sum) = (n + 1, sum + f64::from(v)))?;
        let (n, mut squares) = (n.max(1) as f64, 0.0);
        let mean = sum / n;
        self.each(&mut |v| squares += (f64::from(v) - mean).powi(2))?;
        Ok((mean, squares / n))
    }
}

/// For each rank the bin that it lies in, and its rank there.
fn select(counts: &[u64], ranks: &[u64]) -> Vec<(usize, u64)> {
    let of = |rank: u64| {
        let mut before = 0;
        for (bin, count) in counts.iter().enumerate() {
            if rank < before + count {
                return (bin, rank - before);
            }
            before += count;
        }
        (0, 0)
    };
    ranks.iter().map(|rank| of(*rank)).collect()
}

impl Scale {
    /// The line that this scaling puts `values` on.
    ///
    /// # Errors
    /// If the configuration is not possible, or the values cannot be read.
    pub fn fit(&self, values: &dyn Values) -> Result<Fitted> {
        self.check()?;
        let mut chosen = Chosen { values, padding: values.padding(), above: None };
        let mut padding = None;
        if let Some(range) = chosen.padding {
            match chosen.count()? {
                (0, _) => chosen.padding = None,
                (_, low) => padding = Some((range, low)),
            }
        }
        let foreground = |chosen: &mut Chosen| -> Result<()> {
            let (_, low) = chosen.count()?;
            chosen.above = Some(low);
            if chosen.count()?.0 == 0 {
                chosen.above = None;
            }
            Ok(())
        };
        let (offset, factor, cut) = match *self {
            Scale::None => (0.0, 1.0, false),
            Scale::Window { low, high } => (low, 1.0 / (high - low), true),
            Scale::Percentiles { low, high, foreground: inside } => {
                if inside {
                    foreground(&mut chosen)?;
                }
                let [a, b] = chosen.percentiles([low, high])?;
                // A volume of one value has no contrast: all of it becomes 0.
                (a, if b > a { 1.0 / (b - a) } else { 0.0 }, true)
            }
            Scale::ZScore { foreground: inside } => {
                if inside {
                    foreground(&mut chosen)?;
                }
                let (mean, var) = chosen.moments()?;
                (mean as f32, if var > 0.0 { (1.0 / var.sqrt()) as f32 } else { 0.0 }, false)
            }
        };
        Ok(Fitted { offset, factor, cut, padding })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Grid;
    use proptest::prelude::*;

    /// Values in parts of seven.
    struct Parts(Vec<f32>, Option<[f32; 2]>);

    impl Values for Parts {
        fn each(&self, see: &mut dyn FnMut(&[f32])) -> Result<()> {
            self.0.chunks(7).for_each(see);
            Ok(())
        }
        fn padding(&self) -> Option<[f32; 2]> {
            self.1
        }
    }

    #[test]
    fn keys_keep_the_order() {
        let values = [f32::NEG_INFINITY, -3.5, -1e-30, -0.0, 0.0, 1e-30, 2.0, f32::INFINITY];
        assert!(values.windows(2).all(|w| key(w[0]) < key(w[1])));
        assert!(values.iter().all(|v| value(key(*v)).to_bits() == v.to_bits()));
    }

    #[test]
    fn padding_is_left_out() {
        // Measured: 0 to 10. Padding at -2000 and -1999 would take the lowest percentile and the mean.
        let mut v: Vec<f32> = (0..=10).map(|v| v as f32).collect();
        v.extend([-2000.0; 30]);
        v.push(-1999.0);
        let parts = Parts(v, Some([-2000.0, -1999.0]));
        let fitted = Scale::Percentiles { low: 0.0, high: 100.0, foreground: false }.fit(&parts).unwrap();
        assert_eq!([-2000.0, -1999.0, 0.0, 5.0, 10.0].map(|v| fitted.of(v)), [0.0, 0.0, 0.0, 0.5, 1.0]);
        let z = Scale::ZScore { foreground: false }.fit(&parts).unwrap();
        assert!((z.of(5.0)).abs() < 1e-6 && (z.of(10.0) - 1.581_139).abs() < 1e-5);
        assert_eq!(z.of(-2000.0), z.of(0.0));
        assert!([fitted, z].iter().all(|f| Fitted::from_bits(f.to_bits()) == *f));
        // Foreground: above the lowest that was measured.
        let f = Scale::Percentiles { low: 0.0, high: 100.0, foreground: true }.fit(&parts).unwrap();
        assert_eq!((f.of(1.0), f.of(10.0)), (0.0, 1.0));
        // Nothing but padding: as if there were none.
        let empty = Parts(vec![-2000.0; 3], Some([-2000.0, -2000.0]));
        assert_eq!(Scale::default().fit(&empty).unwrap().of(-2000.0), 0.0);
    }

    proptest! {
        /// Parts or whole, the numbers are those of a sorted list.
        #[test]
        fn percentiles_are_those_of_a_sorted_list(
            mut v in prop::collection::vec(-1e4f32..1e4, 1..200),
            low in 0f32..50.0,
            high in 51f32..100.0,
            whole in any::<bool>(),
        ) {
            if whole {
                v.iter_mut().for_each(|v| *v = v.round());
            }
            let parts = Chosen { values: &Parts(v.clone(), None), padding: None, above: None }
                .percentiles([low, high])
                .unwrap();
            let grid = Grid::with_spacing([1, 1, v.len()], [1.0; 3]).unwrap();
            let volume = Volume::new("v", grid, v.clone()).unwrap();
            let same = Chosen { values: &volume, padding: None, above: None }.percentiles([low, high]).unwrap();
            prop_assert_eq!(parts, same);
            v.sort_by(f32::total_cmp);
            for (q, found) in [low, high].into_iter().zip(parts) {
                let place = f64::from(q) / 100.0 * (v.len() - 1) as f64;
                let (a, b) = (v[place as usize], v[(place as usize + 1).min(v.len() - 1)]);
                let part = place.fract() as f32;
                prop_assert_eq!(found, if part > 0.0 { a + part * (b - a) } else { a });
            }
        }
    }
}
