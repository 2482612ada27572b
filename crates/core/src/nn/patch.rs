//! Patch embedding in one, two and three dimensions: a convolution whose stride is its kernel.

use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::Weight;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::linear::linear;

/// Cuts `(N, S.., C)` into patches and projects each to `dim` (Dosovitskiy et al. 2020, arXiv 2010.11929).
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    weight: Weight,
    bias: Option<Weight>,
    patch: Vec<usize>,
}

impl PatchEmbed {
    /// `patch` has one size per spatial axis. The weight is that of the convolution, `(dim, channels,
    /// patch..)`.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(
        scope: &Scope,
        channels: usize,
        dim: usize,
        patch: &[usize],
        bias: bool,
        init: Init,
    ) -> Result<Self> {
        let shape: Vec<usize> = [dim, channels].iter().chain(patch).copied().collect();
        let weight = scope.get("weight", shape, init)?;
        let bias = if bias { Some(scope.get("bias", dim, Init::Const(0.0))?) } else { None };
        Ok(PatchEmbed { weight, bias, patch: patch.to_vec() })
    }

    /// The number of patches along each axis of an input of spatial size `size`.
    ///
    /// # Errors
    /// If a size is not a multiple of the patch.
    pub fn grid(&self, size: &[usize]) -> Result<Vec<usize>> {
        if size.len() != self.patch.len() || size.iter().zip(&self.patch).any(|(s, p)| *s == 0 || s % p != 0)
        {
            return Err(Error::input(
                "image size",
                format!("{size:?} is not a multiple of the patch size {:?}", self.patch),
            ));
        }
        Ok(size.iter().zip(&self.patch).map(|(s, p)| s / p).collect())
    }

    /// `(N, S.., C)` to patches `(N, L, P * C)`, each in the order (axes of the patch.., channel).
    ///
    /// # Errors
    /// If a size is not a multiple of the patch.
    pub fn patchify(&self, x: &Tensor) -> Result<Tensor> {
        patchify(x, &self.patch)
    }

    /// `(N, S.., C)` to `(N, L, dim)`.
    ///
    /// # Errors
    /// If a size is not a multiple of the patch.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let rank = self.patch.len();
        // (dim, C, p..) -> (dim, p.., C) -> (dim, P * C), the order of patchify.
        let mut order: Vec<usize> = (0..rank + 2).collect();
        order.remove(1);
        order.push(1);
        let weight = self.weight.on(pass)?.permute(order)?.flatten_from(1)?;
        let bias = self.bias.as_ref().map(|b| b.on(pass)).transpose()?;
        Ok(linear(&self.patchify(x)?, &weight, bias.as_ref(), Path::Auto)?)
    }
}

/// `(N, S.., C)` to patches `(N, L, P * C)`, each in the order (axes of the patch.., channel).
///
/// # Errors
/// If a size is not a multiple of the patch.
pub fn patchify(x: &Tensor, patch: &[usize]) -> Result<Tensor> {
    let (rank, dims) = (patch.len(), x.dims());
    if dims.len() != rank + 2 || (0..rank).any(|a| dims[a + 1] == 0 || dims[a + 1] % patch[a] != 0) {
        return Err(Error::input(
            "image",
            format!(
                "shape {dims:?} cannot be cut into patches of {patch:?}: expected (N, S.., C) with sizes that are multiples"
            ),
        ));
    }
    // (N, g0, p0, g1, p1, .., C) -> (N, g0, g1, .., p0, p1, .., C)
    let mut split = vec![dims[0]];
    for a in 0..rank {
        split.extend([dims[a + 1] / patch[a], patch[a]]);
    }
    split.push(dims[rank + 1]);
    let order: Vec<usize> = std::iter::once(0)
        .chain((0..rank).map(|a| 1 + 2 * a))
        .chain((0..rank).map(|a| 2 + 2 * a))
        .chain(std::iter::once(2 * rank + 1))
        .collect();
    let length: usize = (0..rank).map(|a| dims[a + 1] / patch[a]).product();
    let width: usize = patch.iter().product::<usize>() * dims[rank + 1];
    Ok(x.reshape(split)?.permute(order)?.reshape((dims[0], length, width))?)
}

/// The inverse of cutting into patches: `(N, L, P * C)`, each in the order (axes of the patch.., channel), on
/// a grid of `grid` patches with sides `patch`, to `(N, C, S..)`, the layout of inputs.
///
/// # Errors
/// If the sizes do not fit.
pub fn unpatchify(patches: &Tensor, grid: &[usize], patch: &[usize]) -> Result<Tensor> {
    let (n, l, width) = patches.dims3()?;
    let (cells, pixels) = (grid.iter().product::<usize>(), patch.iter().product::<usize>());
    if grid.len() != patch.len() || cells != l || pixels == 0 || width % pixels != 0 {
        return Err(Error::input(
            "patches",
            format!("shape {:?}: expected (N, L, P * C) of {grid:?} patches of {patch:?}", patches.dims()),
        ));
    }
    // (N, g0, g1, .., p0, p1, .., C) -> (N, C, g0, p0, g1, p1, ..)
    let rank = grid.len();
    let shape: Vec<usize> = [&[n], grid, patch, &[width / pixels]].concat();
    let order: Vec<usize> =
        [0, 2 * rank + 1].into_iter().chain((0..rank).flat_map(|a| [1 + a, 1 + rank + a])).collect();
    let sizes = grid.iter().zip(patch).map(|(g, p)| g * p);
    let whole: Vec<usize> = [n, width / pixels].into_iter().chain(sizes).collect();
    Ok(patches.reshape(shape)?.permute(order)?.reshape(whole)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn patches_go_back_to_their_places() -> Result<()> {
        let x = Tensor::arange(0f32, 2.0 * 4.0 * 6.0 * 3.0, &Device::Cpu)?.reshape((2, 4, 6, 3))?;
        let back = unpatchify(&patchify(&x, &[2, 3])?, &[2, 2], &[2, 3])?;
        assert_eq!(back.dims(), [2, 3, 4, 6]);
        let (a, b) = (back.permute((0, 2, 3, 1))?.flatten_all()?, x.flatten_all()?);
        assert_eq!(a.to_vec1::<f32>()?, b.to_vec1::<f32>()?);
        assert!(unpatchify(&back.flatten_from(2)?, &[2, 2], &[2, 3]).is_err());
        Ok(())
    }
}
