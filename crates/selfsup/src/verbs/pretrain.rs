//! `selfsup pretrain`.

use crate::config::PretrainConfig;
use crate::evaluate::{Inputs, Labelled, OnlineKnn, Probed, probe};
use crate::images::Images;
use crate::verbs::table;
use candle_core::Device;
use selfsup_core::config::to_toml;
use selfsup_core::data::{Loader, LoaderConfig};
use selfsup_core::objective::Objective;
use selfsup_core::run::{Display, Run};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Summary, Trainer, gradients};
use selfsup_core::{Encoder, Error, Params, Pass, Progress, Result, Role, Scope};
use selfsup_eval::knn::KnnConfig;
use selfsup_vision::data::Collated;
use selfsup_vision::names::load_pretrained;
use selfsup_vision::recipe::{Method, MethodConfig};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
    /// One batch only.
    pub dry_run: bool,
    /// Evaluate at the end.
    pub probe: bool,
}

#[derive(Serialize)]
struct RunResult<'a> {
    method: &'a str,
    encoder: &'a str,
    parameters: usize,
    training: &'a Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<&'a Probed>,
    seconds: f64,
}

/// Runs the verb.
///
/// # Errors
/// With the exit code of [`Error::exit_code`].
pub fn run(request: Request) -> Result<()> {
    let (config, name) = configure(&request)?;
    let device = config.device.open()?;
    let data = Data::open(&config)?;
    let built = build(&config, &device)?;
    if request.dry_run {
        return dry_run(&config, &data, &built, &device);
    }
    let dir = match &request.out {
        Some(dir) => dir.clone(),
        None => fresh(&name, &config)?,
    };
    let started = Instant::now();
    let (loader, validation) = data.loaders(&config)?;
    // Whatever can be refused has been refused before the folder is made.
    let mut trainer = Trainer::new(&built.method, config.train.clone(), &config.optim, loader.batches() as u64, &device)?;
    let mut run = open_run(&dir, &to_toml(&config)?, &request)?;
    println!(
        "{} with {} ({:.2} M parameters) on {} images, {}",
        config.method.name(),
        config.encoder.name,
        built.encoder_parameters as f64 / 1e6,
        data.train.0.len(),
        if config.train.steps > 0 {
            format!("{} steps", config.train.steps)
        } else {
            format!("{} epochs of {} steps", config.train.epochs, loader.batches())
        }
    );
    println!("run folder: {}", dir.display());
    trainer = trainer.with_stop(Stop::install()?).with_display(Display::new(Duration::from_secs(10)));
    if let Some(validation) = validation {
        trainer = trainer.with_validation(validation);
    }
    if config.eval.online_knn > 0
        && let Some(labelled) = data.labelled()
    {
        let knn = KnnConfig { k: config.eval.knn_k, temperature: config.eval.knn_temperature };
        trainer = trainer.with_observer(OnlineKnn::new(inputs(&config), labelled.train, labelled.test, config.eval.online_knn, knn)?);
    }
    let summary = trainer.fit(&loader, &mut run)?;
    drop(trainer);
    crate::verbs::export::write(&config, built.method.params(), &run.model_dir()?, "timm")?;
    let found = match data.labelled() {
        Some(labelled) if request.probe => {
            println!("evaluating on {} + {} labelled images ...", labelled.train.0.len(), labelled.test.0.len());
            let random = random_encoder(&config, &device)?;
            Some(probe(&inputs(&config), built.method.encoder(), random.as_ref(), &labelled, &config.eval, &device)?)
        }
        _ => None,
    };
    run.write_result(&RunResult {
        method: config.method.name(),
        encoder: &config.encoder.name,
        parameters: built.encoder_parameters,
        training: &summary,
        probe: found.as_ref(),
        seconds: started.elapsed().as_secs_f64(),
    })?;
    println!(
        "trained {} steps in {:.0} s ({:.0} images/s), loss {:.4}",
        summary.steps, summary.seconds, summary.samples_per_second, summary.loss
    );
    if summary.bad_samples > 0 {
        println!("{} unreadable samples were skipped", summary.bad_samples);
    }
    match &found {
        Some(found) => print!("{}", table(found)),
        None if request.probe => println!(
            "no labels: nothing to evaluate (folders of the first level are taken for labels; eval on other data with `selfsup probe`)"
        ),
        None => {}
    }
    println!("weights: {}", dir.join("model").display());
    Ok(())
}

