//! What a PNG says of itself, before its decoder asks for memory.
//!
//! A PNG is a signature and chunks: length, name, content, CRC-32 (RFC 2083). Chunks whose name begins with a
//! small letter may be left out; some of them are compressed (texts, a colour profile), and the decoder
//! unpacks a profile of a gigabyte from a megabyte of file.

use std::borrow::Cow;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// deflate's best is one bit for 258 bytes and some: no honest file says more than this many bytes for one.
const DEFLATE_RATIO: u64 = 1032;
/// Chunks that change the picture beside those that must be there: transparency, and EXIF for its
/// orientation.
const KEPT: [&[u8]; 2] = [b"tRNS", b"eXIf"];

/// The file without the chunks that say nothing of its pixels.
pub(crate) fn pixels_only(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.starts_with(SIGNATURE) {
        return Cow::Borrowed(bytes);
    }
    let mut out: Option<Vec<u8>> = None;
    let mut at = SIGNATURE.len();
    while let Some(name) = bytes.get(at + 4..at + 8) {
        let length = bytes[at..at + 4].iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
        let end = at.saturating_add(length).saturating_add(12).min(bytes.len());
        let optional = name[0] & 0x20 != 0 && !KEPT.contains(&name);
        match &mut out {
            None if optional => out = Some(bytes[..at].to_vec()),
            Some(out) if !optional => out.extend_from_slice(&bytes[at..end]),
            _ => {}
        }
        at = end;
    }
    match out {
        None => Cow::Borrowed(bytes),
        Some(mut out) => {
            out.extend_from_slice(&bytes[at..]);
            Cow::Owned(out)
        }
    }
}

/// Whether a file of `bytes` can hold as many pixels as its header says: not if its data would have to be
/// packed more tightly than they can be.
pub(crate) fn can_hold(bytes: &[u8], width: u32, height: u32) -> bool {
    let field = |at: usize| bytes.get(at).copied().map_or(1, u64::from);
    let (depth, colour) = (field(24), field(25));
    let channels = match colour {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };
    let pixels = u64::from(width) * u64::from(height);
    pixels.saturating_mul(depth * channels) / 8 <= (bytes.len() as u64).saturating_mul(DEFLATE_RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32).to_be_bytes(), &name[..], content, b"crc."].concat()
    }

    #[test]
    fn chunks_of_pixels_stay() {
        let file = |chunks: &[Vec<u8>]| [SIGNATURE.to_vec(), chunks.concat()].concat();
        let (head, data, end) = (chunk(b"IHDR", &[7; 13]), chunk(b"IDAT", b"data"), chunk(b"IEND", b""));
        let clear = chunk(b"tRNS", b"x");
        let with = file(&[
            head.clone(),
            chunk(b"iCCP", &[1; 90]),
            clear.clone(),
            chunk(b"tEXt", b"words"),
            data.clone(),
            chunk(b"zTXt", b""),
            end.clone(),
        ]);
        let without = file(&[head, clear, data, end]);
        assert_eq!(pixels_only(&with), without);
        assert!(matches!(pixels_only(&without), Cow::Borrowed(_)));
        // What is cut short stays cut short, and nothing is read past the end.
        for n in 0..with.len() {
            assert!(pixels_only(&with[..n]).len() <= n);
        }
        assert_eq!(&*pixels_only(&without[..40]), &without[..40]);
        assert_eq!(&*pixels_only(b"GIF89a"), b"GIF89a");
    }

    #[test]
    fn a_header_that_lies() {
        let mut file = [SIGNATURE.to_vec(), chunk(b"IHDR", &[0; 13])].concat();
        (file[24], file[25]) = (16, 6);
        // 33 bytes and a CRC hold at most 37 * 1032 bytes of pixels, 8 bytes each.
        let most = file.len() as u32 * 1032 / 8;
        assert!(can_hold(&file, most, 1) && !can_hold(&file, most + 1, 1));
        (file[24], file[25]) = (1, 0);
        assert!(can_hold(&file, most, 64) && !can_hold(&file, most, 65));
    }
}
