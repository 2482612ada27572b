//! `[augment]`: the views of an image. One set of keys serves all methods; `preset` gives the defaults of a
//! paper.

use crate::corrupt::Corrupt;
use crate::data::{Planes, Sample};
use crate::image::Image;
use crate::transform::{Factor, Op, Pipeline};
use selfsup_core::config::Unread;
use selfsup_core::data::Transform;
use selfsup_core::objective::Wanted;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// What is done to an image to make a view of it. Probabilities are 0 to 1; a step of probability 0 is left
/// out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Height and width of a view in pixels.
    pub size: usize,
    /// Smallest and largest share of the image's area that a random crop takes.
    pub crop_scale: [f64; 2],
    /// Narrowest and widest aspect ratio of a crop.
    pub crop_ratio: [f64; 2],
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Strength of the change of brightness, contrast, saturation and hue.
    pub jitter: [f64; 4],
    /// Probability of that change.
    pub jitter_p: f64,
    /// Probability of turning gray.
    pub gray_p: f64,
    /// Probability of a Gaussian blur, of the first and the second view.
    pub blur_p: f64,
    /// Probability of the blur of the second view, where it differs (BYOL's 0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur_p_second: Option<f64>,
    /// Side of the blur's kernel in pixels, odd; by default a tenth of the view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur_kernel: Option<usize>,
    /// Smallest and largest standard deviation of the blur in pixels.
    pub blur_sigma: [f64; 2],
    /// Probability of inverting all values above the middle, in the second view only (BYOL's 0.2).
    pub solarize_p_second: f64,
    /// Largest angle of a random rotation, in degrees; 0 for none.
    pub rotation: f64,
    /// Random operations after the crop: `none`, `rand` (RandAugment, arXiv 1909.13719: two of magnitude 9)
    /// or `trivial` (TrivialAugment, arXiv 2103.10158).
    pub policy: Policy,
    /// Small crops beside the full-size views (multi-crop, Caron et al. 2020, arXiv 2006.09882), for methods
    /// that use them.
    pub local_views: usize,
    /// Height and width of a small crop in pixels.
    pub local_size: usize,
    /// Smallest and largest share of the image's area that a small crop takes.
    pub local_scale: [f64; 2],
    /// Whether grey images of 16 bits are stretched, each by itself, linearly between their 0.5th and 99.5th
    /// percentile (radiographs have values of 12 bits): `auto` for an encoder of one channel, `always` or
    /// `never`.
    pub stretch: Stretch,
    /// Mean of each channel, of values in `[0, 1]`.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

/// Which grey images of 16 bits are stretched over their range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Stretch {
    /// Those of an encoder of one channel.
    #[default]
    Auto,
    /// All.
    Always,
    /// None: values are parts of 65,535.
    Never,
}

/// Random operations on a crop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Policy {
    /// None.
    #[default]
    None,
    /// RandAugment.
    Rand,
    /// TrivialAugment.
    Trivial,
}

