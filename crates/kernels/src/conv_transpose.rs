//! Transposed convolution (the gradient of a convolution with respect to its input, as a layer):
//! channels-last `(N, S.., C_in)` to `(N, S'.., C_out)` with weights `(C_in, C_out / groups, k..)`, where `S'
//! = (S - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1`.

use crate::Path;
use crate::conv::{ConvSpec, conv, transposed};
use candle_core::{Result, Tensor, bail};

/// Transposed convolution of `x (N, S.., C_in)` with `w (C_in, C_out / groups, k..)` and bias `b (C_out)`;
/// one, two or three spatial axes, which share `stride`, `padding` (taken off both sides of the output),
/// `output_padding` (added on the right) and `dilation`.
///
/// # Errors
/// If the shapes do not fit, the output would be empty, or `output_padding` is not less than `stride` or
/// `dilation`.
#[allow(clippy::too_many_arguments)]
pub fn conv_transpose(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    stride: usize,
    padding: usize,
    output_padding: usize,
    dilation: usize,
    groups: usize,
    path: Path,
) -> Result<Tensor> {
    let rank = w.rank().wrapping_sub(2);
    if !(1..=3).contains(&rank) || x.rank() != rank + 2 {
        bail!(
            "conv_transpose: input {:?} and weight {:?}, expected (N, S.., C_in) and (C_in, C_out / groups, k..) with one, two or three axes",
            x.dims(),
            w.dims()
        )
    }
    let (inputs, kernel) = (x.dim(rank + 1)?, &w.dims()[2..]);
    if groups == 0
        || w.dim(0)? != inputs
        || !inputs.is_multiple_of(groups)
        || kernel.contains(&0)
        || x.dims().contains(&0)
        || w.dim(1)? == 0
    {
        bail!(
            "conv_transpose: {inputs} input channels in {groups} groups, expected a weight (C_in, C_out / groups, k..) with C_in a multiple of groups, got {:?}",
            w.dims()
        )
    }
    if stride == 0 || dilation == 0 || output_padding >= stride.max(dilation) {
        bail!(
            "conv_transpose: stride {stride}, dilation {dilation}, output padding {output_padding}, expected at least 1 and an output padding below one of them"
        )
    }
    let outputs = w.dim(1)? * groups;
    if let Some(b) = b
        && b.dims() != [outputs]
    {
        bail!("conv_transpose: bias of shape {:?}, expected ({outputs})", b.dims())
    }
    let mut out = Vec::with_capacity(rank);
    for (axis, k) in kernel.iter().enumerate() {
        let full = (x.dim(1 + axis)? - 1)
            .checked_mul(stride)
            .and_then(|l| l.checked_add(dilation.checked_mul(k - 1)?)?.checked_add(output_padding + 1));
        match full.zip(padding.checked_mul(2)) {
            Some((full, cut)) if full > cut => out.push(full - cut),
            _ => bail!(
                "conv_transpose: axis {axis} with {} positions, kernel {k}, padding {padding}: the output would be empty",
                x.dim(1 + axis)?
            ),
        }
    }
    let spec = ConvSpec::new().stride(stride).padding(padding).dilation(dilation).groups(groups);
    if path.fused(x)
        && let Some(y) = transposed(x, w, b, &out, &spec)?
    {
        return Ok(y);
    }
    let y = composed(x, w, &out, stride, padding, dilation, groups)?;
    match b {
        Some(b) => y.broadcast_add(b),
        None => Ok(y),
    }
}

