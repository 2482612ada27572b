//! HuBERT in one go (Hsu et al. 2021, arXiv 2106.07447): cluster MFCCs, train on the clusters, cluster a
//! block of what was trained, train again from the start; as many iterations as `method.iterations` lists.
//!
//! Each clustering and each training is a stage of a [`Plan`] in a folder of its own (`1-clusters`,
//! `1-training`, `2-clusters` ...), so a run that was stopped goes on where it was: a finished stage is
//! recognised, a training resumes from its newest checkpoint. k-means sees the frames of recordings in random
//! order until it has `max_frames`; then every recording is labelled. Labels keep the instants of the frames
//! that they were made from, and a crop's encoder frames take the labels of the nearest instants.

use crate::batch::Waves;
pub use crate::cluster_labels::FrameLabels;
use crate::cluster_labels::Labelled;
use crate::encoder::SpeechConfig;
use crate::features::{Extractor, Frames};
use crate::layers::{Timing, layer_frames};
use crate::methods::usage::Usage;
use crate::methods::{Hubert, HubertConfig, Iteration};
use candle_core::Device;
use rayon::prelude::*;
use selfsup_core::cluster::{ClusterConfig, Clusters};
use selfsup_core::data::{Permutation, Source};
use selfsup_core::objective::Gauge;
use selfsup_core::optim::OptimConfig;
use selfsup_core::plan::Plan;
use selfsup_core::run::{Display, Run};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{Observer, Summary, TrainConfig, Trainer};
use selfsup_core::{Error, Key, Layer, Objective, Params, Result, Scope};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Recordings that are read and labelled at one time.
const BLOCK: usize = 16;

