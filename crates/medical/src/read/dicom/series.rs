//! From slices in any order to a volume, or the reason why they are none.

use super::header::Header;
use crate::grid::{Stored, cross, dot, norm};
use selfsup_core::{Error, Result};

/// One slice of the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    /// Which file.
    pub(super) file: usize,
    /// Which frame of it.
    pub(super) frame: u32,
    /// Slope and intercept.
    pub(super) scale: (f64, f64),
}

/// A slice and its place.
struct Placed {
    slice: Slice,
    name: String,
    position: [f64; 3],
    orientation: [f64; 6],
    spacing: [f64; 2],
    along: f64,
    digits: i32,
}

/// Directions are rounded to six digits in files, and scanners round more coarsely.
const SAME_DIRECTION: f64 = 1e-3;
/// Share of the slice spacing by which gaps may differ.
const SAME_GAP: f64 = 0.02;
/// Share of the slice spacing by which gaps may differ where positions are rounded coarsely: more, and a
/// missing slice would pass for rounding.
const ROUNDED_GAP: f64 = 0.25;
/// Share of the slices' distance by which a tilted gantry may shift them: 45 degrees.
const TILT: f64 = 1.0;

/// Sorts the slices of `headers` along their normal; the volume's axes `(i, j, k)` are (column, row, slice).
///
/// # Errors
/// If a slice lacks its place, or they do not lie one behind the other at equal distances.
pub(super) fn arrange(id: &str, headers: &[Header]) -> Result<(Vec<Slice>, Stored)> {
    let first = headers.first().ok_or_else(|| Error::input(id, "no files"))?;
    let mut placed = Vec::new();
    for (file, h) in headers.iter().enumerate() {
        if (h.rows, h.columns) != (first.rows, first.columns) {
            return Err(Error::input(
                id,
                format!(
                    "mixed sizes: {} has {} x {} pixels, {} has {} x {}",
                    h.name(),
                    h.rows,
                    h.columns,
                    first.name(),
                    first.rows,
                    first.columns
                ),
            ));
        }
        for (frame, plane) in h.planes.iter().enumerate() {
            let name = if h.planes.len() > 1 { format!("{} frame {frame}", h.name()) } else { h.name() };
            let lacks = |what: &str| {
                Error::input(id, format!("{name} lacks {what}: where its slice lies is not guessed"))
            };
            placed.push(Placed {
                slice: Slice { file, frame: frame as u32, scale: plane.scale },
                position: plane.position.ok_or_else(|| lacks("ImagePositionPatient (0020,0032)"))?,
                orientation: plane.orientation.ok_or_else(|| lacks("ImageOrientationPatient (0020,0037)"))?,
                spacing: plane.spacing.ok_or_else(|| lacks("PixelSpacing (0028,0030)"))?,
                along: 0.0,
                digits: plane.digits,
                name,
            });
        }
    }
    let o = &placed[0];
    let (row, column) = (
        [o.orientation[0], o.orientation[1], o.orientation[2]],
        [o.orientation[3], o.orientation[4], o.orientation[5]],
    );
    if (norm(row) - 1.0).abs() > SAME_DIRECTION
        || (norm(column) - 1.0).abs() > SAME_DIRECTION
        || dot(row, column).abs() > SAME_DIRECTION
    {
        return Err(Error::input(
            id,
            format!("the directions of {} are not at right angles: {:?}", o.name, o.orientation),
        ));
    }
    let spacing = o.spacing;
    if spacing.iter().any(|s| *s <= 0.0) {
        return Err(Error::input(
            id,
            format!("{} has the pixel spacing {spacing:?}, expected positive millimetres", o.name),
        ));
    }
    if let Some(other) = placed
        .iter()
        .find(|p| p.orientation.iter().zip(&o.orientation).any(|(a, b)| (a - b).abs() > SAME_DIRECTION))
    {
        return Err(Error::input(
            id,
            format!(
                "mixed orientations: {} has {:?}, {} has {:?}",
                other.name, other.orientation, o.name, o.orientation
            ),
        ));
    }
    if let Some(other) =
        placed.iter().find(|p| p.spacing.iter().zip(&spacing).any(|(a, b)| (a - b).abs() > 1e-4 * b))
    {
        return Err(Error::input(
            id,
            format!("mixed spacings: {} has {:?} mm, {} has {spacing:?}", other.name, other.spacing, o.name),
        ));
    }
    let normal = cross(row, column);
    placed.iter_mut().for_each(|p| p.along = dot(p.position, normal));
    // Of slices at one place (which are refused below) the order of the files.
    placed.sort_by(|a, b| a.along.total_cmp(&b.along));

    let step = if placed.len() == 1 {
        let thickness = first.planes[0].thickness;
        let lacks =
            || Error::input(id, "is one slice without SliceThickness (0018,0050): its extent is not guessed");
        normal
            .map(|n| n * thickness.unwrap_or(0.0))
            .iter()
            .any(|v| *v != 0.0)
            .then(|| normal.map(|n| n * thickness.unwrap_or(0.0)))
            .ok_or_else(lacks)?
    } else {
        even(id, &placed, normal, spacing)?
    };
    // LPS to RAS: the first two rows change their sign.
    let origin = placed[0].position;
    let mut affine = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
    for r in 0..3 {
        let sign = if r < 2 { -1.0 } else { 1.0 };
        affine[r] =
            [sign * row[r] * spacing[1], sign * column[r] * spacing[0], sign * step[r], sign * origin[r]];
    }
    let stored =
        Stored::new([first.columns, first.rows, placed.len()], affine).map_err(|e| Error::input(id, e))?;
    Ok((placed.into_iter().map(|p| p.slice).collect(), stored))
}

