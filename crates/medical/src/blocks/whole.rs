//! A volume in memory as slices, to be turned into blocks.

use crate::grid::Stored;
use crate::read::Slices;
use crate::volume::Volume;
use selfsup_core::{Error, Result};

/// Numbers in the order of RAS+.
pub(super) struct Whole {
    id: String,
    stored: Stored,
    numbers: Numbers,
    padding: Option<[f32; 2]>,
    next: usize,
}

enum Numbers {
    Values(Vec<f32>),
    Labels(Vec<u16>),
}

/// A grid of RAS+ as a file would store it.
fn stored(volume: &Volume) -> Result<Stored> {
    let [d, h, w] = volume.shape();
    let stored = Stored::new([w, h, d], *volume.grid().affine())?;
    if stored.is_ras() {
        return Ok(stored);
    }
    Err(Error::input(volume.id(), "its axes are not those of RAS+, which blocks have"))
}

/// The values.
pub(super) fn values_of(volume: Volume) -> Result<Whole> {
    let (id, stored, padding) = (volume.id().to_string(), stored(&volume)?, volume.padding());
    Ok(Whole { id, stored, numbers: Numbers::Values(volume.into_parts().1), padding, next: 0 })
}

/// The labels, if there are any.
pub(super) fn labels_of(volume: &Volume) -> Result<Option<Whole>> {
    let Some(labels) = volume.labels() else { return Ok(None) };
    let numbers = Numbers::Labels(labels.to_vec());
    Ok(Some(Whole { id: volume.id().to_string(), stored: stored(volume)?, numbers, padding: None, next: 0 }))
}

impl Slices for Whole {
    fn id(&self) -> &str {
        &self.id
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn is_i16(&self) -> bool {
        matches!(&self.numbers, Numbers::Labels(labels) if labels.iter().all(|l| *l <= i16::MAX as u16))
    }

    fn padding(&self) -> Option<[f32; 2]> {
        self.padding
    }

    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        let range = self.next..self.next + out.len();
        let short = || Error::input(&self.id, "no such slice is left");
        match &self.numbers {
            Numbers::Values(values) => out.copy_from_slice(values.get(range).ok_or_else(short)?),
            Numbers::Labels(labels) => {
                let labels = labels.get(range).ok_or_else(short)?;
                out.iter_mut().zip(labels).for_each(|(o, l)| *o = f32::from(*l));
            }
        }
        self.next += out.len();
        Ok(())
    }
}
