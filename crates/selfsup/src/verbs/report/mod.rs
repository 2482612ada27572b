//! `selfsup report`: runs as one page that needs nothing but a browser, or as text.
//!
//! `collect` reads what a run's folder says, `map` embeds its samples anew, `samples` shows them, `page` puts
//! all of it into one file; `style.css` and the scripts beside this file draw it.

mod collect;
mod map;
mod metrics;
mod page;
mod run;
mod samples;
mod text;

use crate::modality::Modality;
use crate::registry::with_modality;
use crate::say::{say, say_progress, say_text};
use crate::verbs::{files_and_keys, is_task, kind_of_run, read};
use collect::collect;
use map::Mapped;
use run::Collected;
use samples::Galleries;
use selfsup_core::checkpoint::write_text;
use selfsup_core::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Most samples of a map.
const MOST: usize = 20_000;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Folders of runs, and KEY=VALUE overrides of their configurations.
    pub args: Vec<String>,
    /// The page; `report.html` in the present folder without.
    pub out: Option<PathBuf>,
    /// Print the report instead of writing a page.
    pub text: bool,
    /// Whether the page shows samples and pictures of them.
    pub samples: bool,
    /// Samples on a map; 0 for no map.
    pub points: usize,
    /// Samples of the map, instead of the run's own.
    pub data: Option<String>,
}

/// Writes the page, or prints the report.
///
/// # Errors
/// If a folder holds no run, the page cannot be written, or data or overrides were given that cannot be
/// taken. Else a run whose samples cannot be embedded has no map, and a warning says why.
pub fn run(request: &Request) -> Result<()> {
    if request.points > MOST {
        let problem = format!("{}: a page stays quick with up to {MOST} samples", request.points);
        return Err(Error::input("--points", problem));
    }
    let (runs, keys) = files_and_keys(&request.args);
    if runs.is_empty() {
        return Err(Error::input("report", "no run: name the folder of one at least"));
    }
    let mut galleries = Galleries::default();
    let mut found = Vec::new();
    for dir in runs {
        let dir = PathBuf::from(dir);
        let run = collect(&dir, request.samples)?;
        found.push((dir, run));
    }
    if request.text {
        found.iter().for_each(|(_, run)| say_text!("{}", text::shown(run)));
    }
    if !request.text || request.out.is_some() {
        for (dir, run) in &mut found {
            add_map(request, &keys, dir, run, &mut galleries)?;
        }
        let out = request.out.clone().unwrap_or_else(|| PathBuf::from("report.html"));
        let runs: Vec<&Collected> = found.iter().map(|(_, run)| run).collect();
        let page = page::page(&runs, &galleries)?;
        write_text(&out, &page)?;
        say!("{}: {} of {:.1} MB", out.display(), counted(found.len()), page.len() as f64 / 1e6);
    }
    let runs: Vec<Value> = found.iter().map(|(dir, run)| run.summary(dir)).collect();
    crate::say::result(&json!({ "out": request.out, "runs": runs }));
    Ok(())
}

fn counted(runs: usize) -> String {
    if runs == 1 { "a report of one run".into() } else { format!("a report of {runs} runs") }
}

/// Embeds the samples of a run; where that is not possible, the page says so, and the terminal why. What was
/// asked for and cannot be done is an error.
fn add_map(
    request: &Request,
    keys: &[String],
    dir: &Path,
    run: &mut Collected,
    galleries: &mut Galleries,
) -> Result<()> {
    if request.points == 0 {
        run.map_note = Some("No map was asked for.".into());
        return Ok(());
    }
    match mapped(request, keys, dir, galleries) {
        Ok(Some(map)) => run.map = Some(map),
        Ok(None) => run.map_note = Some("A fine-tuned run has no map: its pre-training has one.".into()),
        Err(e) if request.data.is_some() || !keys.is_empty() => return Err(e),
        Err(e) => {
            crate::say::warning(format_args!("{}: no map: {e}", dir.display()));
            // The reason can name a file.
            run.map_note = Some("The samples could not be embedded when this page was made.".into());
        }
    }
    Ok(())
}

fn mapped(
    request: &Request,
    keys: &[String],
    dir: &Path,
    galleries: &mut Galleries,
) -> Result<Option<Mapped>> {
    if is_task(&read(&dir.join("config.toml"))?) {
        return Ok(None);
    }
    say_progress!("{}: embedding samples ...", dir.display());
    with_modality!(kind_of_run(dir)?, M => map_of::<M>(request, keys, dir, galleries)).map(Some)
}

/// The map of a run of the modality `M`.
///
/// # Errors
/// If the run or its samples cannot be read.
fn map_of<M: Modality>(
    request: &Request,
    keys: &[String],
    dir: &Path,
    galleries: &mut Galleries,
) -> Result<Mapped> {
    let opened = crate::verbs::open_run::<M>(dir, keys)?;
    map::map(&opened, request.data.as_deref(), request.points, galleries, request.samples)
}
