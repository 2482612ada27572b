//! `selfsup finetune`: a head on an encoder, learnt from labels by the same loop as pre-training.

use crate::config::{Keys, PretrainConfig};
use crate::cost::{Clock, Cost};
use crate::draft::Draft;
use crate::modality::Modality;
use crate::registry::{owner, with_modality, with_task};
use crate::say::{say, say_progress, timed};
use crate::screen;
use crate::set::{Set, Sets};
use crate::task::{
    ClassWeights, Ready, Task, TaskConfig, TaskKeys, Tasks, WithTask, build, load_encoder, restore_best,
    unknown_task,
};
use crate::verbs::{detail_of_sets, fresh, is_task, kind_of_run, marked, read, resumed, say_result, start};
use candle_core::Device;
use selfsup_core::checkpoint::{pretty_json, write_text};
use selfsup_core::config::to_toml;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Objective, balanced_weights};
use selfsup_core::optim::train_last_blocks;
use selfsup_core::run::{Display, Run};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Look, Observer, Summary, TrainConfig, Trainer, gradients};
use selfsup_core::{Error, Params, Pass, Result, Role};
use selfsup_datasets::{Kind, kind_of};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A TOML file, if one of them is none of KEY=VALUE, and overrides.
    pub args: Vec<String>,
    /// `task.run`.
    pub run: Option<PathBuf>,
    /// `data.labels`.
    pub labels: Option<PathBuf>,
    /// `data.path`.
    pub data: Option<String>,
    /// `data.test`.
    pub test: Option<String>,
    /// The folder of the new run.
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Go on although the configuration changed.
    pub allow_config_change: bool,
}

#[derive(Serialize)]
struct TaskResult<'a> {
    modality: Kind,
    task: &'a str,
    encoder: &'a str,
    start: &'a str,
    classes: usize,
    train: usize,
    trained_parameters: usize,
    training: &'a Summary,
    best_step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<Value>,
    seconds: f64,
    cost: Cost,
}

/// The modality: what is stated; else that of the run; else the one that alone has the task; else, without a
/// file, what the data looks like.
fn kind(draft: &Draft) -> Result<Kind> {
    if let Some(kind) = draft.stated_kind()? {
        return Ok(kind);
    }
    if let Some(run) = draft.task_run() {
        return kind_of_run(run);
    }
    if let [only] = draft.layers().text("task.kind").map(with_task).unwrap_or_default()[..] {
        return Ok(only);
    }
    match draft.data_path() {
        Some(data) => kind_of(data),
        None if !draft.has_file() => Err(Error::config(
            "nothing to fine-tune: give --run RUN and --labels FILE.csv, or a file with [task] and [data]",
        )),
        None => Ok(Kind::default()),
    }
}

/// Runs the verb.
///
/// # Errors
/// With the exit code of [`Error::exit_code`].
pub fn run(request: &Request) -> Result<()> {
    let draft = read_draft(request)?;
    marked(|| with_modality!(kind(&draft)?, M => finetune::<M>(request, &draft)))
}

/// The configuration as it was given.
fn read_draft(request: &Request) -> Result<Draft> {
    let text_of = |p: &PathBuf| p.display().to_string();
    let flags = [
        ("task.run", request.run.as_ref().map(text_of)),
        ("data.labels", request.labels.as_ref().map(text_of)),
        ("data.path", request.data.clone()),
        ("data.test", request.test.clone()),
    ];
    let resumed = resumed(request.out.as_deref(), request.resume)?;
    let draft = Draft::read(&request.args, &flags, resumed)?;
    // A run says itself where its samples lie.
    let draft = if draft.task_run().is_some() { draft } else { draft.located() };
    Ok(draft.with_owner(owner))
}

/// Runs the verb for the modality `M`, whatever the configuration looks like.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Tasks>(request: &Request) -> Result<()> {
    let draft = read_draft(request)?;
    marked(|| finetune::<M>(request, &draft))
}

fn finetune<M: Tasks>(request: &Request, draft: &Draft) -> Result<()> {
    let base = match draft.task_run() {
        None => None,
        Some(dir) => {
            let path = dir.join("config.toml");
            let text = read(&path)?;
            if is_task(&text) {
                return Err(Error::file(dir, "is a fine-tuned run itself: name a run of `selfsup pretrain`"));
            }
            let mut config = PretrainConfig::<M::Keys>::load(&text, &path.display().to_string(), &[])?;
            config.keys.forget_pretrained(dir);
            Some(config)
        }
    };
    let config = TaskConfig::<M::Keys>::of(draft, base.as_ref())?;
    if !M::TASKS.contains(&config.task.kind.as_str()) {
        return Err(unknown_task::<M>(&config.task.kind));
    }
    let kind = config.task.kind.clone();
    M::with_task(&kind, Finetune { request, draft, base, config })
}

/// The verb once the task is known.
struct Finetune<'a, M: Modality> {
    request: &'a Request,
    draft: &'a Draft,
    /// The configuration of the run that it starts from.
    base: Option<PretrainConfig<M::Keys>>,
    config: TaskConfig<M::Keys>,
}

