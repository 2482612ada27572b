//! Changes of volumes before a network sees them: one idea a file.
//!
//! A transform takes a [`Volume`] and returns another; labels move with the voxels, and whatever is random
//! comes from the generator that is handed in. Intensities are changed only where labels are not.

pub mod bezier;
pub mod bias;
pub mod crop;
pub mod degrade;
pub mod elastic;
pub mod fitted;
pub mod flip;
pub mod gamma;
pub mod noise;
pub mod orient;
pub mod paint;
pub mod resample;
pub mod rotate;
pub mod sample;
pub mod scale;
pub mod shuffle;

pub use bezier::Bezier;
pub use bias::BiasField;
pub use crop::{CropCenter, CropForeground, CropRandom};
pub use degrade::LowResolution;
pub use elastic::Elastic;
pub use fitted::{Fitted, Values};
pub use flip::Flip;
pub use gamma::Gamma;
pub use noise::Noise;
pub use orient::{orient, orient_back};
pub use paint::{InPaint, OutPaint};
pub use resample::{Resample, resample_to, upright, upright_grid};
pub use rotate::Rotate;
pub use sample::Interpolation;
pub use scale::Scale;
pub use shuffle::LocalShuffle;

use crate::Volume;
use sample::{warp, warp_labels};
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};

/// Any transform from volume to volume.
pub type Step = Box<dyn Transform<Volume, Out = Volume>>;

/// Transforms one after the other.
pub struct Pipeline(Vec<Step>);

impl Pipeline {
    /// In the order of `steps`.
    pub fn new(steps: Vec<Step>) -> Self {
        Pipeline(steps)
    }
}

impl Transform<Volume> for Pipeline {
    type Out = Volume;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Volume> {
        self.0.iter().try_fold(volume, |v, step| step.apply(v, rng))
    }
}

/// The volume with other values (and labels) on another grid, or its own.
pub(crate) fn rebuilt(
    volume: &Volume,
    grid: crate::Grid,
    values: Vec<f32>,
    labels: Option<Vec<u16>>,
) -> Result<Volume> {
    let made = Volume::new(volume.id(), grid, values)?;
    match labels {
        Some(labels) => made.with_labels(labels),
        None => Ok(made),
    }
}

/// The volume with the value at `place(z, y, x)` of each voxel, on its own grid: linear, and the lowest value
/// where that lies outside; labels from the nearest voxel, and 0 outside.
pub(crate) fn warped(
    volume: &Volume,
    place: impl Fn([usize; 3]) -> [f64; 3] + Sync + Copy,
) -> Result<Volume> {
    let (shape, (low, _)) = (volume.shape(), extremes(volume.values()));
    let values = warp(volume.values(), shape, shape, low, Interpolation::Linear, place);
    let labels = volume.labels().map(|l| warp_labels(l, shape, shape, place));
    rebuilt(volume, volume.grid().clone(), values, labels)
}

/// Refuses a range that is not one, by the name of its key.
pub(crate) fn check_range(key: &str, [low, high]: [f32; 2], least: f32, most: f32) -> Result<()> {
    if low >= least && low <= high && high <= most {
        return Ok(());
    }
    Err(Error::config(format!(
        "augment.{key} = [{low}, {high}]: expected two numbers from {least} to {most}, the smaller first"
    )))
}

/// Refuses what is no probability.
pub(crate) fn check_share(key: &str, p: f32) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        Ok(())
    } else {
        Err(Error::config(format!("augment.{key} = {p}: expected a probability from 0 to 1")))
    }
}

/// Smallest and largest value; `(0, 0)` of none.
pub(crate) fn extremes(values: &[f32]) -> (f32, f32) {
    let seen = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
    if seen.0 <= seen.1 { seen } else { (0.0, 0.0) }
}

#[cfg(test)]
pub(crate) mod testing {
    use crate::{Grid, Volume};
    use selfsup_core::{Key, Rng};

    /// A volume of noise around a smooth blob, with labels that count the voxels.
    pub fn volume(shape: [usize; 3], seed: u64) -> Volume {
        let mut rng = Key::new(seed).rng();
        let n = shape.iter().product::<usize>();
        let values = (0..n).map(|i| (i as f32 * 0.1).sin() + 0.3 * rng.normal()).collect();
        let grid = Grid::with_spacing(shape, [2.0, 1.5, 1.0]).expect("a grid");
        let labels = (0..n).map(|i| (i % 60_000) as u16).collect();
        Volume::new("test", grid, values).and_then(|v| v.with_labels(labels)).expect("a volume")
    }

    pub fn rng(seed: u64) -> Rng {
        Key::new(seed).named("test").rng()
    }
}
