//! Overlap and surface distance of masks, in two or three dimensions (any number, in fact).
//!
//! The surface of a mask is the mask minus its erosion by the voxels that share a face; what lies outside the
//! volume is background. The distance from each surface voxel of one mask to the surface of the other comes
//! from an exact Euclidean distance transform (Felzenszwalb and Huttenlocher 2012, one lower envelope of
//! parabolas per line and axis), so the cost is linear in the number of voxels.

use rayon::prelude::*;
use selfsup_core::{Error, Result};

fn check(pred: &[bool], target: &[bool]) -> Result<()> {
    if pred.len() == target.len() {
        return Ok(());
    }
    Err(Error::input("masks", format!("{} and {} voxels, expected as many", pred.len(), target.len())))
}

/// Voxels in both masks, in the first, in the second.
fn overlap(pred: &[bool], target: &[bool]) -> Result<(f64, f64, f64)> {
    check(pred, target)?;
    let count = |it: &mut dyn Iterator<Item = bool>| it.filter(|v| *v).count() as f64;
    Ok((
        count(&mut pred.iter().zip(target).map(|(a, b)| *a && *b)),
        count(&mut pred.iter().copied()),
        count(&mut target.iter().copied()),
    ))
}

/// Dice coefficient `2 |A and B| / (|A| + |B|)`; 1 if both masks are empty.
///
/// # Errors
/// If the numbers of voxels differ.
pub fn dice(pred: &[bool], target: &[bool]) -> Result<f64> {
    let (both, a, b) = overlap(pred, target)?;
    Ok(if a + b == 0.0 { 1.0 } else { 2.0 * both / (a + b) })
}

/// Intersection over union `|A and B| / |A or B|`; 1 if both masks are empty.
///
/// # Errors
/// If the numbers of voxels differ.
pub fn iou(pred: &[bool], target: &[bool]) -> Result<f64> {
    let (both, a, b) = overlap(pred, target)?;
    Ok(if a + b == 0.0 { 1.0 } else { both / (a + b - both) })
}

/// Dice coefficient of each of `classes` in two label maps; `None` for a class that is in neither.
///
/// # Errors
/// If the numbers of voxels differ, or a label is not below `classes`.
pub fn dice_per_class(pred: &[u32], target: &[u32], classes: usize) -> Result<Vec<Option<f64>>> {
    crate::data::check_labels("target labels", target, target.len(), classes)?;
    crate::data::check_labels("predicted labels", pred, target.len(), classes)?;
    let (mut both, mut either) = (vec![0u64; classes], vec![0u64; classes]);
    for (&p, &t) in pred.iter().zip(target) {
        either[p as usize] += 1;
        either[t as usize] += 1;
        both[p as usize] += u64::from(p == t);
    }
    Ok(both.iter().zip(&either).map(|(&b, &e)| (e > 0).then(|| 2.0 * b as f64 / e as f64)).collect())
}

/// Distances between the surfaces of two masks, in the unit of the spacing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SurfaceDistance {
    /// Largest distance from one surface to the other (Hausdorff distance).
    pub hausdorff: f64,
    /// The larger of the two directions' 95th percentiles, linear between ranks.
    pub hausdorff95: f64,
    /// Mean over the surface voxels of both directions (average symmetric surface distance).
    pub average: f64,
}

/// Surface distances of two masks of this row-major `shape`; `spacing` is the size of a voxel along each
/// axis, in axis order. `None` if either mask is empty.
///
/// # Errors
/// If shape, spacing and masks do not fit together, or a spacing is not positive.
pub fn surface_distance(
    pred: &[bool],
    target: &[bool],
    shape: &[usize],
    spacing: &[f64],
) -> Result<Option<SurfaceDistance>> {
    check(pred, target)?;
    let voxels = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    if shape.is_empty() || shape.len() != spacing.len() || voxels != Some(pred.len()) {
        let problem = format!(
            "{} voxels, shape {shape:?}, spacing {spacing:?}: expected one spacing an axis and the product of the shape",
            pred.len()
        );
        return Err(Error::input("masks", problem));
    }
    if !spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err(Error::input("spacing", format!("{spacing:?}, expected positive numbers")));
    }
    let (a, b) = (surface(pred, shape), surface(target, shape));
    if a.is_empty() || b.is_empty() {
        return Ok(None);
    }
    let there = distances(&a, &b, shape, spacing);
    let back = distances(&b, &a, shape, spacing);
    let last = |v: &[f64]| v.last().copied().unwrap_or(0.0);
    let sum = |v: &[f64]| v.iter().sum::<f64>();
    Ok(Some(SurfaceDistance {
        hausdorff: last(&there).max(last(&back)),
        hausdorff95: percentile(&there, 0.95).max(percentile(&back, 0.95)),
        average: (sum(&there) + sum(&back)) / (there.len() + back.len()) as f64,
    }))
}

/// Elements between neighbours along `axis`.
fn stride(shape: &[usize], axis: usize) -> usize {
    shape[axis + 1..].iter().product()
}