impl<M: Tasks> WithTask<M> for Finetune<'_, M> {
    type Out = ();

    fn run<T: Task<M>>(self) -> Result<()> {
        let Finetune { request, draft, base, mut config } = self;
        config.refuse_unread(draft, base.as_ref(), T::READS)?;
        T::check(&config)?;
        if config.data.path.is_empty() {
            return Err(Error::config(
                "data.path is empty: name labelled data with --labels FILE.csv or --data DIR",
            ));
        }
        let device = config.device.open()?;
        let modality = M::new(&beside(&config, draft, request).pretrain())?;
        let sets = timed("opening the data", || {
            Sets::open(&config.data, M::Keys::KIND, &|what| T::open(&modality, what, true))?
                .try_map(&|set| modality.usable(set))
        })?
        .map(|set| modality.prepare(set));
        let sets = {
            let (most, workers) = (config.train.max_bad_fraction, config.train.workers);
            screen::parts(&modality, sets, most, workers, &|one| T::readable(&modality, one))?
        };
        let (sets, classes) = T::targets(sets, &config.task)?;
        detail_of_sets(&sets, M::Keys::KIND);
        config.task.classes = classes;
        let class_weights = match config.task.class_weights {
            ClassWeights::None => Vec::new(),
            ClassWeights::Balanced => balanced_weights(&T::counts(&modality, &config.task, &sets.train)?),
        };
        let params = Params::new();
        let objective = build::<M, T>(&modality, &config, &class_weights, &params, &device)?;
        let from = start_from(&modality, &config, &params)?;
        let t = &config.train;
        let loader = timed("preparing batches", || {
            T::batches(&modality, &config.task, &sets.train, settings(t, sets.train.len()))
        })?;
        freeze(&config.task, M::HEAD, &objective, &*loader, &device)?;
        let ready = Ready::<M, T>::new(&modality, &config.task, &objective, t.workers, &device);
        let dir = match &request.out {
            Some(dir) => dir.clone(),
            None => fresh(&format!(
                "finetune-{}",
                draft.stem().unwrap_or_else(|| config.keys.encoder().to_string())
            ))?,
        };
        let clock = Clock::start();
        let started = Instant::now();
        let mut trainer =
            Trainer::new(&objective, t.clone(), &config.optim, loader.batches() as u64, &device)?;
        let mut run = start(&dir, &to_toml(&config)?, request.resume, request.allow_config_change)?;
        modality.keep(run.dir())?;
        let trained = params.count(Role::Trained);
        say_progress!(
            "{} of {} {} into {} {}, {} held out; {} from {from}, {:.3} M of {:.3} M parameters trained",
            config.task.kind,
            sets.train.len(),
            M::Keys::KIND.samples(),
            config.task.classes.len(),
            T::OUTPUTS,
            sets.held_out.as_ref().map_or(0, Set::len),
            config.keys.encoder(),
            trained as f64 / 1e6,
            (trained + params.count(Role::Frozen)) as f64 / 1e6,
        );
        say_progress!("run folder: {}", dir.display());
        let stop = Stop::install()?;
        stop.clear();
        trainer = trainer
            .with_stop(stop.clone())
            .with_display(Display::new(Duration::from_secs(10)))
            .with_data(sets.train.description(M::Keys::KIND, true)?);
        if let Some(set) = &sets.held_out {
            trainer = trainer.with_observer(Watch { ready: &ready, set });
        }
        let summary = trainer.fit(&loader, &mut run)?;
        drop(trainer);
        let best_step = restore_best(&run, &params)?;
        let model = run.model_dir()?;
        modality.export_tuned(&params, &config.task, &model)?;
        write_head(&params, &config.task.classes, &model)?;
        stop.end_at_once();
        let measure = |set: &Option<Set>| -> Result<Option<Value>> {
            let Some(set) = set else { return Ok(None) };
            let values = T::measure(&ready, set)?.into_iter().map(|(name, v)| (name, Value::from(v)));
            Ok(Some(Value::Object(values.collect::<Map<_, _>>())))
        };
        let (validation, test) =
            timed("measuring", || -> Result<_> { Ok((measure(&sets.held_out)?, measure(&sets.test)?)) })?;
        let result = TaskResult {
            modality: M::Keys::KIND,
            task: &config.task.kind,
            encoder: config.keys.encoder(),
            start: &from,
            classes: config.task.classes.len(),
            train: sets.train.len(),
            trained_parameters: trained,
            training: &summary,
            best_step,
            validation,
            test,
            seconds: started.elapsed().as_secs_f64(),
            cost: clock.cost(&summary, None),
        };
        run.write_result(&result)?;
        report(&result, &dir);
        say_result(&dir)
    }
}

