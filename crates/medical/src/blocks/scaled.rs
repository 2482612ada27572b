//! A volume in blocks whose intensities are scaled as they are read, by statistics of the whole volume.

use super::file::BlockVolume;
use super::layout::EDGE;
use super::patches::Scan;
use super::private;
use crate::grid::{Grid, Stored};
use crate::transform::{Fitted, Scale, Values};
use crate::volume::Volume;
use selfsup_core::checkpoint::write_text;
use selfsup_core::{Error, Result};

impl Values for BlockVolume {
    /// A layer of blocks at a time.
    fn each(&self, see: &mut dyn FnMut(&[f32])) -> Result<()> {
        let [d, h, w] = self.grid().shape();
        for z in (0..d).step_by(EDGE) {
            see(self.part([z as isize, 0, 0], [EDGE.min(d - z), h, w], 0.0)?.values());
        }
        Ok(())
    }

    fn padding(&self) -> Option<[f32; 2]> {
        BlockVolume::padding(self)
    }
}

/// A volume in blocks, scaled: every part has the values that it would have in the whole volume in memory.
pub struct Scaled {
    volume: BlockVolume,
    fitted: Fitted,
}

impl Scaled {
    /// Finds the statistics of `volume` that `scale` wants, or reads them from the file that the first time
    /// left beside its blocks.
    ///
    /// # Errors
    /// If blocks cannot be read, or the file cannot be written.
    pub fn new(volume: BlockVolume, scale: &Scale) -> Result<Self> {
        let json = |e| Error::file(volume.path(), format!("the scaling cannot be written: {e}"));
        let name = serde_json::to_vec(scale).map_err(json)?;
        let ending = format!("{}.scale.json", &blake3::hash(&name).to_hex()[..16]);
        let beside = volume.path().with_extension(ending);
        let sum = |bits: &[u32; 7]| crc32fast::hash(&bits.map(u32::to_le_bytes).concat());
        // What cannot be read, or is damaged, is found anew.
        let kept = selfsup_core::file::read_up_to(&beside, 1 << 16)
            .ok()
            .and_then(|text| serde_json::from_slice::<([u32; 7], u32)>(&text).ok())
            .filter(|(bits, of)| sum(bits) == *of);
        let fitted = match kept {
            Some((bits, _)) => Fitted::from_bits(bits),
            None => {
                let fitted = scale.fit(&volume)?;
                let bits = fitted.to_bits();
                write_text(&beside, &serde_json::to_string(&(bits, sum(&bits))).map_err(json)?)?;
                private::for_owner(&beside)?;
                fitted
            }
        };
        Ok(Scaled { volume, fitted })
    }
}

impl Scan for Scaled {
    fn id(&self) -> &str {
        self.volume.id()
    }

    fn grid(&self) -> &Grid {
        self.volume.grid()
    }

    fn stored(&self) -> Option<&Stored> {
        Some(self.volume.stored())
    }

    /// As of the scaled volume: `pad` is a scaled value.
    fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        // No voxel of a file of blocks is NaN: those that are lie outside.
        let mut part = self.volume.part(start, shape, f32::NAN)?;
        part.values_mut().iter_mut().for_each(|v| *v = if v.is_nan() { pad } else { self.fitted.of(*v) });
        part.set_padding(None);
        Ok(part)
    }
}
