//! What cameras and programs do: contrast, brightness, saturation, large pixels, and elastic deformation.

use super::raster::{Border, Raster};
use super::table::Table;
use crate::image::{Image, Pixels};
use selfsup_core::{Result, Rng};

/// `c (x - mean) + mean`, with the mean of each channel.
pub(super) fn contrast(x: &mut Raster, severity: u8, table: Table) {
    let factor = table.pick(severity, &[0.4, 0.3, 0.2, 0.1, 0.05], &[0.75, 0.5, 0.4, 0.3, 0.15]);
    let (c, n) = (x.c, (x.h * x.w) as f64);
    for k in 0..c {
        let mean = x.v.iter().skip(k).step_by(c).sum::<f64>() / n;
        x.v.iter_mut().skip(k).step_by(c).for_each(|v| *v = (*v - mean) * factor + mean);
    }
}

/// `V + c` in HSV.
pub(super) fn brightness(x: &mut Raster, severity: u8, table: Table) {
    let more = table.pick(severity, &[0.1, 0.2, 0.3, 0.4, 0.5], &[0.05, 0.1, 0.15, 0.2, 0.3]);
    in_hsv(x, |[h, s, v]| [h, s, (v + more).clamp(0.0, 1.0)]);
}

/// `c0 S + c1` in HSV. An image of one channel has no saturation and stays as it is.
pub(super) fn saturate(x: &mut Raster, severity: u8, table: Table) {
    let (factor, more) = table.pick(
        severity,
        &[(0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)],
        &[(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)],
    );
    if x.c == 3 {
        in_hsv(x, |[h, s, v]| [h, (s * factor + more).clamp(0.0, 1.0), v]);
    }
}

/// Changes hue, saturation and value, each from 0 to 1; of one channel only the value.
fn in_hsv(x: &mut Raster, change: impl Fn([f64; 3]) -> [f64; 3]) {
    for pixel in x.v.chunks_exact_mut(x.c) {
        match pixel {
            [r, g, b] => {
                let back = rgb(change(hsv([*r, *g, *b])));
                (*r, *g, *b) = (back[0], back[1], back[2]);
            }
            rest => rest.iter_mut().for_each(|v| *v = change([0.0, 0.0, *v])[2]),
        }
    }
}

fn hsv([r, g, b]: [f64; 3]) -> [f64; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let delta = most - least;
    if delta == 0.0 {
        return [0.0, 0.0, most];
    }
    let sixth = if b == most {
        4.0 + (r - g) / delta
    } else if g == most {
        2.0 + (b - r) / delta
    } else {
        (g - b) / delta
    };
    [(sixth / 6.0).rem_euclid(1.0), delta / most, most]
}

fn rgb([h, s, v]: [f64; 3]) -> [f64; 3] {
    let part = (h * 6.0).floor();
    let f = h * 6.0 - part;
    let (p, q, t) = (v * (1.0 - s), v * (1.0 - f * s), v * (1.0 - (1.0 - f) * s));
    match part as i64 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// Averaged down by boxes, and up again: by the nearest pixel (224 px) or by boxes (32 px), which differ in
/// who takes a pixel that lies between two.
pub(super) fn pixelate(image: &Image, severity: u8, table: Table) -> Result<Image> {
    let factor = table.pick(severity, &[0.6, 0.5, 0.4, 0.3, 0.25], &[0.95, 0.9, 0.85, 0.75, 0.65]);
    let (h, w, c) = (image.height as usize, image.width as usize, usize::from(image.channels));
    let small = |n: usize| ((n as f64 * factor) as usize).max(1);
    let values = match &image.data {
        Pixels::U8(v) => v.iter().map(|x| u32::from(*x)).collect(),
        Pixels::U16(v) => v.iter().map(|x| u32::from(*x)).collect::<Vec<_>>(),
    };
    let (ys, xs) = (boxes(h, small(h)), boxes(w, small(w)));
    let down = columns(&rows(&values, w, c, &xs), small(w) * c, &ys);
    let (ys, xs) = match table {
        Table::Small => (boxes(small(h), h), boxes(small(w), w)),
        Table::Large => (nearest(small(h), h), nearest(small(w), w)),
    };
    let up = columns(&rows(&down, small(w), c, &xs), w * c, &ys);
    let data = match &image.data {
        Pixels::U8(_) => Pixels::U8(up.into_iter().map(|v| v as u8).collect()),
        Pixels::U16(_) => Pixels::U16(up.into_iter().map(|v| v as u16).collect()),
    };
    Image::new(image.width, image.height, image.channels, data)
}

/// For each of `to` pixels the range of the `from` whose centre lies in its box, as PIL's box filter takes
/// them.
fn boxes(from: usize, to: usize) -> Vec<std::ops::Range<usize>> {
    let scale = from as f64 / to as f64;
    let support = 0.5 * scale.max(1.0);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5).max(0.0)) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            // Of those the box takes the ones from just above its left edge to its right edge.
            let inside = |x: &usize| {
                let at = (*x as f64 - centre + 0.5) / scale.max(1.0);
                at > -0.5 && at <= 0.5
            };
            let kept: Vec<usize> = (first..end).filter(inside).collect();
            match (kept.first(), kept.last()) {
                (Some(a), Some(b)) => *a..*b + 1,
                _ => first.min(from - 1)..first.min(from - 1) + 1,
            }
        })
        .collect()
}

