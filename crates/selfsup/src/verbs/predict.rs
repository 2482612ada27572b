//! `selfsup predict`: what a fine-tuned run says about files, as CSV or JSON lines.

use crate::config::{DataConfig, Keys};
use crate::evaluate::in_order;
use crate::modality::{Modality, with_modality};
use crate::say::{say, say_text};
use crate::set::{Set, Sets};
use crate::task::{Task, TaskConfig};
use crate::verbs::finetune::{MEASURED, build, restore_best};
use crate::verbs::{is_task, kind_of_run, read};
use selfsup_core::checkpoint::write_atomic;
use selfsup_core::run::Run;
use selfsup_core::{Error, Params, Result};
use selfsup_datasets::{Concat, Records};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The fine-tuned run.
    pub run: PathBuf,
    /// Files, folders or names of data sets.
    pub files: Vec<String>,
    /// Where to write, `.csv` or `.jsonl`; to the screen as CSV without.
    pub out: Option<PathBuf>,
    /// The task that the run must be of.
    pub task: Option<String>,
    /// `out` is a folder of files instead of a table.
    pub folder: bool,
    /// Instead of what is said of each sample, what is measured on all of them: clean, and at these ratios of
    /// signal to noise in decibels.
    pub snr: Vec<f32>,
    /// The noise: a folder of recordings, or its colour.
    pub noise: String,
    /// A table of labels or transcripts, where they do not come with the samples.
    pub labels: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// If the run or a file cannot be read, or the ending of `out` is unknown.
pub fn run(request: &Request) -> Result<()> {
    if request.folder && request.out.is_none() {
        return Err(Error::config("name the folder to write into with --out DIR"));
    }
    let ending = request
        .out
        .as_ref()
        .filter(|_| !request.folder)
        .map(|o| o.extension().unwrap_or_default().to_string_lossy().to_lowercase());
    let lines = match (&request.out, ending.as_deref()) {
        (_, None | Some("csv")) => false,
        (_, Some("jsonl" | "ndjson")) => true,
        (out, _) => {
            return Err(Error::file(
                out.clone().unwrap_or_default(),
                "unknown ending: expected .csv or .jsonl",
            ));
        }
    };
    if request.files.is_empty() {
        return Err(Error::input("predict", "no files: name files, folders or a data set after the run"));
    }
    let (text, count) = with_modality!(kind_of_run(&request.run)?, M => predict::<M>(request, lines))?;
    match &request.out {
        None => say_text!("{text}"),
        Some(out) if request.folder => say!("{text}{}: {count} files", out.display()),
        Some(out) => {
            write_atomic(out, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(out, e)))?;
            say!(
                "{}: {count} {}",
                out.display(),
                if request.snr.is_empty() { "predictions" } else { "rows" }
            );
        }
    }
    Ok(())
}

/// A fine-tuned run read back.
pub(crate) fn open_task<M: Modality>(dir: &Path) -> Result<(Run, TaskConfig<M::Keys>)> {
    let path = dir.join("config.toml");
    let text = read(&path)?;
    if !is_task(&text) {
        return Err(Error::file(
            dir,
            "is a pre-training run: it has no head; make one with `selfsup finetune --run`",
        ));
    }
    let mut config = TaskConfig::<M::Keys>::load(&text, &path.display().to_string(), &[], None)?;
    config.keys.forget_pretrained(dir);
    config.keys.beside(dir);
    Ok((Run::resume(dir, None)?.0, config))
}

/// The samples of several files, folders or data sets.
pub(crate) fn gather(files: &[String], open: &dyn Fn(&str) -> Result<Set>) -> Result<Set> {
    let parts: Vec<Box<dyn Records>> = files
        .iter()
        .map(|f| Ok(Box::new(Unlabelled(open(f)?)) as Box<dyn Records>))
        .collect::<Result<_>>()?;
    Ok(Set::new(Concat::new(parts)?))
}

/// Samples whose labels are not asked for: folders named on one line need not have the same classes.
struct Unlabelled(Set);

impl Records for Unlabelled {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Result<selfsup_datasets::Record> {
        self.0.records().get(index)
    }
    fn id(&self, index: usize) -> Result<String> {
        self.0.records().id(index)
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}

/// What is to be done, once the run is open.
pub struct Work<'a, M: Modality> {
    request: &'a Request,
    run: Run,
    /// The run's configuration.
    pub config: TaskConfig<M::Keys>,
    lines: bool,
}

impl<M: Modality> Work<'_, M> {
    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What was named.
    pub fn files(&self) -> &[String] {
        &self.request.files
    }

    /// The folder to write into, where the request is one for files.
    pub fn folder(&self) -> Option<&Path> {
        self.request.out.as_deref().filter(|_| self.request.folder)
    }
}

