//! What the headers of a Parquet file say, before its reader asks for memory by them.
//!
//! The reader of Parquet walks down a schema by recursion and takes memory for as many elements as a list
//! announces and for as many bytes as a page will have. Here the footer and the headers of pages are read over
//! first: lists are no longer than what is left of the file, and schemas and pages within limits. Both are
//! structs of Thrift's compact protocol (THRIFT-110): a byte of type and distance for each field, numbers as
//! varints.

use selfsup_core::{Error, Result, file};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Deepest nesting of columns, and of values in a header.
const DEPTH: usize = 64;
/// Longest footer.
const FOOTER: u64 = 256 << 20;
/// Largest page that is unpacked whatever its compressed size; above it, deflate's best ratio is the limit.
const PAGE: u64 = 256 << 20;
const RATIO: u64 = 1032;
/// Bytes in which the header of a page lies.
const PAGE_HEADER: u64 = 1 << 16;

const STRUCT: u8 = 12;

/// A place in a header.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number with a sign.
    fn number(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    /// Type and number of elements of a list: no more than there are bytes.
    fn list(&mut self) -> Option<(u8, u64)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        (count <= self.0.len() as u64).then_some((head & 0x0F, count))
    }

    /// Calls `field` with the number and the type of each field of a struct; it reads the value.
    fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut id = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = if head >> 4 == 0 { self.number()? } else { id.wrapping_add(i64::from(head >> 4)) };
            field(self, id, head & 0x0F)?;
        }
    }

    /// Reads over a value.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        match kind {
            // Inside of a struct the type is the value of a boolean.
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| if kind <= 2 { self.pass(1) } else { self.skip(kind, depth + 1) })
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                let half =
                    |t: &mut Self, kind: u8| if kind <= 2 { t.pass(1) } else { t.skip(kind, depth + 1) };
                (0..count).try_for_each(|_| {
                    half(self, kinds >> 4)?;
                    half(self, kinds & 0x0F)
                })
            }
            STRUCT => self.fields(|t, _, kind| t.skip(kind, depth + 1)),
            13 => self.pass(16),
            _ => None,
        }
    }
}

/// The depth of a schema, whose elements stand in the order of a walk with their numbers of children.
fn schema(t: &mut Thrift) -> Option<usize> {
    let (kind, count) = t.list()?;
    // How many elements each open group still wants.
    let (mut open, mut deepest) = (Vec::new(), 0);
    for _ in 0..count {
        let mut children = 0;
        if kind != STRUCT {
            return None;
        }
        t.fields(|t, id, kind| {
            if id == 5 && (4..=6).contains(&kind) {
                children = t.number()?;
                return Some(());
            }
            t.skip(kind, 0)
        })?;
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        open.push(children.max(0));
        deepest = deepest.max(open.len());
    }
    Some(deepest)
}

/// Checks the footer of a file of `length` bytes.
///
/// # Errors
/// Naming the file: no footer, lists that are longer than the file, a schema that is nested too deep.
pub(super) fn check_footer(path: &Path, length: u64) -> Result<()> {
    let bad = |problem: &str| Error::file(path, format_args!("not a whole Parquet file: {problem}"));
    let mut input = file::open(path)?;
    let mut read = |at: u64, n: u64| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        input.seek(SeekFrom::Start(at)).map_err(|e| Error::io(path, e))?;
        (&mut input).take(n).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
        Ok(bytes)
    };
    let tail = if length < 12 { Vec::new() } else { read(length - 8, 8)? };
    let [a, b, c, d, b'P', b'A', b'R', b'1'] = tail[..] else {
        return Err(bad("it does not end in PAR1; cut short?"));
    };
    let size = u64::from(u32::from_le_bytes([a, b, c, d]));
    if size > FOOTER || size > length - 12 {
        return Err(bad("its footer is longer than the file, or than 256 MiB"));
    }
    let footer = read(length - 8 - size, size)?;
    let mut depth = 0;
    let walked = Thrift(&footer).fields(|t, id, kind| {
        if id == 2 && kind == 9 {
            depth = schema(t)?;
            return Some(());
        }
        t.skip(kind, 0)
    });
    match walked {
        None => Err(bad("its footer is damaged")),
        Some(()) if depth > DEPTH => Err(bad("its columns are nested deeper than 64 levels")),
        Some(()) => Ok(()),
    }
}

