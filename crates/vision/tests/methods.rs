//! What every method must satisfy: each parameter moves, resuming is exact, micro-batches compute the gradient of the whole batch, and the
//! result does not depend on the number of threads.

#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use selfsup_core::data::{LoadedBatch, Source};
use selfsup_core::objective::{MaeConfig, Objective, Views};
use selfsup_core::optim::OptimConfig;
use selfsup_core::run::Run;
use selfsup_core::signal::Stop;
use selfsup_core::trainer::{TrainConfig, Trainer, gradients};
use selfsup_core::{Error, Key, Params, Pass, Progress, Result, Role, Scope};
use selfsup_vision::recipe::{EncoderConfig, Method, MethodConfig};
use std::collections::BTreeMap;
use std::path::Path;

const SIZE: usize = 16;
const BATCH: usize = 8;
const PER_EPOCH: usize = 3;

/// Smooth images that differ from each other; two noisy views of each.
struct Blobs {
    stop_at: Option<(u64, usize, Stop)>,
}

fn blobs(epoch: u64, b: usize) -> Result<Views> {
    let view = |which: u64| -> Result<Tensor> {
        let mut values = Vec::new();
        for i in 0..BATCH {
            let mut place = Key::new(7).fold((b * BATCH + i) as u64).rng();
            let (fx, fy, phase) = (place.uniform() * 0.8, place.uniform() * 0.8, place.uniform() * 6.0);
            let mut noise = Key::new(8).fold(epoch).fold((b * BATCH + i) as u64).fold(which).rng();
            for c in 0..3 {
                for y in 0..SIZE {
                    for x in 0..SIZE {
                        values.push((fx * x as f32 + fy * y as f32 + phase + c as f32).sin() + 0.3 * noise.normal());
                    }
                }
            }
        }
        Ok(Tensor::from_vec(values, (BATCH, 3, SIZE, SIZE), &Device::Cpu)?)
    };
    Ok(Views { views: vec![view(0)?, view(1)?], globals: 2, indices: (b * BATCH..(b + 1) * BATCH).collect() })
}

impl Source<Views> for Blobs {
    fn batches(&self) -> usize {
        PER_EPOCH
    }

    fn epoch_from(&self, epoch: u64, first: usize) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Views>>> + '_>> {
        Ok(Box::new((first..PER_EPOCH).map(move |b| {
            if let Some((e, at, stop)) = &self.stop_at
                && (*e, *at) == (epoch, b)
            {
                stop.request();
            }
            let batch = blobs(epoch, b)?;
            Ok(LoadedBatch { indices: batch.indices.clone(), batch, bad: Vec::new() })
        })))
    }
}

fn small(name: &str) -> MethodConfig {
    let mut method = MethodConfig::named(name).unwrap();
    match &mut method {
        MethodConfig::Simclr(c) => (c.hidden_dim, c.out_dim) = (16, 8),
        MethodConfig::Moco(c) => (c.hidden_dim, c.out_dim, c.queue, c.momentum) = (16, 8, 20, 0.9),
        MethodConfig::MocoV3(c) => (c.hidden_dim, c.out_dim) = (16, 8),
        MethodConfig::Byol(c) => (c.hidden_dim, c.out_dim) = (16, 8),
        MethodConfig::Simsiam(c) => (c.predictor_dim, c.out_dim) = (8, 16),
        MethodConfig::BarlowTwins(c) => (c.hidden_dim, c.out_dim) = (16, 8),
        MethodConfig::Vicreg(c) => (c.hidden_dim, c.out_dim) = (16, 8),
        MethodConfig::Mae(c) => *c = MaeConfig { decoder_dim: 16, decoder_depth: 1, decoder_heads: 2, ..MaeConfig::default() },
    }
    method
}

fn build(name: &str, seed: u64, vit: bool) -> Method {
    let method = small(name);
    let resnet = EncoderConfig {
        name: "resnet".into(),
        depths: Some(vec![1, 1]),
        widths: Some(vec![8, 12]),
        stem: Some(8),
        ..EncoderConfig::default()
    };
    let transformer = EncoderConfig {
        name: "vit".into(),
        dim: Some(16),
        depth: Some(2),
        heads: Some(2),
        mlp_ratio: Some(2.0),
        patch: Some(4),
        ..EncoderConfig::default()
    };
    let encoder = if vit || method.masked() { transformer } else { resnet };
    let params = Params::new();
    let scope = Scope::root(&params, seed, &Device::Cpu);
    method.build(&scope, &encoder.resolve(SIZE, method.masked()).unwrap()).unwrap()
}

fn values(params: &Params) -> BTreeMap<String, Vec<u32>> {
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    params.all().into_iter().map(|p| (p.name, bits(p.var.as_tensor()))).collect()
}

fn config() -> TrainConfig {
    TrainConfig { epochs: 3, batch_size: BATCH, log_every: 1, checkpoint_every: 2, eval_every: 0, ..TrainConfig::default() }
}

