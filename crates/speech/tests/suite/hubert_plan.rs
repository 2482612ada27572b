//! HuBERT's stages: both iterations run, a stopped run goes on to the same bytes, finished stages are not run
//! again.

use candle_core::{Device, Tensor};
use selfsup_core::cluster::ClusterConfig;
use selfsup_core::data::{LoadedBatch, Source};
use selfsup_core::optim::OptimConfig;
use selfsup_core::run::Display;
use selfsup_core::signal::Stop;
use selfsup_core::trainer::TrainConfig;
use selfsup_core::{Error, Key, Objective, Params, Result};
use selfsup_speech::batch::{Utterance, Waves};
use selfsup_speech::encoder::Family;
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::hubert_plan::{FrameLabels, HubertPlan, Recordings, final_run};
use selfsup_speech::mask::SpanMask;
use selfsup_speech::methods::{ClusterFeatures, HubertConfig, Iteration};
use selfsup_speech::recipe::EncoderConfig;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const COUNT: usize = 6;
const PER_EPOCH: usize = 3;

/// Two tones, one after the other.
fn wave(i: usize) -> Vec<f32> {
    let mut rng = Key::new(5).fold(i as u64).rng();
    let pitch = |t: usize| if t < 6000 { 0.05 } else { 0.3 + 0.05 * (i % 3) as f32 };
    (0..12_000 + 500 * i).map(|t| (t as f32 * pitch(t)).sin() + 0.05 * rng.normal()).collect()
}

/// Crops of 6,000 samples.
struct Crops {
    /// Batches until `stop` is requested.
    left: AtomicUsize,
    stop: Stop,
}

impl Source<Waves> for Crops {
    fn batches(&self) -> usize {
        PER_EPOCH
    }

    fn epoch_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Waves>>> + '_>> {
        Ok(Box::new((first..PER_EPOCH).map(move |b| {
            if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.stop.request();
            }
            let indices = [2 * b, 2 * b + 1];
            let items = indices.map(|i| {
                let all = wave(i);
                let start = Key::new(6).fold(epoch).fold(i as u64).rng().below(all.len() - 6000);
                Utterance { samples: all[start..start + 6000].to_vec(), start, ..Utterance::default() }
            });
            let batch = Waves::stack(items.to_vec(), &indices)?;
            Ok(LoadedBatch { indices: indices.to_vec(), batch, bad: Vec::new() })
        })))
    }
}

fn plan() -> HubertPlan {
    let encoder = EncoderConfig {
        dim: Some(16),
        depth: Some(2),
        heads: Some(2),
        front_dim: Some(8),
        position_kernel: Some(8),
        position_groups: Some(2),
        ..EncoderConfig::default()
    };
    HubertPlan {
        method: HubertConfig {
            mask: SpanMask { prob: 0.5, length: 3, min_spans: 1 },
            code_dim: 8,
            iterations: vec![
                Iteration { clusters: 4, steps: 4, ..Iteration::default() },
                Iteration { features: ClusterFeatures::Layer(1), clusters: 5, steps: 0 },
            ],
            ..HubertConfig::default()
        },
        encoder: encoder.resolve(Family::Hubert).unwrap(),
        train: TrainConfig {
            epochs: 2,
            batch_size: 2,
            checkpoint_every: 3,
            eval_every: 0,
            ..TrainConfig::default()
        },
        optim: OptimConfig { lr: 1e-3, ..OptimConfig::default() },
        clustering: ClusterConfig { batch: 200, steps: 20, ..ClusterConfig::default() },
        max_frames: 300,
    }
}

