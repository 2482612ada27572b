//! Small pictures for pages: as few bytes as show what is on an image.

use crate::image::{Image, Pixels};
use crate::transform::ops::{Filter, Rect, resized_crop};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use selfsup_core::{Error, Result};
use std::io::Cursor;

/// Quality of small JPEGs.
const QUALITY: u8 = 82;

/// An encoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// `image/png` or `image/jpeg`.
    pub mime: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

/// The image in 8 bits: grey values of 16 are spread over their range, since those of 12 would be next to
/// black.
fn shallow(image: &Image) -> Result<Image> {
    let Pixels::U16(values) = &image.data else { return Ok(image.clone()) };
    let (low, high) = values.iter().fold((u16::MAX, 0), |(l, h), v| (l.min(*v), h.max(*v)));
    let scale = 255.0 / f32::from(high.saturating_sub(low).max(1));
    let data = values.iter().map(|v| (f32::from(v - low) * scale).round() as u8).collect();
    Image::new(image.width, image.height, image.channels, Pixels::U8(data))
}

/// The image as a PNG in memory, in 8 bits a channel.
///
/// # Errors
/// If it cannot be encoded.
pub fn png(image: &Image) -> Result<Vec<u8>> {
    let image = shallow(image)?;
    let Pixels::U8(data) = &image.data else { return Err(Error::input("image", "expected 8 bits")) };
    let mut out = Cursor::new(Vec::new());
    let format = image::ImageFormat::Png;
    image::write_buffer_with_format(&mut out, data, image.width, image.height, colour(&image), format)
        .map_err(|e| Error::input("image", e))?;
    Ok(out.into_inner())
}

fn colour(image: &Image) -> ExtendedColorType {
    if image.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 }
}

/// The image with a longer side of at most `side` pixels, as a PNG or a JPEG, whichever is smaller.
///
/// # Errors
/// If it cannot be encoded.
pub fn thumbnail(image: &Image, side: u32) -> Result<Encoded> {
    let mut image = shallow(image)?;
    let longer = image.width.max(image.height);
    if longer > side {
        let shorter = |n: u32| ((f64::from(n) * f64::from(side) / f64::from(longer)).round() as u32).max(1);
        let (width, height) = (shorter(image.width), shorter(image.height));
        image = resized_crop(&image, Rect::whole(&image), height, width, Filter::Bilinear)?;
    }
    let exact = png(&image)?;
    let Pixels::U8(data) = &image.data else { return Err(Error::input("image", "expected 8 bits")) };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(data, image.width, image.height, colour(&image))
        .map_err(|e| Error::input("image", e))?;
    Ok(if jpeg.len() < exact.len() {
        Encoded { mime: "image/jpeg", bytes: jpeg }
    } else {
        Encoded { mime: "image/png", bytes: exact }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_stay_exact_and_large_ones_shrink() {
        let flat =
            |w: u32, h: u32| Pixels::U8((0..w * h).map(|i| if i % w < w / 2 { 10 } else { 200 }).collect());
        let small = Image::new(28, 28, 1, flat(28, 28)).unwrap();
        let made = thumbnail(&small, 64).unwrap();
        assert_eq!(made.mime, "image/png");
        assert_eq!(Image::decode(&made.bytes, "made", 1 << 20).unwrap(), small);
        // Noise is what JPEG is made for.
        let mut rng = selfsup_core::Key::new(1).rng();
        let noise = (0..300 * 150 * 3).map(|_| rng.below(256) as u8).collect();
        let made = thumbnail(&Image::new(300, 150, 3, Pixels::U8(noise)).unwrap(), 64).unwrap();
        assert_eq!(made.mime, "image/jpeg");
        let back = Image::decode(&made.bytes, "made", 1 << 20).unwrap();
        assert_eq!((back.width, back.height, back.channels), (64, 32, 3));
        // 12 bits in 16 are no black picture.
        let deep = Image::new(2, 1, 1, Pixels::U16(vec![100, 4000])).unwrap();
        let back = Image::decode(&png(&deep).unwrap(), "made", 1 << 20).unwrap();
        assert_eq!(back.data, Pixels::U8(vec![0, 255]));
    }
}
