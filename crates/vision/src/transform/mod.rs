//! Random transforms of decoded images. Randomness is an argument: the same generator gives the same view.

pub mod ops;
mod resize;

pub use ops::{Filter, Rect};

use crate::image::Image;
use selfsup_core::{Result, Rng};
use serde::{Deserialize, Serialize};

/// One step of a [`Pipeline`]. `p` is its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Op {
    /// The shorter side to `size` pixels.
    Resize {
        /// Pixels.
        size: u32,
    },
    /// The middle `size` by `size` pixels.
    CenterCrop {
        /// Pixels.
        size: u32,
    },
    /// A random rectangle, resized (Szegedy et al. 2014, arXiv 1409.4842; torchvision's sampling: ten tries,
    /// then the centre).
    RandomResizedCrop {
        /// Pixels of the result.
        size: u32,
        /// Share of the area.
        scale: [f32; 2],
        /// Aspect ratio.
        ratio: [f32; 2],
    },
    /// Mirrors left and right.
    HorizontalFlip {
        /// Probability.
        p: f32,
    },
    /// Brightness, contrast, saturation and hue, in random order; each factor uniform in `1 +- strength`.
    ColorJitter {
        /// Strength.
        brightness: f32,
        /// Strength.
        contrast: f32,
        /// Strength.
        saturation: f32,
        /// Largest shift, in turns.
        hue: f32,
        /// Probability.
        p: f32,
    },
    /// Gray in all channels.
    Grayscale {
        /// Probability.
        p: f32,
    },
    /// Gaussian blur of a random standard deviation.
    GaussianBlur {
        /// Side of the kernel in pixels, odd.
        kernel: u32,
        /// Smallest and largest standard deviation in pixels.
        sigma: [f32; 2],
        /// Probability.
        p: f32,
    },
    /// Inverts the values above a threshold.
    Solarize {
        /// Of 256 levels.
        threshold: u16,
        /// Probability.
        p: f32,
    },
    /// Turns by an angle uniform in `+- degrees`.
    Rotation {
        /// Largest angle.
        degrees: f32,
        /// Probability.
        p: f32,
    },
    /// `count` random operations of one magnitude of 0 to 30 (Cubuk et al. 2019, arXiv 1909.13719).
    RandAugment {
        /// Operations.
        count: u32,
        /// Magnitude.
        magnitude: u32,
    },
    /// One random operation of a random magnitude (Mueller and Hutter 2021, arXiv 2103.10158).
    TrivialAugment,
}

/// A draw that made a view: what a representation may have kept of its style.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// Its name.
    pub name: &'static str,
    /// Its value: a number, or 0 and 1 for what was done or not.
    pub value: f32,
    /// Whether it is one of the two.
    pub discrete: bool,
}

impl Factor {
    fn number(name: &'static str, value: f64) -> Self {
        Factor { name, value: value as f32, discrete: false }
    }

    fn done(name: &'static str, hit: bool) -> Self {
        Factor { name, value: f32::from(u8::from(hit)), discrete: true }
    }
}

/// Steps that make a view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pipeline {
    ops: Vec<Op>,
}

impl Pipeline {
    /// The steps in order.
    pub fn new(ops: Vec<Op>) -> Self {
        Pipeline { ops }
    }

    /// The steps.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// A view of `image`.
    ///
    /// # Errors
    /// If a size is 0.
    pub fn apply(&self, image: &Image, rng: &mut Rng) -> Result<Image> {
        self.apply_told(image, rng, &mut |_| {})
    }

    /// As [`Pipeline::apply`], and tells the draws that made the view: the place of the crop and its share of the
    /// area, the angle, whether it was mirrored, grey or inverted, the changes of colour and the blur. A step that
    /// was left out has the value that changes nothing. RandAugment and TrivialAugment tell nothing.
    ///
    /// # Errors
    /// If a size is 0.
    pub fn apply_told(&self, image: &Image, rng: &mut Rng, tell: &mut dyn FnMut(Factor)) -> Result<Image> {
        let mut current: Option<Image> = None;
        for op in &self.ops {
            let made = op.apply(current.take(), image, rng, tell)?;
            current = Some(made);
        }
        Ok(current.unwrap_or_else(|| image.clone()))
    }
}

