//! Whether a run is running, and how it ended.
//!
//! The process that writes a run leaves `state.json` when it is done with it. It removes the file when it
//! starts, and the system takes back its lock however it ends: a run without the file that nobody writes has
//! ended without a word (a crash, a kill, a power cut).

use crate::checkpoint::{FolderLock, fault, write_text};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

const NAME: &str = "state.json";

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// A process writes it.
    Running,
    /// It came to its end.
    Finished,
    /// It was interrupted, wrote a checkpoint and can go on.
    Stopped,
    /// A gauge left its healthy band, and `train.on_collapse = "stop"` ended it with a checkpoint.
    Collapsed,
    /// An error ended it, or the process is gone.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Running => "running",
            State::Finished => "finished",
            State::Stopped => "stopped",
            State::Collapsed => "collapsed",
            State::Failed => "failed",
        })
    }
}

/// The state of a run, with the error that ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What it is doing.
    pub state: State,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Ended {
    /// The state of the run in `dir`. Nothing is written. Runs of earlier versions left no word at their end:
    /// those with a `result.json` have finished.
    pub fn of(dir: &Path) -> Self {
        if FolderLock::is_held(dir) {
            return Ended { state: State::Running, error: None };
        }
        let left = crate::file::read(dir.join(NAME)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        left.unwrap_or_else(|| match dir.join("result.json").is_file() {
            true => Ended { state: State::Finished, error: None },
            false => Ended {
                state: State::Failed,
                error: Some("the process ended without a word (killed, or out of memory)".into()),
            },
        })
    }

    /// Leaves word of how the run in `dir` ended. Nothing is written where another process has taken it over,
    /// or while this one still writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn leave<T>(dir: &Path, result: &Result<T>) -> Result<()> {
        let Some(_lock) = FolderLock::try_new(dir)? else { return Ok(()) };
        let ended = match result {
            Ok(_) => Ended { state: State::Finished, error: None },
            Err(Error::Interrupted { .. }) => Ended { state: State::Stopped, error: None },
            Err(e @ Error::Collapsed { .. }) => Ended { state: State::Collapsed, error: Some(e.to_string()) },
            Err(e) => Ended { state: State::Failed, error: Some(e.to_string()) },
        };
        let text = serde_json::to_string(&ended).map_err(|e| Error::Other(e.to_string()))?;
        write_text(&dir.join(NAME), &format!("{text}\n"))
    }

    /// Forgets an earlier end: the run goes on.
    pub(super) fn forget(dir: &Path) -> Result<()> {
        let path = dir.join(NAME);
        fault::point(&path)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Run;
    use super::*;

    #[test]
    fn a_crash_cannot_leave_a_running_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let state = || Ended::of(&path).state;
        let run = Run::create(&path, "").unwrap();
        assert_eq!(state(), State::Running);
        // Not while it is written.
        Ended::leave(&path, &Ok(())).unwrap();
        assert_eq!(state(), State::Running);
        drop(run);
        assert_eq!((state(), Ended::of(&path).error.is_some()), (State::Failed, true), "no word was left");
        Ended::leave(&path, &Err::<(), _>(Error::Other("out of eggs".into()))).unwrap();
        assert_eq!(Ended::of(&path), Ended { state: State::Failed, error: Some("out of eggs".into()) });
        let checkpoint = path.join("checkpoints/7.safetensors");
        let collapsed = Error::Collapsed { step: 7, what: "spread is 0".into(), checkpoint };
        assert_eq!(collapsed.exit_code(), 4);
        Ended::leave(&path, &Err::<(), _>(collapsed)).unwrap();
        assert!(state() == State::Collapsed && Ended::of(&path).error.unwrap().contains("spread is 0"));
        let (run, _) = Run::resume(&path, None).unwrap();
        assert_eq!(state(), State::Running);
        drop(run);
        assert_eq!(state(), State::Failed, "the earlier word is forgotten");
        Ended::leave(&path, &Ok(())).unwrap();
        assert_eq!(Ended::of(&path), Ended { state: State::Finished, error: None });
        std::fs::write(path.join("state.json"), "{").unwrap();
        std::fs::write(path.join("result.json"), "{}").unwrap();
        assert_eq!(state(), State::Finished, "a run of an earlier version");
    }
}
