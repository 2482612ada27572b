//! Convolutions from candle's operators, for any device.
//!
//! candle's `conv2d` is right forward and backward as long as both axes are treated alike and no input is
//! left over at the right edge (its backward takes the output padding of the height for both axes). So inputs
//! are padded and cut to the length that the windows cover, one axis becomes two by a unit axis, three become
//! a sum over depth taps. What does not fit (strides that differ between the axes, depthwise kernels, of
//! which `conv2d` would make a loop over channels) is a sum over kernel taps of strided slices.

use super::geometry::Geometry;
use super::spec::ConvSpec;
use candle_core::{Result, Tensor};

/// See [`super::conv`].
pub(super) fn conv(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    spec: &ConvSpec,
    g: &Geometry,
) -> Result<Tensor> {
    // (N, S.., C) -> (N, D, H, W, C), padded by zeros and cut to what the windows cover.
    let mut volume = x.reshape((g.n, g.size[0], g.size[1], g.size[2], g.inputs))?;
    for axis in 0..3 {
        volume = fit(&volume, axis + 1, g.padding[axis], g.used(axis))?;
    }
    let w = w.reshape((g.outputs, g.inputs / g.groups, g.kernel[0], g.kernel[1], g.kernel[2]))?;
    let depthwise = g.groups == g.inputs && g.outputs == g.inputs;
    // Of a unit axis the stride and dilation do not matter.
    let first = 3 - g.rank.min(2);
    let alike = |a: [usize; 3]| (first..3).all(|i| a[i] == a[2]);
    let y = if depthwise {
        depthwise_taps(&volume, &w, g)?
    } else if alike(g.stride) && alike(g.dilation) {
        by_depth(&volume, &w, spec, g)?
    } else {
        taps(&volume, &w, g)?
    };
    let y = y.reshape(g.out_shape())?;
    match b {
        Some(b) => y.broadcast_add(b),
        None => Ok(y),
    }
}

/// Adds `left` zeros to the axis and brings it to `length`, with zeros or by cutting.
fn fit(x: &Tensor, axis: usize, left: usize, length: usize) -> Result<Tensor> {
    let size = x.dim(axis)?;
    let x = x.pad_with_zeros(axis, left, length.saturating_sub(left + size))?;
    if left + size > length { x.narrow(axis, 0, length) } else { Ok(x) }
}

/// `count` slices of the axis from `start`, `stride` apart.
fn strided(x: &Tensor, axis: usize, start: usize, stride: usize, count: usize) -> Result<Tensor> {
    if stride == 1 {
        return x.narrow(axis, start, count);
    }
    let x = x.pad_with_zeros(axis, 0, (start + count * stride).saturating_sub(x.dim(axis)?))?.narrow(
        axis,
        start,
        count * stride,
    )?;
    let mut dims = x.dims().to_vec();
    dims[axis] = count;
    dims.insert(axis + 1, stride);
    x.reshape(dims)?.narrow(axis + 1, 0, 1)?.squeeze(axis + 1)
}

/// The input under tap `(kd, kh, kw)` of every window: `(N, D', H', W', C)`.
fn under(x: &Tensor, tap: [usize; 3], g: &Geometry) -> Result<Tensor> {
    let mut slice = x.clone();
    for (axis, &at) in tap.iter().enumerate() {
        slice = strided(&slice, axis + 1, at * g.dilation[axis], g.stride[axis], g.out[axis])?;
    }
    Ok(slice)
}

fn all_taps(g: &Geometry) -> impl Iterator<Item = [usize; 3]> + use<> {
    let [d, h, w] = g.kernel;
    (0..d * h * w).map(move |t| [t / (h * w), t / w % h, t % w])
}

fn weight_of(w: &Tensor, tap: [usize; 3]) -> Result<Tensor> {
    w.narrow(2, tap[0], 1)?.narrow(3, tap[1], 1)?.narrow(4, tap[2], 1)?.reshape((w.dim(0)?, w.dim(1)?))
}

fn add(sum: Option<Tensor>, term: Tensor) -> Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + term)?,
        None => term,
    }))
}

fn some(sum: Option<Tensor>) -> Result<Tensor> {
    sum.ok_or_else(|| candle_core::Error::Msg("conv: the kernel has no taps".into()))
}

fn depthwise_taps(x: &Tensor, w: &Tensor, g: &Geometry) -> Result<Tensor> {
    let mut sum = None;
    for tap in all_taps(g) {
        sum = add(sum, under(x, tap, g)?.broadcast_mul(&weight_of(w, tap)?.flatten_all()?)?)?;
    }
    some(sum)
}

fn taps(x: &Tensor, w: &Tensor, g: &Geometry) -> Result<Tensor> {
    let positions = g.n * g.out.iter().product::<usize>();
    let (inputs, outputs) = (g.inputs / g.groups, g.outputs / g.groups);
    let mut sum = None;
    for tap in all_taps(g) {
        let (slice, weight) = (under(x, tap, g)?.reshape((positions, g.inputs))?, weight_of(w, tap)?);
        let mut parts = Vec::with_capacity(g.groups);
        for group in 0..g.groups {
            let weight = weight.narrow(0, group * outputs, outputs)?.t()?.contiguous()?;
            parts.push(slice.narrow(1, group * inputs, inputs)?.contiguous()?.matmul(&weight)?);
        }
        sum = add(sum, Tensor::cat(&parts, 1)?)?;
    }
    some(sum)
}

/// A sum of `conv2d` over the taps of the depth axis, of which sequences and images have one.
fn by_depth(x: &Tensor, w: &Tensor, spec: &ConvSpec, g: &Geometry) -> Result<Tensor> {
    let mut sum = None;
    for kd in 0..g.kernel[0] {
        let slice = strided(x, 1, kd * g.dilation[0], g.stride[0], g.out[0])?;
        let (_, _, h, width, _) = slice.dims5()?;
        // (N, D', H, W, C) -> (N D', C, H, W)
        let images =
            slice.reshape((g.n * g.out[0], h, width, g.inputs))?.permute((0, 3, 1, 2))?.contiguous()?;
        let kernel = w.narrow(2, kd, 1)?.squeeze(2)?.contiguous()?;
        sum = add(sum, images.conv2d(&kernel, 0, g.stride[2], g.dilation[2], spec.groups)?)?;
    }
    // (N D', C_out, H', W') -> (N D', H', W', C_out)
    some(sum)?.permute((0, 2, 3, 1))?.contiguous()
}
