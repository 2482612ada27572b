//! The evaluation of an encoder: features of labelled samples by the trained encoder, by the same encoder with random weights, and features
//! that need none, side by side.

use crate::config::EvalConfig;
use crate::modality::Modality;
use crate::set::{Labelled, Set};
use candle_core::Device;
use selfsup_core::data::LoaderConfig;
use selfsup_core::objective::Batch;
use selfsup_core::trainer::{Look, Observer};
use selfsup_core::{Encoder, Pass, Result};
use selfsup_eval::knn::{KnnConfig, classify};
use selfsup_eval::linear::LogisticConfig;
use selfsup_eval::protocol::{EvalInput, FeatureSet, ProbeReport, evaluate};
use selfsup_eval::{Matrix, collapse};

/// Reads all samples in order.
pub fn in_order(batch_size: usize, workers: usize) -> LoaderConfig {
    LoaderConfig { batch_size: batch_size.max(1), workers, prefetch: 2, drop_last: false, shuffle: false, seed: 0, max_bad_fraction: 0.0 }
}

/// Pooled features of all samples of `set`, `(n, d)`, without augmentation.
///
/// # Errors
/// If a sample cannot be read, or a feature is not finite.
pub fn encode<M: Modality>(modality: &M, encoder: &dyn Encoder, set: &Set, loader: &LoaderConfig, device: &Device) -> Result<Matrix> {
    let (mut rows, mut n) = (Vec::new(), 0);
    for loaded in modality.inputs(set, false, loader.clone())?.epoch_from(0, 0)? {
        let batch = loaded?.batch.to_device(device)?;
        let features = encoder.forward(&batch.x, batch.valid.as_ref(), &[], &Pass::eval())?.pooled.detach();
        n += features.dim(0)?;
        rows.extend(features.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Matrix::new(rows, n, encoder.dim())
}

/// What a probe found.
#[derive(serde::Serialize)]
pub struct Probed {
    /// Accuracies.
    #[serde(flatten)]
    pub report: ProbeReport,
    /// Whether the trained encoder has collapsed, on the test samples.
    pub collapse: collapse::CollapseReport,
    /// What the features without an encoder are.
    pub raw: &'static str,
}

/// What is compared: the encoder, the same one as it was before training, and how samples are read.
pub struct Probe<'a, M> {
    /// The modality.
    pub modality: &'a M,
    /// The trained encoder.
    pub trained: &'a dyn Encoder,
    /// The encoder with random weights.
    pub random: &'a dyn Encoder,
    /// What is measured.
    pub eval: &'a EvalConfig,
    /// Threads that read.
    pub workers: usize,
    /// Where the encoders live.
    pub device: &'a Device,
}

impl<M: Modality> Probe<'_, M> {
    /// Evaluates on labelled samples.
    ///
    /// # Errors
    /// If a sample cannot be read or there are no labels.
    pub fn run(&self, data: &Labelled) -> Result<Probed> {
        let (train_labels, test_labels, classes) = data.labels()?;
        let loader = in_order(self.eval.batch_size, self.workers);
        let of = |encoder: &dyn Encoder, set: &Set| encode(self.modality, encoder, set, &loader, self.device);
        let both = |e: &dyn Encoder| -> Result<(Matrix, Matrix)> { Ok((of(e, &data.train)?, of(e, &data.test)?)) };
        let (a, b) = (both(self.trained)?, both(self.random)?);
        let raw = self.modality.raw(&data.train, &data.test, &loader)?;
        let sets: Vec<FeatureSet> = [("trained", &a), ("random", &b), ("raw", &raw)]
            .into_iter()
            .map(|(name, (train, test))| FeatureSet { name, train: train.view(), test: test.view() })
            .collect();
        let mut input = EvalInput::new(&sets, &train_labels, &test_labels, classes);
        input.few = &self.eval.few;
        input.draws = self.eval.draws;
        input.knn = KnnConfig { k: self.eval.knn_k, temperature: self.eval.knn_temperature };
        input.linear = LogisticConfig { c: self.eval.c, ..LogisticConfig::default() };
        Ok(Probed { report: evaluate(&input)?, collapse: collapse::diagnose(a.1.view())?, raw: M::RAW })
    }
}

/// kNN accuracy on a part of the labelled samples, during training.
pub struct OnlineKnn<'a, M> {
    modality: &'a M,
    data: Labelled,
    labels: (Vec<u32>, Vec<u32>, usize),
    knn: KnnConfig,
    loader: LoaderConfig,
}

impl<'a, M: Modality> OnlineKnn<'a, M> {
    /// Looks at the first `eval.online_knn` samples of each side.
    ///
    /// # Errors
    /// If there are no labels.
    pub fn new(modality: &'a M, data: Labelled, eval: &EvalConfig, workers: usize) -> Result<Self> {
        let data = Labelled { train: data.train.limit(eval.online_knn)?, test: data.test.limit(eval.online_knn)? };
        let labels = data.labels()?;
        let knn = KnnConfig { k: eval.knn_k.min(labels.0.len()), temperature: eval.knn_temperature };
        Ok(OnlineKnn { modality, data, labels, knn, loader: in_order(eval.batch_size, workers) })
    }
}

impl<M: Modality> Observer for OnlineKnn<'_, M> {
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>> {
        let of = |set: &Set| encode(self.modality, look.encoder, set, &self.loader, look.device);
        let (train, test) = (of(&self.data.train)?, of(&self.data.test)?);
        let votes = classify(train.view(), &self.labels.0, test.view(), self.labels.2, &self.knn)?;
        let right = votes.predictions.iter().zip(&self.labels.1).filter(|(p, y)| p == y).count();
        let health = collapse::diagnose(test.view())?;
        Ok(vec![
            ("knn".into(), 100.0 * right as f64 / self.labels.1.len().max(1) as f64),
            ("effective_rank".into(), health.effective_rank),
            ("feature_spread".into(), health.spread),
        ])
    }

    fn decides(&self) -> Option<&'static str> {
        Some("knn")
    }
}
