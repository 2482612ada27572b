//! Corrupted images, to measure how a representation stands up to a shift: the 15 kinds of ImageNet-C and the
//! 4 that its authors kept for validation, at five severities (Hendrycks and Dietterich 2019, "Benchmarking
//! neural network robustness to common corruptions and perturbations", arXiv 1903.12261).
//!
//! An image `x` from 0 to 1 becomes `clip(c(x), 0, 1)`, truncated to its levels. The parameters are those of
//! the published sets: ImageNet-C's for images whose shorter side has 64 pixels or more, CIFAR-10-C's for
//! smaller ones ([`Table`]).
//!
//! What differs from the published images:
//! - `frost` blends a pattern that is computed, not photographs;
//! - the lengths of `elastic_transform` are parts of the image's side, so that they fit any size;
//! - an image of one channel is corrupted in one channel: noise is gray, `saturate` leaves it as it is, and
//!   coloured splashes and ice have their luminance;
//! - `spatter` finds the edges of drops by an own Canny;
//! - random numbers come from a Philox key instead of numpy's generator: of kinds with chance the statistics
//!   are the same, not the pixels.
//!
//! ```
//! use selfsup_vision::corrupt::Corruption;
//! use selfsup_vision::image::{Image, Pixels};
//! use selfsup_core::Key;
//!
//! let image = Image::new(40, 32, 3, Pixels::U8((0..40 * 32 * 3).map(|i| (i % 251) as u8).collect()))?;
//! let foggy = Corruption::named("fog")?.apply(&image, 3, &mut Key::new(0).rng())?;
//! assert_ne!(foggy, image);
//! # Ok::<(), selfsup_core::Error>(())
//! ```

mod blur;
mod digital;
mod jpeg;
mod noise;
mod raster;
mod spatter;
mod table;
mod weather;

pub use table::Table;

use crate::image::Image;
use raster::Raster;
use selfsup_core::{Error, Key, Result, Rng};

/// How often severities go up.
pub const SEVERITIES: u8 = 5;

/// A kind of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Corruption {
    /// Normal noise on every value.
    GaussianNoise,
    /// Poisson noise of photons.
    ShotNoise,
    /// Values that become black or white.
    ImpulseNoise,
    /// Out of focus.
    DefocusBlur,
    /// Seen through frosted glass.
    GlassBlur,
    /// Moved while the shutter was open.
    MotionBlur,
    /// Moved towards while the shutter was open.
    ZoomBlur,
    /// Falling flakes.
    Snow,
    /// Ice on the lens.
    Frost,
    /// A plasma of haze.
    Fog,
    /// Brighter.
    Brightness,
    /// Less contrast.
    Contrast,
    /// Stretched and bent.
    ElasticTransform,
    /// Large pixels.
    Pixelate,
    /// Compressed as a JPEG.
    JpegCompression,
    /// Noise that grows with the signal.
    SpeckleNoise,
    /// A Gaussian blur.
    GaussianBlur,
    /// Splashes of water or mud.
    Spatter,
    /// Less or more saturated.
    Saturate,
}

use Corruption::*;

impl Corruption {
    /// All kinds: the 15 of ImageNet-C in its order, then the 4 for validation.
    pub const ALL: [Corruption; 19] = [
        GaussianNoise,
        ShotNoise,
        ImpulseNoise,
        DefocusBlur,
        GlassBlur,
        MotionBlur,
        ZoomBlur,
        Snow,
        Frost,
        Fog,
        Brightness,
        Contrast,
        ElasticTransform,
        Pixelate,
        JpegCompression,
        SpeckleNoise,
        GaussianBlur,
        Spatter,
        Saturate,
    ];

