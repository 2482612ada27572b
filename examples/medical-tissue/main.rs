//! Pre-training on volumes without labels, and what it is worth with a few labelled slices: grey matter, white matter and the rest of a head
//! in a poor scan.
//!
//!     cargo run --release --example medical-tissue -- DATA FOLDER [--method genesis] [--steps 400] [--tune 150] [--seeds 1] [--slices 2,8,35]
//!         [--extra FILE ...]
//!
//! `DATA` holds the MNI template of nilearn (`*t1*`, `*gm*`, `*wm*` .nii.gz); `--extra` adds unlabelled volumes. Slices from z 20 to 89 are
//! labelled, z 100 to 149 is tested; nothing of the tested slab is seen before.

#![allow(clippy::print_stdout)] // a report is what this program is

mod degrade;

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
use selfsup::medical::transform::{Pipeline, RandomPatch, Scale, Step};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const CLASSES: usize = 4;
/// Voxels of a patch (z, y, x): flat, since slices are labelled.
const PATCH: [usize; 3] = [16, 64, 64];
/// The labelled plane of a training patch.
const MIDDLE: usize = PATCH[0] / 2;
const TEST: std::ops::Range<usize> = 100..150;

struct Options {
    data: PathBuf,
    folder: PathBuf,
    method: String,
    steps: u64,
    tune: u64,
    seeds: u64,
    slices: Vec<usize>,
    widths: Vec<usize>,
    extra: Vec<PathBuf>,
}

