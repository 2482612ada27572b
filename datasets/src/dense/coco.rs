//! COCO's `instances.json` (Lin et al. 2014, arXiv 1405.0312): `images`, `annotations`, `categories`.

use crate::objects::{Boxed, Category, Objects, Unit};
use selfsup_core::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Deserialize)]
struct File {
    images: Vec<Picture>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    categories: Vec<Named>,
}

#[derive(Deserialize)]
struct Picture {
    id: i64,
    file_name: String,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    id: i64,
    image_id: i64,
    category_id: i64,
    bbox: Vec<f64>,
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Named {
    id: i64,
    name: String,
}

/// Images with their objects, or with what is wrong with them; and the names of the classes.
pub(super) struct Coco {
    pub(super) images: Vec<(PathBuf, Result<Objects, String>)>,
    pub(super) classes: Vec<String>,
}

/// Whether the file at `path` begins like JSON with COCO's keys.
pub fn is_coco(path: &Path) -> bool {
    let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    // The keys stand in any order, with lists of any length between them.
    json && path.is_file()
        && selfsup_core::file::text(path).is_ok_and(|t| {
            ["\"images\"", "\"annotations\"", "\"categories\"", "\"file_name\""].iter().all(|k| t.contains(k))
        })
}

/// Reads the file at `path`. Images lie beside it, in `images/` beside it, or the same one folder up, or
/// there in a folder that is called like the end of the file's name (`instances_val2017.json`: `val2017/`).
///
/// # Errors
/// If it is no such file, names no image that is there, or an annotation is of an image that is not listed.
pub(super) fn read(path: &Path) -> Result<Coco> {
    let text = selfsup_core::file::text(path)?;
    let file: File = serde_json::from_str(&text)
        .map_err(|e| Error::file(path, format_args!("not COCO's annotations: {e}")))?;
    let mut named = file.categories;
    named.sort_by_key(|c| c.id);
    if let Some(twice) = named.windows(2).find(|w| w[0].id == w[1].id || w[0].name == w[1].name) {
        return Err(Error::file(path, format_args!("category {} `{}` twice", twice[1].id, twice[1].name)));
    }
    let categories: Arc<Vec<Category>> =
        Arc::new(named.into_iter().map(|c| Category { id: c.id, name: c.name }).collect());
    let class: BTreeMap<i64, u32> = categories.iter().enumerate().map(|(i, c)| (c.id, i as u32)).collect();
    let folder = folder(path, &file.images)?;
    let shared = Arc::new(path.to_path_buf());
    let mut place = BTreeMap::new();
    let mut images = Vec::with_capacity(file.images.len());
    for picture in &file.images {
        if place.insert(picture.id, images.len()).is_some() {
            return Err(Error::file(path, format_args!("image {} twice", picture.id)));
        }
        let objects = Objects {
            file: shared.clone(),
            place: "annotation",
            size: picture.width.zip(picture.height).map(|(w, h)| [w, h]),
            unit: Unit::Pixels,
            boxes: Vec::new(),
            image_id: Some(picture.id),
            categories: categories.clone(),
        };
        images.push((folder.join(&picture.file_name), Ok(objects)));
    }
    for a in file.annotations {
        let Some(&i) = place.get(&a.image_id) else {
            return Err(Error::file(
                path,
                format_args!("annotation {}: image {} is not among the images", a.id, a.image_id),
            ));
        };
        let image: &mut Result<Objects, String> = &mut images[i].1;
        let bbox: Result<[f64; 4], _> = a.bbox.try_into();
        let problem = match (class.get(&a.category_id), bbox) {
            (Some(&category), Ok(bbox)) => {
                if let Ok(objects) = image {
                    let crowd = a.iscrowd != 0;
                    objects.boxes.push(Boxed { category, bbox, area: a.area, crowd, place: a.id });
                }
                continue;
            }
            (None, _) => format!("category {} is not among the categories", a.category_id),
            (_, Err(v)) => format!("bbox of {} numbers, expected left, top, width, height", v.len()),
        };
        if image.is_ok() {
            *image = Err(format!("{}: annotation {}: {problem}", path.display(), a.id));
        }
    }
    Ok(Coco { images, classes: categories.iter().map(|c| c.name.clone()).collect() })
}

/// The folder in which the first image that is anywhere lies.
fn folder(path: &Path, pictures: &[Picture]) -> Result<PathBuf> {
    let beside = path.parent().unwrap_or(Path::new(""));
    let above = beside.parent().unwrap_or(beside);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let end = stem.rsplit('_').next().unwrap_or_default().to_string();
    let places = [
        beside.to_path_buf(),
        beside.join("images"),
        beside.join(&end),
        above.to_path_buf(),
        above.join("images"),
        above.join(&end),
        above.join("images").join(&end),
    ];
    // Some images may be missing; all of them in the wrong place is another matter.
    let there = |dir: &&PathBuf| pictures.iter().take(100).any(|p| dir.join(&p.file_name).is_file());
    if let Some(found) = places.iter().find(there) {
        return Ok(found.clone());
    }
    let first = pictures.first().map_or("", |p| &p.file_name);
    let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    Err(Error::file(
        path,
        format_args!("images: `{first}` and the next are in none of {}", looked.join(", ")),
    ))
}
