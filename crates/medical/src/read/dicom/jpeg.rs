//! JPEG of 12 bits, "extended sequential": one grey component, Huffman codes, 8 x 8 cosine transforms. Other
//! decoders in the tree read 8 bits.
//!
//! ITU-T T.81: markers (B), Huffman codes (F.2.2), the zigzag order (figure A.6), the inverse transform
//! (A.3.3), computed in floating point.

/// Zigzag place of each coefficient, in the order of the stream.
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Codes of a table by their length, and what they stand for.
#[derive(Clone, Default)]
struct Codes {
    /// How many there are of 1 to 16 bits.
    counts: [u16; 17],
    symbols: Vec<u8>,
}

/// What the markers before a scan say.
#[derive(Default)]
struct Tables {
    quantised: [Option<[u16; 64]>; 4],
    /// Of the mean of a block, and of the rest of it.
    codes: [[Option<Codes>; 4]; 2],
    restart: usize,
    /// Rows, columns, quantisation table.
    frame: Option<(usize, usize, usize)>,
}

/// Whether a stream is one of 12 bits that is read here: what other decoders do not take.
pub(super) fn is_extended(stream: &[u8]) -> bool {
    let mut at = 2;
    while let Some(head) = stream.get(at..at + 5) {
        match head {
            [0xFF, 0xFF, ..] => at += 1,
            [0xFF, 0xC1, _, _, precision] => return *precision == 12,
            [0xFF, 0xDA | 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCF, ..] => return false,
            [0xFF, _, high, low, _] => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => return false,
        }
    }
    false
}

/// The values of a stream of one component, 16 bits each, little endian.
///
/// # Errors
/// Of what is wrong with the stream.
pub(super) fn decode(stream: &[u8], rows: usize, columns: usize) -> Result<Vec<u8>, String> {
    let mut tables = Tables::default();
    let mut at = 2;
    loop {
        let marker = *stream.get(at + 1).ok_or("it ends before its pixels")?;
        match (stream[at], marker) {
            (0xFF, 0xFF) => {
                at += 1;
                continue;
            }
            (0xFF, _) => {}
            _ => return Err(format!("no marker is at byte {at}")),
        }
        let length = stream.get(at + 2..at + 4).ok_or("it is cut short")?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let part = stream.get(at + 4..at + 2 + length.max(2)).ok_or("it is cut short")?;
        at += 2 + length.max(2);
        match marker {
            0xDB => tables.quantisation(part)?,
            0xC4 => tables.huffman(part)?,
            0xC1 => tables.frame(part)?,
            0xDD => {
                let [high, low] = part else { return Err("its restart interval is damaged".into()) };
                tables.restart = usize::from(u16::from_be_bytes([*high, *low]));
            }
            0xDA => {
                let (r, c, table) = tables.frame.ok_or("its pixels come before their size")?;
                if (r, c) != (rows, columns) {
                    return Err(format!("it has {r} x {c} pixels, expected {rows} x {columns}"));
                }
                return tables.scan(part, &stream[at..], rows, columns, table);
            }
            _ => {}
        }
    }
}

impl Tables {
    fn quantisation(&mut self, mut part: &[u8]) -> Result<(), String> {
        while let Some((head, rest)) = part.split_first() {
            let (wide, number) = (usize::from(head >> 4), usize::from(head & 15));
            let bytes = rest.get(..64 * (wide + 1)).filter(|_| wide < 2 && number < 4);
            let bytes = bytes.ok_or("a quantisation table is damaged")?;
            let value = |i: usize| match wide {
                0 => u16::from(bytes[i]),
                _ => u16::from_be_bytes([bytes[2 * i], bytes[2 * i + 1]]),
            };
            self.quantised[number] = Some(std::array::from_fn(value));
            part = &rest[bytes.len()..];
        }
        Ok(())
    }

    fn huffman(&mut self, mut part: &[u8]) -> Result<(), String> {
        while let Some((head, rest)) = part.split_first() {
            let (class, number) = (usize::from(head >> 4), usize::from(head & 15));
            let counts =
                rest.get(..16).filter(|_| class < 2 && number < 4).ok_or("a code table is damaged")?;
            let all = counts.iter().map(|n| usize::from(*n)).sum::<usize>();
            let symbols = rest.get(16..16 + all).ok_or("a code table is cut short")?;
            let mut codes = Codes { symbols: symbols.to_vec(), ..Codes::default() };
            counts.iter().enumerate().for_each(|(i, n)| codes.counts[i + 1] = u16::from(*n));
            self.codes[class][number] = Some(codes);
            part = &rest[16 + all..];
        }
        Ok(())
    }

    fn frame(&mut self, part: &[u8]) -> Result<(), String> {
        let [12, r1, r0, c1, c0, 1, _, _, table, ..] = part else {
            return Err("it is not of 12 bits and one component".into());
        };
        let of = |high: &u8, low: &u8| usize::from(u16::from_be_bytes([*high, *low]));
        self.frame = Some((of(r1, r0), of(c1, c0), usize::from(*table)));
        Ok(())
    }