fn chance(rng: &mut Rng, p: f32) -> bool {
    rng.uniform() < p
}

impl Op {
    /// Applies the step to what the steps before made, or to the `original` if there was none: a first crop
    /// need not copy it.
    fn apply(
        &self,
        current: Option<Image>,
        original: &Image,
        rng: &mut Rng,
        tell: &mut dyn FnMut(Factor),
    ) -> Result<Image> {
        let of = |c: &Option<Image>| -> Image { c.clone().unwrap_or_else(|| original.clone()) };
        match *self {
            Op::Resize { size } => {
                ops::resize_shorter(current.as_ref().unwrap_or(original), size, Filter::Bilinear)
            }
            Op::CenterCrop { size } => ops::center_crop(current.as_ref().unwrap_or(original), size),
            Op::RandomResizedCrop { size, scale, ratio } => {
                let image = current.as_ref().unwrap_or(original);
                let rect = random_rect(image, scale, ratio, rng);
                let (w, h) = (f64::from(image.width).max(1.0), f64::from(image.height).max(1.0));
                tell(Factor::number("crop across", (rect.left + rect.width / 2.0) / w));
                tell(Factor::number("crop down", (rect.top + rect.height / 2.0) / h));
                tell(Factor::number("crop area", rect.width * rect.height / (w * h)));
                ops::resized_crop(image, rect, size, size, Filter::Bilinear)
            }
            Op::HorizontalFlip { p } => {
                let hit = chance(rng, p);
                tell(Factor::done("mirrored", hit));
                if hit {
                    ops::horizontal_flip(current.as_ref().unwrap_or(original))
                } else {
                    Ok(current.unwrap_or_else(|| original.clone()))
                }
            }
            Op::Rotation { degrees, p } => {
                let hit = chance(rng, p);
                let angle = rng.range_f32(-degrees, degrees);
                tell(Factor::number("angle", if hit { angle.into() } else { 0.0 }));
                if hit {
                    ops::rotate(current.as_ref().unwrap_or(original), angle, true)
                } else {
                    Ok(current.unwrap_or_else(|| original.clone()))
                }
            }
            Op::ColorJitter { brightness, contrast, saturation, hue, p } => {
                let mut image = current.unwrap_or_else(|| original.clone());
                let mut told = ([1.0; 3], 0.0);
                if chance(rng, p) {
                    let mut factor = |strength: f32| rng.range_f32((1.0 - strength).max(0.0), 1.0 + strength);
                    let factors = [factor(brightness), factor(contrast), factor(saturation)];
                    let shift = rng.range_f32(-hue, hue);
                    told = (factors, shift);
                    for step in rng.permutation(4) {
                        match step {
                            0 if brightness > 0.0 => ops::brightness(&mut image, factors[0]),
                            1 if contrast > 0.0 => ops::contrast(&mut image, factors[1]),
                            2 if saturation > 0.0 => ops::saturation(&mut image, factors[2]),
                            3 if hue > 0.0 => ops::hue(&mut image, shift),
                            _ => {}
                        }
                    }
                }
                let names = ["brightness", "contrast", "saturation"];
                for ((name, strength), value) in
                    names.into_iter().zip([brightness, contrast, saturation]).zip(told.0)
                {
                    if strength > 0.0 {
                        tell(Factor::number(name, value.into()));
                    }
                }
                if hue > 0.0 {
                    tell(Factor::number("hue", told.1.into()));
                }
                Ok(image)
            }
            Op::Grayscale { p } => {
                let mut image = current.unwrap_or_else(|| original.clone());
                let hit = chance(rng, p);
                tell(Factor::done("grey", hit));
                if hit {
                    ops::grayscale(&mut image);
                }
                Ok(image)
            }
            Op::GaussianBlur { kernel, sigma, p } => {
                let mut image = current.unwrap_or_else(|| original.clone());
                let hit = chance(rng, p);
                let sigma = rng.range_f32(sigma[0], sigma[1]);
                tell(Factor::number("blur", if hit { sigma.into() } else { 0.0 }));
                if hit {
                    ops::gaussian_blur(&mut image, kernel as usize, sigma);
                }
                Ok(image)
            }
            Op::Solarize { threshold, p } => {
                let mut image = current.unwrap_or_else(|| original.clone());
                let hit = chance(rng, p);
                tell(Factor::done("solarized", hit));
                if hit {
                    ops::solarize(&mut image, threshold);
                }
                Ok(image)
            }
            Op::RandAugment { count, magnitude } => {
                let mut image = of(&current);
                for _ in 0..count {
                    let which = rng.below(14);
                    image = policy(image, which, magnitude.min(30) as f32 / 30.0, false, rng)?;
                }
                Ok(image)
            }
            Op::TrivialAugment => {
                let which = rng.below(14);
                let strength = rng.below(31) as f32 / 30.0;
                policy(of(&current), which, strength, true, rng)
            }
        }
    }
}

