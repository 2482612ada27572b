//! A class for every voxel: patches with their label volumes in training, sliding windows over whole volumes
//! afterwards, masks written back on the grid of the file that they are of.

use super::labelled::{LabelledDraws, LabelledPatch};
use super::volumes::path_of;
use super::{Keys, Medical};
use crate::set::{Set, Sets};
use crate::task::{Answers, ClassMap, Ready, Task, TaskConfig, TaskKeys, file_names};
use candle_core::Device;
use selfsup_core::data::{Loader, LoaderConfig, Source, Transform};
use selfsup_core::objective::class_counts;
use selfsup_core::run::Display;
use selfsup_core::{Error, Key, Result, Scope};
use selfsup_datasets::Records;
use selfsup_eval::segmentation::{dice_per_class, surface_distance};
use selfsup_medical::Volume;
use selfsup_medical::blocks::{Recipe, Scan};
use selfsup_medical::data::CollatedLabels;
use selfsup_medical::method::{Labelled, Segment, SegmentConfig};
use selfsup_medical::read::{self, ReadConfig};
use selfsup_medical::sliding::SlidingWindow;
use selfsup_medical::transform::upright;
use selfsup_medical::write;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The task.
pub struct Segmentation;

/// The records with a label volume.
fn drawn(set: &Set) -> Result<Option<Set>> {
    let with: Vec<usize> = (0..set.len()).filter(|&i| set.records().mask(i).is_some()).collect();
    if with.is_empty() { Ok(None) } else { Ok(Some(set.part(with)?)) }
}

impl Medical {
    /// How a file is read on its own grid.
    fn as_stored(&self) -> ReadConfig {
        ReadConfig { resample: None, ..self.keys.volumes.read.clone() }
    }

    /// A volume as the network sees it.
    fn prepared(&self, volume: Volume) -> Result<Volume> {
        let volume = if self.keys.volumes.read.resample.is_some() { upright(volume)? } else { volume };
        self.prepare.apply(volume, &mut Key::new(0).rng())
    }

    /// A volume with the class of each voxel, on the grid of its file and as it is.
    fn source(&self, set: &Set, index: usize, map: &ClassMap) -> Result<Volume> {
        let (image, mask) = (path_of(set, index)?, set.records().mask(index));
        let mask = mask.ok_or_else(|| Error::file(&image, "has no label volume"))?;
        let volume = read::labelled(image, &mask, &self.as_stored())?;
        let classes = map.classes(&mask, volume.labels().unwrap_or_default())?;
        volume.with_labels(classes)
    }

    /// The same prepared as in training.
    fn labelled(&self, set: &Set, index: usize, map: &ClassMap) -> Result<Volume> {
        self.prepared(self.source(set, index, map)?)
    }

    /// The same, kept in memory or in blocks.
    fn kept(&self, set: &Set, index: usize, map: &ClassMap, keys: &TaskKeys) -> Result<Arc<dyn Scan>> {
        let image = path_of(set, index)?;
        let Some(mask) = set.records().mask(index) else {
            return Err(Error::file(&image, "has no label volume"));
        };
        let shape = read::open_series(&image, &self.as_stored())?.stored().shape();
        let how = format!("{} {} {}", self.how, self.keys.volumes.reading()?, keys.classes.join(","));
        let voxels = shape.iter().map(|n| *n as u64).product();
        let recipe = Recipe { sources: &[&image, &mask], how: &how, voxels, labelled: true };
        self.store.keep(recipe, || self.labelled(set, index, map))
    }

    /// The class of each voxel of `volume`, on its own grid: the network sees it prepared, and its
    /// probabilities are brought back before one class wins.
    fn classes_of(&self, volume: Volume, objective: &Segment, device: &Device) -> Result<Vec<u16>> {
        let grid = volume.grid().clone();
        let prepared = self.prepared(volume)?;
        let scores = self.window().scores(&prepared, device, |x| objective.probabilities(x))?;
        Ok(scores.labels_on(prepared.grid(), &grid))
    }

    fn window(&self) -> SlidingWindow {
        SlidingWindow { size: self.keys.augment.size, ..SlidingWindow::default() }
    }
}

impl Task<Medical> for Segmentation {
    type Objective = Segment;

