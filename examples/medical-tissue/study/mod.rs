//! What the studies of few labels share: pre-training without labels, a segmentation from scratch or from
//! what was pre-trained, Dice.

mod cells;
mod options;

pub use options::Options;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use cells::{Cell, Cells, Name};
use selfsup::core::data::{Collate, Dataset, Loader, LoaderConfig, Transform};
use selfsup::core::objective::{MaeConfig, Needs, OverViews, balanced_weights, class_counts};
use selfsup::core::optim::OptimConfig;
use selfsup::core::run::Run;
use selfsup::core::schedule::{LrSchedule, Span};
use selfsup::core::trainer::{Summary, TrainConfig, Trainer};
use selfsup::core::{Error, Key, Params, Rng, Scope, weights};
use selfsup::medical::Volume;
use selfsup::medical::augment::{Augment, AugmentConfig};
use selfsup::medical::data::{Collated, CollatedLabels, CollatedSlices};
use selfsup::medical::encoder::NormKind;
use selfsup::medical::method::{Labelled, Segment, SegmentConfig};
use selfsup::medical::read::{self, ReadConfig};
use selfsup::medical::recipe::{Architecture, EncoderConfig, MethodConfig, UNetKeys, ViT3dKeys};
use selfsup::medical::sliding::SlidingWindow;
use selfsup::medical::transform::{BiasField, CropForeground, Flip, Pipeline, Scale, Step};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A task: its patches, and how its labels are used.
#[derive(Clone)]
pub struct Task {
    /// Voxels of a patch (z, y, x).
    pub patch: [usize; 3],
    pub classes: usize,
    /// Labelled volumes are `2 depth - 1` planes whose middle one alone is labelled.
    pub slices: bool,
    /// Probability of mirroring along z, y, x.
    pub flip: [f32; 3],
    /// Axis across which the tested slab lies (0 for z, 1 for y, 2 for x).
    pub axis: usize,
    /// The tested slab.
    pub test: Range<usize>,
    /// Planes around it that the network sees.
    pub around: usize,
}

/// Volumes in memory, each so many times an epoch; what is drawn is a volume, not a copy of it.
struct Volumes(Vec<Arc<Volume>>, usize);

impl Dataset for Volumes {
    type Item = Arc<Volume>;
    fn len(&self) -> usize {
        self.0.len() * self.1
    }
    fn get(&self, index: usize) -> selfsup::core::Result<Arc<Volume>> {
        self.0
            .get(index % self.0.len().max(1))
            .cloned()
            .ok_or_else(|| Error::input("volume", format!("{index} of {}", self.len())))
    }
}

/// A random part of a volume.
fn crop(v: &Volume, shape: [usize; 3], rng: &mut Rng) -> selfsup::core::Result<Volume> {
    v.part([0, 1, 2].map(|a| rng.below(v.shape()[a].saturating_sub(shape[a]) + 1) as isize), shape, 0.0)
}

/// The views of a part of a volume that is as bright as the volume: a head, not the air around it.
struct Bright(Augment);

impl Transform<Arc<Volume>> for Bright {
    type Out = Vec<Volume>;

    fn apply(&self, volume: Arc<Volume>, rng: &mut Rng) -> selfsup::core::Result<Vec<Volume>> {
        let mean = |v: &Volume| {
            v.values().iter().map(|x| f64::from(*x)).sum::<f64>() / v.values().len().max(1) as f64
        };
        let least = mean(&volume);
        let mut part = crop(&volume, self.0.region(), rng)?;
        for _ in 0..8 {
            if mean(&part) >= least {
                break;
            }
            part = crop(&volume, self.0.region(), rng)?;
        }
        self.0.apply(part, rng)
    }
}

/// Patches with their labels: of volumes that are labelled throughout, or in single slices.
enum Labels {
    All(CollatedLabels),
    Slices(CollatedSlices),
}

impl Collate<Volume> for Labels {
    type Batch = Labelled;

    fn collate(&self, items: Vec<Volume>, indices: &[usize], key: Key) -> selfsup::core::Result<Labelled> {
        match self {
            Labels::All(c) => c.collate(items, indices, key),
            Labels::Slices(c) => c.collate(items, indices, key),
        }
    }
}

fn optim(lr: f64) -> OptimConfig {
    OptimConfig {
        lr,
        weight_decay: 1e-4,
        schedule: LrSchedule::warmup_cosine(Span::Ratio(0.05), 0.01),
        ..OptimConfig::default()
    }
}

