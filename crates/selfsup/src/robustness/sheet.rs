//! One sample under every corruption, on one sheet: a row for each kind, clean on the left, then the
//! severities.

use crate::modality::Looks;
use selfsup_core::{Error, Result};

/// Pixels of a small picture's longer side on the sheet, at least, and between pictures.
const SIDE: usize = 96;
const GAP: usize = 4;

/// A sheet of three bytes a pixel.
pub struct Sheet {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` values.
    pub rgb: Vec<u8>,
}

/// The pictures of `rows` on one sheet; small ones are enlarged by a whole factor. Pictures may differ in
/// width (a recording at another speed).
///
/// # Errors
/// If there is none, or one is a text.
pub fn sheet(rows: &[Vec<Looks>]) -> Result<Sheet> {
    let none = || Error::input("preview", "there is no picture");
    let sizes = rows.iter().flatten().map(|look| match look {
        Looks::Picture { width, height, .. } => Ok((*width, *height)),
        Looks::Text(_) => Err(Error::input("preview", "a text is no picture")),
    });
    let sizes = sizes.collect::<Result<Vec<(usize, usize)>>>()?;
    let (w, h) = sizes.iter().fold((0, 0), |(w, h), s| (w.max(s.0), h.max(s.1)));
    if w == 0 || h == 0 {
        return Err(none());
    }
    let zoom = SIDE.div_ceil(w.max(h)).max(1);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (cell_w, cell_h) = (w * zoom + GAP, h * zoom + GAP);
    let (width, height) = (columns * cell_w + GAP, rows.len() * cell_h + GAP);
    let mut out = vec![255; width * height * 3];
    for (r, row) in rows.iter().enumerate() {
        for (c, look) in row.iter().enumerate() {
            let Looks::Picture { width: w, height: h, rgb } = look else { continue };
            for y in 0..h * zoom {
                for x in 0..w * zoom {
                    let from = (y / zoom * w + x / zoom) * 3;
                    let to = ((GAP + r * cell_h + y) * width + GAP + c * cell_w + x) * 3;
                    out[to..to + 3].copy_from_slice(&rgb[from..from + 3]);
                }
            }
        }
    }
    Ok(Sheet { width, height, rgb: out })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows() {
        let flat = |width: usize, v: u8| Looks::Picture { width, height: 30, rgb: vec![v; width * 30 * 3] };
        let made = sheet(&[vec![flat(40, 10), flat(40, 20)], vec![flat(40, 10), flat(20, 30)]]).unwrap();
        // Enlarged threefold.
        assert_eq!((made.width, made.height), (2 * 124 + 4, 2 * 94 + 4));
        let pixel = |x: usize, y: usize| made.rgb[(y * made.width + x) * 3];
        assert_eq!((pixel(0, 0), pixel(4, 4), pixel(128, 4), pixel(123, 93)), (255, 10, 20, 10));
        assert_eq!((pixel(128, 98), pixel(187, 98), pixel(188, 98)), (30, 30, 255), "a narrow one");
        assert!(sheet(&[]).is_err() && sheet(&[vec![Looks::Text("a".into())]]).is_err());
    }
}
