//! How a file stores its axes, and the turn to RAS+.

use super::Grid;
use super::affine::{Affine, column, inverse3, norm};
use selfsup_core::Result;

/// How a file stores a volume: `(i, j, k)` voxels, `i` fastest, and the affine of `(i, j, k)` indices to RAS+
/// mm.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    shape: [usize; 3],
    affine: Affine,
    axes: [usize; 3],
    flipped: [bool; 3],
}

impl Stored {
    /// Axes of `shape` `(i, j, k)` with the affine of their indices.
    ///
    /// # Errors
    /// As [`Grid::new`].
    pub fn new(shape: [usize; 3], affine: Affine) -> Result<Self> {
        let [i, j, k] = shape;
        Grid::new([k, j, i], affine)?;
        let (axes, flipped) = orientation(&affine);
        let stored = Stored { shape, affine, axes, flipped };
        // Turned, huge numbers of an affine may run over.
        stored.grid()?;
        Ok(stored)
    }

    /// `(i, j, k)`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Maps `(i, j, k)` indices to mm.
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// Which axis of the world (0 right, 1 front, 2 head) the axes `i`, `j`, `k` run along.
    pub fn axes(&self) -> [usize; 3] {
        self.axes
    }

    /// Whether the axes `i`, `j`, `k` run against it.
    pub fn flipped(&self) -> [bool; 3] {
        self.flipped
    }

    /// Three letters, where the axes `i`, `j`, `k` lead to: `RAS`, `LPS` ...
    pub fn letters(&self) -> String {
        (0..3)
            .map(|a| [["R", "L"], ["A", "P"], ["S", "I"]][self.axes[a]][usize::from(self.flipped[a])])
            .collect()
    }

    /// The grid of RAS+ with the same voxels.
    ///
    /// # Errors
    /// None for what [`Stored::new`] took.
    pub fn grid(&self) -> Result<Grid> {
        let mut shape = [0; 3];
        let mut affine = self.affine;
        for a in 0..3 {
            shape[2 - self.axes[a]] = self.shape[a];
            for (row, stored) in affine.iter_mut().zip(&self.affine).take(3) {
                let v = stored[a];
                row[self.axes[a]] = if self.flipped[a] { -v } else { v };
                if self.flipped[a] {
                    row[3] += (self.shape[a] - 1) as f64 * v;
                }
            }
        }
        Grid::new(shape, affine)
    }

    /// The stored index `(i, j, k)` of voxel (z, y, x) of [`Stored::grid`].
    pub fn index(&self, ras: [usize; 3]) -> [usize; 3] {
        [0, 1, 2].map(|a| {
            let v = ras[2 - self.axes[a]];
            if self.flipped[a] { self.shape[a] - 1 - v } else { v }
        })
    }

    /// Whether the file's order is that of RAS+ already.
    pub fn is_ras(&self) -> bool {
        self.axes == [0, 1, 2] && self.flipped == [false; 3]
    }

    /// Values in the order of the file, as `(z, y, x)` of RAS+.
    pub fn to_ras<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.is_ras() || values.len() != self.shape.iter().product::<usize>() {
            return values;
        }
        let mut out = Vec::with_capacity(values.len());
        self.walk(|at| out.push(values[at]));
        out
    }

    /// Values as `(z, y, x)` of RAS+, in the order of the file.
    pub fn from_ras<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut out = vec![T::default(); values.len()];
        let mut next = values.iter();
        self.walk(|at| {
            if let (Some(v), Some(o)) = (next.next(), out.get_mut(at)) {
                *o = *v;
            }
        });
        out
    }

    /// Calls `f` with the place in the file of each voxel, in the order of RAS+.
    fn walk(&self, mut f: impl FnMut(usize)) {
        let [i, j, _] = self.shape;
        let steps = [1, i, i * j];
        // For each axis of RAS+ as (z, y, x): voxels, where the first one is, and the step to the next.
        let mut by_axis = [(0usize, 0isize, 0isize); 3];
        for a in 0..3 {
            let (n, step) = (self.shape[a], steps[a] as isize);
            by_axis[2 - self.axes[a]] =
                if self.flipped[a] { (n, (n as isize - 1) * step, -step) } else { (n, 0, step) };
        }
        let [(d, z0, zs), (h, y0, ys), (w, x0, xs)] = by_axis;
        for z in 0..d as isize {
            for y in 0..h as isize {
                let row = z0 + z * zs + y0 + y * ys + x0;
                (0..w as isize).for_each(|x| f((row + x * xs) as usize));
            }
        }
    }
}

/// For each stored axis the axis of the world that it runs along, and whether against it.
fn orientation(affine: &Affine) -> ([usize; 3], [bool; 3]) {
    let mut unit = [[0f64; 3]; 3];
    for c in 0..3 {
        let length = norm(column(affine, c));
        (0..3).for_each(|r| unit[r][c] = affine[r][c] / length);
    }
    // Newton's iteration for the orthogonal polar factor (Higham 1986): X <- (X + X^-T) / 2; quadratic near
    // the end.
    for _ in 0..60 {
        let inverse = inverse3(&unit);
        for r in 0..3 {
            (0..3).for_each(|c| unit[r][c] = 0.5 * (unit[r][c] + inverse[c][r]));
        }
    }
    let clearest = |c: usize| (0..3).map(|r| unit[r][c].abs()).fold(0.0, f64::max);
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| clearest(b).total_cmp(&clearest(a)));
    let (mut axes, mut flipped, mut taken) = ([0; 3], [false; 3], [false; 3]);
    for c in order {
        let free = (0..3).filter(|&r| !taken[r]);
        // Of equals the first.
        let best = free.fold(None, |best: Option<usize>, r| match best {
            Some(b) if unit[b][c].abs() >= unit[r][c].abs() => Some(b),
            _ => Some(r),
        });
        let axis = best.unwrap_or(c);
        taken[axis] = true;
        axes[c] = axis;
        flipped[c] = unit[axis][c] < 0.0;
    }
    (axes, flipped)
}