/// The configuration, and a name for its run.
fn configure(request: &Request) -> Result<(PretrainConfig, String)> {
    let mut overrides = Vec::new();
    let mut file = None;
    for arg in &request.args {
        if arg.contains('=') {
            overrides.push(arg.clone());
        } else if file.is_none() {
            file = Some(PathBuf::from(arg));
        } else {
            return Err(Error::config(format!("{arg}: expected KEY=VALUE (one file was given already)")));
        }
    }
    let quoted = |key: &str, value: &str| format!("{key}={}", toml::Value::String(value.into()));
    let mut first = Vec::new();
    if let Some(data) = &request.data {
        first.push(quoted("data.path", data));
    }
    if let Some(method) = &request.method {
        let _ = MethodConfig::named(method)?;
        first.push(quoted("method.name", method));
    }
    if let Some(encoder) = &request.encoder {
        first.push(quoted("encoder.name", encoder));
    }
    first.extend(overrides);
    let (text, shown) = match (&file, request.resume, &request.out) {
        (Some(path), _, _) => (read(path)?, path.display().to_string()),
        // Continuing without a file: the configuration of the run itself.
        (None, true, Some(dir)) => (read(&dir.join("config.toml"))?, dir.join("config.toml").display().to_string()),
        _ => (String::new(), "command line".to_string()),
    };
    let config = PretrainConfig::load(&text, &shown, &first)?;
    if config.data.path.is_empty() {
        return Err(Error::config("data.path is empty: name a folder of images with --data DIR, or a data set (see `selfsup data list`)"));
    }
    let stem = file.as_ref().and_then(|f| f.file_stem()).map(|s| s.to_string_lossy().into_owned());
    let name = match stem {
        Some(stem) => format!("{}-{stem}", config.method.name()),
        None => format!("{}-{}", config.method.name(), config.encoder.name),
    };
    Ok((config, name))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io(path, e))
}

/// The first folder runs/NAME, runs/NAME-2 ... that does not exist.
fn fresh(name: &str, _config: &PretrainConfig) -> Result<PathBuf> {
    let root = Path::new("runs");
    (1..10_000)
        .map(|i| root.join(if i == 1 { name.to_string() } else { format!("{name}-{i}") }))
        .find(|p| !p.exists())
        .ok_or_else(|| Error::input("runs", "has too many runs of this name: give one with --out"))
}

fn open_run(dir: &Path, text: &str, request: &Request) -> Result<Run> {
    if !request.resume {
        return Run::create(dir, text);
    }
    if !request.allow_config_change {
        let old = read(&dir.join("config.toml"))?;
        let changes = selfsup_core::config::diff(&old, text)?;
        if !changes.is_empty() {
            let list: Vec<String> = changes.iter().map(|(key, old, new)| format!("{key}: {old} -> {new}")).collect();
            return Err(Error::config(format!(
                "the run in {} has another configuration ({}); go on with --allow-config-change",
                dir.display(),
                list.join(", ")
            )));
        }
    }
    Ok(Run::resume(dir, Some(text))?.0)
}

/// How images become inputs of the encoder in an evaluation.
pub fn inputs(config: &PretrainConfig) -> Inputs {
    Inputs {
        augment: config.augment.clone(),
        channels: config.encoder.channels,
        batch_size: config.eval.batch_size,
        workers: config.train.workers,
        max_pixels: config.data.max_pixels,
    }
}

/// What a run reads.
pub struct Data {
    /// Images to pre-train on.
    pub train: Images,
    /// Images of the same kind that are not trained on.
    pub held_out: Option<Images>,
    /// Images to test on.
    pub test: Option<Images>,
}

impl Data {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(config: &PretrainConfig) -> Result<Self> {
        let open = |what: &str| -> Result<Images> { Ok(Images(Arc::from(selfsup_datasets::open(what)?))) };
        let all = open(&config.data.path)?.limit(config.data.limit)?;
        let (train, held_out) = all.hold_out(config.data.hold_out)?;
        let test = if config.data.test.is_empty() { None } else { Some(open(&config.data.test)?) };
        Ok(Data { train, held_out, test })
    }

    /// Images to fit and test a probe on, if there are labels.
    pub fn labelled(&self) -> Option<Labelled> {
        let test = self.test.clone().or_else(|| self.held_out.clone())?;
        (self.train.labels().is_some() && test.labels().is_some()).then(|| Labelled { train: self.train.clone(), test })
    }

    fn loaders(&self, config: &PretrainConfig) -> Result<(ImageLoader, Option<ImageLoader>)> {
        let transform = Arc::new(config.augment.views(config.method.views(), config.encoder.channels, config.data.max_pixels)?);
        let t = &config.train;
        let loader = |images: &Images, train: bool| {
            let settings = LoaderConfig {
                batch_size: if train { t.batch_size } else { t.batch_size.min(images.0.len()) },
                workers: t.workers,
                prefetch: t.prefetch,
                drop_last: true,
                shuffle: train,
                seed: t.seed,
                max_bad_fraction: t.max_bad_fraction,
            };
            Loader::new(Arc::new(images.clone()), transform.clone(), Arc::new(Collated), settings)
        };
        let train = loader(&self.train, true).map_err(|e| match e {
            Error::Config(m) => Error::config(format!("train.batch_size: {m}")),
            other => other,
        })?;
        // A validation batch of one sample has nothing to contrast with.
        let validation = match &self.held_out {
            Some(images) if images.0.len() >= 2 => Some(loader(images, false)?),
            _ => None,
        };
        Ok((train, validation))
    }
}

