//! `selfsup robustness`: a run on corrupted samples, beside the random encoder and raw features; a fine-tuned
//! run with its own head. Results are kept in the run's folder `robustness` after every one, so that a call
//! goes on where the last one ended.

use crate::config::{DataConfig, Keys};
use crate::evaluate::Probe;
use crate::modality::{CorruptionKind, Looks, Modality, corruptible, random_encoder};
use crate::registry::with_modality;
use crate::robustness::{Cell, Probes, Report, Scores, cells, chosen, of, plot, severities, sheet, table};
use crate::say::{say, say_progress, say_text};
use crate::screen;
use crate::set::{Set, Sets, evenly};
use crate::task::{Ready, Task, Tasks, WithTask, build, restore_best};
use crate::verbs::predict::open_task;
use crate::verbs::{is_task, kind_of_run, open_run, read};
use selfsup_core::checkpoint::{pretty_json, write_text};
use selfsup_core::data::LoaderConfig;
use selfsup_core::run::{Run, time_text};
use selfsup_core::{Error, Params, Result};
use selfsup_eval::protocol::Named;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
    /// Labelled data, instead of the run's own.
    pub data: Option<String>,
    /// Labelled data to test on.
    pub test: Option<String>,
    /// A table of labels, groups and splits.
    pub labels: Option<String>,
    /// Names of corruptions, or `all`; those that count for the mean where nothing is given.
    pub corruptions: Vec<String>,
    /// Severities from 1 to 5.
    pub severities: Vec<u8>,
    /// So many test samples, evenly over all of them; 0 for all.
    pub samples: usize,
    /// Write a sample under every corruption, and measure nothing.
    pub preview: bool,
    /// Measure again what was measured before.
    pub fresh: bool,
    /// The folder to write into; `robustness` in the run without.
    pub out: Option<PathBuf>,
}

impl Request {
    /// The data that is asked for instead of the run's own.
    fn replace(&self, data: &mut DataConfig) {
        if let Some(path) = &self.data {
            data.path = path.clone();
            data.test = self.test.clone().unwrap_or_default();
            data.labels = String::new();
            data.hold_out = if self.test.is_some() { 0.0 } else { data.hold_out.max(0.2) };
            data.limit = 0;
        } else if let Some(test) = &self.test {
            data.test = test.clone();
        }
        if let Some(labels) = &self.labels {
            data.labels = labels.clone();
        }
    }

    /// The samples that are tested on.
    fn tested(&self, set: Set) -> Result<Set> {
        if self.samples == 0 || self.samples >= set.len() {
            return Ok(set);
        }
        let some = evenly(self.samples, set.len()).collect();
        set.part(some)
    }

    fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| self.run.join("robustness"))
    }
}

/// Runs the verb.
///
/// # Errors
/// If the run or a sample cannot be read, there are no labels, or a corruption is not known.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// Runs the verb for a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Tasks>(request: &Request) -> Result<()> {
    severities(&request.severities)?;
    if !is_task(&read(&request.run.join("config.toml"))?) {
        return probed::<M>(request);
    }
    let (run, config) = open_task::<M>(&request.run, &request.overrides)?;
    let kind = config.task.kind.clone();
    M::with_task(&kind, Tuned { request, run, config })
}

/// A pre-training run: probes of clean samples.
fn probed<M: Tasks>(request: &Request) -> Result<()> {
    let mut opened = open_run::<M>(&request.run, &request.overrides)?;
    let corruptible = corruptible(&opened.modality)?;
    let kinds = corruptible.kinds();
    let wanted = cells(&chosen(&kinds, &request.corruptions)?, &severities(&request.severities)?);
    request.replace(&mut opened.config.data);
    let config = &opened.config;
    let modality = &opened.modality;
    let sets = Sets::open(&config.data, M::Keys::KIND, &|what| modality.open(what))?;
    let sets = sets.try_map(&|set| modality.usable(set))?;
    if request.preview {
        return preview(
            request,
            modality,
            sets.test.as_ref().or(sets.held_out.as_ref()).unwrap_or(&sets.train),
        );
    }
    let mut labelled = sets.measurable()?.ok_or_else(|| {
        Error::input(
            &config.data.path,
            "no labels to test on: corrupted samples are compared by accuracy; give --labels FILE.csv, or --data \
             and --test with labels",
        )
    })?;
    labelled = screen::labelled(modality, labelled, config.train.max_bad_fraction, config.train.workers)?;
    labelled.test = request.tested(labelled.test)?;
    let random = random_encoder(modality, config.train.seed, &opened.device)?;
    let probe = Probe {
        modality,
        trained: opened.method.encoder(),
        random: random.as_ref(),
        eval: &config.eval,
        workers: config.train.workers,
        device: &opened.device,
    };
    let loader = LoaderConfig::in_order(config.eval.batch_size, config.train.workers);
    say_progress!("fitting probes on {} clean samples ...", labelled.train.len());
    let probes = Probes::fit(&probe, corruptible, &labelled, &loader)?;
    let seed = config.train.seed;
    let report = Report {
        step: opened.step,
        method: config.keys.method().to_string(),
        encoder: config.keys.encoder().to_string(),
        raw: Some(M::RAW.to_string()),
        train: Some(labelled.train.len()),
        settings: format!(
            "step {}; seed {seed}; train {}; test {}; eval {}",
            opened.step,
            labelled.train.description(M::Keys::KIND, true)?,
            labelled.test.description(M::Keys::KIND, true)?,
            serde_json::to_string(&config.eval).map_err(|e| Error::config(format!("eval: {e}")))?,
        ),
        measure: "linear".into(),
        clean: probes.score(modality)?,
        ..empty::<M>(request, labelled.test.len(), seed)
    };
    let score = |cell: &Cell| probes.score(&corruptible.corrupted(cell.kind.name, cell.severity, seed)?);
    measured(request, report, &kinds, &wanted, &score)
}

