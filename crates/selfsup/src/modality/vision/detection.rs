//! Boxes about the objects of an image: crops with their boxes in training, whole images afterwards, boxes in
//! pixels of their files.

use super::placed::{answered, sample, stacked};
use super::{Keys, Vision};
use crate::modality::Modality;
use crate::set::{Set, Sets};
use crate::task::{Answers, Ready, Task, TaskConfig, TaskKeys};
use selfsup_core::checkpoint::{pretty_json, write_text};
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source, Transform};
use selfsup_core::run::Display;
use selfsup_core::{Error, Key, Result, Rng, Scope};
use selfsup_datasets::{Objects, Records, open_objects};
use selfsup_eval::detection::{self, coco};
use selfsup_vision::data::{Planes, Sample};
use selfsup_vision::dense::{BoxBatch, Detect, DetectConfig, Placed, Truth, draw_boxes};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Boxes below this score are not drawn; all are in the table.
const DRAWN: f64 = 0.3;

/// The task.
pub struct Detection;

/// A box that was found in an image.
struct Found {
    class: usize,
    score: f64,
    /// Left, top, width, height in pixels of the image.
    bbox: [f64; 4],
}

/// The objects of a record.
fn objects(records: &Arc<dyn Records>, index: usize) -> Result<Objects> {
    let none = || Error::input(records.id(index).unwrap_or_default(), "has no boxes");
    records.objects(index)?.ok_or_else(none)
}

/// The class of each category of `records` among those that were learnt.
fn classes(records: &Arc<dyn Records>, known: &[String]) -> Result<Vec<usize>> {
    let of = |name: &String| {
        known.iter().position(|k| k == name).ok_or_else(|| {
            Error::input(
                "categories",
                format!("`{name}` is none of those that are learnt: {}", known.join(", ")),
            )
        })
    };
    records.classes().iter().map(of).collect()
}

/// Images with their objects.
struct Annotated(Arc<dyn Records>);

impl Dataset for Annotated {
    type Item = (Sample, Objects);

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<(Sample, Objects)> {
        Ok((sample(&self.0, index)?, objects(&self.0, index)?))
    }
}

/// A random part with the boxes that are seen in it.
struct Part {
    placed: Placed,
    classes: Vec<usize>,
}

impl Transform<(Sample, Objects)> for Part {
    type Out = (Planes, Vec<Truth>);

    fn apply(&self, (sample, objects): (Sample, Objects), rng: &mut Rng) -> Result<(Planes, Vec<Truth>)> {
        let view = self.placed.part(sample, rng)?;
        let [width, height] = view.place.source;
        let boxes = objects.in_pixels(width, height)?.boxes;
        let truth = |b: &selfsup_datasets::Boxed| {
            let class = *self.classes.get(b.category as usize)?;
            Some(Truth { class, bbox: view.place.to_view(b.bbox)?, crowd: b.crowd })
        };
        let truths = boxes.iter().filter_map(truth).collect();
        Ok((view.planes, truths))
    }
}

struct Collated;

impl Collate<(Planes, Vec<Truth>)> for Collated {
    type Batch = BoxBatch;

    fn collate(&self, items: Vec<(Planes, Vec<Truth>)>, indices: &[usize], _key: Key) -> Result<BoxBatch> {
        let (planes, truths): (Vec<Planes>, Vec<Vec<Truth>>) = items.into_iter().unzip();
        Ok(BoxBatch { x: stacked(&planes)?, truths, indices: indices.to_vec() })
    }
}

/// The boxes in an image, surest first, and its width and height.
fn found(ready: &Ready<Vision, Detection>, set: &Set, index: usize) -> Result<(Vec<Found>, [u32; 2])> {
    let (x, view) = ready.modality.whole_view(set, index, ready.device)?;
    let boxes = ready.objective.find(&x)?.into_iter().flatten();
    let of = |b: selfsup_vision::dense::Found| Found {
        class: b.class,
        score: f64::from(b.score),
        bbox: view.place.to_source(b.bbox),
    };
    Ok((boxes.map(of).collect(), view.place.source))
}

impl Task<Vision> for Detection {
    type Objective = Detect;

