//! A picture of what a method sees of volumes. Where the command cannot read pictures, it cannot write them
//! either.

use selfsup_core::Result;
use selfsup_core::objective::Views;
use selfsup_medical::blocks::Scan;
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::image::{Image, Pixels};
use selfsup_vision::preview::contact_sheet;
use std::path::PathBuf;
use std::sync::Arc;

/// Samples that are shown.
pub(super) const SHOWN: usize = 8;

/// Writes the middle axial slices: a row for each sample, the volume that it was cut from on the left, then a
/// column for each view, all in the same shades.
///
/// # Errors
/// If a volume cannot be read, or the picture cannot be written.
pub(super) fn middle_slices(batch: &Views, scans: &[Arc<dyn Scan>], method: &str) -> Result<PathBuf> {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for view in batch.globals.iter().chain(&batch.targets) {
        low = low.min(view.min_all()?.to_scalar()?);
        high = high.max(view.max_all()?.to_scalar()?);
    }
    let scale = 1.0 / f64::from((high - low).max(f32::MIN_POSITIVE));
    let slices = batch.globals.iter().chain(&batch.targets).map(|view| {
        let middle = view.narrow(2, view.dim(2)? / 2, 1)?.squeeze(2)?;
        Ok(middle.affine(scale, -f64::from(low) * scale)?)
    });
    let slices = Views::of(slices.collect::<Result<_>>()?, batch.indices.clone());
    let unchanged = AugmentConfig { mean: [0.0; 3], std: [1.0; 3], ..AugmentConfig::default() };
    let shade = |v: f32| ((f64::from(v - low) * scale) * 255.0).round().clamp(0.0, 255.0) as u8;
    let originals = scans.iter().map(|scan| original(&**scan, &shade)).collect::<Result<Vec<_>>>()?;
    let picture = PathBuf::from(format!("{method}-augmentations.png"));
    contact_sheet(&slices, &unchanged, SHOWN, &originals)?.save(&picture)?;
    Ok(picture)
}

/// The middle axial slice of a volume.
fn original(scan: &dyn Scan, shade: &dyn Fn(f32) -> u8) -> Result<Image> {
    let [depth, height, width] = scan.grid().shape();
    let slice = scan.part([(depth / 2) as isize, 0, 0], [1, height, width], 0.0)?;
    let data = slice.values().iter().map(|v| shade(*v)).collect();
    Image::new(width as u32, height as u32, 1, Pixels::U8(data))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use selfsup_medical::{Grid, Volume};

    #[test]
    fn the_middle_of_a_volume_in_its_shades() {
        // Slice z has the value z, but for a bright corner of the middle one.
        let mut values: Vec<f32> = (0..3 * 2 * 4).map(|i| (i / 8) as f32).collect();
        values[8] = 2.0;
        let volume = Volume::new("v", Grid::with_spacing([3, 2, 4], [1.0; 3]).unwrap(), values).unwrap();
        let picture = original(&volume, &|v| (v * 100.0) as u8).unwrap();
        assert_eq!((picture.width, picture.height), (4, 2));
        let Pixels::U8(data) = picture.data else { panic!("8 bits were written") };
        assert_eq!(data, [200, 100, 100, 100, 100, 100, 100, 100]);
    }
}
