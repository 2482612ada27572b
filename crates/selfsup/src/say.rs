//! What the command prints on the standard output.
//!
//! `println!` panics when the reader has gone, as in `selfsup data list | head -3`. Here a closed pipe is no
//! failure: later lines go nowhere, and a training that was piped into `head` still ends with its result on
//! disk. Any other failure (a full disk) is reported once on the standard error, and turns the exit code into
//! 1.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static FAILED: AtomicBool = AtomicBool::new(false);
static HUSHED: AtomicBool = AtomicBool::new(false);

/// Writes to the standard output; see the module.
pub fn text(what: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(what).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe && !FAILED.swap(true, Ordering::Relaxed) => {
            // Where this fails too, nobody is left to report to.
            let _ = writeln!(std::io::stderr(), "error: the standard output cannot be written: {e}");
        }
        _ => {}
    }
}

/// Whether a line was lost for another reason than a reader that went away.
pub fn failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// What a user should know and need not change, on the standard error.
pub fn note(what: impl std::fmt::Display) {
    if HUSHED.load(Ordering::Relaxed) {
        return;
    }
    let _ = writeln!(std::io::stderr(), "note: {what}");
}

/// A warning on the standard error.
pub fn warning(what: impl std::fmt::Display) {
    if HUSHED.load(Ordering::Relaxed) {
        return;
    }
    let _ = writeln!(std::io::stderr(), "warning: {what}");
}

/// Runs `work` without notes and warnings: those of a look at what a run reads again, and then says.
pub fn hushed<T>(work: impl FnOnce() -> T) -> T {
    let before = HUSHED.swap(true, Ordering::Relaxed);
    let out = work();
    HUSHED.store(before, Ordering::Relaxed);
    out
}

/// A line on the standard output, as `println!` without its panic.
macro_rules! say {
    ($($arg:tt)*) => { $crate::say::text(format_args!("{}\n", format_args!($($arg)*))) };
}
pub(crate) use say;

/// Text on the standard output, as `print!` without its panic.
macro_rules! say_text {
    ($($arg:tt)*) => { $crate::say::text(format_args!($($arg)*)) };
}
pub(crate) use say_text;
