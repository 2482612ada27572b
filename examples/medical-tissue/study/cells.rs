//! Results that are kept: a line of `cells.jsonl` for each segmentation, written as soon as it is measured.
//! What is there is not run again, so a study that was stopped goes on.

use super::Options;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a segmentation is known by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Name {
    /// `scratch`, `scratch-vit`, or the method of pre-training.
    pub start: String,
    /// Budget of labels.
    pub labels: usize,
    pub seed: u64,
    /// Steps of pre-training; 0 from scratch.
    pub steps: u64,
    /// Steps of the segmentation.
    pub tune: u64,
    pub batch: usize,
    pub lr: f64,
    pub widths: Vec<usize>,
    pub norm: String,
    pub patch: [usize; 3],
    /// Whether the classes were weighed.
    #[serde(default)]
    pub balanced: bool,
    /// Planes that were measured.
    pub slab: (usize, usize),
}

impl Name {
    /// Where its run is kept.
    pub fn folder(&self) -> String {
        let Name { start, labels, seed, steps, tune, batch, lr, norm, patch: [d, h, w], balanced, .. } = self;
        let weights = if *balanced { "-balanced" } else { "" };
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        format!(
            "tune-{start}-{labels}-seed{seed}-{steps}-{tune}-b{batch}-lr{lr}-{norm}-{d}x{h}x{w}-w{}{weights}",
            widths.join("-")
        )
    }
}

/// A segmentation and how good it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    #[serde(flatten)]
    pub name: Name,
    /// Dice of each class but the background.
    pub dice: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Seconds of training and of measuring.
    pub seconds: (f64, f64),
}

/// All that is known.
pub struct Cells {
    path: PathBuf,
    all: Vec<Cell>,
}

impl Cells {
    /// Those of `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("cells.jsonl");
        let text = if path.exists() { std::fs::read_to_string(&path)? } else { String::new() };
        // A line that a stop cut short is measured again.
        let all = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        Ok(Cells { path, all })
    }

    pub fn has(&self, name: &Name) -> bool {
        self.all.iter().any(|c| c.name == *name)
    }

    pub fn add(&mut self, cell: Cell) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(format!("{}\n", serde_json::to_string(&cell)?).as_bytes())
            .with_context(|| self.path.display().to_string())?;
        file.sync_all()?;
        self.all.push(cell);
        Ok(())
    }

    /// A row for each start and budget: mean and standard deviation over the seeds, then the classes' means.
    pub fn table(&self, o: &Options, names: &[&str], name: impl Fn(&str, usize, u64) -> Name) -> String {
        let mut out = format!(
            "| labels | start | seeds | mean Dice | {} |\n|---|---|---|---|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for &labels in &o.labels {
            for start in &o.starts {
                let of: Vec<&Cell> = (0..o.seeds)
                    .filter_map(|seed| self.all.iter().find(|c| c.name == name(start, labels, seed)))
                    .collect();
                if of.is_empty() {
                    continue;
                }
                let n = of.len() as f64;
                let mean = of.iter().map(|c| c.mean).sum::<f64>() / n;
                let sd =
                    (of.iter().map(|c| (c.mean - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
                let classes: Vec<String> = (0..names.len())
                    .map(|k| {
                        format!(
                            "{:.3}",
                            of.iter().map(|c| c.dice.get(k).copied().unwrap_or(0.0)).sum::<f64>() / n
                        )
                    })
                    .collect();
                let _ = writeln!(
                    out,
                    "| {labels} | {start} | {} | {mean:.3} ± {sd:.3} | {} |",
                    of.len(),
                    classes.join(" | ")
                );
            }
        }
        out
    }
}
