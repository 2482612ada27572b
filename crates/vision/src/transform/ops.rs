//! Single operations on decoded images, with torchvision's semantics.
//!
//! Photometric operations compute in f32 and truncate, as torchvision does for integers. They are written over slices of whole rows, so that
//! the compiler vectorises them.

use crate::image::{Image, Pixels};
use fast_image_resize::images::Image as Buffer;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use selfsup_core::{Error, Result};

/// How values between pixels are found when resizing; both are antialiased, as PIL's are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// A triangle.
    #[default]
    Bilinear,
    /// Keys' cubic with a = -0.5.
    Bicubic,
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// First row.
    pub top: f64,
    /// First column.
    pub left: f64,
    /// Rows.
    pub height: f64,
    /// Columns.
    pub width: f64,
}

impl Rect {
    /// The whole of an image.
    pub fn whole(image: &Image) -> Self {
        Rect { top: 0.0, left: 0.0, height: image.height.into(), width: image.width.into() }
    }
}

thread_local! {
    static RESIZER: std::cell::RefCell<Resizer> = std::cell::RefCell::new(Resizer::new());
}

/// A rectangle of an image, in whole pixels, resized to `(height, width)`.
///
/// The rectangle is cut out first, as torchvision does: pixels beside it do not shine in.
///
/// # Errors
/// If the rectangle does not lie in the image or a size is 0.
pub fn resized_crop(image: &Image, rect: Rect, height: u32, width: u32, filter: Filter) -> Result<Image> {
    let wrong = |e: &dyn std::fmt::Display| Error::input("crop", format!("{rect:?} of {} x {}: {e}", image.width, image.height));
    let (top, left, h, w) = (rect.top as usize, rect.left as usize, rect.height as usize, rect.width as usize);
    let c = usize::from(image.channels);
    let row = image.width as usize * c;
    if h == 0 || w == 0 || left + w > image.width as usize || top + h > image.height as usize {
        return Err(wrong(&"expected a rectangle inside the image"));
    }
    fn cut<T: Copy>(v: &[T], row: usize, lines: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Vec<T> {
        lines.flat_map(|y| v[y * row + columns.start..y * row + columns.end].iter().copied()).collect()
    }
    let columns = left * c..(left + w) * c;
    let whole = (h, w) == (image.height as usize, image.width as usize);
    let (bytes, kind) = match &image.data {
        Pixels::U8(v) if whole => (std::borrow::Cow::Borrowed(v.as_slice()), if c == 1 { PixelType::U8 } else { PixelType::U8x3 }),
        Pixels::U8(v) => (cut(v, row, top..top + h, columns).into(), if c == 1 { PixelType::U8 } else { PixelType::U8x3 }),
        Pixels::U16(v) => {
            let bytes: Vec<u8> = cut(v, row, top..top + h, columns).iter().flat_map(|x| x.to_ne_bytes()).collect();
            (bytes.into(), if c == 1 { PixelType::U16 } else { PixelType::U16x3 })
        }
    };
    let alg = ResizeAlg::Convolution(match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
    });
    let options = ResizeOptions::new().resize_alg(alg).use_alpha(false);
    let run = |bytes: &[u8], from: (u32, u32), to: (u32, u32)| -> Result<Vec<u8>> {
        let mut out = Buffer::new(to.0, to.1, kind);
        let source = fast_image_resize::images::ImageRef::new(from.0, from.1, bytes, kind).map_err(|e| wrong(&e))?;
        RESIZER.with(|r| r.borrow_mut().resize(&source, &mut out, &options)).map_err(|e| wrong(&e))?;
        Ok(out.into_vec())
    };
    let from = (w as u32, h as u32);
    let made = match filter {
        Filter::Bilinear => run(&bytes, from, (width, height))?,
        // Overshoots are clamped between the passes, so their order shows: along the rows first, as PIL.
        Filter::Bicubic => run(&run(&bytes, from, (width, from.1))?, (width, from.1), (width, height))?,
    };
    let data = match image.data {
        Pixels::U8(_) => Pixels::U8(made),
        Pixels::U16(_) => Pixels::U16(made.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()),
    };
    Image::new(width, height, image.channels, data)
}

