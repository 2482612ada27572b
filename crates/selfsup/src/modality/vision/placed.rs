//! Views of images whose pixels know where they come from, and what all tasks of places share.

use super::{Images, Vision};
use crate::config::Keys as _;
use crate::set::Set;
use candle_core::{Device, Tensor};
use selfsup_core::data::Dataset;
use selfsup_core::{Error, Result};
use selfsup_datasets::Records;
use selfsup_vision::data::{Planes, Sample};
use selfsup_vision::dense::{Placed, PlacedView};
use selfsup_vision::image::Image;
use std::path::{Path, PathBuf};

impl Vision {
    /// Makes views whose places are known.
    pub(super) fn placed(&self) -> Result<Placed> {
        #[cfg(feature = "medical")]
        if self.volumes.is_some() {
            return Err(Error::config(
                "volumes.slices: slices have neither masks nor boxes; segment volumes as \
                 modality = \"medical\"",
            ));
        }
        if self.keys.method.grays() {
            return Err(Error::config(format!(
                "an encoder of {} has seen no colours: masks and boxes are learnt from views in colour",
                self.keys.method()
            )));
        }
        let made = Placed::new(&self.keys.augment, self.keys.encoder.channels(), self.max_pixels)?;
        Ok(self.corrupt.map_or(made.clone(), |corrupt| made.corrupted(corrupt)))
    }

    /// The whole of an image as the network sees it, `(1, C, H, W)`, and where it lies.
    pub(super) fn whole_view(
        &self,
        set: &Set,
        index: usize,
        device: &Device,
    ) -> Result<(Tensor, PlacedView)> {
        let view = self.placed()?.whole(sample(set.records(), index)?)?;
        let x = stacked(std::slice::from_ref(&view.planes))?.to_device(device)?;
        Ok((x, view))
    }

    /// An image as it is.
    pub(super) fn picture(&self, set: &Set, index: usize) -> Result<Image> {
        sample(set.records(), index)?.decode(self.max_pixels)
    }
}

/// A record as an encoded image.
pub(super) fn sample(records: &std::sync::Arc<dyn Records>, index: usize) -> Result<Sample> {
    Images(records.clone()).get(index)
}

/// Views of one shape side by side, `(N, C, H, W)`.
///
/// # Errors
/// If there is none.
pub(super) fn stacked(planes: &[Planes]) -> Result<Tensor> {
    let [c, h, w] = planes.first().ok_or_else(|| Error::input("batch", "no samples"))?.shape;
    let values: Vec<f32> = planes.iter().flat_map(|p| p.values.iter().copied()).collect();
    Ok(Tensor::from_vec(values, (planes.len(), c, h, w), &Device::Cpu)?)
}

/// What the records are called, as paths, and the names of files that answer for them.
pub(super) fn answered(set: &Set) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let ids = (0..set.len()).map(|i| set.records().id(i).map(PathBuf::from));
    let paths = ids.collect::<Result<Vec<_>>>()?;
    let stem = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let names = crate::task::file_names(&paths, &stem, "");
    Ok((paths, names))
}
