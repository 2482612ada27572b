//! What the command prints on the standard output.
//!
//! `println!` panics when the reader has gone, as in `selfsup data list | head -3`. Here a closed pipe is no
//! failure: later lines go nowhere, and a training that was piped into `head` still ends with its result on
//! disk. Any other failure (a full disk) is reported once on the standard error, and turns the exit code into
//! 1.
//!
//! A [`Mode`] says how much is printed. With `--json` the standard output gets one JSON object, the verb's
//! [`result`], and what people read goes to the standard error.

use std::collections::BTreeSet;
use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

static FAILED: AtomicBool = AtomicBool::new(false);
/// Whether a result was printed as JSON.
static SAID: AtomicBool = AtomicBool::new(false);
static MODE: OnceLock<Mode> = OnceLock::new();
static HUSHED: AtomicBool = AtomicBool::new(false);

/// How much is printed, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Only the result, warnings and errors: no progress, no notes.
    pub quiet: bool,
    /// Also what a verb decides on the way.
    pub verbose: bool,
    /// The result as one JSON object on the standard output.
    pub json: bool,
}

/// Sets the mode of this process, once, before anything is printed.
pub fn set_mode(mode: Mode) {
    selfsup_core::run::set_quiet(mode.quiet);
    let _ = MODE.set(mode);
}

fn mode() -> Mode {
    MODE.get().copied().unwrap_or_default()
}

/// Whether results are asked for as JSON.
pub fn wants_json() -> bool {
    mode().json
}

/// The result of a verb as JSON, where it is asked for; once: of an error after it the exit code tells.
pub fn result(value: &serde_json::Value) {
    if mode().json && !SAID.swap(true, Ordering::Relaxed) {
        write_out(format_args!("{value}\n"));
    }
}

/// Writes a result in words to the standard output; see the module.
pub fn text(what: Arguments<'_>) {
    match mode() {
        Mode { json: true, quiet: true, .. } => {}
        Mode { json: true, .. } => {
            let _ = std::io::stderr().lock().write_fmt(what);
        }
        _ => write_out(what),
    }
}

/// Writes what goes on, and is no result: as [`text`], and not at all where only results are asked for.
pub fn progress(what: Arguments<'_>) {
    if !mode().quiet {
        text(what);
    }
}

/// Writes what a verb decides on the way to the standard error, where it is asked for.
pub fn detail(what: impl std::fmt::Display) {
    if mode().verbose {
        let _ = writeln!(std::io::stderr(), "{what}");
    }
}

/// Does `work`; says how long it took, where details are asked for.
pub fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let out = work();
    detail(format_args!("{what}: {:.2} s", started.elapsed().as_secs_f64()));
    out
}

fn write_out(what: Arguments<'_>) {
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

/// What a user should know and need not change, on the standard error; the same thing once.
pub fn note(what: impl std::fmt::Display) {
    if !mode().quiet {
        once("note", &what.to_string());
    }
}

/// A warning on the standard error; the same one once.
pub fn warning(what: impl std::fmt::Display) {
    once("warning", &what.to_string());
}

/// Hashes of the notes and warnings of this process. What reads the same samples again (an evaluation by two
/// encoders) has the same to say of them.
static ONCE: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn once(kind: &str, what: &str) {
    if HUSHED.load(Ordering::Relaxed) {
        return;
    }
    let mut hasher = DefaultHasher::new();
    (kind, what).hash(&mut hasher);
    if ONCE.lock().unwrap_or_else(PoisonError::into_inner).insert(hasher.finish()) {
        let _ = writeln!(std::io::stderr(), "{kind}: {what}");
    }
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

/// A line of what goes on, which is no result.
macro_rules! say_progress {
    ($($arg:tt)*) => { $crate::say::progress(format_args!("{}\n", format_args!($($arg)*))) };
}
pub(crate) use say_progress;

/// Text on the standard output, as `print!` without its panic.
macro_rules! say_text {
    ($($arg:tt)*) => { $crate::say::text(format_args!($($arg)*)) };
}
pub(crate) use say_text;
