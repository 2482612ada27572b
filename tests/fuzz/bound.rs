//! What ends the process over one input: more memory than is allowed, or more time.
//!
//! An allocation that is too large must not be served and cannot be refused (most code aborts on that without
//! a word), so the allocator tells where it was asked for and ends the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts the bytes that are in use.
pub struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
/// Most bytes in use; none while no input is read.
static MOST: AtomicI64 = AtomicI64::new(i64::MAX);
/// Milliseconds since the start at which the present input was begun; 0 while there is none.
static BEGUN: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    let live = LIVE.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
    if live > MOST.load(Ordering::Relaxed) {
        // What follows asks for memory too.
        MOST.store(i64::MAX, Ordering::Relaxed);
        let trace = std::backtrace::Backtrace::force_capture();
        eprintln!("{} MiB are asked for, {} in all:\n{trace}", bytes >> 20, live >> 20);
        std::process::abort();
    }
}

// SAFETY: every call is passed on to the system's allocator as it is.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `read` with `bytes` more than are in use now; [`watch`] looks at the time.
pub fn bounded<T>(bytes: i64, start: Instant, read: impl FnOnce() -> T) -> T {
    MOST.store(LIVE.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    BEGUN.store(start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    let out = read();
    BEGUN.store(0, Ordering::Relaxed);
    MOST.store(i64::MAX, Ordering::Relaxed);
    out
}

/// Ends the process when one input takes longer than `most`.
pub fn watch(start: Instant, most: Duration) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let begun = BEGUN.load(Ordering::Relaxed);
            if begun > 0 && start.elapsed().as_millis() as u64 + 1 > begun + most.as_millis() as u64 {
                eprintln!("more than {} s over one input", most.as_secs());
                std::process::abort();
            }
        }
    });
}