/// The volume with values from 0 to 1, which corrupting a patch counts on.
pub fn standardised(volume: Volume) -> Result<Volume> {
    Ok(Scale::default().apply(volume, &mut Key::new(0).rng())?)
}

/// A file, cropped to its foreground and standardised.
pub fn read_standardised(path: &Path) -> Result<Volume> {
    let made = standardised(read::volume(path, &ReadConfig::default())?)?;
    Ok(CropForeground { threshold: 0.1, margin: 2 }.apply(made, &mut Key::new(0).rng())?)
}

/// A range of an axis (0 for z, 1 for y, 2 for x).
pub fn part(v: &Volume, axis: usize, range: Range<usize>) -> Result<Volume> {
    let (mut start, mut shape) = ([0isize; 3], v.shape());
    (start[axis], shape[axis]) = (range.start as isize, range.len());
    Ok(v.part(start, shape, 0.0)?)
}

/// The method of a start, and whether its network sees slices: `simclr-2d` is `simclr` on patches of one
/// plane.
fn method_of(start: &str) -> (&str, bool) {
    start.strip_suffix("-2d").map_or((start, false), |method| (method, true))
}

/// Whether a start is one of transformers.
fn transformer(start: &str) -> bool {
    matches!(start, "mae" | "scratch-vit")
}

/// Trains in `dir`, or goes on there.
fn fit<O, D, T, C>(
    objective: &O,
    data: D,
    transform: T,
    collate: C,
    dir: &Path,
    (steps, batch, lr, seed): (u64, usize, f64, u64),
) -> Result<Summary>
where
    O: selfsup::core::objective::Objective + ?Sized,
    O::Batch: 'static,
    D: Dataset + 'static,
    D::Item: Send,
    T: Transform<D::Item> + 'static,
    T::Out: Send,
    C: Collate<T::Out, Batch = O::Batch> + 'static,
{
    let config = LoaderConfig { batch_size: batch, workers: 1, seed, ..LoaderConfig::default() };
    let loader = Loader::new(Arc::new(data), Arc::new(transform), Arc::new(collate), config)?;
    let train = TrainConfig {
        steps,
        batch_size: batch,
        seed,
        eval_every: 0,
        keep_last: 1,
        checkpoint_every: 200,
        ..TrainConfig::default()
    };
    let mut run =
        if dir.join("config.toml").exists() { Run::resume(dir, None)?.0 } else { Run::create(dir, "")? };
    Ok(Trainer::new(objective, train, &optim(lr), loader.batches() as u64, &Device::Cpu)?
        .fit(&loader, &mut run)?)
}

impl Task {
    /// The task as a start sees it: in slices, for networks of slices.
    fn of(&self, start: &str) -> Task {
        let [d, h, w] = self.patch;
        Task { patch: [if method_of(start).1 { 1 } else { d }, h, w], ..self.clone() }
    }

    /// The network of a start.
    fn architecture(&self, o: &Options, start: &str) -> Result<Architecture> {
        let norm = Some(match o.norm.as_str() {
            "instance" => NormKind::Instance,
            "batch" => NormKind::Batch,
            other => bail!("--norm {other}: expected instance or batch"),
        });
        let encoder: EncoderConfig = if transformer(start) {
            let [dim, depth, heads] = [96, 4, 4].map(Some);
            let name = "vit3d".into();
            ViT3dKeys { name, dim, depth, heads, patch: Some([4; 3]), norm, ..ViT3dKeys::default() }.into()
        } else {
            let name = if method_of(start).1 { "unet2d" } else { "unet3d" }.into();
            UNetKeys { name, widths: Some(o.widths.clone()), norm, ..UNetKeys::default() }.into()
        };
        // A transformer from scratch has the positions of the one that was pre-trained.
        let needs = if transformer(start) { MaeConfig::default().needs() } else { Needs::default() };
        Ok(encoder.resolve(self.patch, needs)?)
    }

