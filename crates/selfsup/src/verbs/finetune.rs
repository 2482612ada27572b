//! `selfsup finetune`: a head on an encoder, learnt from labels by the same loop as pre-training.

use crate::config::{Keys, PretrainConfig};
use crate::draft::Draft;
use crate::evaluate::in_order;
use crate::modality::{Modality, owner, with_modality};
use crate::say::say;
use crate::set::{Set, Sets};
use crate::task::{Build, ClassWeights, Task, TaskConfig, TaskKeys, load_encoder};
use crate::verbs::{fresh, is_task, kind_of_run, read, start};
use candle_core::Device;
use selfsup_core::checkpoint::Checkpoint;
use selfsup_core::config::to_toml;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Objective, balanced_weights};
use selfsup_core::optim::train_last_blocks;
use selfsup_core::run::{Display, Run};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Look, Observer, Summary, Trainer, gradients};
use selfsup_core::{Error, Params, Pass, Result, Role, Scope};
use selfsup_datasets::{Kind, kind_of};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Samples that are measured at once.
pub(crate) const MEASURED: usize = 64;

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
}

/// The modality: what is stated; else that of the run; else, without a file, what the data looks like.
fn kind(draft: &Draft) -> Result<Kind> {
    if let Some(kind) = draft.stated_kind()? {
        return Ok(kind);
    }
    if let Some(run) = draft.task_run() {
        return kind_of_run(run);
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
    let text_of = |p: &PathBuf| p.display().to_string();
    let flags = [
        ("task.run", request.run.as_ref().map(text_of)),
        ("data.labels", request.labels.as_ref().map(text_of)),
        ("data.path", request.data.clone()),
        ("data.test", request.test.clone()),
    ];
    let resumed = request.out.as_deref().filter(|_| request.resume);
    let draft = Draft::read(&request.args, &flags, resumed)?.with_owner(owner);
    with_modality!(kind(&draft)?, M => dispatch::<M>(request, &draft))
}

fn dispatch<M: Modality>(request: &Request, draft: &Draft) -> Result<()> {
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
        return Err(Error::config(format!(
            "task.kind = \"{}\": expected {}",
            config.task.kind,
            M::TASKS.join(" or ")
        )));
    }
    config.refuse_unread(draft, base.as_ref())?;
    M::tune(Work { request, draft, config })
}

/// What is to be done, once the task is known.
pub struct Work<'a, M: Modality> {
    /// What was asked for.
    pub request: &'a Request,
    /// How the configuration was given.
    pub draft: &'a Draft,
    /// The configuration.
    pub config: TaskConfig<M::Keys>,
}

/// Builds encoder and head over `params`.
pub(crate) fn build<M: Modality, T: Task<M>>(
    modality: &M,
    config: &TaskConfig<M::Keys>,
    weights: &[f32],
    params: &Params,
    device: &Device,
) -> Result<T::Objective> {
    let encoder = |scope: &Scope| modality.tuned_encoder(scope);
    T::build(
        modality,
        &Build {
            encoder: &encoder,
            scope: Scope::root(params, config.train.seed, device),
            keys: &config.task,
            weights,
        },
    )
}

/// Fills the encoder with what it starts from; says what that is.
fn start_from<M: Modality>(modality: &M, config: &TaskConfig<M::Keys>, params: &Params) -> Result<String> {
    if config.task.scratch {
        return Ok("random weights".into());
    }
    if !config.task.run.is_empty() {
        let dir = Path::new(&config.task.run);
        let latest = Run::resume(dir, None)?.0.checkpoints(0).latest()?;
        latest.warnings.iter().for_each(crate::say::warning);
        let (path, checkpoint) =
            latest.found.ok_or_else(|| Error::file(dir, "the run has no checkpoint yet"))?;
        load_encoder(params, &checkpoint, M::HEAD).map_err(|e| Error::file(&path, e))?;
        return Ok(format!("step {} of {}", checkpoint.progress.step, dir.display()));
    }
    Ok(modality.load_pretrained(params)?.unwrap_or_else(|| "random weights".into()))
}

