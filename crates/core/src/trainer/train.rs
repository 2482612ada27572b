//! A training in one call, for programs that need none of [`Trainer`]'s additions.

use super::{Summary, TrainConfig, Trainer};
use crate::data::Source;
use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::optim::OptimConfig;
use crate::run::Run;
use serde::Serialize;
use std::path::PathBuf;

/// The configuration that the run folder keeps.
#[derive(Serialize)]
struct Kept<'a> {
    train: &'a TrainConfig,
    optim: &'a OptimConfig,
}

/// Trains `objective` on the batches of `source`, on the device of its parameters, and writes checkpoints,
/// metrics, curves and `result.json` into the folder `dir` ([`Run`]). A second call with the same folder goes
/// on from the newest checkpoint; of a complete run it returns the summary. [`Trainer`] takes observers,
/// held-out samples, a display and a stop beside that.
///
/// ```
/// use selfsup_core::prelude::*;
/// use std::sync::Arc;
///
/// /// Fits `y = w x` to points of `y = 3 x`: an objective whose encoder is the layer itself.
/// struct Line(Params, Slope);
/// struct Slope(Linear);
/// embeddings! { struct Heights { graph y: Tensor, fixed x: Tensor, } }
///
/// impl Encoder for Slope {
///     fn forward(&self, x: &Tensor, _valid: Option<&Tensor>, _want: &[Layer], pass: &Pass) -> Result<Features> {
///         Ok(Features { pooled: self.0.forward(x, pass)?, tokens: None, layers: Vec::new() })
///     }
///     fn dim(&self) -> usize {
///         1
///     }
/// }
/// impl Objective for Line {
///     type Batch = Views;
///     type Embeddings = Heights;
///     fn params(&self) -> &Params {
///         &self.0
///     }
///     fn encoder(&self) -> &dyn Encoder {
///         &self.1
///     }
///     fn embed(&self, batch: &Views, pass: &Pass) -> Result<Heights> {
///         let x = batch.globals[0].clone(); // (N, 1)
///         Ok(Heights { y: self.1.forward(&x, None, &[], pass)?.pooled, x })
///     }
///     fn criterion(&self, e: &Heights, _pass: &Pass) -> Result<Loss> {
///         Ok(loss::mse(&e.y, &(&e.x * 3.0)?)?.into())
///     }
/// }
/// struct Points;
/// impl Dataset for Points {
///     type Item = f32;
///     fn len(&self) -> usize {
///         32
///     }
///     fn get(&self, index: usize) -> Result<f32> {
///         Ok(index as f32 / 32.0)
///     }
/// }
/// struct Stacked;
/// impl Collate<f32> for Stacked {
///     type Batch = Views;
///     fn collate(&self, items: Vec<f32>, indices: &[usize], _key: Key) -> Result<Views> {
///         let n = items.len();
///         Ok(Views::of(vec![Tensor::from_vec(items, (n, 1), &Device::Cpu)?], indices.to_vec()))
///     }
/// }
/// let config = TrainConfig { steps: 200, batch_size: 8, workers: 0, ..TrainConfig::default() };
/// let config = TrainConfig { checkpoint_every: 100, ..config };
/// let as_they_are = |x: f32, _: &mut Rng| -> Result<f32> { Ok(x) };
/// let points = Loader::new(Arc::new(Points), Arc::new(as_they_are), Arc::new(Stacked), (&config).into())?;
/// let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
/// let slope = Slope(Linear::new(&scope.sub("encoder"), 1, 1, true, Init::TorchLinear)?);
/// let line = Line(scope.params().clone(), slope);
/// let optim = OptimConfig { lr: 0.1, weight_decay: 0.0, ..OptimConfig::default() };
/// # let dir = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
/// # let dir = dir.path().join("line");
/// let summary = train(&line, &points, &config, &optim, &dir)?;
/// assert!(summary.loss.is_some_and(|loss| loss < 0.01));
/// assert!(train(&line, &points, &config, &optim, &dir)?.complete, "there was nothing left to do");
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`Trainer::new`] and [`Trainer::fit`]; if the objective has no parameters, or `dir` cannot be written
/// or holds the run of another objective.
pub fn train<O: Objective + ?Sized>(
    objective: &O,
    source: &dyn Source<O::Batch>,
    config: &TrainConfig,
    optim: &OptimConfig,
    dir: impl Into<PathBuf>,
) -> Result<Summary> {
    let dir = dir.into();
    let kept = toml::to_string(&Kept { train: config, optim })
        .map_err(|e| Error::config(format!("the configuration of a run: {e}")))?;
    let first = objective.params().all().into_iter().next();
    let device = first.ok_or_else(|| Error::input("objective", "no parameters: expected some to train"))?;
    let device = device.var.device().clone();
    let mut trainer = Trainer::new(objective, config.clone(), optim, source.batches() as u64, &device)?;
    let mut run = if dir.join("config.toml").exists() {
        Run::resume(dir, Some(&kept))?.0
    } else {
        Run::create(dir, &kept)?
    };
    let summary = trainer.fit(source, &mut run)?;
    run.write_result(&summary)?;
    Ok(summary)
}
