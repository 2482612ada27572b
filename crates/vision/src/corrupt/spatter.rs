//! Splashes of water and mud on the lens.
//!
//! Drops are where smoothed noise is above a threshold. Water is lit along the edges of its drops, by the
//! distance from them; mud covers.

use super::raster::{Border, Raster};
use super::table::Table;
use selfsup_core::Rng;

/// Water (severities 1 to 3) or mud.
pub(super) fn spatter(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (mean, sd, sigma, threshold, strength, mud) = table.pick(
        severity,
        &[
            (0.65, 0.3, 4.0, 0.69, 0.6, false),
            (0.65, 0.3, 3.0, 0.68, 0.6, false),
            (0.65, 0.3, 2.0, 0.68, 0.5, false),
            (0.65, 0.3, 1.0, 0.65, 1.5, true),
            (0.67, 0.4, 1.0, 0.65, 1.5, true),
        ],
        &[
            (0.62, 0.1, 0.7, 0.7, 0.5, false),
            (0.65, 0.1, 0.8, 0.7, 0.5, false),
            (0.65, 0.3, 1.0, 0.69, 0.5, false),
            (0.65, 0.1, 0.7, 0.69, 0.6, true),
            (0.65, 0.1, 0.5, 0.68, 0.6, true),
        ],
    );
    let mut liquid = Raster::drawn(x.h, x.w, || f64::from(rng.normal()) * sd + mean);
    liquid.gaussian(sigma, 4.0, Border::Nearest);
    if mud {
        liquid.v.iter_mut().for_each(|v| *v = f64::from(u8::from(*v > threshold)));
        liquid.gaussian(strength, 4.0, Border::Nearest);
        let brown = x.color([63.0 / 255.0, 42.0 / 255.0, 20.0 / 255.0]);
        for (pixel, m) in x.v.chunks_exact_mut(x.c).zip(liquid.v) {
            let m = if m < 0.8 { 0.0 } else { m };
            pixel.iter_mut().zip(&brown).for_each(|(v, b)| *v = *v * (1.0 - m) + b * m);
        }
        return;
    }
    liquid.v.iter_mut().for_each(|v| *v = if *v < threshold { 0.0 } else { *v });
    liquid.quantize();
    let light = lit(&liquid);
    let m: Vec<f64> = liquid.v.iter().zip(&light).map(|(l, d)| l * d).collect();
    let most = m.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    let turquoise = x.color([175.0 / 255.0, 238.0 / 255.0, 238.0 / 255.0]);
    for (pixel, m) in x.v.chunks_exact_mut(x.c).zip(m) {
        pixel.iter_mut().zip(&turquoise).for_each(|(v, t)| *v += m / most * strength * t);
    }
}

/// Relief of the drops: the distance from their edges up to 20 pixels, spread over all levels and embossed.
fn lit(liquid: &Raster) -> Vec<f64> {
    let (h, w) = (liquid.h, liquid.w);
    let mut relief = Raster { h, w, c: 1, max: 255.0, v: distances(&edges(liquid), h, w) };
    relief.v.iter_mut().for_each(|d| *d = d.min(20.0));
    let mean: Vec<_> = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx, 1.0 / 9.0))).collect();
    let mut relief = relief.correlate(&mean, Border::Mirror);
    // 0 to 20 as whole numbers, then over 0 to 255.
    relief.v.iter_mut().for_each(|d| *d = (*d + 1e-9).floor());
    equalize(&mut relief.v);
    let emboss = [[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]];
    let taps: Vec<_> =
        (0..3).flat_map(|y| (0..3).map(move |x| (y as isize - 1, x as isize - 1, emboss[y][x]))).collect();
    let mut relief = relief.correlate(&taps, Border::Mirror);
    relief.v.iter_mut().for_each(|d| *d = d.clamp(0.0, 255.0));
    relief.correlate(&mean, Border::Mirror).v
}

/// Spreads whole values from 0 to 255 so that each is as frequent as the others.
fn equalize(v: &mut [f64]) {
    let mut counts = [0usize; 256];
    v.iter().for_each(|x| counts[*x as usize & 255] += 1);
    let Some(first) = counts.iter().position(|n| *n > 0).filter(|&i| counts[i] < v.len()) else { return };
    let scale = 255.0 / (v.len() - counts[first]) as f64;
    let mut table = [0.0; 256];
    let mut sum = 0;
    for (value, count) in table.iter_mut().zip(counts).skip(first + 1) {
        sum += count;
        *value = (sum as f64 * scale).round();
    }
    v.iter_mut().for_each(|x| *x = table[*x as usize & 255]);
}