    /// Pre-trains on `volumes` without their labels, by the method of the start `name`; the tensors of the
    /// last step. Goes on where a run of the folder stopped.
    fn pretrain(&self, o: &Options, name: &str, volumes: &[Arc<Volume>]) -> Result<BTreeMap<String, Tensor>> {
        let (method, flat) = method_of(name);
        let mut method = MethodConfig::named(method)?;
        match &mut method {
            MethodConfig::Mae(c) => {
                (c.decoder_dim, c.decoder_depth, c.decoder_heads) = (Some(96), Some(2), Some(4))
            }
            MethodConfig::Simclr(c) => (c.temperature, c.hidden_dim, c.out_dim) = (0.2, 128, 64),
            _ => {}
        }
        // Turned in the plane of the slices only: a patch is flat.
        let augment = AugmentConfig {
            size: self.patch,
            scale: Scale::None,
            flip: self.flip,
            rotate: [15.0, 0.0, 0.0],
            elastic: 0.0,
            ..AugmentConfig::default()
        };
        let params = Params::new();
        let objective = method.build(&Scope::root(&params, 0, &Device::Cpu), &self.architecture(o, name)?)?;
        // A contrastive batch needs others to differ from; restoration has to bring the scale of a random
        // network's outputs down first.
        let patches = if method.restores() || method.needs().tokens { 4 } else { 16 };
        // Slices are cheap.
        let batch = if flat { 4 * patches } else { patches };
        let lr = if method.restores() { 5e-3 } else { 1e-3 };
        let widths: Vec<String> = o.widths.iter().map(usize::to_string).collect();
        let dir = o.folder().join(format!(
            "pretrain-{name}-{}-{}-{}x{}x{}-w{}",
            o.steps,
            o.norm,
            self.patch[0],
            self.patch[1],
            self.patch[2],
            widths.join("-")
        ));
        let start = Instant::now();
        let views = Bright(method.views(&augment)?);
        let summary = fit(
            &*objective,
            Volumes(volumes.to_vec(), 400),
            views,
            Collated { original: method.restores() },
            &dir,
            (o.steps, batch, lr, 0),
        )?;
        println!(
            "pre-training by {name}: {} steps of {batch}, {}, {:.0} s in this process",
            o.steps,
            summary.shown_loss(),
            start.elapsed().as_secs_f64()
        );
        Ok(weights::export(&params, ""))
    }

    /// Weights that make every class count the same among the labelled voxels.
    fn weights(&self, labelled: &[Volume]) -> Result<Vec<f32>> {
        let mut counts = vec![0; self.classes];
        for v in labelled {
            let planes = if self.slices { v.shape()[0] / 2..v.shape()[0] / 2 + 1 } else { 0..v.shape()[0] };
            let plane = v.shape()[1] * v.shape()[2];
            let labels = v
                .labels()
                .context("no labels")?
                .get(planes.start * plane..planes.end * plane)
                .unwrap_or_default();
            let of = class_counts(labels.iter().map(|l| u32::from(*l)), self.classes);
            counts.iter_mut().zip(of).for_each(|(a, n)| *a += n);
        }
        Ok(balanced_weights(&counts))
    }

    /// A segmentation of `labelled` volumes, from scratch or from what was pre-trained.
    fn tune(
        &self,
        o: &Options,
        name: &Name,
        labelled: Vec<Volume>,
        tensors: Option<&BTreeMap<String, Tensor>>,
    ) -> Result<Segment> {
        let scope = Scope::root(&Params::new(), name.seed, &Device::Cpu);
        let class_weights = if o.balanced { self.weights(&labelled)? } else { Vec::new() };
        let config = SegmentConfig { classes: self.classes, frozen: false, class_weights };
        let net = Segment::new(&scope, &self.architecture(o, &name.start)?, config)?;
        if let Some(tensors) = tensors {
            net.transfer(tensors, true)?;
        }
        let depth = if self.slices { 2 * self.patch[0] - 1 } else { self.patch[0] };
        let size = [depth, self.patch[1], self.patch[2]];
        let steps: Vec<Step> =
            vec![Box::new(Flip(self.flip)), Box::new(BiasField { strength: [0.0, 0.3], p: 0.5 })];
        let change = Pipeline::new(steps);
        // As nnU-Net does: patches of nothing but background teach little. The labelled planes decide, the
        // middle one or all.
        let planes = if self.slices { self.patch[0] - 1..self.patch[0] } else { 0..size[0] };
        let patch = move |v: Arc<Volume>, rng: &mut Rng| {
            let mut part = crop(&v, size, rng)?;
            for _ in 0..8 {
                let plane = size[1] * size[2];
                let labels = part
                    .labels()
                    .unwrap_or_default()
                    .get(planes.start * plane..planes.end * plane)
                    .unwrap_or_default();
                if 2 * labels.iter().filter(|l| **l != 0).count() >= labels.len() {
                    break;
                }
                part = crop(&v, size, rng)?;
            }
            change.apply(part, rng)
        };
        let labels = if self.slices {
            Labels::Slices(CollatedSlices { depth: self.patch[0] })
        } else {
            Labels::All(CollatedLabels::default())
        };
        let volumes = Volumes(labelled.into_iter().map(Arc::new).collect(), 400);
        let dir = o.folder().join(name.folder());
        fit(&net, volumes, patch, labels, &dir, (name.tune, name.batch, name.lr, name.seed))?;
        Ok(net)
    }

