//! `selfsup pretrain`.

use crate::config::{Keys, PretrainConfig};
use crate::cost::{Clock, Cost};
use crate::draft::Draft;
use crate::evaluate::{Probe, Probed};
use crate::modality::{Modality, PlanRequest, Training, random_encoder};
use crate::online::Online;
use crate::plan::{Planned, Ready, batches, fit_keys, plan, refuse_too_large, taken};
use crate::registry::{owner, with_method, with_modality};
use crate::say::{say, say_progress, say_text};
use crate::screen;
use crate::set::Sets;
use crate::unlabelled::Unlabelled;
use crate::verbs::{fresh, marked, resumed, say_result, start, table};
use candle_core::Device;
use selfsup_core::checkpoint::{Checkpoint, Extra};
use selfsup_core::config::to_toml;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Objective};
use selfsup_core::run::{Display, Run, time_text};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Summary, Trainer, gradients};
use selfsup_core::{Error, Params, Pass, Progress, Result, Role, Scope};
use selfsup_datasets::{Kind, kind_of};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A TOML file, if the first one is not KEY=VALUE, and overrides.
    pub args: Vec<String>,
    /// `data.path`.
    pub data: Option<String>,
    /// `method.name`.
    pub method: Option<String>,
    /// `encoder.name`.
    pub encoder: Option<String>,
    /// The run's folder.
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Go on although the configuration changed.
    pub allow_config_change: bool,
    /// How long the run may take: `90s`, `30m`, `2h`.
    pub budget: Option<String>,
    /// One batch only.
    pub dry_run: bool,
    /// Evaluate at the end.
    pub probe: bool,
}

#[derive(Serialize)]
struct RunResult<'a> {
    modality: Kind,
    method: &'a str,
    encoder: &'a str,
    parameters: usize,
    training: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<&'a Probed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlabelled: Option<&'a Unlabelled>,
    seconds: f64,
    cost: Cost,
}

/// Runs the verb.
///
/// # Errors
/// With the exit code of [`Error::exit_code`].
pub fn run(request: Request) -> Result<()> {
    let draft = read_draft(&request)?;
    marked(|| with_modality!(kind(&draft)?, M => train::<M>(&request, &draft)))
}

/// Runs the verb for the modality `M`, whatever the configuration looks like.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(request: Request) -> Result<()> {
    let draft = read_draft(&request)?;
    marked(|| train::<M>(&request, &draft))
}

/// The configuration as it was given.
pub(crate) fn read_draft(request: &Request) -> Result<Draft> {
    let flags = [
        ("data.path", request.data.clone()),
        ("method.name", request.method.clone()),
        ("encoder.name", request.encoder.clone()),
    ];
    // Continuing without a file: the configuration of the run itself.
    let resumed = resumed(request.out.as_deref(), request.resume)?;
    Ok(Draft::read(&request.args, &flags, resumed)?.with_owner(owner))
}

/// The modality: what is stated; else the one that alone has the method; else, without a file, what the data
/// looks like. Files that say nothing are older than the other modalities: they mean images.
pub(crate) fn kind(draft: &Draft) -> Result<Kind> {
    if let Some(kind) = draft.stated_kind()? {
        return Ok(kind);
    }
    if let [only] = draft.method().map(with_method).unwrap_or_default()[..] {
        return Ok(only);
    }
    match draft.data_path() {
        Some(data) if !draft.has_file() => kind_of(data),
        _ => Ok(Kind::default()),
    }
}

/// A name for the run's folder.
fn name(draft: &Draft, keys: &impl Keys) -> String {
    format!("{}-{}", keys.method(), draft.stem().unwrap_or_else(|| keys.encoder().to_string()))
}

/// Refuses a configuration that cannot be carried out, or names no data.
pub(crate) fn checked<M: Modality>(draft: &Draft) -> Result<()> {
    let config = PretrainConfig::<M::Keys>::of(draft)?;
    config.refuse_unread(draft)?;
    if config.data.path.is_empty() && config.data.labels.is_empty() {
        return Err(Error::config(
            "data.path is empty: name a folder of data with --data DIR, or a data set (see `selfsup data list`)",
        ));
    }
    Ok(())
}

