//! What a training process asks of the allocator: kept pages, and memory that is not zeroed before it is
//! written.

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

/// `len` numbers of any value, for a kernel that writes each of them before anyone reads it.
///
/// `vec![0.0; len]` hands out zeros, and since [`keep_pages`] keeps blocks in the process they are written by
/// one thread before the kernel's threads write the same memory again: an eighth of a step of a U-Net. Builds
/// with debug assertions hand out NaN, so that a test that reads what its kernel has not written sees it.
pub(crate) fn unwritten(len: usize) -> Vec<f32> {
    if cfg!(any(debug_assertions, miri, not(any(target_arch = "x86_64", target_arch = "aarch64")))) {
        return vec![if cfg!(debug_assertions) { f32::NAN } else { 0.0 }; len];
    }
    let mut values = Vec::<f32>::with_capacity(len);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: the capacity is `len`. The assembly is handed the address and may, for all that the compiler
    // knows, have written what lies there: from then on the memory holds some number at each place, instead
    // of being uninitialised, and each pattern of bits is an f32.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) values.as_mut_ptr(), options(nostack, preserves_flags));
        values.set_len(len);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::unwritten;

    #[test]
    fn what_is_not_written_shows() {
        let mut values = unwritten(5);
        assert_eq!(values.len(), 5);
        assert!(values.iter().all(|v| v.is_nan()), "tests run with debug assertions");
        values.copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(unwritten(0).is_empty());
    }
}
