//! Volumes: `[method]`, `[encoder]`, `[augment]` and `[volumes]` of `selfsup-medical`. The
//! embedding and the class of a volume are means over a grid of patches of its foreground. Intensities are
//! the baseline.

mod corrupt;
mod intensities;
mod labelled;
mod patches;
#[cfg(feature = "vision")]
mod pictures;
#[cfg(feature = "vision")]
mod preview;
mod recipes;
mod segmentation;
mod tasks;
pub mod volumes;

use super::{Corruptible, Method, Modality};
use crate::config::{self, PretrainConfig};
use crate::recipe::{Given, Seen, span};
use crate::set::{Set, evenly};
use patches::{Cutting, Draws, Places, Stacked, View, WithLabels};
use selfsup_core::config::Unread;
use selfsup_core::data::{Loader, LoaderConfig, Source};
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::{BatchRate, Inputs, Lowered, Views};
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use selfsup_datasets::{Kind, Reading};
use selfsup_eval::Matrix;
use selfsup_medical::augment::{AugmentConfig, Wanted};
use selfsup_medical::blocks::{Scan, Store};
use selfsup_medical::corrupt::Corrupt;
use selfsup_medical::data::Collated;
use selfsup_medical::export;
use selfsup_medical::names::load_pretrained;
use selfsup_medical::read;
use selfsup_medical::recipe::{Architecture, EncoderConfig, MethodConfig, ViT3dKeys};
use selfsup_medical::transform::Pipeline;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use volumes::{VolumeConfig, path_of};

/// Voxels that are encoded at once: 16 channels of as many floats are 64 MB.
const AT_ONCE: usize = 1 << 20;

/// Volumes whose shapes are looked at.
const LOOKED: usize = 8;

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
        self.encoder.name()
    }

    fn alike(a: &str, b: &str) -> bool {
        EncoderConfig::alike(a, b)
    }

    fn encoder_of(method: &str) -> Option<String> {
        let tokens = MethodConfig::named(method).is_ok_and(|m| m.needs().tokens);
        tokens.then(|| ViT3dKeys::default().name)
    }

    fn outline(&self) -> String {
        let [z, y, x] = self.augment.size;
        format!("{} on patches of {z} x {y} x {x} voxels", self.encoder.name())
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        self.method.over_views_mut()?.fit(samples)
    }

    fn rate(&self) -> BatchRate {
        self.method.over_views().map_or(BatchRate::Linear, |m| m.rate())
    }

    fn forget_pretrained(&mut self, _run: &Path) {
        self.encoder.set_pretrained(None);
    }

    fn leave_nothing(&mut self) {
        self.volumes.leave_nothing();
    }

    fn unread(&self, task: Option<&str>) -> Vec<Unread> {
        let mut unread = match task {
            None => self.method.unread(),
            Some("segmentation") => Unread::all(
                "augment",
                &["region"],
                "is read by methods that compare views: segmentation has one patch of a sample",
            ),
            Some(_) => Vec::new(),
        };
        let decoder = match task {
            None => self.method.restores(),
            Some(task) => task == "segmentation",
        };
        if !decoder && matches!(self.encoder, EncoderConfig::ResNet(_) | EncoderConfig::ViT(_)) {
            let why = "is that of a decoder: read by genesis, super-resolution and segmentation";
            unread.extend(Unread::all("encoder", &["norm"], why));
        }
        unread.extend(self.volumes.unread(None, task));
        unread
    }
}

/// Volumes.
pub struct Medical {
    keys: Keys,
    architecture: Architecture,
    prepare: Pipeline,
    /// What `prepare` does, as a text.
    how: String,
    store: Arc<Store>,
    reading: Reading,
    /// How volumes are corrupted that are measured: a step of `prepare` too.
    corrupt: Option<Corrupt>,
}

impl Medical {
    /// The volumes of a set, read (or turned into blocks) now.
    fn scans(&self, set: &Set) -> Result<Vec<Arc<dyn Scan>>> {
        let augment = &self.keys.augment;
        let strict = match self.corrupt {
            Some(_) => Some("corruptions"),
            None if augment.spacing.is_some() || augment.foreground.is_some() => {
                Some("augment.spacing and augment.foreground")
            }
            None => None,
        };
        (0..set.len())
            .map(|i| {
                let path = path_of(set, i)?;
                let prepare = (&self.prepare, self.how.as_str());
                self.keys.volumes.scan(&path, prepare, &augment.scale, strict, &self.store)
            })
            .collect()
    }

