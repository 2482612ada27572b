//! Several volumes in one series: acquisitions, phases, echoes, told apart by the first attribute that
//! divides them into volumes; and copies of one slice.

use super::attributes::{ATTRIBUTES, named};
use super::header::Header;
use super::parse::parse;
use crate::grid::{cross, dot};
use crate::read::passed::Passed;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;

/// Slices of one volume.
pub(super) struct Part {
    pub(super) headers: Vec<Header>,
    /// What tells it from the other volumes of its series: attribute, and its value if it may be shown.
    pub(super) by: Option<String>,
}

/// The volumes of the slices of one series. Exact copies and scouts are left out and counted. What cannot be
/// divided is left whole: reading it says why it is no volume.
///
/// # Errors
/// If the pixels of two slices at one place cannot be read.
pub(super) fn parts(headers: Vec<Header>, passed: &mut Passed) -> Result<Vec<Part>> {
    let mut headers = without_copies(headers, passed)?;
    if !troubled(&headers.iter().collect::<Vec<_>>()) {
        return Ok(vec![Part { headers, by: None }]);
    }
    let scouts = headers.iter().filter(|h| h.phase.is_localizer()).count();
    if (1..headers.len()).contains(&scouts) {
        (0..scouts).for_each(|_| passed.add("localizer"));
        headers.retain(|h| !h.phase.is_localizer());
        if !troubled(&headers.iter().collect::<Vec<_>>()) {
            return Ok(vec![Part { headers, by: None }]);
        }
    }
    let n = ATTRIBUTES.len();
    let alone = (0..n).map(|a| vec![a]);
    let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| vec![a, b]));
    for attributes in alone.chain(pairs) {
        let key = |h: &Header| attributes.iter().map(|a| h.phase.value(*a).cloned()).collect::<Vec<_>>();
        let mut of: BTreeMap<_, Vec<&Header>> = BTreeMap::new();
        headers.iter().for_each(|h| of.entry(key(h)).or_default().push(h));
        if of.len() < 2 || of.values().any(|part| part.len() < 2 || troubled(part)) {
            continue;
        }
        let mut found: BTreeMap<_, Part> = BTreeMap::new();
        for header in headers {
            let key = key(&header);
            let by = || Some(named(&attributes, &key));
            let part = found.entry(key.clone()).or_insert_with(|| Part { headers: Vec::new(), by: by() });
            part.headers.push(header);
        }
        return Ok(found.into_values().collect());
    }
    Ok(vec![Part { headers, by: None }])
}

/// Whether slices cannot be one volume because two lie at one place, or because they differ in size or
/// direction. Frames of enhanced files and slices without a place are not looked at.
fn troubled(headers: &[&Header]) -> bool {
    let Some(places) = headers.iter().map(|h| geometry(h)).collect::<Option<Vec<_>>>() else { return false };
    let Some((_, first)) = places.first() else { return false };
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-3);
    if places.iter().any(|(_, flat)| !near(flat, first)) {
        return true;
    }
    let normal = cross([first[0], first[1], first[2]], [first[3], first[4], first[5]]);
    let mut along: Vec<f64> = places.iter().map(|(position, _)| dot(*position, normal)).collect();
    along.sort_by(f64::total_cmp);
    along.windows(2).any(|w| w[1] - w[0] <= 1e-3)
}

/// Position; and directions, spacing and size, which the slices of a volume share.
fn geometry(h: &Header) -> Option<([f64; 3], Vec<f64>)> {
    let [plane] = &h.planes[..] else { return None };
    let mut flat = plane.orientation?.to_vec();
    flat.extend(plane.spacing?);
    flat.extend([h.rows as f64, h.columns as f64]);
    Some((plane.position?, flat))
}

/// Slices of which no two are at one place, of one phase, and have the same pixels.
fn without_copies(headers: Vec<Header>, passed: &mut Passed) -> Result<Vec<Header>> {
    let key = |h: &Header| {
        let (position, mut flat) = geometry(h)?;
        flat.extend(position);
        let scale = h.planes.first()?.scale;
        flat.extend([scale.0, scale.1]);
        Some((flat.into_iter().map(f64::to_bits).collect::<Vec<_>>(), h.phase.clone()))
    };
    let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (i, h) in headers.iter().enumerate() {
        if let Some(key) = key(h) {
            places.entry(key).or_default().push(i);
        }
    }
    let mut copies = vec![false; headers.len()];
    for same in places.into_values().filter(|same| same.len() > 1) {
        let mut seen = Vec::new();
        for i in same {
            let pixels = pixels(&headers[i])?;
            copies[i] = seen.contains(&pixels);
            if copies[i] {
                passed.add("exact copy");
            } else {
                seen.push(pixels);
            }
        }
    }
    let mut copies = copies.into_iter();
    Ok(headers.into_iter().filter(|_| !copies.next().unwrap_or(false)).collect())
}

/// A hash of the stored pixels of a file.
fn pixels(header: &Header) -> Result<blake3::Hash> {
    header.check_there()?;
    let mut parsed = parse(&header.path)?;
    let place = parsed.place.ok_or_else(|| Error::file(&header.path, "has no pixels; cut short?"))?;
    let length = place.length.unwrap_or(parsed.input.length().saturating_sub(place.start));
    let bytes = parsed.input.part(place.start, length).map_err(|e| Error::file(&header.path, e))?;
    Ok(blake3::hash(&bytes))
}