fn report(result: &TaskResult, dir: &Path) {
    let TaskResult { training, best_step, validation, test, .. } = result;
    say!(
        "trained {} steps in {:.0} s, {}; best at step {best_step}",
        training.steps,
        training.seconds,
        training.shown_loss()
    );
    for (name, values) in [("validation", validation), ("test", test)] {
        let Some(Value::Object(values)) = values else { continue };
        let list: Vec<String> = values
            .iter()
            .map(|(k, v)| format!("{} {:.4}", k.replace('_', " "), v.as_f64().unwrap_or(f64::NAN)))
            .collect();
        say!("{name}: {}", list.join(", "));
    }
    if validation.is_some() && test.is_none() {
        say!(
            "(the validation samples chose the checkpoint: give data.test, or a column `split`, for an unbiased figure)"
        );
    }
    say!("predict with it: selfsup predict {} FILES...", dir.display());
}

/// How batches to train on are read.
fn settings(t: &TrainConfig, samples: usize) -> LoaderConfig {
    LoaderConfig {
        batch_size: t.batch_size.min(samples),
        workers: t.workers,
        prefetch: t.prefetch,
        drop_last: false,
        shuffle: true,
        seed: t.seed,
        max_bad_fraction: t.max_bad_fraction,
    }
}

/// Fills the encoder with what it starts from; returns a description of it.
fn start_from<M: Tasks>(modality: &M, config: &TaskConfig<M::Keys>, params: &Params) -> Result<String> {
    if config.task.scratch {
        return Ok("random weights".into());
    }
    if !config.task.run.is_empty() {
        let dir = Path::new(&config.task.run);
        let latest = Run::read(dir)?.checkpoints(0).latest()?;
        latest.warnings.iter().for_each(crate::say::warning);
        let (path, checkpoint) =
            latest.found.ok_or_else(|| Error::file(dir, "the run has no checkpoint yet"))?;
        load_encoder(params, &checkpoint, M::HEAD).map_err(|e| Error::file(&path, e))?;
        return Ok(format!("step {} of {}", checkpoint.progress.step, dir.display()));
    }
    Ok(modality.load_pretrained(params)?.unwrap_or_else(|| "random weights".into()))
}

/// The configuration with files that lie in a run's folder: in that of this run where it goes on, else in
/// that of the pre-training run.
fn beside<K: Keys>(config: &TaskConfig<K>, draft: &Draft, request: &Request) -> TaskConfig<K> {
    let mut config = config.clone();
    let resumed = request.out.as_deref().filter(|dir| request.resume && dir.join("config.toml").is_file());
    if let Some(run) = resumed.or(draft.task_run()) {
        config.keys.beside(run);
    }
    config
}

/// Freezes what the task does not train: blocks below the last `train_blocks`, and parameters that the
/// encoder may leave out (a mask token) and that get no gradient here, so that nothing would ever move them.
/// The parts `head` of the encoder belong to the head and stay trained.
fn freeze<O: Objective>(
    keys: &TaskKeys,
    head: &[&str],
    objective: &O,
    loader: &dyn Source<O::Batch>,
    device: &Device,
) -> Result<()> {
    if let Some(blocks) = keys.train_blocks {
        train_last_blocks(objective.params(), "encoder", blocks)?;
        for part in head {
            objective.params().set_role(&format!("encoder.{part}"), Role::Frozen, Role::Trained);
        }
    }
    let may: BTreeSet<String> = objective.may_skip().into_iter().collect();
    if may.is_empty() {
        return Ok(());
    }
    let Some(first) = loader.epoch_from(0, 0)?.next() else { return Ok(()) };
    // As in evaluation: no dropped layer hides what is used.
    let made = gradients(objective, &first?.batch.to_device(device)?, 0, &Pass::eval())?;
    for name in may.iter().filter(|name| !made.grads.contains(name)) {
        objective.params().set_role(name, Role::Trained, Role::Frozen);
    }
    Ok(())
}

/// Measures the held-out samples between epochs.
struct Watch<'a, M: Tasks, T: Task<M>> {
    ready: &'a Ready<'a, M, T>,
    set: &'a Set,
}

impl<M: Tasks, T: Task<M>> Observer for Watch<'_, M, T> {
    fn observe(&mut self, _look: &Look) -> Result<Vec<(String, f64)>> {
        let values = T::measure(self.ready, self.set)?;
        Ok(values.into_iter().map(|(name, v)| (format!("validation_{name}"), v)).collect())
    }

    fn decides(&self) -> Option<&'static str> {
        Some(T::WATCHED)
    }
}

/// The head beside the exported encoder, `head.safetensors`, and the names of its outputs.
fn write_head(params: &Params, classes: &[String], dir: &Path) -> Result<()> {
    let outside = |name: &String| !name.starts_with("encoder.");
    let tensors: Vec<_> =
        selfsup_core::weights::export(params, "").into_iter().filter(|(name, _)| outside(name)).collect();
    selfsup_core::checkpoint::save_safetensors(dir.join("head.safetensors"), &tensors)?;
    write_text(&dir.join("classes.json"), &pretty_json(&classes)?)
}
