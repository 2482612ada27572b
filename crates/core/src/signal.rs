//! Stopping on request: the first SIGINT or SIGTERM sets a flag that the loop reads between steps, the second
//! ends the process at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The flag. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

/// Signals belong to the process, so there is one flag for all that install it.
static INSTALLED: Mutex<Option<Stop>> = Mutex::new(None);

impl Stop {
    /// A flag that no signal sets: for use as a library and for tests.
    pub fn manual() -> Self {
        Self::default()
    }

    /// The flag that SIGINT and SIGTERM set. A second signal acts as if there were no handler. Installing
    /// twice gives the same flag.
    ///
    /// # Errors
    /// If the system refuses the handler.
    pub fn install() -> Result<Self> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = &*installed {
            return Ok(stop.clone());
        }
        let stop = Stop::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Order matters: the handler that ends the process must look at the flag before the other one
            // sets it.
            let registered = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop.0)));
            registered
                .map_err(|e| Error::Other(format!("signal {signal}: cannot install a handler: {e}")))?;
        }
        *installed = Some(stop.clone());
        Ok(stop)
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Asks for a stop from within the program.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// From now on the first signal ends the process: for work that nothing would be lost of. [`Stop::clear`]
    /// takes it back.
    pub fn end_at_once(&self) {
        self.request();
    }

    /// Takes the request back: before another run in the same process.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const CHILD: &str = "SELFSUP_TEST_SIGNAL_CHILD";

    /// The body of the child processes of the test below: signals would hit every test of this process.
    #[test]
    fn child() {
        let Ok(count) = std::env::var(CHILD) else { return };
        let stop = Stop::install().unwrap();
        assert!(!stop.requested());
        let again = Stop::install().unwrap();
        let count = match count.strip_prefix("at once, ") {
            Some(count) => {
                stop.end_at_once();
                count
            }
            None => &count,
        };
        for _ in 0..count.parse::<usize>().unwrap() {
            signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
            assert!(stop.requested() && again.requested());
        }
        std::process::exit(42);
    }

    #[test]
    fn first_signal_asks_second_kills() {
        let run = |count: &str| {
            let exe = std::env::current_exe().unwrap();
            Command::new(exe)
                .args(["--exact", "signal::tests::child", "--test-threads=1"])
                .env(CHILD, count)
                .output()
                .unwrap()
                .status
        };
        assert_eq!(run("0").code(), Some(42));
        assert_eq!(run("1").code(), Some(42));
        assert_eq!(run("2").signal(), Some(signal_hook::consts::SIGTERM));
        assert_eq!(run("at once, 0").code(), Some(42));
        assert_eq!(run("at once, 1").signal(), Some(signal_hook::consts::SIGTERM));
    }

    #[test]
    fn by_hand() {
        let stop = Stop::manual();
        let other = stop.clone();
        other.request();
        assert!(stop.requested());
        stop.clear();
        assert!(!other.requested());
    }
}
