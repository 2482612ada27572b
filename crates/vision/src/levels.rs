//! 16-bit levels of other numbers, and of 16-bit values that use a part of their range.

use std::cmp::Ordering;

/// How far floating point may be outside of 0 to 1 and still mean that range.
const SLACK: f64 = 1e-3;

/// Shares of the values that are cut at both ends.
const CUT: f64 = 0.005;

/// Numbers with a point (`pointed`) between 0 and 1 by that range; others linearly between their 0.5th and
/// 99.5th percentile. What lies outside is cut, what is not a number becomes 0.
pub(crate) fn levels(numbers: &[f64], pointed: bool) -> Vec<u16> {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return vec![0; numbers.len()] };
    let (low, high) = if pointed && least >= -SLACK && most <= 1.0 + SLACK {
        (0.0, 1.0)
    } else {
        let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64).round() as usize];
        (at(CUT), at(1.0 - CUT))
    };
    let scale = if high > low { f64::from(u16::MAX) / (high - low) } else { 0.0 };
    // An infinite value is cut like any other; what is no number becomes 0.
    numbers.iter().map(|v| ((v - low) * scale).round().clamp(0.0, f64::from(u16::MAX)) as u16).collect()
}

/// Values linearly between their 0.5th and 99.5th percentile, over the whole range of 16 bits; what lies
/// outside is cut. All equal, they stay as they are.
pub(crate) fn stretch(values: &mut [u16]) {
    let mut counts = vec![0usize; 1 << 16];
    values.iter().for_each(|v| counts[usize::from(*v)] += 1);
    let at = |share: f64| {
        let place = (share * values.len().saturating_sub(1) as f64).round() as usize;
        let mut below = 0;
        let found = counts.iter().position(|n| {
            below += n;
            below > place
        });
        found.unwrap_or(0) as f64
    };
    let (low, high) = (at(CUT), at(1.0 - CUT));
    let (low, high) = match low.total_cmp(&high) {
        Ordering::Less => (low, high),
        // A few bright marks on one grey: the percentiles are the grey itself.
        _ => (at(0.0), at(1.0)),
    };
    if high > low {
        let scale = f64::from(u16::MAX) / (high - low);
        let level = |v: u16| ((f64::from(v) - low) * scale).round().clamp(0.0, f64::from(u16::MAX)) as u16;
        values.iter_mut().for_each(|v| *v = level(*v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_levels() {
        assert_eq!(levels(&[0.0, 0.5, 1.0, 1.0005], true), [0, 32768, 65535, 65535]);
        assert_eq!(levels(&[0.0, 1.0], false), [0, 65535]);
        // 0.5% are cut at both ends: of 0 to 1000 what is below 5 and above 995.
        let ramp: Vec<f64> = (-500..=500).map(f64::from).collect();
        let got = levels(&ramp, true);
        assert_eq!((got[5], got[4], got[500], got[995], got[1000]), (0, 0, 32768, 65535, 65535));
        assert_eq!(levels(&[f64::NAN, -1.0, 2.0], true), [0, 0, 65535]);
        assert_eq!(levels(&[7.5; 3], true), [0; 3]);
        assert_eq!(levels(&[f64::NAN; 2], true), [0; 2]);
    }

    /// As numpy: `clip((v - p0.5) / (p99.5 - p0.5), 0, 1) * 65535`.
    #[test]
    fn a_part_of_the_range_is_stretched() {
        // 12 bits: 0.5% of 0 to 4000 are cut at both ends.
        let mut ramp: Vec<u16> = (0..=4000).collect();
        stretch(&mut ramp);
        assert_eq!((ramp[0], ramp[20], ramp[2000], ramp[3980], ramp[4000]), (0, 0, 32768, 65535, 65535));
        assert_eq!(ramp[1010], (990.0f64 / 3960.0 * 65535.0).round() as u16);
        let mut flat = vec![700u16; 9];
        stretch(&mut flat);
        assert_eq!(flat, [700; 9]);
        let mut marks = vec![100u16; 1000];
        marks[7] = 300;
        stretch(&mut marks);
        assert_eq!((marks[0], marks[7]), (0, 65535));
        stretch(&mut []);
    }
}
