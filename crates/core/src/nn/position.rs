//! Position embeddings: fixed sine-cosine tables in one, two and three dimensions, and the interpolation of
//! learned ones.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::resize::{Resize, resize};

fn axis(position: usize, dim: usize, out: &mut Vec<f32>) {
    let half = dim / 2;
    let angle = |i: usize| position as f64 / 10_000f64.powf(i as f64 / half as f64);
    out.extend((0..half).map(|i| angle(i).sin() as f32));
    out.extend((0..half).map(|i| angle(i).cos() as f32));
}

/// `(1, length, dim)`: sines, then cosines (Vaswani et al. 2017, arXiv 1706.03762, in MAE's order).
///
/// # Errors
/// If `dim` is odd.
pub fn sin_cos_1d(length: usize, dim: usize, device: &Device) -> Result<Tensor> {
    table(&[length], dim, device)
}

/// `(1, height * width, dim)`: the first half of the features encodes the column, the second the row. This is
/// what MAE (He et al. 2021, arXiv 2111.06377) computes: its grid is made column first.
///
/// # Errors
/// If `dim` is not a multiple of 4.
pub fn sin_cos_2d(height: usize, width: usize, dim: usize, device: &Device) -> Result<Tensor> {
    table(&[height, width], dim, device)
}

/// `(1, depth * height * width, dim)`: a third of the features for each axis, columns first; where `dim` is
/// not a multiple of 6 the rest, up to five features, is 0.
///
/// # Errors
/// If `dim` is below 6.
pub fn sin_cos_3d(depth: usize, height: usize, width: usize, dim: usize, device: &Device) -> Result<Tensor> {
    let whole = dim - dim % 6;
    if whole == 0 {
        return Err(Error::config(format!(
            "a sine-cosine position embedding over 3 axes needs a width of at least 6, got {dim}"
        )));
    }
    Ok(table(&[depth, height, width], whole, device)?.pad_with_zeros(2, 0, dim - whole)?)
}

/// [`sin_cos_1d`], [`sin_cos_2d`] or [`sin_cos_3d`] by the number of axes of `grid`.
///
/// # Errors
/// As these.
pub fn sin_cos(grid: &[usize], dim: usize, device: &Device) -> Result<Tensor> {
    match *grid {
        [depth, height, width] => sin_cos_3d(depth, height, width, dim, device),
        _ => table(grid, dim, device),
    }
}

fn table(grid: &[usize], dim: usize, device: &Device) -> Result<Tensor> {
    let rank = grid.len();
    if !dim.is_multiple_of(2 * rank) {
        return Err(Error::config(format!(
            "a sine-cosine position embedding over {rank} axes needs a width that is a multiple of {}, got {dim}",
            2 * rank
        )));
    }
    let length: usize = grid.iter().product();
    let mut values = Vec::with_capacity(length * dim);
    for i in 0..length {
        // Last axis first: x, y, z.
        let mut rest = i;
        for a in (0..rank).rev() {
            axis(rest % grid[a], dim / rank, &mut values);
            rest /= grid[a];
        }
    }
    Ok(Tensor::from_vec(values, (1, length, dim), device)?)
}

/// How [`interpolate_positions`] finds values between those of the old grid; released models differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Bicubic, a = -0.75, not antialiased: transformers' ViT, DINOv2 and CLIP.
    #[default]
    Bicubic,
    /// Bicubic, a = -0.5, antialiased: timm, and transformers' DINOv2 with registers.
    Antialiased,
    /// Linear along each axis, not antialiased: the usual choice for volumes.
    Linear,
}

/// Brings a learned embedding `(1, prefix + L, dim)` of the grid `old`, with `L` places on two or three axes, to
/// the grid `new`, leaving the `prefix` tokens (class token) as they are. Differentiable.
///
/// # Errors
/// If the number of rows is not `prefix + L`, or the grids have not equally many axes.
pub fn interpolate_positions(
    embedding: &Tensor,
    prefix: usize,
    old: &[usize],
    new: &[usize],
    interpolation: Interpolation,
) -> Result<Tensor> {
    let (_, length, dim) = embedding.dims3()?;
    if old.len() != new.len() || length != prefix + old.iter().product::<usize>() {
        return Err(Error::input(
            "position embedding",
            format!("{length} rows for a grid of {new:?}, expected {prefix} and those of a grid of {old:?}"),
        ));
    }
    if old == new {
        return Ok(embedding.clone());
    }
    let shape = [&[1][..], old, &[dim]].concat();
    let grid = embedding.narrow(1, prefix, length - prefix)?.reshape(shape)?;
    let mode = match interpolation {
        Interpolation::Bicubic => Resize::Bicubic,
        Interpolation::Antialiased => Resize::BicubicAntialias,
        Interpolation::Linear => Resize::Linear,
    };
    let grid = resize(&grid, new, mode, Path::Auto)?.reshape((1, new.iter().product::<usize>(), dim))?;
    if prefix == 0 { Ok(grid) } else { Ok(Tensor::cat(&[&embedding.narrow(1, 0, prefix)?, &grid], 1)?) }
}
