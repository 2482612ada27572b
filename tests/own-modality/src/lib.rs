//! Signals as a modality: a CSV whose rows are a label and the values of one signal. Everything that images
//! and volumes have (contrastive methods, exact resumption, the probe with its baselines, reports) serves
//! them, and nothing inside the workspace knows of them.

mod network;
mod rows;

use candle_core::{Device, Tensor};
use network::{Signal, SignalKeys};
use rows::Rows;
use selfsup::config::{Keys, PretrainConfig};
use selfsup::core::checkpoint::save_safetensors;
use selfsup::core::data::{Collate, Dataset, Loader, LoaderConfig, Source, Transform};
use selfsup::core::objective::{Inputs, Method, Networks, Views, Wanted};
use selfsup::core::{Encoder, Error, Key, Params, Result, Rng, Scope, TokenEncoder, weights};
use selfsup::datasets::{Kind, Records};
use selfsup::eval::Matrix;
use selfsup::modality::Modality;
use selfsup::set::Set;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

selfsup_core::methods_over_views! {
    /// `[method]`: all methods over views.
    pub enum MethodConfig {}
}

/// `[augment]`: what makes a view of a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Standard deviation of the noise.
    pub noise: f32,
    /// Smallest and largest factor.
    pub scale: [f32; 2],
}

impl Default for AugmentConfig {
    fn default() -> Self {
        AugmentConfig { noise: 0.1, scale: [0.8, 1.25] }
    }
}

/// The sections of signals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignalSections {
    /// The objective.
    pub method: MethodConfig,
    /// The network.
    pub encoder: SignalKeys,
    /// The views.
    pub augment: AugmentConfig,
}

/// Signals.
pub const SIGNALS: Kind = Kind::new("signals", "signals");

impl Keys for SignalSections {
    const KIND: Kind = SIGNALS;
    const METHODS: &'static [&'static str] = &MethodConfig::NAMES;

    fn method(&self) -> &str {
        self.method.name()
    }

    fn encoder(&self) -> &str {
        "mlp"
    }

    fn forget_pretrained(&mut self, _run: &Path) {}
}

/// Signals as the command works with them.
pub struct Signals {
    keys: SignalSections,
}

impl Networks for SignalKeys {
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Signal::new(scope, self)?))
    }

    fn tokens(&self, _scope: &Scope) -> Result<Box<dyn TokenEncoder>> {
        Err(Error::config("this method hides patches, and signals have none here"))
    }
}

/// Values of the records.
struct Values(Arc<dyn Records>);

impl Dataset for Values {
    type Item = Vec<f32>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Vec<f32>> {
        rows::values(&self.0.get(index)?)
    }
}

/// Makes so many views of a signal: scaled, with noise; or one as it is.
struct Augment {
    views: usize,
    by: Option<AugmentConfig>,
}

impl Transform<Vec<f32>> for Augment {
    type Out = Vec<Vec<f32>>;

    fn apply(&self, signal: Vec<f32>, rng: &mut Rng) -> Result<Vec<Vec<f32>>> {
        let Some(by) = &self.by else { return Ok(vec![signal]) };
        Ok((0..self.views)
            .map(|_| {
                let factor = rng.range_f32(by.scale[0], by.scale[1]);
                signal.iter().map(|v| factor * v + by.noise * rng.normal()).collect()
            })
            .collect())
    }
}

/// Stacks views, `(N, 1, T)` each.
struct Stacked;

impl Collate<Vec<Vec<f32>>> for Stacked {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Vec<f32>>>, indices: &[usize], _key: Key) -> Result<Views> {
        let views = items.first().map_or(0, Vec::len);
        let stack = |v: usize| -> Result<Tensor> {
            let rows: Vec<&[f32]> = items.iter().map(|item| item[v].as_slice()).collect();
            let length = rows.first().map_or(0, |r| r.len());
            if rows.iter().any(|r| r.len() != length) {
                return Err(Error::input(
                    "batch",
                    format!("signals of different lengths, expected {length}"),
                ));
            }
            Ok(Tensor::from_vec(rows.concat(), (rows.len(), 1, length), &Device::Cpu)?)
        };
        Ok(Views::of((0..views).map(stack).collect::<Result<_>>()?, indices.to_vec()))
    }
}

/// The same with labels, for the encoder alone.
struct Labelled(Arc<dyn Records>);

impl Collate<Vec<Vec<f32>>> for Labelled {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Vec<Vec<f32>>>, indices: &[usize], key: Key) -> Result<Inputs> {
        let views = Stacked.collate(items, indices, key)?;
        let x = views.globals.into_iter().next().ok_or_else(|| Error::input("batch", "no signals"))?;
        let labels = indices.iter().filter_map(|&i| self.0.label(i)).collect();
        Ok(Inputs { x, valid: None, labels, indices: views.indices })
    }
}

impl Signals {
    fn augment(&self, wanted: Wanted) -> Augment {
        Augment { views: wanted.globals(), by: Some(self.keys.augment.clone()) }
    }
}

impl Modality for Signals {
    type Keys = SignalSections;
    type Batch = Views;

    const RAW: &'static str = "raw values";
    const LAYOUTS: &'static [&'static str] = &["safetensors"];

    fn new(config: &PretrainConfig<SignalSections>) -> Result<Self> {
        Ok(Signals { keys: config.keys.clone() })
    }

    fn open(&self, what: &str) -> Result<Set> {
        Ok(Set::new(Rows::read(Path::new(what))?))
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Views>>> {
        let wanted = self.keys.method.over_views().map_or(Wanted::Plain, |m| m.wanted());
        let (data, augment) = (Values(set.records().clone()), self.augment(wanted));
        Ok(Box::new(Loader::new(Arc::new(data), Arc::new(augment), Arc::new(Stacked), loader)?))
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let transform = if augment { self.augment(Wanted::Plain) } else { Augment { views: 1, by: None } };
        let (data, stacked) = (Values(set.records().clone()), Labelled(set.records().clone()));
        Ok(Box::new(Loader::new(Arc::new(data), Arc::new(transform), Arc::new(stacked), loader)?))
    }

    fn method(&self, scope: &Scope) -> Result<Method<Views>> {
        match self.keys.method.over_views() {
            Some(method) => method.build(scope, &self.keys.encoder),
            None => Err(Error::config("method: expected one over views")),
        }
    }

    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.keys.encoder.encoder(scope)
    }

    fn load_pretrained(&self, _params: &Params) -> Result<Option<String>> {
        Ok(None)
    }

    fn raw(&self, train: &Set, test: &Set, _loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        let of = |set: &Set| -> Result<Matrix> {
            let rows =
                (0..set.len()).map(|i| rows::values(&set.records().get(i)?)).collect::<Result<Vec<_>>>()?;
            let d = rows.first().map_or(0, Vec::len);
            Matrix::new(rows.concat(), set.len(), d)
        };
        Ok((of(train)?, of(test)?))
    }

    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        let tensors: Vec<_> = weights::export(params, "encoder").into_iter().collect();
        save_safetensors(out.join("model.safetensors"), &tensors)
    }

    fn preview(&self, batch: &Views, _set: &Set) -> Result<Vec<String>> {
        Ok(batch.globals.iter().map(|view| format!("view: {:?}", view.dims())).collect())
    }
}
