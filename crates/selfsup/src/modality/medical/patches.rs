//! Patches of volumes: random ones to train on, and a grid of them over the foreground, whose features and
//! predictions are averaged.

use selfsup_core::data::{Collate, Dataset, Transform};
use selfsup_core::objective::{Inputs, Views};
use selfsup_core::{Error, Key, Result, Rng};
use selfsup_datasets::Records;
use selfsup_medical::Volume;
use selfsup_medical::augment::Augment;
use selfsup_medical::blocks::Scan;
use selfsup_medical::data::Collated;
use selfsup_medical::sliding::starts;
use std::sync::Arc;

/// Least share of bright voxels in a patch that counts.
const FOREGROUND: f64 = 0.1;

/// Volumes, each so many times an epoch.
pub struct Draws {
    /// The volumes.
    pub volumes: Vec<Arc<dyn Scan>>,
    /// How often each comes.
    pub times: usize,
}

impl Dataset for Draws {
    type Item = Arc<dyn Scan>;

    fn len(&self) -> usize {
        self.volumes.len() * self.times
    }

    fn get(&self, index: usize) -> Result<Arc<dyn Scan>> {
        let found = self.volumes.get(index / self.times.max(1)).cloned();
        found.ok_or_else(|| {
            Error::input("volumes", format!("there is no patch {index}, expected one below {}", self.len()))
        })
    }
}

/// Draws a part of a volume and makes the views of it.
pub struct View(pub Augment);

impl Transform<Arc<dyn Scan>> for View {
    type Out = Vec<Volume>;

    fn apply(&self, scan: Arc<dyn Scan>, rng: &mut Rng) -> Result<Vec<Volume>> {
        let (region, shape) = (self.0.region(), scan.grid().shape());
        // A volume that is smaller than the region lies in its middle.
        let start = [0, 1, 2].map(|a| match shape[a].checked_sub(region[a]) {
            Some(spare) => rng.below(spare + 1) as isize,
            None => -(((region[a] - shape[a]) / 2) as isize),
        });
        self.0.apply(scan.part(start, region, 0.0)?, rng)
    }
}

/// Patches at given places of volumes.
pub struct Places {
    volumes: Vec<Arc<dyn Scan>>,
    /// Which volume, and the first voxel (z, y, x).
    places: Vec<(usize, [isize; 3])>,
}

impl Places {
    /// The middle of each volume.
    pub fn middle(volumes: Vec<Arc<dyn Scan>>, size: [usize; 3]) -> Self {
        let start = |d: &Arc<dyn Scan>| {
            [0, 1, 2].map(|a| (d.grid().shape()[a] as isize - size[a] as isize).div_euclid(2))
        };
        let places = volumes.iter().enumerate().map(|(i, d)| (i, start(d))).collect();
        Places { volumes, places }
    }

    /// A grid of patches that lie side by side, the last ones flush with the end, over the foreground of each
    /// volume: patches of which a tenth is brighter than the volume's mean. Where there is none, the patch
    /// with the most of it.
    ///
    /// # Errors
    /// If a volume cannot be read.
    pub fn grid(volumes: Vec<Arc<dyn Scan>>, size: [usize; 3]) -> Result<Self> {
        let mut places = Vec::new();
        for (i, scan) in volumes.iter().enumerate() {
            let starts = all_places(scan.grid().shape(), size);
            // A volume in blocks is read patch by patch, never whole.
            let (mut sum, mut count) = (0.0, 0usize);
            for &start in &starts {
                let part = scan.part(start, size, 0.0)?;
                sum += part.values().iter().map(|v| f64::from(*v)).sum::<f64>();
                count += part.values().len();
            }
            let mean = sum / count.max(1) as f64;
            let mut shares = Vec::with_capacity(starts.len());
            for &start in &starts {
                let part = scan.part(start, size, 0.0)?;
                shares.push(
                    part.values().iter().filter(|v| f64::from(**v) > mean).count() as f64
                        / part.values().len().max(1) as f64,
                );
            }
            let most = shares.iter().copied().fold(0.0, f64::max);
            let least = FOREGROUND.min(most);
            places.extend(
                starts
                    .into_iter()
                    .zip(shares)
                    .filter(|(_, share)| *share >= least)
                    .map(|(start, _)| (i, start)),
            );
        }
        Ok(Places { volumes, places })
    }

    /// The volume of each patch.
    pub fn owners(&self) -> Vec<usize> {
        self.places.iter().map(|p| p.0).collect()
    }
}

