//! One file for each verb of the command. A verb is written once, for any [`Modality`].

mod alike;
#[cfg(feature = "medical")]
pub mod cache;
pub mod config;
pub mod curve;
pub mod curves;
pub mod data;
pub mod doctor;
mod dry_run;
pub mod embed;
pub mod export;
pub mod finetune;
pub mod generate;
mod invariance;
#[cfg(feature = "signals")]
pub mod monitor;
pub(crate) mod parts;
pub mod pictures;
pub mod plan;
pub mod predict;
pub mod pretrain;
pub mod probe;
pub mod pull;
pub mod report;
pub mod robustness;
pub mod runs;
mod scored;
pub mod search;
pub mod tokenizer;

use crate::config::{DataConfig, Keys, PretrainConfig};
use crate::draft::Draft;
use crate::evaluate::Probed;
use crate::modality::{Method, Modality};
use crate::set::{Set, Sets};
use crate::verdict::verdict;
use candle_core::Device;
use selfsup_core::run::{Ended, Run};
use selfsup_core::{Error, Params, Result, Scope};
use selfsup_datasets::Kind;
use serde_json::Value;
use std::cell::RefCell;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The accuracies as a table.
pub fn table(found: &Probed) -> String {
    let r = &found.report;
    let mut out = format!("{}\n", verdict(found));
    let mut row = |name: &str, f: &dyn Fn(&str) -> String| {
        let _ = writeln!(out, "{name:<24}{:>16}{:>16}{:>16}", f("trained"), f("random"), f("raw"));
    };
    row("accuracy in %", &|set| match set {
        "raw" => found.raw.into(),
        "random" => "random encoder".into(),
        other => other.into(),
    });
    let one = |v: Option<&f64>| v.map_or("-".into(), |v| format!("{v:.1}"));
    row(&format!("kNN (k = {})", r.knn_k), &|set| one(r.knn.get(set)));
    row("linear, all labels", &|set| one(r.linear.get(set)));
    for (labels, few) in &r.linear_at.0 {
        row(&format!("linear, {labels} labels"), &|set| match (few.mean.get(set), few.sd.get(set)) {
            (Some(m), Some(sd)) => format!("{m:.1} ± {sd:.1}"),
            _ => "-".into(),
        });
    }
    for noisy in &found.noisy {
        row(&format!("kNN, {} dB", noisy.snr_db), &|set| one(noisy.knn.get(set)));
        row(&format!("linear, {} dB", noisy.snr_db), &|set| one(noisy.linear.get(set)));
    }
    let _ = writeln!(
        out,
        "(guessing the most frequent class: {:.1}; few labels: mean ± sd of {} draws)",
        r.majority, r.draws
    );
    if let Some(trained) = found.geometry.get("trained") {
        let _ = writeln!(out, "{:<30}{:>14}{:>16}{:>16}", "without labels", "trained", "random", found.raw);
        for (i, (name, _)) in trained.rows().into_iter().enumerate() {
            let of = |set: &str| found.geometry.get(set).map_or("-".into(), |g| g.rows()[i].1.clone());
            let _ = writeln!(out, "{name:<30}{:>14}{:>16}{:>16}", of("trained"), of("random"), of("raw"));
        }
    }
    for note in &r.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let _ = writeln!(out, "representation: {}", found.collapse.sentence);
    out
}

/// What was read, where it is asked for.
pub(crate) fn detail_of_sets(sets: &Sets, kind: Kind) {
    let of = |set: Option<&Set>| set.map_or(0, Set::len);
    crate::say::detail(format_args!(
        "{} {} to train on, {} held out, {} to test on; {}",
        sets.train.len(),
        kind.samples(),
        of(sets.held_out.as_ref()),
        of(sets.test.as_ref()),
        match sets.train.classes() {
            [] => "without labels".to_string(),
            classes => format!("{} classes: {}", classes.len(), some(classes)),
        }
    ));
}

/// The first of some names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let more = if names.len() > SHOWN { " ..." } else { "" };
    names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ") + more
}

/// A finished or stopped pre-training run, read back.
pub struct Opened<M: Modality> {
    /// The folder.
    pub run: Run,
    /// Its configuration.
    pub config: PretrainConfig<M::Keys>,
    /// What the configuration names.
    pub modality: M,
    /// The method with the newest weights.
    pub method: Method<M::Batch>,
    /// Where it lives.
    pub device: Device,
    /// Steps of its checkpoint.
    pub step: u64,
}

/// The modality of the run in `dir`.
///
/// # Errors
/// If there is no run.
pub fn kind_of_run(dir: &Path) -> Result<Kind> {
    let path = dir.join("config.toml");
    if !path.exists() {
        return Err(Error::file(dir, "holds no run (no config.toml)"));
    }
    // Runs of the first version name none: they are of images.
    Ok(Draft::parse(&read(&path)?, &path.display().to_string())?.stated_kind()?.unwrap_or_default())
}

