//! Samples, planes and batches of images.

use crate::image::{Image, Pixels};
use candle_core::{Device, Tensor};
use selfsup_core::data::Collate;
use selfsup_core::kernels::pixels::Depth;
pub use selfsup_core::objective::Views;
use selfsup_core::{Error, Key, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// Where the content of an image is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Content {
    /// A file.
    File(PathBuf),
    /// An encoded image.
    Bytes(Arc<[u8]>),
    /// Pixels, rows of interleaved channels.
    Pixels {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Values of a pixel: 1 or 3.
        channels: u8,
        /// `height * width * channels` values.
        data: Arc<[u8]>,
    },
}

/// An image that is not decoded yet.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name in messages.
    pub id: String,
    /// Its content.
    pub content: Content,
}

impl Sample {
    /// Decodes it, if it has at most `max_pixels`.
    ///
    /// # Errors
    /// Naming the sample.
    pub fn decode(self, max_pixels: u64) -> Result<Image> {
        self.decode_stretched(max_pixels, false)
    }

    /// As [`Sample::decode`], with grey values of 16 bits spread over their range
    /// ([`Image::decode_stretched`]).
    ///
    /// # Errors
    /// Naming the sample.
    pub fn decode_stretched(self, max_pixels: u64, stretched: bool) -> Result<Image> {
        match self.content {
            Content::File(path) => {
                let bytes = selfsup_core::file::read(&path)?;
                Image::decode_stretched(&bytes, &self.id, max_pixels, stretched)
            }
            Content::Bytes(bytes) => Image::decode_stretched(&bytes, &self.id, max_pixels, stretched),
            Content::Pixels { width, height, channels, data } => {
                Image::new(width, height, channels, Pixels::U8(data.to_vec()))
                    .map_err(|e| Error::input(&self.id, e))
            }
        }
    }
}

/// A view: normalised values, one plane a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// Channels, rows, columns.
    pub shape: [usize; 3],
    /// `(C, H, W)`.
    pub values: Vec<f32>,
}

impl Planes {
    /// `(x / max - mean) / std` of each channel.
    ///
    /// # Errors
    /// If the image has other channels than there are means.
    pub fn normalized(image: &Image, mean: &[f32], std: &[f32]) -> Result<Self> {
        let (w, h, c) = (image.width as usize, image.height as usize, image.channels as usize);
        if mean.len() != c || std.len() != c {
            return Err(Error::input("image", format!("{c} channels, expected {}", mean.len())));
        }
        let mut values = vec![0f32; c * h * w];
        let affine = |max: f32| -> Vec<_> {
            mean.iter().zip(std).map(|(mean, std)| (1.0 / (max * std), mean / std)).collect()
        };
        match &image.data {
            Pixels::U8(data) => u8::to_planes(data, &affine(u8::MAX.into()), &mut values),
            Pixels::U16(data) => u16::to_planes(data, &affine(u16::MAX.into()), &mut values),
        }
        Ok(Planes { shape: [c, h, w], values })
    }
}

/// Stacks the views of samples into [`Views`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Collated;

impl Collate<Vec<Planes>> for Collated {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Planes>>, indices: &[usize], _key: Key) -> Result<Views> {
        let Some(first) = items.first() else { return Err(Error::input("batch", "no samples")) };
        let mut views = Vec::with_capacity(first.len());
        for (v, shape) in first.iter().map(|view| view.shape).enumerate() {
            let mut values = Vec::with_capacity(items.len() * shape.iter().product::<usize>());
            for item in &items {
                match item.get(v) {
                    Some(view) if view.shape == shape => values.extend_from_slice(&view.values),
                    other => {
                        return Err(Error::input(
                            "batch",
                            format!("view {v} has shape {:?}, expected {shape:?}", other.map(|o| o.shape)),
                        ));
                    }
                }
            }
            let [c, h, w] = shape;
            views.push(Tensor::from_vec(values, (items.len(), c, h, w), &Device::Cpu)?);
        }
        // Full-size views come first and are larger than local crops.
        let globals = views.iter().take_while(|v| v.dims() == views[0].dims()).count();
        let locals = views.split_off(globals);
        Ok(Views { locals, ..Views::of(views, indices.to_vec()) })
    }
}

