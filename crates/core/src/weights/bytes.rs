//! Reading a file by position within checked bounds, and turning bytes into tensors.
//!
//! Files are not mapped: one that is truncated under a mapping kills the process. Every length that a file
//! claims is held against the file's real length before anything is allocated.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest header, index or pickle that is read.
pub(super) const MAX_HEADER: u64 = 100 << 20;

/// An open file of known length.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Source {
    /// Opens `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = crate::file::open(path)?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        Ok(Source { file, path: path.to_path_buf(), len: meta.len() })
    }

    /// Bytes in the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// An error about this file.
    pub(super) fn error(&self, problem: impl std::fmt::Display) -> Error {
        Error::file(&self.path, problem)
    }

    /// `n` bytes from byte `at` on.
    pub(super) fn read(&self, at: u64, n: usize) -> Result<Vec<u8>> {
        if at.checked_add(n as u64).is_none_or(|end| end > self.len) {
            return Err(self.error(format!("truncated: {n} bytes expected at byte {at} of {}", self.len)));
        }
        let mut buffer = vec![0; n];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut buffer))
            .map_err(|e| Error::io(&self.path, e))?;
        Ok(buffer)
    }
}

/// The little-endian `u16` at `at`; 0 past the end, which the callers' lengths exclude.
pub(super) fn u16_at(b: &[u8], at: usize) -> u16 {
    b.get(at..at + 2).map_or(0, |x| u16::from_le_bytes([x[0], x[1]]))
}

/// The little-endian `u32` at `at`; 0 past the end.
pub(super) fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).and_then(|x| x.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The little-endian `u64` at `at`; 0 past the end.
pub(super) fn u64_at(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8).and_then(|x| x.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Type of the numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U32,
    U8,
    Bool,
}

impl Kind {
    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        match self {
            Kind::F64 | Kind::I64 => 8,
            Kind::F32 | Kind::I32 | Kind::U32 => 4,
            Kind::F16 | Kind::BF16 | Kind::I16 => 2,
            Kind::I8 | Kind::U8 | Kind::Bool => 1,
        }
    }

    /// A CPU tensor from little-endian bytes: floating point as `f32`, signed integers as `i64`, `u32`, `u8`
    /// and bool (0 or 1) as they are.
    pub(super) fn tensor(self, bytes: &[u8], shape: &[usize]) -> Result<Tensor> {
        fn each<const N: usize, O>(bytes: &[u8], f: impl Fn([u8; N]) -> O) -> Vec<O> {
            bytes.chunks_exact(N).filter_map(|c| c.try_into().ok()).map(f).collect()
        }
        let cpu = &Device::Cpu;
        Ok(match self {
            Kind::F64 => Tensor::from_vec(each(bytes, |b| f64::from_le_bytes(b) as f32), shape, cpu),
            Kind::F32 => Tensor::from_vec(each(bytes, f32::from_le_bytes), shape, cpu),
            Kind::F16 => Tensor::from_vec(each(bytes, |b| half::f16::from_le_bytes(b).to_f32()), shape, cpu),
            Kind::BF16 => {
                Tensor::from_vec(each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()), shape, cpu)
            }
            Kind::I64 => Tensor::from_vec(each(bytes, i64::from_le_bytes), shape, cpu),
            Kind::I32 => Tensor::from_vec(each(bytes, |b| i64::from(i32::from_le_bytes(b))), shape, cpu),
            Kind::I16 => Tensor::from_vec(each(bytes, |b| i64::from(i16::from_le_bytes(b))), shape, cpu),
            Kind::I8 => Tensor::from_vec(each(bytes, |b| i64::from(i8::from_le_bytes(b))), shape, cpu),
            Kind::U32 => Tensor::from_vec(each(bytes, u32::from_le_bytes), shape, cpu),
            Kind::U8 => Tensor::from_vec(bytes.to_vec(), shape, cpu),
            Kind::Bool => Tensor::from_vec(each(bytes, |[b]| u8::from(b != 0)), shape, cpu),
        }?)
    }
}

/// Number of elements of `shape`, if that is a number.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    // A zero hides an overflow of the other sizes: candle multiplies in order, so those are checked without
    // it.
    shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d.max(1)))?;
    shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))
}
