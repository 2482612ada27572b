//! The topic of a gloss from few labels: a probe on frozen features, and fine-tuning.

use crate::batches::{loader, rows};
use anyhow::Result;
use candle_core::{Device, Tensor};
use selfsup::core::optim::OptimConfig;
use selfsup::core::run::Run;
use selfsup::core::trainer::{TrainConfig, Trainer};
use selfsup::core::{Encoder, Key, Params, Pass, Rng, Scope, weights};
use selfsup::eval::metrics::Confusion;
use selfsup::eval::{Matrix, linear::CvConfig, linear::LinearProbe, linear::Standardizer};
use selfsup::text::batch::{Example, Sequences};
use selfsup::text::encoder::{Bert, BertConfig};
use selfsup::text::task::{SequenceClassifier, SequenceConfig};
use std::collections::BTreeMap;
use std::path::Path;

type Weights = BTreeMap<String, Tensor>;

/// The task: examples whose first target is their topic.
pub struct Topics<'a> {
    pub shape: BertConfig,
    pub train: &'a [Example],
    pub test: &'a [Example],
    pub classes: usize,
    pub pad: u32,
}

fn topics(examples: &[Example]) -> Vec<u32> {
    examples.iter().map(|e| e.targets[0] as u32).collect()
}

impl Topics<'_> {
    /// Mean-pooled features of the encoder that `start` holds.
    fn features(&self, encoder: &Bert, examples: &[Example]) -> Result<Matrix> {
        let pooled = |b: &Sequences| -> Result<Tensor> {
            Ok(encoder.forward(&b.input()?, b.valid.as_ref(), &[], &Pass::eval())?.pooled.detach())
        };
        Ok(Matrix::new(rows(examples, self.pad, pooled)?.concat(), examples.len(), encoder.dim())?)
    }

    /// Accuracy and macro F1 on the test glosses of a logistic probe on frozen features, for each number of
    /// labels; its strength is chosen inside the labels.
    pub fn probe(&self, start: &Weights, budgets: &[usize]) -> Result<Vec<(f64, f64)>> {
        let params = Params::new();
        let encoder = Bert::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), self.shape.clone())?;
        weights::load_into(&params, start, "encoder", &weights::Options::default())?;
        // Scales are those of unlabelled glosses.
        let known = self.features(&encoder, &self.train[..2000.min(self.train.len())])?;
        let scales = Standardizer::fit(known.view());
        let test = self.features(&encoder, self.test)?;
        budgets
            .iter()
            .map(|&labels| {
                let x = self.features(&encoder, &self.train[..labels])?;
                let y = topics(&self.train[..labels]);
                let (fit, _) = LinearProbe::fit_few(
                    x.view(),
                    &y,
                    self.classes,
                    &CvConfig::default(),
                    Some(&scales),
                    Key::new(0),
                )?;
                self.score(&fit.predict(test.view())?)
            })
            .collect()
    }

    /// The same after training encoder and head on the first `labels` glosses, from `start` or from scratch;
    /// the run is kept in `dir`.
    pub fn fine_tune(
        &self,
        start: Option<&Weights>,
        labels: usize,
        seed: u64,
        dir: &Path,
    ) -> Result<(f64, f64)> {
        let params = Params::new();
        let config = SequenceConfig {
            classes: self.classes,
            pool: Some(self.shape.pool),
            ..SequenceConfig::default()
        };
        let task = SequenceClassifier::new(&Scope::root(&params, seed, &Device::Cpu), &self.shape, config)?;
        if let Some(start) = start {
            weights::load_into(&params, start, "encoder", &weights::Options::default())?;
        }
        let source =
            loader(self.train[..labels].to_vec(), |e: Example, _: &mut Rng| Ok(e), 16, true, seed, self.pad)?;
        // As many steps for both. Random weights need a higher rate, wider networks a lower one; neither was
        // chosen by the test glosses.
        let lr = if start.is_some() { 2e-4 } else { 1e-3 } * 256.0 / self.shape.dim as f64;
        let optim: OptimConfig = toml::from_str(&format!(
            "lr = {lr:e}\nweight_decay = 0.01\nclip_grad_norm = 1.0\nschedule = {{ kind = \"warmup_linear\" }}"
        ))?;
        let epochs = if labels <= 100 { 30 } else { 10 };
        let train = TrainConfig {
            epochs,
            batch_size: 16,
            seed,
            log_every: 10,
            eval_every: 0,
            keep_last: 1,
            ..TrainConfig::default()
        };
        // Half a run would have to be of the same settings: a cell is short, and made anew.
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        let mut run = Run::create(dir, "")?;
        Trainer::new(&task, train, &optim, labels.div_ceil(16) as u64, &Device::Cpu)?
            .fit(&source, &mut run)?;
        let scores = rows(self.test, self.pad, |b| Ok(task.predict(b)?))?;
        let best = |row: &Vec<f32>| {
            row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i as u32)
        };
        self.score(&scores.iter().map(best).collect::<Vec<_>>())
    }

    fn score(&self, said: &[u32]) -> Result<(f64, f64)> {
        let confusion = Confusion::new(said, &topics(self.test), self.classes)?;
        Ok((100.0 * confusion.accuracy(), 100.0 * confusion.macro_f1()))
    }
}
