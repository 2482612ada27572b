//! Labelled patches of volumes to train a segmentation on: from anywhere, or about a voxel of a class.

use selfsup_core::data::{Dataset, Transform};
use selfsup_core::{Error, Result, Rng};
use selfsup_medical::Volume;
use selfsup_medical::augment::AugmentConfig;
use selfsup_medical::blocks::{ClassVoxels, Scan};
use selfsup_medical::transform::Pipeline;
use std::sync::Arc;

/// Voxels of classes that are kept of all volumes together: 8 bytes each.
const KEPT: usize = 1 << 23;
/// Voxels that are kept of a class of a volume at most, and at least.
const OF_CLASS: [usize; 2] = [4096, 16];

/// A labelled volume, and where its classes lie.
pub struct Drawn {
    scan: Arc<dyn Scan>,
    voxels: ClassVoxels,
}

/// Labelled volumes, each so many times an epoch.
pub struct LabelledDraws {
    volumes: Vec<Arc<Drawn>>,
    times: usize,
}

impl LabelledDraws {
    /// Looks through the labels of `volumes`, which have at most so many `classes`.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn new(volumes: Vec<Arc<dyn Scan>>, classes: usize, times: usize) -> Result<Self> {
        let [most, least] = OF_CLASS;
        let kept = (KEPT / (volumes.len() * classes).max(1)).clamp(least, most);
        let drawn = |scan: Arc<dyn Scan>| {
            let voxels = ClassVoxels::of(&*scan, kept)?;
            Ok(Arc::new(Drawn { scan, voxels }))
        };
        Ok(LabelledDraws { volumes: volumes.into_iter().map(drawn).collect::<Result<_>>()?, times })
    }
}

impl Dataset for LabelledDraws {
    type Item = Arc<Drawn>;

    fn len(&self) -> usize {
        self.volumes.len() * self.times
    }

    fn get(&self, index: usize) -> Result<Arc<Drawn>> {
        let found = self.volumes.get(index / self.times.max(1)).cloned();
        found.ok_or_else(|| {
            Error::input("volumes", format!("there is no patch {index}, expected one below {}", self.len()))
        })
    }
}

/// Reads a part of a volume and augments it.
pub struct LabelledPatch {
    size: [usize; 3],
    /// Sides of the part: the patch with the margin that turning needs.
    region: [usize; 3],
    steps: Pipeline,
    foreground: f32,
}

impl LabelledPatch {
    /// Of which the share `foreground` lies about a voxel of a class.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn new(augment: &AugmentConfig, foreground: f64) -> Result<Self> {
        let (region, steps) = augment.labelled_part()?;
        Ok(LabelledPatch { size: augment.size, region, steps, foreground: foreground as f32 })
    }

    /// The first voxel of the part. About a voxel of a class the patch, without its margin, stays inside the
    /// volume: the voxel is in the patch.
    fn start(&self, shape: [usize; 3], voxels: &ClassVoxels, rng: &mut Rng) -> [isize; 3] {
        let about =
            if self.foreground > 0.0 && rng.chance(self.foreground) { voxels.draw(rng) } else { None };
        [0, 1, 2].map(|a| {
            let (region, size) = (self.region[a] as isize, self.size[a] as isize);
            let (length, margin) = (shape[a] as isize, (region - size) / 2);
            match (about, length - region) {
                (Some(at), _) if length >= size => {
                    (at[a] as isize - size / 2).clamp(0, length - size) - margin
                }
                (None, free @ 0..) => rng.below(free as usize + 1) as isize,
                // A volume that is smaller lies in the middle.
                (_, free) => -(-free / 2),
            }
        })
    }
}

impl Transform<Arc<Drawn>> for LabelledPatch {
    type Out = Volume;

