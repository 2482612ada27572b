//! What a training process asks of the allocator: kept pages, and memory that is not zeroed before it is
//! written.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};

/// Keeps freed memory in the process instead of handing every large block back to the system, from the first
/// call on.
///
/// A step allocates and frees hundreds of activations of some megabytes. glibc maps blocks of that size
/// afresh and unmaps them when they are freed, so that the kernel zeroes the same pages again and again: 18 %
/// of a ResNet-18 step on two cores. Peak memory stays the same; what is free is given back when the process
/// ends. Does nothing on other systems.
pub fn keep_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: mallopt takes its own locks, and these parameters concern future blocks alone.
            unsafe {
                libc::mallopt(libc::M_MMAP_MAX, 0);
                libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
                libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            }
        });
    }
}

/// Gives pages that nothing lies on back to the system, so that the memory of the process is what it holds.
/// Does nothing on other systems than Linux with glibc.
pub fn give_back_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes its own locks and moves no block.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A number that a kernel has still to write.
pub(crate) type Blank = MaybeUninit<f32>;

/// Numbers that a kernel has still to write.
pub(crate) struct Unwritten(Vec<Blank>);

/// `len` numbers for a kernel that writes each of them before anyone reads it.
///
/// `vec![0.0; len]` hands out zeros, and since [`keep_pages`] keeps blocks in the process they are written by
/// one thread before the kernel's threads write the same memory again: an eighth of a step of a U-Net. Builds
/// with debug assertions hand out NaN, so that a test that reads what its kernel has not written sees it;
/// under Miri the memory stays uninitialised, so that Miri sees it.
pub(crate) fn unwritten(len: usize) -> Unwritten {
    if cfg!(all(debug_assertions, not(miri))) {
        return Unwritten(vec![Blank::new(f32::NAN); len]);
    }
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, and a `MaybeUninit` needs no value.
    unsafe { values.set_len(len) };
    Unwritten(values)
}

impl Unwritten {
    /// The numbers.
    ///
    /// # Safety
    /// Each of them has been written.
    pub(crate) unsafe fn written(self) -> Vec<f32> {
        let mut values = ManuallyDrop::new(self.0);
        // SAFETY: the same allocation, of elements of the same layout, all of which the caller has written.
        unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
    }
}

impl Deref for Unwritten {
    type Target = [Blank];

    fn deref(&self) -> &[Blank] {
        &self.0
    }
}

impl DerefMut for Unwritten {
    fn deref_mut(&mut self) -> &mut [Blank] {
        &mut self.0
    }
}

/// `len` numbers of any value, for memory that a kernel uses in parts and again: zeros, or NaN in builds with
/// debug assertions.
pub(crate) fn scratch(len: usize) -> Vec<f32> {
    vec![if cfg!(debug_assertions) { f32::NAN } else { 0.0 }; len]
}

/// Writes `value` into all of `to`.
#[inline(always)]
pub(crate) fn fill(to: &mut [Blank], value: f32) -> &mut [f32] {
    to.fill(Blank::new(value));
    // SAFETY: the line above has written each element.
    unsafe { assume_written(to) }
}

/// Writes `from` into `to`, which is as long.
#[inline(always)]
pub(crate) fn copy<'a>(to: &'a mut [Blank], from: &[f32]) -> &'a mut [f32] {
    // SAFETY: what holds a number may be read as what may hold one.
    let from = unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<Blank>(), from.len()) };
    to.copy_from_slice(from);
    // SAFETY: the line above has written each element; it panics where the lengths differ.
    unsafe { assume_written(to) }
}

/// The numbers in `values`.
///
/// # Safety
/// Each of them has been written.
#[inline(always)]
pub(crate) unsafe fn assume_written(values: &mut [Blank]) -> &mut [f32] {
    // SAFETY: elements of the same layout, all of which the caller has written.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_shows() {
        let mut values = unwritten(5);
        assert_eq!(values.len(), 5);
        if !cfg!(miri) {
            // SAFETY: a build with debug assertions, as tests are, writes NaN.
            let seen = unsafe { assume_written(&mut values) };
            assert!(seen.iter().all(|v| v.is_nan()), "tests run with debug assertions");
        }
        let (first, rest) = values.split_at_mut(2);
        assert_eq!(fill(first, 7.0), [7.0; 2]);
        assert_eq!(copy(rest, &[3.0, 4.0, 5.0]), [3.0, 4.0, 5.0]);
        // SAFETY: both parts have been written.
        assert_eq!(unsafe { values.written() }, [7.0, 7.0, 3.0, 4.0, 5.0]);
        // SAFETY: there is nothing to write.
        assert!(unsafe { unwritten(0).written() }.is_empty());
    }

    #[test]
    #[should_panic(expected = "length")]
    fn copies_are_of_one_length() {
        copy(&mut unwritten(3), &[1.0, 2.0]);
    }
}
