//! Signals as data sets of a loader: views for methods, windows for encoders.

use super::series::window;
use selfsup_core::data::{Collate, Dataset};
use selfsup_core::objective::{Inputs, Views};
use selfsup_core::{Error, Key, Result};
use selfsup_datasets::Records;
use selfsup_signals::augment::Made;
use selfsup_signals::data::Stacked;
use selfsup_signals::prepare::SignalConfig;
use selfsup_signals::window::Window;
use std::sync::Arc;

/// Each signal several times: item `i` is signal `i / times`.
pub(super) struct Drawn {
    pub(super) records: Arc<dyn Records>,
    pub(super) config: SignalConfig,
    pub(super) times: usize,
}

impl Dataset for Drawn {
    type Item = Window;

    fn len(&self) -> usize {
        self.records.len() * self.times
    }

    fn get(&self, index: usize) -> Result<Window> {
        window(&self.records.get(index / self.times)?, &self.config)
    }
}

/// The same with the number of the item among those of its signal.
pub(super) struct Numbered(pub(super) Drawn);

impl Dataset for Numbered {
    type Item = (Window, usize);

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<(Window, usize)> {
        Ok((self.0.get(index)?, index % self.0.times))
    }
}

/// Stacks views, with labels where the method reads some.
pub(super) struct WithLabels {
    pub(super) records: Arc<dyn Records>,
    pub(super) times: usize,
    pub(super) labels: bool,
}

impl Collate<Made> for WithLabels {
    type Batch = Views;

    fn collate(&self, items: Vec<Made>, indices: &[usize], key: Key) -> Result<Views> {
        let mut views = Stacked.collate(items, indices, key)?;
        if self.labels {
            views.labels = indices.iter().map(|i| self.records.label(i / self.times)).collect();
        }
        Ok(views)
    }
}

/// Stacks windows, with what is known of their signals.
pub(super) struct Labelled {
    pub(super) records: Arc<dyn Records>,
    pub(super) times: usize,
}

impl Collate<Made> for Labelled {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Made>, indices: &[usize], key: Key) -> Result<Inputs> {
        let views = Stacked.collate(items, indices, key)?;
        let x = views.globals.into_iter().next().ok_or_else(|| Error::input("batch", "no signals"))?;
        let indices: Vec<usize> = indices.iter().map(|i| i / self.times).collect();
        let labels = indices.iter().filter_map(|i| self.records.label(*i)).collect();
        Ok(Inputs { x, valid: None, labels, indices })
    }
}
