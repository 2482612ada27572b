//! Which place of which level learns which box, as in FCOS (Tian et al. 2019, arXiv 1904.01355, section 3.1
//! to 3.3): a place inside a box learns it at the level whose range holds the largest distance to its sides;
//! inside several, the smallest box.

use std::ops::Range;

/// Largest distances that a level learns, as multiples of its stride: 64 to 128 pixels at a stride of 16. The
/// finest level has no lower bound and the coarsest no upper one.
const RANGE: [f32; 2] = [4.0, 8.0];

/// A grid of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Pixels between neighbours.
    pub stride: usize,
}

impl Level {
    /// The middle of the pixels that place `i` stands for: across, down.
    pub fn point(&self, i: usize) -> [f32; 2] {
        let at = |k: usize| (k as f32 + 0.5) * self.stride as f32;
        [at(i % self.width), at(i / self.width)]
    }

    /// Number of places.
    pub fn places(&self) -> usize {
        self.height * self.width
    }
}

/// A box to be learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Its class, counted from 0.
    pub class: usize,
    /// Left, top, right, bottom in pixels of the view.
    pub bbox: [f32; 4],
    /// Whether places inside it learn nothing.
    pub crowd: bool,
}

/// What a place learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// That nothing is there.
    Nothing,
    /// Nothing.
    Ignored,
    /// A class, and the distances to the left, top, right and bottom side, in pixels.
    Box(usize, [f32; 4]),
}

/// The range of the largest distance that level `i` of `levels` learns.
fn range(levels: &[Level], i: usize) -> Range<f32> {
    let stride = levels[i].stride as f32;
    let low = if i == 0 { 0.0 } else { RANGE[0] * stride };
    let high = if i + 1 == levels.len() { f32::INFINITY } else { RANGE[1] * stride };
    low..high
}

/// What each place learns, level by level, finest first.
pub fn assign(levels: &[Level], truths: &[Truth]) -> Vec<Target> {
    let mut out = Vec::with_capacity(levels.iter().map(Level::places).sum());
    for (l, level) in levels.iter().enumerate() {
        let range = range(levels, l);
        for i in 0..level.places() {
            let [x, y] = level.point(i);
            let mut best: Option<(f32, Target)> = None;
            let mut crowd = false;
            for truth in truths {
                let [left, top, right, bottom] = truth.bbox;
                let sides = [x - left, y - top, right - x, bottom - y];
                if sides.iter().any(|s| *s <= 0.0) {
                    continue;
                }
                if truth.crowd {
                    crowd = true;
                    continue;
                }
                let most = sides.iter().copied().fold(0.0, f32::max);
                let area = (right - left) * (bottom - top);
                if range.contains(&most) && best.is_none_or(|(least, _)| area < least) {
                    best = Some((area, Target::Box(truth.class, sides)));
                }
            }
            out.push(match best {
                Some((_, target)) => target,
                None if crowd => Target::Ignored,
                None => Target::Nothing,
            });
        }
    }
    out
}

/// How near to the middle of its box a place is, from 0 to 1: `sqrt(min(l, r) / max(l, r) * min(t, b) /
/// max(t, b))` (equation 3).
pub(super) fn centreness([l, t, r, b]: [f32; 4]) -> f32 {
    (l.min(r) / l.max(r) * (t.min(b) / t.max(b))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [Level; 3] = [
        Level { height: 16, width: 16, stride: 8 },
        Level { height: 8, width: 8, stride: 16 },
        Level { height: 4, width: 4, stride: 32 },
    ];

    fn truth(class: usize, bbox: [f32; 4]) -> Truth {
        Truth { class, bbox, crowd: false }
    }

    fn boxes(targets: &[Target]) -> Vec<(usize, usize)> {
        let class = |t: &Target| if let Target::Box(c, _) = t { Some(*c) } else { None };
        targets.iter().enumerate().filter_map(|(i, t)| Some((i, class(t)?))).collect()
    }

    /// A box from 8 to 24 holds the points 12 and 20 of the finest level, and is too small for the others.
    #[test]
    fn small_boxes_are_learnt_finely() {
        let targets = assign(&LEVELS, &[truth(2, [8.0, 8.0, 24.0, 24.0])]);
        assert_eq!(targets.len(), 256 + 64 + 16);
        assert_eq!(boxes(&targets), [(17, 2), (18, 2), (33, 2), (34, 2)]);
        assert_eq!(targets[17], Target::Box(2, [4.0, 4.0, 12.0, 12.0]));
        assert!((centreness([4.0, 4.0, 12.0, 12.0]) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(centreness([5.0, 2.0, 5.0, 2.0]), 1.0);
    }

    /// The largest distance in a box of 128 x 128 is 64 at its middle and more elsewhere: never below 64, so
    /// the finest level learns none of it; the middle four points of the second level have 72, and its
    /// corners 120.
    #[test]
    fn large_boxes_are_learnt_coarsely() {
        let targets = assign(&LEVELS, &[truth(0, [0.0, 0.0, 128.0, 128.0])]);
        let found = boxes(&targets);
        assert!(found.iter().all(|(i, _)| *i >= 256));
        assert_eq!(found.iter().filter(|(i, _)| *i < 320).count(), 64);
        // 128 pixels are never reached: no distance of the coarsest level is.
        assert_eq!(found.len(), 64);
    }

    #[test]
    fn the_smaller_of_two_and_crowds() {
        let inner = truth(1, [8.0, 8.0, 24.0, 24.0]);
        let outer = truth(0, [0.0, 0.0, 40.0, 40.0]);
        for truths in [[inner, outer], [outer, inner]] {
            let targets = assign(&LEVELS, &truths);
            assert_eq!(targets[17], Target::Box(1, [4.0, 4.0, 12.0, 12.0]));
            assert_eq!(targets[0], Target::Box(0, [4.0, 4.0, 36.0, 36.0]));
            assert_eq!(boxes(&targets).len(), 25);
        }
        let crowd = Truth { crowd: true, ..truth(0, [0.0, 0.0, 32.0, 32.0]) };
        let targets = assign(&LEVELS, &[crowd, inner]);
        assert_eq!((targets[0], targets[17]), (Target::Ignored, Target::Box(1, [4.0, 4.0, 12.0, 12.0])));
        assert_eq!(targets[4], Target::Nothing);
        // Points 4, 12, 20, 28 across and down, but the inner four; 8 and 24 of the next; 16 of the last.
        assert_eq!(targets.iter().filter(|t| **t == Target::Ignored).count(), 12 + 4 + 1);
        assert!(assign(&LEVELS, &[]).iter().all(|t| *t == Target::Nothing));
    }
}
