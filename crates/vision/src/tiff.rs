//! TIFF files that the general decoder refuses: BigTIFF, palettes, floating point, whole numbers of 32 and 64
//! bits, signed ones, compression by zstd.
//!
//! Values that are neither 8 nor 16 bits become 16 bits:
//!
//! - numbers with a point between 0 and 1: all of that range;
//! - everything else (counts, temperatures, Hounsfield units): linearly between the 0.5th and the 99.5th
//!   percentile of the image, what lies outside is cut. What is not a number becomes the lower end.

use crate::levels::levels;
use selfsup_core::{Error, Result};
use std::io::{Cursor, Read};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

/// The number of a compression that the decoder leaves to others.
const ZSTD: u16 = 50_000;

/// A decoded image: grey or RGB, rows of interleaved channels.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) channels: u8,
    pub(crate) values: Values,
}

/// Its values.
#[derive(Debug, PartialEq)]
pub(crate) enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    /// Levels of other numbers.
    Levels(Vec<u16>),
}

/// Whether the content is a TIFF that [`decode`] reads and the general decoder does not.
pub(crate) fn is_special(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") {
        return true;
    }
    if !bytes.starts_with(b"II*\0") && !bytes.starts_with(b"MM\0*") {
        return false;
    }
    let Ok(mut decoder) = Decoder::new(Cursor::new(bytes)) else { return false };
    if palette(&mut decoder).is_some() {
        return true;
    }
    let Ok(color) = decoder.colortype() else { return false };
    let format = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).ok().flatten();
    let numbers = format.and_then(|f| f.first().copied()).unwrap_or(1);
    let usual = matches!(
        color,
        ColorType::Gray(1 | 8 | 16)
            | ColorType::GrayA(8 | 16)
            | ColorType::RGB(8 | 16)
            | ColorType::RGBA(8 | 16)
            | ColorType::CMYK(_)
            | ColorType::CMYKA(_)
            | ColorType::YCbCr(_)
            | ColorType::Lab(_)
    );
    let zstd = decoder.find_tag_unsigned::<u16>(Tag::Compression).ok().flatten() == Some(ZSTD);
    // 1: whole numbers without a sign, 4: not said.
    zstd || !usual || !matches!(numbers, 1 | 4)
}

/// Bits of a pixel of an image whose pixels are places in a palette; the decoder does not name such colours.
fn palette(decoder: &mut Decoder<Cursor<&[u8]>>) -> Option<u8> {
    let kind = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).ok().flatten()?;
    let bits = decoder.find_tag_unsigned_vec::<u16>(Tag::BitsPerSample).ok().flatten()?;
    if kind == 3 { bits.first().and_then(|bits| u8::try_from(*bits).ok()) } else { None }
}

/// Decodes the first image of a TIFF called `name`.
///
/// # Errors
/// Naming the file: damaged, more than `max_pixels`, a kind of pixels that is not read.
pub(crate) fn decode(bytes: &[u8], name: &str, max_pixels: u64) -> Result<Decoded> {
    let wrong = |e: tiff::TiffError| Error::input(name, format!("cannot be decoded as Tiff: {e}"));
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(wrong)?;
    let (width, height) = decoder.dimensions().map_err(wrong)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::input(name, "an image without pixels"));
    }
    if pixels > max_pixels {
        return Err(Error::input(
            name,
            format!("{width} x {height} pixels are more than the limit of {max_pixels} (data.max_pixels)"),
        ));
    }
    if decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(wrong)? == Some(ZSTD) {
        return decode(&rewritten(&mut decoder, bytes, name, pixels, false)?, name, max_pixels);
    }
    if let Some(bits) = palette(&mut decoder) {
        let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(wrong)?;
        let indices = rewritten(&mut decoder, bytes, name, pixels, true)?;
        let limits = decoder_limits(pixels);
        let mut decoder = Decoder::new(Cursor::new(&indices[..])).map_err(wrong)?.with_limits(limits);
        let DecodingResult::U8(indices) = decoder.read_image().map_err(wrong)? else {
            return Err(Error::input(name, "a palette of more than 256 colours"));
        };
        let colours = coloured(&unpacked(indices, bits, width as usize), bits, &map)
            .ok_or_else(|| Error::input(name, "a palette that has not all colours"))?;
        return Ok(Decoded { width, height, channels: 3, values: Values::U8(colours) });
    }
    let mut decoder = decoder.with_limits(decoder_limits(pixels));
    let color = decoder.colortype().map_err(wrong)?;
    let unknown =
        |what: &str| Error::input(name, format!("{what}: expected grey, RGB or a palette, interleaved"));
    let planar: Option<u16> = decoder.find_tag_unsigned(Tag::PlanarConfiguration).map_err(wrong)?;
    let samples = match color {
        ColorType::Gray(_) => 1,
        ColorType::GrayA(_) => 2,
        ColorType::RGB(_) => 3,
        ColorType::RGBA(_) => 4,
        other => return Err(unknown(&format!("a TIFF of {other:?}"))),
    };
    if planar == Some(2) && samples > 1 {
        return Err(unknown("a TIFF whose channels are stored one after the other"));
    }
    let read = decoder.read_image().map_err(wrong)?;
    let (channels, data) = match read {
        DecodingResult::U8(values) => {
            if let ColorType::Gray(bits @ 1..8) = color {
                let most = (1u16 << bits) - 1;
                let grey = |v: u8| (u16::from(v) * 255 / most) as u8;
                (1, Values::U8(unpacked(values, bits, width as usize).into_iter().map(grey).collect()))
            } else {
                let (channels, values) = without_alpha(values, samples);
                (channels, Values::U8(values))
            }
        }
        DecodingResult::U16(values) => {
            let (channels, values) = without_alpha(values, samples);
            (channels, Values::U16(values))
        }
        other => {
            let (numbers, pointed) = numbers(other);
            let (channels, numbers) = without_alpha(numbers, samples);
            (channels, Values::Levels(levels(&numbers, pointed)))
        }
    };
    Ok(Decoded { width, height, channels, values: data })
}