    const WATCHED: &'static str = "validation_dice";
    const READS: &'static [&'static str] = &["class_weights", "foreground"];
    const SCORE: &'static str = "dice";

    fn check(config: &TaskConfig<Keys>) -> Result<()> {
        let share = config.task.foreground;
        if (0.0..=1.0).contains(&share) {
            return Ok(());
        }
        Err(Error::config(format!("task.foreground = {share}: expected a share from 0 to 1")))
    }

    /// Image and labels.
    fn readable(modality: &Medical, one: &Set) -> Result<()> {
        let Some(mask) = one.records().mask(0) else { return Ok(()) };
        read::labelled(path_of(one, 0)?, mask, &modality.as_stored()).map(drop)
    }

    fn targets(sets: Sets, _keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
        let train = drawn(&sets.train)?.ok_or_else(|| {
            Error::input(
                "training data",
                "no label volumes: give a table with --labels FILE.csv (columns path and mask)",
            )
        })?;
        let part =
            |set: Option<Set>| -> Result<Option<Set>> { Ok(set.map(|s| drawn(&s)).transpose()?.flatten()) };
        let (held_out, test) = (part(sets.held_out)?, part(sets.test)?);
        let named =
            train.classes().len() >= 2 && (0..train.len()).all(|i| train.records().label(i).is_none());
        let classes = if named {
            train.classes().to_vec()
        } else {
            let mut values = BTreeSet::from([0]);
            for set in [Some(&train), held_out.as_ref(), test.as_ref()].into_iter().flatten() {
                for mask in (0..set.len()).filter_map(|i| set.records().mask(i)) {
                    values.extend(read::labels(mask, &ReadConfig::default())?.1);
                }
            }
            values.into_iter().map(|v| v.to_string()).collect()
        };
        Ok((Sets { held_out, test, train }, classes))
    }

    /// Voxels of each class.
    fn counts(modality: &Medical, keys: &TaskKeys, set: &Set) -> Result<Vec<usize>> {
        let (classes, map) = (keys.classes.len(), ClassMap::new(&keys.classes));
        (0..set.len()).try_fold(vec![0; classes], |mut all, i| {
            let volume = modality.labelled(set, i, &map)?;
            let of = class_counts(volume.labels().unwrap_or_default().iter().map(|l| u32::from(*l)), classes);
            all.iter_mut().zip(of).for_each(|(a, n)| *a += n);
            Ok(all)
        })
    }

    fn build(modality: &Medical, scope: &Scope, keys: &TaskKeys, class_weights: &[f32]) -> Result<Segment> {
        let (classes, frozen) = (keys.classes.len(), keys.train_blocks == Some(0));
        let config = SegmentConfig { classes, frozen, class_weights: class_weights.to_vec() };
        Segment::new(scope, &modality.architecture, config)
    }

    fn batches(
        modality: &Medical,
        keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Labelled>>> {
        let map = ClassMap::new(&keys.classes);
        let volumes =
            (0..set.len()).map(|i| modality.kept(set, i, &map, keys)).collect::<Result<Vec<_>>>()?;
        let times = modality.keys.volumes.patches;
        let loader = LoaderConfig { batch_size: loader.batch_size.min(volumes.len() * times), ..loader };
        let patch = LabelledPatch::new(&modality.keys.augment, keys.foreground)?;
        Ok(Box::new(Loader::new(
            Arc::new(LabelledDraws::new(volumes, keys.classes.len(), times)?),
            Arc::new(patch),
            Arc::new(CollatedLabels::default()),
            loader,
        )?))
    }

    /// Dice and 95% Hausdorff distance in mm on the voxels of the files, averaged over the classes but the
    /// background, then over the volumes.
    fn measure(ready: &Ready<Medical, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let Ready { modality, keys, objective, device, .. } = ready;
        let (classes, map) = (keys.classes.len(), ClassMap::new(&keys.classes));
        let mut each = vec![(0.0, 0usize); classes];
        let (mut far, mut far_n) = (0.0, 0usize);
        for i in 0..set.len() {
            let volume = modality.source(set, i, &map)?;
            let (shape, spacing) = (volume.shape(), volume.spacing());
            let right: Vec<u32> = volume.labels().unwrap_or_default().iter().map(|l| u32::from(*l)).collect();
            let found = modality.classes_of(volume, objective, device)?;
            let found: Vec<u32> = found.into_iter().map(u32::from).collect();
            for (c, dice) in dice_per_class(&found, &right, classes)?.into_iter().enumerate() {
                if let Some(dice) = dice {
                    each[c].0 += dice;
                    each[c].1 += 1;
                }
            }
            for c in 1..classes as u32 {
                let of = |labels: &[u32]| labels.iter().map(|l| *l == c).collect::<Vec<bool>>();
                if let Some(d) = surface_distance(&of(&found), &of(&right), &shape, &spacing)? {
                    far += d.hausdorff95;
                    far_n += 1;
                }
            }
        }
        let mean = |(sum, n): &(f64, usize)| sum / (*n).max(1) as f64;
        let seen: Vec<f64> = each.iter().skip(1).filter(|(_, n)| *n > 0).map(mean).collect();
        let mut out = vec![("dice".to_string(), 100.0 * seen.iter().sum::<f64>() / seen.len().max(1) as f64)];
        if far_n > 0 {
            out.push(("hausdorff95".into(), far / far_n as f64));
        }
        out.extend(
            each.iter()
                .enumerate()
                .skip(1)
                .filter(|(_, e)| e.1 > 0)
                .map(|(c, e)| (format!("dice_{}", keys.classes[c]), 100.0 * mean(e))),
        );
        Ok(out)
    }

    /// A mask for each file, on its grid, with the values of the masks that were learnt.
    fn predict(ready: &Ready<Medical, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        let Ready { modality, keys, objective, device, .. } = ready;
        let map = ClassMap::new(&keys.classes);
        let mut done = BTreeSet::new();
        let mut display = Display::counting("masks: file", Duration::from_secs(10));
        let mut paths = Vec::new();
        for i in 0..set.len() {
            let path = path_of(set, i)?;
            // Every file of a series stands for it: `*.dcm` is one volume.
            if done.insert(read::files(&path)?) {
                paths.push(path);
            }
        }
        let names = file_names(&paths, &stem, ".nii.gz");
        for (i, (path, name)) in paths.iter().zip(&names).enumerate() {
            display.count(i as u64, paths.len() as u64);
            let file = answers.file(path, name)?;
            let whole = read::volume(path, &modality.as_stored())?;
            let (grid, stored) = (whole.grid().clone(), whole.stored().cloned());
            let found = modality.classes_of(whole, objective, device)?;
            write::labels(&file, &grid, stored.as_ref(), &map.values(&found))?;
        }
        Ok(())
    }
}

/// A file's name without its endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lower = name.to_lowercase();
    let ending = [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm"]
        .into_iter()
        .find(|e| lower.ends_with(e))
        .map_or(0, str::len);
    name[..name.len() - ending].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_endings() {
        for (path, name) in [("a/b.nii.gz", "b"), ("a/c.NII", "c"), ("series", "series"), ("x.y.dcm", "x.y")]
        {
            assert_eq!(stem(Path::new(path)), name);
        }
    }
}