/// Zeros between the inputs, then a convolution with the flipped kernel.
fn composed(
    x: &Tensor,
    w: &Tensor,
    out: &[usize],
    stride: usize,
    padding: usize,
    dilation: usize,
    groups: usize,
) -> Result<Tensor> {
    let rank = out.len();
    let kernel = w.dims()[2..].to_vec();
    let (n, inputs) = (x.dim(0)?, x.dim(rank + 1)?);
    let outputs = w.dim(1)?;
    if groups == 1 && dilation == 1 && padding == 0 && kernel.iter().all(|&k| k == stride) {
        return blocks(x, w, out, stride);
    }
    let mut spread = x.clone();
    for axis in 1..=rank {
        let size = spread.dim(axis)?;
        if stride > 1 {
            let mut dims = spread.dims().to_vec();
            dims[axis] = size * stride;
            spread = spread.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, stride - 1)?.reshape(dims)?;
        }
        // The window of output o covers the inputs o - e ..= o of the padded axis, e the extent of the kernel
        // less 1.
        let extent = dilation * (kernel[axis - 1] - 1);
        let length = out[axis - 1] + extent;
        let have = spread.dim(axis)?;
        if padding > extent {
            spread = spread.narrow(axis, padding - extent, have - (padding - extent))?;
        } else {
            spread = spread.pad_with_zeros(axis, extent - padding, 0)?;
        }
        let have = spread.dim(axis)?;
        spread = if have > length {
            spread.narrow(axis, 0, length)?
        } else {
            spread.pad_with_zeros(axis, 0, length - have)?
        };
    }
    // (C_in, O / g, k..) -> (O, C_in / g, k..), flipped
    let taps: usize = kernel.iter().product();
    let mut dims = vec![groups * outputs, inputs / groups];
    dims.extend_from_slice(&kernel);
    let axes: Vec<usize> = (2..rank + 2).collect();
    let w = w
        .reshape((groups, inputs / groups, outputs, taps))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(dims)?
        .flip(&axes)?
        .contiguous()?;
    debug_assert_eq!(spread.dim(0)?, n);
    conv(&spread, &w, None, &ConvSpec::new().dilation(dilation).groups(groups), Path::Composed)
}

/// Kernel equal to the stride: every input makes a block of its own, one matrix product.
fn blocks(x: &Tensor, w: &Tensor, out: &[usize], stride: usize) -> Result<Tensor> {
    let rank = out.len();
    let (inputs, outputs) = (w.dim(0)?, w.dim(1)?);
    let taps = stride.pow(rank as u32);
    // (C_in, O, taps) -> (C_in, taps * O)
    let w = w
        .reshape((inputs, outputs, taps))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((inputs, taps * outputs))?;
    let mut dims = x.dims()[..=rank].to_vec();
    dims.extend(std::iter::repeat_n(stride, rank));
    dims.push(outputs);
    let y = x.contiguous()?.reshape((x.elem_count() / inputs, inputs))?.matmul(&w)?.reshape(dims)?;
    // (N, S.., k.., O) -> (N, S, k, .., O)
    let mut order = vec![0];
    for axis in 1..=rank {
        order.extend([axis, axis + rank]);
    }
    order.push(2 * rank + 1);
    let mut shape = vec![x.dim(0)?];
    shape.extend(x.dims()[1..=rank].iter().map(|s| s * stride));
    shape.push(outputs);
    let mut y = y.permute(order)?.contiguous()?.reshape(shape)?;
    // Output padding: zeros that no input reaches.
    for axis in 1..=rank {
        y = y.pad_with_zeros(axis, 0, out[axis - 1] - y.dim(axis)?)?;
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::testing::{agree, random, same_bits};

    #[test]
    fn fused_is_composed() {
        // Kernel, stride, padding, output padding, dilation, groups.
        for (i, (k, s, p, e, d, g)) in [
            (2, 2, 0, 0, 1, 1),
            (3, 2, 1, 1, 1, 1),
            (3, 1, 1, 0, 1, 1),
            (3, 2, 0, 0, 2, 2),
            (2, 3, 0, 2, 1, 1),
            (2, 1, 0, 1, 2, 1),
        ]
        .into_iter()
        .enumerate()
        {
            for space in [&[13][..], &[3, 4], &[5, 2, 3]] {
                let mut shape = vec![2];
                shape.extend_from_slice(space);
                shape.push(4 * g);
                let mut weight = vec![4 * g, 3];
                weight.extend(std::iter::repeat_n(k, space.len()));
                let inputs = [
                    random(&shape, i as u64),
                    random(&weight, 50 + i as u64),
                    random(&[3 * g], 90 + i as u64),
                ];
                agree(&inputs, |t, path| conv_transpose(&t[0], &t[1], Some(&t[2]), s, p, e, d, g, path));
                same_bits(&inputs, |t| conv_transpose(&t[0], &t[1], Some(&t[2]), s, p, e, d, g, Path::Fused));
            }
        }
    }
}
