//! Heads of wav files that the decoder does not read, as one that it does: RF64 and BW64 (EBU Tech 3306),
//! Sony's Wave64, a RIFF whose size is too small, and a data chunk of size 0, which a recorder that was cut
//! off leaves behind. As ffmpeg reads them: the size of the whole is not believed, and data of size 0 reach
//! to the end of the file.

use selfsup_core::{Error, Result};
use std::io::{self, Read, Seek, SeekFrom};
use symphonia::core::io::MediaSource;

/// Chunks that are looked at before the sound, and bytes of a chunk that is kept.
const CHUNKS: usize = 256;
const CHUNK: u64 = 1 << 16;

/// A head in memory, and the part of a file that follows it.
pub(super) struct Repaired<R> {
    head: Vec<u8>,
    inner: R,
    /// Where the sound begins in the file, and how long it is.
    start: u64,
    len: u64,
    at: u64,
}

/// What is known of a file's chunks.
#[derive(Default)]
struct Found {
    /// `fmt ` and `fact`, with their names and sizes.
    kept: Vec<u8>,
    start: u64,
    len: u64,
    /// Whether the head must be written anew.
    wrong: bool,
}

/// The file with a head that is right; as it is where its head is right, or where it is no such file.
///
/// # Errors
/// If it has a damaged head of a kind that is only read here, or cannot be read.
pub(super) fn source<R: MediaSource + 'static>(
    mut inner: R,
    size: u64,
    id: &str,
) -> Result<Box<dyn MediaSource>> {
    let io = |e: io::Error| Error::input(id, format!("cannot be read: {e}"));
    let damaged =
        |kind: &str| Error::input(id, format!("is {kind}, but has no chunks fmt and data: is it damaged?"));
    let mut magic = [0u8; 40];
    let n = read_some(&mut inner, &mut magic).map_err(io)?;
    let magic = &magic[..n];
    let starts = |marks: &[&[u8]]| marks.iter().any(|mark| magic.starts_with(mark));
    let wave = magic.get(8..12) == Some(&b"WAVE"[..]);
    let found = if wave && starts(&[b"RIFF"]) {
        riff(&mut inner, size, false).map_err(io)?
    } else if wave && starts(&[b"RF64", b"BW64"]) {
        Some(riff(&mut inner, size, true).map_err(io)?.ok_or_else(|| damaged("an RF64 file"))?)
    } else if starts(&[&RIFF64]) && magic.get(24..40) == Some(&WAVE64[..]) {
        Some(wave64(&mut inner, size).map_err(io)?.ok_or_else(|| damaged("a Wave64 file"))?)
    } else {
        None
    };
    inner.seek(SeekFrom::Start(0)).map_err(io)?;
    let Some(found) = found.filter(|f| f.wrong) else { return Ok(Box::new(inner)) };
    let rest = size.saturating_sub(found.start);
    if found.len > rest {
        return Err(Error::input(
            id,
            format!("is cut short: {rest} of its {} bytes of sound are there", found.len),
        ));
    }
    // 32 bits hold less than 4 GiB: above, the size is written as unknown.
    let data = u32::try_from(found.len).ok().filter(|&n| n < u32::MAX - (1 << 20)).unwrap_or(u32::MAX);
    let whole = data.saturating_add(found.kept.len() as u32 + 12);
    let mut head = b"RIFF".to_vec();
    head.extend(whole.to_le_bytes());
    head.extend(b"WAVE");
    head.extend(found.kept);
    head.extend(b"data");
    head.extend(data.to_le_bytes());
    Ok(Box::new(Repaired { head, inner, start: found.start, len: found.len, at: 0 }))
}

fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match inner.read(&mut buffer[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

/// A chunk that is kept: name, size, content, a byte of padding.
fn keep(kept: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    kept.extend(name);
    kept.extend((content.len() as u32).to_le_bytes());
    kept.extend(content);
    if content.len() % 2 == 1 {
        kept.push(0);
    }
}

/// Walks the chunks of a RIFF; with `large` sizes come from `ds64`. `None` where there is no sound to be
/// found.
fn riff<R: Read + Seek>(inner: &mut R, size: u64, large: bool) -> io::Result<Option<Found>> {
    let mut found = Found { wrong: large, ..Found::default() };
    inner.seek(SeekFrom::Start(4))?;
    let mut four = [0u8; 4];
    inner.read_exact(&mut four)?;
    let told = u64::from(u32::from_le_bytes(four)) + 8;
    let (mut at, mut long) = (12u64, None);
    for _ in 0..CHUNKS {
        if at + 8 > size {
            break;
        }
        inner.seek(SeekFrom::Start(at))?;
        let mut head = [0u8; 8];
        inner.read_exact(&mut head)?;
        let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        let content = |inner: &mut R| -> io::Result<Vec<u8>> {
            let mut content = vec![0u8; length.min(CHUNK).min(size - at - 8) as usize];
            inner.read_exact(&mut content)?;
            Ok(content)
        };
        match &head[..4] {
            b"ds64" => {
                let content = content(inner)?;
                long = content.get(8..16).and_then(|b| Some(u64::from_le_bytes(b.try_into().ok()?)));
            }
            b"fmt " => keep(&mut found.kept, b"fmt ", &content(inner)?),
            b"fact" => keep(&mut found.kept, b"fact", &content(inner)?),
            b"data" => {
                found.start = at + 8;
                let rest = size - found.start;
                let unknown =
                    length == 0 || large && length == u64::from(u32::MAX) && long.is_none_or(|n| n == 0);
                found.len = match (unknown, long) {
                    (true, _) => rest,
                    (false, Some(long)) if large && length == u64::from(u32::MAX) => long,
                    _ => length,
                };
                let short = told < found.start.saturating_add(length).min(size);
                found.wrong |= length == 0 && rest > 0 || short;
                return Ok(Some(found).filter(|f| !f.kept.is_empty()));
            }
            _ => {}
        }
        at = at.saturating_add(8).saturating_add(length + length % 2);
    }
    Ok(None)
}

/// Names of Wave64's chunks: GUIDs whose first four bytes are the name.
const RIFF64: [u8; 16] = *b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";
const WAVE64: [u8; 16] = *b"wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";

/// Walks the chunks of a Wave64: a GUID, 8 bytes of a size that counts both, content, padding to 8 bytes.
fn wave64<R: Read + Seek>(inner: &mut R, size: u64) -> io::Result<Option<Found>> {
    let (mut found, mut at) = (Found { wrong: true, ..Found::default() }, 40u64);
    for _ in 0..CHUNKS {
        if at + 24 > size {
            break;
        }
        inner.seek(SeekFrom::Start(at))?;
        let mut head = [0u8; 24];
        inner.read_exact(&mut head)?;
        let length = u64::from_le_bytes(head[16..].try_into().unwrap_or_default());
        let name = (head[4..16] == WAVE64[4..]).then_some(&head[..4]);
        match name {
            Some(b"fmt ") => {
                let mut content =
                    vec![0u8; length.saturating_sub(24).min(CHUNK).min(size - at - 24) as usize];
                inner.read_exact(&mut content)?;
                // Content is padded to 8 bytes; the format tells its own length.
                let extra = content.get(16..18).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
                let plain = content.starts_with(&[1, 0]) || content.starts_with(&[3, 0]);
                content.truncate(if plain { 16 } else { 18 + extra });
                keep(&mut found.kept, b"fmt ", &content);
            }
            Some(b"data") => {
                found.start = at + 24;
                let rest = size - found.start;
                found.len = if length <= 24 { rest } else { length - 24 };
                return Ok(Some(found).filter(|f| !f.kept.is_empty()));
            }
            _ => {}
        }
        at = at.saturating_add(length.max(24).div_ceil(8).saturating_mul(8));
    }
    Ok(None)
}

impl<R: Read + Seek> Read for Repaired<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = self.head.len() as u64;
        let n = if self.at < head {
            let rest = &self.head[self.at as usize..];
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            n
        } else {
            let at = self.at - head;
            let most = self.len.saturating_sub(at).min(buffer.len() as u64) as usize;
            self.inner.seek(SeekFrom::Start(self.start.saturating_add(at)))?;
            self.inner.read(&mut buffer[..most])?
        };
        self.at += n as u64;
        Ok(n)
    }
}

impl<R: Read + Seek> Seek for Repaired<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.head.len() as u64 + self.len;
        let target = match to {
            SeekFrom::Start(n) => i128::from(n),
            SeekFrom::End(n) => i128::from(end) + i128::from(n),
            SeekFrom::Current(n) => i128::from(self.at) + i128::from(n),
        };
        self.at = u64::try_from(target)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a place before the beginning"))?;
        Ok(self.at)
    }
}

impl<R: Read + Seek + Send + Sync> MediaSource for Repaired<R> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.head.len() as u64 + self.len)
    }
}