impl Default for AugmentConfig {
    /// SimCLR's views (arXiv 2002.05709, appendix A) with ImageNet's statistics.
    fn default() -> Self {
        AugmentConfig {
            size: 224,
            crop_scale: [0.08, 1.0],
            crop_ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            jitter: [0.8, 0.8, 0.8, 0.2],
            jitter_p: 0.8,
            gray_p: 0.2,
            blur_p: 0.5,
            blur_p_second: None,
            blur_kernel: None,
            blur_sigma: [0.1, 2.0],
            solarize_p_second: 0.0,
            rotation: 0.0,
            policy: Policy::None,
            local_views: 0,
            local_size: 96,
            local_scale: [0.05, 0.4],
            stretch: Stretch::Auto,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

/// Decodes a sample and makes its views.
#[derive(Clone, Debug)]
pub struct Augment {
    views: Vec<Pipeline>,
    channels: usize,
    max_pixels: u64,
    stretch: bool,
    mean: Vec<f32>,
    std: Vec<f32>,
    corrupt: Option<Corrupt>,
}

impl AugmentConfig {
    /// Keys that a method which wants these views does not read.
    /// `who` is the method. A key that is not listed here is read.
    pub fn unread(wanted: Wanted, who: &str) -> Vec<Unread> {
        let mut unread = Vec::new();
        if !wanted.compares() {
            let why = format!("is read by methods that compare views: {who} sees one, cropped and flipped");
            unread.extend(Unread::all(
                "augment",
                &["jitter", "jitter_p", "gray_p", "blur_p", "blur_kernel"],
                &why,
            ));
            unread.extend(Unread::all(
                "augment",
                &["blur_sigma", "blur_p_second", "solarize_p_second"],
                &why,
            ));
        }
        if !wanted.crops() {
            let why =
                format!("is read by methods of small crops beside the views (multi-crop): {who} takes none");
            unread.extend(Unread::all("augment", &["local_views", "local_size", "local_scale"], &why));
        }
        unread
    }

    fn check(&self) -> Result<()> {
        let bad = |key: &str, value: &dyn std::fmt::Debug, expected: &str| {
            Err(Error::config(format!("augment.{key} = {value:?}: expected {expected}")))
        };
        if self.size == 0 || self.size > 4096 {
            return bad("size", &self.size, "1 to 4096");
        }
        if self.local_views > 0 && (self.local_size == 0 || self.local_size >= self.size) {
            return bad(
                "local_size",
                &self.local_size,
                &format!("at least 1 and less than augment.size = {}", self.size),
            );
        }
        for (key, scale) in [("crop_scale", self.crop_scale), ("local_scale", self.local_scale)] {
            let [low, high] = scale;
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return bad(key, &scale, "two shares above 0 and at most 1, the smaller first");
            }
        }
        if !(0.0..=180.0).contains(&self.rotation) {
            return bad("rotation", &self.rotation, "an angle from 0 to 180 degrees");
        }
        let [low, high] = self.crop_ratio;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return bad("crop_ratio", &self.crop_ratio, "two ratios above 0, the smaller first");
        }
        let [low, high] = self.blur_sigma;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return bad("blur_sigma", &self.blur_sigma, "two deviations above 0, the smaller first");
        }
        for (key, p) in [
            ("flip", self.flip),
            ("jitter_p", self.jitter_p),
            ("gray_p", self.gray_p),
            ("blur_p", self.blur_p),
            ("blur_p_second", self.blur_p_second.unwrap_or(0.0)),
            ("solarize_p_second", self.solarize_p_second),
        ] {
            if !(0.0..=1.0).contains(&p) {
                return bad(key, &p, "a probability from 0 to 1");
            }
        }
        if self.jitter.iter().any(|j| !(0.0..=2.0).contains(j)) || self.jitter[3] > 0.5 {
            return bad("jitter", &self.jitter, "strengths from 0 to 2, the last (hue) at most 0.5");
        }
        if self.blur_kernel.is_some_and(|k| k % 2 == 0) {
            return bad("blur_kernel", &self.blur_kernel, "an odd number of pixels");
        }
        if self.std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return bad("std", &self.std, "values above 0");
        }
        Ok(())
    }

    fn stretched(&self, channels: usize) -> bool {
        match self.stretch {
            Stretch::Auto => channels == 1,
            Stretch::Always => true,
            Stretch::Never => false,
        }
    }

    /// Mean and standard deviation of channel `k` of `channels`.
    pub fn channel(&self, k: usize, channels: usize) -> (f32, f32) {
        let (mean, std) = self.statistics(channels);
        (mean.get(k).copied().unwrap_or(0.0), std.get(k).copied().unwrap_or(1.0))
    }

    fn statistics(&self, channels: usize) -> (Vec<f32>, Vec<f32>) {
        if channels == 1 {
            // One channel takes the mean of the three.
            (vec![self.mean.iter().sum::<f32>() / 3.0], vec![self.std.iter().sum::<f32>() / 3.0])
        } else {
            (self.mean.to_vec(), self.std.to_vec())
        }
    }

    /// The steps of a view of `size` pixels; `second` views may differ, a view that is compared with nothing
    /// keeps its colours.
    fn pipeline(&self, size: usize, scale: [f64; 2], second: bool, color: bool) -> Pipeline {
        let p = |v: f64| v as f32;
        let mut ops = vec![Op::RandomResizedCrop {
            size: size as u32,
            scale: scale.map(p),
            ratio: self.crop_ratio.map(p),
        }];
        if self.rotation > 0.0 {
            ops.push(Op::Rotation { degrees: p(self.rotation), p: 1.0 });
        }
        match self.policy {
            Policy::None => {}
            Policy::Rand => ops.push(Op::RandAugment { count: 2, magnitude: 9 }),
            Policy::Trivial => ops.push(Op::TrivialAugment),
        }
        if self.flip > 0.0 {
            ops.push(Op::HorizontalFlip { p: p(self.flip) });
        }
        if color {
            let [brightness, contrast, saturation, hue] = self.jitter.map(p);
            if self.jitter_p > 0.0 && self.jitter.iter().any(|j| *j > 0.0) {
                ops.push(Op::ColorJitter { brightness, contrast, saturation, hue, p: p(self.jitter_p) });
            }
            if self.gray_p > 0.0 {
                ops.push(Op::Grayscale { p: p(self.gray_p) });
            }
            let blur = if second { self.blur_p_second.unwrap_or(self.blur_p) } else { self.blur_p };
            if blur > 0.0 {
                let kernel = self.blur_kernel.unwrap_or((size / 10) | 1) as u32;
                ops.push(Op::GaussianBlur { kernel, sigma: self.blur_sigma.map(p), p: p(blur) });
            }
            if second && self.solarize_p_second > 0.0 {
                ops.push(Op::Solarize { threshold: 128, p: p(self.solarize_p_second) });
            }
        }
        Pipeline::new(ops)
    }

    /// The views that a method wants; a single view is cropped and flipped only.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn views(&self, wanted: Wanted, channels: usize, max_pixels: u64) -> Result<Augment> {
        self.check()?;
        let (mean, std) = self.statistics(channels);
        let full = (0..wanted.globals())
            .map(|v| self.pipeline(self.size, self.crop_scale, v % 2 == 1, wanted.compares()));
        let crops = if wanted.crops() { self.local_views } else { 0 };
        let local = (0..crops).map(|_| self.pipeline(self.local_size, self.local_scale, false, true));
        let views = full.chain(local).collect();
        let stretch = self.stretched(channels);
        Ok(Augment { views, channels, max_pixels, stretch, mean, std, corrupt: None })
    }

    /// One view without augmentation: the shorter side to the size, then the centre.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn evaluation(&self, channels: usize, max_pixels: u64) -> Result<Augment> {
        self.check()?;
        let (mean, std) = self.statistics(channels);
        let size = self.size as u32;
        Ok(Augment {
            views: vec![Pipeline::new(vec![Op::Resize { size }, Op::CenterCrop { size }])],
            channels,
            max_pixels,
            stretch: self.stretched(channels),
            mean,
            std,
            corrupt: None,
        })
    }
}

