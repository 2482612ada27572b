//! Weather: snow, frost and fog.

use super::raster::Raster;
use super::table::Table;
use selfsup_core::{Key, Rng};

/// Flakes that fall along a line, over a picture that is whitened.
pub(super) fn snow(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (mean, sd, zoom, threshold, radius, sigma, keep) = table.pick(
        severity,
        &[
            (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
            (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
            (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
        ],
        &[
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        ],
    );
    let mut flakes = Raster::drawn(x.h, x.w, || f64::from(rng.normal()) * sd + mean).zoomed(zoom);
    flakes.v.iter_mut().for_each(|v| *v = if *v < threshold { 0.0 } else { *v });
    flakes.quantize();
    let mut flakes = flakes.motion(radius, sigma, f64::from(rng.range_f32(-135.0, -45.0)));
    flakes.quantize();
    let n = flakes.v.len();
    for (i, pixel) in x.v.chunks_exact_mut(x.c).enumerate() {
        let white = Raster::luma(pixel) * 1.5 + 0.5;
        // The same flakes turned by half a turn fall too.
        let fallen = flakes.v[i] + flakes.v[n - 1 - i];
        pixel.iter_mut().for_each(|v| *v = keep * *v + (1.0 - keep) * v.max(white) + fallen);
    }
}

/// A plasma that is added, and the sum brought back to the brightness of the picture.
pub(super) fn fog(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (strength, decay) = table.pick(
        severity,
        &[(1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)],
        &[(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)],
    );
    let brightest = x.v.iter().copied().fold(0.0, f64::max);
    let side = x.h.max(x.w).next_power_of_two();
    let plasma = plasma(side, decay, rng);
    let scale = brightest / (brightest + strength);
    let (w, c) = (x.w, x.c);
    for (i, pixel) in x.v.chunks_exact_mut(c).enumerate() {
        let added = strength * plasma[i / w * side + i % w];
        pixel.iter_mut().for_each(|v| *v = (*v + added) * scale);
    }
}

/// A height map from 0 to 1 of `side` (a power of two) by `side`, by the diamond-square algorithm on a torus;
/// what is added falls by `decay` from one step to the next (Fournier, Fussell and Carpenter 1982).
fn plasma(side: usize, decay: f64, rng: &mut Rng) -> Vec<f64> {
    let mut map = vec![0.0; side * side];
    let (mut step, mut wibble) = (side, 100.0);
    let at = |y: usize, x: usize| y % side * side + x % side;
    while step >= 2 {
        let half = step / 2;
        let mut wibbled = |sum: f64| sum / 4.0 + wibble * wibble * f64::from(rng.range_f32(-1.0, 1.0));
        let places: Vec<(usize, usize)> =
            (0..side).step_by(step).flat_map(|y| (0..side).step_by(step).map(move |x| (y, x))).collect();
        for &(y, x) in &places {
            let corners =
                map[at(y, x)] + map[at(y + step, x)] + map[at(y, x + step)] + map[at(y + step, x + step)];
            map[at(y + half, x + half)] = wibbled(corners);
        }
        // The middles of the horizontal sides, then of the vertical ones: between two corners and two centres.
        for &(y, x) in &places {
            let centres = map[at(y + half, x + half)] + map[at(y + side - half, x + half)];
            map[at(y, x + half)] = wibbled(centres + map[at(y, x)] + map[at(y, x + step)]);
        }
        for &(y, x) in &places {
            let centres = map[at(y + half, x + half)] + map[at(y + half, x + side - half)];
            map[at(y + half, x)] = wibbled(centres + map[at(y, x)] + map[at(y + step, x)]);
        }
        step = half;
        wibble /= decay;
    }
    let (low, high) = map.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let range = if high > low { high - low } else { 1.0 };
    map.into_iter().map(|v| (v - low) / range).collect()
}

/// `c0 x + c1 frost`. The published images take `frost` from five photographs of iced windows. Here it is
/// made: ridges of smooth noise on five scales, bent by other noise, from slate blue to white.
pub(super) fn frost(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (keep, ice) = table.pick(
        severity,
        &[(1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
        &[(1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    );
    let key = Key::new(rng.next_u64());
    let (dark, light) = (x.color([0.24, 0.33, 0.45]), x.color([0.93, 0.96, 1.0]));
    // The largest crystals are a third of the picture.
    let scale = 3.0 / x.h.min(x.w).max(1) as f64;
    let (w, c) = (x.w, x.c);
    for (i, pixel) in x.v.chunks_exact_mut(c).enumerate() {
        let (y, x) = ((i / w) as f64 * scale, (i % w) as f64 * scale);
        let bend = |name: u64| 0.6 * smooth_noise(key.fold(name), 2.0 * y, 2.0 * x) - 0.3;
        let thick = ridges(key, y + bend(100), x + bend(101));
        for ((v, d), l) in pixel.iter_mut().zip(&dark).zip(&light) {
            *v = keep * *v + ice * (d + thick * (l - d));
        }
    }
}

/// Sharp crests on five scales, 0 to 1: where the noise crosses its middle.
fn ridges(key: Key, y: f64, x: f64) -> f64 {
    let (mut sum, mut weight, mut size) = (0.0, 1.0, 1.0);
    for octave in 0..5 {
        let n = smooth_noise(key.fold(octave), y * size, x * size);
        sum += weight * (1.0 - (2.0 * n - 1.0).abs()).powi(3);
        weight *= 0.6;
        size *= 2.1;
    }
    // 1 + 0.6 + ... + 0.6^4
    (sum / 2.3056 * 1.3).min(1.0)
}

/// Uniform numbers at whole places, and smoothly between them.
fn smooth_noise(key: Key, y: f64, x: f64) -> f64 {
    let (y0, x0) = (y.floor(), x.floor());
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    let (fy, fx) = (smooth(y - y0), smooth(x - x0));
    let at = |dy: i64, dx: i64| {
        let (y, x) = (y0 as i64 + dy, x0 as i64 + dx);
        f64::from(key.uniform_at(((y as u64) << 32) ^ (x as u64 & 0xFFFF_FFFF)))
    };
    (at(0, 0) * (1.0 - fx) + at(0, 1) * fx) * (1.0 - fy) + (at(1, 0) * (1.0 - fx) + at(1, 1) * fx) * fy
}
