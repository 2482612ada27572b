//! Views whose pixels know where they come from, so that masks and boxes follow an image through its crops.
//!
//! In training a random part of the image fills the view, and is mirrored at random; in evaluation the whole
//! image is made as large as fits, without another aspect, and the rest of the view is the mean colour.

use super::mask::Mask;
use crate::augment::{Augment, AugmentConfig, Policy};
use crate::corrupt::Corrupt;
use crate::data::{Planes, Sample};
use crate::image::Image;
use crate::transform::ops::{horizontal_flip, resized_crop};
use crate::transform::{Filter, Rect, random_rect};
use selfsup_core::{Error, Result, Rng};

/// The label of a pixel that does not count (that of `selfsup_core::loss`).
pub(crate) const IGNORED: i64 = selfsup_core::loss::IGNORED;
/// A cropped box stays where at least this share of it is seen.
const SEEN: f64 = 0.25;

/// Where a view lies in its image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Width and height of the image.
    pub source: [u32; 2],
    /// The part that is seen.
    pub rect: Rect,
    /// Columns and rows of the view that show it, from the upper left corner on.
    pub shown: [u32; 2],
    /// Columns and rows of the view.
    pub size: u32,
    /// Whether left and right are exchanged.
    pub mirrored: bool,
}

/// A view and where it lies.
#[derive(Clone, Debug)]
pub struct PlacedView {
    /// Its values.
    pub planes: Planes,
    /// Where it lies.
    pub place: Place,
}

/// Makes views of `size` pixels.
#[derive(Clone, Debug)]
pub struct Placed {
    decoder: Augment,
    config: AugmentConfig,
    channels: usize,
    corrupt: Option<Corrupt>,
}

impl Placed {
    /// Views as `config` says, of an encoder that takes `channels`.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out: masks and boxes are neither rotated nor sheared.
    pub fn new(config: &AugmentConfig, channels: usize, max_pixels: u64) -> Result<Self> {
        if config.rotation != 0.0 || config.policy != Policy::None {
            return Err(Error::config(
                format!(
                    "augment.rotation = {} and augment.policy = \"{:?}\": masks and boxes follow crops and \
                 mirroring alone; expected 0 and \"none\"",
                    config.rotation, config.policy
                )
                .to_lowercase(),
            ));
        }
        let decoder = config.evaluation(channels, max_pixels)?;
        Ok(Placed { decoder, config: config.clone(), channels, corrupt: None })
    }

    /// The same with every view of [`Placed::whole`] corrupted after it is resized.
    #[must_use]
    pub fn corrupted(self, corrupt: Corrupt) -> Self {
        Placed { corrupt: Some(corrupt), ..self }
    }

    /// A random part of a sample, mirrored at random.
    ///
    /// # Errors
    /// If it cannot be decoded; the message names it.
    pub fn part(&self, sample: Sample, rng: &mut Rng) -> Result<PlacedView> {
        let image = self.decoder.decode(sample)?;
        let pair = |v: [f64; 2]| v.map(|v| v as f32);
        let rect = random_rect(&image, pair(self.config.crop_scale), pair(self.config.crop_ratio), rng);
        let mirrored = rng.uniform() < self.config.flip as f32;
        let size = self.config.size as u32;
        let mut view = resized_crop(&image, rect, size, size, Filter::Bilinear)?;
        if mirrored {
            view = horizontal_flip(&view)?;
        }
        let place = Place { source: [image.width, image.height], rect, shown: [size; 2], size, mirrored };
        Ok(PlacedView { planes: self.normalized(&view)?, place })
    }

    /// The whole of a sample.
    ///
    /// # Errors
    /// If it cannot be decoded; the message names it.
    pub fn whole(&self, sample: Sample) -> Result<PlacedView> {
        let id = sample.id.clone();
        let image = self.decoder.decode(sample)?;
        let (w, h, size) = (image.width, image.height, self.config.size as u32);
        let side = |v: u32| {
            ((u64::from(v) * u64::from(size) + u64::from(w.max(h)) / 2) / u64::from(w.max(h))).max(1) as u32
        };
        let shown = [side(w), side(h)];
        let rect = Rect::whole(&image);
        let mut view = resized_crop(&image, rect, shown[1], shown[0], Filter::Bilinear)?;
        if let Some(corrupt) = self.corrupt {
            let made = corrupt.apply(&view, &id)?;
            view = if self.channels == 1 { made.to_gray()? } else { made.to_rgb()? };
        }
        let part = self.normalized(&view)?;
        let [c, rows, columns] = part.shape;
        let n = size as usize;
        // Zero is the mean colour.
        let mut values = vec![0f32; c * n * n];
        for (k, plane) in part.values.chunks_exact(rows * columns).enumerate() {
            for (y, row) in plane.chunks_exact(columns).enumerate() {
                values[(k * n + y) * n..][..columns].copy_from_slice(row);
            }
        }
        let place = Place { source: [w, h], rect, shown, size, mirrored: false };
        Ok(PlacedView { planes: Planes { shape: [c, n, n], values }, place })
    }

