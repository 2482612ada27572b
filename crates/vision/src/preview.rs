//! A picture of a batch: what the augmentations do, for a person to look at.

use crate::augment::AugmentConfig;
use crate::image::{Image, Pixels};
use candle_core::Tensor;
use selfsup_core::objective::Views;
use selfsup_core::{Error, Result};

/// The first `samples` of a batch, one row each, one column a view: to see what the augmentations do.
///
/// # Errors
/// If the batch is empty.
pub fn contact_sheet(batch: &Views, augment: &AugmentConfig, samples: usize) -> Result<Image> {
    let views: Vec<&Tensor> = batch.globals.iter().chain(&batch.locals).chain(&batch.targets).collect();
    let Some(first) = views.first() else { return Err(Error::input("batch", "no views")) };
    let (n, c, h, w) = first.dims4()?;
    let (rows, columns, gap) = (n.min(samples), views.len(), 4);
    let (width, height) = (columns * (w + gap) + gap, rows * (h + gap) + gap);
    let mut data = vec![255u8; width * height * 3];
    for (v, view) in views.into_iter().enumerate() {
        let values: Vec<f32> = view.flatten_all()?.to_vec1()?;
        let (_, _, vh, vw) = view.dims4()?;
        for r in 0..rows {
            for k in 0..3 {
                let channel = k.min(c - 1);
                let (mean, std) = if c == 1 {
                    (augment.mean.iter().sum::<f32>() / 3.0, augment.std.iter().sum::<f32>() / 3.0)
                } else {
                    (augment.mean[k], augment.std[k])
                };
                for y in 0..vh.min(h) {
                    for x in 0..vw.min(w) {
                        let value = values[((r * c + channel) * vh + y) * vw + x] * std + mean;
                        let (py, px) = (gap + r * (h + gap) + y, gap + v * (w + gap) + x);
                        data[(py * width + px) * 3 + k] = (value * 255.0).round().clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
    }
    Image::new(width as u32, height as u32, 3, Pixels::U8(data))
}

/// The brightest value of all views of a batch, as a part of the largest that a file can hold.
///
/// # Errors
/// If a view is not `(N, C, H, W)`.
pub fn brightest(batch: &Views, augment: &AugmentConfig) -> Result<f32> {
    let mut brightest = f32::NEG_INFINITY;
    for view in batch.globals.iter().chain(&batch.locals).chain(&batch.targets) {
        let (_, channels, _, _) = view.dims4()?;
        for k in 0..channels {
            let (mean, std) = augment.channel(k, channels);
            let most = view.narrow(1, k, 1)?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            brightest = brightest.max(most * std + mean);
        }
    }
    Ok(brightest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn views_stand_side_by_side_in_their_own_colours() -> Result<()> {
        let augment = AugmentConfig { mean: [0.5; 3], std: [0.25; 3], ..AugmentConfig::default() };
        // The second sample is bright in its green channel; the small view is gray.
        let bright = |i: usize| if i / (8 * 6) == 4 { 2.0f32 } else { 0.0 };
        let full = Tensor::from_vec((0..2 * 3 * 8 * 6).map(bright).collect(), (2, 3, 8, 6), &Device::Cpu)?;
        let small = Tensor::zeros((2, 3, 4, 4), candle_core::DType::F32, &Device::Cpu)?;
        let batch = Views { locals: vec![small], ..Views::of(vec![full], vec![0, 1]) };
        let sheet = contact_sheet(&batch, &augment, 9)?;
        assert_eq!((sheet.width, sheet.height), (2 * 10 + 4, 2 * 12 + 4));
        let Pixels::U8(data) = &sheet.data else { panic!("16 bits") };
        let at = |x: usize, y: usize| &data[(y * sheet.width as usize + x) * 3..][..3];
        assert_eq!((at(0, 0), at(4, 4), at(14, 4)), (&[255; 3][..], &[128; 3][..], &[128; 3][..]));
        assert_eq!(at(4, 16), [128, 255, 128]);
        assert!((brightest(&batch, &augment)? - 1.0).abs() < 1e-6);
        let none = Views::default();
        assert!(contact_sheet(&none, &augment, 1).unwrap_err().to_string().contains("no views"));
        Ok(())
    }
}