fn train<M: Modality>(request: &Request, draft: &Draft) -> Result<()> {
    if let Some(method) = &request.method
        && !M::Keys::METHODS.contains(&method.as_str())
    {
        return Err(Error::config(format!(
            "method.name = \"{method}\": expected one of {}",
            M::Keys::METHODS.join(", ")
        )));
    }
    checked::<M>(draft)?;
    let planned = match &request.budget {
        // A file says what is trained; without one, what nobody gave follows from data and machine.
        None if draft.has_file() => Planned { draft: draft.clone(), estimate: None, lines: Vec::new() },
        budget => plan::<M>(draft, budget.as_deref(), !request.dry_run)?,
    };
    planned.lines.iter().for_each(|line| say!("{line}"));
    let draft = &planned.draft;
    let mut config = PretrainConfig::<M::Keys>::of(draft)?;
    let device = config.device.open()?;
    let open = |config: &PretrainConfig<M::Keys>| {
        let mut kept = config.clone();
        if let Some(dir) = request.out.as_ref().filter(|_| request.resume) {
            kept.keys.beside(dir);
        }
        if request.dry_run {
            kept.keys.leave_nothing();
        }
        M::new(&kept)
    };
    let mut modality = open(&config)?;
    let kind = M::Keys::KIND;
    let sets = Sets::open(&config.data, kind, &|what| modality.open(what))?;
    let sets = sets.try_map(&|set| modality.usable(set))?;
    let sets = if M::EAGER {
        let (most, workers) = (config.train.max_bad_fraction, config.train.workers);
        screen::parts(&modality, sets, most, workers, &|_| Ok(()))?
    } else {
        sets
    };
    let preparing = Instant::now();
    let loader = batches(&modality, &mut config, draft, &sets.train)?;
    let prepared = preparing.elapsed().as_secs_f64();
    let samples = loader.batches() * config.train.batch_size;
    if fit_keys(&mut config, draft, samples) {
        modality = open(&config)?;
    }
    let params = Params::new();
    let method = modality.method(&Scope::root(&params, config.train.seed, &device))?;
    if let Some(line) = modality.load_pretrained(&params)? {
        params.copy("encoder", "teacher.encoder")?;
        say!("pretrained weights: {line}");
    }
    if method.couples_samples() && config.train.batch_size < 2 {
        return Err(Error::config(format!(
            "method {} compares the samples of a batch: expected train.batch_size of at least 2, found {} ({} {} \
             to train on)",
            config.keys.method(),
            config.train.batch_size,
            sets.train.len(),
            kind.samples()
        )));
    }
    if planned.estimate.is_none() {
        let (modality, config, set, device) = (&modality, &config, &sets.train, &device);
        let (method, loader) = (&method, &*loader);
        refuse_too_large(&Ready { modality, config, method, set, loader, prepared, device })?;
    }
    let settings = LoaderConfig::from(&config.train);
    let validation = modality.validation(&sets, LoaderConfig { shuffle: false, ..settings.clone() })?;
    if request.dry_run {
        return dry_run(&modality, &config, &sets, &*loader, &*method, &device);
    }
    let dir = match &request.out {
        Some(dir) => dir.clone(),
        None => fresh(&name(draft, &config.keys))?,
    };
    let clock = Clock::start();
    let started = Instant::now();
    // Whatever can be refused has been refused before the folder is made.
    let mut trainer =
        Trainer::new(&*method, config.train.clone(), &config.optim, loader.batches() as u64, &device)?;
    let mut run = start(&dir, &to_toml(&config)?, request.resume, request.allow_config_change)?;
    let encoder = params
        .with_role(Role::Trained)
        .iter()
        .filter(|p| p.name.starts_with("encoder."))
        .map(|p| p.var.elem_count())
        .sum::<usize>();
    say_progress!(
        "{} with {} ({:.2} M parameters) on {} {}, {}",
        config.keys.method(),
        config.keys.encoder(),
        encoder as f64 / 1e6,
        sets.train.len(),
        kind.samples(),
        match modality.training() {
            Training::Plan(plan) => plan.stages(&config.train, loader.batches() as u64),
            Training::One if config.train.steps > 0 => format!("{} steps", config.train.steps),
            Training::One => format!("{} epochs of {} steps", config.train.epochs, loader.batches()),
        }
    );
    say_progress!("run folder: {}", dir.display());
    modality.keep(&dir)?;
    let stop = Stop::install()?;
    stop.clear();
    trainer = trainer
        .with_stop(stop.clone())
        .with_display(Display::new(Duration::from_secs(10)))
        .with_data(sets.train.description(kind, false)?);
    if let Some(validation) = validation {
        trainer = trainer.with_validation(validation);
    }
    // Before the training: a sample that cannot be read must not end it at the first evaluation.
    let labelled = match sets.measurable()? {
        Some(found) if !M::EAGER && (request.probe || config.eval.online_knn > 0) => {
            let train = &config.train;
            Some(screen::labelled(&modality, found, train.max_bad_fraction, train.workers)?)
        }
        found => found,
    };
    let reading = (config.train.workers, config.train.max_bad_fraction);
    let held_out = sets.held_out.as_ref();
    let looks = config.train.eval_every > 0 || config.eval.measure_every > 0;
    if looks && let Some(online) = Online::new(&modality, labelled.as_ref(), held_out, &config.eval, reading)?
    {
        trainer = trainer.with_observer(online).with_measuring(config.eval.measure_every);
    }
    let summary = match modality.training() {
        Training::One => {
            let summary = trainer.fit(&loader, &mut run)?;
            drop(trainer);
            summary
        }
        Training::Plan(plan) => {
            drop(trainer);
            let (set, train, optim) = (&sets.train, &config.train, &config.optim);
            let (last, summary) = plan.run(&PlanRequest {
                set,
                loader: settings,
                train,
                optim,
                run: &run,
                device: &device,
                stop: &stop,
            })?;
            adopt(&params, last.params(), &run, &summary)?;
            summary
        }
    };
    modality.export(&params, &run.model_dir()?, M::LAYOUTS.first().copied().unwrap_or_default())?;
    let result = |probe: Option<&Probed>, unlabelled: Option<&Unlabelled>| {
        run.write_result(&RunResult {
            modality: kind,
            method: config.keys.method(),
            encoder: config.keys.encoder(),
            parameters: encoder,
            training: &summary,
            probe,
            unlabelled,
            seconds: started.elapsed().as_secs_f64(),
            cost: clock.cost(&summary, planned.estimate.as_ref()),
        })
    };
    let found = match &labelled {
        Some(labelled) if request.probe => {
            // Everything is written, and where nothing was trained an earlier evaluation stays: who does not
            // want to wait loses nothing.
            if !summary.complete {
                result(None, None)?;
            }
            stop.end_at_once();
            say_progress!(
                "evaluating on {} + {} labelled {} ...",
                labelled.train.len(),
                labelled.test.len(),
                kind.samples()
            );
            let random = random_encoder(&modality, config.train.seed, &device)?;
            let (trained, random) = (method.encoder(), random.as_ref());
            let probe = Probe {
                modality: &modality,
                trained,
                random,
                eval: &config.eval,
                workers: config.train.workers,
                device: &device,
            };
            Some(probe.run(labelled, &[], "")?)
        }
        _ => None,
    };
    let unlabelled = if found.is_none() && request.probe {
        if summary.loss.is_some() {
            result(None, None)?;
        }
        stop.end_at_once();
        let random = random_encoder(&modality, config.train.seed, &device)?;
        // One sample has nothing to be compared with.
        let set = sets.held_out.as_ref().filter(|set| set.len() >= 2).unwrap_or(&sets.train).clone();
        let loader = LoaderConfig {
            max_bad_fraction: config.train.max_bad_fraction,
            ..LoaderConfig::in_order(config.eval.batch_size, config.train.workers)
        };
        let encoders = [method.encoder(), random.as_ref()];
        let found = Unlabelled::measure(&modality, encoders, &set, config.eval.read, &loader, &device)?;
        if found.is_none() {
            say!(
                "no verdict: {} of the {} can be compared with others, expected 2 at least; `selfsup probe` measures \
                 on labelled data",
                set.len(),
                kind.samples()
            );
        }
        found
    } else {
        None
    };
    result(found.as_ref(), unlabelled.as_ref())?;
    report(&summary, kind, found.as_ref(), unlabelled.as_ref(), &dir);
    if let Some(estimate) = &planned.estimate {
        say!("{}", taken(estimate));
    }
    say_result(&dir)
}