fn predict<M: Modality>(request: &Request, lines: bool) -> Result<(String, usize)> {
    let (run, config) = open_task::<M>(&request.run)?;
    if let Some(kind) = &request.task
        && *kind != config.task.kind
    {
        return Err(Error::file(
            &request.run,
            format!("was fine-tuned for {}, expected {kind}", config.task.kind),
        ));
    }
    M::tell(&Work { request, run, config, lines })
}

/// The rows of a task as text, and their number.
///
/// # Errors
/// If a sample or the checkpoint cannot be read.
pub fn said<M: Modality, T: Task<M>>(work: &Work<M>) -> Result<(String, usize)> {
    let Work { request, run, config, lines } = work;
    let device = config.device.open()?;
    let modality = M::new(&config.pretrain())?;
    let params = Params::new();
    let objective = build::<M, T>(&modality, config, &[], &params, &device)?;
    restore_best(run, &params)?;
    let loader = in_order(MEASURED, config.train.workers);
    let mut rows = Rows { lines: *lines, text: String::new(), count: 0 };
    if request.snr.is_empty() {
        let set = gather(&request.files, &|what| T::open(&modality, what, false))?;
        T::predict(&modality, &objective, &config.task, &set, &loader, &device, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
        return Ok((rows.text, rows.count));
    }
    let set = told(&modality, request)?;
    if config.task.kind == "classification"
        && (set.classes() != config.task.classes || set.labels().is_none())
    {
        let (classes, known) = (set.classes(), &config.task.classes);
        return Err(Error::input(
            "predict",
            format!("samples of the classes {classes:?}, expected one of {known:?} for each"),
        ));
    }
    let mut measure = |ratio: Value, modality: &M| -> Result<()> {
        let found = T::measure(modality, &config.task, &objective, &set, &loader, &device)?;
        let first = [("snr_db".to_string(), ratio)].into_iter();
        rows.push(first.chain(found.into_iter().map(|(name, v)| (name, Value::from(v)))).collect());
        Ok(())
    };
    measure(Value::from("clean"), &modality)?;
    for &db in &request.snr {
        measure(Value::from(f64::from(db)), &modality.noisy(db, &request.noise)?)?;
    }
    Ok((rows.text, rows.count))
}

/// Named samples that have a target each: by a table, or as they come.
fn told<M: Modality>(modality: &M, request: &Request) -> Result<Set> {
    let parts: Vec<Set> = match (&request.labels, request.files.as_slice()) {
        (None, files) => files.iter().map(|f| modality.open(f)).collect::<Result<_>>()?,
        (Some(labels), [path]) => {
            let data = DataConfig {
                path: path.clone(),
                labels: labels.display().to_string(),
                hold_out: 0.0,
                ..DataConfig::default()
            };
            let sets = Sets::open(&data, M::Keys::KIND, &|what| modality.open(what))?;
            // What a table keeps for testing is tested on.
            vec![sets.test.or(sets.held_out).unwrap_or(sets.train)]
        }
        (Some(labels), files) => {
            return Err(Error::file(
                labels,
                format!("names samples of one folder or data set, and {} are given", files.len()),
            ));
        }
    };
    let records = parts.into_iter().map(|set| Box::new(set.records().clone()) as Box<dyn Records>).collect();
    Ok(modality.for_task(Set::new(Concat::new(records)?)))
}

/// Rows as text: CSV with a head, or JSON lines.
struct Rows {
    lines: bool,
    text: String,
    count: usize,
}

impl Rows {
    fn push(&mut self, row: Vec<(String, Value)>) {
        if self.lines {
            let _ = writeln!(self.text, "{}", Value::Object(row.into_iter().collect::<Map<_, _>>()));
        } else {
            if self.count == 0 {
                let head: Vec<String> =
                    row.iter().map(|(name, _)| field(&Value::from(name.as_str()))).collect();
                let _ = writeln!(self.text, "{}", head.join(","));
            }
            let values: Vec<String> = row.iter().map(|(_, v)| field(v)).collect();
            let _ = writeln!(self.text, "{}", values.join(","));
        }
        self.count += 1;
    }
}

/// A value as a field of a CSV table (RFC 4180).
fn field(value: &Value) -> String {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(field(&Value::from("plain.png")), "plain.png");
        assert_eq!(field(&Value::from("a, \"b\"")), "\"a, \"\"b\"\"\"");
        assert_eq!((field(&Value::Null), field(&Value::from(0.5))), (String::new(), "0.5".to_string()));
    }
}