    /// The 15 kinds whose mean is reported.
    pub fn benchmark() -> &'static [Corruption] {
        &Self::ALL[..15]
    }

    /// The name that the published sets have.
    pub fn name(self) -> &'static str {
        match self {
            GaussianNoise => "gaussian_noise",
            ShotNoise => "shot_noise",
            ImpulseNoise => "impulse_noise",
            DefocusBlur => "defocus_blur",
            GlassBlur => "glass_blur",
            MotionBlur => "motion_blur",
            ZoomBlur => "zoom_blur",
            Snow => "snow",
            Frost => "frost",
            Fog => "fog",
            Brightness => "brightness",
            Contrast => "contrast",
            ElasticTransform => "elastic_transform",
            Pixelate => "pixelate",
            JpegCompression => "jpeg_compression",
            SpeckleNoise => "speckle_noise",
            GaussianBlur => "gaussian_blur",
            Spatter => "spatter",
            Saturate => "saturate",
        }
    }

    /// Noise, blur, weather or digital, as the paper groups the kinds.
    pub fn group(self) -> &'static str {
        match self {
            GaussianNoise | ShotNoise | ImpulseNoise | SpeckleNoise => "noise",
            DefocusBlur | GlassBlur | MotionBlur | ZoomBlur | GaussianBlur => "blur",
            Snow | Frost | Fog | Brightness | Spatter => "weather",
            Contrast | ElasticTransform | Pixelate | JpegCompression | Saturate => "digital",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// If there is none; the message lists all.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Corruption::name).join(", ");
            Error::config(format!("no corruption of images is called \"{name}\": expected one of {all}"))
        })
    }

    /// The image at a severity from 0 (as it is) to 5, by the table of its size.
    ///
    /// # Errors
    /// If the severity is above 5.
    pub fn apply(self, image: &Image, severity: u8, rng: &mut Rng) -> Result<Image> {
        self.apply_as(image, severity, Table::of(image), rng)
    }

    /// The same by a given table.
    ///
    /// # Errors
    /// If the severity is above 5.
    pub fn apply_as(self, image: &Image, severity: u8, table: Table, rng: &mut Rng) -> Result<Image> {
        if severity > SEVERITIES {
            return Err(wrong_severity(severity));
        }
        if severity == 0 {
            return Ok(image.clone());
        }
        match self {
            Pixelate => return digital::pixelate(image, severity, table),
            JpegCompression => return jpeg::jpeg(image, severity, table),
            _ => {}
        }
        let mut x = Raster::of(image);
        match self {
            GaussianNoise => noise::gaussian(&mut x, severity, table, rng),
            ShotNoise => noise::shot(&mut x, severity, table, rng),
            ImpulseNoise => noise::impulse(&mut x, severity, table, rng),
            SpeckleNoise => noise::speckle(&mut x, severity, table, rng),
            GaussianBlur => blur::gaussian(&mut x, severity, table),
            DefocusBlur => blur::defocus(&mut x, severity, table),
            GlassBlur => blur::glass(&mut x, severity, table, rng),
            MotionBlur => blur::motion(&mut x, severity, table, rng),
            ZoomBlur => blur::zoom(&mut x, severity, table),
            Snow => weather::snow(&mut x, severity, table, rng),
            Frost => weather::frost(&mut x, severity, table, rng),
            Fog => weather::fog(&mut x, severity, table, rng),
            Spatter => spatter::spatter(&mut x, severity, table, rng),
            Brightness => digital::brightness(&mut x, severity, table),
            Contrast => digital::contrast(&mut x, severity, table),
            Saturate => digital::saturate(&mut x, severity, table),
            ElasticTransform => digital::elastic(&mut x, severity, table, rng),
            Pixelate | JpegCompression => {}
        }
        x.into_image()
    }
}

/// A kind of corruption at one severity, for samples by their names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrupt {
    kind: Corruption,
    severity: u8,
    seed: u64,
}

impl Corrupt {
    /// Another seed is other noise. Severity 0 leaves images as they are.
    ///
    /// # Errors
    /// If the severity is above 5.
    pub fn new(kind: Corruption, severity: u8, seed: u64) -> Result<Self> {
        if severity > SEVERITIES {
            return Err(wrong_severity(severity));
        }
        Ok(Corrupt { kind, severity, seed })
    }

    /// The image that is called `id`. What is drawn depends on the seed, the kind and that name alone.
    ///
    /// # Errors
    /// Never for an image that [`Image::new`] made.
    pub fn apply(&self, image: &Image, id: &str) -> Result<Image> {
        let key = Key::new(self.seed).named(self.kind.name()).named(id);
        self.kind.apply(image, self.severity, &mut key.rng())
    }
}

fn wrong_severity(severity: u8) -> Error {
    Error::config(format!("severity {severity}: expected 0 (none) to {SEVERITIES}"))
}

#[cfg(test)]
mod tests;
