//! What is trained on volumes of such shapes: patches no larger than the volumes, how many of each, a network.

use crate::recipe::{Given, Recipe, median};

/// Sides of patches, the usual one last.
const SIDES: [usize; 3] = [24, 32, 48];
/// Sides that the stages of a network divide.
const STEP: usize = 8;
/// Patches of an epoch, at least.
const EPOCH: usize = 64;

/// What a method does with patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It restores them: Models Genesis trains on batches of 6.
    Restores,
    /// It compares views of them.
    Compares,
    /// It hides boxes of them, in a vision transformer.
    Hides,
}

/// Recipes for `count` volumes, some of which have these `shapes` (z, y, x).
pub(super) fn recipes(count: usize, shapes: &[[usize; 3]], method: Use, given: &Given) -> Vec<Recipe> {
    let (batch, rate) = match method {
        Use::Restores => (8, 1e-3),
        Use::Compares => (64, 1e-3),
        Use::Hides => (64, 5e-4),
    };
    let base = Recipe::of(batch).at_rate(rate);
    // Enough patches for an epoch of some batches, also of one volume.
    let patches = EPOCH.div_ceil(count.max(1)).max(16);
    let base = if given.any("volumes.patches") { base } else { base.with("volumes.patches", patches as i64) };
    if ["augment.size", "encoder.patch", "encoder.pretrained"].iter().any(|key| given.any(key)) {
        return vec![base];
    }
    let along = |axis: usize, side: usize| match median(shapes.iter().map(|s| s[axis]).collect()) {
        // Slices: a patch in the plane, but for boxes of a transformer.
        1 if method != Use::Hides => 1,
        0 => side,
        // A volume that is thinner lies in the middle of a patch.
        n => side.min((n / STEP * STEP).max(STEP)),
    };
    let mut all: Vec<Recipe> = Vec::new();
    for side in SIDES {
        let size = [0, 1, 2].map(|axis| along(axis, side));
        let mut recipe = base.clone().with("augment.size", size.map(|s| s as i64).to_vec());
        if size[0] == 1 && !given.any("encoder") {
            recipe = recipe.with("encoder.name", "unet2d");
        }
        // Half the width is a quarter of the work.
        if all.is_empty() && method == Use::Restores && !given.any("encoder") {
            let named = if size[0] == 1 { "unet2d" } else { "unet3d" };
            all.push(recipe.clone().with("encoder.name", named).with("encoder.widths", vec![8, 16, 32, 64]));
        }
        if all.last() != Some(&recipe) {
            all.push(recipe);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(shape: [usize; 3], method: Use, given: &[&str]) -> Vec<Vec<i64>> {
        let given = Given::new(given.iter().map(|g| (*g).to_string()).collect());
        let of = |r: Recipe| -> Vec<i64> {
            let size =
                r.keys.get("augment").and_then(|a| a.get("size")?.as_array().cloned()).unwrap_or_default();
            size.iter().filter_map(toml::Value::as_integer).collect()
        };
        recipes(1, &[shape], method, &given).into_iter().map(of).collect()
    }

    #[test]
    fn patches_are_no_larger_than_the_volumes() {
        assert_eq!(
            sizes([91, 109, 91], Use::Restores, &[]),
            [vec![24; 3], vec![24; 3], vec![32; 3], vec![48; 3]]
        );
        assert_eq!(
            sizes([20, 512, 512], Use::Compares, &[]),
            [vec![16, 24, 24], vec![16, 32, 32], vec![16, 48, 48]]
        );
        assert_eq!(sizes([5, 30, 30], Use::Hides, &[]), [vec![8, 24, 24]]);
        assert_eq!(sizes([1, 30, 30], Use::Compares, &["encoder.name"]), [vec![1, 24, 24]]);
        assert_eq!(sizes([91; 3], Use::Restores, &["augment.size"]), [Vec::<i64>::new()]);
    }

    #[test]
    fn few_volumes_give_more_patches_each() {
        let patches = |count: usize| {
            let all = recipes(count, &[[64; 3]], Use::Restores, &Given::default());
            all[0].keys["volumes"]["patches"].as_integer()
        };
        assert_eq!([1, 3, 100].map(patches), [Some(64), Some(22), Some(16)]);
    }
}