    fn normalized(&self, view: &Image) -> Result<Planes> {
        let of = |k| self.config.channel(k, self.channels);
        let (mean, std): (Vec<f32>, Vec<f32>) = (0..self.channels).map(of).unzip();
        Planes::normalized(view, &mean, &std)
    }
}

impl Place {
    /// Pixels of the image for one of the view, along each axis.
    fn scale(&self) -> [f64; 2] {
        [self.rect.width / f64::from(self.shown[0]), self.rect.height / f64::from(self.shown[1])]
    }

    /// The class of each pixel of the view, `size * size`: `classes` of the image's pixels, row by row, taken
    /// at the middle of each; -100, which does not count, outside the image.
    ///
    /// # Errors
    /// If there are other than one for each pixel of the image.
    pub fn labels(&self, classes: &[i64]) -> Result<Vec<i64>> {
        let [w, h] = self.source.map(|v| v as usize);
        if classes.len() != w * h {
            return Err(Error::input("mask", format!("{} pixels for {w} x {h}", classes.len())));
        }
        let (n, [sx, sy]) = (self.size as usize, self.scale());
        let at = |i: usize, from: f64, scale: f64, most: usize| {
            ((from + (i as f64 + 0.5) * scale) as usize).min(most - 1)
        };
        let columns: Vec<usize> = (0..self.shown[0] as usize)
            .map(|x| {
                at(if self.mirrored { self.shown[0] as usize - 1 - x } else { x }, self.rect.left, sx, w)
            })
            .collect();
        let mut out = vec![IGNORED; n * n];
        for y in 0..self.shown[1] as usize {
            let row = &classes[at(y, self.rect.top, sy, h) * w..][..w];
            for (to, x) in out[y * n..].iter_mut().zip(&columns) {
                *to = row[*x];
            }
        }
        Ok(out)
    }

    /// A box of the image (left, top, width, height in pixels) as left, top, right, bottom in pixels of the
    /// view; `None` where too little of it is seen.
    pub fn to_view(&self, bbox: [f64; 4]) -> Option<[f32; 4]> {
        let scale = self.scale();
        let from = [self.rect.left, self.rect.top];
        let mut sides = [[0.0; 2]; 2];
        let mut share = 1.0;
        for k in 0..2 {
            let shown = f64::from(self.shown[k]);
            let low = ((bbox[k] - from[k]) / scale[k]).clamp(0.0, shown);
            let high = ((bbox[k] + bbox[k + 2] - from[k]) / scale[k]).clamp(0.0, shown);
            share *= (high - low) * scale[k] / bbox[k + 2];
            sides[k] = [low, high];
        }
        if self.mirrored {
            let shown = f64::from(self.shown[0]);
            sides[0] = [shown - sides[0][1], shown - sides[0][0]];
        }
        let made = [sides[0][0], sides[1][0], sides[0][1], sides[1][1]].map(|v| v as f32);
        (share >= SEEN && made[2] > made[0] && made[3] > made[1]).then_some(made)
    }

    /// A box of the view (left, top, right, bottom) as left, top, width, height in pixels of the image, cut
    /// at its edges. The view must not be mirrored.
    pub fn to_source(&self, bbox: [f32; 4]) -> [f64; 4] {
        let scale = self.scale();
        let at = |k: usize| {
            let from = [self.rect.left, self.rect.top][k % 2];
            (from + f64::from(bbox[k]) * scale[k % 2]).clamp(0.0, f64::from(self.source[k % 2]))
        };
        [at(0), at(1), at(2) - at(0), at(3) - at(1)]
    }
}

/// A mask of an image of `size` (width, height) as classes.
///
/// # Errors
/// Naming `path`: another size, or a value that `class` does not know.
pub fn classes_of(
    mask: &Mask,
    path: &std::path::Path,
    size: [u32; 2],
    class: &dyn Fn(u16) -> Option<i64>,
) -> Result<Vec<i64>> {
    if [mask.width, mask.height] != size {
        return Err(Error::file(
            path,
            format!(
                "a mask of {} x {} pixels for an image of {} x {}",
                mask.width, mask.height, size[0], size[1]
            ),
        ));
    }
    let of =
        |v: &u16| class(*v).ok_or_else(|| Error::file(path, format!("the value {v} is none of the classes")));
    mask.values.iter().map(of).collect()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