type ImageLoader = Loader<Images, selfsup_vision::augment::Augment, Collated>;

/// A method and its parameters.
pub struct Built {
    /// The method.
    pub method: Method,
    /// Trained values of the encoder alone.
    pub encoder_parameters: usize,
}

/// Builds the method of a configuration, with pretrained weights where it names some.
///
/// # Errors
/// If the configuration is not possible, or the weights do not fit.
pub fn build(config: &PretrainConfig, device: &Device) -> Result<Built> {
    let architecture = config.encoder.resolve(config.augment.size, config.method.masked())?;
    let params = Params::new();
    let method = config.method.build(&Scope::root(&params, config.train.seed, device), &architecture)?;
    if let Some(name) = &config.encoder.pretrained {
        let path = pretrained_path(name)?;
        let loaded = load_pretrained(&params, "encoder", &path)?;
        params.copy("encoder", "teacher.encoder")?;
        println!("pretrained weights: {} tensors of {} ({:?} layout)", loaded.report.loaded.len(), path.display(), loaded.layout);
    }
    let trained = params.with_role(Role::Trained);
    let encoder_parameters = trained.iter().filter(|p| p.name.starts_with("encoder.")).map(|p| p.var.elem_count()).sum();
    Ok(Built { method, encoder_parameters })
}

/// A path, or `org/name` on the Hub.
fn pretrained_path(name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    if name.split('/').count() == 2 && !name.starts_with('.') {
        return crate::verbs::pull::fetch(name);
    }
    Err(Error::config(format!("encoder.pretrained = \"{name}\": no such file or folder")))
}

/// The encoder of a configuration with the random weights it started from.
///
/// # Errors
/// If the configuration is not possible.
pub fn random_encoder(config: &PretrainConfig, device: &Device) -> Result<Box<dyn Encoder>> {
    let architecture = config.encoder.resolve(config.augment.size, config.method.masked())?;
    let params = Params::new();
    architecture.build(&Scope::root(&params, config.train.seed, device).sub("encoder"))
}

/// One batch: shapes, parameters, memory, and a picture of the augmentations.
fn dry_run(config: &PretrainConfig, data: &Data, built: &Built, device: &Device) -> Result<()> {
    use selfsup_core::objective::Batch;
    let (loader, _) = data.loaders(config)?;
    let batch = match loader.epoch_from(0, 0)?.next() {
        Some(batch) => batch?.batch,
        None => return Err(Error::input("data", "not a single batch can be made from it")),
    };
    println!(
        "images: {} to train on, {} held out, {} to test on",
        data.train.0.len(),
        data.held_out.as_ref().map_or(0, |d| d.0.len()),
        data.test.as_ref().map_or(0, |d| d.0.len())
    );
    println!("classes: {}", if data.train.0.classes().is_empty() { "none".into() } else { data.train.0.classes().join(", ") });
    for (i, view) in batch.views.iter().enumerate() {
        println!("view {i}: {:?}", view.dims());
    }
    let picture = PathBuf::from(format!("{}-augmentations.png", config.method.name()));
    selfsup_vision::data::contact_sheet(&batch, &config.augment, 8)?.save(&picture)?;
    println!("augmentations: {}", picture.display());
    for (role, what) in [(Role::Trained, "trained"), (Role::Teacher, "teacher"), (Role::Frozen, "frozen"), (Role::Buffer, "buffers")] {
        let count = built.method.params().count(role);
        if count > 0 {
            println!("{what}: {:.3} M values, {:.1} MB", count as f64 / 1e6, count as f64 * 4e-6);
        }
    }
    let started = Instant::now();
    let pass = Pass::train(config.train.seed, Progress { step: 0, total_steps: 1, epoch: 0 });
    let made = gradients(&built.method, &batch.to_device(device)?, config.train.micro_batch_size, &pass)?;
    println!("one step: {:.2} s, loss {:.4}, gradient norm {:.4}", started.elapsed().as_secs_f64(), made.loss, made.grads.norm()?);
    for vital in built.method.vitals(&made.embeddings)? {
        println!("{}: {:.4}", vital.name, vital.value);
    }
    if let Some(mb) = peak_memory_mb() {
        println!("peak memory: {mb} MB");
    }
    println!("nothing was written but the picture; leave out --dry-run to train");
    Ok(())
}

fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
