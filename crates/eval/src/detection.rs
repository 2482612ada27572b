//! Average precision and recall of detected boxes, as COCO measures them (Lin et al. 2014, arXiv 1405.0312;
//! the definition is that of pycocotools).
//!
//! Detections of a category and image are matched to objects in the order of their scores: each takes the
//! free object of the largest overlap at or above a threshold. Objects that do not count (crowds, and those
//! whose area is outside the measured range) may be matched where no other is, a crowd any number of times;
//! such a detection is neither right nor wrong, and so is an unmatched one whose own area is outside the
//! range. Precision is made monotone from the right, read at 101 recalls, and averaged over recalls,
//! categories and thresholds.

use rayon::prelude::*;
use selfsup_core::{Error, Result};

/// Overlaps from which a match counts: 0.50, 0.55, ... 0.95.
pub const OVERLAPS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// Numbers of detections of an image and category that recall is measured with.
pub const MOST: [usize; 3] = [1, 10, 100];
/// Recalls at which precision is read.
const RECALLS: usize = 101;
/// Areas in square pixels, both ends within: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// An annotated object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Its image, counted from 0.
    pub image: usize,
    /// Its category, counted from 0.
    pub category: usize,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// Square pixels: of its mask where that is known, else of its box.
    pub area: f64,
    /// A group of objects in one box: detections inside it are not wrong.
    pub crowd: bool,
}

/// A detected box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Its image, counted from 0.
    pub image: usize,
    /// Its category, counted from 0.
    pub category: usize,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// Larger is surer.
    pub score: f64,
}

/// What COCO reports, in `[0, 1]`. `None` where no object of the range is there.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CocoMeasures {
    /// Average precision, mean over the overlaps 0.50 to 0.95.
    pub ap: Option<f64>,
    /// At an overlap of 0.50.
    pub ap50: Option<f64>,
    /// At an overlap of 0.75.
    pub ap75: Option<f64>,
    /// Of objects of at most 32 x 32, up to 96 x 96, and larger ones.
    pub ap_of_area: [Option<f64>; 3],
    /// Average recall with at most 1, 10 and 100 detections an image and category.
    pub ar: [Option<f64>; 3],
    /// Average recall with 100 detections by area, as `ap_of_area`.
    pub ar_of_area: [Option<f64>; 3],
    /// Average precision of each category.
    pub ap_of_category: Vec<Option<f64>>,
    /// Average precision at each of [`OVERLAPS`].
    pub ap_of_overlap: Vec<Option<f64>>,
}

impl CocoMeasures {
    /// The twelve numbers in COCO's order: AP, AP50, AP75, AP small, medium, large, AR 1, 10, 100, AR small,
    /// medium, large.
    pub fn summary(&self) -> [Option<f64>; 12] {
        let [a, b, c] = self.ap_of_area;
        let [d, e, f] = self.ar;
        let [g, h, i] = self.ar_of_area;
        [self.ap, self.ap50, self.ap75, a, b, c, d, e, f, g, h, i]
    }
}

/// Intersection over union of two boxes (left, top, width, height); 0 where both are empty. Of a `crowd` that
/// is `b`: intersection over the area of `a`.
pub fn box_iou(a: &[f64; 4], b: &[f64; 4], crowd: bool) -> f64 {
    let side = |k: usize| ((a[k] + a[k + 2]).min(b[k] + b[k + 2]) - a[k].max(b[k])).max(0.0);
    let (both, area) = (side(0) * side(1), a[2] * a[3]);
    let whole = if crowd { area } else { area + b[2] * b[3] - both };
    if both > 0.0 && whole > 0.0 { both / whole } else { 0.0 }
}

/// What a detection turned out to be.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Right,
    Wrong,
    Ignored,
}

/// Detections of one image and category, surest first, at each overlap.
struct Matched {
    scores: Vec<f64>,
    fates: Vec<[Fate; OVERLAPS.len()]>,
    /// Objects that count.
    objects: usize,
}

/// Precision at each recall and the largest recall, at each overlap; `None` where no object counts.
type Curve = Option<([[f64; RECALLS]; OVERLAPS.len()], [f64; OVERLAPS.len()])>;