/// A fine-tuned run with its own head.
struct Tuned<'a, M: Modality> {
    request: &'a Request,
    run: Run,
    config: crate::task::TaskConfig<M::Keys>,
}

impl<M: Tasks> WithTask<M> for Tuned<'_, M> {
    type Out = ();

    fn run<T: Task<M>>(self) -> Result<()> {
        let Tuned { request, run, mut config } = self;
        if !T::CORRUPTIBLE {
            return Err(Error::file(
                &request.run,
                format!("was fine-tuned for {}, whose samples are not corrupted", config.task.kind),
            ));
        }
        request.replace(&mut config.data);
        let device = config.device.open()?;
        let modality = M::new(&config.pretrain())?;
        let corruptible = corruptible(&modality)?;
        let kinds = corruptible.kinds();
        let wanted = cells(&chosen(&kinds, &request.corruptions)?, &severities(&request.severities)?);
        let params = Params::new();
        let objective = build::<M, T>(&modality, &config, &[], &params, &device)?;
        let step = restore_best(&run, &params)?;
        let sets = Sets::open(&config.data, M::Keys::KIND, &|what| T::open(&modality, what, true))?
            .try_map(&|set| modality.usable(set))?
            .map(|set| modality.prepare(set));
        let (most, workers) = (config.train.max_bad_fraction, config.train.workers);
        let sets = screen::parts(&modality, sets, most, workers, &|one| T::readable(&modality, one))?;
        let (sets, _) = T::targets(sets, &config.task)?;
        let test = sets.test.or(sets.held_out).ok_or_else(|| {
            Error::input(
                &config.data.path,
                "nothing is held out to test on: give --test, or data.hold_out=0.2",
            )
        })?;
        if request.preview {
            return preview(request, &modality, &test);
        }
        let test = request.tested(test)?;
        let measure = |modality: &M| -> Result<Scores> {
            let ready = Ready::<M, T>::new(modality, &config.task, &objective, workers, &device);
            Ok(Named(vec![("tuned".to_string(), Named(T::measure(&ready, &test)?))]))
        };
        let clean = measure(&modality)?;
        let first = clean.get("tuned").and_then(|m| m.0.first()).map(|(name, _)| name.clone());
        let seed = config.train.seed;
        let report = Report {
            step,
            method: config.task.kind.clone(),
            encoder: config.keys.encoder().to_string(),
            settings: format!("step {step}; seed {seed}; test {}", test.description(M::Keys::KIND, true)?),
            measure: first.ok_or_else(|| Error::input("task", "measures nothing"))?,
            clean,
            ..empty::<M>(request, test.len(), seed)
        };
        let score = |cell: &Cell| measure(&corruptible.corrupted(cell.kind.name, cell.severity, seed)?);
        measured(request, report, &kinds, &wanted, &score)
    }
}

/// A report of nothing yet.
fn empty<M: Modality>(request: &Request, test: usize, seed: u64) -> Report {
    Report {
        format: 1,
        run: request.run.display().to_string(),
        step: 0,
        modality: M::Keys::KIND.to_string(),
        method: String::new(),
        encoder: String::new(),
        raw: None,
        train: None,
        test,
        seed,
        settings: String::new(),
        measure: String::new(),
        clean: Named::default(),
        rows: Vec::new(),
        kinds: Vec::new(),
        mean: Named::default(),
        relative_drop: Named::default(),
    }
}

