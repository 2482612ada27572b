//! What outlives a stop: the best checkpoint at every point where a process can end, health, the last loss;
//! and what must not pass: skipped steps without end, other settings, other samples.

use super::*;
use crate::checkpoint::fault;
use crate::data::LoadedBatch;
use crate::encoder::{Features, Layer};
use crate::init::Init;
use crate::nn::Linear;
use crate::objective::{Gauge, Loss, Outputs, Views};
use crate::params::Params;
use crate::pass::{Deferred, Pass};
use crate::scope::Scope;
use candle_core::Tensor;
use std::path::Path;

const CONFIG: &str = "seed = 1\n[optim]\nlr = 0.1\n";

/// Fits a line. At the steps `spoilt` a statistic is infinite while loss and gradient are not, as where
/// activations overflow in front of a batch norm.
struct Line {
    params: Params,
    map: Map,
    spoilt: std::ops::Range<u64>,
}

struct Map(Linear);

impl Encoder for Map {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &[Layer], pass: &Pass) -> Result<Features> {
        Ok(Features { pooled: self.0.forward(x, pass)?, tokens: None, layers: Vec::new() })
    }
    fn dim(&self) -> usize {
        1
    }
}

fn line(spoilt: std::ops::Range<u64>) -> Line {
    let params = Params::new();
    let scope = Scope::root(&params, 5, &Device::Cpu).sub("encoder");
    let map = Map(Linear::new(&scope, 1, 1, true, Init::Normal(0.5)).unwrap());
    scope.buffer("mean", 2, Init::Const(0.0)).unwrap();
    Line { params, map, spoilt }
}

impl Objective for Line {
    type Batch = Views;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }
    fn encoder(&self) -> &dyn Encoder {
        &self.map
    }
    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Outputs> {
        let bad = if self.spoilt.contains(&pass.progress.step) { f32::INFINITY } else { 1.0 };
        let value = Tensor::new(&[0.5, bad], &Device::Cpu)?;
        pass.defer("encoder.mean", Deferred::Average { value, momentum: 0.1 });
        let x = batch.globals[0].clone();
        Ok(Outputs { outputs: self.map.forward(&x, None, &[], pass)?.pooled, targets: (x * 3.0)? })
    }
    fn criterion(&self, e: &Outputs, _: &Pass) -> Result<Loss> {
        Ok((&e.outputs - &e.targets)?.sqr()?.mean_all()?.into())
    }
    fn gauges(&self, _: &Outputs, _: &Pass) -> Result<Vec<Gauge>> {
        Ok(vec![Gauge::above("spread", 0.1, 0.5)])
    }
}

/// Two batches an epoch.
struct Two;

impl Source<Views> for Two {
    fn batches(&self) -> usize {
        2
    }
    fn epoch_from(
        &self,
        _epoch: u64,
        first: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Views>>> + '_>> {
        Ok(Box::new((first..2).map(|i| {
            let x = Tensor::new(&[[1.0f32 + i as f32], [0.5]], &Device::Cpu)?;
            let indices = vec![2 * i, 2 * i + 1];
            Ok(LoadedBatch { batch: Views::of(vec![x], indices.clone()), indices, bad: Vec::new() })
        })))
    }
}

/// The best epoch is the fourth of six.
struct Judge;

impl Observer for Judge {
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>> {
        let values = [1.0, 3.0, 2.0, 5.0, 4.0, 1.0];
        Ok(vec![("quality".into(), values[look.progress.epoch as usize - 1])])
    }
    fn decides(&self) -> Option<&'static str> {
        Some("quality")
    }
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 6,
        batch_size: 2,
        log_every: 1,
        keep_last: 1,
        non_finite: NonFinite::Skip,
        ..TrainConfig::default()
    }
}

/// Trains in `dir`, from where the run is.
fn fit(line: &Line, config: TrainConfig, dir: &Path, data: &str, accept: bool) -> Result<Summary> {
    let mut run = match dir.join("config.toml").exists() {
        true => Run::resume(dir, None)?.0,
        false => Run::create(dir, CONFIG)?,
    };
    if accept {
        run.accept_changes();
    }
    let optim = OptimConfig { lr: 0.05, ..OptimConfig::default() };
    let trainer = Trainer::new(line, config, &optim, 2, &Device::Cpu)?.with_observer(Judge).with_data(data);
    let mut trainer = trainer;
    trainer.fit(&Two, &mut run)
}