/// First voxels of patches side by side; a volume that is smaller lies in the middle of one.
fn all_places(shape: [usize; 3], size: [usize; 3]) -> Vec<[isize; 3]> {
    let along = [0, 1, 2].map(|a| match shape[a].checked_sub(size[a]) {
        Some(_) => starts(shape[a], size[a], size[a]).into_iter().map(|s| s as isize).collect(),
        None => vec![-(((size[a] - shape[a]) / 2) as isize)],
    });
    let mut all = Vec::new();
    for &z in &along[0] {
        for &y in &along[1] {
            all.extend(along[2].iter().map(|&x| [z, y, x]));
        }
    }
    all
}

impl Dataset for Places {
    type Item = (Arc<dyn Scan>, [isize; 3]);

    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, index: usize) -> Result<Self::Item> {
        let found =
            self.places.get(index).and_then(|(i, start)| Some((self.volumes.get(*i)?.clone(), *start)));
        found.ok_or_else(|| {
            Error::input("volumes", format!("there is no patch {index}, expected one below {}", self.len()))
        })
    }
}

/// Reads a patch of this many voxels.
pub struct Cutting(pub [usize; 3]);

impl Transform<(Arc<dyn Scan>, [isize; 3])> for Cutting {
    type Out = Vec<Volume>;

    fn apply(&self, (scan, start): (Arc<dyn Scan>, [isize; 3]), _rng: &mut Rng) -> Result<Vec<Volume>> {
        Ok(vec![scan.part(start, self.0, 0.0)?])
    }
}

/// The views of a method, with the labels of the volumes that they are of if it reads them.
pub struct WithLabels {
    /// The volumes.
    pub records: Arc<dyn Records>,
    /// How often each comes ([`Draws`]).
    pub times: usize,
    /// Whether the method reads labels.
    pub labels: bool,
    /// How views are stacked.
    pub views: Collated,
}

impl Collate<Vec<Volume>> for WithLabels {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Volume>>, indices: &[usize], key: Key) -> Result<Views> {
        let mut views = self.views.collate(items, indices, key)?;
        if self.labels {
            views.labels = indices.iter().map(|&i| self.records.label(i / self.times.max(1))).collect();
        }
        Ok(views)
    }
}

/// Patches with the labels and numbers of the records that they are of.
pub struct Stacked {
    /// The records.
    pub records: Arc<dyn Records>,
    /// The record of each patch; without it they are the same.
    pub owners: Option<Vec<usize>>,
}

impl Collate<Vec<Volume>> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Vec<Volume>>, indices: &[usize], key: Key) -> Result<Inputs> {
        let views = Collated::default().collate(items, indices, key)?;
        let x = views.globals.into_iter().next().ok_or_else(|| Error::input("batch", "no views"))?;
        let owner = |i: &usize| self.owners.as_ref().map_or(Some(*i), |o| o.get(*i).copied());
        let indices: Vec<usize> = indices.iter().filter_map(owner).collect();
        let labels = indices.iter().filter_map(|&i| self.records.label(i)).collect();
        Ok(Inputs { x, valid: None, labels, indices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_medical::Grid;

    fn drawn(shape: [usize; 3], value: impl Fn([usize; 3]) -> f32) -> Arc<dyn Scan> {
        let [_, h, w] = shape;
        let values =
            (0..shape.iter().product::<usize>()).map(|i| value([i / (h * w), i / w % h, i % w])).collect();
        let volume = Volume::new("v", Grid::with_spacing(shape, [1.0; 3]).unwrap(), values).unwrap();
        Arc::new(volume)
    }

    #[test]
    fn a_grid_covers_the_foreground() {
        // Bright where x < 6: of the places 0, 4, 6 along x the first two have a tenth of that, the third has
        // none.
        let v = drawn([4, 4, 10], |[_, _, x]| if x < 6 { 1.0 } else { 0.0 });
        let grid = Places::grid(vec![v.clone()], [4; 3]).unwrap();
        assert_eq!(grid.places, [(0, [0, 0, 0]), (0, [0, 0, 4])]);
        // Without contrast there is one at least; a small volume lies in the middle of its patch.
        let flat = drawn([4, 4, 2], |_| 3.0);
        let grid = Places::grid(vec![flat, v], [4; 3]).unwrap();
        assert_eq!((grid.places[0], grid.owners()), ((0, [0, 0, -1]), vec![0, 1, 1]));
        let (part, start) = grid.get(2).unwrap();
        let cut = Cutting([4; 3]).apply((part, start), &mut Key::new(0).rng()).unwrap();
        assert_eq!(cut[0].values().iter().sum::<f32>(), 32.0);
        assert!(grid.get(3).is_err());
        assert_eq!(Places::middle(vec![drawn([5, 9, 3], |_| 0.0)], [4; 3]).places, [(0, [0, 2, -1])]);
    }
}
