//! Images: `[method]`, `[encoder]` and `[augment]` of `selfsup-vision`, records decoded by the transforms,
//! pixels as the baseline.

mod corrupt;
mod detection;
mod export;
mod pictures;
mod placed;
mod raw;
mod recipes;
mod segmentation;
#[cfg(feature = "medical")]
mod slices;
mod tasks;

use super::{Augmented, Corruptible, Draws, FactorDraw, Method, Modality, Shown, Shows};
use crate::config::{self, PretrainConfig};
use crate::recipe::{Given, Seen, span};
use crate::set::{Set, evenly};
use selfsup_core::config::Unread;
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source};
use selfsup_core::objective::{BatchRate, Inputs, Lowered, Views, Wanted};
use selfsup_core::{Encoder, Error, Key, Params, Result, Scope};
use selfsup_datasets::{Kind, Reading, Record, Records, Source as Place};
use selfsup_eval::Matrix;
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::corrupt::Corrupt;
use selfsup_vision::data::{Collated, Colours, Content, Planes, Sample};
use selfsup_vision::image::{Image, Pixels};
use selfsup_vision::names::{Released, load_pretrained};
use selfsup_vision::preview::{brightest, contact_sheet};
use selfsup_vision::recipe::{Architecture, EncoderConfig, MethodConfig, ViTKeys};
use selfsup_vision::thumbnail::{Encoded, thumbnail};
use selfsup_vision::transform::Factor;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Table;

/// The sections of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// The objective.
    pub method: MethodConfig,
    /// The network.
    pub encoder: EncoderConfig,
    /// The views.
    pub augment: AugmentConfig,
    /// Pictures of volumes.
    #[cfg(feature = "medical")]
    #[serde(skip_serializing_if = "is_default")]
    pub volumes: super::medical::volumes::VolumeConfig,
}

#[cfg(feature = "medical")]
fn is_default(volumes: &super::medical::volumes::VolumeConfig) -> bool {
    *volumes == Default::default()
}

impl config::Keys for Keys {
    const KIND: Kind = Kind::Vision;
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
        tokens.then(|| ViTKeys::default().name)
    }

    fn outline(&self) -> String {
        format!("{} on views of {} px", self.encoder.name(), self.augment.size)
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        self.method.over_views_mut()?.fit(samples)
    }

    fn rate(&self) -> BatchRate {
        self.method.over_views().map_or(BatchRate::Linear, |m| m.rate())
    }

    fn resolve(&mut self) {
        if self.augment.size == 0 {
            self.augment.size = 224;
        }
    }

    fn of_weights(pretrained: &str, encoder: Option<&str>) -> Option<Table> {
        let path = super::weights_path(pretrained).ok()?;
        Released::outline(path).ok()?.described().ok()?.layer(encoder).ok()
    }

    fn forget_pretrained(&mut self, _run: &Path) {
        self.encoder.set_pretrained(None);
    }

    #[cfg(feature = "medical")]
    fn leave_nothing(&mut self) {
        if self.volumes.slices.is_some() {
            self.volumes.leave_nothing();
        }
    }

    fn unread(&self, task: Option<&str>) -> Vec<Unread> {
        // A single view is all that a task takes too.
        let (wanted, who) = match task {
            None => (self.method.wanted(), format!("method {}", self.method.name())),
            Some(task) => (Wanted::Plain, task.to_string()),
        };
        #[allow(unused_mut)]
        let mut unread = AugmentConfig::unread(wanted, &who);
        if !matches!(task, Some("segmentation" | "detection")) {
            let why = format!("is read for segmentation and detection, not for {who}");
            unread.extend(Unread::all("data", &["targets"], &why));
        }
        if wanted.crops() && self.augment.local_views == 0 {
            let why = "is that of small crops: set augment.local_views above 0";
            unread.extend(Unread::all("augment", &["local_size", "local_scale"], why));
        }
        #[cfg(feature = "medical")]
        unread.extend(self.volumes.unread(self.volumes.slices, task));
        unread
    }
}

/// Samples that a preview shows.
const SHOWN: usize = 8;
/// Images that are looked at for their sizes.
const LOOKED: usize = 12;

/// Images.
pub struct Vision {
    keys: Keys,
    architecture: Architecture,
    max_pixels: u64,
    reading: Reading,
    /// How images are corrupted that are measured.
    corrupt: Option<Corrupt>,
    /// Where volumes are kept whose slices are the images.
    #[cfg(feature = "medical")]
    volumes: Option<Arc<selfsup_medical::blocks::Store>>,
}

/// Records as encoded images.
#[derive(Clone)]
struct Images(Arc<dyn Records>);

impl Dataset for Images {
    type Item = Sample;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let Record { id, source, .. } = self.0.get(index)?;
        let content = match source {
            Place::File(path) => Content::File(path),
            Place::Bytes(bytes) => Content::Bytes(bytes),
            Place::Pixels { width, height, channels, data } => {
                Content::Pixels { width, height, channels, data }
            }
        };
        Ok(Sample { id, content })
    }
}