/// Luma of ITU-R BT.601, as torchvision's and Pillow's gray.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Stacks views in gray into [`Views`], with their colours as targets: `(N, 3, H, W)` of sRGB in `[0, 1]`. Gray
/// is the same value in all three channels, each normalised as the views are.
#[derive(Clone, Debug)]
pub struct Colours {
    /// Mean of each channel that the views were normalised with.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

impl Colours {
    /// What is stacked: the gray views, and the colours.
    ///
    /// # Errors
    /// If the views have not three channels.
    pub fn part(&self, view: &Tensor) -> Result<(Tensor, Tensor)> {
        if view.rank() != 4 || view.dim(1)? != 3 {
            return Err(Error::input(
                "batch",
                format!("views {:?}: expected three channels, which colours need", view.dims()),
            ));
        }
        let of = |values: [f32; 3]| Tensor::new(&values, view.device())?.reshape((1, 3, 1, 1));
        let (mean, std) = (of(self.mean)?, of(self.std)?);
        let colours = view.broadcast_mul(&std)?.broadcast_add(&mean)?.clamp(0f32, 1f32)?;
        let gray = colours.broadcast_mul(&of(LUMA)?)?.sum_keepdim(1)?.broadcast_as(view.shape())?;
        Ok((gray.broadcast_sub(&mean)?.broadcast_div(&std)?, colours))
    }
}

impl Collate<Vec<Planes>> for Colours {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Planes>>, indices: &[usize], key: Key) -> Result<Views> {
        let mut views = Collated.collate(items, indices, key)?;
        let Some(first) = views.globals.first_mut() else { return Err(Error::input("batch", "no views")) };
        let (gray, colours) = self.part(first)?;
        *first = gray;
        Ok(Views { targets: Some(colours), ..views })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugmentConfig;
    use selfsup_core::Rng;
    use selfsup_core::data::Transform;
    use selfsup_core::objective::Wanted;

    /// Red is 0.299 in gray; its normalised values differ by channel.
    #[test]
    fn colours_become_gray() -> Result<()> {
        let colours = Colours { mean: [0.5, 0.4, 0.3], std: [0.5, 0.25, 0.2] };
        // Red: (1 - 0.5) / 0.5, (0 - 0.4) / 0.25, (0 - 0.3) / 0.2.
        let view = Tensor::new(&[1f32, -1.6, -1.5], &Device::Cpu)?.reshape((1, 3, 1, 1))?;
        let (gray, target) = colours.part(&view)?;
        let near = |t: &Tensor, want: [f32; 3]| -> Result<bool> {
            let values = t.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5))
        };
        assert!(near(&target, [1.0, 0.0, 0.0])?);
        assert!(near(&gray, [-0.402, -0.404, -0.005])?, "{gray}");
        let item = |v: &[f32]| vec![Planes { shape: [3, 1, 1], values: v.to_vec() }];
        let batch = colours.collate(vec![item(&[1.0, -1.6, -1.5])], &[4], Key::new(0))?;
        assert!(near(&batch.globals[0], [-0.402, -0.404, -0.005])? && batch.indices == [4]);
        assert!(colours.part(&view.narrow(1, 0, 1)?).unwrap_err().to_string().contains("three channels"));
        Ok(())
    }

    #[test]
    fn local_crops_stand_behind_the_full_views() -> Result<()> {
        let config = AugmentConfig {
            size: 16,
            local_views: 3,
            local_size: 8,
            rotation: 20.0,
            policy: crate::augment::Policy::Trivial,
            ..AugmentConfig::default()
        };
        let pixels: Arc<[u8]> = (0..20 * 24 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let sample = || Sample {
            id: "x".into(),
            content: Content::Pixels { width: 24, height: 20, channels: 3, data: pixels.clone() },
        };
        let make = |seed: u64| {
            let mut rng: Rng = Key::new(seed).rng();
            config.views(Wanted::Multi(2), 3, 1 << 20)?.apply(sample(), &mut rng)
        };
        let batch = Collated.collate(vec![make(1)?, make(2)?], &[0, 1], Key::new(0))?;
        let shapes: Vec<&[usize]> = batch.globals.iter().chain(&batch.locals).map(Tensor::dims).collect();
        assert_eq!((batch.globals.len(), batch.locals.len()), (2, 3));
        assert_eq!(
            shapes,
            [&[2, 3, 16, 16][..], &[2, 3, 16, 16], &[2, 3, 8, 8], &[2, 3, 8, 8], &[2, 3, 8, 8]]
        );
        let wrong = AugmentConfig { local_size: 16, ..config.clone() };
        assert!(wrong.views(Wanted::Multi(2), 3, 1).unwrap_err().to_string().contains("local_size"));
        Ok(())
    }
}
