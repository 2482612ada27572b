//! Two ranks on threads do what one process does: parameters, validation, metrics, counts, files.

use super::*;
use crate::data::{Collate, Dataset, Loader, LoaderConfig};
use crate::encoder::{Encoder, Features, Layer};
use crate::init::Init;
use crate::nn::Linear;
use crate::objective::{Gauge, Loss, Outputs, Views};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use crate::world::run_ranks;
use candle_core::Tensor;
use selfsup_kernels::rng::{Key, Rng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Maps samples to two numbers with noise that depends on the place of the sample in the batch.
struct Noisy {
    params: Params,
    map: Map,
    couples: bool,
}

struct Map(Linear);

impl Encoder for Map {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &[Layer], pass: &Pass) -> Result<Features> {
        Ok(Features { pooled: self.0.forward(x, pass)?, tokens: None, layers: Vec::new() })
    }
    fn dim(&self) -> usize {
        2
    }
}

fn method(couples: bool, seed: u64) -> Noisy {
    let params = Params::new();
    let scope = Scope::root(&params, seed, &Device::Cpu).sub("encoder");
    let map = Map(Linear::new(&scope, 3, 2, true, Init::Normal(0.5)).unwrap());
    Noisy { params, map, couples }
}

impl Objective for Noisy {
    type Batch = Views;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }
    fn encoder(&self) -> &dyn Encoder {
        &self.map
    }
    fn couples_samples(&self) -> bool {
        self.couples
    }
    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Outputs> {
        let noise = (0..batch.samples()).map(|i| pass.sample_key("noise", i).rng().normal());
        let noise = Tensor::from_vec(noise.collect::<Vec<f32>>(), (batch.samples(), 1), &Device::Cpu)?;
        let x = batch.globals[0].broadcast_add(&noise)?;
        let outputs = self.map.forward(&x, None, &[], pass)?.pooled;
        Ok(Outputs { targets: x, outputs })
    }
    fn criterion(&self, e: &Outputs, _: &Pass) -> Result<Loss> {
        // A mean over the samples, or a function of their mean.
        let near = e.outputs.affine(1.0, -1.0)?.sqr()?.mean_all()?;
        if !self.couples {
            return Ok(near.into());
        }
        let centred = e.outputs.broadcast_sub(&e.outputs.mean_keepdim(0)?)?;
        Ok((centred.sqr()?.mean_all()? - near.sin()?)?.into())
    }
    fn gauges(&self, e: &Outputs, _: &Pass) -> Result<Vec<Gauge>> {
        Ok(vec![Gauge::plain("first", f64::from(e.outputs.abs()?.mean_all()?.to_scalar::<f32>()?))])
    }
}

/// Samples of three numbers, of which one cannot be read.
struct Numbers(usize, Option<usize>);

impl Dataset for Numbers {
    type Item = Vec<f32>;
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, index: usize) -> Result<Vec<f32>> {
        if self.1 == Some(index) {
            return Err(Error::input(format!("sample {index}"), "cannot be read"));
        }
        let mut rng = Key::new(11).fold(index as u64).rng();
        Ok((0..3).map(|_| rng.normal()).collect())
    }
}

struct Stacked;

impl Collate<Vec<f32>> for Stacked {
    type Batch = Views;
    fn collate(&self, items: Vec<Vec<f32>>, indices: &[usize], _: Key) -> Result<Views> {
        let n = items.len();
        Ok(Views::of(vec![Tensor::from_vec(items.concat(), (n, 3), &Device::Cpu)?], indices.to_vec()))
    }
}

type Same = fn(Vec<f32>, &mut Rng) -> Result<Vec<f32>>;

fn same(x: Vec<f32>, _: &mut Rng) -> Result<Vec<f32>> {
    Ok(x)
}

fn loader(data: Numbers, config: LoaderConfig) -> Loader<Numbers, Same, Stacked> {
    Loader::new(Arc::new(data), Arc::new(same as Same), Arc::new(Stacked), config).unwrap()
}

/// The sum of the parameters, which each rank sees with an error of its own: their mean is right.
struct Seen(f64);

impl Observer for Seen {
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>> {
        let x = Tensor::ones((1, 3), candle_core::DType::F32, &Device::Cpu)?;
        let y = look.encoder.forward(&x, None, &[], &Pass::eval())?.pooled.sum_all()?.to_scalar::<f32>()?;
        Ok(vec![("seen".into(), f64::from(y) + self.0)])
    }
    fn decides(&self) -> Option<&'static str> {
        Some("seen")
    }
}

/// Five samples a batch, which two ranks share as two and three; micro-batches of two; a bad sample.
fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch_size: 5,
        micro_batch_size: 2,
        log_every: 1,
        workers: 0,
        max_bad_fraction: 0.5,
        ..TrainConfig::default()
    }
}

/// One rank of a training in `dir`; `stop`: it asks for a stop before it starts.
fn fit(
    couples: bool,
    world: &World,
    dir: &Path,
    stop: bool,
) -> Result<(Summary, BTreeMap<String, Vec<f32>>)> {
    // Other ranks draw other parameters: those of rank 0 count.
    let method = method(couples, 3 + world.rank() as u64);
    let batches = loader(Numbers(23, Some(4)), (&config()).into()).in_world(world)?;
    // The last batch has three samples.
    let held_out = loader(Numbers(11, None), LoaderConfig::in_order(4, 0)).in_world(world)?;
    let optim = OptimConfig { lr: 0.05, ..OptimConfig::default() };
    let flag = Stop::manual();
    if stop {
        flag.request();
    }
    let error = if world.alone() { 0.0 } else { world.rank() as f64 - 0.5 };
    let mut trainer = Trainer::new(&method, config(), &optim, batches.batches() as u64, &Device::Cpu)?
        .with_world(world.clone())
        .with_validation(held_out)
        .with_observer(Seen(error))
        .with_stop(flag);
    let mut run = match world.rank() {
        0 if dir.join("config.toml").exists() => Run::resume(dir, None)?.0,
        0 => Run::create(dir, "")?,
        _ => Run::join(dir),
    };
    let summary = trainer.fit(&batches, &mut run)?;
    let values = |t: &Tensor| Ok::<_, Error>(t.flatten_all()?.to_vec1::<f32>()?);
    let params = method.params.all().into_iter();
    let params = params.map(|p| Ok((p.name, values(p.var.as_tensor())?))).collect::<Result<_>>()?;
    Ok((summary, params))
}

