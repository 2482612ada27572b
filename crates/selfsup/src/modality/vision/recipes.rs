//! What is trained on images of a size: views no larger than the images, and the network that a view is worth.

use crate::recipe::{Given, Recipe, median};

/// Views of the usual recipe are no larger than ImageNet's.
const LARGEST: usize = 224;
/// Sides of views between the cheapest and the usual.
const SIDES: [usize; 3] = [96, 128, 160];
/// The batch of SimCLR's small runs, of MoCo, and of many others.
const BATCH: usize = 256;

/// Small crops beside the views of methods that take them: fewer than DINO's eight, since small images hold less.
const CROPS: i64 = 4;

/// What images are like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Looks {
    /// The shorter sides of some, in pixels.
    pub sides: Vec<usize>,
    /// Whether all of them are grey.
    pub gray: bool,
    /// Whether the method takes small crops beside the views.
    pub crops: bool,
    /// Whether the network cuts views into patches, and the side of these where it is given.
    pub patches: Option<Option<usize>>,
}

/// Recipes for such images; `tokens` says whether the method hides patches.
pub(super) fn recipes(looks: &Looks, tokens: bool, given: &Given) -> Vec<Recipe> {
    if given.any("encoder.pretrained") {
        // The weights state the network and its views.
        return vec![Recipe::of(BATCH)];
    }
    // Images are cut smaller, not made larger; of a size that patches divide.
    let step = |side: usize| match looks.patches {
        None => 2,
        Some(Some(patch)) => patch.max(1),
        // The usual patches: 16 pixels, an eighth of what is smaller than 128.
        Some(None) if side < 128 => 8,
        Some(None) => 16,
    };
    let cut = |side: usize, step: usize| side.max(step) / step * step;
    let of = |side: usize| cut(side, step(side));
    let side = match median(looks.sides.clone()) {
        0 => of(LARGEST),
        side => of(side.min(LARGEST)),
    };
    let open = !given.any("encoder");
    let mut sizes: Vec<usize> = SIDES.into_iter().map(of).filter(|&s| s < side).collect();
    sizes.push(side);
    sizes.dedup();
    if given.any("augment.size") {
        sizes.truncate(1);
    }
    let sized = |size: usize| {
        let recipe = Recipe::of(BATCH);
        let recipe =
            if given.any("augment.size") { recipe } else { recipe.with("augment.size", size as i64) };
        // Small crops of 3/7 of a view, as 96 of 224 pixels.
        let free =
            !["augment.size", "augment.local_views", "augment.local_size"].iter().any(|k| given.any(k));
        let small = cut(size * 3 / 7, step(size));
        let recipe = if looks.crops && free && small < size {
            recipe.with("augment.local_views", CROPS).with("augment.local_size", small as i64)
        } else {
            recipe
        };
        if looks.gray && open { recipe.with("encoder.channels", 1) } else { recipe }
    };
    if !open {
        return sizes.into_iter().map(sized).collect();
    }
    if tokens {
        let named = |size: usize, name: &str| sized(size).with("encoder.name", name);
        let mut all: Vec<Recipe> = sizes.iter().map(|&size| named(size, "vit_tiny")).collect();
        all.extend(sizes.last().filter(|&&size| size >= LARGEST).map(|&size| named(size, "vit_small")));
        return all;
    }
    // A residual network of half the depth and width, an eighth of the work.
    let small = sized(sizes[0])
        .with("encoder.name", "resnet")
        .with("encoder.depths", vec![1; 4])
        .with("encoder.widths", vec![32, 64, 128, 256]);
    let mut all = vec![small];
    all.extend(sizes.into_iter().map(|size| sized(size).with("encoder.name", "resnet18")));
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(looks: &[usize], tokens: bool, given: &[&str]) -> Vec<String> {
        let looks = Looks { sides: looks.to_vec(), patches: tokens.then_some(None), ..Looks::default() };
        let given = Given::new(given.iter().map(|g| (*g).to_string()).collect());
        let of = |r: Recipe| {
            let name = r
                .keys
                .get("encoder")
                .and_then(|e| e.get("name"))
                .and_then(|n| n.as_str().map(str::to_string));
            let size = r.keys.get("augment").and_then(|a| a.get("size")).and_then(toml::Value::as_integer);
            format!("{} {}", name.unwrap_or_default(), size.unwrap_or(0))
        };
        recipes(&looks, tokens, &given).into_iter().map(of).collect()
    }

    #[test]
    fn views_are_no_larger_than_the_images() {
        assert_eq!(shown(&[28], false, &[]), ["resnet 28", "resnet18 28"]);
        assert_eq!(shown(&[64, 64, 90], false, &[]), ["resnet 64", "resnet18 64"]);
        assert_eq!(
            shown(&[3000], false, &[]),
            ["resnet 96", "resnet18 96", "resnet18 128", "resnet18 160", "resnet18 224"]
        );
        assert_eq!(shown(&[28], true, &[]), ["vit_tiny 24"]);
        assert_eq!(shown(&[500], true, &[]).last().unwrap(), "vit_small 224");
    }

    #[test]
    fn what_is_given_stays() {
        assert_eq!(shown(&[100], false, &["encoder.name"]), [" 96", " 100"]);
        assert_eq!(shown(&[200], true, &["encoder.name"]), [" 96", " 128", " 160", " 192"]);
        assert_eq!(shown(&[300], false, &["augment.size"]), ["resnet 0", "resnet18 0"]);
        assert_eq!(shown(&[300], false, &["augment.size", "encoder.name"]), [" 0"]);
        assert_eq!(shown(&[300], false, &["encoder.pretrained"]), [" 0"]);
        let patches = Looks { sides: vec![300], patches: Some(Some(14)), ..Looks::default() };
        let all = recipes(&patches, true, &Given::new(vec!["encoder.patch".into()]));
        let sizes: Vec<_> = all.iter().map(|r| r.keys["augment"]["size"].as_integer().unwrap()).collect();
        assert_eq!(sizes, [84, 126, 154, 224]);
        let gray = Looks { sides: vec![28], gray: true, ..Looks::default() };
        let all = recipes(&gray, false, &Given::default());
        assert_eq!(all[0].keys["encoder"]["channels"].as_integer(), Some(1));
    }
    #[test]
    fn small_crops_come_with_the_methods_that_take_them() {
        let crops = |crops: bool, given: &[&str]| {
            let given = Given::new(given.iter().map(|g| (*g).to_string()).collect());
            let looks = Looks { sides: vec![224], crops, ..Looks::default() };
            let all = recipes(&looks, false, &given);
            let augment = all.last().unwrap().keys.get("augment").cloned();
            let of = |key: &str| augment.as_ref().and_then(|a| a.get(key)).and_then(toml::Value::as_integer);
            (of("local_views"), of("local_size"))
        };
        assert_eq!(crops(true, &[]), (Some(4), Some(96)));
        assert_eq!(crops(false, &[]), (None, None));
        assert_eq!(crops(true, &["augment.local_views"]), (None, None));
    }
}
