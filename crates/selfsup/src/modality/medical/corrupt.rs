//! Volumes with noise, bias fields, ghosts and other faults of a scanner, to measure robustness.

use super::Medical;
use super::patches::Places;
use crate::modality::{Corruptible, CorruptionKind, Looks, RawOf};
use crate::set::Set;
use selfsup_core::data::{Dataset, LoaderConfig};
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use selfsup_medical::corrupt::{Corrupt, Corruption};
use selfsup_medical::transform::Pipeline;

impl Corruptible<Medical> for Medical {
    fn kinds(&self) -> Vec<CorruptionKind> {
        let kind = |c: Corruption| CorruptionKind {
            name: c.name(),
            group: "scanner",
            about: c.about(),
            counts: true,
        };
        Corruption::ALL.into_iter().map(kind).collect()
    }

    fn corrupted(&self, kind: &str, severity: u8, seed: u64) -> Result<Medical> {
        let corrupt = Corrupt::new(Corruption::named(kind)?, severity, seed)?;
        let prepare = self.keys.augment.prepare()?;
        Ok(Medical {
            keys: self.keys.clone(),
            architecture: self.architecture.clone(),
            prepare: Pipeline::new(vec![Box::new(corrupt), Box::new(prepare)]),
            how: format!("{} {corrupt}", self.how),
            store: self.store.clone(),
            reading: self.reading.clone(),
            corrupt: Some(corrupt),
        })
    }

    fn raw_fitted<'a>(
        &'a self,
        train: &Set,
        _rows: usize,
        loader: &'a LoaderConfig,
    ) -> Result<(Matrix, RawOf<'a, Medical>)> {
        let fitted = self.intensities(train, loader)?;
        Ok((fitted, Box::new(move |reader: &Medical, set: &Set| reader.intensities(set, loader))))
    }

    /// The middle axial slice of the patch in the middle.
    fn looks(&self, set: &Set) -> Result<Looks> {
        let places = Places::middle(self.scans(&set.part(vec![0])?)?, self.keys.augment.size);
        let (scan, start) = places.get(0)?;
        let patch = scan.part(start, self.keys.augment.size, 0.0)?;
        let [depth, height, width] = patch.shape();
        let slice = patch.values().get(depth / 2 * height * width..(depth / 2 + 1) * height * width);
        let slice = slice.ok_or_else(|| Error::input(patch.id(), "has no slice in its middle"))?;
        // The shades of the patch.
        let (low, high) = patch
            .values()
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let shade = |v: &f32| ((v - low) / (high - low).max(f32::MIN_POSITIVE) * 255.0) as u8;
        Ok(Looks::Picture { width, height, rgb: slice.iter().flat_map(|v| [shade(v); 3]).collect() })
    }
}
