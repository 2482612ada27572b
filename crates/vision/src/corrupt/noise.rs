//! Noise of single values: Gaussian, shot, impulse and speckle noise.

use super::raster::Raster;
use super::table::Table;
use selfsup_core::Rng;

/// `x + N(0, sigma^2)`: a sensor in little light.
pub(super) fn gaussian(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let sigma = table.pick(severity, &[0.08, 0.12, 0.18, 0.26, 0.38], &[0.04, 0.06, 0.08, 0.09, 0.10]);
    x.v.iter_mut().for_each(|v| *v += sigma * f64::from(rng.normal()));
}

/// `Poisson(c x) / c`: the number of photons.
pub(super) fn shot(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let c = table.pick(severity, &[60.0, 25.0, 12.0, 5.0, 3.0], &[500.0, 250.0, 100.0, 75.0, 50.0]);
    x.v.iter_mut().for_each(|v| *v = poisson(*v * c, rng) / c);
}

/// A share of the values becomes 0 or 1, of each channel by itself: salt and pepper.
pub(super) fn impulse(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let share = table.pick(severity, &[0.03, 0.06, 0.09, 0.17, 0.27], &[0.01, 0.02, 0.03, 0.05, 0.07]);
    for v in &mut x.v {
        // Both are drawn whatever comes out, so that severities hit the same places.
        let (hit, salt) = (rng.chance(share), rng.chance(0.5));
        if hit {
            *v = if salt { 1.0 } else { 0.0 };
        }
    }
}

/// `x + x N(0, sigma^2)`: noise that grows with the signal.
pub(super) fn speckle(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let sigma = table.pick(severity, &[0.15, 0.2, 0.35, 0.45, 0.6], &[0.06, 0.1, 0.12, 0.16, 0.2]);
    x.v.iter_mut().for_each(|v| *v += *v * sigma * f64::from(rng.normal()));
}

/// A uniform number in `(0, 1)` of 53 bits.
fn uniform(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// A Poisson number of this mean: by inversion where it is small, else by the transformed rejection of
/// Hoermann 1993 ("The transformed rejection method for generating Poisson random variables", PTRS).
fn poisson(mean: f64, rng: &mut Rng) -> f64 {
    if mean <= 0.0 {
        return 0.0;
    }
    if mean < 10.0 {
        let (mut left, mut p, mut k) = (uniform(rng), (-mean).exp(), 0.0);
        // Beyond 100 the rest of the probability is below what 53 bits can tell.
        while left > p && k < 100.0 {
            left -= p;
            k += 1.0;
            p *= mean / k;
        }
        return k;
    }
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = -0.059 + 0.024_83 * b;
    let (inverse, accept) = (1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0));
    loop {
        let (u, v) = (uniform(rng) - 0.5, uniform(rng));
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= accept {
            return k;
        }
        if k < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        if (v * inverse / (a / (us * us) + b)).ln() <= k * mean.ln() - mean - ln_factorial(k) {
            return k;
        }
    }
}

/// `ln k!`: Stirling's series, whose error is below 1e-9 from 10 on; a product below.
fn ln_factorial(k: f64) -> f64 {
    if k < 10.0 {
        return (2..=k as u32).map(|i| f64::from(i).ln()).sum();
    }
    let x = k + 1.0;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3))
        + 1.0 / (1260.0 * x.powi(5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    fn moments(of: impl Fn(&mut Rng) -> f64) -> (f64, f64) {
        let n = 40_000;
        let mut rng = Key::new(3).rng();
        let xs: Vec<f64> = (0..n).map(|_| of(&mut rng)).collect();
        let mean = xs.iter().sum::<f64>() / f64::from(n);
        (mean, xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n))
    }

    /// Mean and variance of a Poisson number are its parameter, on both sides of where the method changes.
    #[test]
    fn poisson_has_its_mean_as_variance() {
        for mean in [0.3, 3.0, 9.9, 10.1, 60.0, 500.0] {
            let (m, v) = moments(|rng| poisson(mean, rng));
            // Four standard errors: of the mean sqrt(mean / n), of the variance about mean sqrt(2 / n).
            assert!((m - mean).abs() < 4.0 * (mean / 40_000.0).sqrt(), "{mean}: {m}");
            let error = ((2.0 * mean * mean + mean) / 40_000.0).sqrt();
            assert!((v - mean).abs() < 4.0 * error, "{mean}: variance {v}");
        }
        assert_eq!(poisson(0.0, &mut Key::new(0).rng()), 0.0);
        let exact: f64 = (2..=25u32).map(|i| f64::from(i).ln()).sum();
        assert!((ln_factorial(25.0) - exact).abs() < 1e-8);
    }

    /// The statistics of each noise on a flat picture are those of its formula.
    #[test]
    fn noises_have_the_moments_of_their_formulas() {
        type Noise = fn(&mut Raster, u8, Table, &mut Rng);
        let flat = |level: f64, noise: Noise, severity: u8, table: Table| {
            let mut x = Raster::drawn(200, 200, || level);
            noise(&mut x, severity, table, &mut Key::new(7).rng());
            let mean = x.v.iter().sum::<f64>() / x.v.len() as f64;
            (mean, x.v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.v.len() as f64)
        };
        let close = |got: (f64, f64), mean: f64, variance: f64| {
            assert!((got.0 - mean).abs() < 5.0 * (variance / 40_000.0).sqrt(), "{got:?}, {mean}");
            assert!((got.1 / variance - 1.0).abs() < 0.05, "{got:?}, {variance}");
        };
        close(flat(0.5, gaussian, 3, Table::Large), 0.5, 0.18 * 0.18);
        close(flat(0.5, gaussian, 5, Table::Small), 0.5, 0.01);
        close(flat(0.5, speckle, 2, Table::Large), 0.5, 0.01);
        close(flat(0.5, shot, 1, Table::Large), 0.5, 0.5 / 60.0);
        close(flat(0.5, shot, 5, Table::Small), 0.5, 0.5 / 50.0);
        // A share s becomes 0 or 1: the variance about a half is s / 4.
        close(flat(0.5, impulse, 4, Table::Large), 0.5, 0.17 / 4.0);
        close(flat(0.5, impulse, 5, Table::Small), 0.5, 0.07 / 4.0);
    }
}
