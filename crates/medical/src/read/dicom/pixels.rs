//! The pixels of a frame, decompressed and rescaled.

use super::header::{Header, PIXEL_DATA, open};
use dicom_core::value::{PrimitiveValue, Value};
use dicom_object::DefaultDicomObject;
use dicom_pixeldata::PixelDecoder;
use selfsup_core::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A file with its pixels, still compressed.
pub(super) struct Pixels {
    object: DefaultDicomObject,
    syntax: String,
}

/// Transfer syntaxes whose images are compressed, by name.
fn name_of(syntax: &str) -> &str {
    match syntax {
        "1.2.840.10008.1.2" => "implicit little endian",
        "1.2.840.10008.1.2.1" => "explicit little endian",
        "1.2.840.10008.1.2.1.99" => "deflated explicit little endian",
        "1.2.840.10008.1.2.2" => "explicit big endian",
        "1.2.840.10008.1.2.4.50" => "JPEG baseline",
        "1.2.840.10008.1.2.4.51" => "JPEG extended",
        "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70" => "JPEG lossless",
        "1.2.840.10008.1.2.4.80" => "JPEG-LS lossless",
        "1.2.840.10008.1.2.4.81" => "JPEG-LS near-lossless",
        "1.2.840.10008.1.2.4.90" => "JPEG 2000 lossless",
        "1.2.840.10008.1.2.4.91" => "JPEG 2000",
        "1.2.840.10008.1.2.5" => "RLE",
        s if s.starts_with("1.2.840.10008.1.2.4.1") => "a video, JPEG XL or JPEG XS",
        s if s.starts_with("1.2.840.10008.1.2.4.2") => "HTJ2K",
        _ => "of an unknown kind",
    }
}

fn is_jpeg_ls(syntax: &str) -> bool {
    syntax == "1.2.840.10008.1.2.4.80" || syntax == "1.2.840.10008.1.2.4.81"
}

/// Whether images of this syntax end with the bytes FF D9: all of JPEG, JPEG-LS and JPEG 2000.
fn ends_with_mark(syntax: &str) -> bool {
    let number = syntax.strip_prefix("1.2.840.10008.1.2.4.");
    number.is_some_and(|n| ["50", "51", "57", "70", "80", "81", "90", "91"].contains(&n))
}

/// Whether a compressed image is there to its end, which a byte or two may pad. Decoders make up what is
/// missing without a word.
fn is_whole(image: &[u8]) -> bool {
    image[image.len().saturating_sub(4)..].windows(2).any(|pair| pair == [0xFF, 0xD9])
}

impl Pixels {
    /// Reads the file of `header` whole.
    pub(super) fn open(header: &Header) -> Result<Self> {
        let object = open(&header.path, true)?;
        let syntax = object.meta().transfer_syntax().trim_end_matches('\0').to_string();
        if object.element_opt(PIXEL_DATA).ok().flatten().is_none() {
            return Err(Error::file(&header.path, format!("has no pixels {PIXEL_DATA}; cut short?")));
        }
        if is_jpeg_ls(&syntax) && cfg!(not(feature = "charls")) {
            return Err(Error::file(
                &header.path,
                format!(
                    "its pixels are {} ({syntax}), which this build cannot decode: build with --features charls",
                    name_of(&syntax)
                ),
            ));
        }
        Ok(Pixels { object, syntax })
    }

    /// Values of `frame`, rescaled.
    pub(super) fn frame(
        &self,
        header: &Header,
        frame: u32,
        scale: (f64, f64),
        out: &mut [f32],
    ) -> Result<()> {
        let bytes = self.bytes(header, frame)?;
        let width = header.bits_allocated as usize / 8;
        if bytes.len() != out.len() * width {
            return Err(Error::file(
                &header.path,
                format!(
                    "frame {frame} has {} bytes of pixels, expected {} x {} x {width}; cut short?",
                    bytes.len(),
                    header.rows,
                    header.columns
                ),
            ));
        }
        let decode = header.decode(scale);
        for (o, b) in out.iter_mut().zip(bytes.chunks_exact(width)) {
            *o = decode.value(b.iter().rev().fold(0u32, |v, b| v << 8 | u32::from(*b)));
        }
        Ok(())
    }

    /// The frame's stored values, little-endian.
    fn bytes(&self, header: &Header, frame: u32) -> Result<Vec<u8>> {
        let element = self.object.element_opt(PIXEL_DATA).ok().flatten();
        let length = header.rows * header.columns * (header.bits_allocated as usize / 8);
        let short = |there: usize| {
            let expected = length.saturating_mul(header.planes.len());
            Error::file(
                &header.path,
                format!("has {there} bytes of pixels, expected {expected} for its frames; cut short?"),
            )
        };
        if let Some(Value::Primitive(values)) = element.map(|e| e.value()) {
            let start = length.saturating_mul(frame as usize);
            let end = start.saturating_add(length);
            return match values {
                PrimitiveValue::U8(bytes) => {
                    bytes.get(start..end).map(<[u8]>::to_vec).ok_or_else(|| short(bytes.len()))
                }
                PrimitiveValue::U16(words) => {
                    // Frames of an odd number of bytes begin in the middle of a word.
                    let part = words.get(start / 2..end.div_ceil(2)).ok_or_else(|| short(2 * words.len()))?;
                    let bytes: Vec<u8> = part.iter().flat_map(|w| w.to_le_bytes()).collect();
                    Ok(bytes[start % 2..start % 2 + length].to_vec())
                }
                PrimitiveValue::U32(words) if header.bits_allocated == 32 => {
                    let part = words.get(start / 4..end / 4).ok_or_else(|| short(4 * words.len()))?;
                    Ok(part.iter().flat_map(|w| w.to_le_bytes()).collect())
                }
                PrimitiveValue::Empty => Err(short(0)),
                _ => Err(Error::file(
                    &header.path,
                    format!("its pixels {PIXEL_DATA} are no bytes or words: damaged?"),
                )),
            };
        }
        let kind = name_of(&self.syntax);
        if let Some(Value::PixelSequence(sequence)) = element.map(|e| e.value()) {
            let fragments = sequence.fragments();
            // Of a frame in pieces the last one is looked at; where several frames are in pieces the decoder
            // has to see for itself.
            let last = if fragments.len() == header.planes.len() {
                fragments.get(frame as usize)
            } else {
                fragments.last()
            };
            let known = fragments.len() == header.planes.len() || header.planes.len() == 1;
            if known && ends_with_mark(&self.syntax) && !last.is_some_and(|f| is_whole(f)) {
                return Err(Error::file(
                    &header.path,
                    format!("frame {frame} ({kind}) does not end with the mark of its end; cut short?"),
                ));
            }
        }
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            self.object.decode_pixel_data_frame(frame).map(|d| d.data().to_vec())
        }));
        match decoded {
            Ok(Ok(bytes)) => Ok(bytes),
            // Words of the decoder only: they speak of markers and bits.
            Ok(Err(e)) => {
                let mut reason = e.to_string();
                let mut source = std::error::Error::source(&e);
                while let Some(e) = source {
                    reason = e.to_string();
                    source = e.source();
                }
                Err(Error::file(
                    &header.path,
                    format!("frame {frame} ({kind}, {}) cannot be decoded: {reason}", self.syntax),
                ))
            }
            Err(_) => Err(Error::file(
                &header.path,
                format!("frame {frame} ({kind}, {}) cannot be decoded: damaged?", self.syntax),
            )),
        }
    }
}
