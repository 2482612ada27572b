//! What is done at each position of a convolution.

/// Stride, padding, dilation and groups of a convolution. Of each array the first `r` entries count for `r`
/// spatial axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvSpec {
    /// Steps between output positions, in input positions.
    pub stride: [usize; 3],
    /// Zeros added on both sides of each axis.
    pub padding: [usize; 3],
    /// Steps between the taps of the kernel, in input positions.
    pub dilation: [usize; 3],
    /// Channels are cut into this many groups, and outputs of a group see its inputs only.
    pub groups: usize,
}

impl Default for ConvSpec {
    fn default() -> Self {
        ConvSpec::new()
    }
}

impl ConvSpec {
    /// Stride 1, no padding, dilation 1, one group.
    pub const fn new() -> Self {
        ConvSpec { stride: [1; 3], padding: [0; 3], dilation: [1; 3], groups: 1 }
    }

    /// The same stride on every axis.
    #[must_use]
    pub const fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 3];
        self
    }

    /// The same padding on every axis.
    #[must_use]
    pub const fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding; 3];
        self
    }

    /// The same dilation on every axis.
    #[must_use]
    pub const fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = [dilation; 3];
        self
    }

    /// The number of groups.
    #[must_use]
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}
