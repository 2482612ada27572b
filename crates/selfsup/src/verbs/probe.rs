//! `selfsup probe`.

use crate::evaluate::{Probe, Probed};
use crate::modality::{FrameRequest, Modality, random_encoder};
use crate::registry::with_modality;
use crate::say::{say, say_text, timed};
use crate::screen;
use crate::set::{Set, Sets};
use crate::unlabelled::Unlabelled;
use crate::verbs::alike::compare;
use crate::verbs::invariance;
use crate::verbs::{Opened, detail_of_sets, files_and_keys, kind_of_run, open_run, table};
use selfsup_core::checkpoint::{Checkpoint, pretty_json, write_text};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Samples on which several runs are compared.
const SAMPLES: usize = 1000;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The run's folder, or one of its checkpoints.
    pub run: PathBuf,
    /// Overrides of the run's configuration; further runs or checkpoints, to compare.
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
    /// Few-shot episodes.
    pub episodes: bool,
    /// How well the draws of the augmentation can be read off the representation.
    pub invariance: bool,
}

/// Evaluates a run on its own labelled data, or on other data; writes what was found where it is told to.
///
/// # Errors
/// If the run or a sample cannot be read. Without labels, what needs none is measured.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&run_of(&request.run))?, M => run_as::<M>(request))
}

/// The folder of a run, where a checkpoint of it is named (`RUN/checkpoints/00000100.safetensors`).
fn run_of(path: &Path) -> PathBuf {
    match path.parent().and_then(Path::parent) {
        Some(dir) if path.is_file() => dir.to_path_buf(),
        _ => path.to_path_buf(),
    }
}

/// A run, at the checkpoint that is named or its newest.
fn open_at<M: Modality>(path: &Path, overrides: &[String]) -> Result<Opened<M>> {
    let mut opened = open_run::<M>(&run_of(path), overrides)?;
    if path.is_file() {
        let checkpoint = Checkpoint::load(path, &opened.device)?;
        checkpoint.restore(opened.method.params()).map_err(|e| Error::file(path, e))?;
        opened.step = checkpoint.progress.step;
    }
    Ok(opened)
}

/// Several runs or checkpoints of one modality beside each other, on the samples of the first.
fn several<M: Modality>(request: &Request, others: &[String], keys: &[String]) -> Result<()> {
    let mut runs = Vec::new();
    let kind = <M::Keys as crate::config::Keys>::KIND;
    for path in std::iter::once(request.run.as_path()).chain(others.iter().map(Path::new)) {
        let found = kind_of_run(&run_of(path))?;
        if found != kind {
            return Err(Error::file(
                path,
                format!("reads {}, expected {} as the first run", found.samples(), kind.samples()),
            ));
        }
        runs.push((path.display().to_string(), open_at::<M>(path, keys)?));
    }
    let Some((_, first)) = runs.first() else { return Ok(()) };
    let mut data = first.config.data.clone();
    if let Some(path) = &request.data {
        data.path = path.clone();
        (data.labels, data.hold_out, data.limit) = (String::new(), 0.0, 0);
    }
    let sets = Sets::open(&data, kind, &|what| first.modality.open(what))?;
    let sets = sets.try_map(&|set| first.modality.usable(set))?;
    let parts = [request.test.is_none().then_some(sets.test.as_ref()).flatten(), sets.held_out.as_ref()];
    let set = parts.into_iter().flatten().find(|set| set.len() >= 4).unwrap_or(&sets.train);
    let found = compare(&runs, &set.clone().limit(SAMPLES)?)?;
    say_text!("{}", found.shown());
    keep(request, first.step, &found)
}

/// Evaluates a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(request: &Request) -> Result<()> {
    let (others, keys) = files_and_keys(&request.overrides);
    if !others.is_empty() {
        return several::<M>(request, &others, &keys);
    }
    let mut opened = open_at::<M>(&request.run, &keys)?;
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
    let kind = <M::Keys as crate::config::Keys>::KIND;
    let sets = timed("opening the data", || {
        let sets = Sets::open(&opened.config.data, kind, &|what| opened.modality.open(what))?;
        sets.try_map(&|set| opened.modality.usable(set))
    })?;
    detail_of_sets(&sets, kind);
    if request.frames.is_some() {
        return frames(request, &opened, &sets);
    }
    if request.invariance {
        let parts = [sets.test.as_ref(), sets.held_out.as_ref()];
        let set = parts.into_iter().flatten().find(|set| set.len() >= 30).unwrap_or(&sets.train);
        let found = invariance::measure(&opened, set)?;
        say!("checkpoint of step {}", opened.step);
        say_text!("{}", found.shown());
        return keep(request, opened.step, &found);
    }
    let Some(labelled) = sets.measurable()? else { return unlabelled(request, &opened, &sets) };
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
    if request.episodes {
        let found = probe.episodes(&labelled)?;
        say!("checkpoint of step {}", opened.step);
        say_text!("{}", found.shown());
        return keep(request, opened.step, &found);
    }
    let found = timed("evaluating", || probe.run(&labelled, &request.snr, &request.noise))?;
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
    Unlabelled::measure(&opened.modality, encoders, set, eval.read, &loader, &opened.device)?.ok_or_else(
        || Error::input(&opened.config.data.path, "1 sample without parts: expected at least 2 to compare"),
    )
}

/// What can be said without labels, of the samples that are held out, or else of those trained on.
fn unlabelled<M: Modality>(request: &Request, opened: &Opened<M>, sets: &Sets) -> Result<()> {
    if request.episodes {
        return Err(Error::input(&opened.config.data.path, "no labels: --episodes tells classes apart"));
    }
    if !request.snr.is_empty() {
        return Err(Error::input(&opened.config.data.path, "no labels: --snr compares accuracies"));
    }
    // One sample has nothing to be compared with.
    let parts = [sets.test.as_ref(), sets.held_out.as_ref()];
    let found =
        measured(opened, parts.into_iter().flatten().find(|set| set.len() >= 2).unwrap_or(&sets.train))?;
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
