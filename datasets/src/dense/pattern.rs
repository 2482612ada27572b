//! Which file belongs to which image, as a pair of patterns: `images/**/*.jpg -> masks/**/*.png`.
//!
//! `*` stands for any signs of a name, `**/` for any folders, none too. On the right each takes what the same
//! one on the left stood for.

use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// More wildcards than this are refused: trying their lengths takes time.
const MOST: usize = 6;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Signs(String),
    /// `*`.
    Name,
    /// `**/`.
    Folders,
}

/// A pair of patterns.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    from: Vec<Part>,
    to: Vec<Part>,
}

fn parts(text: &str) -> Vec<Part> {
    let (mut out, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, length) = if rest.starts_with("**/") {
            (Part::Folders, 3)
        } else if rest.starts_with('*') {
            (Part::Name, 1)
        } else {
            let end = rest.find('*').unwrap_or(rest.len());
            (Part::Signs(rest[..end].to_string()), end)
        };
        out.push(part);
        rest = &rest[length..];
    }
    out
}

/// What the wildcards stand for, where `parts` are the whole of `text`.
fn matched<'a>(parts: &[Part], text: &'a str) -> Option<Vec<&'a str>> {
    let Some((first, rest)) = parts.split_first() else { return text.is_empty().then(Vec::new) };
    if let Part::Signs(signs) = first {
        return matched(rest, text.strip_prefix(signs.as_str())?);
    }
    let ends = text.char_indices().map(|(i, _)| i).chain([text.len()]);
    for end in ends {
        let taken = &text[..end];
        let fits = match first {
            Part::Folders => taken.is_empty() || taken.ends_with('/'),
            _ => !taken.contains('/'),
        };
        if fits && let Some(mut found) = matched(rest, &text[end..]) {
            found.insert(0, taken);
            return Some(found);
        }
    }
    None
}

impl Pattern {
    /// Reads `LEFT -> RIGHT`.
    ///
    /// # Errors
    /// If there is no arrow, or the two sides have different wildcards.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = |problem: String| Error::config(format!("data.targets = \"{text}\": {problem}"));
        let (from, to) = text
            .split_once("->")
            .ok_or_else(|| wrong("expected two patterns, `images/*.jpg -> masks/*.png`".into()))?;
        let (from, to) = (parts(from.trim()), parts(to.trim()));
        let wild = |parts: &[Part]| -> Vec<Part> {
            parts.iter().filter(|p| !matches!(p, Part::Signs(_))).cloned().collect()
        };
        let (left, right) = (wild(&from), wild(&to));
        if left != right || left.is_empty() || left.len() > MOST {
            return Err(wrong(format!(
                "expected the same wildcards on both sides, 1 to {MOST} of them: * for a name, **/ for \
                 folders"
            )));
        }
        Ok(Pattern { from, to })
    }

    /// The file of the target of `image`, which lies below `root`.
    pub fn target_of(&self, root: &Path, image: &Path) -> Option<PathBuf> {
        let below = image.strip_prefix(root).ok()?.to_string_lossy().replace('\\', "/");
        Some(root.join(self.target(&below)?))
    }

    /// The file of the target of the image at `path` (with `/` between folders), where the left side is like
    /// it.
    pub fn target(&self, path: &str) -> Option<String> {
        let mut found = matched(&self.from, path)?.into_iter();
        self.to
            .iter()
            .map(|part| match part {
                Part::Signs(signs) => Some(signs.as_str()),
                _ => found.next(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, path, target) in [
            ("images/*.jpg -> masks/*.png", "images/a.b.jpg", Some("masks/a.b.png")),
            ("images/*.jpg -> masks/*.png", "images/x/a.jpg", None),
            ("**/*_img.png->**/*_gt.png", "a/b/1_img.png", Some("a/b/1_gt.png")),
            ("**/*_img.png->**/*_gt.png", "1_img.png", Some("1_gt.png")),
            (
                "leftImg8bit/**/*_leftImg8bit.png -> gtFine/**/*_labelIds.png",
                "leftImg8bit/val/ulm/u_1_leftImg8bit.png",
                Some("gtFine/val/ulm/u_1_labelIds.png"),
            ),
            ("*/img/*.png -> */seg/*.png", "7/img/é.png", Some("7/seg/é.png")),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().target(path).as_deref(), target, "{pattern} {path}");
        }
    }

    #[test]
    fn unequal_sides() {
        for text in
            ["images/*.jpg", "*.jpg -> a.png", "*/*.jpg -> *.png", "a.jpg -> a.png", "**/*.a -> */*.b"]
        {
            let e = Pattern::new(text).unwrap_err().to_string();
            assert!(e.contains("data.targets") && e.contains("expected"), "{e}");
        }
    }
}
