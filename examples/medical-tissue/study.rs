//! What the studies of few labels share: options, pre-training without labels, a segmentation from scratch or from what was pre-trained, Dice.

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use selfsup::core::data::{Dataset, Loader, LoaderConfig, Transform};
use selfsup::core::optim::OptimConfig;
use selfsup::core::run::Run;
use selfsup::core::schedule::{LrSchedule, Span};
use selfsup::core::trainer::{TrainConfig, Trainer};
use selfsup::core::{Error, Key, Params, Rng, Scope, weights};
use selfsup::medical::Volume;
use selfsup::medical::augment::AugmentConfig;
use selfsup::medical::data::{Collated, CollatedLabels};
use selfsup::medical::method::{Segment, SegmentConfig};
use selfsup::medical::read::{self, ReadConfig};
use selfsup::medical::recipe::{Architecture, EncoderConfig, MethodConfig};
use selfsup::medical::sliding::SlidingWindow;
use selfsup::medical::transform::{CropRandom, Flip, Pipeline, Scale, Step};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What is asked for on the command line.
pub struct Options {
    /// Arguments without a name, in order; the last is the folder that keeps the run.
    pub paths: Vec<PathBuf>,
    pub method: String,
    pub steps: u64,
    pub tune: u64,
    pub seeds: u64,
    /// Budgets of labels.
    pub labels: Vec<usize>,
    pub widths: Vec<usize>,
    pub extra: Vec<PathBuf>,
}

impl Options {
    /// Reads the command line: `count` paths, `labels` by default.
    pub fn read(count: usize, usage: &str, labels: &[usize]) -> Result<Self> {
        let mut o = Options {
            paths: Vec::new(),
            method: "genesis".into(),
            steps: 400,
            tune: 150,
            seeds: 1,
            labels: labels.to_vec(),
            widths: vec![12, 24, 48],
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
                "--method" => o.method = value,
                "--steps" => o.steps = value.parse()?,
                "--tune" => o.tune = value.parse()?,
                "--seeds" => o.seeds = value.parse()?,
                "--labels" => o.labels = list(&value)?,
                "--widths" => o.widths = list(&value)?,
                "--extra" => o.extra.push(value.into()),
                other => bail!("unknown option {other}"),
            }
        }
        if o.paths.len() != count {
            bail!("expected {usage}");
        }
        Ok(o)
    }

    fn folder(&self) -> PathBuf {
        self.paths.last().cloned().unwrap_or_default()
    }
}

/// A task: its patches, and how its labels are used.
pub struct Task {
    /// Voxels of a patch (z, y, x).
    pub patch: [usize; 3],
    pub classes: usize,
    /// Labels of this plane of a patch count only.
    pub plane: Option<usize>,
    /// Probability of mirroring along z, y, x.
    pub flip: [f32; 3],
}

/// Volumes in memory, each so many times an epoch.
struct Volumes(Vec<Volume>, usize);

impl Dataset for Volumes {
    type Item = Volume;
    fn len(&self) -> usize {
        self.0.len() * self.1
    }
    fn get(&self, index: usize) -> selfsup::core::Result<Volume> {
        self.0.get(index % self.0.len().max(1)).cloned().ok_or_else(|| Error::input("volume", format!("{index} of {}", self.len())))
    }
}

fn train_config(steps: u64, seed: u64) -> TrainConfig {
    TrainConfig { steps, batch_size: 4, seed, eval_every: 0, keep_last: 1, ..TrainConfig::default() }
}

fn loader_config(seed: u64) -> LoaderConfig {
    LoaderConfig { batch_size: 4, workers: 1, seed, ..LoaderConfig::default() }
}

fn optim() -> OptimConfig {
    OptimConfig { lr: 2e-3, weight_decay: 1e-4, schedule: LrSchedule::warmup_cosine(Span::Ratio(0.05), 0.01), ..OptimConfig::default() }
}

/// The volume with values from 0 to 1, which is what spoiling a patch counts on.
pub fn standardised(volume: Volume) -> Result<Volume> {
    Ok(Scale::default().apply(volume, &mut Key::new(0).rng())?)
}

/// A file, standardised.
pub fn read_standardised(path: &Path) -> Result<Volume> {
    standardised(read::volume(path, &ReadConfig::default())?)
}

/// A range of an axis (0 for z, 1 for y, 2 for x).
pub fn part(v: &Volume, axis: usize, range: Range<usize>) -> Result<Volume> {
    let (mut start, mut shape) = ([0isize; 3], v.shape());
    (start[axis], shape[axis]) = (range.start as isize, range.len());
    Ok(v.part(start, shape, 0.0)?)
}

impl Task {
    /// The network for a method's patches.
    pub fn architecture(&self, o: &Options) -> Result<Architecture> {
        let masked = MethodConfig::named(&o.method)?.masked();
        let encoder = if masked {
            EncoderConfig {
                name: "vit3d".into(),
                dim: Some(96),
                depth: Some(4),
                heads: Some(4),
                patch: Some([8; 3]),
                ..EncoderConfig::default()
            }
        } else {
            EncoderConfig { widths: Some(o.widths.clone()), ..EncoderConfig::default() }
        };
        Ok(encoder.resolve(self.patch, masked)?)
    }

