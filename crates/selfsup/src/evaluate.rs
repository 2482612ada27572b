//! The evaluation of an encoder: features of labelled samples by the trained encoder, by the same encoder
//! with random weights, and features that need none, side by side.

use crate::config::{EvalConfig, Read};
use crate::geometry::Geometry;
use crate::modality::{Modality, with_noise};
use crate::set::{Labelled, Set};
use candle_core::Device;
use selfsup_core::data::{LoadedBatch, LoaderConfig};
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::{Batch, Inputs};
use selfsup_core::run::counted;
use selfsup_core::{Encoder, Error, Key, Result};
use selfsup_eval::episodes::{EpisodeConfig, Episodes, Interval, episodes};
use selfsup_eval::knn::KnnConfig;
use selfsup_eval::linear::LogisticConfig;
use selfsup_eval::protocol::{EvalInput, FeatureSet, Named, ProbeReport, evaluate_with_logits};
use selfsup_eval::{Matrix, Means, collapse};
use std::fmt::Write as _;
use std::time::Instant;

/// Features of all samples of `set`, `(n, d)`, without augmentation, as `read` says. A modality may give
/// several inputs of one sample (patches of a volume, windows of a recording): then it is their mean,
/// weighted by [`Modality::weights`]; means and deviations of parts become those of the whole.
///
/// # Errors
/// If a sample cannot be read or has no input, or a feature is not finite.
pub fn encode<M: Modality>(
    modality: &M,
    encoder: &dyn Encoder,
    set: &Set,
    read: Read,
    loader: &LoaderConfig,
    device: &Device,
) -> Result<Matrix> {
    let all = encode_each(modality, &[encoder], set, read, loader, device)?;
    all.into_iter().next().ok_or_else(|| Error::input("features", "of no encoder"))
}

/// The same of several encoders, for which every sample is read once.
///
/// # Errors
/// As [`encode`].
pub fn encode_each<M: Modality>(
    modality: &M,
    encoders: &[&dyn Encoder],
    set: &Set,
    read: Read,
    loader: &LoaderConfig,
    device: &Device,
) -> Result<Vec<Matrix>> {
    let all = encoded(modality, encoders, set, read, loader, device)?;
    all.into_iter().map(|rows| rows.matrix(set.len())).collect()
}

/// The features of [`encode`]; nothing where one is not finite, as those of weights that blew up.
///
/// # Errors
/// If a sample cannot be read or has no input.
pub fn encode_finite<M: Modality>(
    modality: &M,
    encoder: &dyn Encoder,
    set: &Set,
    read: Read,
    loader: &LoaderConfig,
    device: &Device,
) -> Result<Option<Matrix>> {
    let all = encoded(modality, &[encoder], set, read, loader, device)?;
    let finite = all.into_iter().find(|rows| rows.values.iter().all(|v| v.is_finite()));
    finite.map(|rows| rows.matrix(set.len())).transpose()
}

/// Features of `set` by each encoder, as they came.
fn encoded<M: Modality>(
    modality: &M,
    encoders: &[&dyn Encoder],
    set: &Set,
    read: Read,
    loader: &LoaderConfig,
    device: &Device,
) -> Result<Vec<Rows>> {
    let inputs = modality.inputs(set, false, loader.clone())?;
    let batches = counted("features: batch", &*inputs)?;
    pooled(modality, encoders, set.len(), read, batches, device)
}

/// Features of every input of `set` by itself, `(n, d)`: of the patches of a volume, the windows of a
/// recording.
///
/// # Errors
/// As [`encode`].
pub fn encode_parts<M: Modality>(
    modality: &M,
    encoder: &dyn Encoder,
    set: &Set,
    read: Read,
    loader: &LoaderConfig,
    device: &Device,
) -> Result<Matrix> {
    let inputs = modality.inputs(set, false, loader.clone())?;
    let (mut values, mut n, mut width) = (Vec::new(), 0, encoder.dim());
    for loaded in counted("features: batch", &*inputs)? {
        let batch = loaded?.batch.to_device(device)?;
        let features = modality.features(encoder, &batch, read)?;
        let (rows, d) = features.dims2()?;
        (n, width) = (n + rows, d);
        values.extend(floats(&features)?);
    }
    Matrix::new(values, n, width)
}

