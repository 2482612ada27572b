//! Images that are corrupted after ImageNet-C, to measure robustness.

use super::{Vision, raw};
use crate::modality::{Corruptible, CorruptionKind, Looks, Modality, RawOf};
use crate::set::Set;
use selfsup_core::data::LoaderConfig;
use selfsup_core::kernels::host::floats;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use selfsup_vision::corrupt::{Corrupt, Corruption};

impl Vision {
    /// Raw pixels of a set.
    pub(super) fn pixels(&self, set: &Set, loader: &LoaderConfig) -> Result<raw::Pixels> {
        let channels = self.keys.encoder.channels();
        raw::pixels(&*self.inputs(set, false, loader.clone())?, &self.keys.augment, channels)
    }
}

impl Corruptible<Vision> for Vision {
    fn kinds(&self) -> Vec<CorruptionKind> {
        let kind = |c: Corruption| CorruptionKind {
            name: c.name(),
            group: c.group(),
            about: "severities of ImageNet-C, below 64 px those of CIFAR-10-C",
            counts: Corruption::benchmark().contains(&c),
        };
        Corruption::ALL.into_iter().map(kind).collect()
    }

    fn corrupted(&self, kind: &str, severity: u8, seed: u64) -> Result<Vision> {
        let corrupt = Some(Corrupt::new(Corruption::named(kind)?, severity, seed)?);
        Ok(Vision {
            keys: self.keys.clone(),
            architecture: self.architecture.clone(),
            max_pixels: self.max_pixels,
            reading: self.reading.clone(),
            corrupt,
            #[cfg(feature = "medical")]
            volumes: self.volumes.clone(),
        })
    }

    fn raw_fitted<'a>(
        &'a self,
        train: &Set,
        _rows: usize,
        loader: &'a LoaderConfig,
    ) -> Result<(Matrix, RawOf<'a, Vision>)> {
        let pixels = self.pixels(train, loader)?;
        let one = pixels.one_is_enough();
        let of = move |reader: &Vision, set: &Set| reader.pixels(set, loader)?.matrix(one);
        Ok((pixels.matrix(one)?, Box::new(of)))
    }

    fn looks(&self, set: &Set) -> Result<Looks> {
        let one = set.part(vec![0])?;
        let inputs = self.inputs(&one, false, LoaderConfig::in_order(1, 0))?;
        let batch =
            inputs.epoch_from(0, 0)?.next().ok_or_else(|| Error::input("samples", "there is none"))?;
        let x = batch?.batch.x;
        let (_, c, height, width) = x.dims4()?;
        let values: Vec<f32> = floats(&x)?;
        let mut rgb = Vec::with_capacity(3 * height * width);
        for i in 0..height * width {
            for k in 0..3 {
                let k = k.min(c - 1);
                let (mean, std) = self.keys.augment.channel(k, c);
                let level = (values[k * height * width + i] * std + mean) * 255.0;
                rgb.push(level.round().clamp(0.0, 255.0) as u8);
            }
        }
        Ok(Looks::Picture { width, height, rgb })
    }
}