/// Fine-tunes for a task.
///
/// # Errors
/// What the data, the configuration or the run's folder gives rise to.
pub fn fit<M: Modality, T: Task<M>>(work: Work<M>) -> Result<()> {
    let Work { request, draft, mut config } = work;
    if config.data.path.is_empty() {
        return Err(Error::config(
            "data.path is empty: name labelled data with --labels FILE.csv or --data DIR",
        ));
    }
    let device = config.device.open()?;
    let modality = M::new(&beside(&config, draft, request).pretrain())?;
    let sets = Sets::open(&config.data, M::Keys::KIND, &|what| T::open(&modality, what, true))?
        .map(|set| modality.for_task(set));
    let (sets, classes) = T::targets(sets)?;
    config.task.classes = classes;
    let weights = match config.task.class_weights {
        ClassWeights::None => Vec::new(),
        ClassWeights::Balanced => {
            balanced_weights(&T::counts(&modality, &sets.train, config.task.classes.len())?)
        }
    };
    let params = Params::new();
    let objective = build::<M, T>(&modality, &config, &weights, &params, &device)?;
    let from = start_from(&modality, &config, &params)?;
    let t = &config.train;
    let settings = LoaderConfig {
        batch_size: t.batch_size.min(sets.train.len()),
        workers: t.workers,
        prefetch: t.prefetch,
        drop_last: false,
        shuffle: true,
        seed: t.seed,
        max_bad_fraction: t.max_bad_fraction,
    };
    let loader = T::batches(&modality, &config.task, &sets.train, true, settings)?;
    if let Some(blocks) = config.task.train_blocks {
        train_last_blocks(&params, "encoder", blocks);
    }
    freeze_unused(&objective, &*loader, &device)?;
    // Built again: now what is frozen is out of the graph.
    let objective = build::<M, T>(&modality, &config, &weights, &params, &device)?;
    let dir = match &request.out {
        Some(dir) => dir.clone(),
        None => {
            let stem = draft.stem().unwrap_or_else(|| config.keys.encoder().to_string());
            fresh(&format!("finetune-{stem}"))?
        }
    };
    let started = Instant::now();
    let mut trainer = Trainer::new(&objective, t.clone(), &config.optim, loader.batches() as u64, &device)?;
    let mut run = start(&dir, &to_toml(&config)?, request.resume, request.allow_config_change)?;
    modality.keep(run.dir())?;
    let trained = params.count(Role::Trained);
    say!(
        "{} of {} {} into {} {}, {} held out; {} from {from}, {:.3} M of {:.3} M parameters trained",
        config.task.kind,
        sets.train.len(),
        M::Keys::KIND.samples(),
        config.task.classes.len(),
        match config.task.kind.as_str() {
            "ctc" => "tokens",
            "question-answering" => "scores a token",
            _ => "classes",
        },
        sets.held_out.as_ref().map_or(0, Set::len),
        config.keys.encoder(),
        trained as f64 / 1e6,
        (trained + params.count(Role::Frozen)) as f64 / 1e6,
    );
    say!("run folder: {}", dir.display());
    let stop = Stop::install()?;
    stop.clear();
    trainer = trainer.with_stop(stop.clone()).with_display(Display::new(Duration::from_secs(10)));
    let measure = in_order(MEASURED, t.workers);
    if let Some(held_out) = &sets.held_out {
        let watch = Watch::<M, T> {
            modality: &modality,
            keys: &config.task,
            objective: &objective,
            set: held_out,
            loader: measure.clone(),
        };
        trainer = trainer.with_observer(watch);
    }
    let summary = trainer.fit(&loader, &mut run)?;
    drop(trainer);
    let best_step = restore_best(&run, &params)?;
    let model = run.model_dir()?;
    modality.export_tuned(&params, &config.task, &model)?;
    write_head(&params, &config.task.classes, &model)?;
    stop.end_at_once();
    let of = |set: Option<&Set>| -> Result<Option<Value>> {
        let Some(set) = set else { return Ok(None) };
        let values = T::measure(&modality, &config.task, &objective, set, &measure, &device)?;
        Ok(Some(Value::Object(values.into_iter().map(|(k, v)| (k, Value::from(v))).collect::<Map<_, _>>())))
    };
    let (validation, test) = (of(sets.held_out.as_ref())?, of(sets.test.as_ref())?);
    run.write_result(&TaskResult {
        modality: M::Keys::KIND,
        task: &config.task.kind,
        encoder: config.keys.encoder(),
        start: &from,
        classes: config.task.classes.len(),
        train: sets.train.len(),
        trained_parameters: trained,
        training: &summary,
        best_step,
        validation: validation.clone(),
        test: test.clone(),
        seconds: started.elapsed().as_secs_f64(),
    })?;
    say!(
        "trained {} steps in {:.0} s, {}; best at step {best_step}",
        summary.steps,
        summary.seconds,
        summary.shown_loss()
    );
    show(&[("validation", validation.as_ref()), ("test", test.as_ref())]);
    if validation.is_some() && test.is_none() {
        say!(
            "(the validation samples chose the checkpoint: give data.test, or a column `split`, for an unbiased figure)"
        );
    }
    say!("predict with it: selfsup predict {} FILES...", dir.display());
    Ok(())
}

