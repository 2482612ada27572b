//! Volumes: `[method]`, `[encoder]`, `[augment]` and `[volumes]` of `selfsup-medical`. A volume that is small enough is read and prepared
//! once; of a larger one the patches are read from a file of blocks. Intensities are the baseline.

mod segmentation;

use super::{Method, Modality};
use crate::config::{self, PretrainConfig};
use crate::set::Set;
use crate::task::classification::Classification;
use crate::verbs::{finetune, predict};
use selfsup_core::checkpoint::save_safetensors;
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source, Transform};
use selfsup_core::objective::{Inputs, Views};
use selfsup_core::{Encoder, Error, Key, Params, Result, Rng, Scope, weights};
use selfsup_datasets::folder::Folder;
use selfsup_datasets::{Kind, Records, Source as Place};
use selfsup_eval::Matrix;
use selfsup_medical::Volume;
use selfsup_medical::augment::{Augment, AugmentConfig, Wanted};
use selfsup_medical::blocks::{BlockCache, Scan, cached};
use selfsup_medical::data::Collated;
use selfsup_medical::export;
use selfsup_medical::names::load_pretrained;
use selfsup_medical::read::{self, ReadConfig};
use selfsup_medical::recipe::{Architecture, EncoderConfig, MethodConfig};
use selfsup_medical::transform::{Pipeline, Scale};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Side of the intensities that are kept as a baseline: 512 values.
const SIDE: usize = 8;

/// `[volumes]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeConfig {
    /// Patches of each volume in an epoch.
    pub patches: usize,
    /// Voxels of a volume that is kept in memory; of larger ones patches are read from blocks on the disk.
    pub in_memory: u64,
    /// Where the blocks are kept; by default a folder `selfsup-blocks` among the temporary files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<String>,
    /// Megabytes of blocks that are kept in memory.
    pub cache_mb: usize,
    /// How files are read.
    pub read: ReadConfig,
}

impl Default for VolumeConfig {
    fn default() -> Self {
        VolumeConfig { patches: 16, in_memory: 64 << 20, blocks: None, cache_mb: 512, read: ReadConfig::default() }
    }
}

/// The sections of volumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// The objective.
    pub method: MethodConfig,
    /// The network.
    pub encoder: EncoderConfig,
    /// The views.
    pub augment: AugmentConfig,
    /// Reading.
    pub volumes: VolumeConfig,
}

impl config::Keys for Keys {
    const KIND: Kind = Kind::Medical;
    const METHODS: &'static [&'static str] = &MethodConfig::NAMES;

    fn method(&self) -> &str {
        self.method.name()
    }

    fn encoder(&self) -> &str {
        &self.encoder.name
    }

    fn forget_pretrained(&mut self, _run: &Path) {
        self.encoder.pretrained = None;
    }
}

/// Volumes.
pub struct Medical {
    keys: Keys,
    architecture: Architecture,
    prepare: Pipeline,
    cache: Arc<BlockCache>,
}

/// A volume that patches are drawn from; whether its intensities are scaled already.
#[derive(Clone)]
struct Drawn {
    scan: Arc<dyn Scan>,
    prepared: bool,
}

/// Volumes, each so many times an epoch.
struct Draws {
    volumes: Vec<Drawn>,
    times: usize,
}

impl Dataset for Draws {
    type Item = Drawn;

    fn len(&self) -> usize {
        self.volumes.len() * self.times
    }

    fn get(&self, index: usize) -> Result<Drawn> {
        let found = self.volumes.get(index / self.times.max(1)).cloned();
        found.ok_or_else(|| Error::input("volumes", format!("there is no patch {index}, expected one below {}", self.len())))
    }
}

/// Draws a part of a volume and makes the views of it.
struct View {
    prepared: Augment,
    raw: Augment,
}

impl Transform<Drawn> for View {
    type Out = Vec<Volume>;

    fn apply(&self, drawn: Drawn, rng: &mut Rng) -> Result<Vec<Volume>> {
        let augment = if drawn.prepared { &self.prepared } else { &self.raw };
        let (region, shape) = (augment.region(), drawn.scan.grid().shape());
        // A volume that is smaller than the region lies in its middle.
        let start = [0, 1, 2].map(|a| match shape[a].checked_sub(region[a]) {
            Some(spare) => rng.below(spare + 1) as isize,
            None => -(((region[a] - shape[a]) / 2) as isize),
        });
        augment.apply(drawn.scan.part(start, region, 0.0)?, rng)
    }
}

/// The middle of a volume.
struct Middle {
    size: [usize; 3],
    scale: Scale,
}

impl Transform<Drawn> for Middle {
    type Out = Vec<Volume>;