fn options() -> Result<Options> {
    let mut args = std::env::args().skip(1);
    let (Some(data), Some(folder)) = (args.next(), args.next()) else {
        bail!("expected the folder of the template and a folder for the runs");
    };
    let mut o = Options {
        data: data.into(),
        folder: folder.into(),
        method: "genesis".into(),
        steps: 400,
        tune: 150,
        seeds: 1,
        slices: vec![2, 8, 35],
        widths: vec![12, 24, 48],
        extra: Vec::new(),
    };
    let list = |v: &str| v.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
    while let Some(key) = args.next() {
        let value = args.next().with_context(|| format!("{key} needs a value"))?;
        match key.as_str() {
            "--method" => o.method = value,
            "--steps" => o.steps = value.parse()?,
            "--tune" => o.tune = value.parse()?,
            "--seeds" => o.seeds = value.parse()?,
            "--slices" => o.slices = list(&value)?,
            "--widths" => o.widths = list(&value)?,
            "--extra" => o.extra.push(value.into()),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(o)
}

/// Volumes in memory.
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

fn find(folder: &Path, word: &str) -> Result<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.filter_map(|f| Some(f.ok()?.path())).collect();
    files.sort();
    let named = |p: &PathBuf| {
        p.file_name().is_some_and(|n| n.to_string_lossy().to_lowercase().contains(word) && n.to_string_lossy().ends_with(".nii.gz"))
    };
    files.into_iter().find(named).with_context(|| format!("{}: no *{word}*.nii.gz", folder.display()))
}

/// The poor scan with its classes: 1 grey, 2 white, 3 other voxels with signal, 0 background.
fn template(folder: &Path) -> Result<Volume> {
    let [t1, grey, white] = ["t1", "gm", "wm"].map(|w| Ok::<_, anyhow::Error>(read::volume(find(folder, w)?, &ReadConfig::default())?));
    let (t1, grey, white) = (t1?, grey?, white?);
    let most = |v: &Volume| v.values().iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let (g, w) = (most(&grey), most(&white));
    let class = |((&t, &a), &b): ((&f32, &f32), &f32)| {
        if a / g > 0.5 {
            1
        } else if b / w > 0.5 {
            2
        } else {
            u16::from(t > 0.0) * 3
        }
    };
    let labels = t1.values().iter().zip(grey.values()).zip(white.values()).map(class).collect();
    // numpy's array is (i, j, k) with k fastest; ours is (z, y, x) of RAS+.
    let stored = t1.stored().context("the template was not read from a file")?.clone();
    let [i, j, k] = stored.shape();
    let [d, h, width] = t1.shape();
    let places = (0..d * h * width).map(|v| {
        let [a, b, c] = stored.index([v / (h * width), v / width % h, v % width]);
        (a * j + b) * k + c
    });
    let places: Vec<usize> = places.collect();
    let mut array = vec![0f32; i * j * k];
    places.iter().zip(t1.values()).for_each(|(&at, &v)| array[at] = v);
    let poor = degrade::degrade(&array, [i, j, k]);
    let values = places.iter().map(|&at| poor[at]).collect();
    let made = Volume::new("degraded template", t1.grid().clone(), values)?.with_labels(labels)?;
    Ok(Scale::ZScore { foreground: false }.apply(made, &mut Key::new(0).rng())?)
}

fn part(v: &Volume, planes: std::ops::Range<usize>) -> Result<Volume> {
    let [_, h, w] = v.shape();
    Ok(v.part([planes.start as isize, 0, 0], [planes.len(), h, w], 0.0)?)
}

fn loop_config(steps: u64, batch: usize, seed: u64) -> TrainConfig {
    TrainConfig { steps, batch_size: batch, seed, eval_every: 0, keep_last: 1, ..TrainConfig::default() }
}

fn optim(lr: f64) -> OptimConfig {
    OptimConfig { lr, weight_decay: 1e-4, schedule: LrSchedule::warmup_cosine(Span::Ratio(0.05), 0.01), ..OptimConfig::default() }
}

/// Pre-trains on `volumes` without their labels; the tensors of the last step.
fn pretrain(o: &Options, architecture: &Architecture, volumes: Vec<Volume>) -> Result<BTreeMap<String, Tensor>> {
    let mut method = MethodConfig::named(&o.method)?;
    if let MethodConfig::Mae(c) = &mut method {
        (c.decoder_dim, c.decoder_depth, c.decoder_heads) = (96, 2, 4);
    }
    let augment = AugmentConfig { size: PATCH, scale: Scale::None, ..AugmentConfig::default() };
    let params = Params::new();
    let objective = method.build(&Scope::root(&params, 0, &Device::Cpu), architecture)?;
    let views = method.views(&augment, false)?;
    let config = LoaderConfig { batch_size: 4, workers: 1, ..LoaderConfig::default() };
    let loader = Loader::new(Arc::new(Volumes(volumes, 64)), Arc::new(views), Arc::new(Collated), config)?;
    let dir = o.folder.join(format!("pretrain-{}", o.method));
    let mut run = if dir.exists() { Run::resume(&dir, None)?.0 } else { Run::create(&dir, "")? };
    let start = Instant::now();
    let summary = Trainer::new(&objective, loop_config(o.steps, 4, 0), &optim(2e-3), loader.batches() as u64, &Device::Cpu)?
        .fit(&loader, &mut run)?;
    println!("pre-training by {}: {} steps, loss {:.4}, {:.0} s", o.method, summary.steps, summary.loss, start.elapsed().as_secs_f64());
    Ok(weights::export(&params, ""))
}

/// Dice of every class on the tested slab after training on `slices`.
fn tune(
    o: &Options,
    architecture: &Architecture,
    scan: &Volume,
    slices: &[usize],
    seed: u64,
    start: Option<&BTreeMap<String, Tensor>>,
) -> Result<Vec<f64>> {
    let params = Params::new();
    let net = Segment::new(&Scope::root(&params, seed, &Device::Cpu), architecture, SegmentConfig { classes: CLASSES, frozen: false })?;
    if let Some(tensors) = start {
        net.transfer(tensors, true)?;
    }
    let slabs = slices.iter().map(|&z| part(scan, z - MIDDLE..z - MIDDLE + PATCH[0])).collect::<Result<Vec<_>>>()?;
    let steps: Vec<Step> = vec![Box::new(RandomPatch { size: PATCH }), Box::new(selfsup::medical::transform::Flip([0.0, 0.0, 0.5]))];
    let pipeline = Pipeline::new(steps);
    let crop = move |v: Volume, rng: &mut Rng| pipeline.apply(v, rng);
    let config = LoaderConfig { batch_size: 4, workers: 1, seed, ..LoaderConfig::default() };
    let repeats = 64usize.div_ceil(slabs.len());
    let loader = Loader::new(Arc::new(Volumes(slabs, repeats)), Arc::new(crop), Arc::new(CollatedLabels { plane: Some(MIDDLE) }), config)?;
    let scratch = tempfile::tempdir()?;
    let mut run = Run::create(scratch.path().join("run"), "")?;
    Trainer::new(&net, loop_config(o.tune, 4, seed), &optim(2e-3), loader.batches() as u64, &Device::Cpu)?.fit(&loader, &mut run)?;
    // The network sees what lies next to the slab, as the peer's smoothing does.
    let around = part(scan, TEST.start - MIDDLE..TEST.end + MIDDLE)?;
    let window = SlidingWindow { size: PATCH, overlap: 0.25, ..SlidingWindow::default() };
    let made = window.segment(&around, &Device::Cpu, |x| net.probabilities(x))?;
    let (a, b) = (part(&made, MIDDLE..MIDDLE + TEST.len())?, part(scan, TEST)?);
    let (a, b) = (a.labels().context("no labels")?, b.labels().context("no labels")?);
    Ok((0..CLASSES as u16)
        .map(|c| {
            let both = a.iter().zip(b).filter(|(x, y)| **x == c && **y == c).count();
            2.0 * both as f64 / a.iter().chain(b).filter(|l| **l == c).count().max(1) as f64
        })
        .collect())
}

fn main() -> Result<()> {
    let o = options()?;
    std::fs::create_dir_all(&o.folder)?;
    let scan = template(&o.data)?;
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
    let architecture = encoder.resolve(PATCH, masked)?;
    // Below the tested slab and its surroundings.
    let mut unlabelled = vec![part(&scan, 0..TEST.start - PATCH[0])?];
    for file in &o.extra {
        let volume = read::volume(file, &ReadConfig::default())?;
        unlabelled.push(Scale::ZScore { foreground: false }.apply(volume, &mut Key::new(0).rng())?);
    }
    let tensors = pretrain(&o, &architecture, unlabelled)?;
    println!("{:>8} {:>6} {:>22} {:>8} {:>8} {:>8} {:>8}", "slices", "seed", "start", "grey", "white", "other", "mean");
    for &n in &o.slices {
        let step = if n > 1 { 69.0 / (n - 1) as f64 } else { 0.0 };
        let slices: Vec<usize> = (0..n).map(|i| (20.0 + step * i as f64).round() as usize).collect();
        for seed in 0..o.seeds {
            for (name, start) in [("scratch", None), ("pre-trained", Some(&tensors))] {
                let dice = tune(&o, &architecture, &scan, &slices, seed, start)?;
                let mean = dice[1..].iter().sum::<f64>() / 3.0;
                println!("{n:>8} {seed:>6} {name:>22} {:>8.4} {:>8.4} {:>8.4} {mean:>8.4}", dice[1], dice[2], dice[3]);
            }
        }
    }
    Ok(())
}
