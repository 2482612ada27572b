//! Damage: flipped bits, numbers that lie, cuts, repetitions, and pieces of other files. The same seed makes
//! the same damage.

/// splitmix64 (Steele, Lea and Flood 2014).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A place in a file of `n` bytes: in its first 64 every third time, where headers are.
    fn place(&mut self, n: usize) -> usize {
        if self.below(3) == 0 { self.below(n.min(64)) } else { self.below(n) }
    }
}

/// Numbers at the ends of what types hold.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX,
];

/// What a text may hold in place of something else.
const WORDS: [&str; 24] = [
    "0",
    "-1",
    "99999999999",
    "18446744073709551616",
    "1e308",
    "nan",
    "null",
    "true",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\"\"",
    ",",
    "\t",
    "\n",
    "\r\n",
    "\u{feff}",
    "\\u0000",
    "../..",
    "é",
    "\u{1F600}",
    " ",
];

/// `seed` damaged once to four times; `others` are files of the same kind.
pub fn damaged(rng: &mut Rng, seed: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..1 + rng.below(4) {
        once(rng, &mut out, others);
    }
    // Growing again and again finds nothing that is not found in the first place.
    out.truncate(1 << 20);
    out
}

fn once(rng: &mut Rng, out: &mut Vec<u8>, others: &[Vec<u8>]) {
    if out.is_empty() {
        out.extend_from_slice(&rng.next().to_le_bytes());
        return;
    }
    let n = out.len();
    let at = rng.place(n);
    let longest = if rng.below(4) == 0 { n } else { 16.min(n) };
    let length = (1 + rng.below(longest)).min(n - at);
    match rng.below(12) {
        0 | 1 => out[at] ^= 1 << rng.below(8),
        2 => out[at] = rng.next() as u8,
        3 | 4 => {
            // A length, in either order of its bytes.
            let size = [1, 2, 4, 8][rng.below(4)].min(n - at);
            let near = [n as u64, (n - at) as u64, n as u64 + 1];
            let number = match rng.below(17) {
                k @ 0..14 => NUMBERS[k],
                k => near[k - 14],
            };
            let little = number.to_le_bytes();
            for k in 0..size {
                out[at + k] = if rng.0 & 1 == 0 { little[k] } else { little[size - 1 - k] };
            }
        }
        5 => out.truncate(at),
        6 => drop(out.drain(at..at + length)),
        7 => {
            let part = out[at..at + length].to_vec();
            let times = if rng.below(8) == 0 { 1 + rng.below(2000) } else { 1 + rng.below(3) };
            let to = rng.below(n);
            let many = part.repeat(times.min((1 << 18) / length + 1));
            out.splice(to..to, many);
        }
        8 => {
            let other = &others[rng.below(others.len())];
            if !other.is_empty() {
                let from = rng.below(other.len());
                let end = from + (1 + rng.below(other.len() - from));
                let keep = if rng.below(2) == 0 { at..n } else { at..at + length };
                out.splice(keep, other[from..end].iter().copied());
            }
        }
        9 => out[at..at + length].iter_mut().for_each(|b| *b = rng.next() as u8),
        _ => {
            // A word, in place of digits where there are some.
            let word = WORDS[rng.below(WORDS.len())].as_bytes();
            let digits = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'-');
            let from = out[at..].iter().position(digits).map_or(at, |k| at + k);
            let to = from + out[from..].iter().take_while(|b| digits(b)).count();
            let times = if rng.below(30) == 0 { 5000 } else { 1 };
            out.splice(from..to, word.repeat(times));
        }
    }
}