/// Checks the headers of the pages in `length` bytes from `start` on: none is unpacked to more than it can
/// hold.
///
/// # Errors
/// Naming the file.
pub(super) fn check_pages(path: &Path, start: u64, length: u64) -> Result<()> {
    let bad = |problem: String| Error::file(path, format_args!("not a whole Parquet file: {problem}"));
    let mut input = file::open(path)?;
    let end = start.saturating_add(length);
    let mut at = start;
    while at < end {
        let mut head = Vec::new();
        input.seek(SeekFrom::Start(at)).map_err(|e| Error::io(path, e))?;
        (&mut input)
            .take(PAGE_HEADER.min(end - at))
            .read_to_end(&mut head)
            .map_err(|e| Error::io(path, e))?;
        let mut header = Thrift(&head);
        let mut sizes = [0i64; 2];
        let walked = header.fields(|t, id, kind| match (id, kind) {
            (2 | 3, 4..=6) => {
                sizes[id as usize - 2] = t.number()?;
                Some(())
            }
            _ => t.skip(kind, 0),
        });
        let used = (head.len() - header.0.len()) as u64;
        let [Ok(unpacked), Ok(packed)] = sizes.map(u64::try_from) else {
            return Err(bad(format!("the page at byte {at} has a negative size")));
        };
        if walked.is_none() || used == 0 {
            return Err(bad(format!("the header of the page at byte {at} is damaged")));
        }
        if unpacked > PAGE && unpacked > packed.saturating_mul(RATIO) {
            let problem =
                format!("the page at byte {at} has {packed} bytes and says that they are {unpacked}");
            return Err(bad(problem));
        }
        at = at.saturating_add(used).saturating_add(packed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer(bytes: &[u8]) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let file = [b"PAR1", bytes, &(bytes.len() as u32).to_le_bytes()[..], b"PAR1"].concat();
        std::fs::write(&path, &file).unwrap();
        check_footer(&path, file.len() as u64)
    }

    /// A schema of `depth` groups in each other: name and number of children.
    fn nested(depth: usize) -> Vec<u8> {
        let element = b"\x48\x01a\x15\x02\0";
        let mut list = vec![0x29, 0xFC];
        let mut count = depth;
        while count >= 0x80 {
            list.push(count as u8 | 0x80);
            count >>= 7;
        }
        list.push(count as u8);
        list.extend(element.repeat(depth));
        list.push(0);
        list
    }

    #[test]
    fn footers() {
        assert!(footer(&nested(40)).is_ok());
        let says = |bytes: &[u8], part: &str| {
            let e = footer(bytes).unwrap_err().to_string();
            assert!(e.contains("t.parquet") && e.contains(part), "{e}");
        };
        // The reader would recurse a million times.
        says(&nested(1_000_000), "deeper than 64");
        // A list of 2^31 elements in a few bytes.
        says(b"\x29\xfc\xff\xff\xff\xff\x07\0", "damaged");
        says(b"\x15\x02", "damaged");
        says(&[0x1C; 200], "damaged");
    }

    #[test]
    fn pages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        // Type 0, sizes as zigzag varints: 300 MiB out of 4 bytes.
        let page = |unpacked: u64| {
            let mut out = vec![0x15, 0, 0x15];
            let mut value = unpacked << 1;
            while value >= 0x80 {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.extend([value as u8, 0x15, 8, 0]);
            [&out[..], b"data"].concat()
        };
        for (unpacked, good) in [(4, true), (200 << 20, true), (300 << 20, false)] {
            let file = [page(4), page(unpacked)].concat();
            std::fs::write(&path, &file).unwrap();
            let checked = check_pages(&path, 0, file.len() as u64);
            assert_eq!(checked.is_ok(), good, "{checked:?}");
        }
    }
}
