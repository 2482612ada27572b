//! Checks that every method must pass, for a test of the method to call: each parameter moves, resuming is
//! exact, micro-batches compute the gradient of the whole batch, and the number of threads changes no bit.
//!
//! A check ends with an error that names the method and the parameter. See docs/adding-a-method.md.

use crate::data::{LoadedBatch, Source};
use crate::error::{Error, Result};
use crate::objective::gauge::Side;
use crate::objective::{Band, Batch, Objective};
use crate::optim::{OptimConfig, Optimizer, train_last_blocks};
use crate::params::{Param, Params, Role};
use crate::pass::{Pass, Progress};
use crate::run::Run;
use crate::scope::Scope;
use crate::signal::Stop;
use crate::trainer::{TrainConfig, Trainer, gradients};
use crate::world::run_ranks;
use candle_core::{Device, Tensor};
use selfsup_kernels::host::floats;
use std::collections::BTreeMap;
use std::path::Path;

/// Batch `b` of epoch `epoch`.
type Make<'a, B> = Box<dyn Fn(u64, usize) -> Result<B> + Send + Sync + 'a>;

/// A training of a few steps: the same batches for the same arguments, a checkpoint after every second step.
pub struct Trial<'a, B> {
    /// The name that errors begin with.
    pub name: String,
    /// Batches of an epoch.
    pub batches: usize,
    /// Epochs.
    pub epochs: u64,
    /// The optimiser.
    pub optim: OptimConfig,
    /// As `train.freeze_encoder_steps`.
    pub freeze_encoder_steps: u64,
    make: Make<'a, B>,
}

impl<'a, B: Batch> Trial<'a, B> {
    /// Three epochs of three batches that `make(epoch, batch)` makes, with AdamW of a learning rate of 0.01.
    pub fn new(name: impl Into<String>, make: impl Fn(u64, usize) -> Result<B> + Send + Sync + 'a) -> Self {
        let optim = OptimConfig { lr: 1e-2, ..OptimConfig::default() };
        Trial {
            name: name.into(),
            batches: 3,
            epochs: 3,
            optim,
            freeze_encoder_steps: 0,
            make: Box::new(make),
        }
    }

    /// With another number of epochs.
    pub fn epochs(self, epochs: u64) -> Self {
        Trial { epochs, ..self }
    }

    /// With an encoder that is left alone for so many steps.
    pub fn freeze_encoder(self, steps: u64) -> Self {
        Trial { freeze_encoder_steps: steps, ..self }
    }

    /// With another optimiser.
    pub fn optim(self, optim: OptimConfig) -> Self {
        Trial { optim, ..self }
    }