fn nearest(from: usize, to: usize) -> Vec<std::ops::Range<usize>> {
    let at = |i: usize| (((i as f64 + 0.5) * from as f64 / to as f64) as usize).min(from - 1);
    (0..to).map(|i| at(i)..at(i) + 1).collect()
}

/// The rounded means of ranges along the rows of `w` pixels of `c` values.
fn rows(v: &[u32], w: usize, c: usize, ranges: &[std::ops::Range<usize>]) -> Vec<u32> {
    let mut out = Vec::new();
    for row in v.chunks_exact(w * c) {
        for range in ranges {
            for k in 0..c {
                let sum: u32 = range.clone().map(|x| row[x * c + k]).sum();
                out.push(rounded(sum, range.len()));
            }
        }
    }
    out
}

/// The same along the columns of rows of `width` values.
fn columns(v: &[u32], width: usize, ranges: &[std::ops::Range<usize>]) -> Vec<u32> {
    let mut out = Vec::new();
    for range in ranges {
        for x in 0..width {
            let sum: u32 = range.clone().map(|y| v[y * width + x]).sum();
            out.push(rounded(sum, range.len()));
        }
    }
    out
}

fn rounded(sum: u32, n: usize) -> u32 {
    let n = n.max(1) as u32;
    (2 * sum + n) / (2 * n)
}

/// A random affine map, then a smooth random field of displacements.
///
/// The published lengths are for 224 px (as parts of 244 there) and for 32 px: here they are parts of the
/// shorter side.
pub(super) fn elastic(x: &mut Raster, severity: u8, table: Table, rng: &mut Rng) {
    let (strength, smooth, affine) = table.pick(
        severity,
        &[(2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)],
        &[(0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    );
    let side = x.h.min(x.w) as f64 * if table == Table::Large { 244.0 / 224.0 } else { 1.0 };
    if let Some(map) = affine_map(x, affine * side, rng) {
        *x = x.warped(Border::Mirror, |y, x| {
            let (y, x) = (y as f64, x as f64);
            (map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5])
        });
    }
    let mut field = || {
        let mut field = Raster::drawn(x.h, x.w, || f64::from(rng.range_f32(-1.0, 1.0)));
        field.gaussian(smooth * side, 3.0, Border::Reflect);
        field.v.iter_mut().for_each(|v| *v *= strength * side);
        field
    };
    let (dx, dy) = (field(), field());
    let w = x.w;
    *x = x.warped(Border::Reflect, |y, x| (y as f64 + dy.v[y * w + x], x as f64 + dx.v[y * w + x]));
}

/// The map, as `(y, x)` of a result's `(x, y)`, that takes three points back which moved by up to `reach`
/// each. `None` where the image is too small to have three.
fn affine_map(image: &Raster, reach: f64, rng: &mut Rng) -> Option<[f64; 6]> {
    let (cx, cy) = ((image.w / 2) as f64, (image.h / 2) as f64);
    let s = (image.h.min(image.w) / 3) as f64;
    let from = [(cx + s, cy + s), (cx + s, cy - s), (cx - s, cy - s)];
    let mut moved = |(x, y): (f64, f64)| {
        let mut by = || f64::from(rng.range_f32(-1.0, 1.0)) * reach;
        (x + by(), y + by())
    };
    let to = [moved(from[0]), moved(from[1]), moved(from[2])];
    let ((ax, ay), (bx, by)) =
        ((to[1].0 - to[0].0, to[1].1 - to[0].1), (to[2].0 - to[0].0, to[2].1 - to[0].1));
    let det = ax * by - ay * bx;
    if det.abs() < 1e-6 {
        return None;
    }
    // One row of the map: what the three points had as this coordinate.
    let row = |p: [f64; 3]| {
        let (u, v) = (p[1] - p[0], p[2] - p[0]);
        let (mx, my) = ((u * by - v * ay) / det, (v * ax - u * bx) / det);
        [mx, my, p[0] - mx * to[0].0 - my * to[0].1]
    };
    let (y, x) = (row(from.map(|p| p.1)), row(from.map(|p| p.0)));
    Some([y[0], y[1], y[2], x[0], x[1], x[2]])
}
