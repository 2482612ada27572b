//! The checkpoints of a run: `step-000001234.safetensors`, the newest few of them, and `best.safetensors`.

use super::{Checkpoint, fault, file};
use crate::error::{Error, Result};
use candle_core::Device;
use std::path::{Path, PathBuf};

const BEST: &str = "best.safetensors";

/// A folder of checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    keep_last: usize,
}

/// The result of [`Store::latest`].
#[derive(Clone, Debug)]
pub struct Latest {
    /// The newest whole checkpoint and its file; `None` where there is no checkpoint at all.
    pub found: Option<(PathBuf, Checkpoint)>,
    /// One line for each newer file that was skipped because it is damaged: to be shown.
    pub warnings: Vec<String>,
}

impl Store {
    /// The store in `dir`, which is created at the first save. The newest `keep_last` checkpoints are kept; 0
    /// keeps all.
    pub fn new(dir: impl Into<PathBuf>, keep_last: usize) -> Self {
        Store { dir: dir.into(), keep_last }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of the checkpoint at `step`.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(format!("step-{step:09}.safetensors"))
    }

    /// The best checkpoint's file.
    pub fn best_path(&self) -> PathBuf {
        self.dir.join(BEST)
    }

    /// Steps and files of all checkpoints, oldest first (without the best). Empty where there is no folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let io = |e| Error::io(&self.dir, e);
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let step = name
                .strip_prefix("step-")
                .and_then(|n| n.strip_suffix(".safetensors"))
                .and_then(|n| n.parse().ok());
            if let Some(step) = step.filter(|_| path.is_file()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Writes the checkpoint of its step, then removes what is too old. Checkpoints of later steps are
    /// removed as well: they belong to a course of the run that was given up when it went on from an earlier
    /// step, and resume must not find them.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; the older checkpoints stay.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        let step = checkpoint.progress.step;
        let path = self.path(step);
        checkpoint.save(&path)?;
        let (older, later): (Vec<_>, Vec<_>) =
            self.list()?.into_iter().filter(|(_, p)| *p != path).partition(|(s, _)| *s <= step);
        let drop = if self.keep_last == 0 { 0 } else { (older.len() + 1).saturating_sub(self.keep_last) };
        for (_, old) in older.iter().take(drop).chain(&later) {
            fault::point(old)?;
            std::fs::remove_file(old).map_err(|e| Error::io(old, e))?;
        }
        Ok(path)
    }

    /// Makes the checkpoint at `path` (just saved) the best one as well: a second link to the same bytes, or
    /// a copy where the file system has no links.
    ///
    /// # Errors
    /// If it cannot be written; the best so far stays.
    pub fn mark_best(&self, path: &Path) -> Result<PathBuf> {
        let best = self.best_path();
        let aside = file::aside(&best)?;
        let io = |e| Error::io(&best, e);
        fault::point(&aside)?;
        let _ = std::fs::remove_file(&aside);
        if std::fs::hard_link(path, &aside).is_ok() {
            fault::point(&best)?;
            std::fs::rename(&aside, &best).map_err(io)?;
            fault::point(&aside)?;
            // Renaming one link of a file onto another link of it does nothing: the name aside would stay.
            let _ = std::fs::remove_file(&aside);
            file::sync_folder(&best)?;
        } else {
            let mut source = crate::file::open(path)?;
            file::write_atomic(&best, |f| std::io::copy(&mut source, f).map(drop).map_err(io))?;
        }
        Ok(best)
    }

    /// The best checkpoint, on the CPU: of the step that the newest checkpoint calls the best, whether it was
    /// marked or the process ended before that. `None` where no evaluation has chosen one.
    ///
    /// # Errors
    /// If it is gone or damaged, or a file cannot be read.
    pub fn best(&self) -> Result<Option<(PathBuf, Checkpoint)>> {
        match self.latest()?.found {
            Some((_, newest)) => self.best_of(&newest),
            None => Ok(None),
        }
    }

