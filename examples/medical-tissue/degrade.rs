//! A poor scan, as numpy makes it from seed 0: a bias field and noise, so that a study in Python can use the
//! same voxels.
//!
//! `T1 (1 + 0.4 b) + 0.2 q n`: `b` a Gaussian-smoothed (40 voxels) random field scaled to `[-1, 1]`, `q` the
//! 99th percentile of the voxels above 0, `n` normal. The numbers are those of numpy's
//! `RandomState(0).randn`: Mersenne twister (Matsumoto and Nishimura 1998) and the polar method (Marsaglia
//! and Bray 1964), in the order of the file's array.

use rayon::prelude::*;

/// numpy's legacy generator.
pub struct RandomState {
    state: [u32; 624],
    next: usize,
    spare: Option<f64>,
}

impl RandomState {
    pub fn new(seed: u32) -> Self {
        let mut state = [0u32; 624];
        state[0] = seed;
        for i in 1..624 {
            state[i] =
                1_812_433_253u32.wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30)).wrapping_add(i as u32);
        }
        RandomState { state, next: 624, spare: None }
    }

    fn bits(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ twist;
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

    /// 53 bits in `[0, 1)`.
    fn uniform(&mut self) -> f64 {
        let (a, b) = (self.bits() >> 5, self.bits() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    pub fn normal(&mut self) -> f64 {
        if let Some(v) = self.spare.take() {
            return v;
        }
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let r = a * a + b * b;
            if r < 1.0 && r != 0.0 {
                let f = (-2.0 * r.ln() / r).sqrt();
                self.spare = Some(f * a);
                return f * b;
            }
        }
    }
}

/// scipy's `gaussian_filter` with mirrored borders (`reflect`) and four deviations, over an array `(I, J,
/// K)`, `k` fastest.
pub fn gaussian(values: &mut [f32], shape: [usize; 3], sigma: f64) {
    let radius = (4.0 * sigma + 0.5) as usize;
    let raw: Vec<f64> =
        (0..=2 * radius).map(|i| (-0.5 * ((i as f64 - radius as f64) / sigma).powi(2)).exp()).collect();
    let sum: f64 = raw.iter().sum();
    let kernel: Vec<f64> = raw.iter().map(|v| v / sum).collect();
    let steps = [shape[1] * shape[2], shape[2], 1];
    for axis in 0..3 {
        let (n, step) = (shape[axis], steps[axis]);
        // d c b a | a b c d | d c b a
        let mirror = |i: isize| -> usize {
            let m = i.rem_euclid(2 * n as isize) as usize;
            if m < n { m } else { 2 * n - 1 - m }
        };
        let old = values.to_vec();
        let lines: Vec<usize> = (0..old.len()).filter(|i| i / step % n == 0).collect();
        let made: Vec<Vec<f32>> = lines
            .par_iter()
            .map(|&start| {
                let line: Vec<f64> = (-(radius as isize)..(n + radius) as isize)
                    .map(|i| f64::from(old[start + mirror(i) * step]))
                    .collect();
                (0..n)
                    .map(|i| {
                        line[i..i + kernel.len()].iter().zip(&kernel).map(|(a, b)| a * b).sum::<f64>() as f32
                    })
                    .collect()
            })
            .collect();
        for (start, line) in lines.into_iter().zip(made) {
            for (i, v) in line.into_iter().enumerate() {
                values[start + i * step] = v;
            }
        }
    }
}

/// The poor scan of `t1 (I, J, K)`, `k` fastest: numpy's order.
pub fn degrade(t1: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let mut r = RandomState::new(0);
    let mut field: Vec<f32> = t1.iter().map(|_| r.normal() as f32).collect();
    gaussian(&mut field, shape, 40.0);
    let most = field.iter().fold(0f32, |m, v| m.max(v.abs()));
    let mut inside: Vec<f32> = t1.iter().copied().filter(|v| *v > 0.0).collect();
    inside.sort_by(f32::total_cmp);
    let place = 0.99 * inside.len().saturating_sub(1) as f64;
    let at = |i: usize| f64::from(inside.get(i).or(inside.last()).copied().unwrap_or(0.0));
    let q = at(place as usize) + place.fract() * (at(place as usize + 1) - at(place as usize));
    let scale = |v: f32, b: f32| f64::from(v * (1.0 + 0.4 * (b / most.max(f32::MIN_POSITIVE))));
    t1.iter().zip(&field).map(|(&v, &b)| (scale(v, b) + r.normal() * 0.2 * q) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.RandomState(0).randn(3)`.
    #[test]
    fn numpys_numbers() {
        let mut r = RandomState::new(0);
        for want in [1.764_052_345_967_664, 0.400_157_208_367_223_3, 0.978_737_984_105_739_1] {
            assert!((r.normal() - want).abs() < 1e-15);
        }
    }

    #[test]
    fn a_constant_stays() {
        let mut v = vec![2.0; 60];
        gaussian(&mut v, [3, 4, 5], 2.0);
        assert!(v.iter().all(|x| (x - 2.0).abs() < 1e-6));
    }
}