/// Resizes so that the shorter side has `size` pixels.
///
/// # Errors
/// If `size` is 0.
pub fn resize_shorter(image: &Image, size: u32, filter: Filter) -> Result<Image> {
    let (w, h) = (u64::from(image.width), u64::from(image.height));
    let s = u64::from(size);
    // torchvision truncates the longer side.
    let (nw, nh) = if w <= h { (s, (s * h / w).max(1)) } else { ((s * w / h).max(1), s) };
    if (nw, nh) == (w, h) {
        return Ok(image.clone());
    }
    resized_crop(image, Rect::whole(image), nh as u32, nw as u32, filter)
}

/// The `size` by `size` pixels in the middle; what lies outside is 0.
///
/// # Errors
/// If `size` is 0.
pub fn center_crop(image: &Image, size: u32) -> Result<Image> {
    if (image.width, image.height) == (size, size) {
        return Ok(image.clone());
    }
    // torchvision: pad by half the lack, then round half to even as Python does.
    let start = |full: u32| ((f64::from(full) - f64::from(size)) / 2.0).round_ties_even() as i64;
    let (top, left) = (start(image.height), start(image.width));
    map_pixels(image, size, size, |y, x| {
        let (sy, sx) = (y as i64 + top, x as i64 + left);
        (sy >= 0 && sx >= 0 && sy < i64::from(image.height) && sx < i64::from(image.width)).then_some((sy as usize, sx as usize))
    })
}

/// Mirrors left and right.
///
/// # Errors
/// Never for an image that [`Image::new`] made.
pub fn horizontal_flip(image: &Image) -> Result<Image> {
    let w = image.width as usize;
    map_pixels(image, image.height, w as u32, |y, x| Some((y, w - 1 - x)))
}

/// An image whose pixel `(y, x)` is that of `from(y, x)`, or 0.
fn map_pixels(image: &Image, height: u32, width: u32, from: impl Fn(usize, usize) -> Option<(usize, usize)>) -> Result<Image> {
    fn go<T: Copy + Default>(
        v: &[T],
        c: usize,
        w: usize,
        height: usize,
        width: usize,
        from: impl Fn(usize, usize) -> Option<(usize, usize)>,
    ) -> Vec<T> {
        let mut out = vec![T::default(); height * width * c];
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            if let Some((y, x)) = from(i / width, i % width) {
                pixel.copy_from_slice(&v[(y * w + x) * c..][..c]);
            }
        }
        out
    }
    let (c, w, h2, w2) = (usize::from(image.channels), image.width as usize, height as usize, width as usize);
    let data = match &image.data {
        Pixels::U8(v) => Pixels::U8(go(v, c, w, h2, w2, from)),
        Pixels::U16(v) => Pixels::U16(go(v, c, w, h2, w2, from)),
    };
    Image::new(width, height, image.channels, data)
}

/// A value of a pixel.
trait Value: Copy + Send + Sync {
    const MAX: f32;
    fn get(self) -> f32;
    /// Clamped and truncated.
    fn put(v: f32) -> Self;
}

impl Value for u8 {
    const MAX: f32 = 255.0;
    fn get(self) -> f32 {
        f32::from(self)
    }
    fn put(v: f32) -> Self {
        v as u8 // saturates
    }
}

impl Value for u16 {
    const MAX: f32 = 65535.0;
    fn get(self) -> f32 {
        f32::from(self)
    }
    fn put(v: f32) -> Self {
        v as u16
    }
}

/// Runs `$f::<T>(values, channels)` for either depth.
macro_rules! each {
    ($image:expr, |$v:ident, $c:ident| $body:expr) => {{
        let $c = usize::from($image.channels);
        match &mut $image.data {
            Pixels::U8($v) => $body,
            Pixels::U16($v) => $body,
        }
    }};
}

/// The whole part of a number of at least 0: one instruction, where `floor` is a call on older x86-64.
fn cut(x: f32) -> f32 {
    x as i32 as f32
}

