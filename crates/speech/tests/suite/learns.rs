//! A speech method learns: HuBERT on the bundled sentences of a reader, in a minute.
//!
//! The bounds were set before the first run: after 120 steps the loss of hidden frames is at most 0.85 of
//! what it was, and more hidden frames are right than the most frequent cluster would be.

use candle_core::Device;
use selfsup_core::cluster::ClusterConfig;
use selfsup_core::data::{Loader, LoaderConfig};
use selfsup_core::optim::OptimConfig;
use selfsup_core::run::Display;
use selfsup_core::schedule::{LrSchedule, Span};
use selfsup_core::signal::Stop;
use selfsup_core::trainer::TrainConfig;
use selfsup_speech::data::{Corpus, Padded, Prepare, PrepareConfig};
use selfsup_speech::encoder::Family;
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::hubert_plan::{FrameLabels, HubertPlan, Recordings, final_run};
use selfsup_speech::mask::SpanMask;
use selfsup_speech::methods::{HubertConfig, Iteration};
use selfsup_speech::recipe::EncoderConfig;
use std::path::Path;
use std::sync::Arc;

const STEPS: u64 = 120;
const CLUSTERS: usize = 20;

#[test]
fn hubert_learns_the_clusters_of_hidden_frames() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/samples/festvox-ru/wav");
    let (corpus, bad) = Corpus::folder(&sample).unwrap().measure().unwrap();
    assert!(bad.is_empty() && corpus.clips().len() == 30, "{bad:?}");
    let config = PrepareConfig { crop_seconds: Some(1.5), ..PrepareConfig::default() };
    let (prepare, whole) = (Arc::new(Prepare::new(config.clone()).unwrap()), Prepare::new(config).unwrap());
    let settings = LoaderConfig { batch_size: 6, workers: 0, drop_last: true, ..LoaderConfig::default() };
    let lengths = corpus.lengths(Some(1.5));
    let source =
        Loader::by_length(Arc::new(corpus.clone()), prepare, Arc::new(Padded), settings, lengths, 5).unwrap();
    let load = |i: usize| whole.whole(&corpus.clips()[i]);
    let mfcc = Extractor::new(&FeatureConfig::default(), 16_000).unwrap();
    let data = Recordings {
        count: corpus.clips().len(),
        load: &load,
        source: &source,
        mfcc: &mfcc,
        rate: 16_000,
        known: &[],
    };
    let encoder = EncoderConfig {
        dim: Some(64),
        depth: Some(2),
        front_dim: Some(48),
        position_kernel: Some(16),
        position_groups: Some(4),
        dropout: Some(0.0),
        attention_dropout: Some(0.0),
        ..EncoderConfig::default()
    };
    let plan = HubertPlan {
        method: HubertConfig {
            mask: SpanMask { prob: 0.5, length: 6, min_spans: 2 },
            code_dim: 32,
            iterations: vec![Iteration { clusters: CLUSTERS, steps: STEPS, ..Iteration::default() }],
            ..HubertConfig::default()
        },
        encoder: encoder.resolve(Family::Hubert).unwrap(),
        train: TrainConfig {
            batch_size: 6,
            log_every: 1,
            checkpoint_every: 0,
            eval_every: 0,
            ..TrainConfig::default()
        },
        optim: OptimConfig {
            lr: 2e-3,
            schedule: LrSchedule::warmup_cosine(Span::Steps(10), 0.1),
            ..OptimConfig::default()
        },
        clustering: ClusterConfig { batch: 2_000, steps: 60, ..ClusterConfig::default() },
        max_frames: 20_000,
    };
    let dir = tempfile::tempdir().unwrap();
    plan.run(dir.path(), None, &data, &Device::Cpu, &Display::quiet, &Stop::manual(), &|_| Vec::new())
        .unwrap();

    let metrics = std::fs::read_to_string(final_run(dir.path(), &plan.method).join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        metrics.lines().map(|l| serde_json::from_str(l).unwrap()).filter(steps).collect();
    assert_eq!(lines.len() as u64, STEPS);
    let mean = |key: &str, lines: &[serde_json::Value]| {
        lines.iter().map(|l| l[key].as_f64().unwrap()).sum::<f64>() / lines.len() as f64
    };
    let (first, last) = (&lines[..10], &lines[lines.len() - 20..]);
    let (before, after) = (mean("loss/masked", first), mean("loss/masked", last));
    assert!(after < 0.85 * before, "the loss of hidden frames went from {before:.3} to {after:.3}");

    let labels = FrameLabels::read(&dir.path().join("1-clusters/clusters.safetensors")).unwrap();
    let mut counts = [0usize; CLUSTERS];
    labels.labels.iter().flatten().for_each(|&l| counts[l as usize] += 1);
    let frequent = *counts.iter().max().unwrap() as f64 / counts.iter().sum::<usize>() as f64;
    let right = mean("loss/masked_accuracy", last);
    assert!(
        right > frequent,
        "{right:.3} of the hidden frames are right, the most frequent cluster has {frequent:.3}"
    );
}

/// Lines of steps, not of evaluations.
fn steps(line: &serde_json::Value) -> bool {
    line.get("loss/masked").is_some()
}