    fn apply(&self, drawn: Drawn, rng: &mut Rng) -> Result<Vec<Volume>> {
        let shape = drawn.scan.grid().shape();
        let start = [0, 1, 2].map(|a| (shape[a] as isize - self.size[a] as isize).div_euclid(2));
        let part = drawn.scan.part(start, self.size, 0.0)?;
        Ok(vec![if drawn.prepared { part } else { self.scale.apply(part, rng)? }])
    }
}

/// One patch a volume with the labels of the records.
struct Stacked(Arc<dyn Records>);

impl Collate<Vec<Volume>> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Vec<Volume>>, indices: &[usize], key: Key) -> Result<Inputs> {
        let views = Collated.collate(items, indices, key)?;
        let x = views.views.into_iter().next().ok_or_else(|| Error::input("batch", "no views"))?;
        let labels = indices.iter().filter_map(|&i| self.0.label(i)).collect();
        Ok(Inputs { x, valid: None, labels, indices: views.indices })
    }
}

/// Files of volumes below `root`, and the folders that hold a DICOM series of several files.
fn volumes(root: &Path) -> Result<Vec<PathBuf>> {
    let files = selfsup_datasets::kind::files(root, Kind::Medical)?;
    if files.is_empty() {
        return Err(Error::file(root, "no medical images found: looked in all folders for DICOM, NIfTI (.nii, .nii.gz) and NRRD"));
    }
    let whole = |p: &Path| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        [".nii", ".nii.gz", ".nrrd", ".nhdr"].iter().any(|e| name.ends_with(e))
    };
    let mut slices: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let mut found = Vec::new();
    for file in files {
        match file.parent() {
            Some(folder) if !whole(&file) => slices.entry(folder.to_path_buf()).or_default().push(file),
            _ => found.push(file),
        }
    }
    for (folder, mut files) in slices {
        if files.len() == 1 { found.append(&mut files) } else { found.push(folder) }
    }
    found.sort();
    Ok(found)
}

impl Medical {
    /// The volumes of a set, read (or turned into blocks) now.
    fn scans(&self, set: &Set) -> Result<Vec<Drawn>> {
        let v = &self.keys.volumes;
        (0..set.len())
            .map(|i| {
                let record = set.records().get(i)?;
                let Place::File(path) = record.source else {
                    return Err(Error::input(&record.id, "expected a file or a folder of a volume"));
                };
                let slices = read::open(&path, &v.read)?;
                let voxels = slices.stored().shape().iter().map(|n| *n as u64).product::<u64>();
                if voxels <= v.in_memory {
                    let volume = read::whole_volume(slices, &v.read)?;
                    let volume = self.prepare.apply(volume, &mut Key::new(0).rng())?;
                    return Ok(Drawn { scan: Arc::new(volume), prepared: true });
                }
                if self.keys.augment.spacing.is_some() || self.keys.augment.foreground.is_some() {
                    let problem = format!(
                        "{voxels} voxels are read in blocks, which are neither resampled nor cropped: leave augment.spacing and augment.foreground out, or raise volumes.in_memory"
                    );
                    return Err(Error::file(&path, problem));
                }
                drop(slices);
                let folder = v.blocks.as_ref().map_or_else(|| std::env::temp_dir().join("selfsup-blocks"), PathBuf::from);
                let blocks = cached(&path, None, &folder, &v.read, &self.cache)?;
                Ok(Drawn { scan: Arc::new(blocks), prepared: false })
            })
            .collect()
    }

    fn middle(&self) -> Middle {
        Middle { size: self.keys.augment.size, scale: self.keys.augment.scale }
    }
}

impl Modality for Medical {
    type Keys = Keys;
    type Batch = Views;

