//! The evaluation of an image encoder: features of labelled images by the trained encoder, by the same encoder with random weights, and raw
//! pixels, side by side.

use crate::config::EvalConfig;
use crate::images::Images;
use candle_core::Device;
use selfsup_core::data::{Loader, LoaderConfig};
use selfsup_core::trainer::{Look, Observer};
use selfsup_core::{Encoder, Error, Pass, Result};
use selfsup_eval::knn::{KnnConfig, classify};
use selfsup_eval::linear::LogisticConfig;
use selfsup_eval::protocol::{EvalInput, FeatureSet, ProbeReport, evaluate};
use selfsup_eval::{Matrix, collapse};
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::data::{Collated, Views};
use std::sync::Arc;

/// How images become inputs.
#[derive(Clone)]
pub struct Inputs {
    /// Centre crop and normalisation of the run.
    pub augment: AugmentConfig,
    /// Channels of the encoder.
    pub channels: usize,
    /// Images at once.
    pub batch_size: usize,
    /// Threads that decode.
    pub workers: usize,
    /// Largest image that is decoded.
    pub max_pixels: u64,
}

impl Inputs {
    /// Calls `f` with each batch of `images` in order, without augmentation.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn each(&self, images: &Images, mut f: impl FnMut(Views) -> Result<()>) -> Result<()> {
        let transform = self.augment.evaluation(self.channels, self.max_pixels)?;
        let config = LoaderConfig {
            batch_size: self.batch_size.max(1),
            workers: self.workers,
            prefetch: 2,
            drop_last: false,
            shuffle: false,
            seed: 0,
            max_bad_fraction: 0.0,
        };
        let loader = Loader::new(Arc::new(images.clone()), Arc::new(transform), Arc::new(Collated), config)?;
        for batch in loader.epoch_from(0, 0)? {
            f(batch?.batch)?;
        }
        Ok(())
    }

    /// Pooled features of all `images`, `(n, d)`.
    ///
    /// # Errors
    /// If an image cannot be read, or a feature is not finite.
    pub fn encode(&self, encoder: &dyn Encoder, images: &Images, device: &Device) -> Result<Matrix> {
        let (mut rows, mut n) = (Vec::new(), 0);
        self.each(images, |batch| {
            let x = batch.views[0].to_device(device)?;
            let features = encoder.forward(&x, None, &[], &Pass::eval())?.pooled.detach();
            n += features.dim(0)?;
            rows.extend(features.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?);
            Ok(())
        })?;
        Matrix::new(rows, n, encoder.dim())
    }

    /// Raw pixels of all `images`, averaged down to at most 28 by 28 so that large images do not cost a day; one channel where all are equal.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn pixels(&self, images: &Images) -> Result<Matrix> {
        let (mut rows, mut n, mut width) = (Vec::new(), 0, 0);
        let mut gray = true;
        self.each(images, |batch| {
            let (b, c, h, w) = batch.views[0].dims4()?;
            let mut x: Vec<f32> = batch.views[0].flatten_all()?.to_vec1()?;
            // Back to values in [0, 1].
            for (i, plane) in x.chunks_exact_mut(h * w).enumerate() {
                let (mean, std) = self.augment.channel(i % c, c);
                plane.iter_mut().for_each(|v| *v = *v * std + mean);
            }
            let step = (h.max(w)).div_ceil(28).max(1);
            let (oh, ow) = (h / step, w / step);
            width = c * oh * ow;
            for image in x.chunks_exact(c * h * w) {
                let first = &image[..h * w];
                gray &= image.chunks_exact(h * w).all(|p| p.iter().zip(first).all(|(a, b)| (a - b).abs() < 1e-4));
                for plane in image.chunks_exact(h * w) {
                    for y in 0..oh {
                        for x in 0..ow {
                            let mut sum = 0.0;
                            for dy in 0..step {
                                for dx in 0..step {
                                    sum += plane[(y * step + dy) * w + x * step + dx];
                                }
                            }
                            rows.push(sum / (step * step) as f32);
                        }
                    }
                }
            }
            n += b;
            Ok(())
        })?;
        if gray && self.channels == 3 {
            let one = width / 3;
            rows = rows.chunks_exact(width.max(1)).flat_map(|r| r[..one].to_vec()).collect();
            width = one;
        }
        Matrix::new(rows, n, width)
    }
}