/// The step from slice to slice, if it is the same throughout. Positions that are written with few digits may
/// be rounded by half of the last one, so a gap may be off by one of it.
fn even(id: &str, placed: &[Placed], normal: [f64; 3], spacing: [f64; 2]) -> Result<[f64; 3]> {
    let mut gaps: Vec<f64> = placed.windows(2).map(|w| w[1].along - w[0].along).collect();
    gaps.sort_by(f64::total_cmp);
    let usual = gaps[gaps.len() / 2];
    let same = 1e-3f64.max(0.01 * usual);
    if let Some(pair) = placed.windows(2).find(|w| w[1].along - w[0].along <= same) {
        let (a, b) = (&pair[0], &pair[1]);
        return Err(Error::input(
            id,
            format!(
                "{} and {} lie at the same place, {:.3} mm along the normal: several volumes in one series?",
                a.name, b.name, a.along
            ),
        ));
    }
    let last_digit = 10f64.powi(-placed.iter().map(|p| p.digits).max().unwrap_or(0));
    let tolerance = (SAME_GAP * usual).max(last_digit.min(ROUNDED_GAP * usual) + 1e-6);
    let odd: Vec<usize> = (1..placed.len())
        .filter(|&i| (placed[i].along - placed[i - 1].along - usual).abs() > tolerance)
        .collect();
    if let Some(&first) = odd.first() {
        return Err(Error::input(id, uneven(placed, &odd, first, usual)));
    }
    let (first, last) = (&placed[0], &placed[placed.len() - 1]);
    let n = (placed.len() - 1) as f64;
    let step = [0, 1, 2].map(|r| (last.position[r] - first.position[r]) / n);
    // Every slice on the line through the first and the last, at its place there.
    let allowed = (0.1 * spacing[0].min(spacing[1])).max(last_digit.min(ROUNDED_GAP * usual));
    for (k, p) in placed.iter().enumerate() {
        let beside = [0, 1, 2].map(|r| p.position[r] - first.position[r] - k as f64 * step[r]);
        let along = dot(beside, normal);
        let beside = [0, 1, 2].map(|r| beside[r] - along * normal[r]);
        if norm(beside) > allowed {
            return Err(Error::input(
                id,
                format!(
                    "slice {k} ({}) lies {:.3} mm beside the line from {} to {}",
                    p.name,
                    norm(beside),
                    first.name,
                    last.name
                ),
            ));
        }
    }
    let along = dot(step, normal);
    let shift = norm([0, 1, 2].map(|r| step[r] - along * normal[r]));
    if shift > TILT * along {
        return Err(Error::input(
            id,
            format!(
                "its slices are shifted by {shift:.3} mm where they advance by {along:.3} mm: more than a gantry tilts"
            ),
        ));
    }
    Ok(step)
}

/// What is wrong with gaps that are not the usual one; `odd` are the slices behind such gaps.
fn uneven(placed: &[Placed], odd: &[usize], first: usize, usual: f64) -> String {
    let gap = |i: usize| placed[i].along - placed[i - 1].along;
    let (a, b) = (&placed[first - 1], &placed[first]);
    let between = format!(
        "between {} (at {:.3} mm along the normal) and {} (at {:.3} mm)",
        a.name, a.along, b.name, b.along
    );
    let more = match odd.len() {
        1 => String::new(),
        2 => "; 1 further gap differs".to_string(),
        n => format!("; {} further gaps differ", n - 1),
    };
    // Slices go missing here and there; gaps that differ for a stretch, or from somewhere to an end, were chosen.
    let alike = |w: &[usize], n: usize| {
        w[n] - w[0] == n && w.iter().all(|i| (gap(*i) - gap(w[0])).abs() < 0.05 * usual)
    };
    let ends = |w: &[usize]| w[0] == 1 || w[1] == placed.len() - 1;
    let stretch = odd.windows(3).any(|w| alike(w, 2)) || odd.windows(2).any(|w| alike(w, 1) && ends(w));
    let missing = gap(first) / usual - 1.0;
    if !stretch && 2 * odd.len() <= placed.len() && missing > 0.5 && (missing - missing.round()).abs() < 0.1 {
        let n = missing.round();
        let slices = if n == 1.0 { "slice is".to_string() } else { "slices are".to_string() };
        let places: Vec<String> =
            (1..=(n as usize).min(4)).map(|k| format!("{:.3}", a.along + k as f64 * usual)).collect();
        let places = if n > 4.0 { format!("{} ...", places.join(", ")) } else { places.join(", ") };
        return format!(
            "{n} {slices} missing at {places} mm, {between}: a gap of {:.3} mm, expected {usual:.3} mm{more}",
            gap(first)
        );
    }
    format!(
        "variable spacing: the distances differ, {:.3} mm {between}, {usual:.3} mm elsewhere{more}; \
         resample it to equal distances first",
        gap(first)
    )
}