/// Room for four values of eight bytes a pixel, and some to work in.
fn decoder_limits(pixels: u64) -> Limits {
    let most = usize::try_from(pixels.saturating_mul(32).saturating_add(1 << 20)).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    limits
}

/// The same image as a TIFF that the decoder reads: what zstd has packed is unpacked, and the `indices` of a
/// palette are grey values.
fn rewritten(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    bytes: &[u8],
    name: &str,
    pixels: u64,
    indices: bool,
) -> Result<Vec<u8>> {
    let wrong = |e: tiff::TiffError| Error::input(name, format!("cannot be decoded as Tiff: {e}"));
    let damaged = || Error::input(name, "cannot be decoded as Tiff: strips that are not there or too large");
    let little = decoder.byte_order() == tiff::tags::ByteOrder::LittleEndian;
    let compression: u16 = decoder.find_tag_unsigned(Tag::Compression).map_err(wrong)?.unwrap_or(1);
    let tiled = decoder.find_tag(Tag::TileOffsets).map_err(wrong)?.is_some();
    let (offsets, counts) = if tiled {
        (Tag::TileOffsets, Tag::TileByteCounts)
    } else {
        (Tag::StripOffsets, Tag::StripByteCounts)
    };
    let (places, sizes) =
        (decoder.get_tag_u64_vec(offsets).map_err(wrong)?, decoder.get_tag_u64_vec(counts).map_err(wrong)?);
    // Tiles may reach over the edges.
    let mut budget = pixels.saturating_mul(32).saturating_add(64 << 20);
    let mut out: Vec<u8> = if little { b"II*\0\0\0\0\0".to_vec() } else { b"MM\0*\0\0\0\0".to_vec() };
    let (mut starts, mut lengths) = (Vec::new(), Vec::new());
    for (place, size) in places.iter().zip(&sizes) {
        let at = usize::try_from(*place).map_err(|_| damaged())?;
        let end = usize::try_from(place.saturating_add(*size)).map_err(|_| damaged())?;
        let packed = bytes.get(at..end).ok_or_else(damaged)?;
        let start = out.len();
        let io = |e| Error::input(name, e);
        let read = if compression == ZSTD {
            let reader = zstd::stream::read::Decoder::new(packed).map_err(io)?;
            reader.take(budget).read_to_end(&mut out).map_err(io)?
        } else {
            packed.take(budget).read_to_end(&mut out).map_err(io)?
        };
        budget -= read as u64;
        if budget == 0 {
            return Err(damaged());
        }
        starts.push(u32::try_from(start).map_err(|_| damaged())?);
        lengths.push(read as u32);
        out.resize(out.len().next_multiple_of(2), 0);
    }
    let mut entries: Vec<(u16, bool, Vec<u32>)> = vec![(
        Tag::Compression.to_u16(),
        false,
        vec![if compression == ZSTD { 1 } else { u32::from(compression) }],
    )];
    for (tag, long) in [
        (Tag::ImageWidth, true),
        (Tag::ImageLength, true),
        (Tag::BitsPerSample, false),
        (Tag::PhotometricInterpretation, false),
        (Tag::SamplesPerPixel, false),
        (Tag::RowsPerStrip, true),
        (Tag::PlanarConfiguration, false),
        (Tag::Predictor, false),
        (Tag::TileWidth, true),
        (Tag::TileLength, true),
        (Tag::ExtraSamples, false),
        (Tag::SampleFormat, false),
    ] {
        if let Some(values) = decoder.find_tag_unsigned_vec::<u32>(tag).map_err(wrong)? {
            // 1: grey, 0 is black.
            let grey = indices && tag == Tag::PhotometricInterpretation;
            entries.push((tag.to_u16(), long, if grey { vec![1] } else { values }));
        }
    }
    if !indices && let Some(map) = decoder.find_tag_unsigned_vec::<u32>(Tag::ColorMap).map_err(wrong)? {
        entries.push((Tag::ColorMap.to_u16(), false, map));
    }
    entries.extend([(offsets.to_u16(), true, starts), (counts.to_u16(), true, lengths)]);
    entries.sort_by_key(|(tag, ..)| *tag);
    let short = |v: u32| if little { (v as u16).to_le_bytes() } else { (v as u16).to_be_bytes() };
    let word = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
    let mut directory = short(entries.len() as u32).to_vec();
    for (tag, long, values) in entries {
        let field: Vec<u8> =
            values.iter().flat_map(|v| if long { word(*v).to_vec() } else { short(*v).to_vec() }).collect();
        directory.extend(short(u32::from(tag)));
        directory.extend(short(if long { 4 } else { 3 }));
        directory.extend(word(values.len() as u32));
        if field.len() <= 4 {
            directory.extend(field.iter().copied().chain([0; 4]).take(4));
        } else {
            directory.extend(word(u32::try_from(out.len()).map_err(|_| damaged())?));
            out.extend(field);
        }
    }
    directory.extend([0; 4]);
    let at = u32::try_from(out.len()).map_err(|_| damaged())?;
    out[4..8].copy_from_slice(&word(at));
    out.extend(directory);
    Ok(out)
}

