//! Images as numbers from 0 to 1, and the filters that several corruptions share.

use crate::image::{Image, Pixels};
use selfsup_core::Result;

/// Values from 0 to 1, rows of interleaved channels.
#[derive(Clone)]
pub(super) struct Raster {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// The largest value of the image that it was made of.
    pub max: f64,
    /// `(h, w, c)`.
    pub v: Vec<f64>,
}

/// What lies beyond the border.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Border {
    /// `a a a | a b c d | d d d`
    Nearest,
    /// `c b a | a b c d | d c b`
    Reflect,
    /// `d c b | a b c d | c b a`
    Mirror,
}

impl Border {
    /// The place of `i` among `n`.
    pub fn index(self, i: isize, n: usize) -> usize {
        let last = n as isize - 1;
        if (0..=last).contains(&i) || last < 1 {
            return i.clamp(0, last.max(0)) as usize;
        }
        match self {
            Border::Nearest => i.clamp(0, last) as usize,
            Border::Reflect => {
                let i = i.rem_euclid(2 * (last + 1));
                (if i > last { 2 * last + 1 - i } else { i }) as usize
            }
            Border::Mirror => {
                let i = i.rem_euclid(2 * last);
                (if i > last { 2 * last - i } else { i }) as usize
            }
        }
    }
}

impl Raster {
    /// Of an image.
    pub fn of(image: &Image) -> Self {
        let (h, w, c) = (image.height as usize, image.width as usize, usize::from(image.channels));
        let (max, v) = match &image.data {
            Pixels::U8(v) => (255.0, v.iter().map(|x| f64::from(*x) / 255.0).collect()),
            Pixels::U16(v) => (65_535.0, v.iter().map(|x| f64::from(*x) / 65_535.0).collect()),
        };
        Raster { h, w, c, max, v }
    }

    /// One value a pixel, drawn in order.
    pub fn drawn(h: usize, w: usize, mut draw: impl FnMut() -> f64) -> Self {
        Raster { h, w, c: 1, max: 255.0, v: (0..h * w).map(|_| draw()).collect() }
    }

    /// Back to whole numbers: cut off at 0 and 1 and truncated, as the published images are. A sum that is
    /// less than a level only by rounding keeps the level.
    pub fn into_image(self) -> Result<Image> {
        let level = |x: f64| (x.clamp(0.0, 1.0) * self.max + 1e-9).floor();
        let data = if self.max > 255.0 {
            Pixels::U16(self.v.iter().map(|x| level(*x) as u16).collect())
        } else {
            Pixels::U8(self.v.iter().map(|x| level(*x) as u8).collect())
        };
        Image::new(self.w as u32, self.h as u32, self.c as u8, data)
    }

    /// Truncates to the levels of the image.
    pub fn quantize(&mut self) {
        let max = self.max;
        self.v.iter_mut().for_each(|x| *x = (x.clamp(0.0, 1.0) * max + 1e-9).floor() / max);
    }

    /// The luminance of a pixel, `0.299 R + 0.587 G + 0.114 B`.
    pub fn luma(pixel: &[f64]) -> f64 {
        match pixel {
            [r, g, b] => 0.299 * r + 0.587 * g + 0.114 * b,
            [v, ..] => *v,
            [] => 0.0,
        }
    }

    /// A colour as the image can hold it: its luminance where there is one channel.
    pub fn color(&self, rgb: [f64; 3]) -> Vec<f64> {
        if self.c == 3 { rgb.to_vec() } else { vec![Self::luma(&rgb); self.c] }
    }

    /// A Gaussian of standard deviation `sigma` on `int(truncate sigma + 0.5)` pixels to each side, as scipy's
    /// `gaussian_filter`.
    pub fn gaussian(&mut self, sigma: f64, truncate: f64, border: Border) {
        let half = (truncate * sigma + 0.5) as usize;
        if half == 0 || sigma <= 0.0 {
            return;
        }
        let mut kernel: Vec<f64> =
            (0..=2 * half).map(|i| (-0.5 * ((i as f64 - half as f64) / sigma).powi(2)).exp()).collect();
        let sum: f64 = kernel.iter().sum();
        kernel.iter_mut().for_each(|k| *k /= sum);
        let (h, w, c) = (self.h, self.w, self.c);
        // Columns, then rows.
        let columns = Line::new(&kernel, border, h, w * c);
        (0..w * c).for_each(|start| columns.filter(&mut self.v, start));
        let rows = Line::new(&kernel, border, w, c);
        (0..h).for_each(|y| (0..c).for_each(|k| rows.filter(&mut self.v, y * w * c + k)));
    }

    /// Correlates every channel with `taps` of `(dy, dx, weight)`.
    pub fn correlate(&self, taps: &[(isize, isize, f64)], border: Border) -> Self {
        let (h, w, c) = (self.h, self.w, self.c);
        let mut out = vec![0.0; self.v.len()];
        for (y, row) in out.chunks_exact_mut((w * c).max(1)).enumerate() {
            for &(dy, dx, weight) in taps {
                let from = border.index(y as isize + dy, h) * w * c;
                for x in 0..w {
                    let at = from + border.index(x as isize + dx, w) * c;
                    for k in 0..c {
                        row[x * c + k] += weight * self.v[at + k];
                    }
                }
            }
        }
        Raster { v: out, ..*self }
    }