    /// The volumes of the first patches of a batch, as they are prepared.
    #[cfg(feature = "vision")]
    fn shown(&self, batch: &Views, set: &Set) -> Result<Vec<Arc<dyn Scan>>> {
        let of = |index: &usize| {
            let one = set.part(vec![index / self.keys.volumes.patches.max(1)])?;
            self.scans(&one)?.pop().ok_or_else(|| Error::input("preview", "no volume of a patch"))
        };
        batch.indices.iter().take(preview::SHOWN).map(of).collect()
    }

    /// Patches at `places` with what is known of their volumes. A batch has at most [`AT_ONCE`] voxels,
    /// however many samples it may have.
    fn at(&self, places: Places, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let most = (AT_ONCE / self.keys.augment.size.iter().product::<usize>()).max(1);
        let loader = LoaderConfig { batch_size: loader.batch_size.min(most), ..loader };
        let stacked = Stacked { records: set.records().clone(), owners: Some(places.owners()) };
        let cutting = Cutting(self.keys.augment.size);
        Ok(Box::new(Loader::new(Arc::new(places), Arc::new(cutting), Arc::new(stacked), loader)?))
    }
}

impl Medical {
    /// The middle of each volume, averaged down.
    fn intensities(&self, set: &Set, loader: &LoaderConfig) -> Result<Matrix> {
        let places = Places::middle(self.scans(set)?, self.keys.augment.size);
        intensities::boxes(&*self.at(places, set, loader.clone())?)
    }
}

impl Modality for Medical {
    type Keys = Keys;
    type Batch = Views;