/// The configuration with files that lie in a run's folder: in that of this run where it goes on, else in
/// that of the pre-training run.
fn beside<K: Keys>(config: &TaskConfig<K>, draft: &Draft, request: &Request) -> TaskConfig<K> {
    let mut config = config.clone();
    let resumed = request.out.as_deref().filter(|_| request.resume);
    if let Some(run) = resumed.or(draft.task_run()) {
        config.keys.beside(run);
    }
    config
}

/// Freezes parameters that the encoder says may be left out (a mask token) and that get no gradient here:
/// nothing would ever move them.
fn freeze_unused<O: Objective>(objective: &O, loader: &dyn Source<O::Batch>, device: &Device) -> Result<()> {
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
struct Watch<'a, M: Modality, T: Task<M>> {
    modality: &'a M,
    keys: &'a TaskKeys,
    objective: &'a T::Objective,
    set: &'a Set,
    loader: LoaderConfig,
}

impl<M: Modality, T: Task<M>> Observer for Watch<'_, M, T> {
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>> {
        let values =
            T::measure(self.modality, self.keys, self.objective, self.set, &self.loader, look.device)?;
        Ok(values.into_iter().map(|(name, v)| (format!("validation_{name}"), v)).collect())
    }

    fn decides(&self) -> Option<&'static str> {
        Some(T::WATCHED)
    }
}

/// Takes the best checkpoint, or leaves the newest where none was marked; returns its step.
pub(crate) fn restore_best(run: &Run, params: &Params) -> Result<u64> {
    let store = run.checkpoints(0);
    let found: Option<(PathBuf, Checkpoint)> = match store.best()? {
        Some(best) => Some(best),
        None => store.latest()?.found,
    };
    let (path, checkpoint) = found.ok_or_else(|| Error::file(run.dir(), "the run has no checkpoint yet"))?;
    checkpoint.restore(params).map_err(|e| Error::file(&path, e))?;
    Ok(checkpoint.progress.step)
}

/// The head beside the exported encoder, `head.safetensors`, and the names of its outputs.
fn write_head(params: &Params, classes: &[String], dir: &Path) -> Result<()> {
    let outside = |name: &String| !name.starts_with("encoder.");
    let tensors: Vec<_> =
        selfsup_core::weights::export(params, "").into_iter().filter(|(name, _)| outside(name)).collect();
    selfsup_core::checkpoint::save_safetensors(dir.join("head.safetensors"), &tensors)?;
    super::export::text(&dir.join("classes.json"), &super::export::pretty(&Value::from(classes.to_vec()))?)
}

fn show(parts: &[(&str, Option<&Value>)]) {
    for (name, values) in parts {
        let Some(Value::Object(values)) = values else { continue };
        let list: Vec<String> = values
            .iter()
            .map(|(k, v)| format!("{} {:.4}", k.replace('_', " "), v.as_f64().unwrap_or(f64::NAN)))
            .collect();
        say!("{name}: {}", list.join(", "));
    }
}
