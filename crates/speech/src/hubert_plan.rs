//! HuBERT in one go (Hsu et al. 2021, arXiv 2106.07447): cluster MFCCs, train on the clusters, cluster a block of what was trained, train
//! again from the start; as many iterations as `method.iterations` lists.
//!
//! Each clustering and each training is a stage of a [`Plan`] in a folder of its own (`1-clusters`, `1-training`, `2-clusters` ...), so a
//! run that was stopped goes on where it was: a finished stage is recognised, a training resumes from its newest checkpoint. k-means sees the
//! frames of recordings in random order until it has `max_frames`; then every recording is labelled. Labels keep the instants of the frames
//! that they were made from, and a crop's encoder frames take the labels of the nearest instants.

use crate::batch::{Target, Waves};
use crate::encoder::SpeechConfig;
use crate::features::{Extractor, Frames};
use crate::methods::{ClusterFeatures, Hubert, HubertConfig, Iteration};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use selfsup_core::checkpoint::save_safetensors;
use selfsup_core::cluster::{ClusterConfig, Clusters};
use selfsup_core::data::{LoadedBatch, Permutation, Source};
use selfsup_core::optim::OptimConfig;
use selfsup_core::plan::Plan;
use selfsup_core::run::{Display, Run};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Observer, Summary, TrainConfig, Trainer};
use selfsup_core::{Encoder, Error, Key, Layer, Objective, Params, Pass, Result, Scope, weights};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Recordings that are read and labelled at one time.
const BLOCK: usize = 16;

/// Samples of a recording that go through the encoder at once, about: 20 s. Attention grows with the square of it.
const PIECE: usize = 320_000;

/// What HuBERT is trained on: whole recordings for clustering, batches of crops for training.
pub struct Recordings<'a> {
    /// Recordings; batches refer to them by index.
    pub count: usize,
    /// The whole recording `i` as the encoder is to see it, at its rate.
    pub load: &'a (dyn Fn(usize) -> Result<Vec<f32>> + Sync),
    /// Batches whose `indices` and `starts` say which part of which recording each wave is. Augmentation must not change the time.
    pub source: &'a dyn Source<Waves>,
    /// Features of the first clustering: MFCCs with first and second differences.
    pub mfcc: &'a Extractor,
    /// Samples a second.
    pub rate: u32,
}

/// The settings of all stages.
#[derive(Clone, Debug)]
pub struct HubertPlan {
    /// The method, with its iterations.
    pub method: HubertConfig,
    /// The encoder, the same in all iterations.
    pub encoder: SpeechConfig,
    /// How each training runs.
    pub train: TrainConfig,
    /// Its optimiser.
    pub optim: OptimConfig,
    /// How frames are clustered.
    pub clustering: ClusterConfig,
    /// Frames that k-means sees, at most.
    pub max_frames: usize,
}

/// The name of the folder of iteration `i`'s training, counted from 0.
pub fn training_stage(i: usize) -> String {
    format!("{}-training", i + 1)
}

/// The folder, below that of a plan, in which the last training of `method` is a run like any other.
pub fn final_run(dir: &Path, method: &HubertConfig) -> PathBuf {
    dir.join(training_stage(method.iterations.len().saturating_sub(1)))
}

impl HubertPlan {
    /// Runs all stages in `dir` that are not finished, and returns the method of the last and what its training was. `observers` are made
    /// anew for each training.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a stop; what a stage reports; settings that differ from those of finished stages.
    pub fn run(
        &self,
        dir: &Path,
        data: &Recordings<'_>,
        device: &Device,
        display: &dyn Fn() -> Display,
        stop: &Stop,
        observers: &dyn Fn(usize) -> Vec<Box<dyn Observer>>,
    ) -> Result<(Hubert, Summary)> {
        let mut plan = Plan::open(dir)?;
        let mut last: Option<(Hubert, Summary)> = None;
        for (i, iteration) in self.method.iterations.iter().enumerate() {
            let settings = json!({ "iteration": iteration, "clustering": self.clustering, "max_frames": self.max_frames,
                "seed": self.train.seed, "recordings": data.count });
            let previous = last.as_ref().map(|(method, _)| method);
            let clusters = plan.stage(&format!("{}-clusters", i + 1), &settings, |dir| {
                display().note(&format!("iteration {}: {} clusters of {:?}", i + 1, iteration.clusters, iteration.features));
                self.cluster(iteration, previous, data, stop, dir)
            })?;
            let labels = FrameLabels::read(&clusters.join("clusters.safetensors"))?;
            let params = Params::new();
            let method =
                Hubert::new(&Scope::root(&params, self.train.seed, device), self.encoder.clone(), self.method.clone(), iteration.clusters)?;
            let settings = json!({ "iteration": iteration, "method": self.method, "train": self.train, "optim": self.optim, "encoder": self.encoder.to_hf() });
            let name = training_stage(i);
            let mut made = None;
            let folder = plan.folder(&name);
            let train = || self.train(&method, iteration, data, &labels, &folder, device, display(), stop, observers(i));
            plan.stage(&name, &settings, |_| {
                made = Some(train()?);
                Ok(())
            })?;
            // A finished training is loaded by the same call: its newest checkpoint is at the end.
            let summary = match made {
                Some(summary) => summary,
                None => train()?,
            };
            last = Some((method, summary));
        }
        last.ok_or_else(|| Error::config("method.iterations is empty: expected at least one"))
    }