impl Augment {
    /// The same with every view corrupted before it is normalised: after it was resized and cropped, as in
    /// ImageNet-C. A grey picture is corrupted in one channel, whatever the encoder takes.
    #[must_use]
    pub fn corrupted(self, corrupt: Corrupt) -> Self {
        Augment { corrupt: Some(corrupt), ..self }
    }

    /// Decodes a sample into the number of channels that the encoder takes.
    ///
    /// # Errors
    /// If it cannot be decoded; the message names it.
    pub fn decode(&self, sample: Sample) -> Result<Image> {
        self.in_channels(sample.decode_stretched(self.max_pixels, self.stretch)?)
    }

    fn in_channels(&self, image: Image) -> Result<Image> {
        if self.channels == 1 { image.to_gray() } else { image.to_rgb() }
    }

    /// The views of a sample that is corrupted.
    fn of_corrupted(&self, sample: Sample, corrupt: Corrupt, rng: &mut Rng) -> Result<Vec<Planes>> {
        let id = sample.id.clone();
        let image = sample.decode_stretched(self.max_pixels, self.stretch)?;
        let image = if self.channels == 1 { image.to_gray()? } else { image };
        let view = |pipeline: &Pipeline| {
            let view = corrupt.apply(&pipeline.apply(&image, rng)?, &id)?;
            Planes::normalized(&self.in_channels(view)?, &self.mean, &self.std)
        };
        self.views.iter().map(view).collect()
    }
}

impl Augment {
    /// As its transform, and the draws that made the first view.
    ///
    /// # Errors
    /// If the sample cannot be decoded.
    pub fn told(&self, sample: Sample, rng: &mut Rng) -> Result<(Vec<Planes>, Vec<Factor>)> {
        let image = self.decode(sample)?;
        let mut factors = Vec::new();
        let mut views = Vec::new();
        for (i, pipeline) in self.views.iter().enumerate() {
            let view = pipeline.apply_told(&image, rng, &mut |factor| {
                if i == 0 {
                    factors.push(factor);
                }
            })?;
            views.push(Planes::normalized(&view, &self.mean, &self.std)?);
        }
        Ok((views, factors))
    }
}

impl Transform<Sample> for Augment {
    type Out = Vec<Planes>;

    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Vec<Planes>> {
        if let Some(corrupt) = self.corrupt {
            return self.of_corrupted(sample, corrupt, rng);
        }
        let image = self.decode(sample)?;
        self.views
            .iter()
            .map(|pipeline| {
                let view = pipeline.apply(&image, rng)?;
                Planes::normalized(&view, &self.mean, &self.std)
            })
            .collect()
    }
}
