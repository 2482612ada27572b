//! Slices of plain numbers that lie one after the other in a file, compressed or not.

use super::slices::{ReadConfig, Slices, check_shape};
use crate::grid::Stored;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use selfsup_core::{Error, Result};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Number {
    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        match self {
            Number::U8 | Number::I8 => 1,
            Number::U16 | Number::I16 => 2,
            Number::U32 | Number::I32 | Number::F32 => 4,
            Number::U64 | Number::I64 | Number::F64 => 8,
        }
    }

    /// Whether `slope * v + inter` is whole and within 16 bits with a sign for every `v`.
    fn fits_i16(self, slope: f64, inter: f64) -> bool {
        let (low, high) = match self {
            Number::U8 => (0.0, 255.0),
            Number::I8 => (-128.0, 127.0),
            Number::U16 => (0.0, 65535.0),
            Number::I16 => (-32768.0, 32767.0),
            _ => return false,
        };
        let inside = |v: f64| (-32768.0..=32767.0).contains(&(slope * v + inter));
        slope.fract() == 0.0 && inter.fract() == 0.0 && inside(low) && inside(high)
    }

    /// `slope * v + inter` of the numbers in `bytes`; without a scale floats stay bit for bit.
    fn decode(self, bytes: &[u8], big: bool, (slope, inter): (f64, f64), out: &mut [f32]) {
        macro_rules! numbers {
            ($type:ty) => {{
                const N: usize = size_of::<$type>();
                for (o, b) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
                    let v = if big { <$type>::from_be_bytes(*b) } else { <$type>::from_le_bytes(*b) };
                    *o = (v as f64 * slope + inter) as f32;
                }
            }};
        }
        match self {
            Number::U8 => numbers!(u8),
            Number::I8 => numbers!(i8),
            Number::U16 => numbers!(u16),
            Number::I16 => numbers!(i16),
            Number::U32 => numbers!(u32),
            Number::I32 => numbers!(i32),
            Number::U64 => numbers!(u64),
            Number::I64 => numbers!(i64),
            Number::F32 => numbers!(f32),
            Number::F64 => numbers!(f64),
        }
    }
}

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zlib,
    Bzip2,
}

impl Packing {
    /// Most bytes that come out of `there`.
    fn most(self, there: u64) -> u64 {
        match self {
            Packing::None => there,
            Packing::Gzip | Packing::Zlib => there.saturating_mul(DEFLATE_RATIO),
            Packing::Bzip2 => (there / BZIP2_LEAST + 1).saturating_mul(BZIP2_MOST),
        }
    }
}

/// How the numbers lie.
pub(crate) struct Layout {
    pub(crate) number: Number,
    pub(crate) big_endian: bool,
    pub(crate) slope: f64,
    pub(crate) inter: f64,
    /// Bytes before the first number, after decompression.
    pub(crate) skip: u64,
    pub(crate) packing: Packing,
    /// Where the (compressed) data begin in the file.
    pub(crate) start: u64,
}

/// The slices of a file of plain numbers.
pub(crate) struct Raw {
    id: String,
    stored: Stored,
    layout: Layout,
    input: Box<dyn Read + Send>,
    left: usize,
    buffer: Vec<u8>,
}

/// deflate's best is one bit for 258 bytes and some: no honest file says more than this many bytes for one.
const DEFLATE_RATIO: u64 = 1032;
/// Bytes of a compressed block of bzip2 at least: its head, its tables, one symbol.
const BZIP2_LEAST: u64 = 20;
/// What a block becomes at most: of five bytes the fifth says how often the four before are repeated.
const BZIP2_MOST: u64 = 900_000 / 5 * 259;