    fn scan(
        &self,
        part: &[u8],
        data: &[u8],
        rows: usize,
        columns: usize,
        table: usize,
    ) -> Result<Vec<u8>, String> {
        let [1, _, which, ..] = part else { return Err("its scan has several components".into()) };
        let codes = |class: usize, number: u8| {
            self.codes[class].get(usize::from(number)).and_then(Option::as_ref).ok_or("it lacks a code table")
        };
        let (mean, rest) = (codes(0, which >> 4)?, codes(1, which & 15)?);
        let steps = self.quantised.get(table).copied().flatten().ok_or("it lacks a quantisation table")?;
        let (wide, high) = (columns.div_ceil(8), rows.div_ceil(8));
        // A block takes two bits at least.
        if wide.saturating_mul(high) > data.len().saturating_mul(4) {
            return Err(format!("{} bytes cannot hold {rows} x {columns} pixels", data.len()));
        }
        let transform = Cosines::new();
        let mut out = vec![0u8; 2 * rows * columns];
        let mut bits = Bits { data, at: 0, held: 0, count: 0 };
        let mut last = 0i32;
        for block in 0..wide * high {
            if self.restart > 0 && block > 0 && block.is_multiple_of(self.restart) {
                bits.restart()?;
                last = 0;
            }
            let mut found = [0f32; 64];
            let size = bits.symbol(mean)?;
            last = last.saturating_add(bits.signed(u32::from(size))?);
            found[0] = last as f32 * f32::from(steps[0]);
            let mut k = 1;
            while k < 64 {
                let symbol = bits.symbol(rest)?;
                let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
                if size == 0 && zeros != 15 {
                    break;
                }
                k += zeros;
                if k > 63 {
                    return Err("a block has more than 64 coefficients".into());
                }
                found[ZIGZAG[k]] = bits.signed(size)? as f32 * f32::from(steps[k]);
                k += 1;
            }
            let pixels = transform.inverse(&found);
            let (top, left) = (block / wide * 8, block % wide * 8);
            for (y, row) in pixels.chunks_exact(8).enumerate().take(rows - top) {
                for (x, v) in row.iter().enumerate().take(columns - left) {
                    let value = (v + 2048.0).round().clamp(0.0, 4095.0) as u16;
                    let place = 2 * ((top + y) * columns + left + x);
                    out[place..place + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        Ok(out)
    }
}

/// Bits of entropy-coded data: behind FF stands 00, or a marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u32, String> {
        if self.count == 0 {
            let byte = *self.data.get(self.at).ok_or("its pixels are cut short")?;
            self.at += 1;
            if byte == 0xFF {
                if self.data.get(self.at) != Some(&0) {
                    return Err("a marker stands among its pixels; cut short?".into());
                }
                self.at += 1;
            }
            (self.held, self.count) = (u32::from(byte), 8);
        }
        self.count -= 1;
        Ok(self.held >> self.count & 1)
    }

    fn symbol(&mut self, codes: &Codes) -> Result<u8, String> {
        let (mut code, mut first, mut before) = (0u32, 0u32, 0u32);
        for n in &codes.counts[1..] {
            code = code << 1 | self.bit()?;
            let count = u32::from(*n);
            if (first..first + count).contains(&code) {
                let symbol = codes.symbols.get((before + code - first) as usize);
                return symbol.copied().ok_or_else(|| "a code stands for nothing".into());
            }
            (first, before) = ((first + count) << 1, before + count);
        }
        Err("a code stands for nothing".into())
    }

    /// A number of `size` bits whose first bit is its sign (F.2.2.1, EXTEND).
    fn signed(&mut self, size: u32) -> Result<i32, String> {
        if size > 16 {
            return Err(format!("a number has {size} bits"));
        }
        let mut value = 0;
        for _ in 0..size {
            value = value << 1 | self.bit()? as i32;
        }
        Ok(if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value })
    }

    /// Goes on behind the next restart marker.
    fn restart(&mut self) -> Result<(), String> {
        self.count = 0;
        match self.data.get(self.at..self.at + 2) {
            Some([0xFF, 0xD0..=0xD7]) => {
                self.at += 2;
                Ok(())
            }
            _ => Err("a restart marker is missing".into()),
        }
    }
}

/// `c(u) cos((2 x + 1) u pi / 16) / 2` at `8 x + u`, with `c(0) = 1 / sqrt(2)`.
struct Cosines([f32; 64]);

impl Cosines {
    fn new() -> Self {
        Cosines(std::array::from_fn(|i| {
            let (x, u) = ((i / 8) as f64, (i % 8) as f64);
            let scale = if u == 0.0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            (0.5 * scale * ((2.0 * x + 1.0) * u * std::f64::consts::PI / 16.0).cos()) as f32
        }))
    }

