//! `selfsup pretrain`.

use crate::config::{Keys, PretrainConfig};
use crate::copies::copies;
use crate::cost::{Clock, Cost};
use crate::draft::Draft;
use crate::evaluate::{Probe, Probed};
use crate::modality::{Modality, PlanRequest, Training, random_encoder};
use crate::online::Online;
use crate::plan::{Planned, Ready, batches, fit_keys, plan, refuse_too_large, taken};
use crate::registry::{owner, with_method, with_modality};
use crate::say::{detail, say, say_progress, say_text, timed};
use crate::screen;
use crate::set::Sets;
use crate::unlabelled::Unlabelled;
use crate::verbs::dry_run::dry_run;
use crate::verbs::{fresh, marked, resumed, say_result, start, table};
use selfsup_core::checkpoint::{Checkpoint, Extra};
use selfsup_core::config::to_toml;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::run::{Display, Run};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Summary, Trainer};
use selfsup_core::{Error, Params, Progress, Result, Role, Scope};
use selfsup_datasets::{Kind, kind_of};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A TOML file, if the first one is not KEY=VALUE, and overrides.
    pub args: Vec<String>,
    /// `data.path`.
    pub data: Option<String>,
    /// `data.labels`.
    pub labels: Option<String>,
    /// `data.test`.
    pub test: Option<String>,
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
        ("data.labels", request.labels.clone()),
        ("data.test", request.test.clone()),
        ("method.name", request.method.clone()),
        ("encoder.name", request.encoder.clone()),
    ];
    // Continuing without a file: the configuration of the run itself.
    let resumed = resumed(request.out.as_deref(), request.resume)?;
    Ok(Draft::read(&request.args, &flags, resumed)?.located().with_owner(owner))
}

/// The modality: what is stated; else the one that alone has the method; else, without a file, what the data
/// looks like. Files that say nothing are older than the other modalities: they mean images.
pub(crate) fn kind(draft: &Draft) -> Result<Kind> {
    let (kind, why) = chosen_kind(draft)?;
    detail(format_args!("modality: {kind} ({why})"));
    Ok(kind)
}

/// The modality, and what decides it.
fn chosen_kind(draft: &Draft) -> Result<(Kind, &'static str)> {
    if let Some(kind) = draft.stated_kind()? {
        return Ok((kind, "as the configuration says"));
    }
    if let [only] = draft.method().map(with_method).unwrap_or_default()[..] {
        return Ok((only, "the method is for it alone"));
    }
    match draft.data_path() {
        Some(data) if !draft.has_file() => {
            Ok((timed("looking at the files", || kind_of(data))?, "by the files"))
        }
        _ => Ok((Kind::default(), "where nothing says another")),
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
            "data.path is empty: name a folder of data with --data DIR, a table of it with --labels FILE, or a \
             data set (see `selfsup data list`)",
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
        None if draft.has_file() => Planned::as_given(draft.clone()),
        budget => plan::<M>(draft, budget.as_deref(), !request.dry_run)?,
    };
    planned.lines.iter().for_each(|line| say!("{line}"));
    let Planned { draft, estimate, opened, .. } = planned;
    let draft = &draft;
    let mut config = PretrainConfig::<M::Keys>::of(draft)?;
    let device = config.device.open()?;
    let open = |config: &PretrainConfig<M::Keys>, before: Option<&M>| {
        let mut kept = config.clone();
        if let Some(dir) = request.out.as_ref().filter(|_| request.resume) {
            kept.keys.beside(dir);
        }
        if request.dry_run {
            kept.keys.leave_nothing();
        }
        before.map_or_else(|| M::new(&kept), |modality| modality.again(&kept))
    };
    let mut modality = open(&config, opened.as_ref().map(|o| &o.modality))?;
    let kind = M::Keys::KIND;
    let sets = match opened {
        // Opened by the plan.
        Some(opened) => opened.sets,
        None => timed("opening the data", || {
            let sets = Sets::open(&config.data, kind, &|what| modality.open(what))?;
            sets.try_map(&|set| modality.usable(set))
        })?,
    };
    crate::verbs::detail_of_sets(&sets, kind);
    // What is held out is read for the validation loss: a sample that cannot be read must not end the
    // training there.
    let sets =
        screen::parts(&modality, sets, config.train.max_bad_fraction, config.train.workers, &|_| Ok(()))?;
    let preparing = Instant::now();
    let loader = timed("preparing batches", || batches(&modality, &mut config, draft, &sets.train))?;
    let prepared = preparing.elapsed().as_secs_f64();
    let samples = loader.batches() * config.train.batch_size;
    if fit_keys(&mut config, draft, samples) {
        modality = open(&config, Some(&modality))?;
    }
    let params = Params::new();
    let method = modality.method(&Scope::root(&params, config.train.seed, &device))?;
    detail(format_args!(
        "{}: {} values are trained, {} in all, on {:?}; {} threads read; batches of {} of {samples} samples",
        config.keys.outline(),
        params.count(Role::Trained),
        params.all().iter().map(|p| p.var.elem_count()).sum::<usize>(),
        device.location(),
        config.train.workers,
        config.train.batch_size,
    ));
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
    if estimate.is_none() {
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
    let known: Vec<_> = timed("looking for copies", || copies(&sets.train))?.into_iter().collect();
    trainer = trainer
        .with_stop(stop.clone())
        .with_known(known.clone())
        .with_display(Display::new(Duration::from_secs(10)))
        .with_data(sets.train.description(kind, false)?);
    if let Some(validation) = validation {
        trainer = trainer.with_validation(validation);
    }
    // Before the training: a sample that cannot be read must not end it at the first evaluation.
    let labelled = match sets.measurable()? {
        Some(found) if !M::EAGER && (request.probe || config.eval.online_knn > 0) => {
            let train = &config.train;
            let (most, workers) = (train.max_bad_fraction, train.workers);
            Some(timed("looking through the labelled samples", || {
                screen::labelled(&modality, found, most, workers)
            })?)
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
                known: &known,
            })?;
            adopt(&params, last.params(), &run, &summary)?;
            summary
        }
    };
    timed("writing the weights", || {
        modality.export(&params, &run.model_dir()?, M::LAYOUTS.first().copied().unwrap_or_default())
    })?;
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
            cost: clock.cost(&summary, estimate.as_ref()),
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
            Some(timed("evaluating", || probe.run(labelled, &[], ""))?)
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
        let found = timed("measuring without labels", || {
            Unlabelled::measure(&modality, encoders, &set, config.eval.read, &loader, &device)
        })?;
        if found.is_none() {
            say!(
                "no verdict: {} of the {} can be compared with others, and it has no parts, expected 2 at \
                 least: `selfsup probe RUN --data DIR` measures on others",
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
    if let Some(estimate) = &estimate {
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