    /// Motion blur as ImageMagick's: a one-sided Gaussian of `2 radius + 1` pixels along a line at `angle`
    /// degrees.
    pub fn motion(&self, radius: usize, sigma: f64, angle: f64) -> Self {
        let width = 2 * radius + 1;
        let kernel: Vec<f64> = (0..width).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
        let sum: f64 = kernel.iter().sum();
        let (sin, cos) = angle.to_radians().sin_cos();
        let step = |i: usize, of: f64| (i as f64 * of - 0.5).ceil() as isize;
        let taps: Vec<_> =
            kernel.iter().enumerate().map(|(i, k)| (step(i, sin), step(i, cos), k / sum)).collect();
        self.correlate(&taps, Border::Nearest)
    }

    /// The middle, `factor` times as large, cut to the size that there was (scipy's `zoom` of order 1).
    pub fn zoomed(&self, factor: f64) -> Self {
        let (ys, xs) = (zoom_axis(self.h, factor), zoom_axis(self.w, factor));
        let (w, c) = (self.w, self.c);
        let mut v = Vec::with_capacity(self.v.len());
        for &(y0, y1, fy) in &ys {
            for &(x0, x1, fx) in &xs {
                for k in 0..c {
                    let at = |y: usize, x: usize| self.v[(y * w + x) * c + k];
                    let top = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
                    let bottom = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
                    v.push(top * (1.0 - fy) + bottom * fy);
                }
            }
        }
        Raster { v, ..*self }
    }

    /// The value of channel `k` between pixels.
    pub fn between(&self, y: f64, x: f64, k: usize, border: Border) -> f64 {
        let (y0, x0) = (y.floor(), x.floor());
        let (fy, fx) = (y - y0, x - x0);
        let at = |dy: isize, dx: isize| {
            let y = border.index(y0 as isize + dy, self.h);
            let x = border.index(x0 as isize + dx, self.w);
            self.v[(y * self.w + x) * self.c + k]
        };
        (at(0, 0) * (1.0 - fx) + at(0, 1) * fx) * (1.0 - fy) + (at(1, 0) * (1.0 - fx) + at(1, 1) * fx) * fy
    }

    /// Every pixel from where `from(y, x)` says.
    pub fn warped(&self, border: Border, from: impl Fn(usize, usize) -> (f64, f64)) -> Self {
        let mut v = Vec::with_capacity(self.v.len());
        for y in 0..self.h {
            for x in 0..self.w {
                let (sy, sx) = from(y, x);
                v.extend((0..self.c).map(|k| self.between(sy, sx, k, border)));
            }
        }
        Raster { v, ..*self }
    }
}

/// For each of `n` places the two that it lies between, and how far it is from the first.
fn zoom_axis(n: usize, factor: f64) -> Vec<(usize, usize, f64)> {
    let kept = (n as f64 / factor).ceil() as usize;
    let start = (n - kept) / 2;
    let made = ((kept as f64 * factor).round_ties_even() as usize).max(n);
    let trim = (made - n) / 2;
    (0..n)
        .map(|i| {
            let place = ((i + trim) * (kept - 1)) as f64 / (made.max(2) - 1) as f64;
            let low = (place.floor() as usize).min(kept - 1);
            (start + low, start + (low + 1).min(kept - 1), place - low as f64)
        })
        .collect()
}

/// A filter along an axis of `n` values that lie `stride` apart.
struct Line<'a> {
    kernel: &'a [f64],
    border: Border,
    n: usize,
    stride: usize,
    /// The weights `(n, n)` of a kernel that is longer than the axis, folded at the borders.
    folded: Option<Vec<f64>>,
}

impl<'a> Line<'a> {
    fn new(kernel: &'a [f64], border: Border, n: usize, stride: usize) -> Self {
        let folded = (kernel.len() > n).then(|| {
            let mut weights = vec![0.0; n * n];
            for (i, row) in weights.chunks_exact_mut(n).enumerate() {
                for (j, k) in kernel.iter().enumerate() {
                    row[border.index(i as isize + j as isize - (kernel.len() / 2) as isize, n)] += k;
                }
            }
            weights
        });
        Line { kernel, border, n, stride, folded }
    }

    fn filter(&self, v: &mut [f64], start: usize) {
        let (n, half) = (self.n, self.kernel.len() / 2);
        let line: Vec<f64> = (0..n).map(|i| v[start + i * self.stride]).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        if let Some(weights) = &self.folded {
            for (i, row) in weights.chunks_exact(n).enumerate() {
                v[start + i * self.stride] = dot(row, &line);
            }
            return;
        }
        let padded: Vec<f64> =
            (0..n + 2 * half).map(|i| line[self.border.index(i as isize - half as isize, n)]).collect();
        for i in 0..n {
            v[start + i * self.stride] = dot(self.kernel, &padded[i..]);
        }
    }
}