/// Measures `detections` against `objects`, whose images and categories are below `images` and `categories`.
///
/// Equal scores keep their order: the lower image first, then that of `detections`.
///
/// # Errors
/// Naming the box whose image or category does not exist, or whose numbers are not finite or negative.
pub fn coco(
    objects: &[Object],
    detections: &[Detection],
    images: usize,
    categories: usize,
) -> Result<CocoMeasures> {
    let known = |what: &str, i: usize, image: usize, category: usize, bbox: &[f64; 4], number: f64| {
        let sound = bbox.iter().all(|v| v.is_finite()) && bbox[2] >= 0.0 && bbox[3] >= 0.0;
        if image < images && category < categories && sound && number.is_finite() {
            return Ok(());
        }
        Err(Error::input(
            format_args!("{what} {i}"),
            format_args!(
                "image {image}, category {category}, box {bbox:?}, {number}: expected an image below \
                 {images}, a category below {categories}, a width and a height of at least 0 and finite \
                 numbers"
            ),
        ))
    };
    let mut of = vec![(Vec::<&Object>::new(), Vec::<&Detection>::new()); images * categories];
    for (i, o) in objects.iter().enumerate() {
        known("object", i, o.image, o.category, &o.bbox, o.area)?;
        of[o.category * images + o.image].0.push(o);
    }
    for (i, d) in detections.iter().enumerate() {
        known("detection", i, d.image, d.category, &d.bbox, d.score)?;
        of[d.category * images + d.image].1.push(d);
    }
    let most = MOST[MOST.len() - 1];
    for (_, found) in &mut of {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(most);
    }
    // Of each area the curve of each category; of all areas also with fewer detections.
    let curves = |area: usize, most: usize| -> Vec<Curve> {
        let one = |c: usize| {
            let of = &of[c * images..(c + 1) * images];
            curve(&of.iter().map(|(o, d)| matched(o, d, AREAS[area])).collect::<Vec<_>>(), most)
        };
        (0..categories).into_par_iter().map(one).collect()
    };
    let all = curves(0, most);
    let areas = [1, 2, 3].map(|area| curves(area, most));
    let at = |t: usize| precision(&all, t..t + 1);
    let whole = 0..OVERLAPS.len();
    Ok(CocoMeasures {
        ap: precision(&all, whole.clone()),
        ap50: at(0),
        ap75: at(5),
        ap_of_area: [0, 1, 2].map(|i| precision(&areas[i], whole.clone())),
        ar: MOST.map(|n| if n == most { recall(&all) } else { recall(&curves(0, n)) }),
        ar_of_area: [0, 1, 2].map(|i| recall(&areas[i])),
        ap_of_category: all.chunks(1).map(|one| precision(one, whole.clone())).collect(),
        ap_of_overlap: whole.clone().map(at).collect(),
    })
}

/// Matches the detections of one image and category, surest first, to its objects.
fn matched(objects: &[&Object], detections: &[&Detection], area: [f64; 2]) -> Matched {
    let outside = |v: f64| v < area[0] || v > area[1];
    // Objects that count stand in front.
    let mut objects: Vec<(&Object, bool)> =
        objects.iter().map(|o| (*o, o.crowd || outside(o.area))).collect();
    objects.sort_by_key(|(_, ignored)| *ignored);
    let overlaps: Vec<Vec<f64>> = detections
        .iter()
        .map(|d| objects.iter().map(|(o, _)| box_iou(&d.bbox, &o.bbox, o.crowd)).collect())
        .collect();
    let mut fates = vec![[Fate::Wrong; OVERLAPS.len()]; detections.len()];
    for (t, least) in OVERLAPS.iter().enumerate() {
        let mut taken = vec![false; objects.len()];
        for (d, detection) in detections.iter().enumerate() {
            let mut best = least.min(1.0 - 1e-10);
            let mut found: Option<usize> = None;
            for (g, &(object, ignored)) in objects.iter().enumerate() {
                if taken[g] && !object.crowd {
                    continue;
                }
                // An object that counts is not given up for one that does not.
                if ignored && found.is_some_and(|f| !objects[f].1) {
                    break;
                }
                if overlaps[d][g] >= best {
                    best = overlaps[d][g];
                    found = Some(g);
                }
            }
            fates[d][t] = match found {
                Some(g) => {
                    taken[g] = true;
                    if objects[g].1 { Fate::Ignored } else { Fate::Right }
                }
                None if outside(detection.bbox[2] * detection.bbox[3]) => Fate::Ignored,
                None => Fate::Wrong,
            };
        }
    }
    let counted = objects.iter().filter(|(_, ignored)| !ignored).count();
    Matched { scores: detections.iter().map(|d| d.score).collect(), fates, objects: counted }
}

/// The curve of a category over its images, with at most so many detections of each.
fn curve(images: &[Matched], most: usize) -> Curve {
    let objects: usize = images.iter().map(|m| m.objects).sum();
    if objects == 0 {
        return None;
    }
    let each = |m: &'_ Matched| m.scores.iter().copied().zip(m.fates.clone()).take(most).collect::<Vec<_>>();
    let mut found: Vec<(f64, [Fate; OVERLAPS.len()])> = images.iter().flat_map(each).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut precision, mut recall) = ([[0.0; RECALLS]; OVERLAPS.len()], [0.0; OVERLAPS.len()]);
    for t in 0..OVERLAPS.len() {
        let (mut right, mut wrong) = (0u64, 0u64);
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(found.len());
        for (_, fates) in &found {
            match fates[t] {
                Fate::Right => right += 1,
                Fate::Wrong => wrong += 1,
                Fate::Ignored => {}
            }
            let precision = right as f64 / ((right + wrong) as f64).max(f64::EPSILON);
            points.push((right as f64 / objects as f64, precision));
        }
        recall[t] = points.last().map_or(0.0, |p| p.0);
        for i in (1..points.len()).rev() {
            points[i - 1].1 = points[i - 1].1.max(points[i].1);
        }
        for (r, out) in precision[t].iter_mut().enumerate() {
            let wanted = r as f64 / (RECALLS - 1) as f64;
            let first = points.partition_point(|p| p.0 < wanted);
            *out = points.get(first).map_or(0.0, |p| p.1);
        }
    }
    Some((precision, recall))
}

/// Mean of numbers; `None` of none.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn precision(curves: &[Curve], overlaps: std::ops::Range<usize>) -> Option<f64> {
    mean(curves.iter().flatten().flat_map(|(p, _)| p[overlaps.clone()].iter().flatten().copied()))
}

fn recall(curves: &[Curve]) -> Option<f64> {
    mean(curves.iter().flatten().flat_map(|(_, r)| r.iter().copied()))
}

#[cfg(test)]
#[path = "detection_tests.rs"]
mod tests;
