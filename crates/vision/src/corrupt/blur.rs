//! Blur: Gaussian, out of focus, through frosted glass, by motion and by zooming.

use super::raster::{Border, Raster};
use super::table::Table;
use selfsup_core::Rng;

/// A Gaussian of four standard deviations to each side.
pub(super) fn gaussian(x: &mut Raster, severity: u8, table: Table) {
    let sigma = table.pick(severity, &[1.0, 2.0, 3.0, 4.0, 6.0], &[0.4, 0.6, 0.7, 0.8, 1.0]);
    x.gaussian(sigma, 4.0, Border::Nearest);
}

/// A disc, whose edge is smoothed by a small Gaussian.
pub(super) fn defocus(x: &mut Raster, severity: u8, table: Table) {
    let (radius, smooth) = table.pick(
        severity,
        &[(3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)],
        &[(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)],
    );
    *x = x.correlate(&disc(radius, smooth), Border::Mirror);
}

/// A disc on 17 by 17 pixels (of a radius above 8, on `2 radius + 1`), smoothed on 3 by 3 (5 by 5) pixels.
fn disc(radius: f64, smooth: f64) -> Vec<(isize, isize, f64)> {
    let (half, around) = if radius <= 8.0 { (8, 1) } else { (radius as isize, 2) };
    let side = (2 * half + 1) as usize;
    let inside = |i: isize| (i / side as isize - half, i % side as isize - half);
    let full: Vec<f64> = (0..(side * side) as isize)
        .map(|i| {
            let (y, x) = inside(i);
            f64::from(u8::from((y * y + x * x) as f64 <= radius * radius))
        })
        .collect();
    let sum: f64 = full.iter().sum();
    let disc = Raster { h: side, w: side, c: 1, max: 255.0, v: full.into_iter().map(|v| v / sum).collect() };
    let bell = |d: isize| (-0.5 * (d as f64 / smooth).powi(2)).exp();
    let total: f64 = (-around..=around).map(bell).sum();
    let taps: Vec<_> = (-around..=around)
        .flat_map(|dy| (-around..=around).map(move |dx| (dy, dx)))
        .map(|(dy, dx)| (dy, dx, bell(dy) * bell(dx) / (total * total)))
        .collect();
    let smoothed = disc.correlate(&taps, Border::Mirror);
    let taps = smoothed.v.into_iter().enumerate().map(|(i, weight)| {
        let (y, x) = inside(i as isize);
        (y, x, weight)
    });
    taps.filter(|(_, _, weight)| *weight > 0.0).collect()
}

/// Blurred, then pixels take the values of neighbours, then blurred again.
///
/// The published images come from code that means to swap two pixels and writes through a view, so the first
/// takes the value of the second and the second stays. We do the same: the severities were chosen with it.
pub(super) fn glass(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (sigma, reach, times) = table.pick(
        severity,
        &[(0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
        &[(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    );
    x.gaussian(sigma, 4.0, Border::Nearest);
    x.quantize();
    let (h, w, c) = (x.h, x.w, x.c);
    for _ in 0..times {
        for y in (reach + 1..=h.saturating_sub(reach)).rev() {
            for column in (reach + 1..=w.saturating_sub(reach)).rev() {
                // From -reach to reach - 1.
                let (dx, dy) = (rng.below(2 * reach), rng.below(2 * reach));
                let (from, to) = (((y + dy - reach) * w + column + dx - reach) * c, (y * w + column) * c);
                x.v.copy_within(from..from + c, to);
            }
        }
    }
    x.gaussian(sigma, 4.0, Border::Nearest);
}

/// Along a line at -45 to 45 degrees.
pub(super) fn motion(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (radius, sigma) = table.pick(
        severity,
        &[(10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)],
        &[(6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)],
    );
    let angle = f64::from(rng.range_f32(-45.0, 45.0));
    *x = x.motion(radius, sigma, angle);
}

/// The mean of the image and of itself enlarged by growing factors.
pub(super) fn zoom(x: &mut Raster, severity: u8, table: Table) {
    let (end, step): (f64, f64) = table.pick(
        severity,
        &[(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
        &[(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    );
    // As many as numpy's arange gives: the quotient is rounded up, so that 1.06 itself is one of them.
    let factors = ((end - 1.0) / step).ceil() as usize;
    let mut sum = x.v.clone();
    for i in 0..factors {
        let larger = x.zoomed(1.0 + i as f64 * step);
        sum.iter_mut().zip(larger.v).for_each(|(s, v)| *s += v);
    }
    let n = (factors + 1) as f64;
    x.v = sum.into_iter().map(|s| s / n).collect();
}
