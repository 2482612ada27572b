//! Random patches of volumes, read when they are needed.
//!
//! [`Patches`] is the data set: each volume so many times an epoch, as a [`Scan`] that nothing was read of
//! yet. [`RandomPatch`] is the first transform: it draws a place from the sample's generator and reads that
//! box. So a place depends on seed, epoch and sample, and an epoch brings other patches than the one before.

use super::file::BlockVolume;
use crate::grid::{Grid, Stored, show};
use crate::volume::Volume;
use selfsup_core::data::{Dataset, Transform};
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A volume that boxes are read from: in memory, or in blocks on the disk.
pub trait Scan: Send + Sync {
    /// Its name in messages.
    fn id(&self) -> &str;

    /// Where its voxels are.
    fn grid(&self) -> &Grid;

    /// How its file stored it, where that is known.
    fn stored(&self) -> Option<&Stored>;

    /// The part of `shape` from `start` (z, y, x), labels with it; what lies outside is `pad` (labels 0).
    ///
    /// # Errors
    /// If it cannot be read.
    fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume>;
}

impl Scan for Volume {
    fn id(&self) -> &str {
        Volume::id(self)
    }
    fn grid(&self) -> &Grid {
        Volume::grid(self)
    }
    fn stored(&self) -> Option<&Stored> {
        Volume::stored(self)
    }
    fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        Volume::part(self, start, shape, pad)
    }
}

impl Scan for BlockVolume {
    fn id(&self) -> &str {
        BlockVolume::id(self)
    }
    fn grid(&self) -> &Grid {
        BlockVolume::grid(self)
    }
    fn stored(&self) -> Option<&Stored> {
        Some(BlockVolume::stored(self))
    }
    fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        BlockVolume::part(self, start, shape, pad)
    }
}

/// Volumes, each `per_scan` times an epoch; nothing is read here.
pub struct Patches {
    scans: Vec<Arc<dyn Scan>>,
    per_scan: usize,
}

impl Patches {
    /// The data set of these volumes.
    ///
    /// # Errors
    /// If there are none, or `per_scan` is 0.
    pub fn new(scans: Vec<Arc<dyn Scan>>, per_scan: usize) -> Result<Self> {
        if scans.is_empty() || per_scan == 0 {
            return Err(Error::config(format!(
                "{per_scan} patches of each of {} volumes, expected at least one of one",
                scans.len()
            )));
        }
        Ok(Patches { scans, per_scan })
    }

    /// The volumes.
    pub fn scans(&self) -> &[Arc<dyn Scan>] {
        &self.scans
    }

    /// The volume of sample `index`.
    pub fn scan_of(&self, index: usize) -> usize {
        index / self.per_scan
    }
}

impl Dataset for Patches {
    type Item = Arc<dyn Scan>;

    fn len(&self) -> usize {
        self.scans.len() * self.per_scan
    }

    fn get(&self, index: usize) -> Result<Self::Item> {
        let scan = self.scans.get(self.scan_of(index)).cloned();
        scan.ok_or_else(|| {
            Error::input("patches", format!("there is no sample {index}, expected one below {}", self.len()))
        })
    }
}

/// Which voxels are worth a patch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Foreground {
    /// Those whose value is greater: 0 for a skull-stripped head, -500 Hounsfield units for a body in air.
    Above(f32),
    /// Those with another label than 0.
    Labelled,
}

/// How patches are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchConfig {
    /// `(D, H, W)` voxels.
    pub shape: [usize; 3],
    /// Patches with less foreground than `share` are drawn again; without it every place is as good.
    pub foreground: Option<Foreground>,
    /// Share of foreground voxels that is enough.
    pub share: f32,
    /// Places that are tried; after them the best is taken.
    pub tries: usize,
    /// What stands outside a volume that is smaller than the patch, centred in it; without it such a volume
    /// is an error.
    pub pad: Option<f32>,
}

impl Default for PatchConfig {
    fn default() -> Self {
        PatchConfig { shape: [48; 3], foreground: None, share: 0.1, tries: 10, pad: None }
    }
}

/// A random box of a volume.
#[derive(Clone, Debug)]
pub struct RandomPatch {
    config: PatchConfig,
}

impl RandomPatch {
    /// The transform.
    ///
    /// # Errors
    /// If the shape is empty, no place is tried, or the share is not from 0 to 1.
    pub fn new(config: PatchConfig) -> Result<Self> {
        if config.shape.contains(&0) || config.tries == 0 || !(0.0..=1.0).contains(&config.share) {
            return Err(Error::config(format!(
                "patch of {} voxels, {} tries, share {}; expected at least 1 voxel and try, and a share from 0 to 1",
                show(config.shape),
                config.tries,
                config.share
            )));
        }
        Ok(RandomPatch { config })
    }

    /// A place for the patch in a volume of `shape`: uniform over those inside; where the volume is smaller
    /// it is centred.
    fn place(&self, shape: [usize; 3], rng: &mut Rng) -> [isize; 3] {
        [0, 1, 2].map(|a| {
            let (n, m) = (shape[a], self.config.shape[a]);
            if n >= m { rng.below(n - m + 1) as isize } else { -(((m - n) / 2) as isize) }
        })
    }
}

impl Transform<Arc<dyn Scan>> for RandomPatch {
    type Out = Volume;

