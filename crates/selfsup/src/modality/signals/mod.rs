//! Signals: `[method]`, `[encoder]`, `[augment]` and `[signal]` of `selfsup-signals`. The embedding of a signal
//! is the mean over windows that lie evenly over it. Its samples as they are, are the baseline.

mod about;
mod agreed;
mod batches;
mod recipes;
pub(crate) mod series;
mod tasks;

use super::{Method, Modality};
use crate::config::{self, PretrainConfig};
use crate::recipe::{Given, Seen, span};
use crate::set::{Set, evenly};
use batches::{Drawn, Labelled, Numbered, WithLabels};
use candle_core::Tensor;
use recipes::{Shape, Wants};
use selfsup_core::checkpoint::{pretty_json, save_safetensors, write_text};
use selfsup_core::config::Unread;
use selfsup_core::data::{Loader, LoaderConfig, Source};
use selfsup_core::objective::{BatchRate, Inputs, Lowered, Views, Wanted};
use selfsup_core::weights::{self, Options};
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use selfsup_datasets::{Kind, Layout, Reading, Split};
use selfsup_eval::Matrix;
use selfsup_signals::Recording;
use selfsup_signals::augment::AugmentConfig;
use selfsup_signals::data::Evenly;
use selfsup_signals::prepare::SignalConfig;
use selfsup_signals::recipe::{Architecture, EncoderConfig, METHODS, MethodConfig, PatchKeys, PatchTstKeys};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Signals whose shapes are looked at.
const LOOKED: usize = 16;

/// The sections of signals.
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
    pub signal: SignalConfig,
}

impl config::Keys for Keys {
    const KIND: Kind = Kind::Signals;
    const METHODS: &'static [&'static str] = METHODS;

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
        if method == "masked-patches" {
            return Some(PatchTstKeys::default().name);
        }
        let tokens = MethodConfig::named(method).is_ok_and(|m| m.needs().tokens);
        tokens.then(|| PatchKeys::default().name)
    }

    fn outline(&self) -> String {
        format!("{} on views of {} samples", self.encoder.name(), self.augment.length)
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        self.method.over_views_mut()?.fit(samples)
    }

    fn rate(&self) -> BatchRate {
        self.method.over_views().map_or(BatchRate::Fixed, |m| m.rate())
    }

    fn resolve(&mut self) {
        if self.encoder.channels().is_none() && !self.signal.channels.is_empty() {
            self.encoder.set_channels(self.signal.channels.len());
        }
    }

    fn forget_pretrained(&mut self, _run: &Path) {
        self.encoder.set_pretrained(None);
    }

    fn unread(&self, task: Option<&str>) -> Vec<Unread> {
        let (wanted, who) = match task {
            None => (self.method.wanted(), self.method.name()),
            Some(task) => (Wanted::Joint(1), task),
        };
        let mut unread = AugmentConfig::unread(wanted, who);
        if self.signal.band.is_none() {
            unread.extend(Unread::all("signal", &["order"], "is that of signal.band"));
        }
        if self.augment.hum <= 0.0 {
            unread.extend(Unread::all("augment", &["hum_hz"], "is that of augment.hum"));
        }
        if self.method.name() == "i-jepa" {
            let why = "is the shape of a block in a plane: a block of a series has a length alone";
            unread.extend(Unread::all("method", &["target_ratio"], why));
        }
        unread
    }
}

/// Signals as the command works with them.
pub struct Signals {
    keys: Keys,
    architecture: Architecture,
    layout: Layout,
}

impl Signals {
    fn drawn(&self, set: &Set, times: usize) -> Drawn {
        Drawn { records: set.records().clone(), config: self.keys.signal.clone(), times }
    }

    /// The middle of each signal, sample by sample.
    fn samples(&self, set: &Set) -> Result<Matrix> {
        let middle = Evenly { length: self.keys.augment.length, windows: 1 };
        let mut values = Vec::new();
        for i in 0..set.len() {
            let window = series::window(&set.records().get(i)?, &self.keys.signal)?;
            values.extend_from_slice(middle.window(&window, 0).values());
        }
        let d = values.len() / set.len().max(1);
        Matrix::new(values, set.len(), d)
    }
}

/// Paths that encoders lie below: transformers' PatchTST, ours, a weight average's, TS2Vec's own.
const PATHS: [&str; 4] = ["model.encoder.", "encoder.", "module.", ""];

/// The encoder's tensors of a file, each by its name below the first of [`PATHS`] that is there, and the names of all
/// others: what is not below that path is of a head.
fn own(tensors: BTreeMap<String, Tensor>) -> (BTreeMap<String, Tensor>, Vec<String>) {
    let path = PATHS.into_iter().find(|p| tensors.keys().any(|k| k.starts_with(p))).unwrap_or_default();
    let (mut inside, mut left) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in tensors {
        match name.strip_prefix(path) {
            Some(inner) => drop(inside.insert(inner.to_string(), tensor)),
            None => left.push(name),
        }
    }
    (inside, left)
}

impl Modality for Signals {
    type Keys = Keys;
    type Batch = Views;

