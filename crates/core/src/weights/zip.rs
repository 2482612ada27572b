//! The part of ZIP that `torch.save` writes: entries that are stored, not compressed, with ZIP64 sizes where
//! needed.
//!
//! Nothing is unpacked: the directory says where an entry's bytes lie in the file. PKWARE's APPNOTE 6.3.10
//! describes the records.

use super::bytes::{MAX_HEADER, Source, u16_at, u32_at, u64_at};
use crate::error::Result;
use std::collections::BTreeMap;

/// Where an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) size: u64,
}

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

/// The entries of an archive by name.
///
/// # Errors
/// For an archive that is truncated, lies about sizes, has two entries of one name, or one that is compressed
/// or encrypted.
pub(super) fn entries(source: &Source) -> Result<BTreeMap<String, Entry>> {
    // The end record has 22 bytes and a comment of up to 65,535.
    let tail_len = source.len().min(22 + 65_535);
    let tail_at = source.len() - tail_len;
    let tail = source.read(tail_at, tail_len as usize)?;
    let starts = 0..(tail.len() + 1).saturating_sub(22);
    let end = starts
        .rev()
        .find(|&i| u32_at(&tail, i) == END && i + 22 + usize::from(u16_at(&tail, i + 20)) <= tail.len());
    let end =
        end.ok_or_else(|| source.error("not a whole ZIP archive: its end record is missing (truncated?)"))?;
    let (mut count, mut size, mut at) = (
        u64::from(u16_at(&tail, end + 10)),
        u64::from(u32_at(&tail, end + 12)),
        u64::from(u32_at(&tail, end + 16)),
    );
    if count == 0xFFFF || size == 0xFFFF_FFFF || at == 0xFFFF_FFFF {
        let end_at = tail_at + end as u64;
        let locator = source
            .read(end_at.checked_sub(20).ok_or_else(|| source.error("ZIP64 locator is missing"))?, 20)?;
        if u32_at(&locator, 0) == LOCATOR64 {
            let record = source.read(u64_at(&locator, 8), 56)?;
            if u32_at(&record, 0) != END64 {
                return Err(source.error("ZIP64 end record is damaged"));
            }
            (count, size, at) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
        }
    }
    if size > MAX_HEADER {
        return Err(source.error(format!("ZIP directory of {size} bytes, expected at most {MAX_HEADER}")));
    }
    let dir = source.read(at, size as usize)?;
    let mut out = BTreeMap::new();
    let mut p = 0;
    for _ in 0..count {
        if p + 46 > dir.len() || u32_at(&dir, p) != CENTRAL {
            return Err(
                source.error(format!("ZIP directory is damaged: {} of {count} entries found", out.len()))
            );
        }
        let (name_len, extra_len) = (usize::from(u16_at(&dir, p + 28)), usize::from(u16_at(&dir, p + 30)));
        let next = p + 46 + name_len + extra_len + usize::from(u16_at(&dir, p + 32));
        let (Some(name), Some(extra)) =
            (dir.get(p + 46..p + 46 + name_len), dir.get(p + 46 + name_len..p + 46 + name_len + extra_len))
        else {
            return Err(source.error("ZIP directory is damaged: a name runs past its end"));
        };
        let name = String::from_utf8(name.to_vec())
            .map_err(|_| source.error("ZIP entry whose name is not UTF-8"))?;
        if u16_at(&dir, p + 8) & 1 != 0 {
            return Err(source.error(format!("ZIP entry {name} is encrypted")));
        }
        let method = u16_at(&dir, p + 10);
        if method != 0 {
            let method = if method == 8 { "deflate".to_string() } else { format!("method {method}") };
            return Err(source.error(format!(
                "ZIP entry {name} is compressed ({method}); torch.save stores entries uncompressed"
            )));
        }
        let [stored, size, local] = sizes(&dir, p, extra);
        if stored != size {
            return Err(source.error(format!("ZIP entry {name}: {stored} stored bytes for {size}")));
        }
        // The local header repeats the name and may be padded: torch aligns data to 64 bytes that way.
        let head = source.read(local, 30)?;
        if u32_at(&head, 0) != LOCAL {
            return Err(source.error(format!("ZIP entry {name}: no local header at byte {local}")));
        }
        let start = local + 30 + u64::from(u16_at(&head, 26)) + u64::from(u16_at(&head, 28));
        if start.checked_add(size).is_none_or(|e| e > source.len()) {
            return Err(source.error(format!(
                "ZIP entry {name}: {size} bytes at {start} run past the file's end (truncated?)"
            )));
        }
        if out.insert(name.clone(), Entry { start, size }).is_some() {
            return Err(source.error(format!("two ZIP entries of the name {name}")));
        }
        p = next;
    }
    Ok(out)
}

/// Stored size, size and position of the local header; from the ZIP64 field where the plain ones are all
/// ones.
fn sizes(dir: &[u8], p: usize, extra: &[u8]) -> [u64; 3] {
    let (mut stored, mut size, mut local) =
        (u64::from(u32_at(dir, p + 20)), u64::from(u32_at(dir, p + 24)), u64::from(u32_at(dir, p + 42)));
    let mut e = 0;
    while e + 4 <= extra.len() {
        let len = usize::from(u16_at(extra, e + 2));
        if u16_at(extra, e) == 1 {
            let mut q = e + 4;
            for field in [&mut size, &mut stored, &mut local] {
                if *field == 0xFFFF_FFFF && q + 8 <= (e + 4 + len).min(extra.len()) {
                    *field = u64_at(extra, q);
                    q += 8;
                }
            }
        }
        e += 4 + len;
    }
    [stored, size, local]
}
