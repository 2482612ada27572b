//! TensorBoard event files: scalars only.
//!
//! A file is a sequence of TFRecords, `u64 length | masked CRC-32C of the length | data | masked CRC-32C of
//! the data`, each the protocol buffer `Event { wall_time = 1: double; step = 2: int64; file_version = 3:
//! string; summary = 5; session_log = 7 }`.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Starts a new event file in `dir`, which is created if need be.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let time = now();
        // TensorBoard reads files in the order of their names: time first, then a number that is free.
        let name = |i: u32| dir.join(format!("events.out.tfevents.{:010}.{i:03}.selfsup", time as u64));
        let path = (0..1000)
            .map(name)
            .find(|p| !p.exists())
            .ok_or_else(|| Error::file(dir, "too many event files"))?;
        let file =
            File::options().write(true).create_new(true).open(&path).map_err(|e| Error::io(&path, e))?;
        let mut w = EventWriter { path, file };
        let mut event = event(time, 0);
        bytes_field(&mut event, 3, b"brain.Event:2");
        w.record(&event)?;
        Ok(w)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes scalars of one step; `time` in seconds since 1970.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalars(&mut self, step: u64, time: f64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, v) in values {
            let mut value = Vec::new();
            bytes_field(&mut value, 1, tag.as_bytes());
            value.push(2 << 3 | 5);
            value.extend_from_slice(&(*v as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &value);
        }
        let mut event = event(time, step);
        bytes_field(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Tells TensorBoard that the run went on before `step`: what earlier files say from there on is void.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn restart(&mut self, step: u64, time: f64) -> Result<()> {
        let mut event = event(time, step);
        // SessionLog { status = 1: START = 1 }
        bytes_field(&mut event, 7, &[1 << 3, 1]);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let len = (data.len() as u64).to_le_bytes();
        let mut out = Vec::with_capacity(data.len() + 16);
        out.extend_from_slice(&len);
        out.extend_from_slice(&masked(&len).to_le_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(&masked(data).to_le_bytes());
        self.file.write_all(&out).map_err(|e| Error::io(&self.path, e))
    }
}

fn event(time: f64, step: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&time.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    out
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// CRC-32C (Castagnoli, reflected), bit by bit: records are short and rare.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82F6_3B78 } else { c >> 1 })
    })
}

/// The rotated checksum of TFRecords (a checksum over data that holds checksums would be weak).
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answer of the CRC catalogue, and RFC 3720's for 32 zeros.
    #[test]
    fn checksum() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }

    /// Field number and value of each entry of a message: numbers as u64, the rest as bytes.
    fn fields(mut b: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn read(b: &mut &[u8]) -> u64 {
            let (mut v, mut shift) = (0, 0);
            loop {
                let (x, rest) = b.split_first().unwrap();
                *b = rest;
                v |= u64::from(x & 0x7f) << shift;
                shift += 7;
                if x & 0x80 == 0 {
                    return v;
                }
            }
        }
        let mut out = Vec::new();
        while !b.is_empty() {
            let key = read(&mut b);
            let n = match key & 7 {
                0 => {
                    let v = read(&mut b);
                    out.push((key >> 3, v.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => read(&mut b) as usize,
                other => panic!("wire type {other}"),
            };
            out.push((key >> 3, b[..n].to_vec()));
            b = &b[n..];
        }
        out
    }

    fn records(path: &Path) -> Vec<Vec<(u64, Vec<u8>)>> {
        let bytes = std::fs::read(path).unwrap();
        let mut b = &bytes[..];
        let mut out = Vec::new();
        while !b.is_empty() {
            let n = u64::from_le_bytes(b[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(b[8..12].try_into().unwrap()), masked(&b[..8]));
            let data = &b[12..12 + n];
            assert_eq!(u32::from_le_bytes(b[12 + n..16 + n].try_into().unwrap()), masked(data));
            out.push(fields(data));
            b = &b[16 + n..];
        }
        out
    }

    #[test]
    fn read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = EventWriter::create(dir.path()).unwrap();
        let other = EventWriter::create(dir.path()).unwrap();
        assert_ne!(w.path(), other.path());
        w.scalars(300, 1.5, &[("train/loss", 0.25), ("lr", f64::NAN)]).unwrap();
        w.restart(301, 2.5).unwrap();
        let r = records(w.path());
        assert_eq!(r.len(), 3);
        assert_eq!(r[0][2], (3, b"brain.Event:2".to_vec()));
        assert_eq!(r[1][0], (1, 1.5f64.to_le_bytes().to_vec()));
        assert_eq!(r[1][1], (2, 300u64.to_le_bytes().to_vec()));
        let values = fields(&r[1][2].1);
        assert_eq!((r[1][2].0, values.len()), (5, 2));
        assert_eq!(fields(&values[0].1), [(1, b"train/loss".to_vec()), (2, 0.25f32.to_le_bytes().to_vec())]);
        assert!(f32::from_le_bytes(fields(&values[1].1)[1].1[..].try_into().unwrap()).is_nan());
        assert_eq!(r[2][1], (2, 301u64.to_le_bytes().to_vec()));
        assert_eq!(fields(&r[2][2].1), [(1, 1u64.to_le_bytes().to_vec())]);
    }
}
