//! What a run's folder says of it, without its weights and samples. Names of files, and errors that can hold
//! them, stay out of it.

mod config;
mod pictures;
mod result;
mod tables;

use super::metrics::curves;
use super::run::Collected;
use crate::verbs::{is_task, kind_of_run};
use selfsup_core::Result;
use selfsup_core::run::{Ended, Run, State};
use std::path::Path;

/// Reads the folder of a run; with `samples` also its pictures.
///
/// # Errors
/// If it holds no run, or a file of it cannot be read.
pub(super) fn collect(dir: &Path, samples: bool) -> Result<Collected> {
    let run = Run::read(dir)?;
    let text = run.config()?;
    let kind = kind_of_run(dir)?;
    let config = config::table(&text, dir)?;
    let ended = Ended::of(dir);
    let of = |section: &str, key: &str| {
        config.get(section).and_then(|s| s.get(key)).and_then(toml::Value::as_str).unwrap_or_default()
    };
    let task = is_task(&text);
    let private = config::is_private(kind, &config);
    let mut found = Collected {
        name: name_of(dir),
        state: ended.state.to_string(),
        modality: kind.to_string(),
        method: of(if task { "task" } else { "method" }, if task { "kind" } else { "name" }).into(),
        encoder: of("encoder", "name").into(),
        task,
        private,
        config: config::lines(&config, private),
        curves: curves(dir)?,
        label_curve: tables::read(&dir.join("curve/curve.json"), private),
        robustness: tables::read(&dir.join("robustness/robustness.json"), private),
        pictures: if samples { pictures::read(&dir.join("pictures"))? } else { Vec::new() },
        ..Collected::default()
    };
    result::read(dir, &mut found);
    match (ended.state, ended.error) {
        (State::Failed, Some(error)) if !private => found.more.push(format!("The run failed: {error}")),
        (State::Failed, _) => found.more.push("The run failed: `selfsup runs` says why.".into()),
        (State::Running, _) => found.more.push("The run is not over: this is how far it is.".into()),
        _ => {}
    }
    Ok(found)
}

/// The last part of a folder's name.
fn name_of(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    whole.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned())
}