/// Measures what is not there yet, keeps every result, and shows all of them.
fn measured(
    request: &Request,
    mut report: Report,
    kinds: &[CorruptionKind],
    wanted: &[Cell],
    score: &dyn Fn(&Cell) -> Result<Scores>,
) -> Result<()> {
    let folder = request.folder();
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let path = folder.join("robustness.json");
    if !request.fresh && path.is_file() {
        match serde_json::from_str::<Report>(&read(&path)?) {
            Ok(older) => report.take(older, kinds),
            Err(e) => crate::say::warning(format_args!("{}: {e}: all is measured again", path.display())),
        }
    }
    let left: Vec<&Cell> = wanted.iter().filter(|cell| !report.has(**cell)).collect();
    if left.len() < wanted.len() {
        let there = wanted.len() - left.len();
        say_progress!("{there} of {} results are there already (--fresh measures again)", wanted.len());
    }
    let begun = Instant::now();
    for (i, cell) in left.iter().enumerate() {
        let scores = score(cell).map_err(|e| named(cell, e))?;
        let line: Vec<String> = scores
            .0
            .iter()
            .filter_map(|(name, _)| Some(format!("{name} {:.1}", of(&scores, name, &report.measure)?)))
            .collect();
        report.put(kinds, **cell, scores);
        write_text(&path, &pretty_json(&report)?)?;
        let rest = begun.elapsed().as_secs_f64() / (i + 1) as f64 * (left.len() - i - 1) as f64;
        say_progress!(
            "{:<20} severity {}: {}   ({} of {}, {} left)",
            cell.kind.name,
            cell.severity,
            line.join(", "),
            i + 1,
            left.len(),
            time_text(rest)
        );
    }
    let picture = folder.join("robustness.svg");
    write_text(&picture, &plot::svg(&report)?)?;
    say!("checkpoint of step {}, {} test samples", report.step, report.test);
    say_text!("{}", table::table(&report));
    say!("written: {}, {}", path.display(), picture.display());
    let found = serde_json::to_value(&report).map_err(|e| Error::file(&path, e))?;
    crate::say::result(&found);
    Ok(())
}

/// An error of a sample, with the corruption that it had; others as they are.
fn named(cell: &Cell, e: Error) -> Error {
    match e {
        Error::Input { what, problem } => {
            let corrupted = format!("corrupted by {}, severity {}", cell.kind.name, cell.severity);
            Error::input(what, format!("{problem} ({corrupted})"))
        }
        other => other,
    }
}

/// Writes the first sample under every corruption: a picture, or a text.
fn preview<M: Modality>(request: &Request, modality: &M, set: &Set) -> Result<()> {
    let corruptible = corruptible(modality)?;
    let kinds = chosen(&corruptible.kinds(), &request.corruptions)?;
    let severities = severities(&request.severities)?;
    let clean = || corruptible.looks(set);
    let mut rows = Vec::new();
    for kind in &kinds {
        let mut row = vec![clean()?];
        for &severity in &severities {
            let reader = corruptible.corrupted(kind.name, severity, 0)?;
            row.push(match reader.corruptible() {
                Some(reader) => reader.looks(set)?,
                None => clean()?,
            });
        }
        rows.push(row);
    }
    let folder = request.folder();
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let name = set.records().id(0)?;
    let columns: Vec<String> = severities.iter().map(u8::to_string).collect();
    let text = matches!(rows.first().and_then(|row| row.first()), Some(Looks::Text(_)));
    let file = if text { texts(&folder, &kinds, &columns, &rows)? } else { picture(&folder, &rows)? };
    say!("{name}: rows, from above: {}", kinds.iter().map(|k| k.name).collect::<Vec<_>>().join(", "));
    say!("columns: clean, severity {}", columns.join(", "));
    say!("written: {}", file.display());
    let names: Vec<&str> = kinds.iter().map(|k| k.name).collect();
    crate::say::result(&serde_json::json!({
        "run": request.run, "preview": file, "sample": name, "rows": names, "severities": severities,
    }));
    Ok(())
}

fn texts(
    folder: &Path,
    kinds: &[CorruptionKind],
    columns: &[String],
    rows: &[Vec<Looks>],
) -> Result<PathBuf> {
    let mut text = String::new();
    for (kind, row) in kinds.iter().zip(rows) {
        text.push_str(&format!("{} ({})\n", kind.name, kind.about));
        let heads = std::iter::once("clean").chain(columns.iter().map(String::as_str));
        for (head, look) in heads.zip(row) {
            if let Looks::Text(sample) = look {
                text.push_str(&format!("  {head}: {}\n", sample.replace('\n', " ")));
            }
        }
    }
    let file = folder.join("preview.txt");
    write_text(&file, &text)?;
    say_text!("{text}");
    Ok(file)
}

#[cfg(feature = "vision")]
fn picture(folder: &Path, rows: &[Vec<Looks>]) -> Result<PathBuf> {
    use selfsup_vision::image::{Image, Pixels};
    let made = sheet::sheet(rows)?;
    let file = folder.join("preview.png");
    Image::new(made.width as u32, made.height as u32, 3, Pixels::U8(made.rgb))?.save(&file)?;
    Ok(file)
}

/// Where the command cannot read pictures, it cannot write them either.
#[cfg(not(feature = "vision"))]
fn picture(_folder: &Path, rows: &[Vec<Looks>]) -> Result<PathBuf> {
    sheet::sheet(rows)?;
    Err(Error::config("--preview writes a picture: build with --features vision"))
}