/// Wherever the process ends, the newest checkpoint names a best one that is there, and the resumed run ends
/// with the best weights of one that was left alone.
#[cfg(debug_assertions)]
#[test]
fn the_best_checkpoint_survives_every_crash() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let expected = fit(&line(0..0), config(), &whole, "4", false)?;
    let best = std::fs::read(whole.join("checkpoints/best.safetensors")).unwrap();
    assert_eq!(expected.best.as_ref().map(|b| b.step), Some(8));
    let mut between = 0;
    for n in 0.. {
        let path = dir.path().join(format!("at-{n}"));
        fault::arm(n);
        let ended = fit(&line(0..0), config(), &path, "4", false);
        let failed = fault::disarm();
        assert_eq!(ended.is_err(), failed, "point {n}: {:?}", ended.err());
        if !failed {
            assert!(n > 60, "{n} points are fewer than a run has");
            break;
        }
        let store = Run::join(&path).checkpoints(0);
        if let Some((_, newest)) = store.latest()?.found {
            let (file, found) = store.best()?.unwrap();
            assert_eq!(found.progress.step, newest.extra.best.unwrap().step, "point {n}");
            between += usize::from(file != store.best_path());
        }
        let summary = fit(&line(0..0), config(), &path, "4", false)?;
        assert_eq!((&summary.best, summary.loss), (&expected.best, expected.loss), "point {n}");
        assert!(std::fs::read(path.join("checkpoints/best.safetensors")).unwrap() == best, "point {n}");
    }
    assert!(between >= 6, "points between a checkpoint and its mark: {between}");
    Ok(())
}

#[test]
fn skipped_steps_write_no_statistics_and_end_a_run_that_has_too_many() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    // One of twelve is within the share.
    let allowed = TrainConfig { max_skipped_fraction: 0.1, ..config() };
    let once = line(3..4);
    let summary = fit(&once, allowed.clone(), &dir.path().join("once"), "4", false)?;
    assert_eq!((summary.steps, summary.skipped_steps), (12, 1));
    let mean = once.params.get("encoder.mean").unwrap().var.to_vec1::<f32>()?;
    // Eleven steps of momentum 0.1 towards (0.5, 1).
    let share = 1.0 - 0.9f32.powi(11);
    assert!((mean[0] - 0.5 * share).abs() < 1e-5 && (mean[1] - share).abs() < 1e-5, "{mean:?}");
    let e = fit(&line(3..12), allowed, &dir.path().join("many"), "4", false).unwrap_err();
    assert!(matches!(e, Error::NonFinite { step: 5, .. }), "{e}");
    let text = e.to_string();
    assert!(text.contains("2 of 5 steps") && text.contains("train.max_skipped_fraction = 0.1"), "{text}");
    // Without skipping, the statistic is named.
    let strict = TrainConfig { non_finite: NonFinite::Error, ..config() };
    let e = fit(&line(3..4), strict, &dir.path().join("strict"), "4", false).unwrap_err().to_string();
    assert!(e.contains("step 3: the statistic encoder.mean"), "{e}");
    Ok(())
}

#[test]
fn health_and_loss_outlive_a_stop() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let first = TrainConfig { epochs: 2, ..config() };
    let four = fit(&line(0..0), first, dir.path(), "4", false)?;
    assert!(four.unhealthy.is_empty() && !four.complete, "four values are no verdict");
    let whole = fit(&line(0..0), config(), dir.path(), "4", false)?;
    let found: Vec<_> = whole.unhealthy.iter().map(|l| (l.gauge.as_str(), l.since_step)).collect();
    assert_eq!(found, [("spread", 1)], "counted from the first step on");
    let again = fit(&line(0..0), config(), dir.path(), "4", false)?;
    assert!(again.complete && again.loss.is_some());
    assert_eq!((again.loss, again.unhealthy), (whole.loss, whole.unhealthy));
    Ok(())
}

/// With `on_collapse = "stop"` the alarm ends the run: with a checkpoint, which is gone on from only where
/// something was changed.
#[test]
fn a_collapse_stops_the_run_that_asked_for_it() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let stop = || TrainConfig { on_collapse: OnCollapse::Stop, ..config() };
    for _ in 0..2 {
        let e = fit(&line(0..0), stop(), dir.path(), "4", false).unwrap_err();
        let Error::Collapsed { step: 5, checkpoint, what } = &e else { panic!("{e}") };
        assert!(checkpoint.is_file() && what.contains("spread is 0.1000") && what.contains("0.5 and above"));
        assert_eq!(e.exit_code(), 4);
    }
    // The gauges get their time again, once.
    let e = fit(&line(0..0), stop(), dir.path(), "4", true).unwrap_err();
    assert!(matches!(e, Error::Collapsed { step: 10, .. }), "{e}");
    let summary = fit(&line(0..0), config(), dir.path(), "4", false)?;
    assert_eq!((summary.steps, summary.unhealthy.len(), summary.alarms.len()), (12, 1, 2));
    assert_eq!(summary.bands["spread"].low, Some(0.5));
    Ok(())
}

