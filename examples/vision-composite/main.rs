//! A composited data set for segmentation and detection: cut-outs with an alpha channel over photos. Masks
//! and boxes follow from the alpha. The test part shows neither an object nor a photo of the training part.
//!
//!     cargo run --release --example vision-composite -- [--one-class] SET PHOTOS OUT [TRAIN TEST SIZE SEED]
//!
//! SET is a data set of PNG files with alpha and classes (`emoji`, or a folder of folders), PHOTOS a folder
//! of images. OUT gets `train` and `test`, each with `images`, `masks` (0 for the background, then the
//! classes) and `boxes.json`, as COCO's. With `--one-class` every object is a `drawing`, which is to be found.

#![allow(clippy::print_stdout)] // what was written is said

use image::imageops::{FilterType, crop_imm, flip_horizontal_in_place, overlay, resize};
use image::{GrayImage, Luma, RgbImage, RgbaImage};
use selfsup_core::{Error, Key, Result, Rng};
use selfsup_datasets::{Kind, Records, divide, open_kind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Share of objects and of photos that only the test part shows.
const TEST: f64 = 0.3;
/// Objects of a picture, at most.
const OBJECTS: usize = 3;
/// Side of an object as a share of the picture's.
const SIDES: [f32; 2] = [0.2, 0.5];
/// A pixel belongs to an object from this alpha on.
const SOLID: u8 = 128;
/// Classes that are drawings of people and signs look alike: they are left out.
const LEFT_OUT: [&str; 5] = ["People & Body", "Smileys & Emotion", "Symbols", "Flags", "Component"];

fn main() -> std::process::ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::from(e.exit_code())
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let one = args.first().is_some_and(|a| a == "--one-class");
    let [set, photos, out, numbers @ ..] = &args[usize::from(one)..] else {
        return Err(Error::config("expected [--one-class] SET PHOTOS OUT [TRAIN TEST SIZE SEED]"));
    };
    let number = |i: usize, default: usize| match numbers.get(i) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| Error::config(format!("{text}: expected a whole number"))),
    };
    let (counts, size, seed) = ([number(0, 600)?, number(1, 200)?], number(2, 128)?, number(3, 0)?);
    let cutouts = Cutouts::open(set, one)?;
    let photos = open_kind(photos, Kind::Vision)?;
    let objects = divide(&cutouts.records, TEST, 0)?;
    let scenes = divide(&photos, TEST, 0)?;
    let parts = [("train", &objects.kept, &scenes.kept), ("test", &objects.out, &scenes.out)];
    for ((part, objects, scenes), count) in parts.into_iter().zip(counts) {
        let objects: Vec<usize> = objects.iter().copied().filter(|i| cutouts.class(*i).is_some()).collect();
        let dir = Path::new(out).join(part);
        for folder in ["images", "masks"] {
            let path = dir.join(folder);
            std::fs::create_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        }
        let key = Key::new(seed as u64).named(part);
        let mut all = Coco::default();
        for i in 0..count {
            let mut rng = key.fold(i as u64).rng();
            let scene = scene(&*photos, scenes, size as u32, &mut rng)?;
            let made = compose(&cutouts, &objects, scene, &mut rng)?;
            all.add(i, &dir, made)?;
        }
        let path = dir.join("boxes.json");
        let drawing = ["drawing".to_string()];
        let text = all.text(if one { &drawing } else { &cutouts.names });
        std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
        println!(
            "{}: {count} composited pictures of {size} px, {} objects of {} drawings over {} photos",
            dir.display(),
            all.annotations.len(),
            objects.len(),
            scenes.len()
        );
    }
    Ok(())
}

/// Drawings with alpha, and the classes that are kept.
struct Cutouts {
    records: Box<dyn Records>,
    names: Vec<String>,
    one: bool,
}

impl Cutouts {
    fn open(set: &str, one: bool) -> Result<Self> {
        let records = open_kind(set, Kind::Vision)?;
        let kept = |name: &&String| !LEFT_OUT.contains(&name.as_str());
        let names: Vec<String> = records.classes().iter().filter(kept).cloned().collect();
        if names.is_empty() {
            return Err(Error::input(set, "has no classes"));
        }
        Ok(Cutouts { records, names, one })
    }

    /// The class of a drawing among those that are kept.
    fn class(&self, index: usize) -> Option<usize> {
        let name = self.records.classes().get(self.records.label(index)? as usize)?;
        let class = self.names.iter().position(|n| n == name)?;
        Some(if self.one { 0 } else { class })
    }

    /// A drawing, cut to what is not transparent.
    fn get(&self, index: usize) -> Result<RgbaImage> {
        let drawing = decoded(&*self.records, index)?.to_rgba8();
        let [left, top, width, height] = solid(&drawing).ok_or_else(|| {
            Error::input(self.records.id(index).unwrap_or_default(), "is transparent all over")
        })?;
        Ok(crop_imm(&drawing, left, top, width, height).to_image())
    }
}

fn decoded(records: &dyn Records, index: usize) -> Result<image::DynamicImage> {
    let record = records.get(index)?;
    let bytes = record.source.content()?;
    image::load_from_memory(&bytes).map_err(|e| Error::input(record.id, e))
}

