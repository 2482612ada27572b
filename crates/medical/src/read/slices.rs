//! What every reader gives and heeds: slices one after the other, and the limits of what is read.

use crate::grid::{Stored, show, voxels_of};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The treatment of values that are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFinite {
    /// An error that names the file and the first such voxel.
    #[default]
    Refuse,
    /// They are replaced by this value.
    Replace(f32),
}

/// Another grid than that of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resampling {
    /// Along the axes of the world, with the spacing of the file: a tilted gantry, a sheared or an oblique
    /// grid is interpolated linearly (labels take the nearest). See [`upright`](crate::transform::upright).
    Upright,
}

/// Settings and limits of reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadConfig {
    /// A file that announces more voxels is refused before memory is asked for.
    pub max_voxels: u64,
    /// Values that are not finite.
    pub not_finite: NotFinite,
    /// Which volume of a file of several (4-D NIfTI or MetaImage), from 0; without it such a file is refused.
    /// Files of one volume are read as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// The grid that volumes are brought to as they are opened; that of the file if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resample: Option<Resampling>,
}

impl Default for ReadConfig {
    fn default() -> Self {
        // 1024^3: the largest CT in use, 4 GiB of f32.
        ReadConfig { max_voxels: 1 << 30, not_finite: NotFinite::Refuse, frame: None, resample: None }
    }
}

/// The slices of a volume in the order of its file: `i` runs fastest, and slice `k` follows slice `k - 1`.
pub trait Slices: Send {
    /// Its name in messages.
    fn id(&self) -> &str;

    /// How the file stores the volume.
    fn stored(&self) -> &Stored;

    /// Whether every value is known to be a whole number that 16 bits with a sign hold.
    fn is_i16(&self) -> bool;

    /// Lowest and highest value that stand for "nothing was measured here".
    fn padding(&self) -> Option<[f32; 2]> {
        None
    }

    /// Fills `out`, a whole number of slices, with the next ones.
    ///
    /// # Errors
    /// If the file ends or is damaged.
    fn next(&mut self, out: &mut [f32]) -> Result<()>;
}

/// Applies the policy of values that are not finite to slices that start with number `first`.
pub(crate) fn finite(
    id: &str,
    stored: &Stored,
    first: usize,
    values: &mut [f32],
    policy: NotFinite,
) -> Result<()> {
    match policy {
        NotFinite::Replace(with) => values.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = with),
        NotFinite::Refuse => {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let [i, j, _] = stored.shape();
                let place = [at % i, at / i % j, first + at / (i * j)];
                return Err(Error::input(
                    id,
                    format!(
                        "the value of voxel {place:?} is {}; expected finite values (volumes.read.not_finite = {{ replace = 0.0 }} replaces them)",
                        values[at]
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Which of the `volumes` of a file is read.
pub(super) fn frame_of(id: &str, volumes: usize, config: &ReadConfig) -> Result<usize> {
    match config.frame {
        // A mask of one volume goes with whichever is chosen of an image.
        _ if volumes == 1 => Ok(0),
        None => Err(Error::input(
            id,
            format!(
                "is a 4-D file of {volumes} volumes, expected one: volumes.read.frame = 0 takes the first, {} the \
                 last",
                volumes - 1
            ),
        )),
        Some(frame) if frame < volumes => Ok(frame),
        Some(frame) => {
            Err(Error::input(id, format!("has no volume {frame}, expected a number below {volumes}")))
        }
    }
}

/// Refuses shapes that are empty or larger than the configuration takes.
pub(super) fn check_shape(id: &str, shape: [usize; 3], config: &ReadConfig) -> Result<()> {
    match voxels_of(shape) {
        Some(n) if n > 0 && n as u64 <= config.max_voxels => Ok(()),
        Some(0) => {
            Err(Error::input(id, format!("{} voxels, expected at least one along each axis", show(shape))))
        }
        _ => Err(Error::input(
            id,
            format!(
                "announces {} voxels, more than volumes.read.max_voxels = {}",
                show(shape),
                config.max_voxels
            ),
        )),
    }
}
