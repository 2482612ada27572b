//! bzip2, decompressed: what an NRRD file with `encoding: bzip2` holds.
//!
//! A stream is made of blocks of at most 900,000 bytes: runs of four are shortened, the block is sorted
//! (Burrows and Wheeler 1994), its bytes are moved to the front, zeros are counted, and Huffman codes of up to
//! six tables write the rest. Each block has a checksum, and so has the stream. Memory is one block: 4 bytes for
//! each of its bytes, and what it becomes, at most 47 MB.

use std::io::{Error, ErrorKind, Read, Result};

const BLOCK: u64 = 0x3141_5926_5359;
const END: u64 = 0x1772_4538_5090;
/// Longest code.
const LONGEST: usize = 20;
/// Symbols that are written with one table before the next is chosen.
const GROUP: usize = 50;
/// Bytes of a compressed block at least: its head, its tables, one symbol.
const SMALLEST: u64 = 20;
/// What a block becomes at most: of five bytes the fifth says how often the four before are repeated.
const LARGEST: u64 = 900_000 / 5 * 259;

/// Most bytes that come out of `there` compressed ones.
pub(super) fn most(there: u64) -> u64 {
    (there / SMALLEST + 1).saturating_mul(LARGEST)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("bzip2: {what}"))
}

/// A reader of what `input` holds compressed; streams may follow each other.
pub(super) struct Bzip2<R> {
    bits: Bits<R>,
    /// Bytes of a block at most; 0 between streams.
    level: usize,
    begun: bool,
    done: bool,
    sum: u32,
    out: Vec<u8>,
    at: usize,
}

impl<R: Read> Bzip2<R> {
    pub(super) fn new(input: R) -> Self {
        let bits = Bits { input, held: 0, count: 0 };
        Bzip2 { bits, level: 0, begun: false, done: false, sum: 0, out: Vec::new(), at: 0 }
    }

    /// Decompresses the next block into `out`, or ends.
    fn block(&mut self) -> Result<()> {
        if self.level == 0 {
            return self.head();
        }
        match self.bits.take(24)? << 24 | self.bits.take(24)? {
            BLOCK => {}
            END => {
                if self.bits.take(32)? != u64::from(self.sum) {
                    return Err(damaged("the checksum of the stream differs"));
                }
                self.bits.align();
                self.level = 0;
                return Ok(());
            }
            _ => return Err(damaged("no block begins where one should")),
        }
        let expected = self.bits.take(32)? as u32;
        if self.bits.take(1)? == 1 {
            return Err(damaged("a block is randomised, which has not been written since 1997"));
        }
        let origin = self.bits.take(24)? as usize;
        let (sorted, counts) = sorted(&mut self.bits, self.level)?;
        self.out.clear();
        self.at = 0;
        unsorted(sorted, &counts, origin, &mut self.out)?;
        let found = crc(&self.out);
        if found != expected {
            return Err(damaged("the checksum of a block differs"));
        }
        self.sum = self.sum.rotate_left(1) ^ found;
        Ok(())
    }

    /// The four bytes at the beginning of a stream; behind the first one there may be none.
    fn head(&mut self) -> Result<()> {
        let mut head = [0; 4];
        if self.begun {
            match self.bits.byte()? {
                Some(first) => head[0] = first,
                None => {
                    self.done = true;
                    return Ok(());
                }
            }
        }
        for byte in head.iter_mut().skip(usize::from(self.begun)) {
            *byte = self.bits.take(8)? as u8;
        }
        match head {
            [b'B', b'Z', b'h', level @ b'1'..=b'9'] => {
                self.level = usize::from(level - b'0') * 100_000;
                (self.begun, self.sum) = (true, 0);
                Ok(())
            }
            // Writers may pad what they wrote.
            _ if self.begun => {
                self.done = true;
                Ok(())
            }
            _ => Err(damaged("does not begin with BZh")),
        }
    }
}