/// One value a byte, of rows of values of fewer bits that begin at whole bytes.
fn unpacked(values: Vec<u8>, bits: u8, width: usize) -> Vec<u8> {
    if bits == 0 || bits >= 8 {
        return values;
    }
    let bits = usize::from(bits);
    let row = (width * bits).div_ceil(8);
    let mask = ((1u16 << bits) - 1) as u8;
    let value = |row: &[u8], i: usize| {
        let at = i * bits;
        // A value of 3 bits may lie in two bytes.
        let two = u16::from(row[at / 8]) << 8 | u16::from(row.get(at / 8 + 1).copied().unwrap_or(0));
        (two >> (16 - bits - at % 8)) as u8 & mask
    };
    values.chunks_exact(row.max(1)).flat_map(|r| (0..width).map(move |i| value(r, i))).collect()
}

/// The colours of a palette of 16-bit values, the reds before the greens before the blues.
fn coloured(values: &[u8], bits: u8, map: &[u16]) -> Option<Vec<u8>> {
    let n = 1usize << bits.min(8);
    if map.len() < 3 * n {
        return None;
    }
    // Old writers filled in bytes.
    let shift = if map.iter().all(|v| *v < 256) { 0 } else { 8 };
    let colour = |v: &u8| [0, n, 2 * n].map(|plane| (map[plane + usize::from(*v)] >> shift) as u8);
    values.iter().all(|v| usize::from(*v) < n).then(|| values.iter().flat_map(colour).collect())
}

/// Grey or RGB of interleaved samples that may have an alpha channel behind.
fn without_alpha<T: Copy>(values: Vec<T>, samples: usize) -> (u8, Vec<T>) {
    match samples {
        2 => (1, values.into_iter().step_by(2).collect()),
        4 => (3, values.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()),
        n => (n as u8, values),
    }
}

/// The values, and whether they have a point.
fn numbers(read: DecodingResult) -> (Vec<f64>, bool) {
    match read {
        DecodingResult::U8(v) => (v.into_iter().map(f64::from).collect(), false),
        DecodingResult::U16(v) => (v.into_iter().map(f64::from).collect(), false),
        DecodingResult::U32(v) => (v.into_iter().map(f64::from).collect(), false),
        DecodingResult::U64(v) => (v.into_iter().map(|x| x as f64).collect(), false),
        DecodingResult::I8(v) => (v.into_iter().map(f64::from).collect(), false),
        DecodingResult::I16(v) => (v.into_iter().map(f64::from).collect(), false),
        DecodingResult::I32(v) => (v.into_iter().map(f64::from).collect(), false),
        DecodingResult::I64(v) => (v.into_iter().map(|x| x as f64).collect(), false),
        DecodingResult::F16(v) => (v.into_iter().map(|x| f64::from(x.to_f32())).collect(), true),
        DecodingResult::F32(v) => (v.into_iter().map(f64::from).collect(), true),
        DecodingResult::F64(v) => (v, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_unpacked() {
        assert_eq!(unpacked(vec![0b1010_0000, 0b1100_0000], 1, 3), [1, 0, 1, 1, 1, 0]);
        assert_eq!(unpacked(vec![0x12, 0x30], 4, 3), [1, 2, 3]);
    }
}
