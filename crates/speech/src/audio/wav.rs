//! Writing mono wav files: what augmentations did, and test data.

use selfsup_core::{Error, Result};
use std::io::Write;
use std::path::Path;

/// A mono wave as a file in 16-bit PCM; values beyond `[-1, 1]` are clipped.
///
/// # Errors
/// If the wave is longer than a wav file can be.
pub fn wav(samples: &[f32], rate: u32) -> Result<Vec<u8>> {
    let bytes = samples
        .iter()
        .flat_map(|v| ((v * 32768.0).round().clamp(-32768.0, 32767.0) as i16).to_le_bytes())
        .collect();
    file(1, 16, rate, bytes)
}

/// Writes a mono wave as 16-bit PCM; values beyond `[-1, 1]` are clipped.
///
/// # Errors
/// If the file cannot be written or the wave is longer than a wav file can be.
pub fn write_wav(path: &Path, samples: &[f32], rate: u32) -> Result<()> {
    write(path, wav(samples, rate))
}

/// Writes a mono wave as 32-bit floating point, value by value.
///
/// # Errors
/// As [`write_wav`].
pub fn write_wav_f32(path: &Path, samples: &[f32], rate: u32) -> Result<()> {
    write(path, file(3, 32, rate, samples.iter().flat_map(|v| v.to_le_bytes()).collect()))
}

fn write(path: &Path, content: Result<Vec<u8>>) -> Result<()> {
    let content = content.map_err(|e| Error::file(path, e))?;
    std::fs::File::create(path).and_then(|mut f| f.write_all(&content)).map_err(|e| Error::io(path, e))
}

fn file(format: u16, bits: u16, rate: u32, data: Vec<u8>) -> Result<Vec<u8>> {
    let len = u32::try_from(data.len()).ok().filter(|l| *l < u32::MAX - 64);
    let len = len.ok_or_else(|| {
        Error::input("wave", format!("{} bytes of samples are more than a wav file holds", data.len()))
    })?;
    let block = bits / 8;
    let mut out = Vec::with_capacity(data.len() + 44);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + len).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt \x10\0\0\0");
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&(rate.saturating_mul(u32::from(block))).to_le_bytes());
    out.extend_from_slice(&block.to_le_bytes());
    out.extend_from_slice(&bits.to_le_bytes());
    out.extend_from_slice(b"data");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&data);
    Ok(out)
}
