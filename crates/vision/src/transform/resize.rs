//! Resizing, antialiased as PIL's is.

use crate::image::{Image, Pixels};
use fast_image_resize::images::Image as Buffer;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use selfsup_core::{Error, Result};

/// How values between pixels are found when resizing; both are antialiased, as PIL's are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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
    resized_part(image, rect, Part::default(), height, width, filter)
}

/// What of a rectangle is wanted: where it begins along an axis and its length, in pixels and parts of them;
/// all of it where nothing is said. Pixels beside it do shine in.
#[derive(Clone, Copy, Default)]
struct Part {
    x: Option<(f64, f64)>,
    y: Option<(f64, f64)>,
}

/// As [`resized_crop`], of a part of the rectangle.
fn resized_part(
    image: &Image,
    rect: Rect,
    part: Part,
    height: u32,
    width: u32,
    filter: Filter,
) -> Result<Image> {
    let wrong = |e: &dyn std::fmt::Display| {
        Error::input("crop", format!("{rect:?} of {} x {}: {e}", image.width, image.height))
    };
    let (top, left, h, w) =
        (rect.top as usize, rect.left as usize, rect.height as usize, rect.width as usize);
    let c = usize::from(image.channels);
    let row = image.width as usize * c;
    if h == 0 || w == 0 || left + w > image.width as usize || top + h > image.height as usize {
        return Err(wrong(&"expected a rectangle inside the image"));
    }
    fn cut<T: Copy>(
        v: &[T],
        row: usize,
        lines: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Vec<T> {
        let mut out = Vec::with_capacity(lines.len() * columns.len());
        for y in lines {
            out.extend_from_slice(&v[y * row + columns.start..y * row + columns.end]);
        }
        out
    }
    let columns = left * c..(left + w) * c;
    let whole = (h, w) == (image.height as usize, image.width as usize);
    let (bytes, kind) = match &image.data {
        Pixels::U8(v) if whole => {
            (std::borrow::Cow::Borrowed(v.as_slice()), if c == 1 { PixelType::U8 } else { PixelType::U8x3 })
        }
        Pixels::U8(v) => {
            (cut(v, row, top..top + h, columns).into(), if c == 1 { PixelType::U8 } else { PixelType::U8x3 })
        }
        Pixels::U16(v) => {
            let bytes: Vec<u8> =
                cut(v, row, top..top + h, columns).iter().flat_map(|x| x.to_ne_bytes()).collect();
            (bytes.into(), if c == 1 { PixelType::U16 } else { PixelType::U16x3 })
        }
    };
    let alg = ResizeAlg::Convolution(match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
    });
    let options = ResizeOptions::new().resize_alg(alg).use_alpha(false);
    let run = |bytes: &[u8], from: (u32, u32), to: (u32, u32), part: Part| -> Result<Vec<u8>> {
        let mut out = Buffer::new(to.0, to.1, kind);
        let source =
            fast_image_resize::images::ImageRef::new(from.0, from.1, bytes, kind).map_err(|e| wrong(&e))?;
        let options = match part {
            Part { x: None, y: None } => options,
            Part { x, y } => {
                let (left, columns) = x.unwrap_or((0.0, from.0.into()));
                let (top, rows) = y.unwrap_or((0.0, from.1.into()));
                options.crop(left, top, columns, rows)
            }
        };
        RESIZER.with(|r| r.borrow_mut().resize(&source, &mut out, &options)).map_err(|e| wrong(&e))?;
        Ok(out.into_vec())
    };
    let from = (w as u32, h as u32);
    let made = match filter {
        Filter::Bilinear => run(&bytes, from, (width, height), part)?,
        // Overshoots are clamped between the passes, so their order shows: along the rows first, as PIL.
        Filter::Bicubic => {
            let rows = run(&bytes, from, (width, from.1), Part { y: None, ..part })?;
            run(&rows, (width, from.1), (width, height), Part { x: None, ..part })?
        }
    };
    let data = match image.data {
        Pixels::U8(_) => Pixels::U8(made),
        Pixels::U16(_) => {
            Pixels::U16(made.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect())
        }
    };
    Image::new(width, height, image.channels, data)
}

