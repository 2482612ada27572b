//! What is trained on signals of such lengths: the length of a view, how often each signal is drawn, a batch.

use crate::recipe::{Given, Recipe, median};

/// Longest view: TS2Vec compares all steps with all others.
const LONGEST: usize = 512;
/// Lengths are multiples of the patch of a transformer.
const STEP: usize = 16;
/// Views of a long signal in an epoch, at most.
const DRAWS: usize = 64;
/// Views of all signals in an epoch, at least, where they are longer than a view.
const VIEWS: usize = 64;
/// Windows of a long signal that are measured, at most.
const WINDOWS: usize = 8;

/// What is known of a signal that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) channels: usize,
    pub(super) length: usize,
}

/// What the recipe depends on beside the shapes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    /// Signals to train on.
    pub(super) signals: usize,
    /// The method hides patches and needs whole ones.
    pub(super) patches: bool,
    /// The method compares the steps of a view with one another.
    pub(super) steps: bool,
    /// Samples of a view, where `augment.length` is given.
    pub(super) length: usize,
}

/// The recipe for signals, some of which have these `shapes`.
pub(super) fn recipe(shapes: &[Shape], wants: Wants, given: &Given) -> Recipe {
    let Wants { signals, patches, steps, .. } = wants;
    // The batches of the paper: 8 to 16.
    let mut recipe = if steps { Recipe::of(16) } else { Recipe::of(64) };
    let channels = median(shapes.iter().map(|s| s.channels).collect());
    if channels > 0 && !given.any("encoder.channels") && !given.any("signal.channels") {
        recipe = recipe.with("encoder.channels", channels as i64);
    }
    let length = shapes.iter().map(|s| s.length).max().unwrap_or(0);
    if length == 0 {
        return recipe;
    }
    let whole = if patches { length.div_ceil(STEP) * STEP } else { length };
    let is_given = given.any("augment.length");
    let view = if is_given { wants.length } else { whole.min(LONGEST) };
    if !is_given {
        recipe = recipe.with("augment.length", view as i64);
    }
    if !is_given && !given.any("augment.local_length") {
        let third = if patches { (view / 3 / STEP * STEP).max(STEP) } else { (view / 3).max(1) };
        recipe = recipe.with("augment.local_length", third.min(view) as i64);
    }
    let times = median(shapes.iter().map(|s| s.length).collect()).div_ceil(view.max(1));
    let draws = times.max(VIEWS / signals.max(1)).min(DRAWS);
    for (key, count) in [("signal.draws", draws), ("signal.windows", times.min(WINDOWS))] {
        if times > 1 && !given.any(key) {
            recipe = recipe.with(key, count as i64);
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
        let wants = Wants { signals: 100, patches, steps: false, length: 250 };
        recipe(&shapes, wants, &given).keys.to_string().replace('\n', " ")
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
        // One recording: as many views as a batch needs.
        let shapes = [Shape { channels: 1, length: 1200 }];
        let wants = Wants { signals: 1, patches: false, steps: true, length: 0 };
        let made = recipe(&shapes, wants, &Given::default()).keys.to_string();
        assert!(made.contains("draws = 64") && made.contains("windows = 3"), "{made}");
        let made = keys(&[(1, 5000)], false, &["augment.length", "encoder.channels"]);
        assert!(
            !made.contains("length") && !made.contains("channels") && made.contains("draws = 20"),
            "{made}"
        );
        assert!(keys(&[], false, &[]).is_empty());
    }
}
