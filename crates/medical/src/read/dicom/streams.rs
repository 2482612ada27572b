//! Compressed frames: RLE decoded here, and what others announce of their size before a decoder believes it.
//!
//! RLE: PS3.5 G; JPEG: ITU-T T.81 B.2.2; JPEG 2000: ITU-T T.800 A.5.1.

pub(super) const RLE: &str = "1.2.840.10008.1.2.5";

/// Pixels that compressed frames of any length may have: 5,792 x 5,792. Above, their length counts.
const FLOOR: u64 = 1 << 25;

/// Most pixels that frames of `bytes` compressed bytes can hold.
pub(super) fn most_pixels(syntax: &str, bytes: u64) -> u64 {
    if syntax == RLE {
        // Two bytes stand for at most 128.
        return bytes.saturating_mul(64);
    }
    // A block of 8 x 8 pixels of baseline JPEG takes two bits at least; an empty picture in JPEG 2000 nothing.
    bytes.saturating_mul(256).max(FLOOR)
}

/// One frame of `pixels` numbers of `width` bytes, little endian.
///
/// # Errors
/// Of what is wrong with the stream.
pub(super) fn rle(frame: &[u8], pixels: usize, width: usize) -> Result<Vec<u8>, String> {
    let word =
        |at: usize| frame.get(4 * at..4 * at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let short = || "it is cut short".to_string();
    let segments = word(0).ok_or_else(short)? as usize;
    if segments != width {
        return Err(format!("it has {segments} segments, expected {width}, one for each byte of a pixel"));
    }
    if (pixels as u64).saturating_mul(width as u64) > most_pixels(RLE, frame.len() as u64) {
        return Err(format!("{} bytes cannot hold {pixels} pixels", frame.len()));
    }
    let mut out = vec![0; pixels * width];
    for s in 0..width {
        let start = word(1 + s).ok_or_else(short)? as usize;
        let end = if s + 1 < width { word(2 + s).ok_or_else(short)? as usize } else { frame.len() };
        let segment = frame
            .get(start..end)
            .filter(|_| start >= 64)
            .ok_or_else(|| format!("segment {s} lies from byte {start} to {end} of {}", frame.len()))?;
        // The first segment has the highest bytes.
        let mut places = out.iter_mut().skip(width - 1 - s).step_by(width);
        let (mut at, mut left) = (0, pixels);
        while left > 0 {
            let run =
                *segment.get(at).ok_or_else(|| format!("segment {s} lacks {left} of {pixels} pixels"))?;
            at += 1;
            if run == 128 {
                continue;
            }
            let n = if run < 128 { usize::from(run) + 1 } else { 257 - usize::from(run) };
            let (n, used) = (n.min(left), if run < 128 { n } else { 1 });
            let bytes = segment.get(at..at + used).ok_or_else(|| format!("segment {s} is cut short"))?;
            if run < 128 {
                bytes.iter().take(n).zip(&mut places).for_each(|(b, place)| *place = *b);
            } else {
                places.by_ref().take(n).for_each(|place| *place = bytes[0]);
            }
            at += used;
            left -= n;
        }
    }
    Ok(out)
}

/// Rows, columns and components that a stream of JPEG, JPEG-LS or JPEG 2000 announces.
pub(super) fn announced(stream: &[u8]) -> Option<[u64; 3]> {
    let two = |at: usize| stream.get(at..at + 2).map(|b| u64::from(u16::from_be_bytes([b[0], b[1]])));
    let four = |at: usize| Some(two(at)? << 16 | two(at + 2)?);
    if two(0)? == 0xFF4F && two(2)? == 0xFF51 {
        // SIZ: length, capabilities, then width, height, and where the picture begins.
        let [width, height, left, top] = [8, 12, 16, 20].map(four);
        return Some([height?.checked_sub(top?)?, width?.checked_sub(left?)?, two(40)?]);
    }
    if two(0)? != 0xFFD8 {
        return None;
    }
    let mut at = 2;
    loop {
        let marker = two(at)?;
        match marker {
            // Bytes that fill.
            0xFFFF => at += 1,
            0xFF01 | 0xFFD0..=0xFFD7 => at += 2,
            // Frames: of all kinds, and of JPEG-LS; not tables (C4, CC) and extensions (C8).
            0xFFC0..=0xFFC3 | 0xFFC5..=0xFFC7 | 0xFFC9..=0xFFCB | 0xFFCD..=0xFFCF | 0xFFF7 => {
                return Some([two(at + 5)?, two(at + 7)?, u64::from(*stream.get(at + 9)?)]);
            }
            // The scan begins, or no marker is here.
            0xFFDA | 0..=0xFF00 => return None,
            _ => at += 2 + two(at + 2)? as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_before_decoding() {
        let jpeg =
            [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xFF, 0xC1, 0, 11, 12, 1, 2, 3, 4, 1, 1, 0x11, 0];
        assert_eq!(announced(&jpeg), Some([0x102, 0x304, 1]));
        assert_eq!(announced(&jpeg[..15]), None);
        assert_eq!(announced(&[0xFF, 0xD8, 0xFF, 0xDA, 0, 2]), None);
        let mut siz = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        for number in [700u32, 500, 100, 50, 64, 64, 0, 0] {
            siz.extend(number.to_be_bytes());
        }
        siz.extend([0, 3]);
        assert_eq!(announced(&siz), Some([450, 600, 3]));
    }

    #[test]
    fn runs_of_rle() {
        let mut frame = vec![0u8; 64];
        frame[0] = 2;
        frame[4] = 64;
        frame[8] = 67;
        // Six times 1; then 9, 8, nothing, and four times 7.
        frame.extend([251, 1, 128, 1, 9, 8, 128, 253, 7]);
        let out = rle(&frame, 6, 2).unwrap();
        assert_eq!(out, [9, 1, 8, 1, 7, 1, 7, 1, 7, 1, 7, 1]);
        assert!(rle(&frame, 7, 2).unwrap_err().contains("segment 0 lacks 1 of 7"));
        assert!(rle(&frame, 6, 1).unwrap_err().contains("2 segments, expected 1"));
        assert!(rle(&frame, 900_000_000, 2).unwrap_err().contains("cannot hold"));
        frame[8] = 255;
        frame[9] = 255;
        assert!(rle(&frame, 6, 2).unwrap_err().contains("from byte 64 to 65535"));
        assert!(rle(&[1, 0], 6, 1).is_err());
    }
}