    #[allow(clippy::too_many_arguments)]
    fn train(
        &self,
        method: &Hubert,
        iteration: &Iteration,
        data: &Recordings<'_>,
        labels: &FrameLabels,
        dir: &Path,
        device: &Device,
        display: Display,
        stop: &Stop,
        observers: Vec<Box<dyn Observer>>,
    ) -> Result<Summary> {
        let mut config = self.train.clone();
        if iteration.steps > 0 {
            config.steps = iteration.steps;
        }
        let text = json!({ "method": "hubert", "iteration": iteration });
        let toml = format!("# One training of a plan; the whole configuration is in the folder above.\nstage = '{text}'\n");
        let mut run = if dir.join("config.toml").is_file() { Run::resume(dir, None)?.0 } else { Run::create(dir, &toml)? };
        data.source.restore_counts(0, 0);
        let source = Labelled { inner: data.source, labels, encoder: &self.encoder, rate: data.rate };
        let per_epoch = data.source.batches() as u64;
        let mut trainer = Trainer::new(method, config, &self.optim, per_epoch, device)?.with_display(display).with_stop(stop.clone());
        for observer in observers {
            trainer = trainer.with_observer(Boxed(observer));
        }
        let summary = trainer.fit(&source, &mut run)?;
        run.write_result(&summary)?;
        Ok(summary)
    }

    fn cluster(&self, iteration: &Iteration, previous: Option<&Hubert>, data: &Recordings<'_>, stop: &Stop, dir: &Path) -> Result<()> {
        let layer = match iteration.features {
            ClusterFeatures::Mfcc => None,
            ClusterFeatures::Layer(n) => {
                let model = previous.ok_or_else(|| Error::config("method.iterations: the first has no model before it"))?;
                let depth = self.encoder.depth;
                if n == 0 || n > depth {
                    return Err(Error::config(format!("method.iterations: layer {n}, expected 1 to {depth}, the encoder's blocks")));
                }
                Some((model, n - 1))
            }
        };
        let features = |i: usize| -> Result<Frames> {
            let wave = (data.load)(i)?;
            let made = match layer {
                None => data.mfcc.compute(&wave),
                Some((model, layer)) => layer_frames(model, layer, &wave, data.rate),
            };
            made.map_err(|e| Error::input(format!("recording {i}"), e))
        };
        let key = Key::new(self.train.seed).named("clusters");
        let order = Permutation::new(data.count, key.named("order"));
        let (mut rows, mut dim) = (Vec::new(), 0);
        for block in (0..data.count).step_by(BLOCK) {
            let chosen: Vec<usize> = (block..(block + BLOCK).min(data.count)).filter_map(|i| order.at(i)).collect();
            for frames in chosen.par_iter().map(|&i| features(i)).collect::<Vec<_>>() {
                let frames = frames?;
                dim = frames.dim();
                rows.extend_from_slice(frames.as_slice());
            }
            halted(stop, dir)?;
            if rows.len() >= self.max_frames.saturating_mul(dim) {
                break;
            }
        }
        rows.truncate(self.max_frames.saturating_mul(dim));
        let found = Clusters::fit(&rows, dim, iteration.clusters, &self.clustering, key.named("fit"))?;
        drop(rows);
        let mut labels = FrameLabels { centre: 0.0, step: 0.0, labels: Vec::with_capacity(data.count) };
        for block in (0..data.count).step_by(BLOCK) {
            let all: Vec<usize> = (block..(block + BLOCK).min(data.count)).collect();
            let made: Vec<Result<(Vec<u32>, f64, f64)>> = all
                .par_iter()
                .map(|&i| {
                    let frames = features(i)?;
                    Ok((found.assign(frames.as_slice())?, frames.centre, frames.step))
                })
                .collect();
            for made in made {
                let (ids, centre, step) = made?;
                (labels.centre, labels.step) = (centre, step);
                labels.labels.push(ids);
            }
            halted(stop, dir)?;
        }
        labels.write(&dir.join("clusters.safetensors"), &found)
    }
}

