//! Non-maximum suppression.

/// A box that was found in a view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its class, counted from 0.
    pub class: usize,
    /// From 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the view.
    pub bbox: [f32; 4],
}

/// Intersection over union of two boxes (left, top, right, bottom).
pub(super) fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |k: usize| (a[k + 2].min(b[k + 2]) - a[k].max(b[k])).max(0.0);
    let area = |v: &[f32; 4]| (v[2] - v[0]) * (v[3] - v[1]);
    let both = side(0) * side(1);
    let whole = area(a) + area(b) - both;
    if whole > 0.0 { both / whole } else { 0.0 }
}

/// The surest boxes first, `most` at most: each drops those of its class behind it that overlap it by more
/// than `overlap_above`.
pub fn suppress(mut found: Vec<Found>, overlap_above: f32, most: usize) -> Vec<Found> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Found> = Vec::new();
    for one in found {
        if kept.len() == most {
            break;
        }
        let same = |k: &Found| k.class == one.class && overlap(&k.bbox, &one.bbox) > overlap_above;
        if !kept.iter().any(same) {
            kept.push(one);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_of_a_class_go() {
        let found = |class, score, left: f32| Found { class, score, bbox: [left, 0.0, left + 10.0, 10.0] };
        // Moved by 2 of 10: 80 of 120 pixels are shared, by 5: 50 of 150.
        assert!((overlap(&[0.0, 0.0, 10.0, 10.0], &[2.0, 0.0, 12.0, 10.0]) - 80.0 / 120.0).abs() < 1e-6);
        let all = vec![found(0, 0.5, 2.0), found(0, 0.9, 0.0), found(1, 0.4, 2.0), found(0, 0.8, 5.0)];
        let kept = suppress(all.clone(), 0.6, 10);
        assert_eq!(kept, [all[1], all[3], all[2]]);
        assert_eq!(suppress(all.clone(), 0.7, 10).len(), 4);
        assert_eq!(suppress(all.clone(), 0.6, 1), [all[1]]);
        // Of a suppressed box nothing is suppressed: 0 drops 2, and 2 would have dropped 5.
        assert_eq!(suppress(vec![all[0], all[1], all[3]], 0.4, 10), [all[1], all[3]]);
    }
}
