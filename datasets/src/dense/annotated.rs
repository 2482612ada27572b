//! Images with the boxes of their objects, as records.

use super::pattern::Pattern;
use super::{coco, voc, yolo};
use crate::folder::Folder;
use crate::kind::Kind;
use crate::objects::{Category, Objects, Unit};
use crate::record::{Record, Records, Source, Subset};
use crate::registry::{Reading, open_kind_with};
use crate::split::Split;
use crate::walk::Walk;
use selfsup_core::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Records with the objects of each, or what is wrong with them.
struct Annotated {
    records: Arc<dyn Records>,
    classes: Vec<String>,
    each: Vec<Result<Objects, String>>,
    notes: Vec<String>,
}

impl Records for Annotated {
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
    fn objects(&self, index: usize) -> Result<Option<Objects>> {
        match self.each.get(index) {
            Some(Ok(objects)) => Ok(Some(objects.clone())),
            Some(Err(problem)) => Err(Error::input("annotations", problem)),
            None => Ok(None),
        }
    }
    fn split(&self, index: usize) -> Option<Split> {
        self.records.split(index)
    }
    fn notes(&self) -> Vec<String> {
        self.records.notes().into_iter().chain(self.notes.iter().cloned()).collect()
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Opens images with the boxes of their objects:
///
/// - a file of COCO's annotations, or a folder with one (`annotations/instances_train.json`);
/// - a folder of images with YOLO's texts in `labels/` beside `images/`, or beside each image;
/// - a folder of images with Pascal VOC's XML in `Annotations/` beside `JPEGImages/`, or beside each image;
/// - the files that `reading.targets` names, a [`Pattern`] from images to texts or XML.
///
/// An image without a text of YOLO's has no objects; one without a file of VOC's is left out, and counted.
///
/// # Errors
/// If nothing of the kind is there, or several files of COCO's annotations are. What is wrong with the
/// objects of one image is the error of [`Records::objects`].
pub fn open_objects(what: &str, reading: &Reading) -> Result<Box<dyn Records>> {
    let path = Path::new(what);
    if path.is_file() && coco::is_coco(path) {
        return of_coco(path);
    }
    if path.is_dir() && reading.targets.is_empty() {
        match &annotations(path)?[..] {
            [] => {}
            [one] => return of_coco(one),
            several => {
                let names: Vec<String> = several.iter().map(|p| p.display().to_string()).collect();
                let which = names.join(", ");
                return Err(Error::file(
                    path,
                    format_args!("several files of annotations; name one: {which}"),
                ));
            }
        }
    }
    let mut records: Arc<dyn Records> = open_kind_with(what, Kind::Vision, reading)?.into();
    let mut images = files(&records)?;
    let pattern = if reading.targets.is_empty() { None } else { Some(Pattern::new(&reading.targets)?) };
    if let Some(pattern) = &pattern {
        // Where the pattern has no place for a file, it is no image.
        let kept: Vec<usize> =
            (0..images.len()).filter(|i| pattern.target_of(path, &images[*i]).is_some()).collect();
        images = kept.iter().map(|i| images[*i].clone()).collect();
        records = Arc::new(Subset::new(records, kept)?);
    }
    let beside = |image: &Path, folders: &[&str], ending: &str| -> Option<PathBuf> {
        match &pattern {
            Some(pattern) => {
                let target = pattern.target_of(path, image)?;
                target.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending)).then_some(target)
            }
            None => Some(usual(image, folders, ending)),
        }
    };
    let of = |folders: &[&str], ending: &str| -> Vec<Option<PathBuf>> {
        let there = |image: &PathBuf| beside(image, folders, ending).filter(|p| p.is_file());
        images.iter().map(there).collect()
    };
    let texts = of(&["labels"], "txt");
    if texts.iter().any(Option::is_some) {
        return of_yolo(path, records, &texts);
    }
    let trees = of(&["Annotations", "annotations"], "xml");
    if trees.iter().any(Option::is_some) {
        return of_voc(records, &trees);
    }
    Err(Error::file(
        path,
        "no boxes: expected COCO's annotations (JSON), YOLO's texts in `labels` beside `images`, Pascal \
         VOC's XML in `Annotations` beside `JPEGImages`, or data.targets = \"images/*.jpg -> boxes/*.xml\"",
    ))
}