    const RAW: &'static str = "intensities";
    const LAYOUTS: &'static [&'static str] = &["native"];

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        let keys = config.keys.clone();
        if keys.volumes.patches == 0 {
            return Err(Error::config("volumes.patches = 0: expected at least 1"));
        }
        let architecture = keys.encoder.resolve(keys.augment.size, keys.method.masked())?;
        let prepare = keys.augment.prepare()?;
        let cache = BlockCache::new(keys.volumes.cache_mb << 20);
        Ok(Medical { keys, architecture, prepare, cache })
    }

    fn open(&self, what: &str) -> Result<Set> {
        let path = Path::new(what);
        if selfsup_datasets::list().iter().any(|c| c.name == what) || !path.is_dir() {
            return Ok(Set::new(selfsup_datasets::open_kind(what, Kind::Medical)?));
        }
        Ok(Set::new(Folder::of(path, volumes(path)?)))
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Views>>> {
        let (method, augment) = (&self.keys.method, &self.keys.augment);
        let view = View { prepared: method.views(augment, false)?, raw: method.views(augment, true)? };
        let draws = Draws { volumes: self.scans(set)?, times: self.keys.volumes.patches };
        Ok(Box::new(Loader::new(Arc::new(draws), Arc::new(view), Arc::new(Collated), loader)?))
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let draws = Arc::new(Draws { volumes: self.scans(set)?, times: 1 });
        let stacked = Arc::new(Stacked(set.records().clone()));
        if !augment {
            return Ok(Box::new(Loader::new(draws, Arc::new(self.middle()), stacked, loader)?));
        }
        let of = |scale| self.keys.augment.views(Wanted::Joint(1), scale);
        let view = View { prepared: of(false)?, raw: of(true)? };
        Ok(Box::new(Loader::new(draws, Arc::new(view), stacked, loader)?))
    }

    fn method(&self, scope: &Scope) -> Result<Method<Views>> {
        self.keys.method.build(scope, &self.architecture)
    }

    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.architecture.build(scope)
    }

    fn load_pretrained(&self, params: &Params) -> Result<Option<String>> {
        let Some(name) = &self.keys.encoder.pretrained else { return Ok(None) };
        let path = super::weights_path(name)?;
        let report = load_pretrained(params, "encoder", &path, self.architecture.monai_levels())?;
        Ok(Some(format!("{} tensors of {}", report.loaded.len(), path.display())))
    }

    /// The middle of each volume, averaged down to 8 x 8 x 8.
    fn raw(&self, train: &Set, test: &Set, loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        let of = |set: &Set| -> Result<Matrix> {
            let (mut rows, mut n) = (Vec::new(), 0);
            for loaded in self.inputs(set, false, loader.clone())?.epoch_from(0, 0)? {
                let x = loaded?.batch.x;
                let (b, _, d, h, w) = x.dims5()?;
                let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
                n += b;
                values.chunks_exact(d * h * w).for_each(|v| rows.extend(boxes(v, [d, h, w])));
            }
            let width = rows.len() / n.max(1);
            Matrix::new(rows, n, width)
        };
        Ok((of(train)?, of(test)?))
    }

    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        export::write(&self.architecture, &self.keys.method, &self.keys.augment, params, out)
    }

    fn export_encoder(&self, params: &Params, out: &Path) -> Result<()> {
        // Under our own names, which `encoder.pretrained` reads: a method's decoder is not there any more.
        let tensors: Vec<_> = weights::export(params, "encoder").into_iter().map(|(n, t)| (format!("encoder.{n}"), t)).collect();
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        save_safetensors(out.join("model.safetensors"), &tensors)?;
        let text = serde_json::to_value(&self.keys).map_err(|e| Error::Other(e.to_string()))?;
        crate::verbs::export::text(&out.join("config.json"), &crate::verbs::export::pretty(&text)?)
    }

    const TASKS: &'static [&'static str] = &["classification", "segmentation"];

    fn tune(work: finetune::Work<Self>) -> Result<()> {
        match work.config.task.kind.as_str() {
            "segmentation" => finetune::fit::<Self, segmentation::Segmentation>(work),
            _ => finetune::fit::<Self, Classification>(work),
        }
    }

    fn tell(work: &predict::Work<Self>) -> Result<(String, usize)> {
        match work.config.task.kind.as_str() {
            "segmentation" => segmentation::segment(work),
            _ => predict::said::<Self, Classification>(work),
        }
    }

    fn preview(&self, batch: &Views) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (i, view) in batch.views.iter().enumerate() {
            let values: Vec<f32> = view.flatten_all()?.to_vec1()?;
            let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
            lines.push(format!("view {i}: {:?}, values {low:.3} to {high:.3}, mean {mean:.3}", view.dims()));
        }
        Ok(lines)
    }
}

/// Means of boxes, at most [`SIDE`] along each axis.
fn boxes(values: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let n = shape.map(|s| s.min(SIDE));
    let edge = |a: usize, i: usize| i * shape[a] / n[a];
    let mut out = Vec::with_capacity(n.iter().product());
    for z in 0..n[0] {
        for y in 0..n[1] {
            for x in 0..n[2] {
                let (mut sum, mut count) = (0.0, 0);
                for k in edge(0, z)..edge(0, z + 1) {
                    for j in edge(1, y)..edge(1, y + 1) {
                        for i in edge(2, x)..edge(2, x + 1) {
                            sum += values[(k * shape[1] + j) * shape[2] + i];
                            count += 1;
                        }
                    }
                }
                out.push(sum / count.max(1) as f32);
            }
        }
    }
    out
}