fn train(method: &Method, dir: &Path, source: &Blobs, stop: &Stop) -> Result<()> {
    let mut run = if dir.exists() { Run::resume(dir, None)?.0 } else { Run::create(dir, "")? };
    let optim = OptimConfig { lr: 1e-2, ..OptimConfig::default() };
    Trainer::new(method, config(), &optim, PER_EPOCH as u64, &Device::Cpu)?.with_stop(stop.clone()).fit(source, &mut run)?;
    Ok(())
}

#[test]
fn every_parameter_moves() {
    for name in MethodConfig::NAMES {
        for vit in [false, true] {
            let method = build(name, 0, vit);
            let before = values(method.params());
            let dir = tempfile::tempdir().unwrap();
            train(&method, &dir.path().join("run"), &Blobs { stop_at: None }, &Stop::manual()).unwrap();
            let after = values(method.params());
            for p in method.params().all() {
                let moved = before[&p.name] != after[&p.name];
                match p.role {
                    Role::Frozen => assert!(!moved, "{name}: {} is frozen and moved", p.name),
                    _ => assert!(moved, "{name}: {} ({:?}) did not move", p.name, p.role),
                }
            }
        }
    }
}

#[test]
fn resuming_is_exact() {
    for name in MethodConfig::NAMES {
        let whole = build(name, 3, false);
        let dir = tempfile::tempdir().unwrap();
        train(&whole, &dir.path().join("whole"), &Blobs { stop_at: None }, &Stop::manual()).unwrap();
        // Stopped in the middle of the second epoch, then continued by a process that starts from other initial weights.
        let folder = dir.path().join("parts");
        let stop = Stop::manual();
        let first = build(name, 3, false);
        let stopped = train(&first, &folder, &Blobs { stop_at: Some((1, 1, stop.clone())) }, &stop);
        assert!(matches!(stopped, Err(Error::Interrupted { step: 5, .. })), "{name}: {stopped:?}");
        let second = build(name, 99, false);
        train(&second, &folder, &Blobs { stop_at: None }, &Stop::manual()).unwrap();
        assert_eq!(values(whole.params()), values(second.params()), "{name}: the resumed run ends with other parameters");
    }
}

#[test]
fn micro_batches_compute_the_same_gradient() {
    // Without batch norm anywhere the gradient of parts is that of the whole: a transformer with heads that have none.
    for name in ["mae", "moco"] {
        check_parts(&build(name, 1, true), name);
    }
}

/// SimCLR couples samples; its projection has batch norm, so the encoder is checked under a head without.
#[test]
fn gradient_cache_is_exact() {
    struct Plain(Method);
    impl Objective for Plain {
        type Batch = Views;
        fn params(&self) -> &Params {
            self.0.params()
        }
        fn encoder(&self) -> &dyn selfsup_core::Encoder {
            self.0.encoder()
        }
        fn embed(&self, batch: &Views, pass: &Pass) -> Result<selfsup_core::Embeddings> {
            let f = |x| Ok::<_, Error>(self.0.encoder().forward(x, None, &[], pass)?.pooled);
            Ok(selfsup_core::Embeddings { graph: vec![f(&batch.views[0])?, f(&batch.views[1])?], fixed: vec![] })
        }
        fn criterion(&self, e: &selfsup_core::Embeddings, pass: &Pass) -> Result<selfsup_core::Loss> {
            self.0.criterion(e, pass)
        }
    }
    check_parts(&Plain(build("simclr", 1, true)), "simclr");
}

fn check_parts<O: Objective<Batch = Views>>(method: &O, name: &str) {
    let batch = blobs(0, 0).unwrap();
    let pass = || Pass::train(5, Progress { step: 2, total_steps: 9, epoch: 0 });
    let whole = gradients(method, &batch, 0, &pass()).unwrap();
    for micro in [1, 3, 4] {
        let parts = gradients(method, &batch, micro, &pass()).unwrap();
        assert!((whole.loss - parts.loss).abs() < 1e-5 * whole.loss.abs().max(1.0), "{name}: loss {} and {}", whole.loss, parts.loss);
        for (key, g) in whole.grads.iter() {
            let h = parts.grads.get(key).unwrap_or_else(|| panic!("{name}: no gradient of {key}"));
            let gap = (g - h).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            let size = g.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(gap <= 2e-4 * size.max(1e-3), "{name}, parts of {micro}: gradient of {key} differs by {gap} of {size}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for name in ["simclr", "mae"] {
        let mut seen = Vec::new();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let method = build(name, 0, false);
            let dir = tempfile::tempdir().unwrap();
            pool.install(|| train(&method, &dir.path().join("run"), &Blobs { stop_at: None }, &Stop::manual())).unwrap();
            seen.push(values(method.params()));
        }
        assert!(seen.windows(2).all(|w| w[0] == w[1]), "{name}: the number of threads changed the result");
    }
}
