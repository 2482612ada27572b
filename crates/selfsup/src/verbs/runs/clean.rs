//! Removes what nobody needs: failed runs that left no checkpoint, and checkpoints that newer ones replace.

use super::entry::{Entry, bytes, size};
use super::runs_in;
use crate::say::{say, say_text};
use selfsup_core::checkpoint::FolderLock;
use selfsup_core::run::{Run, State};
use selfsup_core::{Error, Result};
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

/// What can go, and why.
struct Waste {
    path: PathBuf,
    /// The run whose lock is held while it goes.
    run: PathBuf,
    why: &'static str,
    bytes: u64,
}

/// Lists failed runs without a checkpoint (with `failed` those with one too: they could go on) and checkpoints
/// of other runs that are neither the newest nor the best; removes them once a person, or `yes`, says so.
///
/// # Errors
/// If there are no runs, nobody can be asked, or something cannot be removed.
pub fn clean(dir: &Path, failed: bool, yes: bool) -> Result<()> {
    let mut waste = Vec::new();
    for run in runs_in(dir)? {
        of(&run, failed, &mut waste)?;
    }
    let total: u64 = waste.iter().map(|w| w.bytes).sum();
    for w in &waste {
        say!("{:>10}  {} ({})", size(w.bytes), w.path.display(), w.why);
    }
    if waste.is_empty() {
        say!("{}: nothing to clean", dir.display());
    } else if !yes {
        asked(waste.len(), total)?;
    }
    let mut gone = Vec::new();
    for w in &waste {
        // A run that somebody took up in between is left alone.
        let Some(_lock) = FolderLock::try_new(&w.run)? else { continue };
        let removed =
            if w.path.is_dir() { std::fs::remove_dir_all(&w.path) } else { std::fs::remove_file(&w.path) };
        removed.map_err(|e| Error::io(&w.path, e))?;
        gone.push(&w.path);
    }
    if !gone.is_empty() {
        say!("removed {} of {}, {}", gone.len(), waste.len(), size(total));
    }
    crate::say::result(&json!({ "folder": dir, "removed": gone, "bytes": total }));
    Ok(())
}

fn of(run: &Entry, failed: bool, waste: &mut Vec<Waste>) -> Result<()> {
    let mut push = |path: &Path, why| {
        waste.push(Waste { path: path.into(), run: run.dir.clone(), why, bytes: bytes(path) });
    };
    let store = Run::read(&run.dir)?.checkpoints(0);
    let all = store.list()?;
    match run.ended.state {
        State::Running => {}
        State::Failed | State::Collapsed if all.is_empty() => push(&run.dir, "failed, without a checkpoint"),
        State::Failed if failed => push(&run.dir, "failed"),
        // A failed run goes on from what it has, and a collapsed one is looked at.
        State::Failed | State::Collapsed => {}
        _ => {
            let best = store.best()?.map(|(path, _)| path);
            for (_, path) in all.iter().rev().skip(1).filter(|(_, path)| Some(path) != best.as_ref()) {
                push(path, "an older checkpoint");
            }
        }
    }
    Ok(())
}

/// Asks on the terminal.
fn asked(n: usize, bytes: u64) -> Result<()> {
    let refused = |why: &str| Err(Error::input("runs clean", why));
    if !std::io::stdin().is_terminal() {
        return refused("nothing was removed: nobody can be asked here; say --yes");
    }
    say_text!("remove these {n} ({})? [y/N] ", size(bytes));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| Error::io("standard input", e))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => refused("nothing was removed"),
    }
}
