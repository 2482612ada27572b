//! A plan: stages one after the other, each in a folder of its own, for methods that are more than one
//! training (HuBERT: cluster, train, cluster again, train again).
//!
//! ```text
//! RUN/1-clusters/stage.json      written when the stage is done: its settings
//! RUN/1-clusters/...             what it made
//! RUN/1-training/                a run of its own: checkpoints, metrics
//! ```
//!
//! A stage with a `stage.json` is done and is not run again; its results are read from its folder. One that
//! was interrupted runs again, and a training goes on from its newest checkpoint. Settings that differ from
//! those of a finished stage are an error: later stages would build on a stage of other settings.

use crate::checkpoint::write_atomic;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a plan, and how many of its stages have been asked for.
#[derive(Debug)]
pub struct Plan {
    dir: PathBuf,
    ran: Vec<String>,
}

impl Plan {
    /// A plan in `dir`, which is created if need be.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        Ok(Plan { dir, ran: Vec::new() })
    }

    /// The folder of a stage.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether a stage is finished.
    pub fn finished(&self, name: &str) -> bool {
        self.folder(name).join("stage.json").is_file()
    }

    /// The stages that were run in this process, in order.
    pub fn ran(&self) -> &[String] {
        &self.ran
    }

    /// Runs `work` in the stage's folder, unless it is finished, and returns the folder. `settings` are what
    /// its results depend on.
    ///
    /// # Errors
    /// The errors of `work`; [`Error::Input`] if the stage was finished with other settings.
    pub fn stage(
        &mut self,
        name: &str,
        settings: &Value,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.folder(name);
        let done = dir.join("stage.json");
        if done.is_file() {
            let text = crate::file::read(&done)?;
            let value: Value =
                serde_json::from_slice(&text).map_err(|e| Error::file(&done, format!("not JSON: {e}")))?;
            let before = value.get("settings").unwrap_or(&Value::Null);
            if before != settings {
                return Err(Error::file(
                    &done,
                    format!(
                        "the stage was finished with other settings ({before}), expected {settings}: use another folder, or remove this stage and those after it"
                    ),
                ));
            }
            return Ok(dir);
        }
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        self.ran.push(name.to_string());
        work(&dir)?;
        let text = format!("{:#}\n", json!({ "stage": name, "settings": settings }));
        write_atomic(&done, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(&done, e)))?;
        Ok(dir)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn finished_stages_are_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let write = |d: &Path| std::fs::write(d.join("made"), "x").map_err(|e| Error::io(d, e));
        let mut plan = Plan::open(&path).unwrap();
        plan.stage("1-a", &json!({ "k": 3 }), write).unwrap();
        // The second fails: it is not finished, and runs again.
        let stop = |_: &Path| Err(Error::Other("stopped".into()));
        assert!(plan.stage("2-b", &json!(null), stop).is_err());
        assert!(plan.finished("1-a") && !plan.finished("2-b"));

        let mut plan = Plan::open(&path).unwrap();
        let made = plan.stage("1-a", &json!({ "k": 3 }), |_| panic!("a finished stage ran again")).unwrap();
        assert!(made.join("made").is_file());
        plan.stage("2-b", &json!(null), write).unwrap();
        assert_eq!(plan.ran(), ["2-b"]);
        let e = plan.stage("1-a", &json!({ "k": 4 }), write).unwrap_err().to_string();
        assert!(e.contains("1-a") && e.contains("other settings") && e.contains("{\"k\":3}"), "{e}");
    }
}
