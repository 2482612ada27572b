//! How operands are reached: matrices that are read, memory that tasks share, memory that is used again.

use crate::memory::{Blank, scratch};

/// A pointer that tasks share; each task writes only what is its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(super) *mut f32);

// SAFETY: see the type; every use states why the parts that tasks touch are disjoint.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(x: &mut [f32]) -> Self {
        Shared(x.as_mut_ptr())
    }

    /// To numbers that tasks have still to write.
    pub(crate) fn blank(x: &mut [Blank]) -> Self {
        Shared(x.as_mut_ptr().cast())
    }

    /// The address of element `start`, with the extent of the whole slice.
    ///
    /// # Safety
    /// `start` must be at most the length of the slice that the pointer came from.
    pub(super) unsafe fn at(self, start: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(start) }
    }

    /// The elements `start .. start + len`.
    ///
    /// # Safety
    /// They must lie within the slice that the pointer came from and hold numbers, and nobody else may use
    /// them at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }

    /// The same elements, which need not hold numbers yet.
    ///
    /// # Safety
    /// As [`Shared::slice`].
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn blanks<'a>(self, start: usize, len: usize) -> &'a mut [Blank] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start).cast(), len) }
    }
}

/// A read-only matrix in a slice: element `(i, j)` is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `stride` elements, of which each is contiguous.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Matrix { data, row: stride, column: 1 }
    }

    /// The same matrix with rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        Matrix { data: self.data, row: self.column, column: self.row }
    }

    /// Whether an `m x n` matrix lies within the slice.
    pub(super) fn holds(&self, m: usize, n: usize) -> bool {
        m == 0 || n == 0 || (m - 1) * self.row + (n - 1) * self.column < self.data.len()
    }
}

/// Memory that is used again and again: fresh pages cost more than what is computed in them.
#[derive(Default)]
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    pub(crate) const fn new() -> Self {
        Scratch(Vec::new())
    }

    /// `len` elements of any value (NaN at first in builds with debug assertions) from the start of a cache
    /// line: vectors that straddle two lines are loaded twice.
    pub(crate) fn get(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len + 16 {
            // Not `resize`: the old elements need no copy.
            self.0 = scratch(len + 16);
        }
        // Where addresses cannot be told (under Miri) any start will do.
        let start = self.0.as_ptr().align_offset(64).min(16);
        &mut self.0[start..start + len]
    }
}
