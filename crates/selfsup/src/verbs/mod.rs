//! One file for each verb of the command.
#![allow(clippy::print_stdout)] // this is where the command talks

pub mod data;
pub mod doctor;
pub mod embed;
pub mod export;
pub mod pretrain;
pub mod probe;
pub mod pull;

use crate::config::PretrainConfig;
use crate::evaluate::Probed;
use candle_core::Device;
use selfsup_core::objective::Objective;
use selfsup_core::run::Run;
use selfsup_core::{Error, Result};
use std::fmt::Write;
use std::path::Path;

/// The accuracies as a table.
pub fn table(found: &Probed) -> String {
    let r = &found.report;
    let mut out = String::new();
    let mut row = |name: &str, f: &dyn Fn(&str) -> String| {
        let _ = writeln!(out, "{name:<24}{:>16}{:>16}{:>16}", f("trained"), f("random"), f("raw"));
    };
    row("accuracy in %", &|set| match set {
        "raw" => "raw pixels".into(),
        "random" => "random encoder".into(),
        other => other.into(),
    });
    let one = |v: Option<&f64>| v.map_or("-".into(), |v| format!("{v:.1}"));
    row(&format!("kNN (k = {})", r.knn_k), &|set| one(r.knn.get(set)));
    row("linear, all labels", &|set| one(r.linear.get(set)));
    for (labels, few) in &r.linear_at.0 {
        row(&format!("linear, {labels} labels"), &|set| match (few.mean.get(set), few.sd.get(set)) {
            (Some(m), Some(sd)) => format!("{m:.1} ± {sd:.1}"),
            _ => "-".into(),
        });
    }
    let _ = writeln!(out, "(guessing the most frequent class: {:.1}; few labels: mean ± sd of {} draws)", r.majority, r.draws);
    for note in &r.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let _ = writeln!(out, "representation: {}", found.collapse.sentence);
    out
}

/// A finished or stopped run, read back.
pub struct Opened {
    /// The folder.
    pub run: Run,
    /// Its configuration.
    pub config: PretrainConfig,
    /// The method with the newest weights.
    pub built: pretrain::Built,
    /// Where it lives.
    pub device: Device,
    /// Steps of its checkpoint.
    pub step: u64,
}

/// Opens the run in `dir` with its newest checkpoint.
///
/// # Errors
/// If there is no run or no checkpoint.
pub fn open_run(dir: &Path, overrides: &[String]) -> Result<Opened> {
    let (run, _) = Run::resume(dir, None)?;
    let mut config = PretrainConfig::load(&run.config()?, &dir.join("config.toml").display().to_string(), overrides)?;
    // The checkpoint has the weights: where they once came from does not matter any more.
    config.encoder.pretrained = None;
    let device = config.device.open()?;
    let built = pretrain::build(&config, &device)?;
    let latest = run.checkpoints(0).latest()?;
    latest.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    let Some((path, checkpoint)) = latest.found else {
        return Err(Error::file(dir, "the run has no checkpoint yet"));
    };
    checkpoint.restore(built.method.params()).map_err(|e| Error::file(&path, e))?;
    Ok(Opened { run, config, built, device, step: checkpoint.progress.step })
}
