//! `selfsup pictures`: what a run has learnt, as pictures and tables in its folder.

use crate::modality::{Content, Drawing, Modality};
use crate::registry::with_modality;
use crate::say::{say, say_text};
use crate::screen::screened;
use crate::verbs::parts::{Parts, parts};
use crate::verbs::{kind_of_run, open_run};
use selfsup_core::checkpoint::{pretty_json, write_atomic, write_text};
use selfsup_core::{Error, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Most samples of a picture.
const MOST: usize = 64;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// Samples, instead of those that the run was tested on.
    pub data: Option<String>,
    /// How many of them.
    pub count: usize,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
}

/// Draws what a run has learnt into the folder `pictures` of the run, with a list, `pictures.json`, that
/// `selfsup report --samples` reads.
///
/// # Errors
/// If the run or a sample cannot be read, or its method leaves nothing to see.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// Draws what a run of the modality `M` has learnt.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(request: &Request) -> Result<()> {
    if !(1..=MOST).contains(&request.count) {
        return Err(Error::input("--count", format!("{}: expected 1 to {MOST} samples", request.count)));
    }
    let opened = open_run::<M>(&request.run, &request.overrides)?;
    let method = <M::Keys as crate::config::Keys>::method(&opened.config.keys).to_string();
    let nothing = || {
        let problem = format!("method {method} leaves nothing to draw (docs/report.md has a list)");
        Error::file(&request.run, problem)
    };
    let draws = opened.modality.draws().ok_or_else(nothing)?;
    let Parts { shown, .. } = parts(&opened, request.data.as_deref())?;
    let shown = shown.limit(request.count)?;
    let set = screened(&opened.modality, shown, 1.0, opened.config.train.workers, "samples to draw")?;
    let found = draws.draw(&Drawing { method: &opened.method, set: &set, device: &opened.device })?;
    if found.is_empty() {
        return Err(nothing());
    }
    let folder = request.run.join("pictures");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let mut list = Vec::new();
    for drawn in &found {
        let mut entry = json!({ "title": drawn.title, "caption": drawn.caption });
        match &drawn.content {
            Content::Png(bytes) => {
                let path = folder.join(format!("{}.png", drawn.name));
                write_atomic(&path, |file| file.write_all(bytes).map_err(|e| Error::io(&path, e)))?;
                entry["file"] = Value::from(format!("{}.png", drawn.name));
                say!("{}: {}", path.display(), drawn.caption);
            }
            Content::Table(rows) => {
                entry["rows"] = json!(rows);
                say!("{}: {}", drawn.title, drawn.caption);
                rows.iter().for_each(|row| say_text!("{}\n", row.join("\t")));
            }
        }
        list.push(entry);
    }
    // Last: what the list names is there.
    write_text(&folder.join("pictures.json"), &pretty_json(&list)?)?;
    crate::say::result(&json!({ "run": request.run, "folder": folder, "pictures": list }));
    Ok(())
}