/// Of a resized image, at most this many times the shorter side is made of the longer one. Odd, so that what
/// is left out at both ends has the centre where it was.
const LONGEST: u64 = 5;

/// Resizes so that the shorter side has `size` pixels. Of an image that is more than five times as long as
/// wide, the middle of `5 size` pixels: a strip of 300,000 x 1 pixels would become 45 GB.
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
    let (long, wanted) = (nw.max(nh), LONGEST * s);
    if long <= wanted {
        return resized_crop(image, Rect::whole(image), nh as u32, nw as u32, filter);
    }
    // The middle of the result lies in `length` pixels of the longer side from `from` on.
    let full = w.max(h);
    let scale = full as f64 / long as f64;
    let from = ((long - wanted) as f64 / 2.0).round_ties_even() * scale;
    let length = wanted as f64 * scale;
    // Those and what the filter reaches beside them are cut out.
    let reach = 2.0 * scale.max(1.0) + 2.0;
    let first = (from - reach).floor().max(0.0);
    let last = (from + length + reach).ceil().min(full as f64);
    let along = Some((from - first, length));
    let whole = Rect::whole(image);
    if w >= h {
        let (rect, part) = (Rect { left: first, width: last - first, ..whole }, Part { x: along, y: None });
        resized_part(image, rect, part, nh as u32, wanted as u32, filter)
    } else {
        let (rect, part) = (Rect { top: first, height: last - first, ..whole }, Part { x: None, y: along });
        resized_part(image, rect, part, wanted as u32, nw as u32, filter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ops::center_crop;
    use super::*;

    fn picture(width: u32, height: u32, deep: bool) -> Image {
        let value = |i: u32| i.wrapping_mul(2_654_435_761) >> 16;
        let n = width * height * 3;
        let data = if deep {
            Pixels::U16((0..n).map(|i| value(i) as u16).collect())
        } else {
            Pixels::U8((0..n).map(|i| value(i) as u8).collect())
        };
        Image::new(width, height, 3, data).unwrap()
    }

    /// The middle of a long image has the pixels that the middle of the whole has.
    #[test]
    fn the_middle_of_a_long_image() {
        for (w, h, size) in [(640, 10, 16), (9, 500, 7), (333, 20, 33), (20, 801, 8), (4000, 3, 1)] {
            for (deep, filter) in
                [(false, Filter::Bilinear), (true, Filter::Bilinear), (false, Filter::Bicubic)]
            {
                let image = picture(w, h, deep);
                let (s, long) = (size, u64::from(size) * u64::from(w.max(h)));
                let long = (long / u64::from(w.min(h))) as u32;
                let (nw, nh) = if w > h { (long, s) } else { (s, long) };
                let whole = resized_crop(&image, Rect::whole(&image), nh, nw, filter).unwrap();
                let middle = resize_shorter(&image, size, filter).unwrap();
                assert_eq!(middle.width.max(middle.height), 5 * size);
                let (a, b) = (center_crop(&whole, size).unwrap(), center_crop(&middle, size).unwrap());
                let far = match (&a.data, &b.data) {
                    (Pixels::U8(a), Pixels::U8(b)) => {
                        a.iter().zip(b).map(|(a, b)| a.abs_diff(*b).into()).max()
                    }
                    (Pixels::U16(a), Pixels::U16(b)) => a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max(),
                    _ => None,
                };
                assert!(far.unwrap() <= 1, "{w} x {h} to {size}, {filter:?}: {far:?}");
            }
        }
    }

    /// Whole, these would be 224 x 67,200,000 pixels.
    #[test]
    fn strips() {
        for (w, h) in [(300_000, 1), (1, 300_000)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let made = resize_shorter(&picture(w, h, false), 224, filter).unwrap();
                assert_eq!(made.width.min(made.height), 224);
                assert_eq!(made.width.max(made.height), 5 * 224);
            }
        }
    }
}