/// A stop during clustering loses the stage, which is short beside a training.
fn halted(stop: &Stop, dir: &Path) -> Result<()> {
    if stop.requested() { Err(Error::Interrupted { step: 0, checkpoint: dir.to_path_buf() }) } else { Ok(()) }
}

/// The output of block `layer` (from 0) for a whole recording, in pieces of about 20 s whose frames join without a gap.
fn layer_frames(model: &Hubert, layer: usize, wave: &[f32], rate: u32) -> Result<Frames> {
    let c = model.speech().config();
    let (hop, field) = (c.hop(), c.receptive_field());
    let total = c.frames(wave.len());
    if total == 0 {
        return Err(Error::input("wave", format!("{} samples, expected at least {field}", wave.len())));
    }
    let per = (PIECE / hop).max(1);
    let mut values = Vec::with_capacity(total * c.dim);
    for first in (0..total).step_by(per) {
        let count = per.min(total - first);
        let part = &wave[first * hop..first * hop + (count - 1) * hop + field];
        let x = Tensor::from_slice(part, (1, part.len()), &Device::Cpu)?.to_device(&model_device(model))?;
        let features = model.speech().forward(&x, None, &[Layer::Hidden(layer)], &Pass::eval())?;
        let hidden = features.layers.first().ok_or_else(|| Error::config(format!("the encoder has no block {}", layer + 1)))?;
        values.extend(hidden.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?);
    }
    let rate = f64::from(rate);
    Frames::new(values, c.dim, field as f64 / 2.0 / rate, hop as f64 / rate)
}

fn model_device(model: &Hubert) -> Device {
    model.params().all().first().map_or(Device::Cpu, |p| p.var.device().clone())
}

/// A boxed observer is an observer.
struct Boxed(Box<dyn Observer>);

impl Observer for Boxed {
    fn observe(&mut self, look: &selfsup_core::trainer::Look<'_>) -> Result<Vec<(String, f64)>> {
        self.0.observe(look)
    }
}

/// A cluster for each frame of each recording, and the instants of the frames.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameLabels {
    /// Middle of the first frame, in seconds.
    pub centre: f64,
    /// Seconds between two frames.
    pub step: f64,
    /// Labels of each recording.
    pub labels: Vec<Vec<u32>>,
}

impl FrameLabels {
    /// The labels of a recording at `n` instants from `first` on, every `step` seconds: those of the nearest frames.
    ///
    /// # Errors
    /// If there is no such recording.
    pub fn at(&self, recording: usize, first: f64, step: f64, n: usize) -> Result<Vec<i64>> {
        let labels = self.labels.get(recording).filter(|l| !l.is_empty());
        let labels = labels.ok_or_else(|| Error::input(format!("sample {recording}"), "no cluster labels: made for other recordings"))?;
        let place = |t: usize| ((first + step * t as f64 - self.centre) / self.step).round().max(0.0) as usize;
        Ok((0..n).map(|t| i64::from(labels[place(t).min(labels.len() - 1)])).collect())
    }

    fn write(&self, path: &Path, clusters: &Clusters) -> Result<()> {
        let host = Device::Cpu;
        let lengths: Vec<u32> = self.labels.iter().map(|l| l.len() as u32).collect();
        let flat: Vec<u32> = self.labels.iter().flatten().copied().collect();
        let tensors = [
            ("centers", Tensor::from_slice(clusters.centers(), (clusters.k(), clusters.dim()), &host)?),
            ("labels", Tensor::from_slice(&flat, flat.len(), &host)?),
            ("lengths", Tensor::from_slice(&lengths, lengths.len(), &host)?),
            // Nanoseconds as whole numbers: an f32 of seconds would drift over a long recording.
            ("timing", Tensor::new(&[nanos(self.centre), nanos(self.step)], &host)?),
        ];
        save_safetensors(path, &tensors.map(|(name, t)| (name.to_string(), t)))
    }