    const RAW: &'static str = "intensities";
    const LAYOUTS: &'static [&'static str] = &["native"];
    const EAGER: bool = true;
    const VOTES: bool = true;

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        let keys = config.keys.clone();
        if keys.volumes.patches == 0 {
            return Err(Error::config("volumes.patches = 0: expected at least 1"));
        }
        let architecture = keys.encoder.resolve(keys.augment.size, keys.method.needs())?;
        let prepare = keys.augment.prepare()?;
        let steps = (&keys.augment.scale, &keys.augment.spacing, &keys.augment.foreground);
        let how = serde_json::to_string(&steps).map_err(|e| Error::config(format!("augment: {e}")))?;
        let store = keys.volumes.store()?;
        let reading = config.data.reading();
        Ok(Medical { keys, architecture, prepare, how, store, reading, corrupt: None })
    }

    fn seen(config: &PretrainConfig<Keys>, given: &Given) -> Result<Seen> {
        let (data, keys) = (&config.data, &config.keys);
        let set = keys.volumes.open(&data.path, data.layout)?;
        let shape = |i: usize| -> Result<[usize; 3]> {
            let slices = read::open_series(&path_of(&set, i)?, &keys.volumes.read)?;
            let (stored, mut shape) = (slices.stored().shape(), [0; 3]);
            // The axes of a file run along x, y and z of the world in any order.
            slices.stored().axes().iter().zip(stored).for_each(|(&axis, n)| shape[2 - axis] = n);
            Ok(shape)
        };
        let shapes: Vec<_> = evenly(LOOKED.min(set.len()), set.len()).filter_map(|i| shape(i).ok()).collect();
        let along = |axis: usize| span(&shapes.iter().map(|s| s[axis]).collect::<Vec<_>>());
        let how = match (keys.method.restores(), keys.method.needs().tokens) {
            (true, _) => recipes::Use::Restores,
            (false, true) => recipes::Use::Hides,
            (false, false) => recipes::Use::Compares,
        };
        Ok(Seen {
            data: format!("{} x {} x {} voxels", along(0), along(1), along(2)),
            recipes: recipes::recipes(set.len(), &shapes, how, given),
        })
    }

    fn reading(&self) -> Reading {
        self.reading.clone()
    }

    fn open(&self, what: &str) -> Result<Set> {
        self.keys.volumes.open(what, self.reading.layout)
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Views>>> {
        let (method, augment) = (&self.keys.method, &self.keys.augment);
        let view = View(method.views(augment)?);
        let times = self.keys.volumes.patches;
        let draws = Draws { volumes: self.scans(set)?, times };
        let labelled = WithLabels {
            records: set.records().clone(),
            times,
            labels: method.over_views().is_some_and(|m| m.reads_labels()),
            views: Collated { original: method.restores() },
        };
        Ok(Box::new(Loader::new(Arc::new(draws), Arc::new(view), Arc::new(labelled), loader)?))
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let volumes = self.scans(set)?;
        if !augment {
            return self.at(Places::grid(volumes, self.keys.augment.size)?, set, loader);
        }
        let view = View(self.keys.augment.views(Wanted::Joint(1))?);
        let stacked = Stacked { records: set.records().clone(), owners: None };
        Ok(Box::new(Loader::new(
            Arc::new(Draws { volumes, times: 1 }),
            Arc::new(view),
            Arc::new(stacked),
            loader,
        )?))
    }

    fn method(&self, scope: &Scope) -> Result<Method<Views>> {
        self.keys.method.build(scope, &self.architecture)
    }

    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.architecture.build(scope)
    }

    fn load_pretrained(&self, params: &Params) -> Result<Option<String>> {
        let Some(name) = self.keys.encoder.pretrained() else { return Ok(None) };
        let path = super::weights_path(name)?;
        let report = load_pretrained(params, "encoder", &path, self.architecture.monai_levels())?;
        Ok(Some(format!("{} tensors of {}", report.loaded.len(), path.display())))
    }

    /// The middle of each volume, averaged down to 8 x 8 x 8.
    fn raw(&self, train: &Set, test: &Set, loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        Ok((self.intensities(train, loader)?, self.intensities(test, loader)?))
    }

    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        export::write(&self.architecture, &self.keys.method, &self.keys.augment, params, out)
    }

    fn corruptible(&self) -> Option<&dyn Corruptible<Self>> {
        Some(self)
    }

    fn preview(&self, batch: &Views, set: &Set) -> Result<Vec<String>> {
        #[cfg(not(feature = "vision"))]
        let _ = set;
        let mut lines = Vec::new();
        for (i, view) in batch.globals.iter().chain(&batch.targets).enumerate() {
            let values: Vec<f32> = floats(view)?;
            let (low, high) =
                values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
            lines.push(format!("view {i}: {:?}, values {low:.3} to {high:.3}, mean {mean:.3}", view.dims()));
        }
        #[cfg(feature = "vision")]
        {
            let scans = self.shown(batch, set)?;
            let picture = preview::middle_slices(batch, &scans, self.keys.method.name())?;
            lines.push(format!("middle slices, that of the whole volume on the left: {}", picture.display()));
        }
        Ok(lines)
    }

    fn private(&self) -> bool {
        true
    }

    #[cfg(feature = "vision")]
    fn shows(&self) -> Option<&dyn super::Shows> {
        Some(self)
    }

    #[cfg(feature = "vision")]
    fn draws(&self) -> Option<&dyn super::Draws<Views>> {
        Some(self)
    }
}

/// Pixels of the longer side of a slice on a page.
#[cfg(feature = "vision")]
const SHOWN_SIDE: u32 = 96;

#[cfg(feature = "vision")]
impl super::Shows for Medical {
    /// The middle axial slice, between its first and its last percentile.
    fn show(&self, set: &Set, index: usize) -> Result<super::Shown> {
        use selfsup_medical::{Window, image};
        use selfsup_vision::image::{Image, Pixels};
        use selfsup_vision::thumbnail::{Encoded, thumbnail};
        let scans = self.scans(&set.part(vec![index])?)?;
        let scan = scans.first().ok_or_else(|| Error::input("volumes", "none"))?;
        let slice = image::slice(&**scan, image::Plane::Axial, scan.grid().shape()[0] / 2)?;
        let [height, width] = slice.shape.map(|n| n as u32);
        let grey = slice.to_u8(Some(Window::of_percentiles(&slice.values, 1.0, 99.0)));
        let picture = Image::new(width, height, 1, Pixels::U8(grey))?;
        let Encoded { mime, bytes } = thumbnail(&picture, SHOWN_SIDE)?;
        Ok(super::Shown::Picture { mime, bytes })
    }
}
