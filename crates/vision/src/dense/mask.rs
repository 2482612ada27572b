//! Masks: a number for every pixel, from PNG files of grey values or of a palette (whose indices are the
//! numbers), and back.

use crate::png::{can_hold, pixels_only};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use selfsup_core::guard::guarded;
use selfsup_core::{Error, Result, file};
use std::io::Cursor;
use std::path::Path;

/// A number for every pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Row by row.
    pub values: Vec<u16>,
}

impl Mask {
    /// A mask of these values.
    ///
    /// # Errors
    /// If a side is 0 or the number of values is not that of the pixels.
    pub fn new(width: u32, height: u32, values: Vec<u16>) -> Result<Self> {
        if width == 0 || height == 0 || (width as usize).checked_mul(height as usize) != Some(values.len()) {
            return Err(Error::input(
                "mask",
                format!("{} values for {width} x {height} pixels, expected one each", values.len()),
            ));
        }
        Ok(Mask { width, height, values })
    }

    /// Reads a PNG of at most `max_pixels`: 1 to 16 bits of grey, or the indices of a palette.
    ///
    /// # Errors
    /// Naming the file: it cannot be read, is damaged, has colours or transparency, or is too large.
    pub fn open(path: &Path, max_pixels: u64) -> Result<Self> {
        let bytes = file::read(path)?;
        let made = guarded(|| Self::decode(&bytes, max_pixels));
        made.unwrap_or_else(|_| Err("its decoder gave up on it: is the file damaged?".into()))
            .map_err(|problem| Error::file(path, problem))
    }

    fn decode(bytes: &[u8], max_pixels: u64) -> Result<Self, String> {
        let bytes = &*pixels_only(bytes);
        let wrong = |e: png::DecodingError| format!("not a mask: cannot be decoded as PNG: {e}");
        let limits = Limits { bytes: max_pixels.saturating_mul(4).saturating_add(64 << 20) as usize };
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_transformations(Transformations::IDENTITY);
        let mut reader = decoder.read_info().map_err(wrong)?;
        let (width, height) = reader.info().size();
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(format!(
                "{width} x {height} pixels are more than the limit of {max_pixels} (data.max_pixels)"
            ));
        }
        if !can_hold(bytes, width, height) {
            return Err(format!("{width} x {height} pixels cannot lie in {} bytes: damaged?", bytes.len()));
        }
        let (colour, depth) = reader.output_color_type();
        if !matches!(colour, ColorType::Grayscale | ColorType::Indexed) {
            return Err(format!(
                "not a mask: its pixels are {colour:?}, expected grey values or the indices of a palette"
            ));
        }
        let size = reader.output_buffer_size().ok_or("too many pixels")?;
        let mut data = vec![0; size];
        let frame = reader.next_frame(&mut data).map_err(wrong)?;
        let (bits, columns) = (depth as usize, width as usize);
        let mut values = Vec::with_capacity(columns * height as usize);
        for row in data.chunks_exact(frame.line_size).take(height as usize) {
            match depth {
                BitDepth::Sixteen => {
                    values.extend(row.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])));
                }
                // The first pixel is in the highest bits.
                _ => values.extend((0..columns).map(|x| {
                    let at = x * bits;
                    let shift = 8 - bits - at % 8;
                    u16::from(row[at / 8] >> shift) & ((1 << bits) - 1)
                })),
            }
        }
        Mask::new(width, height, values).map_err(|e| e.to_string())
    }

    /// Writes a PNG of grey values, of 8 bits where all fit and of 16 where not.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        use crate::image::{Image, Pixels};
        let narrow: Option<Vec<u8>> = self.values.iter().map(|v| u8::try_from(*v).ok()).collect();
        let pixels = narrow.map_or_else(|| Pixels::U16(self.values.clone()), Pixels::U8);
        Image::new(self.width, self.height, 1, pixels)?.save(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a PNG of these packed rows.
    fn png_of(path: &Path, width: u32, height: u32, colour: ColorType, depth: BitDepth, data: &[u8]) {
        let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![200; 3 * 256.min(1 << (depth as usize))]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    #[test]
    fn values_of_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.png");
        for (colour, depth, data, values) in [
            (ColorType::Indexed, BitDepth::Eight, &[0u8, 15, 255, 1, 2, 3][..], [0u16, 15, 255, 1, 2, 3]),
            (ColorType::Grayscale, BitDepth::Eight, &[0, 15, 255, 1, 2, 3], [0, 15, 255, 1, 2, 3]),
            (
                ColorType::Grayscale,
                BitDepth::Sixteen,
                &[0, 1, 1, 0, 7, 8, 0, 0, 255, 255, 0, 9],
                [1, 256, 1800, 0, 65535, 9],
            ),
            // Three pixels a row in one byte.
            (ColorType::Indexed, BitDepth::Two, &[0b0110_1100, 0b1101_0000], [1, 2, 3, 3, 1, 0]),
            (ColorType::Grayscale, BitDepth::One, &[0b1010_0000, 0b0110_0000], [1, 0, 1, 0, 1, 1]),
            (ColorType::Indexed, BitDepth::Four, &[0x1f, 0x20, 0x34, 0x50], [1, 15, 2, 3, 4, 5]),
        ] {
            png_of(&path, 3, 2, colour, depth, data);
            let mask = Mask::open(&path, 100).unwrap();
            assert_eq!(
                (mask.width, mask.height, mask.values.as_slice()),
                (3, 2, &values[..]),
                "{colour:?} {depth:?}"
            );
            mask.save(&path).unwrap();
            assert_eq!(Mask::open(&path, 100).unwrap(), mask);
        }
    }

    #[test]
    fn what_is_no_mask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.png");
        let says = |part: &str| {
            let e = Mask::open(&path, 100).unwrap_err().to_string();
            assert!(e.contains("m.png") && e.contains(part), "{e}");
        };
        says("m.png");
        png_of(&path, 1, 1, ColorType::Rgb, BitDepth::Eight, &[1, 2, 3]);
        says("palette");
        png_of(&path, 11, 10, ColorType::Grayscale, BitDepth::Eight, &[1; 110]);
        says("data.max_pixels");
        png_of(&path, 3, 2, ColorType::Grayscale, BitDepth::Eight, &[1; 6]);
        let whole = std::fs::read(&path).unwrap();
        for n in 0..whole.len() - 12 {
            std::fs::write(&path, &whole[..n]).unwrap();
            assert!(Mask::open(&path, 100).is_err(), "{n} bytes");
        }
        assert!(Mask::new(2, 2, vec![0; 3]).is_err());
    }
}
