//! The folder of a run: its configuration, its metrics, its results.
//!
//! ```text
//! config.toml      the configuration as given
//! metrics.jsonl    one JSON object a line: step, epoch, time and the values
//! curves.svg       the same values as a picture, drawn with every checkpoint and at the end
//! bands.json       the healthy bands of gauges (`low`, `high`): dashed lines in the picture
//! bounds.json      their low ends alone
//! tensorboard/     the same values as TensorBoard event files
//! checkpoints/     see crate::checkpoint
//! model/           the exported model
//! result.json      the outcome, written once at the end
//! state.json       how it ended: absent while it runs, and after a crash
//! .lock            held by the process that writes the run
//! ```

pub mod curves;
mod display;
mod events;
mod records;
mod state;

pub use curves::COST;
pub use display::{Display, counted, set_quiet, time_text};
pub use events::EventWriter;
pub use state::{Ended, State};

use crate::checkpoint::{FolderLock, Store, write_text};
use crate::error::{Error, Result};
use crate::objective::Band;
use crate::pass::Progress;
use records::Records;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A key of the configuration that differs between the folder and a resumed run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Dotted key.
    pub key: String,
    /// Value in the folder, as TOML; `None` where the key is new.
    pub before: Option<String>,
    /// Value now; `None` where the key is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "(not set)".into());
        write!(f, "{}: {} -> {}", self.key, show(&self.before), show(&self.after))
    }
}

/// The keys whose values differ between two TOML texts, sorted.
///
/// # Errors
/// If one of them is not TOML.
pub fn config_changes(before: &str, after: &str) -> Result<Vec<Change>> {
    let value = |text: String| Some(text).filter(|t| t != "(not set)");
    let change = |(key, before, after)| Change { key, before: value(before), after: value(after) };
    Ok(crate::config::diff(before, after)?.into_iter().map(change).collect())
}

/// An open run folder.
#[derive(Debug)]
pub struct Run {
    dir: PathBuf,
    /// Absent where another process writes.
    records: Option<Records>,
    /// The run goes on although configuration or data changed.
    accepted: bool,
}

impl Run {
    /// Starts a run in `dir`, which is created if need be.
    ///
    /// # Errors
    /// If `dir` already holds a run, another process is writing one there, or it cannot be written.
    pub fn create(dir: impl Into<PathBuf>, config_toml: &str) -> Result<Self> {
        let dir = dir.into();
        let lock = Self::lock(&dir)?;
        for name in ["config.toml", "metrics.jsonl", "result.json", "checkpoints"] {
            if dir.join(name).exists() {
                return Err(Error::file(
                    &dir,
                    format!("already holds a run ({name}): resume it, or choose another folder"),
                ));
            }
        }
        Ended::forget(&dir)?;
        write_text(&dir.join("config.toml"), config_toml)?;
        Self::open(dir, lock)
    }

    /// Opens the folder of a run that is to go on. Where `config_toml` differs from the one in the folder, it
    /// takes its place, the earlier one becomes `config.1.toml` (the next free number), and the changed keys
    /// are returned to be shown. Call [`Run::rewind`] when it is known from which step the run goes on.
    ///
    /// # Errors
    /// If `dir` holds no run, another process is writing it, or a configuration is not TOML.
    pub fn resume(dir: impl Into<PathBuf>, config_toml: Option<&str>) -> Result<(Self, Vec<Change>)> {
        let dir = dir.into();
        let path = dir.join("config.toml");
        if !path.exists() {
            return Err(Error::file(&dir, "holds no run to resume (no config.toml)"));
        }
        let lock = Self::lock(&dir)?;
        let before = crate::file::text(&path)?;
        let mut changes = Vec::new();
        if let Some(after) = config_toml {
            changes = config_changes(&before, after).map_err(|e| Error::file(&path, e))?;
            if !changes.is_empty() {
                let free = (1u32..).map(|i| dir.join(format!("config.{i}.toml"))).find(|p| !p.exists());
                if let Some(free) = free {
                    write_text(&free, &before)?;
                }
                write_text(&path, after)?;
            }
        }
        Ended::forget(&dir)?;
        let mut run = Self::open(dir, lock)?;
        run.accepted = !changes.is_empty();
        Ok((run, changes))
    }

    /// Lets a training go on from a checkpoint of another configuration or other data than it has now. A
    /// configuration that [`Run::resume`] was given is accepted by that.
    pub fn accept_changes(&mut self) {
        self.accepted = true;
    }

    /// Whether a training may go on from a checkpoint of another configuration or other data.
    pub fn accepts_changes(&self) -> bool {
        self.accepted
    }

    /// Opens the folder of a run to read it: nothing is written, also while another process writes it.
    ///
    /// # Errors
    /// If `dir` holds no run.
    pub fn read(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        if !dir.join("config.toml").is_file() {
            return Err(Error::file(&dir, "holds no run (no config.toml)"));
        }
        Ok(Self::join(dir))
    }