    /// Pre-trains on `volumes` without their labels; the tensors of the last step. Goes on where a run of the folder stopped.
    pub fn pretrain(&self, o: &Options, volumes: Vec<Volume>) -> Result<BTreeMap<String, Tensor>> {
        let mut method = MethodConfig::named(&o.method)?;
        if let MethodConfig::Mae(c) = &mut method {
            (c.decoder_dim, c.decoder_depth, c.decoder_heads) = (96, 2, 4);
        }
        let augment = AugmentConfig { size: self.patch, scale: Scale::None, flip: self.flip, ..AugmentConfig::default() };
        let params = Params::new();
        let objective = method.build(&Scope::root(&params, 0, &Device::Cpu), &self.architecture(o)?)?;
        let views = method.views(&augment, false)?;
        let loader = Loader::new(Arc::new(Volumes(volumes, 64)), Arc::new(views), Arc::new(Collated), loader_config(0))?;
        let dir = o.folder().join(format!("pretrain-{}", o.method));
        std::fs::create_dir_all(o.folder())?;
        let mut run = if dir.exists() { Run::resume(&dir, None)?.0 } else { Run::create(&dir, "")? };
        let start = Instant::now();
        let mut trainer = Trainer::new(&objective, train_config(o.steps, 0), &optim(), loader.batches() as u64, &Device::Cpu)?;
        let summary = trainer.fit(&loader, &mut run)?;
        println!("pre-training by {}: {} steps, loss {:.4}, {:.0} s", o.method, summary.steps, summary.loss, start.elapsed().as_secs_f64());
        Ok(weights::export(&params, ""))
    }

    /// A segmentation of `labelled` volumes, from scratch or from `start`.
    pub fn tune(&self, o: &Options, labelled: Vec<Volume>, seed: u64, start: Option<&BTreeMap<String, Tensor>>) -> Result<Segment> {
        let scope = Scope::root(&Params::new(), seed, &Device::Cpu);
        let net = Segment::new(&scope, &self.architecture(o)?, SegmentConfig { classes: self.classes, frozen: false })?;
        if let Some(tensors) = start {
            net.transfer(tensors, true)?;
        }
        let steps: Vec<Step> = vec![Box::new(CropRandom { size: self.patch }), Box::new(Flip(self.flip))];
        let pipeline = Pipeline::new(steps);
        let crop = move |v: Volume, rng: &mut Rng| pipeline.apply(v, rng);
        let repeats = 64usize.div_ceil(labelled.len().max(1));
        let collate = Arc::new(CollatedLabels { plane: self.plane });
        let loader = Loader::new(Arc::new(Volumes(labelled, repeats)), Arc::new(crop), collate, loader_config(seed))?;
        let scratch = tempfile::tempdir()?;
        let mut run = Run::create(scratch.path().join("run"), "")?;
        Trainer::new(&net, train_config(o.tune, seed), &optim(), loader.batches() as u64, &Device::Cpu)?.fit(&loader, &mut run)?;
        Ok(net)
    }

    /// Dice of every class on `test` of an axis of `scan`, which the network sees with `around` voxels on both sides.
    pub fn dice(&self, net: &Segment, scan: &Volume, axis: usize, test: Range<usize>, around: usize) -> Result<Vec<f64>> {
        let seen = part(scan, axis, test.start - around..(test.end + around).min(scan.shape()[axis]))?;
        let window = SlidingWindow { size: self.patch, overlap: 0.25, ..SlidingWindow::default() };
        let made = window.segment(&seen, &Device::Cpu, |x| net.probabilities(x))?;
        let (a, b) = (part(&made, axis, around..around + test.len())?, part(scan, axis, test)?);
        let (a, b) = (a.labels().context("no labels")?, b.labels().context("no labels")?);
        Ok((0..self.classes as u16)
            .map(|c| {
                let both = a.iter().zip(b).filter(|(x, y)| **x == c && **y == c).count();
                2.0 * both as f64 / a.iter().chain(b).filter(|l| **l == c).count().max(1) as f64
            })
            .collect())
    }

    /// The whole table: budgets of labels, seeds, from scratch and from what was pre-trained. `labelled(n)` gives the volumes of a budget.
    pub fn table(
        &self,
        o: &Options,
        tensors: &BTreeMap<String, Tensor>,
        names: &[&str],
        labelled: impl Fn(usize) -> Result<Vec<Volume>>,
        score: impl Fn(&Segment) -> Result<Vec<f64>>,
    ) -> Result<()> {
        println!("{:>7} {:>5} {:>12} {:>7} {}", "labels", "seed", "start", "mean", names.join(" "));
        for &n in &o.labels {
            for seed in 0..o.seeds {
                for (name, start) in [("scratch", None), ("pre-trained", Some(tensors))] {
                    let dice = score(&self.tune(o, labelled(n)?, seed, start)?)?;
                    let mean = dice[1..].iter().sum::<f64>() / (dice.len() - 1) as f64;
                    let all: Vec<String> = dice[1..].iter().map(|d| format!("{d:.4}")).collect();
                    println!("{n:>7} {seed:>5} {name:>12} {mean:>7.4} {}", all.join(" "));
                }
            }
        }
        Ok(())
    }
}
