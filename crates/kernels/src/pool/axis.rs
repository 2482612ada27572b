//! The windows of a pooling along one axis.

/// One spatial axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) windows: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Axis {
    /// An axis of one element that pooling leaves as it is.
    pub(super) const UNIT: Axis = Axis { size: 1, windows: 1, kernel: 1, stride: 1, padding: 0 };

    /// The positions of window `o` that exist; never empty.
    pub(super) fn window(&self, o: usize) -> std::ops::Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(self.size)
    }

    /// The windows that position `i` is in.
    pub(super) fn windows_of(&self, i: usize) -> std::ops::Range<usize> {
        let first = (i + self.padding + 1).saturating_sub(self.kernel).div_ceil(self.stride);
        first..((i + self.padding) / self.stride + 1).min(self.windows)
    }
}
