//! The samples of a record.

use super::header::{Format, SignalHeader};
use selfsup_core::{Error, Result};
use std::path::Path;

/// The digital values of the signals that share the file `path`, in their order; `frames` of them, or all that the
/// file holds.
pub(super) fn read(path: &Path, signals: &[&SignalHeader], frames: Option<usize>) -> Result<Vec<Vec<i32>>> {
    let Some(first) = signals.first() else { return Ok(Vec::new()) };
    if signals.iter().any(|s| s.format != first.format) {
        return Err(Error::file(path, "signals of two formats in one file, expected one format"));
    }
    let bytes = selfsup_core::file::read(path)?;
    let bytes = bytes.get(first.offset..).ok_or_else(|| {
        Error::file(path, format_args!("holds {} bytes, the samples begin at {}", bytes.len(), first.offset))
    })?;
    let format = first.format;
    let width: usize = signals.iter().map(|s| s.per_frame).sum();
    let held = match format {
        Format::F16 | Format::F61 => bytes.len() / 2,
        Format::F80 => bytes.len(),
        Format::F212 => bytes.len() / 3 * 2 + usize::from(bytes.len() % 3 == 2),
        Format::F24 => bytes.len() / 3,
        Format::F32 => bytes.len() / 4,
    };
    let frames = frames.unwrap_or(held / width);
    let wanted = frames.checked_mul(width).filter(|n| *n <= held).ok_or_else(|| {
        Error::file(
            path,
            format_args!(
                "holds {} frames of {width} samples, the header says {frames}: cut short?",
                held / width
            ),
        )
    })?;
    let mut out: Vec<Vec<i32>> = signals.iter().map(|s| Vec::with_capacity(frames * s.per_frame)).collect();
    let mut at = 0;
    while at < wanted {
        for (signal, values) in signals.iter().zip(&mut out) {
            for _ in 0..signal.per_frame {
                values.push(sample(bytes, format, at));
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Sample `i`, which the bytes hold.
fn sample(bytes: &[u8], format: Format, i: usize) -> i32 {
    let byte = |k: usize| bytes.get(k).copied().unwrap_or(0);
    match format {
        Format::F16 => i32::from(i16::from_le_bytes([byte(2 * i), byte(2 * i + 1)])),
        Format::F61 => i32::from(i16::from_be_bytes([byte(2 * i), byte(2 * i + 1)])),
        Format::F80 => i32::from(byte(i)) - 128,
        Format::F212 => {
            // Three bytes hold two samples: the middle one has the high halves, of the first in its low nibble.
            let (k, middle) = (i / 2 * 3, i32::from(byte(i / 2 * 3 + 1)));
            let value = if i.is_multiple_of(2) {
                i32::from(byte(k)) | (middle & 0x0f) << 8
            } else {
                i32::from(byte(k + 2)) | (middle & 0xf0) << 4
            };
            (value << 20) >> 20
        }
        Format::F24 => i32::from_le_bytes([0, byte(3 * i), byte(3 * i + 1), byte(3 * i + 2)]) >> 8,
        Format::F32 => i32::from_le_bytes([byte(4 * i), byte(4 * i + 1), byte(4 * i + 2), byte(4 * i + 3)]),
    }
}