/// Two batches an epoch; of the second one sample could be read.
struct Lone;

impl Source<Views> for Lone {
    fn batches(&self) -> usize {
        2
    }
    fn epoch_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Views>>> + '_>> {
        Ok(Box::new(Two.epoch_from(epoch, first)?.enumerate().map(move |(i, loaded)| {
            let mut loaded = loaded?;
            if first + i == 1 {
                let x = loaded.batch.globals[0].narrow(0, 0, 1)?;
                loaded.batch = Views::of(vec![x], vec![2]);
                loaded.bad = vec![(3, "b.png: is no PNG".into())];
                loaded.indices.pop();
            }
            Ok(loaded)
        })))
    }
}

/// One sample has nothing to be compared with: the step is skipped and counted, and the run goes on.
#[test]
fn a_batch_of_one_readable_sample_is_skipped() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let line = line(0..0);
    assert!(line.couples_samples());
    let optim = OptimConfig { lr: 0.05, ..OptimConfig::default() };
    let fit = |share: f64, dir: &Path| {
        let config = TrainConfig { max_skipped_fraction: share, ..config() };
        let mut trainer = Trainer::new(&line, config, &optim, 2, &Device::Cpu)?.with_validation(Lone);
        trainer.fit(&Lone, &mut Run::create(dir, CONFIG)?)
    };
    let summary = fit(0.6, &dir.path().join("some"))?;
    assert_eq!((summary.steps, summary.skipped_steps), (12, 6));
    assert!(summary.loss.is_some_and(f64::is_finite));
    let e = fit(0.01, &dir.path().join("none")).unwrap_err().to_string();
    assert!(e.contains("too few samples") && e.contains("max_skipped_fraction"), "{e}");
    Ok(())
}

/// What is known of the samples is an alarm before the first step, and it stops the run that asked for it after
/// one.
#[test]
fn what_is_known_before_the_first_step_is_said_at_once() -> Result<()> {
    let known = || vec![Gauge::below("copies", 0.9, 0.5), Gauge::below("other", 0.1, 0.5)];
    let trained = |config: TrainConfig, dir: &Path| {
        let line = line(0..0);
        let optim = OptimConfig { lr: 0.1, ..OptimConfig::default() };
        let mut trainer = Trainer::new(&line, config, &optim, 2, &Device::Cpu)?.with_known(known());
        trainer.fit(&Two, &mut Run::create(dir, CONFIG)?)
    };
    let dir = tempfile::tempdir().unwrap();
    let summary = trained(config(), &dir.path().join("warned"))?;
    let first = &summary.alarms[0];
    assert_eq!((first.gauge.as_str(), first.step), ("copies", 0));
    assert!(summary.unhealthy.iter().any(|b| b.gauge == "copies" && b.healthy_below == Some(0.5)));
    assert!(summary.alarms.iter().all(|a| a.gauge != "other"));
    let stop = TrainConfig { on_collapse: OnCollapse::Stop, ..config() };
    let e = trained(stop, &dir.path().join("stopped")).unwrap_err();
    let Error::Collapsed { step: 1, checkpoint, what } = &e else { panic!("{e}") };
    assert!(checkpoint.is_file() && what.contains("copies is 0.9000"), "{what}");
    Ok(())
}

#[test]
fn other_settings_and_other_samples_are_noticed() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fit(&line(0..0), TrainConfig { epochs: 1, ..config() }, dir.path(), "4 numbers", false)?;
    let e = fit(&line(0..0), config(), dir.path(), "3 numbers", false).unwrap_err().to_string();
    assert!(e.contains("4 numbers until step 2") && e.contains("finds 3 numbers"), "{e}");
    std::fs::write(&path, CONFIG.replace("0.1", "0.2")).unwrap();
    let e = fit(&line(0..0), config(), dir.path(), "4 numbers", false).unwrap_err().to_string();
    assert!(e.contains("config.toml") && e.contains("optim.lr: 0.1 -> 0.2"), "{e}");
    let epochs = |n| TrainConfig { epochs: n, ..config() };
    assert_eq!(fit(&line(0..0), epochs(2), dir.path(), "3 numbers", true)?.steps, 4);
    // What was accepted is the run's own from the next checkpoint on.
    assert_eq!(fit(&line(0..0), epochs(3), dir.path(), "3 numbers", false)?.steps, 6);
    Ok(())
}