/// Opens the run in `dir` with its newest checkpoint.
///
/// # Errors
/// If there is no run or no checkpoint.
pub fn open_run<M: Modality>(dir: &Path, overrides: &[String]) -> Result<Opened<M>> {
    let run = Run::read(dir)?;
    let text = run.config()?;
    if is_task(&text) {
        return Err(Error::file(
            dir,
            "is a fine-tuned run: expected one of `selfsup pretrain` (use `selfsup predict` with this one)",
        ));
    }
    let mut config =
        PretrainConfig::<M::Keys>::load(&text, &dir.join("config.toml").display().to_string(), overrides)?;
    // The checkpoint has the weights: where they once came from does not matter any more.
    config.keys.forget_pretrained(dir);
    config.keys.beside(dir);
    let device = config.device.open()?;
    let modality = M::new(&config)?;
    let method = modality.method(&Scope::root(&Params::new(), config.train.seed, &device))?;
    let latest = run.checkpoints(0).latest()?;
    latest.warnings.iter().for_each(crate::say::warning);
    let Some((path, checkpoint)) = latest.found else {
        return Err(Error::file(dir, "the run has no checkpoint yet"));
    };
    checkpoint.restore(method.params()).map_err(|e| Error::file(&path, e))?;
    crate::say::detail(format_args!("weights of {} on {:?}", path.display(), device.location()));
    Ok(Opened { run, config, modality, method, device, step: checkpoint.progress.step })
}

/// Points a run's configuration at other labelled data: `path` to fit on, `test` to test on (without it a fifth
/// of `path` is held out at least), a table of `labels`.
pub(crate) fn point_at(data: &mut DataConfig, path: Option<&str>, test: Option<&str>, labels: Option<&str>) {
    if let Some(path) = path {
        data.path = path.into();
        data.test = test.unwrap_or_default().into();
        data.labels = String::new();
        data.hold_out = if test.is_some() { 0.0 } else { data.hold_out.max(0.2) };
        data.limit = 0;
    } else if let Some(test) = test {
        data.test = test.into();
    }
    if let Some(labels) = labels {
        data.labels = labels.into();
    }
}

/// Arguments that may be files or `KEY=VALUE`: the files, and the overrides. A file that is there is a file,
/// whatever its name.
pub(crate) fn files_and_keys(args: &[String]) -> (Vec<String>, Vec<String>) {
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_lowercase())
            && w.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let is_key = |arg: &&String| {
        arg.split_once('=').is_some_and(|(key, _)| key.trim().split('.').all(word))
            && !Path::new(arg).exists()
    };
    let (keys, files): (Vec<&String>, Vec<&String>) = args.iter().partition(is_key);
    (files.into_iter().cloned().collect(), keys.into_iter().cloned().collect())
}

/// Whether a configuration is one of `selfsup finetune`.
pub(crate) fn is_task(text: &str) -> bool {
    text.parse::<toml::Table>().is_ok_and(|t| t.contains_key("task"))
}

/// A value as a field of a CSV table (RFC 4180).
pub(crate) fn field(value: &Value) -> String {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

pub(crate) fn read(path: &Path) -> Result<String> {
    selfsup_core::file::text(path)
}

/// The first folder runs/NAME, runs/NAME-2 ... that does not exist.
pub(crate) fn fresh(name: &str) -> Result<PathBuf> {
    let root = Path::new("runs");
    (1..10_000)
        .map(|i| root.join(if i == 1 { name.to_string() } else { format!("{name}-{i}") }))
        .find(|p| !p.exists())
        .ok_or_else(|| Error::input("runs", "has too many runs of this name: give one with --out"))
}

/// The run that `--resume` goes on with; none where the folder holds none yet: then it starts there, so that
/// one command serves for both.
pub(crate) fn resumed(out: Option<&Path>, resume: bool) -> Result<Option<&Path>> {
    match out {
        _ if !resume => Ok(None),
        None => Err(Error::config(
            "--resume goes on with the run in --out: give its folder, as in `--out runs/NAME --resume`",
        )),
        Some(dir) => Ok(Some(dir).filter(|dir| dir.join("config.toml").is_file())),
    }
}

thread_local! {
    /// The folder of the run that this thread has started: [`marked`] leaves word in it.
    static STARTED: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Does `work`; where it has started a run ([`start`]), leaves word in its folder of how it ended.
pub(crate) fn marked<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    STARTED.take();
    let result = work();
    match STARTED.take().map_or(Ok(()), |dir| Ended::leave(&dir, &result)) {
        // Without the word a finished run looks like one that was killed.
        Err(e) if result.is_ok() => Err(e),
        _ => result,
    }
}

/// The result of the run in `dir` as JSON, where it is asked for: its `result.json` with the folder.
pub(crate) fn say_result(dir: &Path) -> Result<()> {
    if !crate::say::wants_json() {
        return Ok(());
    }
    let path = dir.join("result.json");
    let mut result: Value = serde_json::from_str(&read(&path)?).map_err(|e| Error::file(&path, e))?;
    result["run"] = Value::from(dir.display().to_string());
    crate::say::result(&result);
    Ok(())
}

/// Starts the run in `dir`, or goes on with the one that is there.
pub(crate) fn start(dir: &Path, text: &str, resume: bool, allow_config_change: bool) -> Result<Run> {
    let run = started(dir, text, resume, allow_config_change)?;
    STARTED.set(Some(dir.to_path_buf()));
    crate::say::detail(format_args!("configuration:\n{text}"));
    Ok(run)
}

fn started(dir: &Path, text: &str, resume: bool, allow_config_change: bool) -> Result<Run> {
    if resumed(Some(dir), resume)?.is_none() {
        return Run::create(dir, text);
    }
    if !allow_config_change {
        let old = read(&dir.join("config.toml"))?;
        let changes = selfsup_core::config::diff(&old, text)?;
        if !changes.is_empty() {
            let list: Vec<String> =
                changes.iter().map(|(key, old, new)| format!("{key}: {old} -> {new}")).collect();
            return Err(Error::config(format!(
                "the run in {} has another configuration ({}); go on with --allow-config-change",
                dir.display(),
                list.join(", ")
            )));
        }
    }
    let (mut run, _) = Run::resume(dir, Some(text))?;
    if allow_config_change {
        run.accept_changes();
    }
    Ok(run)
}
