//! `selfsup probe`.

use crate::evaluate::Probe;
use crate::modality::{Modality, random_encoder, with_modality};
use crate::set::Sets;
use crate::verbs::{kind_of_run, open_run, table};
use selfsup_core::objective::Objective;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
    /// Labelled data to fit on, instead of the run's own.
    pub data: Option<String>,
    /// Labelled data to test on.
    pub test: Option<String>,
    /// A table of labels, groups and splits.
    pub labels: Option<String>,
}

/// Evaluates a run on its own labelled data, or on other data; writes `probe.json` beside `result.json`.
///
/// # Errors
/// If the run cannot be read or there are no labels.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => evaluate::<M>(request))
}

fn evaluate<M: Modality>(request: &Request) -> Result<()> {
    let dir: &Path = &request.run;
    let mut opened = open_run::<M>(dir, &request.overrides)?;
    let data = &mut opened.config.data;
    if let Some(path) = &request.data {
        data.path = path.clone();
        data.test = request.test.clone().unwrap_or_default();
        data.labels = String::new();
        data.hold_out = if request.test.is_some() { 0.0 } else { data.hold_out.max(0.2) };
        data.limit = 0;
    } else if let Some(test) = &request.test {
        data.test = test.clone();
    }
    if let Some(labels) = &request.labels {
        data.labels = labels.clone();
    }
    let sets = Sets::open(&opened.config.data, <M::Keys as crate::config::Keys>::KIND, &|what| opened.modality.open(what))?;
    let labelled = sets.labelled()?.ok_or_else(|| {
        Error::input(
            &opened.config.data.path,
            "no labels to evaluate on: put the samples of each class into a folder of its own, or give --labels, or --data and --test",
        )
    })?;
    let random = random_encoder(&opened.modality, opened.config.train.seed, &opened.device)?;
    let probe = Probe {
        modality: &opened.modality,
        trained: opened.method.encoder(),
        random: random.as_ref(),
        eval: &opened.config.eval,
        workers: opened.config.train.workers,
        device: &opened.device,
    };
    let found = probe.run(&labelled)?;
    let path = dir.join("probe.json");
    let text = serde_json::to_string_pretty(&found).map_err(|e| Error::Other(e.to_string()))?;
    super::export::text(&path, &text)?;
    println!("checkpoint of step {}", opened.step);
    print!("{}", table(&found));
    println!("written: {}", path.display());
    Ok(())
}