impl<R: Read> Read for Bzip2<R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        while self.at == self.out.len() && !self.done && !buf.is_empty() {
            self.block()?;
        }
        let n = buf.len().min(self.out.len() - self.at);
        buf[..n].copy_from_slice(&self.out[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Bits of a stream, the highest of each byte first.
struct Bits<R> {
    input: R,
    held: u64,
    count: u32,
}

impl<R: Read> Bits<R> {
    /// A whole byte, or none at the end.
    fn byte(&mut self) -> Result<Option<u8>> {
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next `n` bits, at most 32.
    fn take(&mut self, n: u32) -> Result<u64> {
        while self.count < n {
            let byte = self.byte()?.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
        self.count -= n;
        Ok(self.held >> self.count & ((1 << n) - 1))
    }

    /// Goes on at the next byte.
    fn align(&mut self) {
        self.count = 0;
    }
}

/// Codes of one table: for each length the first code, how many there are, and their symbols in order.
struct Table {
    first: [i64; LONGEST + 1],
    count: [i64; LONGEST + 1],
    before: [i64; LONGEST + 1],
    symbols: Vec<u16>,
}

impl Table {
    fn new(lengths: &[u8]) -> Table {
        let mut symbols: Vec<u16> = (0..lengths.len() as u16).collect();
        symbols.sort_by_key(|s| lengths[usize::from(*s)]);
        let (mut first, mut count, mut before) = ([0; LONGEST + 1], [0; LONGEST + 1], [0; LONGEST + 1]);
        lengths.iter().for_each(|n| count[usize::from(*n)] += 1);
        for n in 1..=LONGEST {
            first[n] = (first[n - 1] + count[n - 1]) << 1;
            before[n] = before[n - 1] + count[n - 1];
        }
        Table { first, count, before, symbols }
    }

    fn symbol<R: Read>(&self, bits: &mut Bits<R>) -> Result<u16> {
        let mut code = 0;
        for n in 1..=LONGEST {
            code = code << 1 | bits.take(1)? as i64;
            let place = code - self.first[n];
            if (0..self.count[n]).contains(&place) {
                let symbol = self.symbols.get((self.before[n] + place) as usize);
                return symbol.copied().ok_or_else(|| damaged("a code stands for nothing"));
            }
        }
        Err(damaged("a code stands for nothing"))
    }
}

/// The tables of a block, and which of them writes each group of symbols.
fn tables<R: Read>(bits: &mut Bits<R>, symbols: usize) -> Result<(Vec<Table>, Vec<u8>)> {
    let (groups, count) = (bits.take(3)? as usize, bits.take(15)? as usize);
    if !(2..=6).contains(&groups) || count == 0 {
        return Err(damaged("a block has no tables"));
    }
    let (mut selectors, mut order) = (Vec::with_capacity(count), [0u8, 1, 2, 3, 4, 5]);
    for _ in 0..count {
        let mut at = 0;
        while bits.take(1)? == 1 {
            at += 1;
            if at >= groups {
                return Err(damaged("a table is chosen that is not there"));
            }
        }
        order[..=at].rotate_right(1);
        selectors.push(order[0]);
    }
    let mut tables = Vec::with_capacity(groups);
    for _ in 0..groups {
        let mut length = bits.take(5)? as i64;
        let mut lengths = Vec::with_capacity(symbols);
        for _ in 0..symbols {
            while bits.take(1)? == 1 {
                length += if bits.take(1)? == 0 { 1 } else { -1 };
                if !(1..=LONGEST as i64).contains(&length) {
                    break;
                }
            }
            if !(1..=LONGEST as i64).contains(&length) {
                return Err(damaged("a code has no length from 1 to 20"));
            }
            lengths.push(length as u8);
        }
        tables.push(Table::new(&lengths));
    }
    Ok((tables, selectors))
}

/// The bytes of a block in sorted order (the last column), and how often each occurs.
fn sorted<R: Read>(bits: &mut Bits<R>, level: usize) -> Result<(Vec<u32>, [u32; 256])> {
    let ranges = bits.take(16)?;
    let mut used = Vec::new();
    for range in (0..16).filter(|r| ranges >> (15 - r) & 1 == 1) {
        let map = bits.take(16)?;
        used.extend((0..16).filter(|i| map >> (15 - i) & 1 == 1).map(|i| (range * 16 + i) as u8));
    }
    if used.is_empty() {
        return Err(damaged("a block uses no bytes"));
    }
    // Two symbols count zeros, then one for each byte but the first, and the end.
    let end = used.len() as u16 + 1;
    let (tables, selectors) = tables(bits, used.len() + 2)?;
    let (mut out, mut counts) = (Vec::new(), [0u32; 256]);
    let (mut run, mut weight) = (0usize, 1usize);
    for selector in selectors {
        let table = tables.get(usize::from(selector)).ok_or_else(|| damaged("a table is missing"))?;
        for _ in 0..GROUP {
            let symbol = table.symbol(bits)?;
            if symbol < 2 {
                run = run.saturating_add(weight << symbol);
                weight = weight.saturating_mul(2).min(1 << 24);
                if run > level {
                    return Err(damaged("a block is longer than it may be"));
                }
                continue;
            }
            if run > 0 {
                out.extend(std::iter::repeat_n(u32::from(used[0]), run));
                counts[usize::from(used[0])] += run as u32;
                (run, weight) = (0, 1);
            }
            if out.len() + usize::from(symbol != end) > level {
                return Err(damaged("a block is longer than it may be"));
            }
            if symbol == end {
                return Ok((out, counts));
            }
            used.get_mut(..usize::from(symbol))
                .ok_or_else(|| damaged("a byte is not there"))?
                .rotate_right(1);
            out.push(u32::from(used[0]));
            counts[usize::from(used[0])] += 1;
        }
    }
    Err(damaged("a block has no end"))
}

/// Turns the sorting back and lengthens the runs.
fn unsorted(mut column: Vec<u32>, counts: &[u32; 256], origin: usize, out: &mut Vec<u8>) -> Result<()> {
    if origin >= column.len() {
        return Err(damaged("a block begins outside of itself"));
    }
    // In the high 24 bits of each entry: where the byte that follows this one stands.
    let mut next = [0u32; 256];
    (1..256).for_each(|b| next[b] = next[b - 1] + counts[b - 1]);
    for i in 0..column.len() {
        let byte = (column[i] & 0xFF) as usize;
        column[next[byte] as usize] |= (i as u32) << 8;
        next[byte] += 1;
    }
    let (mut at, mut same, mut last) = ((column[origin] >> 8) as usize, 0, None);
    for _ in 0..column.len() {
        let (byte, following) = ((column[at] & 0xFF) as u8, (column[at] >> 8) as usize);
        at = following;
        if same == 4 {
            out.extend(std::iter::repeat_n(last.unwrap_or_default(), usize::from(byte)));
            (same, last) = (0, None);
            continue;
        }
        same = if last == Some(byte) { same + 1 } else { 1 };
        last = Some(byte);
        out.push(byte);
    }
    Ok(())
}

/// bzip2's checksum: CRC-32 with the highest bit first.
fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut i) = ([0u32; 256], 0);
        while i < 256 {
            let (mut v, mut k) = ((i as u32) << 24, 0);
            while k < 8 {
                v = if v >> 31 == 1 { v << 1 ^ 0x04C1_1DB7 } else { v << 1 };
                k += 1;
            }
            table[i] = v;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |sum, b| sum << 8 ^ TABLE[((sum >> 24) as u8 ^ b) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Bzip2::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    /// Runs, text and noise, more than one block of 100,000 bytes.
    fn sample() -> Vec<u8> {
        let mut state = 1u32;
        let mut out = Vec::new();
        for i in 0..2000u32 {
            out.extend(std::iter::repeat_n((i % 7) as u8, (i % 300) as usize));
            for _ in 0..i % 5 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                out.push((state >> 24) as u8);
            }
        }
        out
    }

    #[test]
    fn what_bzip2_writes_is_read() {
        // `bzip2 -1` of the sample, and two streams of `hello` behind each other.
        let file = include_bytes!("../../tests/data/sample.bz2");
        assert_eq!(read(file).unwrap(), sample());
        let hello =
            b"BZh91AY&SY\x191e=\0\0\0\x81\0\x02D\xa0\0!\x9ah3M\x073\x8b\xb9\"\x9c(H\x0c\x98\xb2\x9e\x80";
        assert_eq!(read(hello).unwrap(), b"hello");
        let twice = [&hello[..], hello].concat();
        assert_eq!(read(&twice).unwrap(), b"hellohello");
        assert_eq!(read(b"BZh9\x17rE8P\x90\0\0\0\0").unwrap(), b"");
        assert!(most(hello.len() as u64) < 200_000_000);
    }

    #[test]
    fn damage_is_named() {
        let file = include_bytes!("../../tests/data/sample.bz2");
        assert_eq!(read(&file[..file.len() - 6]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(b"").unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(read(b"gzip").unwrap_err().to_string().contains("BZh"));
        // No changed bit gives other bytes in silence.
        let (right, mut bad) = (sample(), file.to_vec());
        for at in (4..file.len()).step_by(61) {
            bad[at] ^= 1 << (at % 8);
            assert!(read(&bad).map_or(true, |out| out == right), "byte {at}");
            bad[at] = file[at];
        }
    }
}