/// One of the fourteen operations of RandAugment and TrivialAugment at `strength` 0 to 1, with torchvision's
/// ranges (`wide`: those of TrivialAugmentWide).
fn policy(mut image: Image, which: usize, strength: f32, wide: bool, rng: &mut Rng) -> Result<Image> {
    let sign = if rng.chance(0.5) { -1.0 } else { 1.0 };
    let side = |size: u32| if wide { 32.0 } else { 150.0 / 331.0 * size as f32 };
    let factor = 1.0 + sign * strength * if wide { 0.99 } else { 0.9 };
    match which {
        0 => {}
        1 => {
            return ops::affine(
                &image,
                [1.0, sign * strength * if wide { 0.99 } else { 0.3 }, 0.0, 0.0, 1.0, 0.0],
                false,
            );
        }
        2 => {
            return ops::affine(
                &image,
                [1.0, 0.0, 0.0, sign * strength * if wide { 0.99 } else { 0.3 }, 1.0, 0.0],
                false,
            );
        }
        3 => {
            return ops::affine(
                &image,
                [1.0, 0.0, -sign * (strength * side(image.width)).trunc(), 0.0, 1.0, 0.0],
                false,
            );
        }
        4 => {
            return ops::affine(
                &image,
                [1.0, 0.0, 0.0, 0.0, 1.0, -sign * (strength * side(image.height)).trunc()],
                false,
            );
        }
        5 => return ops::rotate(&image, sign * strength * if wide { 135.0 } else { 30.0 }, false),
        6 => ops::brightness(&mut image, factor),
        7 => ops::saturation(&mut image, factor),
        8 => ops::contrast(&mut image, factor),
        9 => ops::sharpness(&mut image, factor),
        10 => ops::posterize(&mut image, 8 - (strength * if wide { 6.0 } else { 4.0 }).round() as u8),
        11 => ops::solarize(&mut image, (255.0 * (1.0 - strength)).round() as u16),
        12 => ops::autocontrast(&mut image),
        _ => ops::equalize(&mut image),
    }
    Ok(image)
}

/// torchvision's `RandomResizedCrop.get_params`.
pub(crate) fn random_rect(image: &Image, scale: [f32; 2], ratio: [f32; 2], rng: &mut Rng) -> Rect {
    let (w, h) = (f64::from(image.width), f64::from(image.height));
    let (low, high) = (ratio[0].ln(), ratio[1].ln());
    for _ in 0..10 {
        let area = w * h * f64::from(rng.range_f32(scale[0], scale[1]));
        let aspect = f64::from(rng.range_f32(low, high).exp());
        let (cw, ch) = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
        if cw >= 1.0 && ch >= 1.0 && cw <= w && ch <= h {
            let top = rng.below((h - ch) as usize + 1) as f64;
            let left = rng.below((w - cw) as usize + 1) as f64;
            return Rect { top, left, height: ch, width: cw };
        }
    }
    let aspect = w / h;
    let (cw, ch) = if aspect < f64::from(ratio[0]) {
        (w, (w / f64::from(ratio[0])).round().clamp(1.0, h))
    } else if aspect > f64::from(ratio[1]) {
        ((h * f64::from(ratio[1])).round().clamp(1.0, w), h)
    } else {
        (w, h)
    };
    Rect { top: ((h - ch) / 2.0).floor(), left: ((w - cw) / 2.0).floor(), height: ch, width: cw }
}