    fn lock(dir: &Path) -> Result<FolderLock> {
        FolderLock::try_new(dir)?.ok_or_else(|| {
            Error::file(
                dir,
                "another process is writing this run: wait until it ends, or choose another folder",
            )
        })
    }

    fn open(dir: PathBuf, lock: FolderLock) -> Result<Self> {
        let records = Some(Records::open(&dir, Arc::new(lock))?);
        Ok(Run { dir, records, accepted: false })
    }

    /// The folder of a run that another process writes, for the other ranks of a training: it finds the
    /// checkpoints there, and writes nothing. [`Run::log`], [`Run::rewind`], [`Run::band`] and
    /// [`Run::draw_curves`] do nothing.
    pub fn join(dir: impl Into<PathBuf>) -> Self {
        Run { dir: dir.into(), records: None, accepted: false }
    }

    /// Whether this process writes the run.
    pub fn is_written(&self) -> bool {
        self.records.is_some()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration in the folder.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn config(&self) -> Result<String> {
        let path = self.dir.join("config.toml");
        crate::file::text(&path)
    }

    /// The checkpoints of the run, of which the newest `keep_last` are kept.
    pub fn checkpoints(&self, keep_last: usize) -> Store {
        Store::new(self.dir.join("checkpoints"), keep_last)
    }

    /// The folder of the exported model, created if need be.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn model_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join("model");
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        Ok(dir)
    }

    /// Writes values to `metrics.jsonl` (one line) and to TensorBoard. A value that is not finite is `null`
    /// in the former.
    ///
    /// # Errors
    /// If a name is `step`, `epoch` or `time`, or a file cannot be written.
    pub fn log(&mut self, progress: Progress, values: &[(&str, f64)]) -> Result<()> {
        self.records.as_mut().map_or(Ok(()), |records| records.log(progress, values))
    }

