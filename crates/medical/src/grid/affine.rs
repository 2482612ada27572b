//! Algebra of affines and of the vectors in them.

/// A 4x4 matrix that maps voxel indices to millimetres.
pub type Affine = [[f64; 4]; 4];

/// The affine of a grid along the axes of the world: `spacing` in mm as (z, y, x), voxel (0, 0, 0) at the
/// origin.
pub fn affine_of_spacing(spacing: [f64; 3]) -> Affine {
    let [z, y, x] = spacing;
    [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0], [0.0, 0.0, 0.0, 1.0]]
}

pub(crate) fn column(a: &Affine, c: usize) -> [f64; 3] {
    [a[0][c], a[1][c], a[2][c]]
}

pub(crate) fn norm(v: [f64; 3]) -> f64 {
    dot(v, v).sqrt()
}

pub(crate) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(super) fn determinant(a: &Affine) -> f64 {
    dot(column(a, 0), cross(column(a, 1), column(a, 2)))
}

/// `a` applied to a point.
pub fn apply(a: &Affine, p: [f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|r| a[r][0] * p[0] + a[r][1] * p[1] + a[r][2] * p[2] + a[r][3])
}

/// The matrix product `a b`.
pub fn multiply(a: &Affine, b: &Affine) -> Affine {
    let mut out = [[0.0; 4]; 4];
    for (r, row) in out.iter_mut().enumerate() {
        for (c, v) in row.iter_mut().enumerate() {
            *v = (0..4).map(|k| a[r][k] * b[k][c]).sum();
        }
    }
    out
}

pub(super) fn inverse3(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let col = |c: usize| [m[0][c], m[1][c], m[2][c]];
    let (a, b, c) = (col(0), col(1), col(2));
    let det = dot(a, cross(b, c));
    [cross(b, c), cross(c, a), cross(a, b)].map(|row| row.map(|v| v / det))
}

/// The inverse of an affine that [`super::Grid::new`] takes.
pub fn inverse(a: &Affine) -> Affine {
    let linear = inverse3(&[0, 1, 2].map(|r| [a[r][0], a[r][1], a[r][2]]));
    let mut out = [[0.0, 0.0, 0.0, 0.0], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
    for r in 0..3 {
        out[r][..3].copy_from_slice(&linear[r]);
        out[r][3] = -dot(linear[r], column(a, 3));
    }
    out
}