/// The data of HuBERT: whole recordings for clustering, batches of crops for training.
pub struct Recordings<'a> {
    /// Recordings; batches refer to them by index.
    pub count: usize,
    /// The whole recording `i` as the encoder is to see it, at its rate.
    pub load: &'a (dyn Fn(usize) -> Result<Vec<f32>> + Sync),
    /// Batches whose `indices` and `starts` say which part of which recording each wave is. Augmentation must
    /// not change the time.
    pub source: &'a dyn Source<Waves>,
    /// Features of the first clustering: MFCCs with first and second differences.
    pub mfcc: &'a Extractor,
    /// Samples a second.
    pub rate: u32,
    /// Gauges of the recordings, known before a step ([`Trainer::with_known`]).
    pub known: &'a [Gauge],
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
    /// The steps of each training, for batches of which an epoch has `per_epoch`.
    pub fn steps(method: &HubertConfig, train: &TrainConfig, per_epoch: u64) -> Vec<u64> {
        let own = |iteration: &Iteration| match iteration.steps {
            0 => train.total_steps(per_epoch),
            steps => steps,
        };
        method.iterations.iter().map(own).collect()
    }

    /// Runs all stages in `dir` that are not finished, and returns the method of the last and what its
    /// training was. `observers` are made anew for each training. Metrics and curves of all trainings are kept
    /// in the run of the `whole` too, one behind the other.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a stop; what a stage reports; settings that differ from those of finished
    /// stages.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        dir: &Path,
        whole: Option<&Run>,
        data: &Recordings<'_>,
        device: &Device,
        display: &dyn Fn() -> Display,
        stop: &Stop,
        observers: &dyn Fn(usize) -> Vec<Box<dyn Observer>>,
    ) -> Result<(Hubert, Summary)> {
        self.method.check_blocks(self.encoder.depth)?;
        let mut plan = Plan::open(dir)?;
        let mut last: Option<(Hubert, Summary)> = None;
        let (mut before, stages) = (0, 2 * self.method.iterations.len());
        let steps = Self::steps(&self.method, &self.train, data.source.batches() as u64);
        for (i, iteration) in self.method.iterations.iter().enumerate() {
            let settings = json!({ "iteration": iteration, "clustering": self.clustering, "max_frames": self.max_frames,
                "seed": self.train.seed, "recordings": data.count });
            let previous = last.as_ref().map(|(method, _)| method);
            let clusters = plan.stage(&format!("{}-clusters", i + 1), &settings, |dir| {
                display().note(&format!(
                    "stage {} of {stages}: {} clusters of {}",
                    2 * i + 1,
                    iteration.clusters,
                    iteration
                        .features
                        .block(self.encoder.depth)
                        .map_or("MFCCs".into(), |n| format!("block {n} of {}", self.encoder.depth))
                ));
                let used = self.cluster(iteration, previous, data, stop, dir)?;
                let bound = Usage::healthy_above(iteration.clusters);
                if used.perplexity() < bound {
                    display().note(&format!(
                        "warning: {} of {} clusters have frames, with a perplexity of {:.2} (healthy: {bound} \
                         and more): most frames sound alike, as silence does, and there is little to learn",
                        used.clusters(),
                        iteration.clusters,
                        used.perplexity()
                    ));
                }
                Ok(())
            })?;
            let labels = FrameLabels::read(&clusters.join("clusters.safetensors"))?;
            let params = Params::new();
            let method = Hubert::new(
                &Scope::root(&params, self.train.seed, device),
                self.encoder.clone(),
                self.method.clone(),
                iteration.clusters,
            )?;
            // Without the other iterations, so that one can be added to a plan that is finished.
            let alone = HubertConfig { iterations: Vec::new(), ..self.method.clone() };
            let settings = json!({ "iteration": iteration, "method": alone, "train": self.train, "optim": self.optim, "encoder": self.encoder.to_hf() });
            let name = training_stage(i);
            let mut made = None;
            let folder = plan.folder(&name);
            let train = |whole: Option<&Run>| {
                let run = stage_run(iteration, &folder)?;
                let run = match whole {
                    Some(whole) => run.within(whole, before)?,
                    None => run,
                };
                self.train(&method, iteration, data, &labels, run, device, display(), stop, observers(i))
            };
            plan.stage(&name, &settings, |_| {
                display().note(&format!("stage {} of {stages}: {} steps on them", 2 * i + 2, steps[i]));
                made = Some(train(whole)?);
                Ok(())
            })?;
            // A finished training is loaded by the same call: its newest checkpoint is at the end. The whole
            // has its metrics, and those of later trainings, which stay.
            let summary = match made {
                Some(summary) => summary,
                None => train(None)?,
            };
            before += steps[i];
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
        mut run: Run,
        device: &Device,
        display: Display,
        stop: &Stop,
        observers: Vec<Box<dyn Observer>>,
    ) -> Result<Summary> {
        let mut config = self.train.clone();
        if iteration.steps > 0 {
            config.steps = iteration.steps;
        }
        data.source.restore_counts(0, 0);
        let source = Labelled { inner: data.source, labels, encoder: &self.encoder, rate: data.rate };
        let per_epoch = data.source.batches() as u64;
        let mut trainer = Trainer::new(method, config, &self.optim, per_epoch, device)?
            .with_display(display)
            .with_known(data.known.to_vec())
            .with_stop(stop.clone());
        for observer in observers {
            trainer = trainer.with_observer(Boxed(observer));
        }
        let summary = trainer.fit(&source, &mut run)?;
        run.write_result(&summary)?;
        Ok(summary)
    }

    fn cluster(
        &self,
        iteration: &Iteration,
        previous: Option<&Hubert>,
        data: &Recordings<'_>,
        stop: &Stop,
        dir: &Path,
    ) -> Result<Usage> {
        let layer = match iteration.features.block(self.encoder.depth) {
            None => None,
            Some(n) => {
                let model = previous
                    .ok_or_else(|| Error::config("method.iterations: the first has no model before it"))?;
                Some((model, n.saturating_sub(1)))
            }
        };
        let features = |i: usize| -> Result<Frames> {
            let wave = (data.load)(i)?;
            let made = match layer {
                None => data.mfcc.compute(&wave),
                Some((model, layer)) => block_frames(model, layer, &wave, data.rate),
            };
            made.map_err(|e| Error::input(format!("recording {i}"), e))
        };
        let key = Key::new(self.train.seed).named("clusters");
        let order = Permutation::new(data.count, key.named("order"));
        let (mut rows, mut dim) = (Vec::new(), 0);
        for block in (0..data.count).step_by(BLOCK) {
            let chosen: Vec<usize> =
                (block..(block + BLOCK).min(data.count)).filter_map(|i| order.at(i)).collect();
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
        labels.write(&dir.join("clusters.safetensors"), &found)?;
        Ok(Usage::of(labels.labels.iter().flatten().copied()))
    }
}

/// The run of one training in `dir`: a new one, or the one that is there.
fn stage_run(iteration: &Iteration, dir: &Path) -> Result<Run> {
    if dir.join("config.toml").is_file() {
        return Ok(Run::resume(dir, None)?.0);
    }
    let text = json!({ "method": "hubert", "iteration": iteration });
    let toml = format!(
        "# One training of a plan; the whole configuration is in the folder above.\nstage = '{text}'\n"
    );
    Run::create(dir, &toml)
}

/// A stop during clustering loses the stage, which is short beside a training.
fn halted(stop: &Stop, dir: &Path) -> Result<()> {
    if stop.requested() { Err(Error::Interrupted { step: 0, checkpoint: dir.to_path_buf() }) } else { Ok(()) }
}

/// The output of block `layer` (from 0) for a whole recording.
fn block_frames(model: &Hubert, layer: usize, wave: &[f32], rate: u32) -> Result<Frames> {
    let timing = Timing::of(model.speech().config(), rate);
    let mut found =
        layer_frames(model.speech(), &[Layer::Hidden(layer)], wave, timing, &model_device(model))?;
    found.pop().ok_or_else(|| Error::config(format!("the encoder has no block {}", layer + 1)))
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