fn luma<T: Value>(p: &[T]) -> f32 {
    0.2989 * p[0].get() + 0.587 * p[1].get() + 0.114 * p[2].get()
}

/// Multiplies all values by `factor`.
pub fn brightness(image: &mut Image, factor: f32) {
    fn go<T: Value>(v: &mut [T], f: f32) {
        v.iter_mut().for_each(|x| *x = T::put(x.get() * f));
    }
    each!(image, |v, _c| go(v, factor));
}

/// Moves all values away from the mean gray: `factor x + (1 - factor) mean`.
pub fn contrast(image: &mut Image, factor: f32) {
    fn go<T: Value>(v: &mut [T], c: usize, f: f32) {
        let mean = if c == 3 {
            v.chunks_exact(3).map(|p| f64::from(cut(luma(p)))).sum::<f64>() / (v.len() / 3).max(1) as f64
        } else {
            v.iter().map(|x| f64::from(x.get())).sum::<f64>() / v.len().max(1) as f64
        };
        let shift = (1.0 - f) * mean as f32;
        v.iter_mut().for_each(|x| *x = T::put(x.get() * f + shift));
    }
    each!(image, |v, c| go(v, c, factor));
}

/// Moves each pixel away from its gray: `factor x + (1 - factor) gray`. Gray images stay.
pub fn saturation(image: &mut Image, factor: f32) {
    fn go<T: Value>(v: &mut [T], c: usize, f: f32) {
        if c != 3 {
            return;
        }
        for p in v.chunks_exact_mut(3) {
            let gray = (1.0 - f) * cut(luma(p));
            for x in p {
                *x = T::put(x.get() * f + gray);
            }
        }
    }
    each!(image, |v, c| go(v, c, factor));
}

/// Turns the hue by `shift` turns, -0.5 to 0.5. Gray images stay.
pub fn hue(image: &mut Image, shift: f32) {
    fn go<T: Value>(v: &mut [T], c: usize, shift: f32) {
        if c != 3 {
            return;
        }
        for p in v.chunks_exact_mut(3) {
            let [r, g, b] = [p[0].get() / T::MAX, p[1].get() / T::MAX, p[2].get() / T::MAX];
            let (max, min) = (r.max(g).max(b), r.min(g).min(b));
            let range = max - min;
            if range == 0.0 {
                continue;
            }
            let h = if max == r {
                (g - b) / range
            } else if max == g {
                2.0 + (b - r) / range
            } else {
                4.0 + (r - g) / range
            };
            // Positive, so that cutting the fraction off is the remainder; `rem_euclid` calls fmod, which took half of the time.
            let turns = h / 6.0 + 1.0 + shift;
            let h = (turns - cut(turns)) * 6.0;
            // Each channel is max - range * clamp(distance from its peak - 1, 0, 1), which is the usual table of six sectors.
            let channel = |offset: f32| {
                let k = if offset + h < 6.0 { offset + h } else { offset + h - 6.0 };
                max - range * k.min(4.0 - k).clamp(0.0, 1.0)
            };
            for (x, offset) in p.iter_mut().zip([5.0, 3.0, 1.0]) {
                *x = T::put(channel(offset) * (T::MAX + 1.0 - 1e-3));
            }
        }
    }
    each!(image, |v, c| go(v, c, shift));
}

/// All channels take the gray value.
pub fn grayscale(image: &mut Image) {
    fn go<T: Value>(v: &mut [T], c: usize) {
        if c == 3 {
            for p in v.chunks_exact_mut(3) {
                let gray = T::put(luma(p));
                p.fill(gray);
            }
        }
    }
    each!(image, |v, c| go(v, c));
}

/// Inverts values of at least `threshold` (of 256 levels).
pub fn solarize(image: &mut Image, threshold: u16) {
    fn go<T: Value>(v: &mut [T], threshold: f32) {
        let t = if T::MAX > 255.0 { threshold * 257.0 } else { threshold };
        v.iter_mut().for_each(|x| {
            if x.get() >= t {
                *x = T::put(T::MAX - x.get());
            }
        });
    }
    each!(image, |v, _c| go(v, f32::from(threshold)));
}