impl Raw {
    /// Opens the numbers of `file`; `id` names the volume.
    pub(crate) fn open(
        id: String,
        file: &Path,
        stored: Stored,
        layout: Layout,
        config: &ReadConfig,
    ) -> Result<Self> {
        check_shape(&id, stored.shape(), config)?;
        let io = |e| Error::io(file, e);
        let mut opened = selfsup_core::file::open(file)?;
        let length = opened.metadata().map_err(io)?.len();
        let voxels: usize = stored.shape().iter().product();
        let bytes = (voxels * layout.number.size()) as u64;
        let needed = bytes.saturating_add(layout.skip);
        let there = length.saturating_sub(layout.start);
        // What the header announces must be able to come out of what is there, before memory is asked for.
        if needed > layout.packing.most(there) {
            let kind = if layout.packing == Packing::None { "bytes" } else { "compressed bytes" };
            return Err(Error::file(
                file,
                format!("announces {needed} bytes of voxels in {there} {kind}; cut short?"),
            ));
        }
        opened.seek(SeekFrom::Start(layout.start)).map_err(io)?;
        let opened = BufReader::with_capacity(1 << 16, opened);
        let mut input: Box<dyn Read + Send> = match layout.packing {
            Packing::None => Box::new(opened),
            Packing::Gzip => Box::new(MultiGzDecoder::new(opened)),
            Packing::Zlib => Box::new(ZlibDecoder::new(opened)),
            Packing::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(opened)),
        };
        let skipped = std::io::copy(&mut input.by_ref().take(layout.skip), &mut std::io::sink())
            .map_err(|e| damaged(&id, e))?;
        if skipped < layout.skip {
            return Err(Error::input(&id, "ends before its voxels; cut short?"));
        }
        Ok(Raw { id, stored, layout, input, left: voxels, buffer: Vec::new() })
    }
}

/// The file `name` of the data of a header: beside it or in a folder there.
pub(super) fn data_beside(path: &Path, name: &str) -> Result<PathBuf> {
    if name.starts_with("LIST") || name.contains('%') {
        return Err(Error::file(path, "its data lie in many files, which is not read: join them into one"));
    }
    let relative = Path::new(name);
    if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::file(path, format!("its data file is `{name}`, expected one beside the header")));
    }
    Ok(path.parent().unwrap_or(Path::new("")).join(relative))
}

pub(crate) fn damaged(id: &str, e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::input(id, "ends before its last voxel; cut short?"),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            Error::input(id, format!("the compressed data are damaged: {e}"))
        }
        _ => Error::Io { path: id.into(), source: e },
    }
}

impl Slices for Raw {
    fn id(&self) -> &str {
        &self.id
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn is_i16(&self) -> bool {
        self.layout.number.fits_i16(self.layout.slope, self.layout.inter)
    }

    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        if out.len() > self.left {
            return Err(Error::input(
                &self.id,
                format!("{} voxels are left, {} are asked for", self.left, out.len()),
            ));
        }
        let size = self.layout.number.size();
        // A million bytes at a time: the numbers of a file are never held twice.
        for part in out.chunks_mut((1 << 20) / size) {
            self.buffer.resize(part.len() * size, 0);
            self.input.read_exact(&mut self.buffer).map_err(|e| damaged(&self.id, e))?;
            self.layout.number.decode(
                &self.buffer,
                self.layout.big_endian,
                (self.layout.slope, self.layout.inter),
                part,
            );
        }
        self.left -= out.len();
        if self.left == 0 && self.layout.packing != Packing::None {
            // The end of the stream holds its checksum: reading on to it is what checks the data.
            self.input.read(&mut [0]).map_err(|e| damaged(&self.id, e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_orders() {
        let check = |number: Number, big, bytes: &[u8], expected: &[f32]| {
            let mut out = vec![0f32; expected.len()];
            number.decode(bytes, big, (1.0, 0.0), &mut out);
            assert_eq!(out, expected, "{number:?}");
        };
        check(Number::U8, false, &[0, 255], &[0.0, 255.0]);
        check(Number::I8, true, &[0x80, 0x7f], &[-128.0, 127.0]);
        check(Number::U16, false, &[1, 2, 0xff, 0xff], &[513.0, 65535.0]);
        check(Number::I16, true, &[0x80, 0, 0, 5], &[-32768.0, 5.0]);
        check(Number::U32, false, &[0, 0, 0, 1], &[16_777_216.0]);
        check(Number::I32, true, &[0xff, 0xff, 0xff, 0xfe], &[-2.0]);
        check(Number::I64, false, &[0xff; 8], &[-1.0]);
        check(Number::U64, true, &[0, 0, 0, 0, 0, 0, 1, 0], &[256.0]);
        check(Number::F32, false, &1.5f32.to_le_bytes(), &[1.5]);
        check(Number::F64, true, &(-0.25f64).to_be_bytes(), &[-0.25]);
    }

    #[test]
    fn sixteen_bits_hold_what_they_hold() {
        assert!(Number::U8.fits_i16(2.0, -1024.0) && Number::I16.fits_i16(1.0, 0.0));
        assert!(
            !Number::I16.fits_i16(1.0, 1.0)
                && !Number::U16.fits_i16(1.0, 0.0)
                && Number::U16.fits_i16(1.0, -32768.0)
        );
        assert!(!Number::U8.fits_i16(0.5, 0.0) && !Number::F32.fits_i16(1.0, 0.0));
    }
}
