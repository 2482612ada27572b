//! The shape of a convolution, checked once, with one and two spatial axes written as three (unit axes in
//! front).

use super::spec::ConvSpec;
use candle_core::{Result, bail};

/// Sizes of a convolution of rank 1, 2 or 3. Arrays are `[depth, height, width]`; missing axes have size 1,
/// kernel 1, stride 1, padding 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    /// Spatial axes of the tensors themselves.
    pub rank: usize,
    /// Batch size.
    pub n: usize,
    /// Input sizes.
    pub size: [usize; 3],
    /// Output sizes.
    pub out: [usize; 3],
    /// Kernel sizes.
    pub kernel: [usize; 3],
    /// Strides.
    pub stride: [usize; 3],
    /// Zeros on the left (and right) of each axis.
    pub padding: [usize; 3],
    /// Dilations.
    pub dilation: [usize; 3],
    /// Groups.
    pub groups: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

impl Geometry {
    /// Of the input `x (N, S.., C_in)` and the weight `w (C_out, C_in / groups, k..)`.
    pub fn new(x: &[usize], w: &[usize], spec: &ConvSpec) -> Result<Self> {
        let rank = w.len().wrapping_sub(2);
        if !(1..=3).contains(&rank) {
            bail!(
                "conv: weight of shape {w:?}, expected (C_out, C_in / groups, k..) with one, two or three kernel sizes"
            )
        }
        if x.len() != rank + 2 {
            bail!("conv: input of shape {x:?}, expected (N, {rank} sizes, C_in) for a weight of shape {w:?}")
        }
        let (inputs, outputs, groups) = (x[rank + 1], w[0], spec.groups);
        if groups == 0
            || inputs == 0
            || outputs == 0
            || !outputs.is_multiple_of(groups)
            || w[1].checked_mul(groups) != Some(inputs)
        {
            bail!(
                "conv: {inputs} input channels in {groups} groups, expected a weight (C_out, C_in / groups, k..) with C_out a multiple of groups, got {w:?}"
            )
        }
        let mut g = Geometry {
            rank,
            n: x[0],
            size: [1; 3],
            out: [1; 3],
            kernel: [1; 3],
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
            groups,
            inputs,
            outputs,
        };
        for a in 0..rank {
            let (i, size, kernel) = (3 - rank + a, x[1 + a], w[2 + a]);
            let (stride, padding, dilation) = (spec.stride[a], spec.padding[a], spec.dilation[a]);
            if stride == 0 || dilation == 0 || kernel == 0 {
                bail!(
                    "conv: stride {stride}, dilation {dilation}, kernel {kernel} on axis {a}, expected at least 1"
                )
            }
            let padded = padding.checked_mul(2).and_then(|p| p.checked_add(size));
            let extent = dilation.checked_mul(kernel - 1).and_then(|e| e.checked_add(1));
            let (Some(padded), Some(extent)) = (padded, extent) else {
                bail!("conv: padding {padding} or dilation {dilation} is too large")
            };
            if size == 0 || padded < extent {
                bail!(
                    "conv: axis {a} has {size} positions and padding {padding}, expected at least {extent} for kernel {kernel}, dilation {dilation}"
                )
            }
            g.size[i] = size;
            g.out[i] = (padded - extent) / stride + 1;
            g.kernel[i] = kernel;
            g.stride[i] = stride;
            g.padding[i] = padding;
            g.dilation[i] = dilation;
        }
        Ok(g)
    }

    /// The convolution over the output's gradient that is the input gradient of this one, for stride 1.
    pub fn turned(&self) -> Option<Geometry> {
        if self.stride != [1; 3] {
            return None;
        }
        let mut t = *self;
        (t.size, t.out, t.inputs, t.outputs) = (self.out, self.size, self.outputs, self.inputs);
        for a in 0..3 {
            t.padding[a] = (self.dilation[a] * (self.kernel[a] - 1)).checked_sub(self.padding[a])?;
        }
        Some(t)
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Shape of the output tensor.
    pub fn out_shape(&self) -> Vec<usize> {
        let mut shape = vec![self.n];
        shape.extend_from_slice(&self.out[3 - self.rank..]);
        shape.push(self.outputs);
        shape
    }

    /// The used length of an axis, counted from the left padding's start: the last window ends there.
    pub fn used(&self, axis: usize) -> usize {
        (self.out[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }
}
