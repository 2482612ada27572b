//! The one error type of the libraries: every message names the file, key or tensor and says what was
//! expected.

use std::path::{Path, PathBuf};

/// Result of everything fallible in selfsup.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of the libraries. [`Error::exit_code`] is the exit code of the command for each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, sample, tensor or argument that is not what was expected.
    #[error("{what}: {problem}")]
    Input {
        /// The file, tensor, key or line.
        what: String,
        /// The problem, and what was expected.
        problem: String,
    },
    /// Too little data for a purpose. The data is right; a run that needs it beside training (to validate on)
    /// goes on without.
    #[error("{what}: {problem}")]
    TooFew {
        /// The thing that is scarce.
        what: String,
        /// How much there is and what was expected.
        problem: String,
    },
    /// A configuration that cannot be used.
    #[error("config: {0}")]
    Config(String),
    /// A file that could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A loss, gradient or parameter that is NaN or infinite.
    #[error("step {step}: {what} is not finite; {hint}")]
    NonFinite {
        /// The step at which it was seen.
        step: u64,
        /// The tensor.
        what: String,
        /// A hint what to try.
        hint: String,
    },
    /// The run was stopped by a signal after writing a checkpoint.
    #[error("interrupted at step {step}; checkpoint written to {checkpoint}", checkpoint = .checkpoint.display())]
    Interrupted {
        /// Steps done.
        step: u64,
        /// Where the run can be continued from.
        checkpoint: PathBuf,
    },
    /// A gauge left its healthy band, and the run was to stop then (`train.on_collapse = "stop"`).
    #[error("collapsed at step {step}: {what}; checkpoint written to {checkpoint}", checkpoint = .checkpoint.display())]
    Collapsed {
        /// Steps done.
        step: u64,
        /// Gauge, value, band, likely cause and remedy.
        what: String,
        /// The state of the run at that step.
        checkpoint: PathBuf,
    },
    /// An error of candle: a shape or dtype that does not fit, or a device failure.
    #[error("{0}")]
    Candle(String),
    /// An error of a collaborator (a worker thread, the Hub ...).
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// An [`Error::Input`] about `what`.
    pub fn input(what: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Error::Input { what: what.to_string(), problem: problem.to_string() }
    }

    /// An [`Error::Input`] about a file.
    pub fn file(path: impl AsRef<Path>, problem: impl std::fmt::Display) -> Self {
        Error::Input { what: path.as_ref().display().to_string(), problem: problem.to_string() }
    }

    /// An [`Error::TooFew`] of `what`.
    pub fn too_few(what: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Error::TooFew { what: what.to_string(), problem: problem.to_string() }
    }

    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// An [`Error::Config`].
    pub fn config(problem: impl std::fmt::Display) -> Self {
        Error::Config(problem.to_string())
    }

    /// Exit code of the command: 2 for bad input, config or files, 3 for an interruption with a checkpoint, 4
    /// for a collapse that stopped the run, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Input { .. } | Error::TooFew { .. } | Error::Config(_) | Error::Io { .. } => 2,
            Error::Interrupted { .. } => 3,
            Error::Collapsed { .. } => 4,
            Error::NonFinite { .. } | Error::Candle(_) | Error::Other(_) => 1,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        // A backtrace belongs into a debugger, not in front of a user.
        let text = e.to_string();
        Error::Candle(text.split("\n   0:").next().unwrap_or(&text).trim_end().to_string())
    }
}

/// For code of ours inside candle's traits (`Module::forward`): the message stays.
impl From<Error> for candle_core::Error {
    fn from(e: Error) -> Self {
        candle_core::Error::Msg(e.to_string())
    }
}