/// The features of [`encode`] of one epoch of augmented inputs: each epoch draws other views of a sample.
///
/// # Errors
/// As [`encode`].
pub fn encode_views<M: Modality>(
    modality: &M,
    encoder: &dyn Encoder,
    set: &Set,
    read: Read,
    loader: &LoaderConfig,
    device: &Device,
    epoch: u64,
) -> Result<Matrix> {
    let inputs = modality.inputs(set, true, loader.clone())?;
    let batches = inputs.epoch_from(epoch, 0)?;
    let all = pooled(modality, &[encoder], set.len(), read, batches, device)?;
    let rows = all.into_iter().next().ok_or_else(|| Error::input("features", "of no encoder"))?;
    rows.matrix(set.len())
}

/// Features as they came, `(n, d)`, which may be infinite or no numbers.
struct Rows {
    values: Vec<f32>,
    d: usize,
}

impl Rows {
    fn matrix(self, n: usize) -> Result<Matrix> {
        Matrix::new(self.values, n, self.d)
    }
}

/// Features of `n` samples by each encoder, each the mean over its inputs.
fn pooled<M: Modality>(
    modality: &M,
    encoders: &[&dyn Encoder],
    n: usize,
    read: Read,
    batches: impl Iterator<Item = Result<LoadedBatch<Inputs>>>,
    device: &Device,
) -> Result<Vec<Rows>> {
    let mut all: Vec<Option<Means>> = encoders.iter().map(|_| None).collect();
    for loaded in batches {
        let batch = loaded?.batch.to_device(device)?;
        let weights = modality.weights(&batch)?;
        for (encoder, sums) in encoders.iter().zip(&mut all) {
            let features = modality.features(*encoder, &batch, read)?;
            let (_, d) = features.dims2()?;
            let rows: Vec<f32> = floats(&features)?;
            let sums = sums.get_or_insert_with(|| match read {
                Read::Pooled => Means::new(n, d),
                Read::Statistics => Means::of_statistics(n, d, encoder.dim()),
            });
            for ((&i, row), weight) in batch.indices.iter().zip(rows.chunks_exact(d.max(1))).zip(&weights) {
                sums.weigh(i, row, *weight)?;
            }
        }
    }
    let matrix = |(sums, encoder): (Option<Means>, &&dyn Encoder)| {
        let sums = sums.unwrap_or_else(|| Means::new(n, encoder.dim()));
        Ok(Rows { d: sums.width(), values: sums.rows()? })
    };
    all.into_iter().zip(encoders).map(matrix).collect()
}

/// What a probe found.
#[derive(serde::Serialize)]
pub struct Probed {
    /// Accuracies.
    #[serde(flatten)]
    pub report: ProbeReport,
    /// Whether the trained encoder has collapsed, on the test samples.
    pub collapse: collapse::CollapseReport,
    /// Measures of the test features that need no labels, by set of features.
    pub geometry: Named<Geometry>,
    /// What the features without an encoder are.
    pub raw: &'static str,
    /// Accuracies on test samples in noise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub noisy: Vec<InNoise>,
}

/// Accuracies on test samples in noise, of neighbours and probes of clean samples.
#[derive(serde::Serialize)]
pub struct InNoise {
    /// Signal over noise in decibels.
    pub snr_db: f32,
    /// kNN, by set of features.
    pub knn: Named<f64>,
    /// Linear probe on all labels.
    pub linear: Named<f64>,
}