/// The lines of the metrics, without what depends on the clock.
fn metrics(dir: &Path) -> Vec<BTreeMap<String, f64>> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let line = |l| serde_json::from_str::<BTreeMap<String, f64>>(l).unwrap();
    let timeless = |(name, _): &(String, f64)| name != "time" && name != "samples_per_second";
    text.lines().map(|l| line(l).into_iter().filter(timeless).collect()).collect()
}

#[test]
fn two_ranks_give_the_run_of_one() -> Result<()> {
    for couples in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let (whole, expected) = fit(couples, &World::default(), &one, false)?;
        let ranks = run_ranks(2, |world| fit(couples, &world, &two, false))?;
        assert_eq!(ranks[0].1, ranks[1].1, "the ranks end with the same bits");
        for (name, values) in &expected {
            for (a, b) in values.iter().zip(&ranks[0].1[name]) {
                assert!((a - b).abs() < 1e-5, "couples {couples}: {name} {a} {b}");
            }
        }
        for (summary, _) in &ranks {
            assert_eq!((summary.steps, summary.bad_samples), (whole.steps, whole.bad_samples));
            assert!((summary.loss.unwrap() - whole.loss.unwrap()).abs() < 1e-5);
            let (a, b) = (whole.best.as_ref().unwrap(), summary.best.as_ref().unwrap());
            assert_eq!((&a.metric, a.step), (&b.metric, b.step));
        }
        assert!(whole.bad_samples >= 2, "the bad sample comes up in most epochs");
        // One line a step and an evaluation, with the numbers of one process.
        let (expected, got) = (metrics(&one), metrics(&two));
        assert_eq!(expected.len(), got.len());
        assert!(expected.iter().any(|line| line.contains_key("val_loss")));
        for (a, b) in expected.iter().zip(&got) {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            for (name, value) in a {
                // A gauge is a mean over the ranks, whose parts of a batch differ in size.
                let gauge = name == "first" && !couples;
                let near = if gauge { 0.5 } else { 2e-5 };
                assert!(
                    (value - b[name]).abs() <= near * value.abs().max(1.0),
                    "couples {couples}: {name} {a:?} {b:?}"
                );
            }
        }
        assert!(two.join("checkpoints/best.safetensors").exists() && two.join("curves.svg").exists());
    }
    Ok(())
}

#[test]
fn ranks_stop_together_and_resume_exactly() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let expected = run_ranks(2, |world| fit(true, &world, &whole, false))?;
    // The second rank alone is asked to stop: both do, after the first step.
    let stopped = run_ranks(2, |world| Ok(fit(true, &world, &parts, world.rank() == 1).map(drop)))?;
    for result in &stopped {
        assert!(matches!(result, Err(Error::Interrupted { step: 1, .. })), "{result:?}");
    }
    let resumed = run_ranks(2, |world| fit(true, &world, &parts, false))?;
    assert_eq!(resumed[0].1, expected[0].1);
    assert_eq!(resumed[1].0.bad_samples, expected[0].0.bad_samples);
    assert_eq!(metrics(&whole), metrics(&parts));
    Ok(())
}

#[test]
fn ranks_that_do_not_fit_together_are_refused() {
    let ended = |parts: bool, batches: fn(usize) -> usize, written: bool| {
        let dir = tempfile::tempdir().unwrap();
        let results = run_ranks(2, |world| {
            let work = || {
                let method = method(true, 0);
                let mut source = loader(Numbers(batches(world.rank()), None), (&config()).into());
                if parts {
                    source = source.in_world(&world)?;
                }
                let optim = OptimConfig::default();
                let mut trainer =
                    Trainer::new(&method, config(), &optim, 4, &Device::Cpu)?.with_world(world.clone());
                let join = world.rank() != 0 || !written;
                let mut run =
                    if join { Run::join(dir.path()) } else { Run::create(dir.path().join("run"), "")? };
                trainer.fit(&source, &mut run).map(drop)
            };
            Ok(work())
        });
        let errors: Vec<String> =
            results.unwrap().into_iter().filter_map(|r| Some(r.err()?.to_string())).collect();
        errors.join("\n")
    };
    let said = ended(false, |_| 23, true);
    assert!(said.contains("ranks 0 and 1 both read sample") && said.contains("Loader::in_world"), "{said}");
    let said = ended(true, |rank| 23 + 5 * rank, true);
    assert!(said.contains("batches of an epoch: 4, but rank 1 has 5"), "{said}");
    let said = ended(true, |_| 23, false);
    assert!(said.contains("the run of rank 0 must be written"), "{said}");
    let few = loader(Numbers(23, None), LoaderConfig { batch_size: 1, ..(&config()).into() });
    let worlds = crate::world::threads(2);
    let error = few.in_world(&worlds[0]).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("below the number of processes, 2"), "{error}");
}