    fn apply(&self, drawn: Arc<Drawn>, rng: &mut Rng) -> Result<Volume> {
        let start = self.start(drawn.scan.grid().shape(), &drawn.voxels, rng);
        self.steps.apply(drawn.scan.part(start, self.region, drawn.voxels.lowest())?, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;
    use selfsup_medical::Grid;

    /// 30 x 40 x 50 voxels of which three are of class 1, at the edges and in the middle, or none.
    fn drawn(targets: bool) -> LabelledDraws {
        let grid = Grid::with_spacing([30, 40, 50], [1.0; 3]).unwrap();
        let target = |i: usize| targets && [0, 59_999, 31_025].contains(&i);
        let values = (0..60_000).map(|i| if target(i) { 5.0 } else { -1.0 }).collect();
        let labels = (0..60_000).map(|i| u16::from(target(i))).collect();
        let volume = Volume::new("v", grid, values).unwrap().with_labels(labels).unwrap();
        LabelledDraws::new(vec![Arc::new(volume)], 2, 4).unwrap()
    }

    fn plain(size: [usize; 3]) -> AugmentConfig {
        let mut augment = AugmentConfig { size, flip: [0.0; 3], elastic: 0.0, ..AugmentConfig::default() };
        (augment.gamma_p, augment.noise_p, augment.bias_p) = (0.0, 0.0, 0.0);
        augment
    }

    fn holding(patch: &LabelledPatch, draws: &LabelledDraws) -> usize {
        let one = |i: u64| patch.apply(draws.get(0).unwrap(), &mut Key::new(1).fold(i).rng()).unwrap();
        let holds = |i: &u64| {
            let made = one(*i);
            assert_eq!((made.shape(), made.labels()), ([8, 8, 8], one(*i).labels()));
            made.labels().unwrap().contains(&1)
        };
        (0..400).filter(holds).count()
    }

    #[test]
    fn a_third_of_the_patches_lies_about_a_target() {
        // Unturned, so that every patch about a target holds it, at the edges too.
        let still = AugmentConfig { rotate: [0.0; 3], zoom: [1.0; 2], ..plain([8; 3]) };
        let (draws, of) = (drawn(true), |share| LabelledPatch::new(&still, share).unwrap());
        // Of 400 patches from anywhere 3 * 512 / 60,000 hold a voxel: about 10. Of 400 chances of 0.33 there
        // are 132, with a deviation of 9.
        let anywhere = holding(&of(0.0), &draws);
        assert!(anywhere < 25, "{anywhere}");
        let third = holding(&of(0.33), &draws);
        assert!((100..180).contains(&third), "{third}");
        let all = of(1.0);
        assert_eq!(holding(&all, &draws), 400);
        // In the middle where the volume goes on.
        let mut rng = Key::new(0).rng();
        let voxels = &draws.get(0).unwrap().voxels;
        for _ in 0..50 {
            let start = all.start([30, 40, 50], voxels, &mut rng);
            // Voxel 31,025 is (15, 20, 25).
            assert!([[0; 3], [22, 32, 42], [11, 16, 21]].contains(&start), "{start:?}");
        }
    }

    #[test]
    fn small_volumes_and_volumes_without_targets() {
        let draws = drawn(false);
        let patch = LabelledPatch::new(&plain([8; 3]), 1.0).unwrap();
        assert_eq!(holding(&patch, &draws), 0);
        assert_eq!(draws.len(), 4);
        assert!(draws.get(4).is_err());
        // The volume lies in the middle of a larger patch, padded with its lowest value.
        let still = AugmentConfig { rotate: [0.0; 3], zoom: [1.0; 2], ..plain([40, 40, 40]) };
        let made = LabelledPatch::new(&still, 1.0)
            .unwrap()
            .apply(drawn(true).get(0).unwrap(), &mut Key::new(0).rng())
            .unwrap();
        assert_eq!((made.shape(), made.at([0; 3])), ([40, 40, 40], Some(-1.0)));
        let z: Vec<usize> =
            (0..64_000).filter(|i| made.labels().unwrap()[*i] == 1).map(|i| i / 1600).collect();
        assert!(!z.is_empty() && z.iter().all(|z| [5, 20, 34].contains(z)), "{z:?}");
    }
}
