//! The command line of a study.

use anyhow::{Context, Result, bail};
use std::ops::Range;
use std::path::PathBuf;

/// What is asked for on the command line.
pub struct Options {
    /// Arguments without a name, in order; the last is the folder that keeps runs and results.
    pub paths: Vec<PathBuf>,
    /// What segmentations start from: `scratch`, `scratch-vit`, or a method of pre-training; with `-2d` on
    /// slices.
    pub starts: Vec<String>,
    /// Steps of pre-training.
    pub steps: u64,
    /// Steps of a segmentation.
    pub tune: u64,
    /// Seeds of a segmentation, from 0.
    pub seeds: u64,
    /// Budgets of labels.
    pub labels: Vec<usize>,
    /// Channels of the U-Net's levels.
    pub widths: Vec<usize>,
    /// Voxels of a patch (z, y, x), instead of those of the study.
    pub patch: Option<[usize; 3]>,
    /// Normalisation of the U-Net: `instance` or `batch`.
    pub norm: String,
    /// Learning rate of a segmentation.
    pub lr: f64,
    /// Patches in a batch of a segmentation.
    pub batch: usize,
    /// Classes count the same in the cross entropy (`--weights balanced`).
    pub balanced: bool,
    /// Another slab than the tested one: settings are chosen on it.
    pub slab: Option<Range<usize>>,
    /// Unlabelled volumes besides those of the study.
    pub extra: Vec<PathBuf>,
}

impl Options {
    /// Reads the command line: `count` paths, `labels` by default.
    pub fn read(count: usize, usage: &str, labels: &[usize]) -> Result<Self> {
        let mut o = Options {
            paths: Vec::new(),
            starts: vec!["scratch".into(), "genesis".into()],
            steps: 400,
            tune: 300,
            seeds: 1,
            labels: labels.to_vec(),
            widths: vec![16, 32, 64],
            patch: None,
            norm: "batch".into(),
            lr: 2e-3,
            batch: 4,
            balanced: false,
            slab: None,
            extra: Vec::new(),
        };
        let list = |v: &str| v.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
        let mut args = std::env::args().skip(1);
        while let Some(key) = args.next() {
            if !key.starts_with("--") {
                o.paths.push(key.into());
                continue;
            }
            let value = args.next().with_context(|| format!("{key} needs a value"))?;
            match key.as_str() {
                "--starts" => o.starts = value.split(',').map(str::to_string).collect(),
                "--steps" => o.steps = value.parse()?,
                "--tune" => o.tune = value.parse()?,
                "--seeds" => o.seeds = value.parse()?,
                "--labels" => o.labels = list(&value)?,
                "--widths" => o.widths = list(&value)?,
                "--patch" => {
                    let sides: Vec<usize> = list(&value)?;
                    o.patch = Some(sides.try_into().ok().context("--patch: expected three sides")?);
                }
                "--norm" => o.norm = value,
                "--lr" => o.lr = value.parse()?,
                "--batch" => o.batch = value.parse()?,
                "--weights" => {
                    o.balanced = match value.as_str() {
                        "balanced" => true,
                        "none" => false,
                        other => bail!("--weights {other}: expected none or balanced"),
                    };
                }
                "--slab" => {
                    let (from, to) = value.split_once("..").context("--slab: expected FROM..TO")?;
                    o.slab = Some(from.parse()?..to.parse()?);
                }
                "--extra" => o.extra.push(value.into()),
                other => bail!("unknown option {other}"),
            }
        }
        if o.paths.len() != count {
            bail!("expected {usage}");
        }
        Ok(o)
    }

    /// Where runs and results are kept.
    pub fn folder(&self) -> PathBuf {
        self.paths.last().cloned().unwrap_or_default()
    }
}