/// The views of a method, with the labels of their records if it reads them.
struct WithLabels {
    records: Arc<dyn Records>,
    labels: bool,
}

impl Collate<Vec<Planes>> for WithLabels {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Planes>>, indices: &[usize], key: Key) -> Result<Views> {
        let mut views = Collated.collate(items, indices, key)?;
        if self.labels {
            views.labels = indices.iter().map(|&i| self.records.label(i)).collect();
        }
        Ok(views)
    }
}

/// Single views with the labels of their records; in gray where the encoder has never seen colours.
struct Stacked(Arc<dyn Records>, Option<Colours>);

impl Collate<Vec<Planes>> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Vec<Planes>>, indices: &[usize], key: Key) -> Result<Inputs> {
        let views = Collated.collate(items, indices, key)?;
        let x = views.globals.into_iter().next().ok_or_else(|| Error::input("batch", "no views"))?;
        let x = match &self.1 {
            Some(colours) => colours.part(&x)?.0,
            None => x,
        };
        let labels: Vec<u32> = indices.iter().filter_map(|&i| self.0.label(i)).collect();
        Ok(Inputs { x, valid: None, labels, indices: views.indices })
    }
}

/// Views whose brightest value is below this are next to black: 12 bits in 16 are at most a sixteenth.
const DARK: f32 = 0.1;

impl Vision {
    /// How colours are told from gray, for a method that learns from the difference.
    fn colours(&self) -> Option<Colours> {
        let AugmentConfig { mean, std, .. } = self.keys.augment;
        self.keys.method.grays().then_some(Colours { mean, std })
    }
}

impl Modality for Vision {
    type Keys = Keys;
    type Batch = Views;