/// Few-shot episodes.
#[derive(serde::Serialize)]
pub struct FewShot {
    /// With one labelled sample of each class, then with five; by set of features.
    pub episodes: Vec<Named<Episodes>>,
    /// What the features without an encoder are.
    pub raw: &'static str,
    /// What it took.
    pub seconds: f64,
}

impl FewShot {
    /// As a table.
    pub fn shown(&self) -> String {
        let mut out = format!("{:<34}{:>16}{:>16}{:>16}\n", "", "trained", "random encoder", self.raw);
        let shown = |i: &Interval| format!("{:.1} ± {:.1}", i.mean, i.half);
        for named in &self.episodes {
            let all: Vec<&Episodes> = named.0.iter().map(|(_, e)| e).collect();
            let Some(first) = all.first() else { continue };
            let (ways, shots) = (first.config.ways, first.config.shots);
            for (how, of) in [("nearest mean", 0), ("logistic", 1)] {
                let cells = all.iter().map(|e| shown(if of == 0 { &e.nearest } else { &e.logistic }));
                let cells: Vec<String> = cells.map(|c| format!("{c:>16}")).collect();
                let _ =
                    writeln!(out, "{:<34}{}", format!("{ways}-way {shots}-shot, {how}, %"), cells.concat());
            }
        }
        let _ =
            writeln!(out, "(mean of {} episodes and its 95% interval)", EpisodeConfig::default().episodes);
        out
    }
}

/// Names of the sets of features, in their order.
pub const SETS: [&str; 3] = ["trained", "random", "raw"];

/// Features of the training and the test samples, in the order of [`SETS`].
pub struct Sides {
    /// Of the training samples.
    pub train: [Matrix; 3],
    /// Of the test samples.
    pub test: [Matrix; 3],
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
    /// Features of a set, read by `modality`: of the trained encoder and of the random one.
    fn encoded(&self, modality: &M, set: &Set) -> Result<[Matrix; 2]> {
        let loader = LoaderConfig::in_order(self.eval.batch_size, self.workers);
        let of = |encoder: &dyn Encoder| encode(modality, encoder, set, self.eval.read, &loader, self.device);
        Ok([of(self.trained)?, of(self.random)?])
    }

    /// Few-shot episodes on the test samples: of five classes, or as many as there are, with one and with five
    /// labelled samples each.
    ///
    /// # Errors
    /// If a sample cannot be read, or there are too few samples of a class.
    pub fn episodes(&self, data: &Labelled) -> Result<FewShot> {
        let (_, labels, classes) = data.labels()?;
        let started = Instant::now();
        let loader = LoaderConfig::in_order(self.eval.batch_size, self.workers);
        let [trained, random] = self.encoded(self.modality, &data.test)?;
        let raw = self.modality.raw(&data.train, &data.test, &loader)?.1;
        let mut present = labels.clone();
        present.sort_unstable();
        present.dedup();
        let mut found = FewShot { episodes: Vec::new(), raw: M::RAW, seconds: 0.0 };
        for shots in [1, 5] {
            let config = EpisodeConfig { ways: present.len().clamp(2, 5), shots, ..EpisodeConfig::default() };
            let of = |z: &Matrix| episodes(z.view(), &labels, classes, &config, Key::new(0));
            let sets = [("trained", &trained), ("random", &random), ("raw", &raw)];
            let each = sets.into_iter().map(|(name, z)| Ok((name.to_string(), of(z)?)));
            found.episodes.push(Named(each.collect::<Result<_>>()?));
        }
        found.seconds = started.elapsed().as_secs_f64();
        Ok(found)
    }