fn report(
    summary: &Summary,
    kind: Kind,
    found: Option<&Probed>,
    unlabelled: Option<&Unlabelled>,
    dir: &Path,
) {
    say!(
        "trained {} steps in {:.0} s ({:.0} {}/s), {}",
        summary.steps,
        summary.seconds,
        summary.samples_per_second,
        kind.samples(),
        summary.shown_loss()
    );
    if summary.bad_samples > 0 {
        say!("{} unreadable samples were skipped", summary.bad_samples);
    }
    for breach in &summary.unhealthy {
        say!("warning: at the end {} (see curves.svg)", breach.sentence());
    }
    if let Some(found) = found {
        say_text!("{}", table(found));
    }
    if let Some(found) = unlabelled {
        say_text!("{}", found.shown());
    }
    say!("weights: {}", dir.join("model").display());
}

/// Takes the parameters of the last stage over, and writes them as the run's own checkpoint: what other verbs
/// open.
fn adopt(params: &Params, last: &Params, run: &Run, summary: &Summary) -> Result<()> {
    for p in last.all() {
        params.set(&p.name, p.var.as_tensor())?;
    }
    let progress = Progress { step: summary.steps, total_steps: summary.steps, epoch: summary.epochs };
    run.checkpoints(1).save(&Checkpoint::new(params, Vec::new(), progress, Extra::default()))?;
    Ok(())
}

