//! Decoded images, and how files become them.
//!
//! The format is found by the content, not by the name. EXIF orientation is applied, CMYK becomes RGB, an
//! alpha channel is dropped (as PIL's `convert("RGB")` does), 8 and 16 bits stay as they are; other numbers
//! become 16 bits, floating point from 0 to 1 by that range and others by their percentiles. A header that
//! promises more pixels than allowed is refused before anything is allocated.

use crate::levels::stretch;
use crate::{png, tiff};
use image::{DynamicImage, ImageDecoder, ImageReader};
use selfsup_core::guard::guarded;
use selfsup_core::{Error, Result, file};
use std::io::Cursor;
use std::path::Path;

/// A usual limit of the pixels of an image (the command's `data.max_pixels`): larger ones are refused before
/// memory is asked for.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Values of an image, rows of interleaved channels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pixels {
    /// 8 bits.
    U8(Vec<u8>),
    /// 16 bits.
    U16(Vec<u16>),
}

impl Pixels {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(v) => v.len(),
            Pixels::U16(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A decoded image with 1 or 3 channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Values of a pixel: 1 or 3.
    pub channels: u8,
    /// `height * width * channels` values.
    pub data: Pixels,
}

impl Image {
    /// An image of these values.
    ///
    /// # Errors
    /// If a size is 0, there are neither 1 nor 3 channels, or the number of values does not fit.
    pub fn new(width: u32, height: u32, channels: u8, data: Pixels) -> Result<Self> {
        let want =
            (width as usize).checked_mul(height as usize).and_then(|n| n.checked_mul(usize::from(channels)));
        if width == 0 || height == 0 || !matches!(channels, 1 | 3) || want != Some(data.len()) {
            return Err(Error::input(
                "image",
                format!(
                    "{width} x {height} pixels with {channels} channels and {} values: expected 1 or 3 channels and as many values",
                    data.len()
                ),
            ));
        }
        Ok(Image { width, height, channels, data })
    }

    /// Decodes the content of a file called `name` of at most `max_pixels`.
    ///
    /// # Errors
    /// If the content is no image, is damaged or cut short, or has too many pixels; the message names the
    /// file.
    pub fn decode(bytes: &[u8], name: &str, max_pixels: u64) -> Result<Self> {
        Self::decode_stretched(bytes, name, max_pixels, false)
    }

    /// As [`Image::decode`]. With `stretched`, grey values that are stored in 16 bits are spread over their
    /// range, linearly between the 0.5th and the 99.5th percentile of the image: those of 12 bits would be
    /// next to black.
    ///
    /// # Errors
    /// As [`Image::decode`].
    pub fn decode_stretched(bytes: &[u8], name: &str, max_pixels: u64, stretched: bool) -> Result<Self> {
        let read = guarded(|| Self::read(bytes, name, max_pixels));
        let (mut image, stored) = read
            .unwrap_or_else(|_| Err(Error::input(name, "its decoder gave up on it: is the file damaged?")))?;
        if let (true, true, 1, Pixels::U16(values)) = (stretched, stored, image.channels, &mut image.data) {
            stretch(values);
        }
        Ok(image)
    }

