//! Counter-based random numbers: every draw is a pure function of a [`Key`] and a counter.
//!
//! Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). There is no hidden
//! state: whoever needs numbers is handed a key, folds in what identifies the draw (step, sample, name), and
//! gets the same numbers on any thread.

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// One Philox4x32-10 block: 128 random bits for the 128-bit counter `(hi, lo)` under a 64-bit key.
#[inline]
pub fn philox(key: u64, hi: u64, lo: u64) -> [u32; 4] {
    let mut c = [lo as u32, (lo >> 32) as u32, hi as u32, (hi >> 32) as u32];
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        let p0 = u64::from(M0) * u64::from(c[0]);
        let p1 = u64::from(M1) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    c
}

/// `[0, 1)` with 24 random bits.
#[inline]
pub fn unit_f32(x: u32) -> f32 {
    (x >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// What identifies a stream of random numbers. Cheap to copy, cheap to derive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The root key of a run.
    pub fn new(seed: u64) -> Self {
        Key(seed).fold(0x5EED)
    }

    /// The key for item `i` under this one (a step, a sample index, a layer ...).
    #[must_use]
    pub fn fold(self, i: u64) -> Self {
        let b = philox(self.0, 0x0F01_D000_0000_0001, i);
        Key(u64::from(b[0]) | (u64::from(b[1]) << 32))
    }

    /// The key for a name under this one.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        // FNV-1a: stable across platforms and releases, unlike std's hasher.
        let h = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.fold(h)
    }

    /// The raw 64 bits, for kernels that index the stream themselves with [`philox`].
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Uniform number in `[0, 1)` at position `i` of this key's stream.
    #[inline]
    pub fn uniform_at(self, i: u64) -> f32 {
        unit_f32(philox(self.0, 1, i / 4)[(i % 4) as usize])
    }

    /// A sequential generator over this key's stream.
    pub fn rng(self) -> Rng {
        Rng { key: self, counter: 0, buffer: [0; 4], left: 0 }
    }
}

/// Sequential reader of a key's stream.
#[derive(Clone, Debug)]
pub struct Rng {
    key: Key,
    counter: u64,
    buffer: [u32; 4],
    left: usize,
}

impl Rng {
    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.left == 0 {
            self.buffer = philox(self.key.0, 2, self.counter);
            self.counter += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.buffer[3 - self.left]
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | (u64::from(self.next_u32()) << 32)
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f32 {
        unit_f32(self.next_u32())
    }

    /// Uniform in `[lo, hi)`.
    pub fn range_f32(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform integer in `0..n` without modulo bias (`n` = 0 gives 0).
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// `true` with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// Standard normal number (Box-Muller; the second value is discarded so that the stream position is
    /// simple).
    pub fn normal(&mut self) -> f32 {
        let u = 1.0 - f64::from(self.uniform());
        let v = f64::from(self.uniform());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }

    /// Fisher-Yates shuffle in place.
    pub fn shuffle<T>(&mut self, xs: &mut [T]) {
        for i in (1..xs.len()).rev() {
            xs.swap(i, self.below(i + 1));
        }
    }

    /// A random permutation of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        self.shuffle(&mut p);
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the reference implementation (Random123, kat_vectors).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox(0, 0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox(u64::MAX, u64::MAX, u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn moments_and_independence_of_order() {
        let k = Key::new(3).named("x").fold(7);
        let mut r = k.rng();
        let xs: Vec<f32> = (0..20_000).map(|_| r.normal()).collect();
        let mean = xs.iter().sum::<f32>() / 20_000.0;
        let var = xs.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (var - 1.0).abs() < 0.03, "{mean} {var}");
        assert_ne!(Key::new(3).fold(1), Key::new(3).fold(2));
        assert_eq!(k.uniform_at(5), k.uniform_at(5));
        let mut p = k.rng().permutation(100);
        p.sort_unstable();
        assert_eq!(p, (0..100).collect::<Vec<_>>());
    }
}
