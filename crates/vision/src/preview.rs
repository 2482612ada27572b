//! A picture of a batch: what the augmentations do, for a person to look at.

use crate::augment::AugmentConfig;
use crate::image::{Image, Pixels};
use crate::transform::ops::{Filter, Rect, resized_crop};
use candle_core::Tensor;
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::Views;
use selfsup_core::{Error, Result};

/// Pixels of a view's longer side on the sheet, at least: small views are enlarged by a whole factor, pixel
/// by pixel, so that nothing is smoothed over.
const SIDE: usize = 96;
/// Pixels between pictures, and between the originals and the views.
const GAP: usize = 4;
const ASIDE: usize = 12;

/// The first `samples` of a batch, one row each: the original, where `originals` has them in the order of the
/// batch, and one column a view, to see what the augmentations do.
///
/// # Errors
/// If the batch is empty, or an original cannot be resized.
pub fn contact_sheet(
    batch: &Views,
    augment: &AugmentConfig,
    samples: usize,
    originals: &[Image],
) -> Result<Image> {
    let views: Vec<&Tensor> = batch.globals.iter().chain(&batch.locals).chain(&batch.targets).collect();
    let Some(first) = views.first() else { return Err(Error::input("batch", "no views")) };
    let (n, _, h, w) = first.dims4()?;
    let zoom = SIDE.div_ceil(h.max(w).max(1)).max(1);
    let (h, w, rows) = (h * zoom, w * zoom, n.min(samples));
    let aside = if originals.is_empty() { 0 } else { w + ASIDE };
    let (width, height) = (aside + views.len() * (w + GAP) + GAP, rows * (h + GAP) + GAP);
    let mut sheet = Sheet { width, height, data: vec![255u8; width * height * 3] };
    for (r, original) in originals.iter().take(rows).enumerate() {
        sheet.paste(GAP, GAP + r * (h + GAP), &fitted(original, w, h)?);
    }
    for (v, view) in views.into_iter().enumerate() {
        for r in 0..rows {
            let tile = Tile::of_view(view, r, augment)?.enlarged(zoom);
            sheet.paste(aside + GAP + v * (w + GAP), GAP + r * (h + GAP), &tile.cut(w, h));
        }
    }
    Image::new(width as u32, height as u32, 3, Pixels::U8(sheet.data))
}

/// A picture in three bytes a pixel.
struct Tile {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Tile {
    /// Sample `row` of `view`, `(N, C, H, W)`, in its own colours.
    fn of_view(view: &Tensor, row: usize, augment: &AugmentConfig) -> Result<Self> {
        let (_, c, height, width) = view.dims4()?;
        let values: Vec<f32> = floats(&view.narrow(0, row, 1)?)?;
        let mut data = vec![0; width * height * 3];
        for k in 0..3 {
            let channel = k.min(c - 1);
            let (mean, std) = if c == 1 {
                (augment.mean.iter().sum::<f32>() / 3.0, augment.std.iter().sum::<f32>() / 3.0)
            } else {
                (augment.mean[k], augment.std[k])
            };
            let plane = &values[channel * height * width..][..height * width];
            for (i, value) in plane.iter().enumerate() {
                data[3 * i + k] = ((value * std + mean) * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        Ok(Tile { width, height, data })
    }

    /// Each pixel `zoom` by `zoom` times.
    fn enlarged(self, zoom: usize) -> Self {
        let (width, height) = (self.width * zoom, self.height * zoom);
        let mut data = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let at = (y / zoom * self.width + x / zoom) * 3;
                data.extend_from_slice(&self.data[at..at + 3]);
            }
        }
        Tile { width, height, data }
    }

    /// No more than `width` by `height` of it.
    fn cut(self, width: usize, height: usize) -> Self {
        if self.width <= width && self.height <= height {
            return self;
        }
        let (w, h) = (self.width.min(width), self.height.min(height));
        let rows = self.data.chunks_exact(self.width * 3).take(h);
        Tile { width: w, height: h, data: rows.flat_map(|row| &row[..w * 3]).copied().collect() }
    }
}

/// An image as large as fits into `width` by `height`: enlarged by a whole factor, or shrunk.
fn fitted(image: &Image, width: usize, height: usize) -> Result<Tile> {
    let (w, h) = (image.width.max(1) as usize, image.height.max(1) as usize);
    let zoom = (width / w).min(height / h);
    let image = if zoom > 0 {
        image.clone()
    } else {
        let scale = (width as f64 / w as f64).min(height as f64 / h as f64);
        let side = |n: usize| ((n as f64 * scale).floor() as u32).max(1);
        resized_crop(image, Rect::whole(image), side(h), side(w), Filter::Bilinear)?
    };
    let image = image.to_rgb()?;
    let data = match &image.data {
        Pixels::U8(data) => data.clone(),
        Pixels::U16(data) => data.iter().map(|v| (v >> 8) as u8).collect(),
    };
    Ok(Tile { width: image.width as usize, height: image.height as usize, data }.enlarged(zoom.max(1)))
}

/// The picture that tiles are put on.
struct Sheet {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Sheet {
    /// Puts a tile with its upper left corner at `(x, y)`.
    fn paste(&mut self, x: usize, y: usize, tile: &Tile) {
        for (i, row) in tile.data.chunks_exact((tile.width * 3).max(1)).enumerate() {
            if y + i < self.height && x + tile.width <= self.width {
                let at = ((y + i) * self.width + x) * 3;
                self.data[at..at + row.len()].copy_from_slice(row);
            }
        }
    }
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
        // 8 pixels are enlarged twelvefold.
        let sheet = contact_sheet(&batch, &augment, 9, &[])?;
        assert_eq!((sheet.width, sheet.height), (2 * (72 + 4) + 4, 2 * (96 + 4) + 4));
        let pixel = |sheet: &Image, x: usize, y: usize| {
            let Pixels::U8(data) = &sheet.data else { panic!("16 bits") };
            let at = (y * sheet.width as usize + x) * 3;
            [data[at], data[at + 1], data[at + 2]]
        };
        assert_eq!(
            (pixel(&sheet, 0, 0), pixel(&sheet, 4, 4), pixel(&sheet, 75, 99)),
            ([255; 3], [128; 3], [128; 3])
        );
        assert_eq!((pixel(&sheet, 80, 4), pixel(&sheet, 127, 51)), ([128; 3], [128; 3]), "the small view");
        assert_eq!((pixel(&sheet, 128, 4), pixel(&sheet, 4, 104)), ([255; 3], [128, 255, 128]));
        // Originals on the left: one that is enlarged fourfold, one that is shrunk.
        let flat = |w: u32, h: u32, v: u8| Image::new(w, h, 1, Pixels::U8(vec![v; (w * h) as usize]));
        let sheet = contact_sheet(&batch, &augment, 9, &[flat(18, 20, 10)?, flat(300, 400, 20)?])?;
        assert_eq!(sheet.width, 72 + 12 + 2 * (72 + 4) + 4);
        assert_eq!((pixel(&sheet, 75, 83), pixel(&sheet, 75, 84)), ([10; 3], [255; 3]));
        assert_eq!(
            (pixel(&sheet, 4, 104), pixel(&sheet, 75, 199), pixel(&sheet, 80, 104)),
            ([20; 3], [20; 3], [255; 3])
        );
        assert_eq!(pixel(&sheet, 88, 4), [128; 3], "the first view");
        assert!((brightest(&batch, &augment)? - 1.0).abs() < 1e-6);
        let none = Views::default();
        assert!(contact_sheet(&none, &augment, 1, &[]).unwrap_err().to_string().contains("no views"));
        Ok(())
    }
}
