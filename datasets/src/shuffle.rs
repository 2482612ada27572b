//! The order that `numpy.random.RandomState(seed).shuffle` gives: published splits and label budgets are
//! often made by it.
//!
//! The generator is MT19937 (Matsumoto and Nishimura 1998, ACM TOMACS 8(1)). The shuffle is Fisher-Yates from
//! the end; an index up to `i` is drawn by masking 32 bits and drawing again where they exceed `i`.

const N: usize = 624;
const M: usize = 397;

struct Mersenne {
    state: [u32; N],
    next: usize,
}

impl Mersenne {
    fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let last = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Mersenne { state, next: N }
    }

    fn draw(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in `0..=max`.
    fn up_to(&mut self, max: u32) -> u32 {
        let mask = u32::MAX.checked_shr(max.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.draw() & mask;
            if value <= max {
                return value;
            }
        }
    }
}

/// `0..n` after `numpy.random.RandomState(seed).shuffle`; `n` is below 2^32.
pub fn numpy_shuffle(n: usize, seed: u32) -> Vec<usize> {
    let (mut order, mut r) = ((0..n).collect::<Vec<_>>(), Mersenne::new(seed));
    for i in (1..n).rev() {
        order.swap(i, r.up_to(i as u32) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of numpy.
    #[test]
    fn the_order_of_numpy() {
        assert_eq!(numpy_shuffle(10, 0), [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]);
        let order = numpy_shuffle(65_692, 0);
        assert_eq!(order[..8], [3672, 60043, 25173, 19817, 23327, 35724, 63910, 46425]);
        assert_eq!(order[65_689..], [45891, 42613, 43567]);
        assert_eq!(order.iter().enumerate().map(|(i, v)| i * v).sum::<usize>(), 70_700_595_874_719);
        assert_eq!((numpy_shuffle(0, 1), numpy_shuffle(1, 1)), (vec![], vec![0]));
    }
}