    /// Takes the records back to `step`: removes lines of later steps, and a last line that was cut off, from
    /// `metrics.jsonl`, and marks later events as void for TensorBoard. Returns the number of removed lines.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn rewind(&mut self, step: u64) -> Result<usize> {
        self.records.as_mut().map_or(Ok(0), |records| records.rewind(step))
    }

    /// Writes the band in which metric `name` stays in a healthy run into `bands.json`, and its low end into
    /// `bounds.json`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn band(&mut self, name: &str, band: Band) -> Result<()> {
        self.records.as_mut().map_or(Ok(()), |records| records.band(name, band))
    }

    /// Draws the metrics so far into `curves.svg`.
    ///
    /// # Errors
    /// If the metrics cannot be read or the picture cannot be written.
    pub fn draw_curves(&self) -> Result<()> {
        self.records.as_ref().map_or(Ok(()), Records::draw_curves)
    }

    /// Keeps the records of this run, one training of a plan, in those of the `whole` as well. There its steps
    /// follow on the `offset` steps of the trainings before it.
    ///
    /// # Errors
    /// If the records of the whole cannot be opened.
    pub fn within(mut self, whole: &Run, offset: u64) -> Result<Self> {
        if let (Some(own), Some(records)) = (&mut self.records, &whole.records) {
            own.above = Some((Box::new(records.again()?), offset));
        }
        Ok(self)
    }

    /// Writes `result.json`, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written, or another process writes the run.
    pub fn write_result(&self, result: &impl Serialize) -> Result<PathBuf> {
        let path = self.dir.join("result.json");
        if self.records.is_none() {
            return Err(Error::file(&path, "another process writes this run"));
        }
        let mut text = serde_json::to_string_pretty(result).map_err(|e| Error::file(&path, e))?;
        text.push('\n');
        write_text(&path, &text)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::Write;

    const CONFIG: &str = "seed = 1\n[optim]\nlr = 0.1\nbetas = [0.9, 0.95]\n";

    fn at(step: u64) -> Progress {
        Progress { step, total_steps: 100, epoch: step / 10 }
    }

    fn lines(run: &Run) -> Vec<Value> {
        let text = std::fs::read_to_string(run.dir().join("metrics.jsonl")).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn create_log_resume_rewind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/run");
        let mut run = Run::create(&path, CONFIG).unwrap();
        for step in [0, 10, 20, 30] {
            run.log(at(step), &[("loss", 1.0 / (1 + step) as f64), ("bad", f64::NAN)]).unwrap();
        }
        assert!(run.log(at(1), &[("step", 1.0)]).is_err());
        let seen = lines(&run);
        assert_eq!(seen.len(), 4);
        assert_eq!(
            (&seen[1]["step"], &seen[1]["epoch"], &seen[1]["bad"]),
            (&10.into(), &1.into(), &Value::Null)
        );
        assert!(seen[1]["time"].as_f64().unwrap() > 1e9);
        drop(run);
        assert!(Run::create(&path, CONFIG).unwrap_err().to_string().contains("already holds a run"));

        std::fs::OpenOptions::new()
            .append(true)
            .open(path.join("metrics.jsonl"))
            .unwrap()
            .write_all(b"{\"step\": 15, \"lo")
            .unwrap();
        let (mut run, changes) = Run::resume(&path, Some(CONFIG)).unwrap();
        assert!(changes.is_empty());
        assert_eq!(run.rewind(15).unwrap(), 3);
        run.log(at(16), &[("loss", 0.5)]).unwrap();
        assert_eq!(lines(&run).iter().map(|l| l["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 10, 16]);
        assert_eq!(run.rewind(16).unwrap(), 0);
        assert_eq!(run.config().unwrap(), CONFIG);
    }

    #[test]
    fn changed_configuration() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Run::resume(dir.path(), None).unwrap_err().to_string().contains("no run"));
        Run::create(dir.path(), CONFIG).unwrap();
        let new = "seed = 1 # a comment is no change\nepochs = 3\n[optim]\nbetas = [0.9, 0.95]\nlr = 0.2\n";
        let (run, changes) = Run::resume(dir.path(), Some(new)).unwrap();
        let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["epochs: (not set) -> 3", "optim.lr: 0.1 -> 0.2"]);
        assert_eq!(run.config().unwrap(), new);
        assert_eq!(std::fs::read_to_string(dir.path().join("config.1.toml")).unwrap(), CONFIG);
        assert!(Run::resume(dir.path(), Some("seed = ")).is_err());
        assert_eq!(run.config().unwrap(), new);
    }

    /// A second writer is refused by the folder's name and changes nothing; readers are not.
    #[test]
    fn one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run::create(dir.path(), CONFIG).unwrap();
        let other = CONFIG.replace("seed = 1", "seed = 2");
        for e in [Run::resume(dir.path(), Some(&other)).err(), Run::create(dir.path(), &other).err()] {
            let e = e.unwrap().to_string();
            assert!(e.contains("another process") && e.contains(&dir.path().display().to_string()), "{e}");
        }
        let files = || std::fs::read_dir(dir.path().join("tensorboard")).unwrap().count();
        let before = files();
        let reader = Run::read(dir.path()).unwrap();
        assert_eq!(
            (reader.config().unwrap().as_str(), reader.is_written(), files()),
            (CONFIG, false, before)
        );
        run.log(at(1), &[("loss", 1.0)]).unwrap();
        drop(run);
        assert!(Run::resume(dir.path(), None).is_ok());
        assert!(Run::read(dir.path().join("none")).unwrap_err().to_string().contains("holds no run"));
    }

    /// The trainings of a plan write into the records of the whole, behind each other.
    #[test]
    fn parts_of_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let whole = Run::create(dir.path(), CONFIG).unwrap();
        let part = |name: &str, offset: u64| {
            let path = dir.path().join(name);
            let run = if path.exists() {
                Run::resume(path, None).unwrap().0
            } else {
                Run::create(path, "").unwrap()
            };
            run.within(&whole, offset).unwrap()
        };
        let mut first = part("1", 0);
        first.log(at(1), &[("loss", 4.0)]).unwrap();
        first.log(at(3), &[("loss", 3.0)]).unwrap();
        drop(first);
        let mut second = part("2", 3);
        second.band("spread", Band::within(0.5, 2.0)).unwrap();
        second.log(at(1), &[("spread", 0.6)]).unwrap();
        second.log(at(2), &[("spread", 0.7)]).unwrap();
        drop(second);
        // Stopped, and gone on from its first step.
        let mut second = part("2", 3);
        assert_eq!(second.rewind(1).unwrap(), 1);
        second.log(at(2), &[("spread", 0.8)]).unwrap();
        second.draw_curves().unwrap();
        let steps = |run: &Run| lines(run).iter().map(|l| l["step"].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!((steps(&whole), steps(&second)), (vec![1, 3, 4, 5], vec![1, 2]));
        assert_eq!(lines(&whole)[3]["spread"], 0.8);
        assert!(dir.path().join("bounds.json").is_file() && dir.path().join("curves.svg").is_file());
        let bands = std::fs::read_to_string(dir.path().join("bands.json")).unwrap();
        assert_eq!(bands.trim(), "{\"spread\":{\"low\":0.5,\"high\":2.0}}");
        assert!(!dir.path().join("1/bounds.json").exists());
    }

    #[test]
    fn results() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(dir.path(), "").unwrap();
        let path = run.write_result(&serde_json::json!({ "knn": 0.9 })).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\n  \"knn\": 0.9\n}\n");
        assert!(run.model_dir().unwrap().is_dir());
        assert_eq!(run.checkpoints(3).dir(), dir.path().join("checkpoints"));
    }
}
