//! What a JPEG of some quality leaves of an image: colours at half the resolution, and cosines of blocks of 8
//! by 8 pixels in coarse steps. The coding that follows in a file loses nothing, and is left out.
//!
//! As libjpeg with its defaults and Pillow: 4:2:0, the tables of the standard (ITU-T T.81, annex K), colours
//! smoothed on the way back ("fancy upsampling"). The cosines are computed in f64, where libjpeg has whole
//! numbers: a level may differ here and there.

use super::table::Table;
use crate::image::{Image, Pixels};
use selfsup_core::Result;
use std::f64::consts::PI;

/// Annex K, table K.1: luminance.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17,
    22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78,
    87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// Annex K, table K.2: chrominance.
const CHROMA: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// Compressed and decompressed. Images of 16 bits lose their lower 8.
pub(super) fn jpeg(image: &Image, severity: u8, table: Table) -> Result<Image> {
    let quality = table.pick(severity, &[25, 18, 15, 10, 7], &[80, 65, 58, 50, 40]);
    let (h, w) = (image.height as usize, image.width as usize);
    let (deep, bytes) = match &image.data {
        Pixels::U8(v) => (false, v.clone()),
        Pixels::U16(v) => (true, v.iter().map(|x| (x >> 8) as u8).collect()),
    };
    let channel = |k: usize| Plane::new(h, w, bytes.iter().skip(k).step_by(image.channels.into()).copied());
    let out = if image.channels == 1 {
        channel(0).coded(&scaled(&LUMA, quality)).v.into_iter().map(|v| v as u8).collect()
    } else {
        let [y, cb, cr] = to_ycc(&channel(0), &channel(1), &channel(2));
        let y = y.coded(&scaled(&LUMA, quality));
        let color = |c: Plane| c.halved().coded(&scaled(&CHROMA, quality)).doubled(h, w);
        to_rgb(&y, &color(cb), &color(cr))
    };
    let data = match deep {
        false => Pixels::U8(out),
        true => Pixels::U16(out.into_iter().map(|v| u16::from(v) * 257).collect()),
    };
    Image::new(image.width, image.height, image.channels, data)
}

/// The steps of a quality from 1 to 100, as libjpeg scales its tables.
fn scaled(table: &[u16; 64], quality: u32) -> [f64; 64] {
    let percent = if quality < 50 { 5000 / quality.max(1) } else { 200 - 2 * quality.min(100) };
    table.map(|t| f64::from(((u32::from(t) * percent + 50) / 100).clamp(1, 255)))
}

/// One channel of whole numbers from 0 to 255.
struct Plane {
    h: usize,
    w: usize,
    v: Vec<i32>,
}

/// BT.601 over the full range.
fn to_ycc(r: &Plane, g: &Plane, b: &Plane) -> [Plane; 3] {
    let plane = |f: &dyn Fn(f64, f64, f64) -> f64| Plane {
        h: r.h,
        w: r.w,
        v: (0..r.v.len())
            .map(|i| f(f64::from(r.v[i]), f64::from(g.v[i]), f64::from(b.v[i])).round() as i32)
            .collect(),
    };
    [
        plane(&|r, g, b| 0.299 * r + 0.587 * g + 0.114 * b),
        plane(&|r, g, b| -0.168_735_892 * r - 0.331_264_108 * g + 0.5 * b + 128.0),
        plane(&|r, g, b| 0.5 * r - 0.418_687_589 * g - 0.081_312_411 * b + 128.0),
    ]
}

fn to_rgb(y: &Plane, cb: &Plane, cr: &Plane) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * y.v.len());
    for ((y, cb), cr) in y.v.iter().zip(&cb.v).zip(&cr.v) {
        let (y, cb, cr) = (f64::from(*y), f64::from(cb - 128), f64::from(cr - 128));
        let rgb = [y + 1.402 * cr, y - 0.344_136_286 * cb - 0.714_136_286 * cr, y + 1.772 * cb];
        out.extend(rgb.map(|v| v.round().clamp(0.0, 255.0) as u8));
    }
    out
}

impl Plane {
    fn new(h: usize, w: usize, values: impl Iterator<Item = u8>) -> Self {
        Plane { h, w, v: values.map(i32::from).collect() }
    }

    /// The value at a place, or the nearest inside.
    fn at(&self, y: usize, x: usize) -> i32 {
        self.v[y.min(self.h - 1) * self.w + x.min(self.w - 1)]
    }

