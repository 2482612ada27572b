//! Does a collapse get noticed? Every method is trained as it should be, with five seeds, and broken in the ways
//! that its paper warns of; the table says at which step the loop warned, and of what.
//!
//!     cargo run --release --example collapse-study -- runs/collapse                 all cells that are not there yet
//!     cargo run --release --example collapse-study -- runs/collapse simsiam mae     those whose names hold a word
//!     cargo run --release --example collapse-study -- runs/collapse --table         the table of what is there
//!
//! Every cell leaves its result in the folder. Networks are tiny and runs last seconds: it is about alarms, not
//! about representations. What no key of a method breaks is built anew in `broken.rs`, or lies in the data that
//! this program makes (copies of one sample, light or stripes that give the answer away).

#![allow(clippy::print_stdout)] // what it does is told

mod broken;
mod cells;
mod data;

use broken::{Broken, Left};
use cells::{Break, Cell};
use selfsup::config::PretrainConfig;
use selfsup::modality::Modality;
use selfsup::modality::vision::{Keys, Vision};
use selfsup::set::Sets;
use selfsup::verbs::pretrain::{Request, run};
use selfsup_core::data::Source;
use selfsup_core::run::Run;
use selfsup_core::trainer::Trainer;
use selfsup_core::{Error, Params, Result, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An alarm counts as early up to this share of a run.
const EARLY: f64 = 0.3;

fn main() -> ExitCode {
    match study() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

fn study() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((root, words)) = args.split_first() else {
        return Err(Error::config("expected a folder for the results, and words of the cells to run"));
    };
    let root = PathBuf::from(root);
    let (tables, words): (Vec<&String>, Vec<&String>) = words.iter().partition(|w| *w == "--table");
    let cells = cells::all();
    if tables.is_empty() {
        let made = data::make(&root)?;
        let mut failed = 0;
        for cell in &cells {
            let name = cell.name();
            let wanted = words.is_empty() || words.iter().any(|w| name.contains(w.as_str()));
            let result = root.join(format!("{name}.json"));
            if !wanted || result.exists() {
                continue;
            }
            let found = match carried_out(cell, &root.join(&name), &made) {
                Ok(found) => found,
                Err(e @ Error::Interrupted { .. }) => return Err(e),
                Err(e) => {
                    println!("{name} did not run: {e}");
                    failed += 1;
                    continue;
                }
            };
            let text = serde_json::to_string_pretty(&found).map_err(|e| Error::Other(e.to_string()))?;
            std::fs::write(&result, text + "\n").map_err(|e| Error::io(&result, e))?;
            println!("{name}: {}", said(&found));
        }
        if failed > 0 {
            return Err(Error::Other(format!("{failed} runs ended with an error, named above")));
        }
    }
    println!("{}", table(&root, &cells)?);
    Ok(())
}

/// Trains a cell in `dir` and says what was noticed.
fn carried_out(cell: &Cell, dir: &Path, made: &BTreeMap<&'static str, PathBuf>) -> Result<Value> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    }
    let file = dir.with_extension("toml");
    std::fs::write(&file, cell.text(made)).map_err(|e| Error::io(&file, e))?;
    let ended = match cell.broken {
        Break::Built(left) => built(&file, dir, left, &cell.overrides()),
        _ => run(Request {
            args: [vec![file.display().to_string()], cell.overrides()].concat(),
            out: Some(dir.to_path_buf()),
            ..Request::default()
        }),
    };
    let steps = cell.steps();
    let of = |step: u64, how: String| json!({ "step": step, "steps": steps, "how": how });
    match ended {
        Ok(()) => {
            let path = dir.join("result.json");
            let text = selfsup_core::file::text(&path)?;
            let result: Value = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
            let training = if result["training"].is_null() { &result } else { &result["training"] };
            let alarms = training["alarms"].as_array().cloned().unwrap_or_default();
            let first = alarms.iter().filter_map(|a| a["step"].as_u64()).min();
            let Some(first) = first else { return Ok(json!({ "steps": steps })) };
            // All gauges that warned by then, and soon after.
            let soon = |a: &&Value| a["step"].as_u64().is_some_and(|s| s <= first + steps / 20);
            let mut names: Vec<&str> =
                alarms.iter().filter(soon).filter_map(|a| a["gauge"].as_str()).collect();
            names.sort_unstable();
            names.dedup();
            Ok(of(first, names.join(", ")))
        }
        Err(Error::NonFinite { step, what, .. }) => Ok(of(step, format!("error: {what} is not finite"))),
        Err(e) if cell.expects(&e.to_string()) => Ok(of(0, format!("refused: {e}"))),
        Err(e) => Err(e),
    }
}

/// Trains SimSiam without a part of it, on the data and the encoder of a configuration.
fn built(file: &Path, dir: &Path, left: Left, keys: &[String]) -> Result<()> {
    let text = selfsup_core::file::text(file)?;
    let config = PretrainConfig::<Keys>::load(&text, &file.display().to_string(), keys)?;
    let modality = Vision::new(&config)?;
    let sets = Sets::open(&config.data, <Keys as selfsup::config::Keys>::KIND, &|what| modality.open(what))?;
    let loader = modality.batches(&sets.train, (&config.train).into())?;
    let device = config.device.open()?;
    let params = Params::new();
    let scope = Scope::root(&params, config.train.seed, &device);
    let encoder = modality.encoder(&scope.sub("encoder"))?;
    let method = Broken::new(&scope, encoder, left)?;
    let train = config.train.clone();
    let mut trainer = Trainer::new(&method, train, &config.optim, loader.batches() as u64, &device)?;
    let mut run = Run::create(dir, &text)?;
    let summary = trainer.fit(&loader, &mut run)?;
    run.write_result(&summary)?;
    Ok(())
}

fn said(found: &Value) -> String {
    match (found["step"].as_u64(), found["steps"].as_u64(), found["how"].as_str()) {
        (Some(step), Some(steps), Some(how)) => format!("step {step} of {steps}: {how}"),
        _ => "no alarm".into(),
    }
}

/// The page's tables of all cells that have a result.
fn table(root: &Path, cells: &[Cell]) -> Result<String> {
    let mut found = Vec::new();
    for cell in cells {
        if let Ok(text) = selfsup_core::file::text(root.join(format!("{}.json", cell.name()))) {
            let value: Value = serde_json::from_str(&text).map_err(|e| Error::Other(e.to_string()))?;
            found.push((cell, value));
        }
    }
    let mut out =
        String::from("| method | broken by | caught at | of the run | by |\n|---|---|---|---|---|\n");
    let (mut early, mut all) = (0, 0);
    for (cell, value) in found.iter().filter(|(cell, _)| cell.broken != Break::Healthy) {
        all += 1;
        let row = match (value["step"].as_u64(), value["steps"].as_u64()) {
            (Some(step), Some(steps)) => {
                let share = step as f64 / steps.max(1) as f64;
                early += usize::from(share <= EARLY);
                let how = value["how"].as_str().unwrap_or_default();
                // A refusal is a sentence with keys and paths: its beginning is enough.
                let how: String = how.chars().take(90).collect();
                format!("step {step} | {:.0}% | {how}", 100.0 * share)
            }
            _ => "not caught | | ".into(),
        };
        let _ = writeln!(out, "| {} | {} | {row} |", cell.shown(), cell.what);
    }
    let _ = writeln!(out, "\nCaught before {:.0}% of the run: {early} of {all}.\n", 100.0 * EARLY);
    let mut healthy: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for (cell, value) in found.iter().filter(|(cell, _)| cell.broken == Break::Healthy) {
        let entry = healthy.entry(cell.shown()).or_default();
        entry.0 += 1;
        if !value["step"].is_null() {
            entry.1.push(said(value));
        }
    }
    out += "| healthy runs of | seeds | alarms |\n|---|---|---|\n";
    for (method, (seeds, alarms)) in healthy {
        let alarms = if alarms.is_empty() { "none".into() } else { alarms.join("; ") };
        let _ = writeln!(out, "| {method} | {seeds} | {alarms} |");
    }
    Ok(out)
}