/// One batch: shapes, parameters, memory, and what the method sees of the samples.
fn dry_run<M: Modality>(
    modality: &M,
    config: &PretrainConfig<M::Keys>,
    sets: &Sets,
    loader: &dyn Source<M::Batch>,
    method: &(impl Objective<Batch = M::Batch> + ?Sized),
    device: &Device,
) -> Result<()> {
    let batch = match loader.epoch_from(0, 0)?.next() {
        Some(batch) => batch?.batch,
        None => return Err(Error::input("data", "not a single batch can be made from it")),
    };
    say!(
        "{}: {} to train on, {} held out, {} to test on",
        M::Keys::KIND.samples(),
        sets.train.len(),
        sets.held_out.as_ref().map_or(0, |d| d.len()),
        sets.test.as_ref().map_or(0, |d| d.len())
    );
    say!(
        "classes: {}",
        if sets.train.classes().is_empty() { "none".into() } else { sets.train.classes().join(", ") }
    );
    for line in modality.preview(&batch, &sets.train)? {
        say!("{line}");
    }
    for (role, what) in [
        (Role::Trained, "trained"),
        (Role::Teacher, "teacher"),
        (Role::Frozen, "frozen"),
        (Role::Buffer, "buffers"),
    ] {
        let count = method.params().count(role);
        if count > 0 {
            say!("{what}: {:.3} M values, {:.1} MB", count as f64 / 1e6, count as f64 * 4e-6);
        }
    }
    if let Training::Plan(plan) = modality.training() {
        let stages = plan.stages(&config.train, loader.batches() as u64);
        say!("in all: {stages}");
        crate::say::result(&json!({ "dry_run": true, "train": sets.train.len(), "stages": stages }));
        say!(
            "no run was made; the method makes its targets first, so no step is shown; leave out --dry-run to train"
        );
        return Ok(());
    }
    let pass = Pass::train(config.train.seed, Progress { step: 0, total_steps: 1, epoch: 0 });
    let batch = batch.to_device(device)?;
    let step = || gradients(method, &batch, config.train.micro_batch_size, &pass);
    // The first step asks for the memory that the later ones reuse.
    drop(step()?);
    let started = Instant::now();
    let made = step()?;
    let seconds = started.elapsed().as_secs_f64();
    let steps = config.train.total_steps(loader.batches() as u64);
    say!("one step: {seconds:.2} s, loss {:.4}, gradient norm {:.4}", made.loss, made.grads.norm()?);
    say!("in all: {steps} steps, about {} without the evaluation", time_text(seconds * steps as f64));
    for gauge in method.gauges(&made.embeddings, &pass.calm())? {
        say!("{}: {:.4}", gauge.name, gauge.value);
    }
    let peak = peak_memory_mb();
    if let Some(mb) = peak {
        say!("peak memory: {mb} MB");
    }
    crate::say::result(&json!({
        "dry_run": true, "train": sets.train.len(), "steps": steps, "seconds_per_step": seconds,
        "seconds": seconds * steps as f64, "loss": made.loss, "peak_memory_mb": peak,
    }));
    say!("no run was made; leave out --dry-run to train");
    Ok(())
}

fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