    /// Trains in the folder `dir`, from its newest checkpoint if it is there. Returns the last loss.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub fn train<O: Objective<Batch = B> + ?Sized>(&self, method: &O, dir: &Path) -> Result<f64> {
        self.train_until(method, dir, None)
    }

    /// As [`Trial::train`], stopped when the batch of this `(epoch, batch)` is asked for.
    fn train_until<O: Objective<Batch = B> + ?Sized>(
        &self,
        method: &O,
        dir: &Path,
        stop_at: Option<(u64, usize)>,
    ) -> Result<f64> {
        let mut run = if dir.exists() { Run::resume(dir, None)?.0 } else { Run::create(dir, "")? };
        let stop = Stop::manual();
        let source = Stopping { trial: self, stop_at, stop: stop.clone() };
        let config = TrainConfig {
            epochs: self.epochs,
            batch_size: (self.make)(0, 0)?.samples(),
            log_every: 1,
            checkpoint_every: 2,
            eval_every: 0,
            freeze_encoder_steps: self.freeze_encoder_steps,
            ..TrainConfig::default()
        };
        let trainer = Trainer::new(method, config, &self.optim, self.batches as u64, &Device::Cpu)?;
        let summary = trainer.with_stop(stop).fit(&source, &mut run)?;
        summary.loss.filter(|_| !summary.complete).ok_or_else(|| {
            Error::Other(format!("{}: the run in {} was already complete", self.name, dir.display()))
        })
    }

    fn fail<T>(&self, problem: impl std::fmt::Display) -> Result<T> {
        Err(Error::Other(format!("{}: {problem}", self.name)))
    }

    /// Every trained parameter, and every one that an exponential average or an update in `after_step` is to
    /// change, differs after the training; no frozen one does. The settings are in their bands. `dir` is a folder
    /// that does not exist yet.
    ///
    /// # Errors
    /// If one does not, or the training fails.
    pub fn every_parameter_moves<O: Objective<Batch = B> + ?Sized>(
        &self,
        method: &O,
        dir: &Path,
    ) -> Result<()> {
        self.settings_are_healthy(method)?;
        let before = bits(method.params())?;
        self.train(method, dir)?;
        let after = bits(method.params())?;
        for p in method.params().all() {
            let moved = before.get(&p.name) != after.get(&p.name);
            if moved == (p.role == Role::Frozen) {
                return self.fail(format_args!(
                    "{} ({:?}) {}",
                    p.name,
                    p.role,
                    if moved { "moved" } else { "did not move" }
                ));
            }
        }
        Ok(())
    }

    /// The method's settings lie in their bands, and each band says what a breach means.
    fn settings_are_healthy<O: Objective<Batch = B> + ?Sized>(&self, method: &O) -> Result<()> {
        for setting in method.settings() {
            let info = method.gauge_info().iter().find(|info| info.name == setting.name);
            let told = |side, bound: Option<f64>| {
                bound.is_none() || info.is_some_and(|info| !info.advice(side).remedy.is_empty())
            };
            let Band { low, high } = setting.band;
            if setting.band.breach(setting.value).is_some() {
                return self.fail(format_args!("{} = {} is outside its band", setting.name, setting.value));
            }
            if !(told(Side::Below, low) && told(Side::Above, high)) {
                return self.fail(format_args!("{} has a band without a remedy", setting.name));
            }
        }
        Ok(())
    }

    /// A run that is stopped in the middle of its second epoch and continued by a method with other initial
    /// weights ends with the same bytes as a run without a stop. `build(seed)` makes the method; `dir` is an
    /// empty folder.
    ///
    /// # Errors
    /// If it does not, or a training fails.
    pub fn resuming_is_exact<O: Objective<Batch = B> + ?Sized>(
        &self,
        build: impl Fn(u64) -> Result<Box<O>>,
        dir: &Path,
    ) -> Result<()> {
        let whole = build(3)?;
        self.train(&*whole, &dir.join("whole"))?;
        let parts = dir.join("parts");
        let step = self.batches as u64 + 2;
        match self.train_until(&*build(3)?, &parts, Some((1, 1))) {
            Err(Error::Interrupted { step: at, .. }) if at == step => {}
            other => {
                return self.fail(format_args!("expected an interruption at step {step}, got {other:?}"));
            }
        }
        let second = build(99)?;
        self.train(&*second, &parts)?;
        self.same(&bits(whole.params())?, &bits(second.params())?, "resuming")
    }

    /// Trainings on 1, 2 and 5 threads end with the same bytes. `dir` is an empty folder.
    ///
    /// # Errors
    /// If they do not, or a training fails.
    pub fn threads_do_not_change_a_bit<O: Objective<Batch = B> + ?Sized>(
        &self,
        build: impl Fn(u64) -> Result<Box<O>> + Sync,
        dir: &Path,
    ) -> Result<()> {
        let run = |threads: usize| -> Result<_> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(|e| Error::Other(e.to_string()))?;
            pool.install(|| {
                let method = build(0)?;
                self.train(&*method, &dir.join(threads.to_string()))?;
                bits(method.params())
            })
        };
        let one = run(1)?;
        self.same(&one, &run(2)?, "a second thread")?;
        self.same(&one, &run(5)?, "five threads")
    }

    /// The gradient that is put together from micro-batches of each of `sizes` is that of the whole batch,
    /// but for a share `tolerance` of the largest element of each gradient; the loss likewise.
    ///
    /// # Errors
    /// If it is not.
    pub fn parts_compute_the_gradient<O: Objective<Batch = B> + ?Sized>(
        &self,
        method: &O,
        sizes: &[usize],
        tolerance: f64,
    ) -> Result<()> {
        let batch = (self.make)(0, 0)?;
        let pass = || Pass::train(5, Progress { step: 2, total_steps: 9, epoch: 0 });
        let whole = gradients(method, &batch, 0, &pass())?;
        for &micro in sizes {
            let parts = gradients(method, &batch, micro, &pass())?;
            if (whole.loss - parts.loss).abs() > tolerance * whole.loss.abs().max(1.0) {
                return self.fail(format_args!("loss {}, from parts of {micro} {}", whole.loss, parts.loss));
            }
            for (key, g) in whole.grads.iter() {
                let Some(h) = parts.grads.get(key) else {
                    return self.fail(format_args!("no gradient of {key} from parts of {micro}"));
                };
                let (gap, size) = (largest(&(g - h)?)?, largest(g)?);
                if gap > tolerance * size.max(1e-3) {
                    return self.fail(format_args!(
                        "the gradient of {key} from parts of {micro} differs by {gap} of {size}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Processes that have a part of the batch each compute the gradient of one process that has all of it,
    /// but for a share `tolerance` of the largest element of each gradient; the loss likewise. All of them
    /// get the same bits. `build(seed)` makes the method.
    ///
    /// # Errors
    /// If they do not, or the samples of a batch cannot be divided by `ranks`.
    pub fn ranks_compute_the_gradient<O: Objective<Batch = B> + ?Sized>(
        &self,
        build: impl Fn(u64) -> Result<Box<O>> + Sync,
        ranks: usize,
        tolerance: f64,
    ) -> Result<()> {
        let pass = || Pass::train(5, Progress { step: 2, total_steps: 9, epoch: 0 });
        let batch = (self.make)(0, 0)?;
        let n = batch.samples();
        if ranks == 0 || n % ranks != 0 {
            return self.fail(format_args!("{n} samples cannot be divided by {ranks} processes"));
        }
        let whole = gradients(&*build(3)?, &batch, 0, &pass())?;
        let parts = run_ranks(ranks, |world| {
            let (len, method) = (n / ranks, build(3)?);
            let start = world.rank() * len;
            let own = (self.make)(0, 0)?.narrow(start, len)?;
            let made = gradients(&*method, &own, 0, &pass().in_world(world).at(start as u64))?;
            Ok((made.grads, made.loss))
        })?;
        for (rank, (grads, loss)) in parts.iter().enumerate() {
            if (whole.loss - loss).abs() > tolerance * whole.loss.abs().max(1.0) {
                return self.fail(format_args!("loss {}, on process {rank} of {ranks} {loss}", whole.loss));
            }
            for (key, g) in whole.grads.iter() {
                let Some(h) = grads.get(key) else {
                    return self.fail(format_args!("no gradient of {key} on process {rank} of {ranks}"));
                };
                let (gap, size) = (largest(&(g - h)?)?, largest(g)?);
                // A gradient that vanishes (a bias before batch norm) is rounding in both.
                if gap > (tolerance * size).max(1e-5) {
                    return self.fail(format_args!(
                        "the gradient of {key} of {ranks} processes differs by {gap} of {size}"
                    ));
                }
                if let Some(first) = parts[0].0.get(key)
                    && largest(&(first - h)?)? != 0.0
                {
                    return self
                        .fail(format_args!("the gradient of {key} differs between processes 0 and {rank}"));
                }
            }
        }
        Ok(())
    }

    fn same(&self, a: &Bits, b: &Bits, cause: &str) -> Result<()> {
        match a.iter().find(|(name, values)| b.get(*name) != Some(values)) {
            Some((name, _)) => self.fail(format_args!("{cause} changed {name}")),
            None => Ok(()),
        }
    }
}

/// The batches of a trial, and the place where it is to stop.
struct Stopping<'a, B> {
    trial: &'a Trial<'a, B>,
    stop_at: Option<(u64, usize)>,
    stop: Stop,
}

impl<B: Batch> Source<B> for Stopping<'_, B> {
    fn batches(&self) -> usize {
        self.trial.batches
    }

    fn epoch_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<B>>> + '_>> {
        Ok(Box::new((first..self.trial.batches).map(move |b| {
            if self.stop_at == Some((epoch, b)) {
                self.stop.request();
            }
            let batch = (self.trial.make)(epoch, b)?;
            let indices = (b * batch.samples()..(b + 1) * batch.samples()).collect();
            Ok(LoadedBatch { indices, batch, bad: Vec::new() })
        })))
    }
}

/// A second build over the same parameters, of an encoder or a method, adds none and changes no value: the
/// parameters were moved away from their initial values in between, as training and loading do.
///
/// # Errors
/// Naming the parameter that a build changed or added.
pub fn building_twice_changes_nothing<T>(name: &str, build: impl Fn(&Scope) -> Result<T>) -> Result<()> {
    let params = Params::new();
    let scope = Scope::root(&params, 3, &Device::Cpu);
    build(&scope)?;
    for p in params.all() {
        params.set(&p.name, &(p.var.as_tensor().detach() * 0.5)?.affine(1.0, 0.25)?)?;
    }
    let before = bits(&params)?;
    build(&scope)?;
    let after = bits(&params)?;
    match after.iter().find(|(key, values)| before.get(*key) != Some(values)) {
        Some((key, _)) => Err(Error::Other(format!("{name}: a second build changed {key}"))),
        None => Ok(()),
    }
}

/// Every parameter says where it stands, which layer-wise learning rates and frozen blocks go by; buffers
/// need not.
///
/// # Errors
/// Naming the parameters that do not.
pub fn every_parameter_has_a_place(name: &str, params: &Params) -> Result<()> {
    let without = |p: &Param| p.place.is_none() && p.role != Role::Buffer;
    let names: Vec<String> = params.all().into_iter().filter(without).map(|p| p.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::Other(format!("{name}: without a place: {}", names.join(", "))))
}

/// The learning rates of an encoder that is built at `encoder` and fine-tuned with a layer-wise decay of 0.5,
/// one line a group of parameters that share the first parts of their names and their rate: `blocks.0 0.25`.
/// `train_blocks` as in fine-tuning; frozen groups are not listed.
///
/// # Errors
/// If a parameter has no place or the encoder cannot be built.
pub fn fine_tuning_rates<T>(
    build: impl Fn(&Scope) -> Result<T>,
    train_blocks: Option<usize>,
) -> Result<Vec<String>> {
    let params = Params::new();
    build(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"))?;
    if let Some(blocks) = train_blocks {
        train_last_blocks(&params, "encoder", blocks)?;
    }
    let optim = OptimConfig { layer_decay: Some(0.5), ..OptimConfig::default() };
    let mut lines: Vec<String> = Vec::new();
    for (name, rate, _) in Optimizer::new(&params, optim)?.groups() {
        let parts: Vec<&str> = name.split('.').skip(1).collect();
        let length = 1 + usize::from(parts.get(1).is_some_and(|p| p.parse::<usize>().is_ok()));
        let line = format!("{} {rate}", parts.iter().take(length).copied().collect::<Vec<_>>().join("."));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// The bytes of parameters by name.
type Bits = BTreeMap<String, Vec<u32>>;

/// The bits of all parameters, buffers and averages, by name.
///
/// # Errors
/// If one is not of single precision.
pub fn bits(params: &Params) -> Result<Bits> {
    let of = |t: &Tensor| -> Result<Vec<u32>> { Ok(floats(t)?.into_iter().map(f32::to_bits).collect()) };
    params.all().into_iter().map(|p| Ok((p.name, of(p.var.as_tensor())?))).collect()
}

fn largest(t: &Tensor) -> Result<f64> {
    Ok(f64::from(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Linear;
    use crate::objective::{Loss, Outputs, Views};
    use crate::{Encoder, Init, Key, Scope};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A linear map onto 0, with faults.
    struct Faulty {
        params: Params,
        map: Linear,
        fault: Fault,
        calls: AtomicU32,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// A parameter that no loss sees, excused in `may_skip`.
        Idle,
        /// The loss counts how often it was asked.
        Forgets,
        /// The loss is a sum over samples that claims to be a mean.
        Sums,
    }

    fn build(fault: Fault, seed: u64) -> Faulty {
        let params = Params::new();
        let scope = Scope::root(&params, seed, &Device::Cpu);
        let map = Linear::new(&scope.sub("map"), 3, 2, true, Init::TorchLinear).unwrap();
        if fault == Fault::Idle {
            Linear::new(&scope.sub("idle"), 1, 1, true, Init::TorchLinear).unwrap();
        }
        Faulty { params, map, fault, calls: AtomicU32::new(0) }
    }

    impl Objective for Faulty {
        type Batch = Views;
        type Embeddings = Outputs;
        fn params(&self) -> &Params {
            &self.params
        }
        fn encoder(&self) -> &dyn Encoder {
            unreachable!("no check asks for the encoder")
        }
        fn couples_samples(&self) -> bool {
            false
        }
        fn may_skip(&self) -> Vec<String> {
            vec!["idle.weight".into(), "idle.bias".into()]
        }
        fn embed(&self, batch: &Views, pass: &Pass) -> Result<Outputs> {
            let outputs = self.map.forward(&batch.globals[0], pass)?;
            Ok(Outputs { targets: outputs.detach(), outputs })
        }
        fn criterion(&self, e: &Outputs, _: &Pass) -> Result<Loss> {
            let squares = e.outputs.sqr()?;
            let loss = if self.fault == Fault::Sums { squares.sum_all()? } else { squares.mean_all()? };
            let calls =
                if self.fault == Fault::Forgets { self.calls.fetch_add(1, Ordering::Relaxed) } else { 0 };
            Ok(Loss { value: (loss * f64::from(1 + calls))?, parts: vec![] })
        }
    }

    fn trial<'a>() -> Trial<'a, Views> {
        Trial::new("faulty", |epoch, b| {
            let mut rng = Key::new(1).fold(epoch).fold(b as u64).rng();
            let x =
                Tensor::from_vec((0..12).map(|_| rng.normal()).collect::<Vec<f32>>(), (4, 3), &Device::Cpu)?;
            Ok(Views::of(vec![x], (b * 4..b * 4 + 4).collect()))
        })
    }

    fn message(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_good_method_passes() {
        let dir = tempfile::tempdir().unwrap();
        let t = trial();
        t.every_parameter_moves(&build(Fault::None, 0), &dir.path().join("a")).unwrap();
        t.resuming_is_exact(|seed| Ok(Box::new(build(Fault::None, seed))), &dir.path().join("b")).unwrap();
        t.threads_do_not_change_a_bit(|seed| Ok(Box::new(build(Fault::None, seed))), &dir.path().join("c"))
            .unwrap();
        t.parts_compute_the_gradient(&build(Fault::None, 0), &[1, 3], 1e-5).unwrap();
        t.ranks_compute_the_gradient(|seed| Ok(Box::new(build(Fault::None, seed))), 2, 1e-5).unwrap();
    }

    #[test]
    fn faults_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let t = trial();
        let idle = message(t.every_parameter_moves(&build(Fault::Idle, 0), &dir.path().join("a")));
        assert!(idle.contains("faulty: idle.") && idle.contains("did not move"), "{idle}");
        let forgets = message(
            t.resuming_is_exact(|seed| Ok(Box::new(build(Fault::Forgets, seed))), &dir.path().join("b")),
        );
        assert!(forgets.contains("resuming changed map."), "{forgets}");
        let sums = message(t.parts_compute_the_gradient(&build(Fault::Sums, 0), &[1], 1e-5));
        assert!(sums.contains("from parts of 1"), "{sums}");
        let sums =
            message(t.ranks_compute_the_gradient(|seed| Ok(Box::new(build(Fault::Sums, seed))), 2, 1e-5));
        assert!(sums.contains("on process 0 of 2"), "{sums}");
    }
}
