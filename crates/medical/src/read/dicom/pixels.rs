//! The pixels of a frame, decompressed and rescaled.

use super::header::Header;
use super::jpeg;
use super::parse::{Input, Place, parse};
use super::streams::{RLE, announced, rle};
use super::tags::{FRAME_GROUPS, NUMBER_OF_FRAMES, PIXEL_DATA, SHARED_GROUPS};
use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;
use selfsup_core::{Error, Result};

/// A file whose pixels are read frame by frame.
pub(super) struct Pixels {
    input: Input,
    place: Place,
    /// What a decoder wants to know.
    object: InMemDicomObject,
    syntax: String,
    /// The pieces of each frame, for compressed pixels.
    frames: Vec<Vec<(u64, u64)>>,
}

const JPEG_EXTENDED: &str = "1.2.840.10008.1.2.4.51";

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
    /// Opens the file of `header`.
    pub(super) fn open(header: &Header) -> Result<Self> {
        header.check_there()?;
        let mut parsed = parse(&header.path)?;
        let Some(place) = parsed.place else {
            return Err(Error::file(&header.path, format!("has no pixels {PIXEL_DATA}; cut short?")));
        };
        let syntax = parsed.syntax;
        if is_jpeg_ls(&syntax) && cfg!(not(feature = "charls")) {
            return Err(Error::file(
                &header.path,
                format!(
                    "its pixels are {} ({syntax}), which this build cannot decode: build with --features charls",
                    name_of(&syntax)
                ),
            ));
        }
        let mut frames = Vec::new();
        if place.length.is_none() {
            let wrong = |problem: String| Error::file(&header.path, problem);
            let found = parsed.input.fragments(place.start).map_err(wrong)?;
            frames = divide(&mut parsed.input, &found, header.planes.len(), ends_with_mark(&syntax))
                .map_err(wrong)?;
        }
        let mut object = parsed.object;
        object.remove_element(SHARED_GROUPS);
        object.remove_element(FRAME_GROUPS);
        Ok(Pixels { input: parsed.input, place, object, syntax, frames })
    }

    /// Values of `frame`, rescaled.
    pub(super) fn frame(
        &mut self,
        header: &Header,
        frame: u32,
        scale: (f64, f64),
        out: &mut [f32],
    ) -> Result<()> {
        let bytes = self.bytes(header, frame as usize)?;
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
    fn bytes(&mut self, header: &Header, frame: usize) -> Result<Vec<u8>> {
        let width = header.bits_allocated as usize / 8;
        let length = header.rows * header.columns * width;
        let wrong = |problem: String| Error::file(&header.path, problem);
        if self.place.length.is_some() {
            // A word of two bytes may hold the end of one frame and the beginning of the next.
            let word = self.place.big.map_or(1, |least| least.max(width)) as u64;
            let (start, end) = ((frame * length) as u64, ((frame + 1) * length) as u64);
            let (low, high) = (start / word * word, end.next_multiple_of(word));
            let mut bytes = self.input.part(self.place.start + low, high - low).map_err(wrong)?;
            bytes.chunks_exact_mut(word as usize).for_each(<[u8]>::reverse);
            bytes.drain(..(start - low) as usize);
            bytes.truncate(length);
            return Ok(bytes);
        }
        let kind = name_of(&self.syntax);
        let Some(pieces) = self.frames.get(frame) else {
            return Err(wrong(format!("has {} compressed frames, {frame} is asked for", self.frames.len())));
        };
        let mut stream = Vec::new();
        for &(start, length) in pieces {
            stream.append(&mut self.input.part(start, length).map_err(wrong)?);
        }
        if ends_with_mark(&self.syntax) && !is_whole(&stream) {
            return Err(wrong(format!(
                "frame {frame} ({kind}) does not end with the mark of its end; cut short?"
            )));
        }
        let undecoded = |reason: String| {
            wrong(format!("frame {frame} ({kind}, {}) cannot be decoded: {reason}", self.syntax))
        };
        if self.syntax == RLE {
            return rle(&stream, header.rows * header.columns, width).map_err(undecoded);
        }
        // A decoder asks for memory by what the stream says of itself.
        if ends_with_mark(&self.syntax) {
            let expected = [header.rows as u64, header.columns as u64, 1];
            match announced(&stream) {
                Some(size) if size != expected => {
                    let [rows, columns, components] = size;
                    return Err(undecoded(format!(
                        "the stream announces {rows} x {columns} pixels of {components} numbers, expected {} x {} of 1",
                        header.rows, header.columns
                    )));
                }
                None => return Err(undecoded("the stream does not say its size; damaged?".to_string())),
                Some(_) => {}
            }
        }
        if self.syntax == JPEG_EXTENDED && jpeg::is_extended(&stream) {
            if header.bits_allocated != 16 {
                return Err(undecoded(format!(
                    "the stream has 12 bits, and {} are allocated, expected 16",
                    header.bits_allocated
                )));
            }
            return jpeg::decode(&stream, header.rows, header.columns).map_err(undecoded);
        }
        let reason = match selfsup_core::guard::guarded(|| self.decoded(stream)) {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(reason)) => reason,
            Err(_) => "damaged?".to_string(),
        };
        Err(undecoded(reason))
    }

    /// A stream as the library decodes it.
    fn decoded(&self, stream: Vec<u8>) -> std::result::Result<Vec<u8>, String> {
        let mut object = self.object.clone();
        object.put(DataElement::new(NUMBER_OF_FRAMES, VR::IS, PrimitiveValue::from("1")));
        let pixels = PixelFragmentSequence::new(Vec::<u32>::new(), vec![stream]);
        object.put(DataElement::new(PIXEL_DATA, VR::OB, pixels));
        // Names that nothing reads; without them there is no object to decode.
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(self.syntax.as_str())
            .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.7")
            .media_storage_sop_instance_uid("2.25.1");
        let object = object.with_meta(meta).map_err(|e| e.to_string())?;
        // Words of the decoder only: they speak of markers and bits.
        object.decode_pixel_data_frame(0).map(|d| d.data().to_vec()).map_err(|e| {
            let mut reason = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(e) = source {
                reason = e.to_string();
                source = e.source();
            }
            reason
        })
    }
}

