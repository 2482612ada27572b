//! Missing samples: flat lines of a lead that is off, short gaps that are bridged, and the rest.

/// Marks runs of one value that are longer than `longest` samples as missing: a lead that fell off, a sensor
/// that saturates. Returns how many samples it marked.
pub fn mark_flat(values: &mut [f32], longest: usize) -> usize {
    let (mut start, mut marked) = (0, 0);
    for end in 1..=values.len() {
        if end < values.len() && values[end] == values[start] {
            continue;
        }
        if end - start > longest && !values[start].is_nan() {
            values[start..end].fill(f32::NAN);
            marked += end - start;
        }
        start = end;
    }
    marked
}

/// Runs of missing samples, as `start..end`.
pub fn gaps(values: &[f32]) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, _) in values.iter().enumerate().filter(|(_, v)| v.is_nan()) {
        match found.last_mut() {
            Some(gap) if gap.end == i => gap.end = i + 1,
            _ => found.push(i..i + 1),
        }
    }
    found
}

/// Bridges all gaps with straight lines, at the ends with the nearest value; nothing changes where no sample
/// is there.
pub fn bridge(values: &mut [f32]) {
    for gap in gaps(values) {
        let before = gap.start.checked_sub(1).map(|i| values[i]);
        let after = values.get(gap.end).copied();
        let Some((a, b)) = before.or(after).zip(after.or(before)) else { return };
        let steps = (gap.len() + 1) as f32;
        for (k, i) in gap.enumerate() {
            let share = (k + 1) as f32 / steps;
            values[i] = (1.0 - share) * a + share * b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;

    #[test]
    fn lines_between_neighbours() {
        let mut values = [NAN, 2.0, NAN, NAN, 5.0, NAN];
        assert_eq!(gaps(&values), [0..1, 2..4, 5..6]);
        bridge(&mut values);
        assert_eq!(values, [2.0, 2.0, 3.0, 4.0, 5.0, 5.0]);
        let mut none = [NAN; 3];
        bridge(&mut none);
        assert!(none.iter().all(|v| v.is_nan()));
    }

    #[test]
    fn flat_lines_are_missing() {
        let mut values = [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, NAN, NAN, NAN, NAN];
        assert_eq!(mark_flat(&mut values, 2), 3);
        assert_eq!(gaps(&values), [2..5, 6..10]);
        assert_eq!(mark_flat(&mut [], 0), 0);
    }
}
