//! Checksums that stand before what a reader does with a file: put right after the damage, or the reader
//! would see nothing but wrong sums.

#![allow(clippy::ptr_arg)] // one type for all: some change the length

use std::io::Write;

/// CRC-32 of IEEE 802.3, as PNG, gzip and files of blocks have it.
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |c: u32, b: &u8| {
        (0..8).fold(c ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The sums of the chunks of a PNG.
pub fn png(file: &mut Vec<u8>) {
    let mut at = 8;
    while at + 12 <= file.len() {
        let length = u32::from_be_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize;
        let Some(end) = at.checked_add(length).and_then(|n| n.checked_add(8)).filter(|e| e + 4 <= file.len())
        else {
            return;
        };
        let sum = crc32(&file[at + 4..end]);
        file[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}

/// The sums of the pages of an Ogg file (RFC 3533).
pub fn ogg(file: &mut Vec<u8>) {
    let mut at = 0;
    while at + 27 <= file.len() && file[at..].starts_with(b"OggS") {
        let segments = usize::from(file[at + 26]);
        let Some(table) = file.get(at + 27..at + 27 + segments) else { return };
        let end = (at + 27 + segments + table.iter().map(|n| usize::from(*n)).sum::<usize>()).min(file.len());
        file[at + 22..at + 26].fill(0);
        let step = |c: u32, b: &u8| {
            let fold = |c: u32, _| if c >> 31 == 1 { (c << 1) ^ 0x04C1_1DB7 } else { c << 1 };
            (0..8).fold(c ^ u32::from(*b) << 24, fold)
        };
        let sum = file[at..end].iter().fold(0, step);
        file[at + 22..at + 26].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

/// The sums of the headers of a tar.
pub fn tar(file: &mut Vec<u8>) {
    for header in file.chunks_exact_mut(512).filter(|h| &h[257..262] == b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// The file compressed by gzip: the damage is inside.
pub fn gzip(file: &mut Vec<u8>) {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    if out.write_all(file).is_ok()
        && let Ok(packed) = out.finish()
    {
        *file = packed;
    }
}

/// A tar whose sums are right, compressed by gzip.
pub fn tar_gzip(file: &mut Vec<u8>) {
    tar(file);
    gzip(file);
}

/// What stands behind the first `end` of a header, compressed by `pack`.
fn packed(file: &mut Vec<u8>, end: &[u8], pack: impl FnOnce(&[u8]) -> std::io::Result<Vec<u8>>) {
    let Some(at) = file.windows(end.len()).position(|w| w == end) else { return };
    let start = at + end.len();
    if let Ok(packed) = pack(&file[start..]) {
        file.splice(start.., packed);
    }
}

/// The voxels of an NRRD, compressed by bzip2.
pub fn nrrd_bzip2(file: &mut Vec<u8>) {
    packed(file, b"\n\n", |voxels| {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        out.write_all(voxels)?;
        out.finish()
    });
}

/// The voxels of a MetaImage, compressed by zlib.
pub fn metaimage_zlib(file: &mut Vec<u8>) {
    packed(file, b"= LOCAL\n", |voxels| {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(voxels)?;
        out.finish()
    });
}

/// The last sum of a file of two blocks.
pub fn blocks(file: &mut Vec<u8>) {
    let Some(length) = file.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes) else {
        return;
    };
    let n = file.len();
    let Some(head) = usize::try_from(length).ok().and_then(|l| file.get(..l.checked_add(16)?)) else {
        return;
    };
    if n < head.len() + 12 {
        return;
    }
    let sum = crc32(&[head, &file[n - 12..n - 4]].concat());
    file[n - 4..].copy_from_slice(&sum.to_le_bytes());
}

/// The length of the header of a safetensors file: up to the last brace before the data.
pub fn safetensors(file: &mut Vec<u8>) {
    if let Some(end) = file.windows(2).position(|w| w == b"}}").filter(|e| *e >= 8) {
        let length = (end + 2 - 8) as u64;
        file[..8].copy_from_slice(&length.to_le_bytes());
    }
}
