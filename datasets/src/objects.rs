//! The annotated objects of an image, whatever file they come from.

use selfsup_core::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// A box may stick out of its image by this many pixels, and is cut: annotations are rounded.
const TOLERATED: f64 = 1.0;

/// What the numbers of boxes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Pixels.
    Pixels,
    /// Shares of the image's width and height.
    Shares,
}

/// A category as its file knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// Its number in the file.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// An object of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boxed {
    /// Its class, an index into the classes of its set.
    pub category: u32,
    /// Left, top, width, height.
    pub bbox: [f64; 4],
    /// Square pixels of its mask, where the file says them.
    pub area: Option<f64>,
    /// Whether detections of it are neither right nor wrong: a crowd in one box, or a difficult object.
    pub crowd: bool,
    /// Where the file says so: the id of an annotation, a line, the number of an object.
    pub place: i64,
}

/// The objects of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The file that says so.
    pub file: Arc<PathBuf>,
    /// What [`Boxed::place`] counts: `annotation`, `line`, `object`.
    pub place: &'static str,
    /// Width and height of the image, where the file says them.
    pub size: Option<[u32; 2]>,
    /// What the numbers of the boxes are.
    pub unit: Unit,
    /// The objects.
    pub boxes: Vec<Boxed>,
    /// The number of the image in its file.
    pub image_id: Option<i64>,
    /// All categories of the file, in the order of the classes.
    pub categories: Arc<Vec<Category>>,
}

impl Objects {
    /// The same in pixels of an image of this `width` and `height`, with every box inside it.
    ///
    /// # Errors
    /// If the file states another size, a number is not finite, a width or height is not above 0, or a box
    /// lies outside the image; the message names the file and the place in it.
    pub fn in_pixels(mut self, width: u32, height: u32) -> Result<Self> {
        if let Some(stated) = self.size.filter(|s| *s != [width, height]) {
            return Err(Error::file(
                &*self.file,
                format_args!(
                    "states an image of {} x {} pixels, and it has {width} x {height}",
                    stated[0], stated[1]
                ),
            ));
        }
        let sides = [f64::from(width), f64::from(height)];
        for b in &mut self.boxes {
            let wrong = |problem: &str| {
                let at = format!("{} {}: box {:?}", self.place, b.place, b.bbox);
                Error::file(&*self.file, format!("{at}: {problem}"))
            };
            if b.bbox.iter().any(|v| !v.is_finite()) || b.area.is_some_and(|a| !a.is_finite()) {
                return Err(wrong("expected finite numbers"));
            }
            if !(b.bbox[2] > 0.0 && b.bbox[3] > 0.0) {
                return Err(wrong("expected a width and a height above 0"));
            }
            let mut made = b.bbox;
            for k in 0..2 {
                let unit = if self.unit == Unit::Shares { sides[k] } else { 1.0 };
                let (low, high) = (b.bbox[k] * unit, (b.bbox[k] + b.bbox[k + 2]) * unit);
                if low < -TOLERATED || high > sides[k] + TOLERATED {
                    return Err(wrong(&format!("is outside the image of {width} x {height} pixels")));
                }
                let (low, high) = (low.max(0.0), high.min(sides[k]));
                if high <= low {
                    return Err(wrong(&format!("is outside the image of {width} x {height} pixels")));
                }
                (made[k], made[k + 2]) = (low, high - low);
            }
            b.bbox = made;
        }
        (self.unit, self.size) = (Unit::Pixels, Some([width, height]));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(unit: Unit, bbox: [f64; 4]) -> Objects {
        let one = Boxed { category: 0, bbox, area: None, crowd: false, place: 7 };
        Objects {
            file: Arc::new("boxes.txt".into()),
            place: "line",
            size: None,
            unit,
            boxes: vec![one],
            image_id: None,
            categories: Arc::default(),
        }
    }

    #[test]
    fn shares_become_pixels() {
        let made = objects(Unit::Shares, [0.25, 0.5, 0.5, 0.5]).in_pixels(200, 100).unwrap();
        assert_eq!((made.boxes[0].bbox, made.unit), ([50.0, 50.0, 100.0, 50.0], Unit::Pixels));
        // A pixel over the edge is cut.
        let made = objects(Unit::Pixels, [-0.5, 0.0, 201.0, 100.0]).in_pixels(200, 100).unwrap();
        assert_eq!(made.boxes[0].bbox, [0.0, 0.0, 200.0, 100.0]);
    }

    #[test]
    fn boxes_that_cannot_be() {
        for (bbox, part) in [
            ([0.0, 0.0, -3.0, 4.0], "above 0"),
            ([0.0, 0.0, 0.0, 4.0], "above 0"),
            ([f64::NAN, 0.0, 1.0, 4.0], "finite"),
            ([190.0, 0.0, 30.0, 4.0], "outside the image of 200 x 100"),
            ([-1.0, 0.0, 0.5, 4.0], "outside the image"),
        ] {
            let e = objects(Unit::Pixels, bbox).in_pixels(200, 100).unwrap_err().to_string();
            assert!(e.contains("boxes.txt") && e.contains("line 7") && e.contains(part), "{e}");
        }
        let stated = Objects { size: Some([100, 200]), ..objects(Unit::Pixels, [0.0, 0.0, 1.0, 1.0]) };
        let e = stated.in_pixels(200, 100).unwrap_err().to_string();
        assert!(e.contains("100 x 200") && e.contains("200 x 100"), "{e}");
    }
}
