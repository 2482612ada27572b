//! A class for every pixel of an image: crops with their masks in training, whole images afterwards, measured
//! and written at the resolution of their files.

use super::placed::{answered, sample, stacked};
use super::{Keys, Vision};
use crate::modality::Modality;
use crate::set::{Set, Sets};
use crate::task::{Answers, ClassMap, Ready, Task, TaskConfig, TaskKeys};
use candle_core::{Device, Tensor};
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source, Transform};
use selfsup_core::loss::IGNORED;
use selfsup_core::run::Display;
use selfsup_core::{Error, Key, Result, Rng, Scope};
use selfsup_datasets::{Records, open_masks};
use selfsup_eval::metrics::Confusion;
use selfsup_vision::data::{Planes, Sample};
use selfsup_vision::dense::{HeadKind, Mask, MaskBatch, Placed, Segment, SegmentConfig, classes_of, overlay};
use selfsup_vision::image::MAX_PIXELS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The task.
pub struct Segmentation;

/// The class of each value that a mask may have; -100 where a pixel does not count.
struct Values(Vec<Option<i64>>);

impl Values {
    fn new(keys: &TaskKeys) -> Self {
        let map = ClassMap::new(&keys.classes);
        let of = |value: u16| {
            if ignored(keys) == Some(value) { Some(IGNORED) } else { map.class(value).map(i64::from) }
        };
        Values((0..=u16::MAX).map(of).collect())
    }

    /// The class of each pixel of the mask at `path` of an image of this size; -100 where it does not count.
    fn read(&self, path: &Path, size: [u32; 2], max_pixels: u64) -> Result<Vec<i64>> {
        let mask = Mask::open(path, max_pixels)?;
        classes_of(&mask, path, size, &|value| self.0[usize::from(value)])
    }
}

fn ignored(keys: &TaskKeys) -> Option<u16> {
    u16::try_from(keys.ignore).ok()
}

fn head(keys: &TaskKeys) -> Result<HeadKind> {
    match keys.head.as_str() {
        "auto" => Ok(HeadKind::Auto),
        "linear" => Ok(HeadKind::Linear),
        "pyramid" => Ok(HeadKind::Pyramid),
        other => Err(Error::config(format!("task.head = \"{other}\": expected auto, linear or pyramid"))),
    }
}

/// Images with the files of their masks.
struct Pairs(Arc<dyn Records>);

impl Dataset for Pairs {
    type Item = (Sample, PathBuf);

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<(Sample, PathBuf)> {
        Ok((sample(&self.0, index)?, mask_of(&self.0, index)?))
    }
}

fn mask_of(records: &Arc<dyn Records>, index: usize) -> Result<PathBuf> {
    match records.mask(index) {
        Some(mask) => Ok(mask),
        None => Err(Error::input(records.id(index)?, "has no mask")),
    }
}

/// A random part with its labels.
struct Part {
    placed: Placed,
    values: Values,
    max_pixels: u64,
}

impl Transform<(Sample, PathBuf)> for Part {
    type Out = (Planes, Vec<i64>);

    fn apply(&self, (sample, mask): (Sample, PathBuf), rng: &mut Rng) -> Result<(Planes, Vec<i64>)> {
        let view = self.placed.part(sample, rng)?;
        let classes = self.values.read(&mask, view.place.source, self.max_pixels)?;
        Ok((view.planes, view.place.labels(&classes)?))
    }
}

struct Collated;

impl Collate<(Planes, Vec<i64>)> for Collated {
    type Batch = MaskBatch;

    fn collate(&self, items: Vec<(Planes, Vec<i64>)>, indices: &[usize], _key: Key) -> Result<MaskBatch> {
        let (planes, labels): (Vec<Planes>, Vec<Vec<i64>>) = items.into_iter().unzip();
        let x = stacked(&planes)?;
        let (n, _, h, w) = x.dims4()?;
        let counted = labels.iter().map(|l| l.iter().filter(|v| **v != IGNORED).count()).collect();
        let labels = Tensor::from_vec(labels.concat(), (n, h, w), &Device::Cpu)?;
        Ok(MaskBatch { x, labels, counted, indices: indices.to_vec() })
    }
}

/// The records with a mask.
fn drawn(set: &Set) -> Result<Option<Set>> {
    let with: Vec<usize> = (0..set.len()).filter(|&i| set.records().mask(i).is_some()).collect();
    if with.is_empty() { Ok(None) } else { Ok(Some(set.part(with)?)) }
}

/// The class of each pixel of an image, on its own grid.
fn found(ready: &Ready<Vision, Segmentation>, set: &Set, index: usize) -> Result<(Vec<u32>, [u32; 2])> {
    let (x, view) = ready.modality.whole_view(set, index, ready.device)?;
    let side = |[w, h]: [u32; 2]| [h as usize, w as usize];
    let (shown, size) = (side(view.place.shown), side(view.place.source));
    Ok((ready.objective.classes_of(&x, shown, size)?, view.place.source))
}

impl Task<Vision> for Segmentation {
    type Objective = Segment;

