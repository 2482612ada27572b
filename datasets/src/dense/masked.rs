//! Images with the PNG files of their masks, as records.

use super::pattern::Pattern;
use crate::kind::Kind;
use crate::layout::masks_of;
use crate::record::{Record, Records, Source, Subset};
use crate::registry::{Reading, open_kind_with};
use crate::split::Split;
use selfsup_core::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Records with the file of the mask of each, where there is one.
struct Masked {
    records: Arc<dyn Records>,
    masks: Vec<Option<PathBuf>>,
    notes: Vec<String>,
}

impl Records for Masked {
    fn len(&self) -> usize {
        self.records.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        Ok(Record { label: None, ..self.records.get(index)? })
    }
    fn id(&self, index: usize) -> Result<String> {
        self.records.id(index)
    }
    fn group(&self, index: usize) -> Option<String> {
        self.records.group(index)
    }
    fn mask(&self, index: usize) -> Option<PathBuf> {
        self.masks.get(index)?.clone()
    }
    fn split(&self, index: usize) -> Option<Split> {
        self.records.split(index)
    }
    fn notes(&self) -> Vec<String> {
        self.records.notes().into_iter().chain(self.notes.iter().cloned()).collect()
    }
}

/// Opens images with their masks: PNG files that `reading.targets` names (a [`Pattern`] from images to
/// masks), or files in a folder called like `masks` beside that of the images, or beside each image
/// (`a_mask.png`). Masks may be absent: [`Records::mask`] then says nothing.
///
/// # Errors
/// If the images cannot be opened, or the pattern is none.
pub fn open_masks(what: &str, reading: &Reading) -> Result<Box<dyn Records>> {
    let path = Path::new(what);
    let records: Arc<dyn Records> = open_kind_with(what, Kind::Vision, reading)?.into();
    let pattern = if reading.targets.is_empty() { None } else { Some(Pattern::new(&reading.targets)?) };
    let mut images = Vec::with_capacity(records.len());
    for i in 0..records.len() {
        images.push(match records.get(i)?.source {
            Source::File(file) => Some(file),
            _ => None,
        });
    }
    // Where the pattern has no place for a file, it is no image.
    let named = |image: &Option<PathBuf>| match (&pattern, image) {
        (Some(pattern), Some(image)) => pattern.target_of(path, image),
        _ => None,
    };
    let masks: Vec<Option<PathBuf>> = match pattern {
        Some(_) => images.iter().map(|i| named(i).filter(|p| p.is_file())).collect(),
        None => masks_of(path, &images),
    };
    let masking: BTreeSet<&PathBuf> = masks.iter().flatten().collect();
    let is_image = |i: &usize| {
        let image = images[*i].as_ref();
        image.is_none_or(|f| !masking.contains(f)) && (pattern.is_none() || named(&images[*i]).is_some())
    };
    let kept: Vec<usize> = (0..images.len()).filter(is_image).collect();
    if kept.is_empty() {
        return Err(Error::file(path, "no image is left: does data.targets fit the names of the files?"));
    }
    let masks: Vec<Option<PathBuf>> = kept.iter().map(|i| masks[*i].clone()).collect();
    let records: Arc<dyn Records> = Arc::new(Subset::new(records, kept)?);
    let (found, mut notes) = (masks.iter().flatten().count(), Vec::new());
    if found > 0 && found < masks.len() {
        let first = masks.iter().position(Option::is_none).unwrap_or(0);
        notes.push(format!(
            "{} of {} images have no mask; one: {}",
            masks.len() - found,
            masks.len(),
            records.id(first)?
        ));
    }
    Ok(Box::new(Masked { records, masks, notes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(files: &[&str], targets: &str) -> Vec<Option<String>> {
        let dir = tempfile::tempdir().unwrap();
        for f in files {
            let path = dir.path().join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let reading = Reading { targets: targets.into(), ..Reading::default() };
        let set = open_masks(dir.path().to_str().unwrap(), &reading).unwrap();
        let name = |p: PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
        (0..set.len()).map(|i| set.mask(i).map(name)).collect()
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|n| Some((*n).to_string())).collect()
    }

    #[test]
    fn masks_lie_where_they_usually_do() {
        for (files, masks) in [
            (
                &["images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png"][..],
                &["masks/a.png", "masks/b.png"][..],
            ),
            (
                &[
                    "JPEGImages/a.jpg",
                    "JPEGImages/b.jpg",
                    "SegmentationClass/a.png",
                    "SegmentationClass/b.png",
                ],
                &["SegmentationClass/a.png", "SegmentationClass/b.png"],
            ),
            (
                &["train/images/x/a.png", "val/images/y/b.png", "train/masks/x/a.png", "val/masks/y/b.png"],
                &["train/masks/x/a.png", "val/masks/y/b.png"],
            ),
            (
                &["images/train/a.jpg", "images/val/b.jpg", "labels/train/a.png", "labels/val/b.png"],
                &["labels/train/a.png", "labels/val/b.png"],
            ),
            (
                &["train/a.jpg", "train_masks/a_mask.png", "val/b.jpg", "val_masks/b_mask.png"],
                &["train_masks/a_mask.png", "val_masks/b_mask.png"],
            ),
            (&["a.jpg", "a_mask.png", "b.jpg", "b_mask.png"], &["a_mask.png", "b_mask.png"]),
        ] {
            assert_eq!(open(files, ""), some(masks), "{files:?}");
        }
    }

    #[test]
    fn patterns_and_images_without_masks() {
        let files = ["photo/1/a.jpg", "photo/2/b.jpg", "truth/1-a.png"];
        assert_eq!(open(&files, "photo/*/*.jpg -> truth/*-*.png"), [Some("truth/1-a.png".to_string()), None]);
    }
}