/// Edges after Canny (1986) with the thresholds 50 and 150 of 256 levels: crests of the gradient, the weak
/// ones where they touch a strong one.
fn edges(x: &Raster) -> Vec<bool> {
    let (h, w) = (x.h, x.w);
    let at = |y: usize, x0: usize, dy: isize, dx: isize| {
        let (y, c) = (Border::Nearest.index(y as isize + dy, h), Border::Nearest.index(x0 as isize + dx, w));
        x.v[y * w + c] * 255.0
    };
    // Sobel's derivatives and their sum of absolute values.
    let sobel = |y: usize, x: usize| {
        let row = |dy: isize| at(y, x, dy, 1) - at(y, x, dy, -1);
        let column = |dx: isize| at(y, x, 1, dx) - at(y, x, -1, dx);
        let (gx, gy) = (row(-1) + 2.0 * row(0) + row(1), column(-1) + 2.0 * column(0) + column(1));
        (gx, gy, gx.abs() + gy.abs())
    };
    let slopes: Vec<(f64, f64, f64)> = (0..h * w).map(|i| sobel(i / w, i % w)).collect();
    let size = |y: isize, x: isize| {
        let inside = y >= 0 && x >= 0 && y < h as isize && x < w as isize;
        if inside { slopes[y as usize * w + x as usize].2 } else { 0.0 }
    };
    let crest = |i: usize| {
        let (gx, gy, most) = slopes[i];
        let (y, x) = ((i / w) as isize, (i % w) as isize);
        // Across the edge: flat, steep or along a diagonal; tan 22.5 degrees = 0.4142.
        let (dy, dx) = if gy.abs() < 0.4142 * gx.abs() {
            (0, 1)
        } else if gx.abs() < 0.4142 * gy.abs() {
            (1, 0)
        } else if (gx < 0.0) == (gy < 0.0) {
            (1, 1)
        } else {
            (1, -1)
        };
        most > size(y - dy, x - dx) && most >= size(y + dy, x + dx)
    };
    let weak: Vec<bool> = (0..h * w).map(|i| slopes[i].2 > 50.0 && crest(i)).collect();
    let mut edge = vec![false; h * w];
    let mut open: Vec<usize> = (0..h * w).filter(|&i| weak[i] && slopes[i].2 > 150.0).collect();
    while let Some(i) = open.pop() {
        if std::mem::replace(&mut edge[i], true) {
            continue;
        }
        let (y, x) = (i / w, i % w);
        for ny in y.saturating_sub(1)..(y + 2).min(h) {
            for nx in x.saturating_sub(1)..(x + 2).min(w) {
                if weak[ny * w + nx] && !edge[ny * w + nx] {
                    open.push(ny * w + nx);
                }
            }
        }
    }
    edge
}

/// The distance of each pixel from the nearest of `targets`, in two passes with the steps 1, 1.4 and 2.1969
/// (Borgefors 1986, "Distance transformations in digital images").
fn distances(targets: &[bool], h: usize, w: usize) -> Vec<f64> {
    const STEPS: [(isize, isize, f64); 8] = [
        (0, -1, 1.0),
        (-1, 0, 1.0),
        (-1, -1, 1.4),
        (-1, 1, 1.4),
        (-1, -2, 2.1969),
        (-1, 2, 2.1969),
        (-2, -1, 2.1969),
        (-2, 1, 2.1969),
    ];
    let mut d: Vec<f64> = targets.iter().map(|t| if *t { 0.0 } else { f64::INFINITY }).collect();
    let mut relax = |i: usize, turned: isize| {
        let (y, x) = ((i / w) as isize, (i % w) as isize);
        for (dy, dx, length) in STEPS {
            let (ny, nx) = (y + turned * dy, x + turned * dx);
            if ny >= 0 && nx >= 0 && ny < h as isize && nx < w as isize {
                d[i] = d[i].min(d[ny as usize * w + nx as usize] + length);
            }
        }
    };
    (0..h * w).for_each(|i| relax(i, 1));
    (0..h * w).rev().for_each(|i| relax(i, -1));
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_and_distances_of_a_square() {
        // A bright square of 8 to 15 on black.
        let inside = |i: usize| (8..16).contains(&(i / 24)) && (8..16).contains(&(i % 24));
        let v = (0..24 * 24).map(|i| if inside(i) { 1.0 } else { 0.0 }).collect();
        let square = Raster { h: 24, w: 24, c: 1, max: 255.0, v };
        let edge = edges(&square);
        // One line around it, within a pixel of its side.
        let along: Vec<usize> = (0..24).filter(|x| edge[12 * 24 + x]).collect();
        assert!(
            along.len() == 2 && (7..=8).contains(&along[0]) && (15..=16).contains(&along[1]),
            "{along:?}"
        );
        assert!(!edge[12 * 24 + 12] && !edge[0]);
        let d = distances(&edge, 24, 24);
        assert_eq!((d[12 * 24 + along[0]], d[12 * 24 + along[0] - 3]), (0.0, 3.0));
        assert!(distances(&[false; 4], 2, 2).iter().all(|d| d.is_infinite()));
    }
}
