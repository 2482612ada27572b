//! `selfsup probe`.

use crate::evaluate::{Probe, Probed};
use crate::modality::{FrameRequest, Modality, random_encoder};
use crate::registry::with_modality;
use crate::say::{say, say_text};
use crate::screen;
use crate::set::{Set, Sets};
use crate::unlabelled::Unlabelled;
use crate::verbs::{Opened, kind_of_run, open_run, table};
use selfsup_core::checkpoint::{pretty_json, write_text};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use serde::Serialize;
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
    /// Probe what is said in each frame instead, by the alignments in this folder; an empty one means where
    /// the data set has them.
    pub frames: Option<PathBuf>,
    /// Ratios of signal to noise in decibels at which testing is repeated.
    pub snr: Vec<f32>,
    /// Where to write what was found as JSON, besides the screen. A probe leaves the run as it is.
    pub out: Option<PathBuf>,
    /// The noise: a folder of recordings, or its colour.
    pub noise: String,
    /// Measure also what needs no labels and takes views of the samples.
    pub measures: bool,
}

/// Evaluates a run on its own labelled data, or on other data; writes what was found where it is told to.
///
/// # Errors
/// If the run or a sample cannot be read. Without labels, what needs none is measured.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// Evaluates a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(request: &Request) -> Result<()> {
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
    let sets = Sets::open(&opened.config.data, <M::Keys as crate::config::Keys>::KIND, &|what| {
        opened.modality.open(what)
    })?;
    let sets = sets.try_map(&|set| opened.modality.usable(set))?;
    if request.frames.is_some() {
        return frames(request, &opened, &sets);
    }
    let Some(labelled) = sets.labelled()? else { return unlabelled(request, &opened, &sets) };
    let train = &opened.config.train;
    let labelled = screen::labelled(&opened.modality, labelled, train.max_bad_fraction, train.workers)?;
    let random = random_encoder(&opened.modality, opened.config.train.seed, &opened.device)?;
    let probe = Probe {
        modality: &opened.modality,
        trained: opened.method.encoder(),
        random: random.as_ref(),
        eval: &opened.config.eval,
        workers: opened.config.train.workers,
        device: &opened.device,
    };
    let found = probe.run(&labelled, &request.snr, &request.noise)?;
    let more = if request.measures { Some(measured(&opened, &labelled.test)?) } else { None };
    say!("checkpoint of step {}", opened.step);
    say_text!("{}", table(&found));
    if let Some(more) = &more {
        say_text!("{}", more.shown());
    }
    keep(request, opened.step, &Both { found: &found, unlabelled: more.as_ref() })
}

/// Writes what was found where it is asked for.
fn keep(request: &Request, step: u64, found: &impl Serialize) -> Result<()> {
    if let Some(path) = &request.out {
        write_text(path, &pretty_json(found)?)?;
        say!("written: {}", path.display());
    }
    crate::say::result(&serde_json::json!({ "run": request.run, "step": step, "found": found }));
    Ok(())
}

/// What was found with labels, and what without, if that was asked for.
#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    found: &'a Probed,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlabelled: Option<&'a Unlabelled>,
}

/// What can be said of samples without their labels.
fn measured<M: Modality>(opened: &Opened<M>, set: &Set) -> Result<Unlabelled> {
    let (train, eval) = (&opened.config.train, &opened.config.eval);
    let random = random_encoder(&opened.modality, train.seed, &opened.device)?;
    let loader = LoaderConfig {
        max_bad_fraction: train.max_bad_fraction,
        ..LoaderConfig::in_order(eval.batch_size, train.workers)
    };
    let encoders = [opened.method.encoder(), random.as_ref()];
    Unlabelled::measure(&opened.modality, encoders, set, eval.read, &loader, &opened.device)?
        .ok_or_else(|| Error::input(&opened.config.data.path, "1 sample: expected at least 2 to compare"))
}

/// What can be said without labels, of the samples that are held out, or else of those trained on.
fn unlabelled<M: Modality>(request: &Request, opened: &Opened<M>, sets: &Sets) -> Result<()> {
    if !request.snr.is_empty() {
        return Err(Error::input(&opened.config.data.path, "no labels: --snr compares accuracies"));
    }
    let found = measured(opened, sets.test.as_ref().or(sets.held_out.as_ref()).unwrap_or(&sets.train))?;
    say!("checkpoint of step {}", opened.step);
    say_text!("{}", found.shown());
    keep(request, opened.step, &found)
}

/// What is said in each frame: of the training samples to fit on, and of the test samples, or those that are
/// held out.
fn frames<M: Modality>(request: &Request, opened: &Opened<M>, sets: &Sets) -> Result<()> {
    let probe = opened.modality.frame_probe().ok_or_else(|| {
        let samples = <M::Keys as crate::config::Keys>::KIND.samples();
        Error::config(format!("--frames is for recordings, not for {samples}"))
    })?;
    let folder = request.frames.as_deref().filter(|f| !f.as_os_str().is_empty());
    if let Some(absent) = folder.filter(|f| !f.is_dir()) {
        return Err(Error::file(absent, "no such folder: --frames takes one of alignments, or none"));
    }
    let test = sets.test.as_ref().or(sets.held_out.as_ref()).ok_or_else(|| {
        let path = &opened.config.data.path;
        Error::input(path, "nothing is held out to test on: give --test, or data.hold_out=0.2, or --data (then a fifth of it is)")
    })?;
    let random = random_encoder(&opened.modality, opened.config.train.seed, &opened.device)?;
    let (table, found) = probe.probe_frames(&FrameRequest {
        trained: opened.method.encoder(),
        random: random.as_ref(),
        train: &sets.train,
        test,
        folder,
        snr: &request.snr,
        noise: &request.noise,
        device: &opened.device,
    })?;
    say!("checkpoint of step {}", opened.step);
    say_text!("{table}");
    keep(request, opened.step, &found)
}