fn bits(params: &Params) -> BTreeMap<String, Vec<u32>> {
    let bits = |t: &Tensor| {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    params.all().into_iter().map(|p| (p.name, bits(p.var.as_tensor()))).collect()
}

/// Runs the plan; stops when `after` batches have been read. `reads` counts the recordings that were read
/// whole.
fn go(
    plan: &HubertPlan,
    dir: &Path,
    after: usize,
    reads: &AtomicUsize,
) -> Result<BTreeMap<String, Vec<u32>>> {
    let stop = Stop::manual();
    let source = Crops { left: AtomicUsize::new(after), stop: stop.clone() };
    let load = |i: usize| {
        reads.fetch_add(1, Ordering::Relaxed);
        Ok(wave(i))
    };
    let mfcc = Extractor::new(&FeatureConfig::default(), 16_000)?;
    let data =
        Recordings { count: COUNT, load: &load, source: &source, mfcc: &mfcc, rate: 16_000, known: &[] };
    let (method, summary) =
        plan.run(dir, None, &data, &Device::Cpu, &Display::quiet, &stop, &|_| Vec::new())?;
    assert_eq!(summary.steps, 6, "the second training has the steps of [train]");
    Ok(bits(method.params()))
}

#[test]
fn a_stopped_plan_goes_on_to_the_same_bytes() {
    let (plan, dir) = (plan(), tempfile::tempdir().unwrap());
    let never = usize::MAX;
    let whole = go(&plan, &dir.path().join("whole"), never, &AtomicUsize::new(0)).unwrap();
    let folder = dir.path().join("parts");
    let reads = AtomicUsize::new(0);
    // In the first training (2 of 4 steps), then in the second (after 2 + 3 of its steps), then to the end.
    assert!(matches!(go(&plan, &folder, 2, &reads), Err(Error::Interrupted { step: 2, .. })));
    let first = reads.load(Ordering::Relaxed);
    assert!(matches!(go(&plan, &folder, 2 + 3, &reads), Err(Error::Interrupted { step: 3, .. })));
    let second = reads.load(Ordering::Relaxed);
    assert_eq!(go(&plan, &folder, never, &reads).unwrap(), whole);
    assert!(second > first, "the second clustering reads the recordings");
    assert_eq!(reads.load(Ordering::Relaxed), second, "a finished clustering was run again");
    // Finished: nothing is trained, the result is there, and it is a run like any other.
    assert_eq!(go(&plan, &folder, never, &reads).unwrap(), whole);
    let run = final_run(&folder, &plan.method);
    assert!(
        run.ends_with("2-training")
            && run.join("result.json").is_file()
            && run.join("metrics.jsonl").is_file()
    );
    let labels = FrameLabels::read(&folder.join("2-clusters/clusters.safetensors")).unwrap();
    assert_eq!(labels.labels.len(), COUNT);
    assert!((labels.step - 0.02).abs() < 1e-12 && labels.labels[0].len() == 37);
    assert!(labels.labels.iter().flatten().all(|l| *l < 5));
}

#[test]
fn an_iteration_is_added_to_a_finished_plan() {
    let (mut plan, dir) = (plan(), tempfile::tempdir().unwrap());
    let reads = AtomicUsize::new(0);
    let grown = dir.path().join("grown");
    go(&plan, &grown, usize::MAX, &reads).unwrap();
    plan.method.iterations.push(Iteration { features: ClusterFeatures::Layer(2), clusters: 3, steps: 0 });
    let before = reads.load(Ordering::Relaxed);
    let made = go(&plan, &grown, usize::MAX, &reads).unwrap();
    let added = reads.load(Ordering::Relaxed) - before;
    assert_eq!(made, go(&plan, &dir.path().join("whole"), usize::MAX, &reads).unwrap());
    assert!(added > 0 && added < before, "{added} recordings read for one clustering, {before} for two");
    assert!(final_run(&grown, &plan.method).ends_with("3-training"));
}

#[test]
fn clusters_of_mfccs_tell_the_tones_apart() {
    let (plan, dir) = (plan(), tempfile::tempdir().unwrap());
    go(&plan, dir.path(), usize::MAX, &AtomicUsize::new(0)).unwrap();
    let labels = FrameLabels::read(&dir.path().join("1-clusters/clusters.safetensors")).unwrap();
    for row in &labels.labels {
        // Frames well inside the first tone share no cluster with frames well inside the second.
        let (low, high) = (&row[5..30], &row[45..65]);
        assert!(low.iter().all(|l| !high.contains(l)), "{row:?}");
    }
}

#[test]
fn other_settings_do_not_go_on_silently() {
    let (mut plan, dir) = (plan(), tempfile::tempdir().unwrap());
    go(&plan, dir.path(), usize::MAX, &AtomicUsize::new(0)).unwrap();
    plan.method.iterations[0].clusters = 6;
    let e = go(&plan, dir.path(), usize::MAX, &AtomicUsize::new(0)).unwrap_err().to_string();
    assert!(e.contains("1-clusters") && e.contains("other settings"), "{e}");
    plan.method.iterations[1].features = ClusterFeatures::Layer(9);
    let e = go(&plan, &dir.path().join("b"), usize::MAX, &AtomicUsize::new(0)).unwrap_err().to_string();
    assert!(e.contains("layer 9") && e.contains("1 to 2"), "{e}");
}
