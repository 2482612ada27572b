//! Calls into libraries that may panic over a damaged file.
//!
//! A panic inside [`guarded`] is an error of the caller's, and its text reaches no user: the hook of the
//! process is silent on that thread meanwhile. With `RUST_BACKTRACE` set it speaks, for developers.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Guarded calls that this thread is inside of.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// The panic that [`guarded`] caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked(
    /// The words of the panic: for tests and logs rather than for users.
    pub String,
);

/// Runs `f`; a panic inside of it is an error.
///
/// # Errors
/// If `f` panics.
///
/// ```
/// use selfsup_core::guard::guarded;
///
/// assert_eq!(guarded(|| 3).ok(), Some(3));
/// assert!(guarded(|| Vec::<u8>::new()[3]).is_err());
/// ```
pub fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, Panicked> {
    /// Counts down, however the call ends.
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            INSIDE.with(|n| n.set(n.get() - 1));
        }
    }
    quieten();
    INSIDE.with(|n| n.set(n.get() + 1));
    let _inside = Inside;
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()));
        Panicked(text.unwrap_or_default())
    })
}

/// Puts a hook before the one of the process, once: inside a guarded call nothing is printed.
fn quieten() {
    static ONCE: Once = Once::new();
    // The hook cannot be changed while a panic unwinds.
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let silent = INSIDE.try_with(|n| n.get() > 0).unwrap_or(false);
            if !silent || std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
                before(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_errors_and_calls_may_nest() {
        let caught = guarded(|| -> i32 { panic!("number {}", 7) });
        assert_eq!(caught, Err(Panicked("number 7".into())));
        let inner = guarded(|| {
            let inner = guarded(|| -> i32 { panic!("inner") });
            assert_eq!(INSIDE.get(), 1);
            inner
        });
        assert_eq!(inner, Ok(Err(Panicked("inner".into()))));
        assert_eq!((guarded(|| 1), INSIDE.get()), (Ok(1), 0));
    }
}