/// The box about the pixels that are not transparent: left, top, width, height.
fn solid(drawing: &RgbaImage) -> Option<[u32; 4]> {
    let places = || drawing.enumerate_pixels().filter(|(_, _, p)| p.0[3] >= SOLID);
    let (left, right) = (places().map(|p| p.0).min()?, places().map(|p| p.0).max()?);
    let (top, bottom) = (places().map(|p| p.1).min()?, places().map(|p| p.1).max()?);
    Some([left, top, right - left + 1, bottom - top + 1])
}

/// A random square of a photo.
fn scene(photos: &dyn Records, among: &[usize], size: u32, rng: &mut Rng) -> Result<RgbImage> {
    let photo = decoded(photos, among[rng.below(among.len())])?.to_rgb8();
    let most = photo.width().min(photo.height());
    let least = (most / 2).max(size.min(most));
    let side = least + rng.below((most - least) as usize + 1) as u32;
    let left = rng.below((photo.width() - side) as usize + 1) as u32;
    let top = rng.below((photo.height() - side) as usize + 1) as u32;
    let part = crop_imm(&photo, left, top, side, side).to_image();
    Ok(resize(&part, size, size, FilterType::Triangle))
}

/// A picture with its mask and objects.
struct Composed {
    picture: RgbImage,
    mask: GrayImage,
    /// Class, box and visible pixels.
    objects: Vec<(usize, [u32; 4], usize)>,
}

/// Lays one to three drawings over a scene, no box over another.
fn compose(cutouts: &Cutouts, among: &[usize], scene: RgbImage, rng: &mut Rng) -> Result<Composed> {
    let size = scene.width();
    let mut made = Composed { mask: GrayImage::new(size, size), picture: scene, objects: Vec::new() };
    for _ in 0..1 + rng.below(OBJECTS) {
        let index = among[rng.below(among.len())];
        let Some(class) = cutouts.class(index) else { continue };
        let drawing = cutouts.get(index)?;
        let side = (rng.range_f32(SIDES[0], SIDES[1]) * size as f32) as u32;
        let longest = drawing.width().max(drawing.height());
        let scaled = |v: u32| (v * side / longest).max(2);
        let (width, height) = (scaled(drawing.width()), scaled(drawing.height()));
        let mut drawing = resize(&drawing, width, height, FilterType::Triangle);
        if rng.chance(0.5) {
            flip_horizontal_in_place(&mut drawing);
        }
        let light = rng.range_f32(0.7, 1.1);
        for pixel in drawing.pixels_mut() {
            pixel.0[..3].iter_mut().for_each(|v| *v = (f32::from(*v) * light).min(255.0) as u8);
        }
        let Some([dx, dy, w, h]) = solid(&drawing) else { continue };
        let apart = |a: &[u32; 4], b: &[u32; 4]| {
            a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1]
        };
        let mut place = || {
            let x = rng.below((size - width) as usize + 1) as u32;
            let y = rng.below((size - height) as usize + 1) as u32;
            (x, y, [x + dx, y + dy, w, h])
        };
        // Twenty tries, then the picture has one object less.
        let free = (0..20).map(|_| place()).find(|(_, _, b)| made.objects.iter().all(|o| apart(&o.1, b)));
        let Some((x, y, bbox)) = free else { continue };
        let mut under = image::DynamicImage::ImageRgb8(made.picture).to_rgba8();
        overlay(&mut under, &drawing, i64::from(x), i64::from(y));
        made.picture = image::DynamicImage::ImageRgba8(under).to_rgb8();
        let mut area = 0;
        for (px, py, pixel) in drawing.enumerate_pixels() {
            if pixel.0[3] >= SOLID {
                made.mask.put_pixel(x + px, y + py, Luma([class as u8 + 1]));
                area += 1;
            }
        }
        made.objects.push((class, bbox, area));
    }
    Ok(made)
}

/// COCO's lists.
#[derive(Default)]
struct Coco {
    images: Vec<Value>,
    annotations: Vec<Value>,
}

impl Coco {
    /// Writes a picture and its mask, and lists its objects.
    fn add(&mut self, i: usize, dir: &Path, made: Composed) -> Result<()> {
        let name = format!("{i:04}.png");
        let save = |path: PathBuf, saved: image::ImageResult<()>| saved.map_err(|e| Error::file(path, e));
        let (picture, mask) = (dir.join("images").join(&name), dir.join("masks").join(&name));
        save(picture.clone(), made.picture.save(&picture))?;
        save(mask.clone(), made.mask.save(&mask))?;
        let (width, height) = made.picture.dimensions();
        self.images.push(json!({
            "id": i, "file_name": format!("images/{name}"), "width": width, "height": height
        }));
        for (class, bbox, area) in made.objects {
            let id = self.annotations.len() + 1;
            self.annotations.push(json!({
                "id": id, "image_id": i, "category_id": class + 1, "bbox": bbox, "area": area, "iscrowd": 0
            }));
        }
        Ok(())
    }

    fn text(&self, names: &[String]) -> String {
        let category = |(i, name): (usize, &String)| json!({ "id": i + 1, "name": name });
        let categories: Vec<Value> = names.iter().enumerate().map(category).collect();
        json!({ "images": self.images, "annotations": self.annotations, "categories": categories })
            .to_string()
    }
}