    const RAW: &'static str = "raw samples";
    const LAYOUTS: &'static [&'static str] = &["native"];

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        let keys = config.keys.clone();
        keys.signal.check()?;
        keys.augment.check(keys.method.wanted(), keys.signal.rate)?;
        let architecture = keys.encoder.resolve(keys.augment.length, keys.method.needs())?;
        Ok(Signals { keys, architecture, layout: config.data.layout })
    }

    fn seen(config: &PretrainConfig<Keys>, given: &Given) -> Result<Seen> {
        let keys = &config.keys;
        let set = series::open(&config.data.path, config.data.layout)?;
        let read =
            |i: usize| -> Result<Recording> { series::recording(&set.records().get(i)?, &keys.signal) };
        let recordings: Vec<Recording> =
            evenly(LOOKED.min(set.len()), set.len()).filter_map(|i| read(i).ok()).collect();
        let mut signal = keys.signal.clone();
        agreed::agree(&recordings, &mut signal);
        let shape = |r: &Recording| -> Result<Shape> {
            let window = signal.prepare(r, "signal")?;
            Ok(Shape { channels: window.channels(), length: window.len() })
        };
        let shapes: Vec<Shape> = recordings.iter().filter_map(|r| shape(r).ok()).collect();
        let of = |f: fn(&Shape) -> usize| span(&shapes.iter().map(f).collect::<Vec<_>>());
        let wants = Wants {
            signals: (0..set.len()).filter(|i| set.records().split(*i) != Some(Split::Test)).count(),
            patches: keys.method.needs().tokens,
            steps: matches!(keys.method, MethodConfig::Ts2Vec(_)),
            length: keys.augment.length,
        };
        let mut recipe = recipes::recipe(&shapes, wants, given);
        if let (None, Some(rate)) = (keys.signal.rate, signal.rate) {
            recipe = recipe.with("signal.rate", rate);
        }
        if keys.signal.channels.is_empty() && !signal.channels.is_empty() {
            recipe = recipe.with("signal.channels", signal.channels);
        }
        Ok(Seen {
            data: format!("{} channels, {} samples", of(|s| s.channels), of(|s| s.length)),
            recipes: vec![recipe],
        })
    }

    fn reading(&self) -> Reading {
        Reading { layout: self.layout, ..Reading::default() }
    }

    fn open(&self, what: &str) -> Result<Set> {
        series::open(what, self.layout)
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Views>>> {
        let (method, times) = (&self.keys.method, self.keys.signal.draws);
        let views = self.keys.augment.views(method.wanted(), self.keys.signal.rate)?;
        let labels = method.over_views().is_some_and(|m| m.reads_labels());
        let stacked = WithLabels { records: set.records().clone(), times, labels };
        Ok(Box::new(Loader::new(
            Arc::new(self.drawn(set, times)),
            Arc::new(views),
            Arc::new(stacked),
            loader,
        )?))
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let records = set.records().clone();
        if augment {
            let views = self.keys.augment.views(Wanted::Joint(1), self.keys.signal.rate)?;
            let stacked = Labelled { records, times: 1 };
            return Ok(Box::new(Loader::new(
                Arc::new(self.drawn(set, 1)),
                Arc::new(views),
                Arc::new(stacked),
                loader,
            )?));
        }
        let times = self.keys.signal.windows;
        let windows = Evenly { length: self.keys.augment.length, windows: times };
        let data = Numbered(self.drawn(set, times));
        let stacked = Labelled { records, times };
        Ok(Box::new(Loader::new(Arc::new(data), Arc::new(windows), Arc::new(stacked), loader)?))
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
        let mut tensors = weights::read(&path)?;
        tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
        let (tensors, left) = own(tensors);
        let report = weights::load_into(params, &tensors, "encoder", &Options::default())
            .map_err(|e| Error::file(&path, e))?;
        let rest = if left.is_empty() { String::new() } else { format!("; left: {}", left.join(", ")) };
        Ok(Some(format!("{} tensors of {}{rest}", report.loaded.len(), path.display())))
    }

    /// The middle of each signal as it is.
    fn raw(&self, train: &Set, test: &Set, _loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        Ok((self.samples(train)?, self.samples(test)?))
    }

    /// The encoder under its own names, which `encoder.pretrained` reads, and the sections that it was built
    /// with.
    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        let named = weights::export(params, "encoder").into_iter().map(|(n, t)| (format!("encoder.{n}"), t));
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        save_safetensors(out.join("model.safetensors"), &named.collect::<Vec<_>>())?;
        write_text(&out.join("config.json"), &pretty_json(&self.keys)?)
    }

    fn about(&self, set: &Set) -> Result<Vec<String>> {
        Ok(about::lines(set.records().as_ref(), &self.keys.signal))
    }

    fn preview(&self, batch: &Views, _set: &Set) -> Result<Vec<String>> {
        let line = |(i, view): (usize, &Tensor)| -> Result<String> {
            let values: Vec<f32> = view.flatten_all()?.to_vec1()?;
            let (low, high) =
                values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            Ok(format!("view {i}: {:?}, values {low:.3} to {high:.3}", view.dims()))
        };
        batch.globals.iter().chain(&batch.locals).enumerate().map(line).collect()
    }

    fn private(&self) -> bool {
        true
    }
}