    /// Reads what a clustering wrote.
    ///
    /// # Errors
    /// If the file cannot be read or is not whole.
    pub fn read(path: &Path) -> Result<Self> {
        let tensors = weights::read(path)?;
        let integers = |name: &str| -> Result<Vec<i64>> {
            let t = tensors.get(name).ok_or_else(|| Error::file(path, format!("no tensor {name}")))?;
            Ok(t.to_dtype(candle_core::DType::I64)?.flatten_all()?.to_vec1()?)
        };
        let (flat, lengths, timing) = (integers("labels")?, integers("lengths")?, integers("timing")?);
        let whole = lengths.iter().all(|l| *l >= 0) && lengths.iter().sum::<i64>() == flat.len() as i64;
        let &[centre, step] = timing.as_slice() else { return Err(Error::file(path, "timing: expected two numbers")) };
        if !whole || step <= 0 || flat.iter().any(|l| u32::try_from(*l).is_err()) {
            return Err(Error::file(path, "labels, lengths and timing do not fit together"));
        }
        let mut flat = flat.into_iter().map(|l| l as u32);
        let labels = lengths.iter().map(|&l| flat.by_ref().take(l as usize).collect()).collect();
        Ok(FrameLabels { centre: centre as f64 * 1e-9, step: step as f64 * 1e-9, labels })
    }
}

fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// Batches of a source with the clusters of their frames as targets.
struct Labelled<'a> {
    inner: &'a dyn Source<Waves>,
    labels: &'a FrameLabels,
    encoder: &'a SpeechConfig,
    rate: u32,
}

impl Labelled<'_> {
    fn label(&self, mut loaded: LoadedBatch<Waves>) -> Result<LoadedBatch<Waves>> {
        let rate = f64::from(self.rate);
        let (hop, middle) = (self.encoder.hop() as f64 / rate, self.encoder.receptive_field() as f64 / 2.0 / rate);
        let batch = &mut loaded.batch;
        let mut targets = Vec::with_capacity(batch.lengths.len());
        for ((&index, &start), &length) in batch.indices.iter().zip(&batch.starts).zip(&batch.lengths) {
            targets.push(Target::Frames(self.labels.at(index, start as f64 / rate + middle, hop, self.encoder.frames(length))?));
        }
        batch.targets = targets;
        Ok(loaded)
    }
}

impl Source<Waves> for Labelled<'_> {
    fn batches(&self) -> usize {
        self.inner.batches()
    }

    fn epoch_from(&self, epoch: u64, first: usize) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Waves>>> + '_>> {
        Ok(Box::new(self.inner.epoch_from(epoch, first)?.map(|loaded| self.label(loaded?))))
    }

    fn counts(&self) -> (u64, u64) {
        self.inner.counts()
    }

    fn restore_counts(&self, bad: u64, seen: u64) {
        self.inner.restore_counts(bad, seen);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_nearest_instants() {
        // MFCC frames: middles at 12.5 ms, every 10 ms. Encoder frames: 12.5 ms, every 20 ms.
        let labels = FrameLabels { centre: 0.0125, step: 0.01, labels: vec![(0..10).collect()] };
        assert_eq!(labels.at(0, 0.0125, 0.02, 5).unwrap(), [0, 2, 4, 6, 8]);
        // A crop that starts 1,000 samples (62.5 ms) in: 75 ms is nearest to frame 6 (72.5 ms); the last label stands for what is beyond.
        assert_eq!(labels.at(0, 0.0625 + 0.0125, 0.02, 3).unwrap(), [6, 8, 9]);
        assert!(labels.at(1, 0.0, 0.02, 1).unwrap_err().to_string().contains("sample 1"));
    }

    #[test]
    fn labels_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clusters.safetensors");
        let labels = FrameLabels { centre: 0.0125, step: 0.01, labels: vec![vec![1, 0, 1], vec![], vec![2]] };
        labels.write(&path, &Clusters::new(vec![0.5; 6], 2).unwrap()).unwrap();
        assert_eq!(FrameLabels::read(&path).unwrap(), labels);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(FrameLabels::read(&path).is_err());
    }
}