    fn report(
        &self,
        data: &Labelled,
        train: &[Matrix; 3],
        test: &[Matrix; 3],
        few: &[usize],
    ) -> Result<(ProbeReport, Named<Vec<f32>>)> {
        let (train_labels, test_labels, classes) = data.labels()?;
        let sets: Vec<FeatureSet> = SETS
            .into_iter()
            .zip(train.iter().zip(test))
            .map(|(name, (train, test))| FeatureSet { name, train: train.view(), test: test.view() })
            .collect();
        let mut input = EvalInput::new(&sets, &train_labels, &test_labels, classes);
        input.few = few;
        input.draws = self.eval.draws;
        input.knn = KnnConfig { k: self.eval.knn_k, temperature: self.eval.knn_temperature };
        input.linear = LogisticConfig { c: self.eval.c, ..LogisticConfig::default() };
        evaluate_with_logits(&input)
    }

    /// Features of both sides of `data`: of the trained encoder, the random one, and without an encoder.
    ///
    /// # Errors
    /// If a sample cannot be read, or there are no labels.
    pub fn sides(&self, data: &Labelled) -> Result<Sides> {
        data.labels()?;
        self.sides_of(&data.train, &data.test)
    }

    /// The same of samples whose labels do not matter.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub fn sides_of(&self, train: &Set, test: &Set) -> Result<Sides> {
        let loader = LoaderConfig::in_order(self.eval.batch_size, self.workers);
        let three = |[trained, random]: [Matrix; 2], raw: Matrix| [trained, random, raw];
        let (raw_train, raw_test) = self.modality.raw(train, test, &loader)?;
        Ok(Sides {
            train: three(self.encoded(self.modality, train)?, raw_train),
            test: three(self.encoded(self.modality, test)?, raw_test),
        })
    }

    /// Evaluates on labelled samples; on the test samples also in noise, at each of `snr` decibels of signal
    /// over `noise` ([`with_noise`]).
    ///
    /// # Errors
    /// If a sample cannot be read, there are no labels, or samples of the modality have no such ratio.
    pub fn run(&self, data: &Labelled, snr: &[f32], noise: &str) -> Result<Probed> {
        data.labels()?;
        let noisy = self.noisy(snr, noise)?;
        Ok(self.run_on(data, &self.sides(data)?, &noisy)?.0)
    }

    /// The modality in noise, at each of `snr` decibels of signal over `noise`.
    ///
    /// # Errors
    /// As [`with_noise`].
    pub fn noisy(&self, snr: &[f32], noise: &str) -> Result<Vec<(f32, M)>> {
        snr.iter().map(|&db| Ok((db, with_noise(self.modality, db, noise)?))).collect()
    }

    /// As [`Probe::run`] on features that are there already, and in the noise of [`Probe::noisy`]; returns beside what was found the logits of the test
    /// samples, `(m, classes)`, by the linear probe of each set on all labels.
    ///
    /// # Errors
    /// As [`Probe::run`].
    pub fn run_on(
        &self,
        data: &Labelled,
        sides: &Sides,
        noisy: &[(f32, M)],
    ) -> Result<(Probed, Named<Vec<f32>>)> {
        let loader = LoaderConfig::in_order(self.eval.batch_size, self.workers);
        let three = |[trained, random]: [Matrix; 2], raw: Matrix| [trained, random, raw];
        let Sides { train, test } = sides;
        let (report, logits) = self.report(data, train, test, &self.eval.few)?;
        let geometry = SETS
            .into_iter()
            .zip(test)
            .map(|(name, z)| Ok((name.to_string(), Geometry::of(z.view())?)))
            .collect::<Result<_>>()?;
        let mut found = Probed {
            report,
            collapse: collapse::diagnose(test[0].view())?,
            geometry: Named(geometry),
            raw: M::RAW,
            noisy: Vec::new(),
        };
        for (snr_db, modality) in noisy {
            let snr_db = *snr_db;
            let raw = modality.raw(&data.train, &data.test, &loader)?.1;
            let test = three(self.encoded(modality, &data.test)?, raw);
            let report = self.report(data, train, &test, &[])?.0;
            found.noisy.push(InNoise { snr_db, knn: report.knn, linear: report.linear });
        }
        Ok((found, logits))
    }
}