/// Keeps the `bits` highest bits of each value (of 8).
pub fn posterize(image: &mut Image, bits: u8) {
    let drop = 8 - bits.min(8);
    match &mut image.data {
        Pixels::U8(v) => v.iter_mut().for_each(|x| *x = (u16::from(*x) >> drop << drop) as u8),
        Pixels::U16(v) => v.iter_mut().for_each(|x| *x = (u32::from(*x) >> (drop + 8) << (drop + 8)) as u16),
    }
}

/// Stretches each channel to the full range.
pub fn autocontrast(image: &mut Image) {
    fn go<T: Value>(v: &mut [T], c: usize) {
        for k in 0..c {
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for x in v.iter().skip(k).step_by(c) {
                low = low.min(x.get());
                high = high.max(x.get());
            }
            if high > low {
                let scale = T::MAX / (high - low);
                v.iter_mut().skip(k).step_by(c).for_each(|x| *x = T::put((x.get() - low) * scale));
            }
        }
    }
    each!(image, |v, c| go(v, c));
}

/// Equalises the histogram of each channel (8 bits; others stay).
pub fn equalize(image: &mut Image) {
    let c = usize::from(image.channels);
    if let Pixels::U8(v) = &mut image.data {
        for k in 0..c {
            let mut counts = [0usize; 256];
            v.iter().skip(k).step_by(c).for_each(|x| counts[usize::from(*x)] += 1);
            let last = counts.iter().rev().find(|n| **n > 0).copied().unwrap_or(0);
            let step = (counts.iter().sum::<usize>() - last) / 255;
            if step == 0 {
                continue;
            }
            let mut sum = step / 2;
            let table: Vec<u8> = counts
                .iter()
                .map(|n| {
                    let at = (sum / step).min(255) as u8;
                    sum += n;
                    at
                })
                .collect();
            v.iter_mut().skip(k).step_by(c).for_each(|x| *x = table[usize::from(*x)]);
        }
    }
}

/// Blends with a 3x3 smoothing: `factor x + (1 - factor) smooth`; the border stays.
pub fn sharpness(image: &mut Image, factor: f32) {
    let (w, h) = (image.width as usize, image.height as usize);
    if w < 3 || h < 3 {
        return;
    }
    fn go<T: Value>(v: &mut [T], c: usize, w: usize, h: usize, f: f32) {
        let old: Vec<T> = v.to_vec();
        let at = |y: usize, x: usize, k: usize| old[(y * w + x) * c + k].get();
        for y in 1..h - 1 {
            for x in 1..w - 1 {
                for k in 0..c {
                    let mut sum = 4.0 * at(y, x, k);
                    for dy in 0..3 {
                        for dx in 0..3 {
                            sum += at(y + dy - 1, x + dx - 1, k);
                        }
                    }
                    let smooth = (sum / 13.0).round();
                    v[(y * w + x) * c + k] = T::put(f * at(y, x, k) + (1.0 - f) * smooth);
                }
            }
        }
    }
    each!(image, |v, c| go(v, c, w, h, factor));
}