    const WATCHED: &'static str = "validation_miou";
    const READS: &'static [&'static str] = &["head", "ignore"];
    const SCORE: &'static str = "miou";

    fn check(config: &TaskConfig<Keys>) -> Result<()> {
        if !(-1..=i64::from(u16::MAX)).contains(&config.task.ignore) {
            let problem = format!("task.ignore = {}: expected -1, or 0 to 65535", config.task.ignore);
            return Err(Error::config(problem));
        }
        head(&config.task)?;
        Vision::new(&config.pretrain())?.placed().map(drop)
    }

    fn open(modality: &Vision, what: &str, labelled: bool) -> Result<Set> {
        if !labelled {
            return modality.open(what);
        }
        Ok(Set::new(open_masks(what, &modality.reading)?))
    }

    fn readable(modality: &Vision, one: &Set) -> Result<()> {
        let Some(mask) = one.records().mask(0) else { return Ok(()) };
        let (mask, image) = (Mask::open(&mask, modality.max_pixels)?, modality.picture(one, 0)?);
        let path = mask_of(one.records(), 0)?;
        classes_of(&mask, &path, [image.width, image.height], &|_| Some(0)).map(drop)
    }

    fn targets(sets: Sets, keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
        let train = drawn(&sets.train)?.ok_or_else(|| {
            Error::input(
                "training data",
                "no masks: put PNG files of the same names into a folder `masks` beside `images`, name them \
                 with data.targets = \"images/*.jpg -> masks/*.png\", or give a table with --labels FILE.csv \
                 (columns path and mask)",
            )
        })?;
        let part =
            |set: Option<Set>| -> Result<Option<Set>> { Ok(set.map(|s| drawn(&s)).transpose()?.flatten()) };
        let (held_out, test) = (part(sets.held_out)?, part(sets.test)?);
        let named =
            train.classes().len() >= 2 && (0..train.len()).all(|i| train.records().label(i).is_none());
        let classes: Vec<String> = if named {
            train.classes().to_vec()
        } else {
            let mut values = BTreeSet::new();
            for i in 0..train.len() {
                let path = mask_of(train.records(), i)?;
                // One that cannot be read is the loader's to name and to skip.
                if let Ok(mask) = Mask::open(&path, MAX_PIXELS) {
                    values.extend(mask.values);
                }
            }
            values.retain(|v| Some(*v) != ignored(keys));
            values.into_iter().map(|v| v.to_string()).collect()
        };
        if classes.len() < 2 {
            return Err(Error::input(
                "masks",
                format!(
                    "the values {classes:?} beside that of task.ignore = {}: expected two classes at least \
                     (where 255 is a class, set task.ignore = -1)",
                    keys.ignore
                ),
            ));
        }
        Ok((Sets { held_out, test, train }, classes))
    }

    fn build(modality: &Vision, scope: &Scope, keys: &TaskKeys, _class_weights: &[f32]) -> Result<Segment> {
        let config = SegmentConfig {
            classes: keys.classes.len(),
            frozen: keys.train_blocks == Some(0),
            head: head(keys)?,
            ..SegmentConfig::default()
        };
        Segment::new(scope, &modality.architecture, config)
    }

    fn batches(
        modality: &Vision,
        keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<MaskBatch>>> {
        let part =
            Part { placed: modality.placed()?, values: Values::new(keys), max_pixels: modality.max_pixels };
        let pairs = Arc::new(Pairs(set.records().clone()));
        Ok(Box::new(Loader::new(pairs, Arc::new(part), Arc::new(Collated), loader)?))
    }

    /// Mean intersection over union of the pixels of all files, counted together, then averaged over the
    /// classes that are there or predicted; of each class; and the share of right pixels. In percent.
    fn measure(ready: &Ready<Vision, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let (keys, values) = (ready.keys, Values::new(ready.keys));
        let mut all = Confusion::empty(keys.classes.len());
        for i in 0..set.len() {
            let (said, size) = found(ready, set, i)?;
            let right = values.read(&mask_of(set.records(), i)?, size, ready.modality.max_pixels)?;
            // -100 becomes a number that no class has.
            let right: Vec<u32> = right.into_iter().map(|v| u32::try_from(v).unwrap_or(u32::MAX)).collect();
            all.add(u32::MAX, &said, &right)?;
        }
        let mut out = vec![
            ("miou".to_string(), 100.0 * all.mean_iou()),
            ("pixel_accuracy".into(), 100.0 * all.accuracy()),
            ("mean_accuracy".into(), 100.0 * all.balanced_accuracy()),
        ];
        let each = keys.classes.iter().zip(all.iou());
        out.extend(each.filter_map(|(name, iou)| Some((format!("iou_{name}"), 100.0 * iou?))));
        Ok(out)
    }

    /// A mask for each file, with the values of the masks that were learnt, and the same in colours over the
    /// image.
    fn predict(ready: &Ready<Vision, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        let map = ClassMap::new(&ready.keys.classes);
        let (paths, names) = answered(set)?;
        let mut display = Display::counting("masks: file", Duration::from_secs(10));
        for (i, (path, name)) in paths.iter().zip(&names).enumerate() {
            display.count(i as u64, paths.len() as u64);
            let file = answers.file(path, &format!("{name}.png"))?;
            let (said, [width, height]) = found(ready, set, i)?;
            let classes = said.into_iter().map(|c| c as u16).collect::<Vec<_>>();
            Mask::new(width, height, map.values(&classes))?.save(&file)?;
            let file = answers.file(path, &format!("{name}-overlay.png"))?;
            let seen = overlay(&ready.modality.picture(set, i)?, &Mask::new(width, height, classes)?)?;
            seen.save(&file)?;
        }
        Ok(())
    }
}