    /// Dice of every class on `test` of `scan`.
    fn dice(&self, net: &Segment, scan: &Volume, test: Range<usize>) -> Result<Vec<f64>> {
        let seen = part(
            scan,
            self.axis,
            test.start - self.around..(test.end + self.around).min(scan.shape()[self.axis]),
        )?;
        let window = SlidingWindow { size: self.patch, overlap: 0.25, ..SlidingWindow::default() };
        let made = window.segment(&seen, &Device::Cpu, |x| net.probabilities(x))?;
        let (a, b) =
            (part(&made, self.axis, self.around..self.around + test.len())?, part(scan, self.axis, test)?);
        let (a, b) = (a.labels().context("no labels")?, b.labels().context("no labels")?);
        Ok((0..self.classes as u16)
            .map(|c| {
                let both = a.iter().zip(b).filter(|(x, y)| **x == c && **y == c).count();
                2.0 * both as f64 / a.iter().chain(b).filter(|l| **l == c).count().max(1) as f64
            })
            .collect())
    }

    /// The whole study: for each start and budget of labels the seeds, each kept as it is measured, and the
    /// table of all. `labelled(n)` gives the volumes of a budget, in patches of so many voxels.
    pub fn run(
        &self,
        o: &Options,
        scan: &Volume,
        unlabelled: Vec<Volume>,
        names: &[&str],
        labelled: impl Fn(usize, [usize; 3]) -> Result<Vec<Volume>>,
    ) -> Result<()> {
        let patched;
        if let Some(patch) = o.patch
            && patch != self.patch
        {
            patched = Task { patch, ..self.clone() };
            return patched.run(o, scan, unlabelled, names, labelled);
        }
        std::fs::create_dir_all(o.folder())?;
        let unlabelled: Vec<Arc<Volume>> = unlabelled.into_iter().map(Arc::new).collect();
        let test = o.slab.clone().unwrap_or(self.test.clone());
        let mut cells = Cells::open(&o.folder())?;
        let name = |start: &str, labels: usize, seed: u64| Name {
            start: start.to_string(),
            labels,
            seed,
            steps: if start.starts_with("scratch") { 0 } else { o.steps },
            tune: o.tune,
            batch: o.batch,
            lr: o.lr,
            widths: o.widths.clone(),
            norm: o.norm.clone(),
            patch: self.of(start).patch,
            balanced: o.balanced,
            slab: (test.start, test.end),
        };
        let mut pretrained = BTreeMap::new();
        for &labels in &o.labels {
            for seed in 0..o.seeds {
                for start in &o.starts {
                    let (task, name) = (self.of(start), name(start, labels, seed));
                    if cells.has(&name) {
                        continue;
                    }
                    if name.steps > 0 && !pretrained.contains_key(start) {
                        pretrained.insert(start.clone(), task.pretrain(o, start, &unlabelled)?);
                    }
                    let begin = Instant::now();
                    let net = task.tune(o, &name, labelled(labels, task.patch)?, pretrained.get(start))?;
                    let trained = begin.elapsed().as_secs_f64();
                    let dice = task.dice(&net, scan, test.clone())?.split_off(1);
                    let mean = dice.iter().sum::<f64>() / dice.len().max(1) as f64;
                    println!(
                        "{labels:>4} {start:>12} seed {seed}: mean {mean:.4}, {dice:.4?}, {trained:.0} s"
                    );
                    let seconds = (trained, begin.elapsed().as_secs_f64() - trained);
                    cells.add(Cell { name, dice, mean, seconds })?;
                }
            }
        }
        println!("\n{}", cells.table(o, names, name));
        Ok(())
    }
}