    /// The image, and whether its values are those of the file.
    fn read(bytes: &[u8], name: &str, max_pixels: u64) -> Result<(Self, bool)> {
        if bytes.is_empty() {
            return Err(Error::input(name, "an empty file: expected an image"));
        }
        if tiff::is_special(bytes) {
            let tiff::Decoded { width, height, channels, values } = tiff::decode(bytes, name, max_pixels)?;
            let (data, stored) = match values {
                tiff::Values::U8(values) => (Pixels::U8(values), true),
                tiff::Values::U16(values) => (Pixels::U16(values), true),
                tiff::Values::Levels(values) => (Pixels::U16(values), false),
            };
            let image = Image::new(width, height, channels, data).map_err(|e| Error::input(name, e))?;
            return Ok((image, stored));
        }
        let bytes = &*png::pixels_only(bytes);
        let reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| Error::input(name, e))?;
        let Some(format) = reader.format() else {
            return Err(Error::input(name, "not an image: expected JPEG, PNG, WebP, TIFF, BMP, GIF or PNM"));
        };
        let wrong =
            |e: image::ImageError| Error::input(name, format!("cannot be decoded as {format:?}: {e}"));
        let mut reader = reader;
        // Decoders allocate by what a header says: a few values a pixel, and some room to work in.
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(max_pixels.saturating_mul(16).saturating_add(64 << 20));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(wrong)?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(Error::input(name, "an image without pixels"));
        }
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(Error::input(
                name,
                format!(
                    "{width} x {height} pixels are more than the limit of {max_pixels} (data.max_pixels)"
                ),
            ));
        }
        if format == image::ImageFormat::Png && !png::can_hold(bytes, width, height) {
            let problem = format!("{width} x {height} pixels cannot lie in {} bytes: damaged?", bytes.len());
            return Err(Error::input(name, problem));
        }
        if format == image::ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
            return Err(Error::input(name, "a truncated JPEG: its end is missing"));
        }
        let orientation = decoder.orientation().map_err(wrong)?;
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(wrong)?;
        decoded.apply_orientation(orientation);
        let (width, height) = (decoded.width(), decoded.height());
        let (channels, data) = match decoded {
            DynamicImage::ImageLuma8(b) => (1, Pixels::U8(b.into_raw())),
            DynamicImage::ImageLuma16(b) => (1, Pixels::U16(b.into_raw())),
            DynamicImage::ImageRgb8(b) => (3, Pixels::U8(b.into_raw())),
            DynamicImage::ImageRgb16(b) => (3, Pixels::U16(b.into_raw())),
            other @ DynamicImage::ImageLumaA8(_) => {
                (1, Pixels::U8(first_of_two(&other.to_luma_alpha8().into_raw())))
            }
            other @ DynamicImage::ImageLumaA16(_) => {
                (1, Pixels::U16(first_of_two(&other.to_luma_alpha16().into_raw())))
            }
            other @ DynamicImage::ImageRgba16(_) => (3, Pixels::U16(other.to_rgb16().into_raw())),
            other => (3, Pixels::U8(other.to_rgb8().into_raw())),
        };
        Ok((Image::new(width, height, channels, data).map_err(|e| Error::input(name, e))?, true))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Image::decode`].
    pub fn open(path: impl AsRef<Path>, max_pixels: u64) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        Self::decode(&bytes, &path.display().to_string(), max_pixels)
    }

    /// Three channels: a gray image repeats its value.
    ///
    /// # Errors
    /// Never for an image that [`Image::new`] made.
    pub fn to_rgb(self) -> Result<Self> {
        if self.channels == 3 {
            return Ok(self);
        }
        let data = match self.data {
            Pixels::U8(v) => Pixels::U8(v.into_iter().flat_map(|x| [x; 3]).collect()),
            Pixels::U16(v) => Pixels::U16(v.into_iter().flat_map(|x| [x; 3]).collect()),
        };
        Image::new(self.width, self.height, 3, data)
    }

    /// One channel: `0.299 R + 0.587 G + 0.114 B`.
    ///
    /// # Errors
    /// Never for an image that [`Image::new`] made.
    pub fn to_gray(self) -> Result<Self> {
        if self.channels == 1 {
            return Ok(self);
        }
        let luma = |r: f32, g: f32, b: f32| 0.299 * r + 0.587 * g + 0.114 * b + 0.5;
        let data = match self.data {
            Pixels::U8(v) => Pixels::U8(
                v.chunks_exact(3).map(|p| luma(p[0].into(), p[1].into(), p[2].into()) as u8).collect(),
            ),
            Pixels::U16(v) => Pixels::U16(
                v.chunks_exact(3).map(|p| luma(p[0].into(), p[1].into(), p[2].into()) as u16).collect(),
            ),
        };
        Image::new(self.width, self.height, 1, data)
    }

    /// Writes a PNG.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let color = match (&self.data, self.channels) {
            (Pixels::U8(_), 1) => image::ExtendedColorType::L8,
            (Pixels::U8(_), _) => image::ExtendedColorType::Rgb8,
            (Pixels::U16(_), 1) => image::ExtendedColorType::L16,
            (Pixels::U16(_), _) => image::ExtendedColorType::Rgb16,
        };
        let bytes: Vec<u8> = match &self.data {
            Pixels::U8(v) => v.clone(),
            Pixels::U16(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        };
        image::save_buffer_with_format(path, &bytes, self.width, self.height, color, image::ImageFormat::Png)
            .map_err(|e| Error::file(path, e))
    }
}

fn first_of_two<T: Copy>(values: &[T]) -> Vec<T> {
    values.iter().step_by(2).copied().collect()
}

/// Whether the scan of a JPEG reaches its end marker. Decoders fill what is missing with gray; a data set
/// should not learn from that.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    // Segments with a length up to the first scan: a thumbnail in one of them has an end marker of its own.
    let mut at = 2;
    while let (Some(0xFF), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) {
        match marker {
            0xFF => at += 1,
            0xD8 | 0x01 | 0xD0..=0xD7 => at += 2,
            0xDA => return bytes.get(at..).is_some_and(|scan| scan.windows(2).any(|w| w == [0xFF, 0xD9])),
            _ => match bytes.get(at + 2..at + 4) {
                Some(length) => at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100_000_000;

    fn encode(image: &DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn picture() -> DynamicImage {
        DynamicImage::ImageRgb8(image::RgbImage::from_fn(61, 47, |x, y| {
            image::Rgb([x as u8 * 4, y as u8 * 5, (x * y % 251) as u8])
        }))
    }

    #[test]
    fn formats() {
        use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
        for format in [Bmp, Gif, Jpeg, Png, Tiff, WebP] {
            let made = if format == Gif { DynamicImage::ImageRgba8(picture().to_rgba8()) } else { picture() };
            let got = Image::decode(&encode(&made, format), "x", LIMIT).unwrap();
            assert_eq!((got.width, got.height, got.channels), (61, 47, 3), "{format:?}");
        }
        let wide = DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(3, 2, image::Luma([40_000u16])));
        let got = Image::decode(&encode(&wide, Png), "x", LIMIT).unwrap();
        assert_eq!(got.data, Pixels::U16(vec![40_000; 6]));
        assert_eq!(Image::decode(&encode(&wide, Png), "x", LIMIT).unwrap().to_rgb().unwrap().channels, 3);
    }

    #[test]
    fn twelve_bits_are_stretched_where_asked() {
        let wide = image::ImageBuffer::from_fn(40, 40, |x, y| image::Luma([(x + 40 * y) as u16 * 2 + 100]));
        let bytes = encode(&DynamicImage::ImageLuma16(wide), image::ImageFormat::Png);
        let most = |stretched| {
            let image = Image::decode_stretched(&bytes, "x", LIMIT, stretched).unwrap();
            let Pixels::U16(values) = image.data else { panic!("8 bits") };
            (*values.iter().min().unwrap(), *values.iter().max().unwrap())
        };
        assert_eq!((most(false), most(true)), ((100, 3298), (0, 65535)));
        // Floating point has its range already: nothing changes.
        let path = format!("{}/../../tests/data/images/35_float01.tif", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let plain = Image::decode(&bytes, "x", LIMIT).unwrap();
        assert_eq!(Image::decode_stretched(&bytes, "x", LIMIT, true).unwrap(), plain);
    }

    #[test]
    fn bad_files_are_named() {
        let jpeg = encode(&picture(), image::ImageFormat::Jpeg);
        let png = encode(&picture(), image::ImageFormat::Png);
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"this is a text file that calls itself a picture", "not an image"),
            (&jpeg[..jpeg.len() / 2], "truncated"),
            (&jpeg[..jpeg.len() - 2], "truncated"),
            (&png[..png.len() / 2], "cannot be decoded"),
        ] {
            let e = Image::decode(bytes, "photo.jpg", LIMIT).unwrap_err().to_string();
            assert!(e.starts_with("photo.jpg") && e.contains(part), "{e}");
        }
        // Every prefix of a file is an error and not a panic.
        for n in (0..jpeg.len()).step_by(7) {
            assert!(Image::decode(&jpeg[..n], "x", LIMIT).is_err());
        }
        assert!(Image::decode(&png, "x", 100).unwrap_err().to_string().contains("limit"));
    }

    /// A PNG header that promises 30,000 x 30,000 pixels in a few bytes.
    #[test]
    fn bombs_are_refused_by_their_header() {
        let mut png = encode(&picture(), image::ImageFormat::Png);
        png[16..20].copy_from_slice(&30_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&30_000u32.to_be_bytes());
        let crc = {
            // CRC-32 of the chunk's type and content.
            let mut c = u32::MAX;
            for &b in &png[12..29] {
                c ^= u32::from(b);
                for _ in 0..8 {
                    c = if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 };
                }
            }
            !c
        };
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let e = Image::decode(&png, "bomb.png", LIMIT).unwrap_err().to_string();
        assert!(e.contains("bomb.png") && e.contains("30000 x 30000"), "{e}");
    }

    #[test]
    fn one_pixel() {
        let one = encode(&DynamicImage::ImageRgb8(image::RgbImage::new(1, 1)), image::ImageFormat::Png);
        assert_eq!(Image::decode(&one, "x", LIMIT).unwrap().data.len(), 3);
    }

    #[test]
    fn orientation_is_applied() {
        // A JPEG with an EXIF segment that says "rotate 90 degrees clockwise" (6).
        let jpeg = encode(&picture(), image::ImageFormat::Jpeg);
        let exif: Vec<u8> = [
            b"Exif\0\0MM\0\x2a\0\0\0\x08".as_slice(),
            &[0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let mut with = jpeg[..2].to_vec();
        with.extend([0xFF, 0xE1]);
        with.extend(((exif.len() + 2) as u16).to_be_bytes());
        with.extend(&exif);
        with.extend(&jpeg[2..]);
        let got = Image::decode(&with, "x", LIMIT).unwrap();
        assert_eq!((got.width, got.height), (47, 61));
    }

    fn case(name: &str) -> Image {
        let path = format!("{}/../../tests/data/images/{name}", env!("CARGO_MANIFEST_DIR"));
        Image::decode(&std::fs::read(path).unwrap(), name, LIMIT).unwrap()
    }

    fn levels_of(image: &Image) -> &[u16] {
        match &image.data {
            Pixels::U16(v) => v,
            Pixels::U8(_) => panic!("8 bits"),
        }
    }

    #[test]
    fn unusual_tiffs() {
        for name in ["35_float01.tif", "36_float0_4000.tif", "37_floatneg.tif", "50_int32.tif"] {
            let got = case(name);
            assert_eq!((got.width, got.height, got.channels), (64, 64, 1), "{name}");
            let levels = levels_of(&got);
            assert!(levels.iter().any(|v| v != &levels[0]), "{name}: not all alike");
        }
        // Half a percent is cut at both ends, the rest is spread linearly: three values as computed apart.
        for name in ["36_float0_4000.tif", "37_floatneg.tif", "50_int32.tif"] {
            let got = case(name);
            assert_eq!([0, 2000, 100].map(|i| levels_of(&got)[i]), [26131, 19080, 41893], "{name}");
        }
        // The bytes of the file, and the colours of its palette.
        for (name, at, pixel) in [
            ("39_bigtiff.tif", 0, [135, 100, 111]),
            ("39_bigtiff.tif", 2000, [81, 88, 172]),
            ("42_palette.tif", 0, [124, 101, 113]),
            ("42_palette.tif", 2000, [71, 84, 165]),
            ("42_palette.tif", 4095, [96, 176, 122]),
        ] {
            let Pixels::U8(values) = case(name).data else { panic!("{name}: 16 bits") };
            assert_eq!(values[3 * at..3 * at + 3], pixel, "{name}");
        }
        assert_eq!(case("49_zstd.tif"), case("39_bigtiff.tif"), "the same picture");
        for name in ["39_bigtiff.tif", "42_palette.tif"] {
            let got = case(name);
            assert_eq!((got.width, got.height, got.channels), (64, 64, 3), "{name}");
            assert!(matches!(got.data, Pixels::U8(_)), "{name}");
        }
        let path = format!("{}/../../tests/data/images/35_float01.tif", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        // The raw values of the file stand in it as they are: the levels are 65,535 times them.
        let got = case("35_float01.tif");
        let entry = |tag: u16| {
            let at = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize + 2;
            let entries = (0..).map(|i| &bytes[at + 12 * i..at + 12 * i + 12]);
            let found = entries.take(30).find(|e| e[..2] == tag.to_le_bytes()).unwrap();
            u32::from_le_bytes(found[8..12].try_into().unwrap()) as usize
        };
        // 273: where the only strip begins.
        let raw = bytes[entry(273)..].chunks_exact(4).take(64 * 64);
        let raw: Vec<f32> = raw.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        for (level, value) in levels_of(&got).iter().zip(raw) {
            assert!((f32::from(*level) / 65535.0 - value).abs() < 1e-5);
        }
        // Every prefix is an error or an image, never a panic; a limit is kept.
        for n in (0..bytes.len()).step_by(97) {
            let _ = Image::decode(&bytes[..n], "x", LIMIT);
        }
        let e = Image::decode(&bytes, "big.tif", 100).unwrap_err().to_string();
        assert!(e.contains("big.tif") && e.contains("data.max_pixels"), "{e}");
    }
}
