//! `selfsup predict`: a fine-tuned run applied to files. Answers are rows of a table (CSV or JSON lines), or
//! files in a folder.

use crate::config::{DataConfig, Keys};
use crate::modality::{Modality, with_noise};
use crate::registry::with_modality;
use crate::say::{say, say_text};
use crate::screen::screened;
use crate::set::{Set, Sets, gather};
use crate::task::{Answers, Ready, Task, TaskConfig, Tasks, WithTask, build, restore_best};
use crate::verbs::{field, files_and_keys, is_task, kind_of_run, read};
use selfsup_core::checkpoint::write_text;
use selfsup_core::run::Run;
use selfsup_core::{Error, Params, Result};
use selfsup_datasets::{Concat, Records};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The fine-tuned run.
    pub run: PathBuf,
    /// Files, folders or names of data sets, and `KEY=VALUE` overrides of the run's configuration.
    pub files: Vec<String>,
    /// Where to write: `.csv`, `.jsonl`, or a folder of files; to the screen as CSV without.
    pub out: Option<PathBuf>,
    /// The task that the run must be of.
    pub task: Option<String>,
    /// `out` is a folder of files instead of a table.
    pub folder: bool,
    /// Instead of a prediction for each sample, what is measured on all of them: clean, and at these ratios
    /// of signal to noise in decibels.
    pub snr: Vec<f32>,
    /// The noise: a folder of recordings, or its colour.
    pub noise: String,
    /// A table of labels or transcripts, where they do not come with the samples.
    pub labels: Option<PathBuf>,
    /// Files that cannot be read are named, counted and left out.
    pub skip_bad: bool,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
}

impl Request {
    /// Whether a table of answers has a JSON object a line; else it is CSV.
    fn json_lines(&self) -> Result<bool> {
        let Some(out) = &self.out else { return Ok(false) };
        match out.extension().unwrap_or_default().to_string_lossy().to_lowercase().as_str() {
            "csv" => Ok(false),
            "jsonl" | "ndjson" => Ok(true),
            _ => Err(Error::file(out, "unknown ending: expected .csv or .jsonl, or a folder without one")),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// If the run or a file cannot be read, or the ending of `out` is unknown.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// Runs the verb for a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Tasks>(request: &Request) -> Result<()> {
    let (files, given) = files_and_keys(&request.files);
    let keys = [&request.overrides[..], &given[..]].concat();
    let request = &Request { files, ..request.clone() };
    if request.files.is_empty() {
        return Err(Error::input("predict", "no files: name files, folders or a data set after the run"));
    }
    let folder = request.out.as_ref().is_some_and(|out| out.extension().is_none());
    if request.folder || folder && request.snr.is_empty() {
        let out = request.out.as_ref();
        let out = out.ok_or_else(|| Error::config("name the folder to write into with --out DIR"))?;
        let mut folder = Folder { dir: out, lines: String::new(), count: 0, files: Vec::new() };
        answer::<M>(request, &keys, &mut folder)?;
        say!("{}{}: {} files", folder.lines, out.display(), folder.count);
        crate::say::result(&json!({ "run": request.run, "out": out, "files": folder.files }));
        return Ok(());
    }
    let rows = (crate::say::wants_json() && request.out.is_none()).then(Vec::new);
    let mut table = Table { json_lines: request.json_lines()?, text: String::new(), count: 0, rows };
    answer::<M>(request, &keys, &mut table)?;
    match &request.out {
        None => say_text!("{}", table.text),
        Some(out) => {
            write_text(out, &table.text)?;
            let rows = if request.snr.is_empty() { "predictions" } else { "rows" };
            say!("{}: {} {rows}", out.display(), table.count);
        }
    }
    let Table { count, rows, .. } = table;
    crate::say::result(&json!({ "run": request.run, "out": request.out, "count": count, "rows": rows }));
    Ok(())
}

/// Opens the run with overrides and gives its answers.
fn answer<M: Tasks>(request: &Request, keys: &[String], answers: &mut dyn Answers) -> Result<()> {
    let (run, config) = open_task::<M>(&request.run, keys)?;
    let kind = config.task.kind.clone();
    if let Some(expected) = request.task.as_ref().filter(|expected| **expected != kind) {
        return Err(Error::file(&request.run, format!("was fine-tuned for {kind}, expected {expected}")));
    }
    M::with_task(&kind, Predict { request, run, config, answers })
}

/// A fine-tuned run read back.
pub(crate) fn open_task<M: Tasks>(dir: &Path, overrides: &[String]) -> Result<(Run, TaskConfig<M::Keys>)> {
    let path = dir.join("config.toml");
    let text = read(&path)?;
    if !is_task(&text) {
        return Err(Error::file(
            dir,
            "is a pre-training run: it has no head; make one with `selfsup finetune --run`",
        ));
    }
    let mut config = TaskConfig::<M::Keys>::load(&text, &path.display().to_string(), overrides, None)?;
    config.keys.forget_pretrained(dir);
    config.keys.beside(dir);
    Ok((Run::read(dir)?, config))
}

/// The verb once the run is open.
struct Predict<'a, M: Modality> {
    request: &'a Request,
    run: Run,
    config: TaskConfig<M::Keys>,
    answers: &'a mut dyn Answers,
}

impl<M: Tasks> WithTask<M> for Predict<'_, M> {
    type Out = ();