/// Labelled images to fit on and to test on.
pub struct Labelled {
    /// To fit on.
    pub train: Images,
    /// To test on.
    pub test: Images,
}

impl Labelled {
    fn labels(&self) -> Result<(Vec<u32>, Vec<u32>, usize)> {
        let of = |images: &Images, what: &str| images.labels().ok_or_else(|| Error::input(what, "has no labels: nothing to evaluate on"));
        let classes = self.train.0.classes().len().max(self.test.0.classes().len());
        if self.train.0.classes() != self.test.0.classes() {
            return Err(Error::input(
                "test data",
                format!("classes {:?}, expected those of the training data {:?}", self.test.0.classes(), self.train.0.classes()),
            ));
        }
        Ok((of(&self.train, "training data")?, of(&self.test, "test data")?, classes))
    }
}

/// What a probe found.
#[derive(serde::Serialize)]
pub struct Probed {
    /// Accuracies.
    #[serde(flatten)]
    pub report: ProbeReport,
    /// Whether the trained encoder has collapsed, on the test images.
    pub collapse: collapse::CollapseReport,
}

/// Evaluates `trained` next to `random` and raw pixels.
///
/// # Errors
/// If an image cannot be read or there are no labels.
pub fn probe(
    inputs: &Inputs,
    trained: &dyn Encoder,
    random: &dyn Encoder,
    data: &Labelled,
    eval: &EvalConfig,
    device: &Device,
) -> Result<Probed> {
    let (train_labels, test_labels, classes) = data.labels()?;
    let both = |e: &dyn Encoder| -> Result<(Matrix, Matrix)> {
        Ok((inputs.encode(e, &data.train, device)?, inputs.encode(e, &data.test, device)?))
    };
    let (a, b) = (both(trained)?, both(random)?);
    let raw = (inputs.pixels(&data.train)?, inputs.pixels(&data.test)?);
    let sets: Vec<FeatureSet> = [("trained", &a), ("random", &b), ("raw", &raw)]
        .into_iter()
        .map(|(name, (train, test))| FeatureSet { name, train: train.view(), test: test.view() })
        .collect();
    let mut input = EvalInput::new(&sets, &train_labels, &test_labels, classes);
    input.few = &eval.few;
    input.draws = eval.draws;
    input.knn = KnnConfig { k: eval.knn_k, temperature: eval.knn_temperature };
    input.linear = LogisticConfig { c: eval.c, ..LogisticConfig::default() };
    Ok(Probed { report: evaluate(&input)?, collapse: collapse::diagnose(a.1.view())? })
}

/// kNN accuracy on a part of the labelled images, during training.
pub struct OnlineKnn {
    inputs: Inputs,
    data: Labelled,
    labels: (Vec<u32>, Vec<u32>, usize),
    knn: KnnConfig,
}

impl OnlineKnn {
    /// Looks at the first `count` images of each side.
    ///
    /// # Errors
    /// If there are no labels.
    pub fn new(inputs: Inputs, train: Images, test: Images, count: usize, knn: KnnConfig) -> Result<Self> {
        let data = Labelled { train: train.limit(count)?, test: test.limit(count)? };
        let labels = data.labels()?;
        let knn = KnnConfig { k: knn.k.min(labels.0.len()), ..knn };
        Ok(OnlineKnn { inputs, data, labels, knn })
    }
}

impl Observer for OnlineKnn {
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>> {
        let train = self.inputs.encode(look.encoder, &self.data.train, look.device)?;
        let test = self.inputs.encode(look.encoder, &self.data.test, look.device)?;
        let votes = classify(train.view(), &self.labels.0, test.view(), self.labels.2, &self.knn)?;
        let right = votes.predictions.iter().zip(&self.labels.1).filter(|(p, y)| p == y).count();
        let health = collapse::diagnose(test.view())?;
        Ok(vec![
            ("knn".into(), 100.0 * right as f64 / self.labels.1.len().max(1) as f64),
            ("effective_rank".into(), health.effective_rank),
            ("feature_spread".into(), health.spread),
        ])
    }
}
