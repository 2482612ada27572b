//! Single operations on decoded images, with torchvision's semantics.
//!
//! Photometric operations compute in f32 and truncate, as torchvision does for integers; their loops are
//! those of [`selfsup_core::kernels::pixels`].

pub use super::resize::{Filter, Rect, resize_shorter, resized_crop};
use crate::image::{Image, Pixels};
use selfsup_core::Result;
use selfsup_core::kernels::pixels::Depth;

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
        (sy >= 0 && sx >= 0 && sy < i64::from(image.height) && sx < i64::from(image.width))
            .then_some((sy as usize, sx as usize))
    })
}

/// Mirrors left and right.
///
/// # Errors
/// Never for an image that [`Image::new`] made.
pub fn horizontal_flip(image: &Image) -> Result<Image> {
    fn go<T: Copy, const C: usize>(v: &[T], w: usize) -> Vec<T> {
        let mut out = v.to_vec();
        for (out, row) in out.chunks_exact_mut(w * C).zip(v.chunks_exact(w * C)) {
            for (o, i) in out.chunks_exact_mut(C).zip(row.chunks_exact(C).rev()) {
                o.copy_from_slice(i);
            }
        }
        out
    }
    let w = image.width as usize;
    let data = match (&image.data, image.channels) {
        (Pixels::U8(v), 1) => Pixels::U8(go::<_, 1>(v, w)),
        (Pixels::U8(v), _) => Pixels::U8(go::<_, 3>(v, w)),
        (Pixels::U16(v), 1) => Pixels::U16(go::<_, 1>(v, w)),
        (Pixels::U16(v), _) => Pixels::U16(go::<_, 3>(v, w)),
    };
    Image::new(image.width, image.height, image.channels, data)
}

/// An image whose pixel `(y, x)` is that of `from(y, x)`, or 0.
fn map_pixels(
    image: &Image,
    height: u32,
    width: u32,
    from: impl Fn(usize, usize) -> Option<(usize, usize)>,
) -> Result<Image> {
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

/// Multiplies all values by `factor`.
pub fn brightness(image: &mut Image, factor: f32) {
    each!(image, |v, _c| Depth::scale(v, factor, 0.0));
}

/// Moves all values away from the mean gray: `factor x + (1 - factor) mean`.
pub fn contrast(image: &mut Image, factor: f32) {
    each!(image, |v, c| {
        let sum = if c == 3 { Depth::sum_gray(v) } else { Depth::sum(v) };
        let mean = sum as f64 / (if c == 3 { v.len() / 3 } else { v.len() }).max(1) as f64;
        Depth::scale(v, factor, (1.0 - factor) * mean as f32);
    });
}

/// Moves each pixel away from its gray: `factor x + (1 - factor) gray`. Gray images stay.
pub fn saturation(image: &mut Image, factor: f32) {
    each!(image, |v, c| if c == 3 {
        Depth::saturate(v, factor);
    });
}

/// Turns the hue by `shift` turns, -0.5 to 0.5. Gray images stay.
pub fn hue(image: &mut Image, shift: f32) {
    each!(image, |v, c| if c == 3 {
        Depth::turn_hue(v, shift);
    });
}

/// All channels take the gray value.
pub fn grayscale(image: &mut Image) {
    each!(image, |v, c| if c == 3 {
        Depth::gray(v);
    });
}

/// Inverts values of at least `threshold` (of 256 levels).
pub fn solarize(image: &mut Image, threshold: u16) {
    fn go<T: Depth>(v: &mut [T], threshold: f32) {
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
    fn go<T: Depth>(v: &mut [T], c: usize) {
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
    fn go<T: Depth>(v: &mut [T], c: usize, w: usize, h: usize, f: f32) {
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
    let mut kernel: Vec<f32> =
        (0..=2 * half).map(|i| (-0.5 * ((i as f32 - half as f32) / sigma).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    // Weights too small to change a level cost time only.
    let cut = kernel.iter().position(|k| *k > 1e-5).unwrap_or(half);
    let kernel = &kernel[cut..kernel.len() - cut];
    each!(image, |v, c| Depth::blur(v, c, w, kernel));
}

/// An affine map of the plane about the centre, given as output to input: `(x, y) -> (a x + b y + c, d x + e
/// y + f)`. Zeros outside.
///
/// # Errors
/// Never for an image that [`Image::new`] made.
pub fn affine(image: &Image, map: [f32; 6], bilinear: bool) -> Result<Image> {
    fn go<T: Depth + Default>(v: &[T], c: usize, w: usize, h: usize, m: [f32; 6], bilinear: bool) -> Vec<T> {
        let mut out = vec![T::default(); v.len()];
        let (cx, cy) = ((w as f32 - 1.0) / 2.0, (h as f32 - 1.0) / 2.0);
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            let (x, y) = ((i % w) as f32 - cx, (i / w) as f32 - cy);
            let (sx, sy) = (m[0] * x + m[1] * y + m[2] + cx, m[3] * x + m[4] * y + m[5] + cy);
            let at = |yy: i64, xx: i64, k: usize| {
                if xx >= 0 && yy >= 0 && xx < w as i64 && yy < h as i64 {
                    v[(yy as usize * w + xx as usize) * c + k].get()
                } else {
                    0.0
                }
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