    const RAW: &'static str = "raw pixels";
    const LAYOUTS: &'static [&'static str] = &["timm", "hf"];

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        let keys = config.keys.clone();
        #[cfg(feature = "medical")]
        if keys.volumes.slices.is_none() && !is_default(&keys.volumes) {
            return Err(Error::config(
                "[volumes] without volumes.slices: images are cut from volumes as axial, coronal, sagittal or stored",
            ));
        }
        let architecture = keys.encoder.resolve(keys.augment.size, keys.method.needs())?;
        if let Some(name) = keys.encoder.pretrained() {
            let released = Released::outline(super::weights_path(name)?)?;
            keys.encoder.agree(&architecture, &released)?;
            keys.augment.agree(&released)?;
        }
        #[cfg(feature = "medical")]
        let volumes = keys.volumes.slices.is_some().then(|| keys.volumes.store()).transpose()?;
        Ok(Vision {
            keys,
            architecture,
            max_pixels: config.data.max_pixels,
            reading: config.data.reading(),
            corrupt: None,
            #[cfg(feature = "medical")]
            volumes,
        })
    }

    fn seen(config: &PretrainConfig<Keys>, given: &Given) -> Result<Seen> {
        let images = Images(Vision::new(config)?.open(&config.data.path)?.records().clone());
        let decode = |i: usize| images.get(i)?.decode(config.data.max_pixels);
        let looked = evenly(LOOKED.min(images.len()), images.len());
        let found: Vec<Image> = looked.filter_map(|i| decode(i).ok()).collect();
        let sides = |of: &dyn Fn(&Image) -> u32| found.iter().map(|i| of(i) as usize).collect::<Vec<_>>();
        let looks = recipes::Looks {
            sides: sides(&|i| i.width.min(i.height)),
            gray: !found.is_empty() && found.iter().all(|i| i.channels == 1),
            crops: config.keys.method.wanted().crops(),
            patches: match &config.keys.encoder {
                EncoderConfig::ViT(keys) => Some(keys.patch),
                _ => None,
            },
        };
        let deep = found.iter().any(|i| matches!(i.data, Pixels::U16(_)));
        let data = format!(
            "{} x {} pixels, {} bit, {}",
            span(&sides(&|i| i.width)),
            span(&sides(&|i| i.height)),
            if deep { 16 } else { 8 },
            if looks.gray { "grey" } else { "colour" }
        );
        let tokens = config.keys.method.needs().tokens;
        Ok(Seen { data, recipes: recipes::recipes(&looks, tokens, given) })
    }

    fn reading(&self) -> Reading {
        self.reading.clone()
    }

    fn open(&self, what: &str) -> Result<Set> {
        #[cfg(feature = "medical")]
        if let Some(store) = &self.volumes {
            let pictures = slices::Pictures::open(what, &self.keys.volumes, self.reading.layout, store)?;
            return Ok(Set::new(pictures));
        }
        Ok(Set::new(selfsup_datasets::open_kind_with(what, Kind::Vision, &self.reading)?))
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Views>>> {
        let views = self.keys.augment.views(
            self.keys.method.wanted(),
            self.keys.encoder.channels(),
            self.max_pixels,
        )?;
        let labels = self.keys.method.over_views().is_some_and(|m| m.reads_labels());
        let labelled = WithLabels { records: set.records().clone(), labels };
        let images = Arc::new(Images(set.records().clone()));
        Ok(match self.colours() {
            Some(colours) => Box::new(Loader::new(images, Arc::new(views), Arc::new(colours), loader)?),
            None => Box::new(Loader::new(images, Arc::new(views), Arc::new(labelled), loader)?),
        })
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let (augmentation, channels) = (&self.keys.augment, self.keys.encoder.channels());
        let view = if augment {
            // One view is cropped and flipped, and keeps its colours.
            augmentation.views(Wanted::Plain, channels, self.max_pixels)?
        } else {
            let view = augmentation.evaluation(channels, self.max_pixels)?;
            self.corrupt.map_or(view.clone(), |corrupt| view.corrupted(corrupt))
        };
        let stacked = Stacked(set.records().clone(), self.colours());
        Ok(Box::new(Loader::new(
            Arc::new(Images(set.records().clone())),
            Arc::new(view),
            Arc::new(stacked),
            loader,
        )?))
    }

    fn augmented(&self, set: &Set, range: Range<usize>, key: Key) -> Result<Option<Augmented<Views>>> {
        let wanted = self.keys.method.wanted();
        // A method that compares nothing is shown the views that others compare.
        let seen = if wanted.compares() { wanted } else { Wanted::Joint(1) };
        let views = self.keys.augment.views(seen, self.keys.encoder.channels(), self.max_pixels)?;
        let images = Images(set.records().clone());
        let (mut made, mut factors) = (Vec::new(), Vec::new());
        for i in range.clone() {
            let (planes, told) = views.told(images.get(i)?, &mut key.fold(i as u64).rng())?;
            made.push(planes);
            let draw = |f: Factor| FactorDraw { name: f.name, value: f.value, discrete: f.discrete };
            factors.push(told.into_iter().map(draw).collect());
        }
        let indices: Vec<usize> = range.collect();
        let batch = Collated.collate(made, &indices, key)?;
        let first = batch.globals.first().cloned().ok_or_else(|| Error::input("batch", "no views"))?;
        Ok(Some(Augmented { batch, first, factors, compared: wanted.compares() }))
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
        Ok(Some(load_pretrained(params, "encoder", &path)?.to_string()))
    }

    fn raw(&self, train: &Set, test: &Set, loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        raw::alike(self.pixels(train, loader)?, self.pixels(test, loader)?)
    }

    fn export(&self, params: &Params, out: &Path, layout: &str) -> Result<()> {
        let Keys { method, encoder, augment, .. } = &self.keys;
        let exported =
            export::Exported { architecture: &self.architecture, encoder, augment, method: method.name() };
        exported.write(params, out, layout)
    }

    fn preview(&self, batch: &Views, set: &Set) -> Result<Vec<String>> {
        let mut lines: Vec<String> = batch
            .globals
            .iter()
            .chain(&batch.locals)
            .enumerate()
            .map(|(i, view)| format!("view {i}: {:?}", view.dims()))
            .collect();
        let picture = PathBuf::from(format!("{}-augmentations.png", self.keys.method.name()));
        let images = Images(set.records().clone());
        let mut originals = Vec::new();
        for &index in batch.indices.iter().take(SHOWN) {
            originals.push(images.get(index)?.decode(self.max_pixels)?);
        }
        contact_sheet(batch, &self.keys.augment, SHOWN, &originals)?.save(&picture)?;
        lines.push(format!("augmentations, the original on the left: {}", picture.display()));
        let brightest = brightest(batch, &self.keys.augment)?;
        if brightest < DARK {
            lines.push(format!(
                "the views are almost black (brightest value {brightest:.3} of 1): for grey files of 16 bits \
                 whose values have 12, set augment.stretch = \"always\""
            ));
        }
        Ok(lines)
    }

    fn corruptible(&self) -> Option<&dyn Corruptible<Self>> {
        Some(self)
    }

    fn private(&self) -> bool {
        #[cfg(feature = "medical")]
        return self.volumes.is_some();
        #[cfg(not(feature = "medical"))]
        false
    }

    fn shows(&self) -> Option<&dyn Shows> {
        Some(self)
    }

    fn draws(&self) -> Option<&dyn Draws<Views>> {
        Some(self)
    }
}

/// Pixels of the longer side of a picture on a page.
const SHOWN_SIDE: u32 = 64;

impl Shows for Vision {
    fn show(&self, set: &Set, index: usize) -> Result<Shown> {
        let image = Images(set.records().clone()).get(index)?.decode(self.max_pixels)?;
        let Encoded { mime, bytes } = thumbnail(&image, SHOWN_SIDE)?;
        Ok(Shown::Picture { mime, bytes })
    }
}