/// A Gaussian of standard deviation `sigma` on a kernel of `size` pixels (odd), the border reflected.
pub fn gaussian_blur(image: &mut Image, size: usize, sigma: f32) {
    let (w, h) = (image.width as usize, image.height as usize);
    let half = size / 2;
    if half == 0 || w == 0 || h == 0 {
        return;
    }
    let mut kernel: Vec<f32> = (0..=2 * half).map(|i| (-0.5 * ((i as f32 - half as f32) / sigma).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    // Weights too small to change a level cost time only.
    let cut = kernel.iter().position(|k| *k > 1e-5).unwrap_or(half);
    let kernel = &kernel[cut..kernel.len() - cut];
    fn go<T: Value>(v: &mut [T], c: usize, w: usize, h: usize, kernel: &[f32]) {
        let half = kernel.len() / 2;
        let row = w * c;
        let mut rows = vec![0f32; h * row];
        let mut padded = vec![0f32; (w + 2 * half) * c];
        for y in 0..h {
            for x in 0..w + 2 * half {
                let from = reflect(x as i64 - half as i64, w);
                for k in 0..c {
                    padded[x * c + k] = v[y * row + from * c + k].get();
                }
            }
            let out = &mut rows[y * row..(y + 1) * row];
            for (t, weight) in kernel.iter().enumerate() {
                for (o, i) in out.iter_mut().zip(&padded[t * c..t * c + row]) {
                    *o += weight * i;
                }
            }
        }
        let mut acc = vec![0f32; row];
        for y in 0..h {
            acc.fill(0.5); // rounded, not truncated
            for (t, weight) in kernel.iter().enumerate() {
                let from = reflect(y as i64 + t as i64 - half as i64, h);
                for (o, i) in acc.iter_mut().zip(&rows[from * row..(from + 1) * row]) {
                    *o += weight * i;
                }
            }
            for (x, o) in v[y * row..(y + 1) * row].iter_mut().zip(&acc) {
                *x = T::put(*o);
            }
        }
    }
    each!(image, |v, c| go(v, c, w, h, kernel));
}

/// Index `i` of a line of `n` reflected at its first and last value, as often as needed.
fn reflect(i: i64, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as i64 - 1);
    let i = i.rem_euclid(period);
    (if i < n as i64 { i } else { period - i }) as usize
}

/// An affine map of the plane about the centre, given as output to input: `(x, y) -> (a x + b y + c, d x + e y + f)`. Zeros outside.
///
/// # Errors
/// Never for an image that [`Image::new`] made.
pub fn affine(image: &Image, map: [f32; 6], bilinear: bool) -> Result<Image> {
    fn go<T: Value + Default>(v: &[T], c: usize, w: usize, h: usize, m: [f32; 6], bilinear: bool) -> Vec<T> {
        let mut out = vec![T::default(); v.len()];
        let (cx, cy) = ((w as f32 - 1.0) / 2.0, (h as f32 - 1.0) / 2.0);
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            let (x, y) = ((i % w) as f32 - cx, (i / w) as f32 - cy);
            let (sx, sy) = (m[0] * x + m[1] * y + m[2] + cx, m[3] * x + m[4] * y + m[5] + cy);
            let at = |yy: i64, xx: i64, k: usize| {
                if xx >= 0 && yy >= 0 && xx < w as i64 && yy < h as i64 { v[(yy as usize * w + xx as usize) * c + k].get() } else { 0.0 }
            };
            if bilinear {
                let (x0, y0) = (sx.floor(), sy.floor());
                let (tx, ty) = (sx - x0, sy - y0);
                let (x0, y0) = (x0 as i64, y0 as i64);
                for (k, p) in pixel.iter_mut().enumerate() {
                    let top = at(y0, x0, k) * (1.0 - tx) + at(y0, x0 + 1, k) * tx;
                    let bottom = at(y0 + 1, x0, k) * (1.0 - tx) + at(y0 + 1, x0 + 1, k) * tx;
                    *p = T::put(top * (1.0 - ty) + bottom * ty + 0.5);
                }
            } else {
                let (x0, y0) = (sx.round_ties_even() as i64, sy.round_ties_even() as i64);
                for (k, p) in pixel.iter_mut().enumerate() {
                    *p = T::put(at(y0, x0, k));
                }
            }
        }
        out
    }
    let (c, w, h) = (usize::from(image.channels), image.width as usize, image.height as usize);
    let data = match &image.data {
        Pixels::U8(v) => Pixels::U8(go(v, c, w, h, map, bilinear)),
        Pixels::U16(v) => Pixels::U16(go(v, c, w, h, map, bilinear)),
    };
    Image::new(image.width, image.height, image.channels, data)
}

/// Turns the image counter-clockwise by `degrees` about its centre; the size stays, zeros come in.
///
/// # Errors
/// Never for an image that [`Image::new`] made.
pub fn rotate(image: &Image, degrees: f32, bilinear: bool) -> Result<Image> {
    let (s, c) = degrees.to_radians().sin_cos();
    affine(image, [c, -s, 0.0, s, c, 0.0], bilinear)
}