/// The file of each record.
fn files(records: &Arc<dyn Records>) -> Result<Vec<PathBuf>> {
    let file = |i: usize| match records.get(i)?.source {
        Source::File(path) => Ok(path),
        _ => {
            Err(Error::input(records.id(i)?, "is no file of its own: boxes are found by the names of files"))
        }
    };
    (0..records.len()).map(file).collect()
}

/// The target of an image in the folder beside that of the images, or beside the image itself.
fn usual(image: &Path, folders: &[&str], ending: &str) -> PathBuf {
    let named = image.with_extension(ending);
    for dir in image.ancestors().skip(1) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name == "images" || name == "jpegimages" {
            let below = named.strip_prefix(dir).unwrap_or(&named);
            let places = folders.iter().map(|f| dir.with_file_name(f).join(below));
            if let Some(found) = places.into_iter().find(|p| p.is_file()) {
                return found;
            }
        }
    }
    named
}

/// Files of COCO's annotations right in the folder or in `annotations` below it.
fn annotations(root: &Path) -> Result<Vec<PathBuf>> {
    let is = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let here = |dir: PathBuf| -> Result<Vec<PathBuf>> {
        let found = if dir.is_dir() { Walk::files(&dir, is)? } else { Vec::new() };
        Ok(found.into_iter().filter(|p| p.parent() == Some(&dir) && coco::is_coco(p)).collect())
    };
    Ok([here(root.to_path_buf())?, here(root.join("annotations"))?].concat())
}

fn of_coco(path: &Path) -> Result<Box<dyn Records>> {
    let coco::Coco { images, classes } = coco::read(path)?;
    if images.is_empty() {
        return Err(Error::file(path, "lists no images"));
    }
    let (files, each): (Vec<PathBuf>, Vec<_>) = images.into_iter().unzip();
    let root = path.parent().unwrap_or(Path::new(""));
    let records = Arc::new(Folder::of(root, files, crate::layout::Layout::Plain));
    Ok(Box::new(Annotated { records, classes, each, notes: Vec::new() }))
}

fn categories(names: Vec<String>, first: i64) -> Arc<Vec<Category>> {
    let of = |(i, name)| Category { id: i as i64 + first, name };
    Arc::new(names.into_iter().enumerate().map(of).collect())
}

fn of_yolo(root: &Path, records: Arc<dyn Records>, texts: &[Option<PathBuf>]) -> Result<Box<dyn Records>> {
    let names = match yolo::names(root)? {
        Some(names) => names,
        None => {
            let most = texts.iter().flatten().filter_map(|p| yolo::largest_class(p)).max().unwrap_or(0);
            // A line that begins with a large number must not ask for as many names.
            (0..=most.min(9_999)).map(|i| i.to_string()).collect()
        }
    };
    let categories = categories(names.clone(), 0);
    let without = texts.iter().filter(|t| t.is_none()).count();
    let each = texts.iter().map(|text| match text {
        Some(path) => yolo::read(path, &categories).map_err(|e| e.to_string()),
        None => Ok(nothing(root, &categories)),
    });
    let mut notes = Vec::new();
    if without > 0 {
        notes.push(format!("{without} of {} images have no file of boxes: they show no object", texts.len()));
    }
    Ok(Box::new(Annotated { each: each.collect(), records, classes: names, notes }))
}

fn nothing(root: &Path, categories: &Arc<Vec<Category>>) -> Objects {
    Objects {
        file: Arc::new(root.to_path_buf()),
        place: "line",
        size: None,
        unit: Unit::Shares,
        boxes: Vec::new(),
        image_id: None,
        categories: categories.clone(),
    }
}

fn of_voc(records: Arc<dyn Records>, trees: &[Option<PathBuf>]) -> Result<Box<dyn Records>> {
    let names: BTreeSet<String> = trees.iter().flatten().flat_map(|p| voc::names(p)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let categories = categories(names.clone(), 1);
    let (mut kept, mut each) = (Vec::new(), Vec::new());
    for (i, tree) in trees.iter().enumerate() {
        let Some(path) = tree else { continue };
        kept.push(i);
        each.push(voc::read(path, &categories).map_err(|e| e.to_string()));
    }
    let without = trees.len() - kept.len();
    let mut notes = Vec::new();
    if without > 0 {
        notes.push(format!("{without} of {} images have no file of boxes and are left out", trees.len()));
    }
    Ok(Box::new(Annotated { records: Arc::new(Subset::new(records, kept)?), classes: names, each, notes }))
}

#[cfg(test)]
#[path = "annotated_tests.rs"]
mod tests;