    /// As [`Store::best`], for the newest checkpoint.
    fn best_of(&self, newest: &Checkpoint) -> Result<Option<(PathBuf, Checkpoint)>> {
        let Some(wanted) = &newest.extra.best else { return Ok(None) };
        // Marked by a checkpoint after `newest`, which was damaged: the same run was further and did better.
        let later = |c: &Checkpoint| {
            c.progress.step > newest.progress.step
                && c.extra.best.as_ref().is_some_and(|b| b.step == c.progress.step)
        };
        let (mut problem, mut ahead) = (None, None);
        for path in [self.best_path(), self.path(wanted.step)] {
            match Checkpoint::load(&path, &Device::Cpu) {
                Ok(c) if c.progress.step == wanted.step => return Ok(Some((path, c))),
                Ok(c) if later(&c) => ahead = Some((path, c)),
                Ok(_) => {}
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(e @ Error::Io { .. }) => return Err(e),
                Err(e) => problem = Some(e),
            }
        }
        match (ahead, problem) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(problem)) => Err(problem),
            (None, None) => Err(Error::file(
                &self.dir,
                format!("the best checkpoint, of step {}, is gone: expected it in {BEST}", wanted.step),
            )),
        }
    }

    /// Puts the best checkpoint under its name where the process ended before it was marked. Call it before a
    /// run goes on from `newest`: later checkpoints may remove that of the best step. Without `write`, for
    /// processes that write nothing, it only looks whether it is there.
    ///
    /// # Errors
    /// As [`Store::best`].
    pub fn settle_best(&self, newest: &Checkpoint, write: bool) -> Result<()> {
        match self.best_of(newest)? {
            Some((path, _)) if write && path != self.best_path() => self.mark_best(&path).map(drop),
            _ => Ok(()),
        }
    }

    /// The newest whole checkpoint, on the CPU. Damaged files are skipped with a warning.
    ///
    /// # Errors
    /// If a file cannot be read at all, or if there are checkpoints but none is whole (starting over in
    /// silence would lose the run).
    pub fn latest(&self) -> Result<Latest> {
        let mut warnings = Vec::new();
        for (_, path) in self.list()?.into_iter().rev() {
            match Checkpoint::load(&path, &Device::Cpu) {
                Ok(checkpoint) => return Ok(Latest { found: Some((path, checkpoint)), warnings }),
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(e @ Error::Io { .. }) => return Err(e),
                Err(e) => warnings.push(format!("checkpoint skipped: {e}")),
            }
        }
        if !warnings.is_empty() {
            return Err(Error::file(
                &self.dir,
                format!("no whole checkpoint among {}; {}", warnings.len(), warnings.join("; ")),
            ));
        }
        Ok(Latest { found: None, warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Best;
    use super::super::tests::checkpoint;
    use super::*;

    fn steps(s: &Store) -> Vec<u64> {
        s.list().unwrap().into_iter().map(|(step, _)| step).collect()
    }

    /// A checkpoint that calls `best` the best step.
    fn chosen(step: u64, best: u64) -> Checkpoint {
        let mut c = checkpoint(step, step);
        c.extra.best = Some(Best { metric: "knn".into(), value: 0.5, step: best });
        c
    }

    /// The process ended between a checkpoint and its mark.
    #[test]
    fn the_newest_checkpoint_says_which_is_the_best() {
        let dir = tempfile::tempdir().unwrap();
        let s = Store::new(dir.path(), 1);
        let best = |s: &Store| s.best().unwrap().map(|(_, c)| c.progress.step);
        s.mark_best(&s.save(&chosen(3, 3)).unwrap()).unwrap();
        s.save(&chosen(6, 6)).unwrap();
        assert_eq!(best(&s), Some(6), "not marked yet");
        s.settle_best(&s.latest().unwrap().found.unwrap().1, true).unwrap();
        s.save(&chosen(9, 6)).unwrap();
        assert_eq!((steps(&s), best(&s)), (vec![9], Some(6)));
        // The newest is damaged, so the one before it counts, and the marked one is ahead of it.
        let all = Store::new(dir.path(), 0);
        all.mark_best(&all.save(&chosen(12, 12)).unwrap()).unwrap();
        std::fs::remove_file(s.path(12)).unwrap();
        std::fs::write(s.path(12), "cut").unwrap();
        assert_eq!(best(&all), Some(12));
        // Another one than was chosen is never taken for it.
        all.save(&chosen(15, 14)).unwrap();
        let e = all.best().unwrap_err().to_string();
        assert!(e.contains("step 14, is gone"), "{e}");
        let mut none = checkpoint(1, 20);
        none.extra.best = None;
        all.save(&none).unwrap();
        assert!(all.best().unwrap().is_none());
    }

    #[test]
    fn rotation_and_best() {
        let dir = tempfile::tempdir().unwrap();
        let s = Store::new(dir.path().join("checkpoints"), 2);
        assert!(s.latest().unwrap().found.is_none() && s.best().unwrap().is_none());
        for step in [1, 5, 10] {
            let path = s.save(&chosen(step, step.min(5))).unwrap();
            if step <= 5 {
                s.mark_best(&path).unwrap();
                s.mark_best(&path).unwrap();
            }
        }
        assert_eq!(steps(&s), [5, 10]);
        assert_eq!(s.latest().unwrap().found.unwrap().1.progress.step, 10);
        s.save(&chosen(12, 5)).unwrap();
        assert_eq!(s.best().unwrap().unwrap().1.progress.step, 5, "the best outlives rotation");
        // The run went on from an earlier step.
        s.save(&checkpoint(1, 7)).unwrap();
        assert_eq!(steps(&s), [7]);
        assert_eq!(std::fs::read_dir(s.dir()).unwrap().count(), 2);
        let all = Store::new(s.dir(), 0);
        for step in 8..14 {
            all.save(&checkpoint(1, step)).unwrap();
        }
        assert_eq!(steps(&all).len(), 7);
    }

    #[test]
    fn damaged_ones_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let s = Store::new(dir.path(), 0);
        for step in 1..=3 {
            s.save(&checkpoint(step, step)).unwrap();
        }
        std::fs::write(dir.path().join(".step-000000004.safetensors.tmp"), "half").unwrap();
        std::fs::create_dir(dir.path().join("step-000000009.safetensors")).unwrap();
        let cut = std::fs::read(s.path(3)).unwrap();
        std::fs::write(s.path(3), &cut[..cut.len() / 2]).unwrap();
        let l = s.latest().unwrap();
        assert_eq!(l.found.unwrap().1.progress.step, 2);
        assert!(l.warnings.len() == 1 && l.warnings[0].contains("step-000000003"), "{:?}", l.warnings);
        let mut flipped = std::fs::read(s.path(2)).unwrap();
        let at = flipped.len() - 9;
        flipped[at] ^= 1;
        std::fs::write(s.path(2), &flipped).unwrap();
        let l = s.latest().unwrap();
        assert_eq!(l.found.unwrap().1.progress.step, 1);
        assert!(l.warnings.len() == 2 && l.warnings[1].contains("checksum"), "{:?}", l.warnings);
        std::fs::write(s.path(1), "").unwrap();
        let e = s.latest().unwrap_err().to_string();
        assert!(e.contains("no whole checkpoint among 3"), "{e}");
    }

    const CHILD: &str = "SELFSUP_TEST_FULL_DISK";

    /// The body of the child process below, whose files may not grow past the limit.
    #[test]
    fn full_disk_child() {
        let Some(dir) = std::env::var_os(CHILD) else { return };
        let s = Store::new(dir, 1);
        let mut big = checkpoint(1, 2);
        let t = candle_core::Tensor::zeros(100_000, candle_core::DType::F32, &Device::Cpu).unwrap();
        big.optimizer.push(("big".into(), t));
        let e = s.save(&big).unwrap_err();
        assert!(matches!(&e, Error::Io { path, .. } if *path == s.path(2)), "{e}");
        std::process::exit(42);
    }

    #[cfg(unix)]
    #[test]
    fn full_disk_keeps_the_old_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let s = Store::new(dir.path(), 1);
        s.save(&checkpoint(1, 1)).unwrap();
        let exe = std::env::current_exe().unwrap();
        let run = "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact checkpoint::store::tests::full_disk_child --test-threads=1";
        let status = std::process::Command::new("sh")
            .args(["-c", run])
            .arg(exe)
            .env(CHILD, dir.path())
            .output()
            .unwrap();
        assert_eq!(status.status.code(), Some(42), "{}", String::from_utf8_lossy(&status.stdout));
        assert_eq!(s.latest().unwrap().found.unwrap().1.progress.step, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left behind");
    }
}