    const WATCHED: &'static str = "validation_ap";
    const READS: &'static [&'static str] = &[];
    const OUTPUTS: &'static str = "categories";
    const SCORE: &'static str = "ap";

    fn check(config: &TaskConfig<Keys>) -> Result<()> {
        Vision::new(&config.pretrain())?.placed().map(drop)
    }

    fn open(modality: &Vision, what: &str, labelled: bool) -> Result<Set> {
        let annotations = || selfsup_datasets::dense::is_coco(Path::new(what));
        if labelled || annotations() {
            return Ok(Set::new(open_objects(what, &modality.reading)?));
        }
        modality.open(what)
    }

    fn readable(modality: &Vision, one: &Set) -> Result<()> {
        let image = modality.picture(one, 0)?;
        objects(one.records(), 0)?.in_pixels(image.width, image.height).map(drop)
    }

    fn targets(sets: Sets, _keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
        let names = sets.train.classes().to_vec();
        if names.is_empty() {
            return Err(Error::input("training data", "names no categories of objects"));
        }
        for set in [&sets.held_out, &sets.test].into_iter().flatten() {
            classes(set.records(), &names)?;
        }
        Ok((sets, names))
    }

    fn build(modality: &Vision, scope: &Scope, keys: &TaskKeys, _class_weights: &[f32]) -> Result<Detect> {
        let config = DetectConfig {
            classes: keys.classes.len(),
            frozen: keys.train_blocks == Some(0),
            ..DetectConfig::default()
        };
        Detect::new(scope, &modality.architecture, config)
    }

    fn batches(
        modality: &Vision,
        keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<BoxBatch>>> {
        let part = Part { placed: modality.placed()?, classes: classes(set.records(), &keys.classes)? };
        let annotated = Arc::new(Annotated(set.records().clone()));
        Ok(Box::new(Loader::new(annotated, Arc::new(part), Arc::new(Collated), loader)?))
    }

    /// COCO's measures in percent, and the average precision of each category. What no object is there for is
    /// left out.
    fn measure(ready: &Ready<Vision, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let known = &ready.keys.classes;
        let class = classes(set.records(), known)?;
        let (mut truths, mut detections) = (Vec::new(), Vec::new());
        for image in 0..set.len() {
            let (boxes, [width, height]) = found(ready, set, image)?;
            let category = |b: &selfsup_datasets::Boxed| class.get(b.category as usize).copied();
            for b in &objects(set.records(), image)?.in_pixels(width, height)?.boxes {
                let Some(category) = category(b) else { continue };
                let area = b.area.unwrap_or(b.bbox[2] * b.bbox[3]);
                truths.push(detection::Object { image, category, bbox: b.bbox, area, crowd: b.crowd });
            }
            detections.extend(boxes.into_iter().map(|b| detection::Detection {
                image,
                category: b.class,
                bbox: b.bbox,
                score: b.score,
            }));
        }
        let m = coco(&truths, &detections, set.len(), known.len())?;
        let names = [
            "ap",
            "ap50",
            "ap75",
            "ap_small",
            "ap_medium",
            "ap_large",
            "ar1",
            "ar10",
            "ar100",
            "ar_small",
            "ar_medium",
            "ar_large",
        ];
        let all = names.iter().map(|n| (*n).to_string()).zip(m.summary());
        let each = known.iter().map(|name| format!("ap_{name}")).zip(m.ap_of_category);
        let mut out: Vec<(String, f64)> =
            all.chain(each).filter_map(|(name, v)| Some((name, 100.0 * v?))).collect();
        if out.is_empty() {
            // Held-out images without any object: no detection can be right.
            out.push(("ap".into(), 0.0));
        }
        Ok(out)
    }

    /// A row for each box; or, where files are wanted, each image with its boxes drawn, and `results.json` in
    /// COCO's form.
    fn predict(ready: &Ready<Vision, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        let known = &ready.keys.classes;
        let (paths, names) = answered(set)?;
        let mut results: Vec<Value> = Vec::new();
        let mut display = Display::counting("boxes: file", Duration::from_secs(10));
        for (i, (path, name)) in paths.iter().zip(&names).enumerate() {
            display.count(i as u64, paths.len() as u64);
            let (boxes, _) = found(ready, set, i)?;
            let stated = set.records().objects(i)?;
            let image = stated.as_ref().and_then(|o| o.image_id).unwrap_or(i as i64);
            let id = |class: usize| {
                let of = |o: &Objects| {
                    o.categories.iter().find(|c| Some(&c.name) == known.get(class)).map(|c| c.id)
                };
                stated.as_ref().and_then(of).unwrap_or(class as i64 + 1)
            };
            if !answers.files() {
                for b in &boxes {
                    let [x, y, width, height] = b.bbox;
                    answers.row(vec![
                        ("path".to_string(), json!(path)),
                        ("label".into(), json!(known.get(b.class))),
                        ("score".into(), json!(b.score)),
                        ("x".into(), json!(x)),
                        ("y".into(), json!(y)),
                        ("width".into(), json!(width)),
                        ("height".into(), json!(height)),
                        ("image_id".into(), json!(image)),
                        ("category_id".into(), json!(id(b.class))),
                    ])?;
                }
                continue;
            }
            results.extend(boxes.iter().map(|b| {
                json!({ "image_id": image, "category_id": id(b.class), "bbox": b.bbox, "score": b.score,
                    "file_name": path, "category": known.get(b.class) })
            }));
            let file = answers.file(path, &format!("{name}.png"))?;
            let sure = |b: &&Found| b.score >= DRAWN;
            let drawn: Vec<_> = boxes.iter().filter(sure).map(|b| (b.class, b.bbox)).collect();
            draw_boxes(&ready.modality.picture(set, i)?, &drawn)?.save(&file)?;
        }
        if answers.files() {
            let file = answers.file(Path::new("all"), "results.json")?;
            write_text(&file, &pretty_json(&results)?)?;
        }
        Ok(())
    }
}
