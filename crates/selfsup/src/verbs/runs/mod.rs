//! `selfsup runs`: the runs of a folder, what they came to, what differs between them, and what can go.

mod clean;
mod compare;
mod entry;

pub use clean::clean;
pub use compare::compare;

use crate::say::say;
use entry::{Entry, found, size};
use selfsup_core::run::State;
use selfsup_core::{Error, Result};
use serde_json::json;
use std::path::Path;

/// The runs in `dir`, or below its folders; an error where there are none.
fn runs_in(dir: &Path) -> Result<Vec<Entry>> {
    let found = found(dir)?;
    if found.is_empty() {
        return Err(Error::file(dir, "holds no runs (folders with a config.toml)"));
    }
    Ok(found)
}

/// Lists the runs in `dir`: state, method, encoder, steps, the number that says most, size, and what it
/// took.
///
/// # Errors
/// If `dir` cannot be read or holds no runs.
pub fn list(dir: &Path) -> Result<()> {
    let runs = runs_in(dir)?;
    let names: Vec<String> = runs.iter().map(|r| r.dir.display().to_string()).collect();
    let wide = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).max(3);
    say!(
        "{:<wide$}  {:<10}{:<22}{:<16}{:>9}  {:<26}{:>10}  {}",
        "run",
        "state",
        "method",
        "encoder",
        "steps",
        "result",
        "size",
        "took"
    );
    for (run, name) in runs.iter().zip(&names) {
        say!(
            "{name:<wide$}  {:<10}{:<22}{:<16}{:>9}  {:<26}{:>10}  {}",
            run.ended.state.to_string(),
            run.method,
            run.encoder,
            run.steps,
            run.main.as_ref().map_or_else(|| "-".into(), |(what, v)| format!("{what} {v:.4}")),
            size(run.bytes),
            run.cost(),
        );
        if let (State::Failed | State::Collapsed, Some(why)) = (run.ended.state, &run.ended.error) {
            say!("{:wide$}  {why}", "");
        }
        let unhealthy = run.unhealthy();
        if !unhealthy.is_empty() {
            say!("{:wide$}  outside the healthy band at the end: {}", "", unhealthy.join(", "));
        }
    }
    let all: Vec<_> = runs.iter().map(Entry::json).collect();
    crate::say::result(&json!({ "folder": dir, "runs": all }));
    Ok(())
}