/// The fragments of each frame: the first fragment is the table of where frames begin, which may be empty.
fn divide(
    input: &mut Input,
    found: &[(u64, u64)],
    frames: usize,
    marked: bool,
) -> std::result::Result<Vec<Vec<(u64, u64)>>, String> {
    let Some((table, pieces)) = found.split_first() else {
        return Err("has no compressed pixels; cut short?".to_string());
    };
    if pieces.len() == frames {
        return Ok(pieces.iter().map(|piece| vec![*piece]).collect());
    }
    if frames == 1 {
        return Ok(vec![pieces.to_vec()]);
    }
    let mut divided: Vec<Vec<(u64, u64)>> = Vec::new();
    if table.1 == 4 * frames as u64 {
        let table = input.part(table.0, table.1)?;
        let begins: Vec<u64> =
            table.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect();
        let first = pieces.first().map_or(0, |p| p.0);
        for piece in pieces {
            if begins.get(divided.len()) == Some(&(piece.0 - first)) {
                divided.push(Vec::new());
            }
            if let Some(frame) = divided.last_mut() {
                frame.push(*piece);
            }
        }
    } else if marked {
        let mut begin = true;
        for &(start, length) in pieces {
            if begin {
                divided.push(Vec::new());
            }
            if let Some(frame) = divided.last_mut() {
                frame.push((start, length));
            }
            let tail = length.min(4);
            begin = is_whole(&input.part(start + length - tail, tail)?);
        }
    }
    if divided.len() == frames {
        return Ok(divided);
    }
    Err(format!(
        "has {} pieces of compressed pixels for {frames} frames, and does not say which are whose",
        pieces.len()
    ))
}
