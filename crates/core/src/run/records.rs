//! The files that grow with a run: metrics, events, curves.

use super::curves;
use super::events::{EventWriter, now};
use crate::checkpoint::{FolderLock, fault, write_atomic, write_text};
use crate::error::{Error, Result};
use crate::objective::Band;
use crate::pass::Progress;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The records in a folder that this process writes.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
    metrics: File,
    events: EventWriter,
    bands: BTreeMap<String, Band>,
    lock: Arc<FolderLock>,
    /// The records of the run that this one is a part of, and the steps before it there.
    pub(super) above: Option<(Box<Records>, u64)>,
}

impl Records {
    /// Those in `dir`, which `lock` is for.
    pub(super) fn open(dir: &Path, lock: Arc<FolderLock>) -> Result<Self> {
        fault::point(dir)?;
        let path = dir.join("metrics.jsonl");
        Ok(Records {
            dir: dir.to_path_buf(),
            metrics: append(&path)?,
            events: EventWriter::create(&dir.join("tensorboard"))?,
            bands: curves::bands(&path),
            lock,
            above: None,
        })
    }

    /// The same records once more, under the same lock.
    pub(super) fn again(&self) -> Result<Self> {
        Self::open(&self.dir, self.lock.clone())
    }

    /// As [`super::Run::log`].
    pub(super) fn log(&mut self, progress: Progress, values: &[(&str, f64)]) -> Result<()> {
        let time = now();
        let mut line = Map::new();
        line.insert("step".into(), progress.step.into());
        line.insert("epoch".into(), progress.epoch.into());
        // Milliseconds are enough, and short.
        line.insert("time".into(), ((time * 1e3).round() / 1e3).into());
        for (name, value) in values {
            if line.insert((*name).into(), Value::from(*value)).is_some() {
                return Err(Error::input(
                    name,
                    "metric logged twice in a line, or its name is taken (step, epoch, time)",
                ));
            }
        }
        let mut text = Value::from(line).to_string();
        text.push('\n');
        // One write a line: a line is whole or absent, except on a full disk or a power cut (see `rewind`).
        fault::point(&self.dir)?;
        let written = self.metrics.write_all(text.as_bytes());
        written.map_err(|e| Error::io(self.dir.join("metrics.jsonl"), e))?;
        self.events.scalars(progress.step, time, values)?;
        match &mut self.above {
            Some((above, offset)) => {
                let (step, total_steps) = (*offset + progress.step, *offset + progress.total_steps);
                above.log(Progress { step, total_steps, ..progress }, values)
            }
            None => Ok(()),
        }
    }

    /// As [`super::Run::rewind`].
    pub(super) fn rewind(&mut self, step: u64) -> Result<usize> {
        let path = self.dir.join("metrics.jsonl");
        let mut keep = Vec::new();
        let mut cut = 0;
        let mut reader = BufReader::new(crate::file::open(&path)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(|e| Error::io(&path, e))? == 0 {
                break;
            }
            let at = serde_json::from_slice::<Value>(&line).ok().and_then(|v| v.get("step")?.as_u64());
            if line.ends_with(b"\n") && at.is_some_and(|at| at <= step) {
                keep.extend_from_slice(&line);
            } else {
                cut += 1;
            }
        }
        if cut > 0 {
            write_atomic(&path, |f| f.write_all(&keep).map_err(|e| Error::io(&path, e)))?;
            self.metrics = append(&path)?;
        }
        self.events.restart(step + 1, now())?;
        if let Some((above, offset)) = &mut self.above {
            above.rewind(*offset + step)?;
        }
        Ok(cut)
    }

    /// As [`super::Run::band`].
    pub(super) fn band(&mut self, name: &str, band: Band) -> Result<()> {
        if self.bands.get(name) != Some(&band) {
            self.bands.insert(name.to_string(), band);
            let bounds: BTreeMap<&String, f64> =
                self.bands.iter().filter_map(|(name, band)| Some((name, band.low?))).collect();
            write_text(&self.dir.join("bounds.json"), &format!("{}\n", serde_json::json!(bounds)))?;
            write_text(&self.dir.join("bands.json"), &format!("{}\n", serde_json::json!(self.bands)))?;
        }
        self.above.as_mut().map_or(Ok(()), |(whole, _)| whole.band(name, band))
    }

    /// As [`super::Run::draw_curves`].
    pub(super) fn draw_curves(&self) -> Result<()> {
        if let Some(picture) = curves::svg(&[("", &self.dir.join("metrics.jsonl"))])? {
            write_text(&self.dir.join("curves.svg"), &picture)?;
        }
        self.above.as_ref().map_or(Ok(()), |(whole, _)| whole.draw_curves())
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|e| Error::io(path, e))
}
