//! Emoji in Google's drawing: small colour images with categories.
//!
//! - what: 3,786 RGBA PNG files, 64 x 64 pixels, 10 categories (unbalanced: most are people in five skin
//!   tones); grouped by emoji
//! - source: npm package `emoji-datasource-google` 16.0.0 (74 MB), or its `img/google/64` and `emoji.json` in
//!   the folder `emoji` of the cache
//! - licence: the package MIT (Cal Henderson), the pictures Apache-2.0 (Google, Noto Emoji)
//! - use: colour images to pre-train on; a probe over categories. Hold out whole groups: skin tones of one
//!   emoji are nearly one picture.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, missing};
use selfsup_core::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

const PACKAGE: Package = Package {
    client: Client::Npm,
    name: "emoji-datasource-google",
    version: "16.0.0",
    sha256: "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    holds: Holds { files: 3787, bytes: 14_981_661 },
    keep: &["package/img/google/64", "package/emoji.json"],
};

/// The card of this data set.
pub const CARD: Card = Card {
    name: "emoji",
    kind: Kind::Vision,
    about: "3,786 colour drawings, 64 x 64, 10 unbalanced categories, grouped by emoji",
    licence: "MIT, pictures Apache-2.0",
    size: "74 MB",
    source: "npm pack emoji-datasource-google",
    open: || Ok(Box::new(Emoji::open(&fetch("emoji", &PACKAGE)?)?)),
};

/// The drawings of a folder with `64/` and `emoji.json`.
pub struct Emoji {
    root: PathBuf,
    /// File, category, and the emoji that it is a variant of; in the order of the files.
    images: Vec<(String, u32, String)>,
    classes: Vec<String>,
}

impl Emoji {
    /// Reads the list of `folder`.
    ///
    /// # Errors
    /// If `emoji.json` cannot be read or is not the list that it should be.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("emoji.json");
        let bytes = Source::File(path.clone()).content()?;
        let list: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::file(&path, format_args!("is not JSON: {e}")))?;
        let list = list.as_array().ok_or_else(|| Error::file(&path, "is no list, expected one of emoji"))?;
        let mut found: Vec<(String, String, String)> = Vec::new();
        for (i, emoji) in list.iter().enumerate() {
            let text = |of: &Value, key: &str| -> Result<String> {
                let value = of.get(key).and_then(Value::as_str);
                value
                    .map(String::from)
                    .ok_or_else(|| Error::file(&path, format_args!("entry {i} has no text `{key}`")))
            };
            let variants = emoji.get("skin_variations").and_then(Value::as_object);
            for one in std::iter::once(emoji).chain(variants.into_iter().flat_map(|v| v.values())) {
                if one.get("has_img_google").and_then(Value::as_bool) != Some(true) {
                    continue;
                }
                let image = text(one, "image")?;
                if image.contains(['/', '\\']) || !image.ends_with(".png") {
                    return Err(Error::file(
                        &path,
                        format_args!("entry {i} has the image `{image}`, expected the name of a .png"),
                    ));
                }
                found.push((image, text(emoji, "category")?, text(emoji, "unified")?));
            }
        }
        if found.is_empty() {
            return Err(Error::file(&path, "lists no image, expected entries with `has_img_google`"));
        }
        found.sort();
        let mut classes: Vec<String> = found.iter().map(|f| f.1.clone()).collect();
        classes.sort();
        classes.dedup();
        let label = |name: &String| classes.binary_search(name).map_or(0, |i| i as u32);
        let images = found
            .iter()
            .map(|(image, category, emoji)| (image.clone(), label(category), emoji.clone()))
            .collect();
        Ok(Emoji { root: folder.to_path_buf(), images, classes })
    }
}

impl Records for Emoji {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (image, label, group) =
            self.images.get(index).ok_or_else(|| missing("emoji", index, self.len()))?;
        let path = self.root.join("64").join(image);
        Ok(Record {
            id: path.display().to_string(),
            source: Source::File(path),
            label: Some(*label),
            group: Some(group.clone()),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.images.get(index)?.1)
    }

    fn group(&self, index: usize) -> Option<String> {
        Some(self.images.get(index)?.2.clone())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(json: &str) -> Result<Emoji> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("emoji.json"), json).unwrap();
        Emoji::open(dir.path())
    }

    #[test]
    fn variants_share_a_group() {
        let set = open(
            r#"[{"unified": "B", "image": "b.png", "category": "People", "has_img_google": true,
                 "skin_variations": {"1": {"image": "b-1.png", "has_img_google": true}, "2": {"image": "b-2.png", "has_img_google": false}}},
                {"unified": "A", "image": "a.png", "category": "Food", "has_img_google": true}]"#,
        )
        .unwrap();
        assert_eq!(set.classes(), ["Food", "People"]);
        let all: Vec<_> = (0..set.len()).map(|i| (set.label(i), set.group(i).unwrap())).collect();
        assert_eq!(all, [(Some(0), "A".into()), (Some(1), "B".into()), (Some(1), "B".into())]);
        assert!(set.get(0).unwrap().id.ends_with("64/a.png") || cfg!(windows));
    }

    #[test]
    fn bad_lists_are_named() {
        for (json, part) in [
            ("{", "not JSON"),
            ("{}", "no list"),
            ("[]", "lists no image"),
            (r#"[{"has_img_google": true}]"#, "entry 0 has no text `image`"),
            (r#"[{"has_img_google": true, "image": "../x.png"}]"#, "../x.png"),
            (r#"[{"has_img_google": true, "image": "x.png"}]"#, "`category`"),
        ] {
            let e = open(json).err().unwrap().to_string();
            assert!(e.contains("emoji.json") && e.contains(part), "{e}");
        }
    }

    /// Fetches 74 MB: run with `--ignored` where there is npm and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn fetched() {
        let set = (CARD.open)().unwrap();
        assert_eq!((set.len(), set.classes().len()), (3786, 10));
        for i in 0..set.len() {
            assert!(set.get(i).unwrap().source.content().unwrap().starts_with(b"\x89PNG"));
        }
    }
}