    fn run<T: Task<M>>(self) -> Result<()> {
        let Predict { request, run, config, answers } = self;
        let device = config.device.open()?;
        let modality = M::new(&config.pretrain())?;
        let params = Params::new();
        let objective = build::<M, T>(&modality, &config, &[], &params, &device)?;
        restore_best(&run, &params)?;
        let ready =
            |modality| Ready::<M, T>::new(modality, &config.task, &objective, config.train.workers, &device);
        if request.snr.is_empty() {
            let open = |what: &str| T::open(&modality, what, false);
            let set = if request.skip_bad {
                let files = openable(&request.files, &open)?;
                let set = gather(&files, &open)?;
                screened(&modality, set, 1.0, config.train.workers, "samples to predict")?
            } else {
                gather(&request.files, &open)?
            };
            return T::predict(&ready(&modality), &set, answers);
        }
        let mut rows = vec![(Value::from("clean"), None)];
        for &db in &request.snr {
            rows.push((Value::from(f64::from(db)), Some(with_noise(&modality, db, &request.noise)?)));
        }
        let set = samples_with_targets(&modality, request)?;
        for (ratio, noisy) in &rows {
            let measured = T::measure(&ready(noisy.as_ref().unwrap_or(&modality)), &set)?;
            let mut row = vec![("snr_db".to_string(), ratio.clone())];
            row.extend(measured.into_iter().map(|(name, v)| (name, Value::from(v))));
            answers.row(row)?;
        }
        Ok(())
    }
}

/// Those of `files` that can be opened; the others are named.
fn openable(files: &[String], open: &dyn Fn(&str) -> Result<Set>) -> Result<Vec<String>> {
    let (mut good, mut last) = (Vec::new(), None);
    for file in files {
        match open(file) {
            Ok(_) => good.push(file.clone()),
            Err(e) => {
                crate::say::warning(format_args!("skipped: {e}"));
                last = Some(e);
            }
        }
    }
    match last {
        Some(e) if good.is_empty() => Err(e),
        _ => Ok(good),
    }
}

/// Named samples that have a target each: by a table, or as they come.
fn samples_with_targets<M: Tasks>(modality: &M, request: &Request) -> Result<Set> {
    let parts: Vec<Set> = match (&request.labels, request.files.as_slice()) {
        (None, files) => files.iter().map(|f| modality.open(f)).collect::<Result<_>>()?,
        (Some(labels), [path]) => {
            let data = DataConfig {
                path: path.clone(),
                labels: labels.display().to_string(),
                hold_out: 0.0,
                columns: modality.reading().columns,
                layout: modality.reading().layout,
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
    Ok(modality.prepare(Set::new(Concat::new(records)?)))
}

/// Answers as a text: CSV with a head, or JSON lines.
struct Table {
    json_lines: bool,
    text: String,
    count: usize,
    /// The same as JSON, where that is the result.
    rows: Option<Vec<Value>>,
}

impl Answers for Table {
    fn row(&mut self, row: Vec<(String, Value)>) -> Result<()> {
        if let Some(rows) = &mut self.rows {
            rows.push(Value::Object(row.iter().cloned().collect::<Map<_, _>>()));
        }
        if self.json_lines {
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
        Ok(())
    }

    fn file(&mut self, _source: &Path, _name: &str) -> Result<PathBuf> {
        Err(Error::config("a segmentation is written as files: use `selfsup segment RUN FILES... --out DIR`"))
    }

    fn files(&self) -> bool {
        false
    }
}

/// Answers as files.
struct Folder<'a> {
    dir: &'a Path,
    /// A line for each file.
    lines: String,
    count: usize,
    /// Source and file of each.
    files: Vec<Value>,
}

impl Answers for Folder<'_> {
    fn row(&mut self, _row: Vec<(String, Value)>) -> Result<()> {
        Err(Error::config("this task answers with a table: use `selfsup predict RUN FILES --out TABLE.csv`"))
    }

    fn file(&mut self, source: &Path, name: &str) -> Result<PathBuf> {
        let file = self.dir.join(name);
        let folder = file.parent().unwrap_or(self.dir);
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        if file.exists() {
            return Err(Error::file(&file, "is there already: choose another folder"));
        }
        let _ = writeln!(self.lines, "{} -> {}", source.display(), file.display());
        self.files.push(json!({ "source": source, "file": file }));
        self.count += 1;
        Ok(file)
    }

    fn files(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_rows_or_files() {
        let row =
            |class: &str| vec![("path".to_string(), Value::from("a,b")), ("label".into(), class.into())];
        for (json_lines, text) in [
            (false, "path,label\n\"a,b\",x\n\"a,b\",y\n"),
            (true, "{\"path\":\"a,b\",\"label\":\"x\"}\n{\"path\":\"a,b\",\"label\":\"y\"}\n"),
        ] {
            let mut table = Table { json_lines, text: String::new(), count: 0, rows: Some(Vec::new()) };
            table.row(row("x")).unwrap();
            table.row(row("y")).unwrap();
            assert_eq!((table.text.as_str(), table.count), (text, 2));
            assert_eq!(table.rows.as_ref().unwrap()[1], json!({ "path": "a,b", "label": "y" }));
            assert!(table.file(Path::new("a.nii"), "a.nii.gz").is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        let mut folder =
            Folder { dir: &dir.path().join("masks"), lines: String::new(), count: 0, files: Vec::new() };
        assert!(folder.row(row("x")).is_err());
        let file = folder.file(Path::new("in/a.nii"), "a.nii.gz").unwrap();
        std::fs::write(&file, "").unwrap();
        let error = folder.file(Path::new("other/a.nii"), "a.nii.gz").unwrap_err().to_string();
        assert!(error.contains("there already"), "{error}");
        assert_eq!(folder.count, 1);
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(field(&Value::from("plain.png")), "plain.png");
        assert_eq!(field(&Value::from("a, \"b\"")), "\"a, \"\"b\"\"\"");
        assert_eq!((field(&Value::Null), field(&Value::from(0.5))), (String::new(), "0.5".to_string()));
    }
}