    /// `(v, u)` coefficients to `(y, x)` values: rows, then columns.
    fn inverse(&self, found: &[f32; 64]) -> [f32; 64] {
        let mut rows = [0f32; 64];
        for v in 0..8 {
            for x in 0..8 {
                rows[8 * v + x] = (0..8).map(|u| found[8 * v + u] * self.0[8 * x + u]).sum();
            }
        }
        let mut out = [0f32; 64];
        for y in 0..8 {
            for x in 0..8 {
                out[8 * y + x] = (0..8).map(|v| rows[8 * v + x] * self.0[8 * y + v]).sum();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of 12 bits: codes of the mean have 3 bits (sizes 0 to 6), of the rest 2 bits (the end, and
    /// numbers of 5 bits without zeros, or with one before).
    fn stream(rows: u8, columns: u8, restart: u8, bits: &str) -> Vec<u8> {
        let mut out = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        out.extend([10; 64]);
        out.extend([0xFF, 0xC1, 0, 11, 12, 0, rows, 0, columns, 1, 1, 0x11, 0]);
        out.extend([0xFF, 0xC4, 0, 26, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend([0, 1, 2, 3, 4, 5, 6]);
        out.extend([
            0xFF, 0xC4, 0, 22, 0x10, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x05, 0x15,
        ]);
        out.extend([0xFF, 0xDD, 0, 4, 0, restart, 0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 63, 0]);
        for part in bits.split('|') {
            let part: String = part.chars().filter(|c| !c.is_whitespace()).collect();
            for byte in part.as_bytes().chunks(8) {
                let text = format!("{:1<8}", String::from_utf8_lossy(byte));
                let byte = u8::from_str_radix(&text, 2).unwrap();
                out.push(byte);
                if byte == 0xFF {
                    out.push(0);
                }
            }
            out.extend([0xFF, 0xD0]);
        }
        let end = out.len() - 2;
        out.truncate(end);
        out.extend([0xFF, 0xD9]);
        out
    }

    fn values(bytes: &[u8]) -> Vec<u16> {
        bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
    }

    #[test]
    fn blocks_are_cosines() {
        // Two blocks: the mean is 20 steps of 10 above the middle, 2048 + 200 / 8; then 3 fewer.
        let two = stream(8, 16, 0, "101 10100 00  010 00 00");
        assert!(is_extended(&two));
        let found = values(&decode(&two, 8, 16).unwrap());
        assert_eq!((found[0], found[7 * 16 + 7]), (2073, 2073));
        assert_eq!((found[8], found[7 * 16 + 15]), (2069, 2069));
        // The same with a restart between: the second mean is counted from 0 again.
        let again = stream(8, 16, 1, "101 10100 00 | 101 01110 00");
        let found = values(&decode(&again, 8, 16).unwrap());
        assert_eq!((found[0], found[8]), (2073, (2048.0f64 - 170.0 / 8.0).round() as u16));
        // Mean 0; the first coefficient along x is 16 steps: 160 cos((2 x + 1) pi / 16) / (2 sqrt(8)).
        // Then after one zero the third in zigzag order, the first along y twice: 17 steps.
        let waves = stream(5, 7, 0, "000 01 10000 10 10001 00");
        let found = values(&decode(&waves, 5, 7).unwrap());
        for (i, v) in found.iter().enumerate() {
            let wave = |k: usize, n: f64| ((2 * k + 1) as f64 * n * std::f64::consts::PI / 16.0).cos();
            let (x, y) = (i % 7, i / 7);
            let expected = 2048.0 + (160.0 * wave(x, 1.0) + 170.0 * wave(y, 2.0)) / 8f64.sqrt() / 2.0;
            assert!((f64::from(*v) - expected).abs() <= 0.51, "{x} {y}: {v} {expected}");
        }
    }

    /// A picture of 21 x 27 pixels as libjpeg-turbo writes and reads it, whose integer transform may differ by
    /// one.
    #[test]
    fn another_encoder_is_read() {
        let stream = include_bytes!("../../../tests/data/twelve.jpg");
        let right = values(include_bytes!("../../../tests/data/twelve.raw"));
        let found = values(&decode(stream, 21, 27).unwrap());
        assert_eq!(found.len(), right.len());
        assert!(is_extended(stream) && found.iter().zip(&right).all(|(a, b)| a.abs_diff(*b) <= 1));
    }

    #[test]
    fn damage_is_named() {
        let right = stream(8, 16, 0, "101 10100 00 010 00 00");
        let says = |stream: &[u8], part: &str| {
            let error = decode(stream, 8, 16).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        says(&right[..right.len() - 4], "cut short");
        says(&right[..80], "cut short");
        says(&stream(8, 16, 0, "111 0000000000000000000"), "nothing");
        says(&stream(8, 16, 1, "101 10100 00 010 00 00"), "restart");
        says(&stream(8, 8, 0, "101 10100 00"), "8 x 8");
        says(&stream(255, 255, 0, "101"), "255 x 255");
        assert!(decode(&stream(255, 255, 0, "101"), 255, 255).unwrap_err().contains("cannot hold"));
        for at in 2..right.len() {
            let mut bad = right.clone();
            bad[at] ^= 0x41;
            let _ = (decode(&bad, 8, 16), is_extended(&bad[..at]));
        }
    }
}