    /// Means of 2 by 2; halves are rounded down and up in turn.
    fn halved(&self) -> Self {
        let (h, w) = (self.h.div_ceil(2), self.w.div_ceil(2));
        let mean = |i: usize| {
            let (y, x) = (2 * (i / w), 2 * (i % w));
            let sum = self.at(y, x) + self.at(y, x + 1) + self.at(y + 1, x) + self.at(y + 1, x + 1);
            (sum + 1 + (i % w % 2) as i32) >> 2
        };
        Plane { h, w, v: (0..h * w).map(mean).collect() }
    }

    /// Twice as large: three quarters of the nearer and a quarter of the farther value, along both axes.
    fn doubled(&self, h: usize, w: usize) -> Self {
        let plain = self.w <= 2;
        let value = |y: usize, x: usize| {
            let (cy, cx) = (y / 2, x / 2);
            if plain {
                return self.at(cy, cx);
            }
            let beside = |i: usize, c: usize, n: usize| match i % 2 {
                0 => c.saturating_sub(1),
                _ => (c + 1).min(n - 1),
            };
            let (ny, nx) = (beside(y, cy, self.h), beside(x, cx, self.w));
            let column = |x: usize| 3 * self.at(cy, x) + self.at(ny, x);
            (3 * column(cx) + column(nx) + if x.is_multiple_of(2) { 8 } else { 7 }) >> 4
        };
        Plane { h, w, v: (0..h * w).map(|i| value(i / w, i % w)).collect() }
    }

    /// Every block of 8 by 8 to whole multiples of `steps` of its cosines, and back.
    fn coded(&self, steps: &[f64; 64]) -> Self {
        let basis = basis();
        let mut out = self.v.clone();
        for top in (0..self.h).step_by(8) {
            for left in (0..self.w).step_by(8) {
                // Beyond the border the last value goes on.
                let block: [f64; 64] =
                    std::array::from_fn(|i| f64::from(self.at(top + i / 8, left + i % 8) - 128));
                let mut cosines = apart(&block, &basis);
                cosines.iter_mut().zip(steps).for_each(|(c, q)| *c = (*c / q).round() * q);
                let back = together(&cosines, &basis);
                for y in 0..8.min(self.h - top) {
                    for x in 0..8.min(self.w - left) {
                        let value = back[y * 8 + x].round() as i32 + 128;
                        out[(top + y) * self.w + left + x] = value.clamp(0, 255);
                    }
                }
            }
        }
        Plane { v: out, ..*self }
    }
}

/// `basis[u][x] = a(u) cos((2 x + 1) u pi / 16)`, orthonormal.
fn basis() -> [[f64; 8]; 8] {
    std::array::from_fn(|u| {
        let scale = if u == 0 { (1.0f64 / 8.0).sqrt() } else { 0.5 };
        std::array::from_fn(|x| scale * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos())
    })
}

/// The cosines of a block.
fn apart(block: &[f64; 64], basis: &[[f64; 8]; 8]) -> [f64; 64] {
    let rows: [f64; 64] =
        std::array::from_fn(|i| (0..8).map(|x| block[i / 8 * 8 + x] * basis[i % 8][x]).sum());
    std::array::from_fn(|i| (0..8).map(|y| rows[y * 8 + i % 8] * basis[i / 8][y]).sum())
}

/// The block of cosines.
fn together(cosines: &[f64; 64], basis: &[[f64; 8]; 8]) -> [f64; 64] {
    let rows: [f64; 64] =
        std::array::from_fn(|i| (0..8).map(|u| cosines[i / 8 * 8 + u] * basis[u][i % 8]).sum());
    std::array::from_fn(|i| (0..8).map(|v| rows[v * 8 + i % 8] * basis[v][i / 8]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_back_and_a_flat_picture_stays() {
        let block: [f64; 64] = std::array::from_fn(|i| (i * 37 % 101) as f64 - 50.0);
        let basis = basis();
        let back = together(&apart(&block, &basis), &basis);
        assert!(block.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-9));
        // Quality 50 is the table itself, 100 is steps of 1.
        assert_eq!((scaled(&LUMA, 50)[0], scaled(&CHROMA, 100)[63]), (16.0, 1.0));
        for (w, h) in [(1, 1), (3, 5), (9, 17), (32, 32)] {
            let flat = Image::new(w, h, 3, Pixels::U8(vec![128; (3 * w * h) as usize])).unwrap();
            assert_eq!(jpeg(&flat, 5, Table::Large).unwrap(), flat, "{w} x {h}");
        }
    }
}