/// Indices of the voxels of the mask that have a neighbour across a face outside it.
fn surface(mask: &[bool], shape: &[usize]) -> Vec<usize> {
    let inside = |i: usize| {
        (0..shape.len()).all(|axis| {
            let step = stride(shape, axis);
            let at = i / step % shape[axis];
            at > 0 && at + 1 < shape[axis] && mask[i - step] && mask[i + step]
        })
    };
    (0..mask.len()).filter(|&i| mask[i] && !inside(i)).collect()
}

/// Distance of each voxel of `from` to the nearest of `to`, sorted.
fn distances(from: &[usize], to: &[usize], shape: &[usize], spacing: &[f64]) -> Vec<f64> {
    let mut field = vec![f64::INFINITY; shape.iter().product()];
    to.iter().for_each(|&i| field[i] = 0.0);
    for axis in 0..shape.len() {
        let (length, step) = (shape[axis], stride(shape, axis));
        // Slabs of `length * step` voxels are independent; inside, lines start at 0..step.
        field.par_chunks_mut(length * step).for_each(|slab| {
            let mut line = vec![0f64; length];
            for start in 0..step {
                (0..length).for_each(|i| line[i] = slab[start + i * step]);
                let out = envelope(&line, spacing[axis]);
                (0..length).for_each(|i| slab[start + i * step] = out[i]);
            }
        });
    }
    let mut out: Vec<f64> = from.iter().map(|&i| field[i].sqrt()).collect();
    out.sort_by(f64::total_cmp);
    out
}

/// `min_j f_j + (spacing (i - j))^2` for every `i`: the lower envelope of parabolas rooted at the finite
/// values.
fn envelope(f: &[f64], spacing: f64) -> Vec<f64> {
    // Roots of the parabolas on the envelope, and where each takes over from the one before.
    let mut roots: Vec<(usize, f64)> = Vec::new();
    for (j, &v) in f.iter().enumerate().filter(|(_, v)| v.is_finite()) {
        let x = j as f64 * spacing;
        let mut from = f64::NEG_INFINITY;
        while let Some(&(r, start)) = roots.last() {
            let y = r as f64 * spacing;
            from = ((v + x * x) - (f[r] + y * y)) / (2.0 * (x - y));
            if from > start {
                break;
            }
            roots.pop();
            from = f64::NEG_INFINITY;
        }
        roots.push((j, from));
    }
    let mut at = 0;
    (0..f.len())
        .map(|i| {
            let x = i as f64 * spacing;
            while roots.get(at + 1).is_some_and(|r| r.1 <= x) {
                at += 1;
            }
            roots.get(at).map_or(f64::INFINITY, |&(r, _)| f[r] + ((i as f64 - r as f64) * spacing).powi(2))
        })
        .collect()
}

/// The value at share `q` of the ranks of sorted `v`, linear between ranks.
fn percentile(v: &[f64], q: f64) -> f64 {
    let at = q * v.len().saturating_sub(1) as f64;
    let low = v.get(at.floor() as usize).copied().unwrap_or(0.0);
    let high = v.get(at.ceil() as usize).copied().unwrap_or(low);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        let (a, b) = ([true, true, false, false], [false, true, true, false]);
        assert_eq!(dice(&a, &b).unwrap(), 0.5);
        assert_eq!(iou(&a, &b).unwrap(), 1.0 / 3.0);
        assert_eq!(dice(&[false], &[false]).unwrap(), 1.0);
        assert!(dice(&a, &b[..3]).is_err());
        assert_eq!(
            dice_per_class(&[0, 0, 1], &[0, 1, 1], 3).unwrap(),
            [Some(2.0 / 3.0), Some(2.0 / 3.0), None]
        );
        let d = surface_distance(&a, &b, &[4], &[2.0]).unwrap().unwrap();
        assert_eq!((d.hausdorff, d.average), (2.0, 1.0));
        assert!(surface_distance(&a, &[false; 4], &[2, 2], &[1.0, 1.0]).unwrap().is_none());
        assert!(
            surface_distance(&a, &b, &[2, 2], &[1.0]).is_err()
                && surface_distance(&a, &b, &[4], &[0.0]).is_err()
        );
        assert!(surface_distance(&[], &[], &[0, 3], &[1.0, 1.0]).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn distances_equal_brute_force(seed in 0u64..10_000, d in 1usize..4, h in 1usize..7, w in 1usize..8) {
            let mut r = selfsup_core::Key::new(seed).rng();
            let shape = [d, h, w];
            let spacing = [2.0, 0.7, 1.0];
            let mut mask = || -> Vec<bool> { (0..d * h * w).map(|_| r.chance(0.4)).collect() };
            let (a, b) = (surface(&mask(), &shape), surface(&mask(), &shape));
            let place = |i: usize| [(i / (h * w)) as f64 * 2.0, (i / w % h) as f64 * 0.7, (i % w) as f64];
            let mut want: Vec<f64> = a.iter().map(|&i| {
                b.iter().map(|&j| place(i).iter().zip(place(j)).map(|(x, y)| (x - y).powi(2)).sum::<f64>()).fold(f64::INFINITY, f64::min).sqrt()
            }).collect();
            want.sort_by(f64::total_cmp);
            for (x, y) in distances(&a, &b, &shape, &spacing).iter().zip(&want) {
                prop_assert!(x == y || (x - y).abs() < 1e-9, "{} {}", x, y);
            }
        }
    }
}
