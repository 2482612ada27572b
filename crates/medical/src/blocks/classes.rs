//! Where the classes of a labelled volume lie, to draw patches about their voxels.
//!
//! A target of a few voxels is in hardly any patch that is cut from anywhere, so nnU-Net (Isensee et al. 2021,
//! doi 10.1038/s41592-020-01008-z) centres a third of its patches on a voxel of a class that occurs: first the
//! class is drawn, then the voxel, so a small class comes as often as a large one.

use super::layout::EDGE;
use super::patches::Scan;
use selfsup_core::{Error, Key, Result, Rng};

/// Voxels of each class of a volume but the background: at most so many of each, drawn evenly.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassVoxels {
    shape: [usize; 3],
    lowest: f32,
    /// Of each class that occurs, as indices `(z h + y) w + x`.
    voxels: Vec<Vec<u64>>,
}

/// An even choice of what passes by (algorithm R, Vitter 1985).
#[derive(Default)]
struct Reservoir {
    seen: usize,
    kept: Vec<u64>,
}

impl ClassVoxels {
    /// Looks through the labels of `scan`, a layer of blocks at a time; keeps at most `most` voxels of each
    /// class. The same volume gives the same voxels.
    ///
    /// # Errors
    /// If the volume has no labels or cannot be read.
    pub fn of(scan: &dyn Scan, most: usize) -> Result<Self> {
        let shape = scan.grid().shape();
        let [d, h, w] = shape;
        let mut rng = Key::new(0).named("class voxels").rng();
        let (mut classes, mut lowest) = (Vec::<Reservoir>::new(), f32::INFINITY);
        for z in (0..d).step_by(EDGE) {
            let part = scan.part([z as isize, 0, 0], [EDGE.min(d - z), h, w], 0.0)?;
            lowest = part.values().iter().fold(lowest, |low, v| low.min(*v));
            let labels = part.labels().ok_or_else(|| Error::input(scan.id(), "has no labels"))?;
            let first = (z * h * w) as u64;
            for (i, label) in labels.iter().enumerate().filter(|(_, label)| **label > 0) {
                let class = usize::from(*label) - 1;
                if classes.len() <= class {
                    classes.resize_with(class + 1, Reservoir::default);
                }
                classes[class].see(first + i as u64, most, &mut rng);
            }
        }
        let voxels = classes.into_iter().map(|c| c.kept).filter(|kept| !kept.is_empty()).collect();
        Ok(ClassVoxels { shape, lowest, voxels })
    }

    /// A voxel (z, y, x) of a class that occurs, each class as likely as another; none where only background
    /// is.
    pub fn draw(&self, rng: &mut Rng) -> Option<[usize; 3]> {
        if self.voxels.is_empty() {
            return None;
        }
        let of = &self.voxels[rng.below(self.voxels.len())];
        let at = *of.get(rng.below(of.len()))? as usize;
        let [_, h, w] = self.shape;
        Some([at / (h * w), at / w % h, at % w])
    }

    /// Lowest value of the volume.
    pub fn lowest(&self) -> f32 {
        self.lowest
    }
}

impl Reservoir {
    fn see(&mut self, voxel: u64, most: usize, rng: &mut Rng) {
        self.seen += 1;
        if self.kept.len() < most {
            self.kept.push(voxel);
            return;
        }
        if let Some(place) = self.kept.get_mut(rng.below(self.seen)) {
            *place = voxel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Grid, Volume};
    use std::collections::BTreeMap;

    /// 40 x 6 x 5 voxels: class 3 everywhere below z = 30, class 1 in one voxel, nothing else.
    fn volume() -> Volume {
        let grid = Grid::with_spacing([40, 6, 5], [1.0; 3]).unwrap();
        let labels = (0..1200).map(|i| if i == 1199 { 1 } else { 3 * u16::from(i < 900) }).collect();
        let values = (0..1200).map(|i| i as f32 - 7.0).collect();
        Volume::new("v", grid, values).unwrap().with_labels(labels).unwrap()
    }

    #[test]
    fn classes_are_drawn_alike_and_voxels_evenly() {
        let found = ClassVoxels::of(&volume(), 50).unwrap();
        assert_eq!((found.lowest(), found.voxels.len()), (-7.0, 2));
        assert_eq!(found.voxels.iter().map(Vec::len).collect::<Vec<_>>(), [1, 50]);
        assert_eq!(found, ClassVoxels::of(&volume(), 50).unwrap());
        // Thirds of the large class are kept alike: 17 each, with a deviation of 3.3.
        let third = |t: u64| found.voxels[1].iter().filter(|v| **v / 300 == t).count();
        assert!((0..3).all(|t| (6..29).contains(&third(t))), "{:?}", [third(0), third(1), third(2)]);
        let mut counts = BTreeMap::new();
        let mut rng = Key::new(5).rng();
        for _ in 0..1000 {
            let at = found.draw(&mut rng).unwrap();
            let label = volume().labels().unwrap()[(at[0] * 6 + at[1]) * 5 + at[2]];
            *counts.entry(label).or_insert(0) += 1;
        }
        // 500 each, with a deviation of 16.
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 3]);
        assert!((400..600).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn background_alone_has_none_and_labels_are_needed() {
        let grid = Grid::with_spacing([2, 2, 2], [1.0; 3]).unwrap();
        let plain = Volume::new("plain", grid, vec![1.0; 8]).unwrap();
        assert!(ClassVoxels::of(&plain, 9).unwrap_err().to_string().contains("plain: has no labels"));
        let empty = ClassVoxels::of(&plain.with_labels(vec![0; 8]).unwrap(), 9).unwrap();
        assert_eq!(empty.draw(&mut Key::new(0).rng()), None);
    }
}