    fn apply(&self, scan: Arc<dyn Scan>, rng: &mut Rng) -> Result<Volume> {
        let (shape, c) = (scan.grid().shape(), &self.config);
        let fits = (0..3).all(|a| shape[a] >= c.shape[a]);
        let pad = match c.pad {
            Some(pad) => pad,
            None if fits => 0.0,
            None => {
                return Err(Error::input(
                    scan.id(),
                    format!(
                        "{} voxels, fewer than a patch of {}; `pad` says what stands outside",
                        show(shape),
                        show(c.shape)
                    ),
                ));
            }
        };
        let Some(foreground) = c.foreground else {
            return scan.part(self.place(shape, rng), c.shape, pad);
        };
        let mut best: Option<(usize, Volume)> = None;
        for _ in 0..c.tries {
            let patch = scan.part(self.place(shape, rng), c.shape, pad)?;
            let n = match foreground {
                Foreground::Above(threshold) => patch.values().iter().filter(|v| **v > threshold).count(),
                Foreground::Labelled => {
                    let labels = patch.labels().ok_or_else(|| {
                        Error::input(scan.id(), "has no labels, and `foreground` asks for them")
                    })?;
                    labels.iter().filter(|l| **l != 0).count()
                }
            };
            if n as f64 >= f64::from(c.share) * patch.values().len() as f64 {
                return Ok(patch);
            }
            if best.as_ref().is_none_or(|(most, _)| n > *most) {
                best = Some((n, patch));
            }
        }
        best.map(|(_, patch)| patch).ok_or_else(|| Error::input(scan.id(), "no place was tried"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    fn scan(shape: [usize; 3]) -> Arc<dyn Scan> {
        let values = (0..shape.iter().product::<usize>()).map(|v| v as f32).collect();
        Arc::new(Volume::new("v", Grid::with_spacing(shape, [1.0; 3]).unwrap(), values).unwrap())
    }

    fn patch(config: PatchConfig) -> RandomPatch {
        RandomPatch::new(config).unwrap()
    }

    #[test]
    fn every_place_is_drawn_and_only_those_inside() {
        let transform = patch(PatchConfig { shape: [2, 3, 1], ..Default::default() });
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..400 {
            let p = transform.apply(scan([3, 4, 2]), &mut Key::new(1).fold(i).rng()).unwrap();
            assert_eq!(p.shape(), [2, 3, 1]);
            seen.insert(p.values()[0] as usize);
            // The same key draws the same place.
            assert_eq!(p, transform.apply(scan([3, 4, 2]), &mut Key::new(1).fold(i).rng()).unwrap());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 8, 9, 10, 11]);
    }

    #[test]
    fn foreground_is_preferred() {
        let shape = [16, 16, 16];
        let mut values = vec![0f32; 4096];
        values[4095] = 1.0;
        let labels = values.iter().map(|v| *v as u16).collect();
        let volume = Volume::new("v", Grid::with_spacing(shape, [1.0; 3]).unwrap(), values)
            .unwrap()
            .with_labels(labels)
            .unwrap();
        let volume: Arc<dyn Scan> = Arc::new(volume);
        let hits = |foreground| {
            let config =
                PatchConfig { shape: [10; 3], foreground, share: 0.001, tries: 60, ..Default::default() };
            let t = patch(config);
            (0..100)
                .filter(|i| {
                    t.apply(volume.clone(), &mut Key::new(2).fold(*i).rng()).unwrap().values().contains(&1.0)
                })
                .count()
        };
        // One place of 343 holds it.
        let by_chance = hits(None);
        assert!(by_chance < 5, "{by_chance}");
        assert!(hits(Some(Foreground::Above(0.5))) > 3 * by_chance.max(2));
        assert_eq!(hits(Some(Foreground::Above(0.5))), hits(Some(Foreground::Labelled)));
        let t = patch(PatchConfig {
            shape: [2; 3],
            foreground: Some(Foreground::Labelled),
            ..Default::default()
        });
        assert!(t.apply(scan([4; 3]), &mut Key::new(0).rng()).unwrap_err().to_string().contains("no labels"));
    }

    #[test]
    fn small_volumes_are_padded_or_refused() {
        let strict = patch(PatchConfig { shape: [4, 2, 2], ..Default::default() });
        let e = strict.apply(scan([2, 2, 2]), &mut Key::new(0).rng()).unwrap_err().to_string();
        assert!(e.contains("2 x 2 x 2") && e.contains("4 x 2 x 2"), "{e}");
        let padded = patch(PatchConfig { shape: [4, 2, 2], pad: Some(-1.0), ..Default::default() });
        let p = padded.apply(scan([2, 2, 2]), &mut Key::new(0).rng()).unwrap();
        assert_eq!(p.values()[..5], [-1.0, -1.0, -1.0, -1.0, 0.0]);
        assert_eq!(p.values().iter().filter(|v| **v == -1.0).count(), 8);
        assert!(RandomPatch::new(PatchConfig { tries: 0, ..Default::default() }).is_err());
    }

    #[test]
    fn the_data_set_counts() {
        let set = Patches::new(vec![scan([2; 3]), scan([3; 3])], 4).unwrap();
        assert_eq!((set.len(), set.scan_of(3), set.scan_of(4)), (8, 0, 1));
        assert_eq!(set.get(7).unwrap().grid().shape(), [3; 3]);
        assert!(set.get(8).err().unwrap().to_string().contains("below 8"));
        assert!(Patches::new(vec![], 4).is_err());
    }
}
