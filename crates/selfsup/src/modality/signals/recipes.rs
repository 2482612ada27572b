//! What is trained on signals of such lengths: the length of a view, how often each signal is drawn, a batch.

use crate::recipe::{Given, Recipe, median};

/// Longest view: TS2Vec compares all steps with all others.
const LONGEST: usize = 512;
/// Lengths are multiples of the patch of a transformer.
const STEP: usize = 16;
/// Views of a long signal in an epoch, at most.
const DRAWS: usize = 64;
/// Windows of a long signal that are measured, at most.
const WINDOWS: usize = 8;

/// What is known of a signal that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) channels: usize,
    pub(super) length: usize,
}

/// The recipe for signals, some of which have these `shapes`; a method that hides `patches` needs whole ones.
pub(super) fn recipe(shapes: &[Shape], patches: bool, ts2vec: bool, given: &Given) -> Recipe {
    // The batches of the paper: 8 to 16.
    let mut recipe = if ts2vec { Recipe::of(16) } else { Recipe::of(64) };
    let channels = median(shapes.iter().map(|s| s.channels).collect());
    if channels > 0 && !given.any("encoder.channels") && !given.any("signal.channels") {
        recipe = recipe.with("encoder.channels", channels as i64);
    }
    let length = shapes.iter().map(|s| s.length).max().unwrap_or(0);
    if length == 0 || given.any("augment.length") {
        return recipe;
    }
    let whole = if patches { length.div_ceil(STEP) * STEP } else { length };
    let view = whole.min(LONGEST);
    recipe = recipe.with("augment.length", view as i64);
    if !given.any("augment.local_length") {
        let third = if patches { (view / 3 / STEP * STEP).max(STEP) } else { (view / 3).max(1) };
        recipe = recipe.with("augment.local_length", third.min(view) as i64);
    }
    let times = median(shapes.iter().map(|s| s.length).collect()).div_ceil(view.max(1));
    for (key, most) in [("signal.draws", DRAWS), ("signal.windows", WINDOWS)] {
        if times > 1 && !given.any(key) {
            recipe = recipe.with(key, times.min(most) as i64);
        }
    }
    recipe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(shapes: &[(usize, usize)], patches: bool, given: &[&str]) -> String {
        let shapes: Vec<Shape> =
            shapes.iter().map(|&(channels, length)| Shape { channels, length }).collect();
        let given = Given::new(given.iter().map(|g| (*g).to_string()).collect());
        recipe(&shapes, patches, false, &given).keys.to_string().replace('\n', " ")
    }

    #[test]
    fn views_of_short_signals_are_whole() {
        let made = keys(&[(2, 100), (2, 90)], false, &[]);
        assert!(made.contains("length = 100") && made.contains("channels = 2"), "{made}");
        assert!(!made.contains("draws"), "{made}");
        let made = keys(&[(1, 100)], true, &[]);
        assert!(made.contains("length = 112") && made.contains("local_length = 32"), "{made}");
    }

    #[test]
    fn long_signals_are_drawn_often() {
        let made = keys(&[(1, 5000)], false, &[]);
        assert!(
            made.contains("length = 512") && made.contains("draws = 10") && made.contains("windows = 8"),
            "{made}"
        );
        let made = keys(&[(1, 5000)], false, &["augment.length", "encoder.channels"]);
        assert!(!made.contains("length") && !made.contains("channels"), "{made}");
        assert!(keys(&[], false, &[]).is_empty());
    }
}
