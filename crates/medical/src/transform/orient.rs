//! Orientation: the axes of a volume in another order or direction, for a network that was trained that way.
//!
//! Volumes here are RAS+: `x` grows to the right, `y` to the front, `z` to the head. A code names where the
//! three axes lead, `x` first: `LPS` is ITK's, `RAS` ours. No voxel is interpolated, and the affine follows.

use super::rebuilt;
use crate::{Grid, Volume};
use selfsup_core::{Error, Result};

/// For each axis of a code: which axis of RAS+ it runs along (0 right, 1 front, 2 head), and whether against
/// it.
fn axes(code: &str) -> Result<[(usize, bool); 3]> {
    let wrong = || {
        Error::config(format!(
            "orientation \"{code}\": expected three letters, one of R or L, one of A or P, one of S or I"
        ))
    };
    let letters: Vec<char> = code.chars().collect();
    let [a, b, c] = letters[..] else { return Err(wrong()) };
    let one = |letter: char| {
        Ok(match letter {
            'R' => (0, false),
            'L' => (0, true),
            'A' => (1, false),
            'P' => (1, true),
            'S' => (2, false),
            'I' => (2, true),
            _ => return Err(wrong()),
        })
    };
    let made = [one(a)?, one(b)?, one(c)?];
    if (0..3).all(|axis| made.iter().any(|m| m.0 == axis)) { Ok(made) } else { Err(wrong()) }
}

/// A RAS+ volume with its axes in the order of `code`.
///
/// # Errors
/// If `code` is not three letters of three different axes.
pub fn orient(volume: &Volume, code: &str) -> Result<Volume> {
    turned(volume, axes(code)?)
}

/// What [`orient`] made with `code`, in RAS+ again.
///
/// # Errors
/// As [`orient`].
pub fn orient_back(volume: &Volume, code: &str) -> Result<Volume> {
    let forward = axes(code)?;
    // Axis `a` of RAS+ is the axis of the code that runs along it.
    let mut back = [(0, false); 3];
    for (from, (to, flip)) in forward.into_iter().enumerate() {
        back[to] = (from, flip);
    }
    turned(volume, back)
}

fn turned(volume: &Volume, axes: [(usize, bool); 3]) -> Result<Volume> {
    let old = volume.shape();
    // (x, y, z) sizes and steps.
    let (size, step) = ([old[2], old[1], old[0]], [1, old[2], old[1] * old[2]]);
    let new = axes.map(|(axis, _)| size[axis]);
    let a = volume.grid().affine();
    let mut affine = *a;
    for r in 0..3 {
        for (c, &(axis, flip)) in axes.iter().enumerate() {
            affine[r][c] = if flip { -a[r][axis] } else { a[r][axis] };
        }
        affine[r][3] = a[r][3]
            + axes
                .iter()
                .filter(|(_, flip)| *flip)
                .map(|&(axis, _)| a[r][axis] * (size[axis] - 1) as f64)
                .sum::<f64>();
    }
    let index = |at: [usize; 3]| -> usize {
        (0..3).map(|c| step[axes[c].0] * if axes[c].1 { new[c] - 1 - at[c] } else { at[c] }).sum()
    };
    let mut order = Vec::with_capacity(volume.values().len());
    for z in 0..new[2] {
        for y in 0..new[1] {
            order.extend((0..new[0]).map(|x| index([x, y, z])));
        }
    }
    let values = order.iter().map(|&i| volume.values()[i]).collect();
    let labels = volume.labels().map(|l| order.iter().map(|&i| l[i]).collect());
    rebuilt(volume, Grid::new([new[2], new[1], new[0]], affine)?, values, labels)
}

#[cfg(test)]
mod tests {
    use super::super::testing::volume;
    use super::*;

    #[test]
    fn there_and_back_is_exact_for_every_code() {
        let v = volume([3, 4, 5], 1);
        let letters = [["R", "L"], ["A", "P"], ["S", "I"]];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for flips in 0..8 {
                let code: String = (0..3).map(|i| letters[order[i]][flips >> i & 1]).collect();
                let there = orient(&v, &code).unwrap();
                // A voxel keeps its place in the world.
                let at = there.grid().index(v.grid().world([1.0, 2.0, 3.0])).map(|x| x.round() as usize);
                assert_eq!(there.at(at), v.at([1, 2, 3]), "{code}");
                let back = orient_back(&there, &code).unwrap();
                assert_eq!((back.values(), back.labels()), (v.values(), v.labels()), "{code}");
                assert!(back.grid().is_close(v.grid(), 1e-9), "{code}");
            }
        }
        assert_eq!(orient(&v, "RAS").unwrap(), v);
        for bad in ["RRS", "RA", "XYZ", "", "RASI"] {
            assert!(orient(&v, bad).unwrap_err().to_string().contains("three letters"), "{bad}");
        }
    }
}
