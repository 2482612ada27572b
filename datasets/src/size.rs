//! Format and size of an encoded image, from its first bytes: enough to look through a set without decoding
//! it.

/// Format and size that the head of a file states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub format: &'static str,
    /// Columns and rows, where the head tells.
    pub size: Option<(u32, u32)>,
}

/// Bytes that [`head`] wants to see: a JPEG's size stands behind its notes (EXIF, colour profile).
pub(crate) const ENOUGH: usize = 1 << 18;

fn be(b: &[u8], at: usize, n: usize) -> Option<u32> {
    Some(b.get(at..at.checked_add(n)?)?.iter().fold(0, |v, &b| (v << 8) | u32::from(b)))
}

fn le(b: &[u8], at: usize, n: usize) -> Option<u32> {
    Some(b.get(at..at.checked_add(n)?)?.iter().rev().fold(0, |v, &b| (v << 8) | u32::from(b)))
}

/// Format and size, or `None` for what is no image of a known kind.
pub(crate) fn head(b: &[u8]) -> Option<Head> {
    let found = |format, size| Some(Head { format, size });
    let pair = |w: Option<u32>, h: Option<u32>| w.zip(h);
    if b.starts_with(b"\x89PNG\r\n\x1a\n") {
        return found("png", pair(be(b, 16, 4), be(b, 20, 4)));
    }
    if b.starts_with(b"GIF8") {
        return found("gif", pair(le(b, 6, 2), le(b, 8, 2)));
    }
    if b.starts_with(b"BM") {
        // A negative height: rows from the top.
        let height = le(b, 22, 4).map(|h| (h as i32).unsigned_abs());
        return found("bmp", pair(le(b, 18, 4), height));
    }
    if b.starts_with(b"RIFF") && b.get(8..12) == Some(b"WEBP") {
        return found("webp", webp(b));
    }
    if b.starts_with(b"II+\0") || b.starts_with(b"MM\0+") {
        return found("tiff", None);
    }
    if let Some(size) = pnm(b) {
        return found("pnm", Some(size));
    }
    if b.starts_with(b"II*\0") || b.starts_with(b"MM\0*") {
        return found("tiff", tiff(b));
    }
    if b.starts_with(&[0xff, 0xd8, 0xff]) {
        return found("jpeg", jpeg(b));
    }
    None
}

/// Netpbm: `P1` to `P6`, and columns and rows as text behind white space and comments.
fn pnm(b: &[u8]) -> Option<(u32, u32)> {
    if b.first() != Some(&b'P') || !matches!(b.get(1), Some(b'1'..=b'6')) {
        return None;
    }
    let head = String::from_utf8_lossy(b.get(2..b.len().min(512))?).into_owned();
    if !head.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let lines = head.lines().map(|l| l.split('#').next().unwrap_or_default());
    let mut numbers = lines.flat_map(str::split_ascii_whitespace).map_while(|n| n.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn webp(b: &[u8]) -> Option<(u32, u32)> {
    match b.get(12..16)? {
        b"VP8X" => Some((le(b, 24, 3)? + 1, le(b, 27, 3)? + 1)),
        b"VP8L" => {
            let bits = le(b, 21, 4)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8 " => Some((le(b, 26, 2)? & 0x3fff, le(b, 28, 2)? & 0x3fff)),
        _ => None,
    }
}

/// The first directory, if it stands within the head.
fn tiff(b: &[u8]) -> Option<(u32, u32)> {
    let get = if b[0] == b'I' { le } else { be };
    let at = get(b, 4, 4)? as usize;
    let (mut width, mut height) = (None, None);
    for i in 0..get(b, at, 2)? as usize {
        let entry = at.checked_add(2 + 12 * i)?;
        let value = match get(b, entry.checked_add(2)?, 2)? {
            3 => get(b, entry.checked_add(8)?, 2),
            4 => get(b, entry.checked_add(8)?, 4),
            _ => None,
        };
        match get(b, entry, 2)? {
            256 => width = value,
            257 => height = value,
            _ => {}
        }
    }
    width.zip(height)
}

/// From segment to segment up to the frame.
fn jpeg(b: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        if *b.get(at)? != 0xff {
            return None;
        }
        match *b.get(at + 1)? {
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            // Frames are C0 to CF but for tables (C4), an extension (C8) and conditioning (CC).
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((be(b, at + 7, 2)?, be(b, at + 5, 2)?));
            }
            _ => at += 2 + be(b, at + 2, 2)?.max(2) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let says = |b: &[u8], format, size| assert_eq!(head(b), Some(Head { format, size }));
        says(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x02\0\0\0\x07", "png", Some((258, 7)));
        says(b"GIF89a\x05\0\x06\x01", "gif", Some((5, 262)));
        let mut bmp = b"BM".to_vec();
        bmp.resize(18, 0);
        bmp.extend(3u32.to_le_bytes());
        bmp.extend((-4i32).to_le_bytes());
        says(&bmp, "bmp", Some((3, 4)));
        says(b"RIFF....WEBPVP8X\x0a\0\0\0\0\0\0\0\x09\0\0\x13\0\0", "webp", Some((10, 20)));
        says(b"RIFF....WEBPVP8 \0\0\0\0...\x9d\x01\x2a\x40\0\x30\0", "webp", Some((64, 48)));
        says(b"RIFF....WEBPVP8L\0\0\0\0\x2f\x0f\xc0\x07\x00", "webp", Some((16, 32)));
        says(
            b"II*\0\x08\0\0\0\x02\0\0\x01\x03\0\x01\0\0\0\x40\0\0\0\x01\x01\x04\0\x01\0\0\0\x30\0\0\0",
            "tiff",
            Some((64, 48)),
        );
        let exif = [&b"\xff\xd8\xff\xe1\0\x06abcd"[..], b"\xff\xff\xc2\0\x0b\x08\0\x30\0\x40\x03"].concat();
        says(&exif, "jpeg", Some((64, 48)));
        says(b"P6\n# by hand\n64 48\n255\n...", "pnm", Some((64, 48)));
        says(b"II+\0\x08\0\0\0", "tiff", None);
        assert_eq!(head(b"P6x"), None);
        assert_eq!(head(b"hello"), None);
        assert_eq!(head(b""), None);
        // Cut anywhere: no size, no panic.
        for whole in [
            &exif[..],
            &bmp,
            b"II*\0\xff\xff\xff\xff",
            b"MM\0*\0\0\0\x08\xff\xff",
            b"\xff\xd8\xff\xe1\xff\xff",
        ] {
            for cut in 0..=whole.len() {
                let _ = head(&whole[..cut]);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(which in 0usize..5, rest: Vec<u8>) {
            let starts: [&[u8]; 5] = [b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"RIFF....WEBPVP8X", b"BM"];
            let _ = head(&[starts[which], &rest].concat());
        }
    }
}
