//! What a step of a configuration costs on this machine, in seconds and bytes: seen from a few small real steps,
//! which train a copy that is thrown away.

use super::machine;
use crate::config::PretrainConfig;
use crate::modality::Modality;
use crate::set::Set;
use candle_core::Device;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::Batch;
use selfsup_core::trainer::{TrainConfig, Trainer};
use selfsup_core::{Encoder, Error, Params, Result, Role, Scope};
use selfsup_kernels::memory::give_back_pages;
use std::time::Instant;

/// Samples of the smaller and of the larger step.
const FEW: usize = 2;
const MORE: usize = 8;
/// Above so many seconds of the smaller step the larger one is left out.
const SLOW: f64 = 2.0;

/// Bytes of the process: beside the samples of a step, and of each sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bytes {
    /// Of parameters, gradients, moments, and everything else.
    pub fixed: f64,
    /// Of the activations of a sample.
    pub each: f64,
}

/// What a configuration costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Samples that are trained on in an epoch.
    pub samples: usize,
    /// Seconds of a step beside its samples.
    pub fixed: f64,
    /// Seconds of a step for each sample.
    pub each: f64,
    /// Seconds that one thread takes to read and transform a sample.
    pub reading: f64,
    /// Seconds to read and encode a record for an evaluation.
    pub encoding: f64,
    /// Memory, where the system tells it.
    pub bytes: Option<Bytes>,
    /// Whether the criterion couples samples: with micro-batches it embeds twice.
    pub couples: bool,
    /// Values that are trained.
    pub trained: usize,
}

/// Bytes that the process held before some work, and the most that it held meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    pub before: f64,
    pub most: f64,
}

/// Runs `work`; returns with its result what the process held, where the system tells.
pub(super) fn peak<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Option<Peak>)> {
    give_back_pages();
    let before = machine::held().filter(|_| machine::forget_peak()).map(|(now, _)| now as f64);
    let out = work()?;
    let most = machine::held().map(|(_, most)| most as f64);
    Ok((out, before.zip(most).map(|(before, most)| Peak { before, most })))
}

/// Bytes beside the samples and of each, from a step of `few` and one of `more`; from the first alone where
/// they are the same.
pub(super) fn bytes((few, low): (usize, Peak), (more, high): (usize, Peak)) -> Bytes {
    let alone = (high.most - high.before) / more.max(1) as f64;
    let each = match more.checked_sub(few) {
        Some(between) if between > 0 && high.most > low.most => (high.most - low.most) / between as f64,
        _ => alone,
    };
    Bytes { fixed: high.most - each * more as f64, each }
}

/// Batches to look at.
type Batches<M> = Box<dyn Source<<M as Modality>::Batch>>;

/// Batches of `wanted` samples, or of all where there are fewer; with how many it is.
fn of_at_most<M: Modality>(
    modality: &M,
    set: &Set,
    loader: &LoaderConfig,
    wanted: usize,
) -> Result<(Batches<M>, usize)> {
    let sized = |batch_size| modality.trial(set, LoaderConfig { batch_size, ..loader.clone() });
    match sized(wanted) {
        Err(Error::TooFew { .. }) => {
            let all = sized(1)?.batches();
            Ok((sized(all)?, all))
        }
        other => Ok((other?, wanted)),
    }
}

/// The first batch of an epoch.
fn first<B>(source: &dyn Source<B>) -> Result<B> {
    match source.epoch_from(0, 0)?.next() {
        Some(loaded) => Ok(loaded?.batch),
        None => Err(Error::input("data", "not a single batch can be made from it")),
    }
}

/// The cost of training `modality` on `set`.
///
/// # Errors
/// As a training: what cannot be read or built.
pub fn measure<M: Modality>(
    modality: &M,
    config: &PretrainConfig<M::Keys>,
    set: &Set,
    device: &Device,
) -> Result<Cost> {
    let loader = LoaderConfig { workers: 0, prefetch: 1, ..LoaderConfig::from(&config.train) };
    let (source, more) = of_at_most(modality, set, &loader, MORE)?;
    let started = Instant::now();
    let batch = first(&*source)?;
    let whole_batch = more;
    let more = batch.samples().min(more).max(1);
    let reading = started.elapsed().as_secs_f64() / more as f64;
    let few = FEW.min(more);
    let small = batch.narrow(0, few)?;
    let params = Params::new();
    let method = modality.method(&Scope::root(&params, config.train.seed, device))?;
    let whole = TrainConfig { micro_batch_size: 0, ..config.train.clone() };
    let mut trainer = Trainer::new(&*method, whole, &config.optim, 1, device)?;
    let mut timed = |batch: &M::Batch| -> Result<f64> {
        let started = Instant::now();
        trainer.trial(batch)?;
        Ok(started.elapsed().as_secs_f64())
    };
    // The first step makes what lasts: gradients' memory, moments, threads.
    let (first_time, _) = peak(|| timed(&small))?;
    let (few_time, low) = peak(|| timed(&small))?;
    let few_time = few_time.min(first_time);
    let (more_time, high, more) = if more > few && few_time < SLOW {
        let (time, high) = peak(|| timed(&batch))?;
        (time.min(timed(&batch)?), high, more)
    } else {
        (few_time, low, few)
    };
    drop(trainer);
    // A step is no cheaper than half of what its samples take together.
    let each = ((more_time - few_time) / (more - few).max(1) as f64).max(0.5 * more_time / more as f64);
    let fixed = (few_time - each * few as f64).max(0.0);
    let bytes = low.zip(high).filter(|_| device.is_cpu()).map(|(l, h)| bytes((few, l), (more, h)));
    Ok(Cost {
        samples: source.batches() * whole_batch,
        fixed,
        each,
        reading,
        encoding: encoding(modality, config, method.encoder(), set, device)?,
        bytes,
        couples: method.couples_samples(),
        trained: params.count(Role::Trained),
    })
}

/// Seconds to read and encode a record as an evaluation does.
fn encoding<M: Modality>(
    modality: &M,
    config: &PretrainConfig<M::Keys>,
    encoder: &dyn Encoder,
    set: &Set,
    device: &Device,
) -> Result<f64> {
    let some = set.clone().limit(MORE)?;
    let inputs = modality.inputs(&some, false, LoaderConfig::in_order(MORE, 0))?;
    let (started, mut done) = (Instant::now(), 0);
    for loaded in inputs.epoch_from(0, 0)? {
        modality
            .features(encoder, &loaded?.batch.to_device(device)?, config.eval.read)?
            .to_device(&Device::Cpu)?;
        done += 1;
        if started.elapsed().as_secs_f64() > SLOW {
            break;
        }
    }
    let share = done as f64 / inputs.batches().max(1) as f64;
    Ok(started.elapsed().as_secs_f64() / (share.max(1e-9) * some.len().max(1) as f64))
}

/// Real steps of a whole configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal {
    /// Seconds of a step, with what the loader takes of it.
    pub step: f64,
    /// The most bytes that the process held.
    pub bytes: Option<f64>,
}

/// Takes a few steps as the run takes them, with its batch, micro-batches and threads, for about `seconds`.
///
/// # Errors
/// As [`measure`].
pub fn rehearse<M: Modality>(
    modality: &M,
    config: &PretrainConfig<M::Keys>,
    set: &Set,
    device: &Device,
    seconds: f64,
) -> Result<Rehearsal> {
    const STEPS: usize = 4;
    let source = modality.trial(set, LoaderConfig::from(&config.train))?;
    let method = modality.method(&Scope::root(&Params::new(), config.train.seed, device))?;
    let mut trainer = Trainer::new(&*method, config.train.clone(), &config.optim, 1, device)?;
    let mut times = Vec::new();
    let (_, held) = peak(|| {
        let started = Instant::now();
        // Epochs of a step or two begin with an empty loader each time: that is part of what a step takes.
        for epoch in 0.. {
            let mut last = Instant::now();
            for loaded in source.epoch_from(epoch, 0)? {
                trainer.trial(&loaded?.batch)?;
                times.push(last.elapsed().as_secs_f64());
                last = Instant::now();
                if times.len() >= STEPS || started.elapsed().as_secs_f64() > seconds {
                    return Ok(());
                }
            }
            if times.is_empty() {
                break;
            }
        }
        Ok(())
    })?;
    // The first step makes what lasts.
    let counted = if times.len() > 1 { &times[1..] } else { &times[..] };
    let step = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    Ok(Rehearsal { step, bytes: held.filter(|_| device.is_cpu()).map(|p| p.most) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_a_line_through_two_steps() {
        let at = |before: f64, most: f64| Peak { before, most };
        let line = bytes((2, at(100.0, 140.0)), (8, at(100.0, 260.0)));
        assert_eq!(line, Bytes { fixed: 100.0, each: 20.0 });
        // One step alone, or two that do not differ: what it added is of its samples.
        assert_eq!(bytes((2, at(100.0, 140.0)), (2, at(100.0, 140.0))).each, 20.0);
        assert_eq!(bytes((2, at(100.0, 260.0)), (8, at(100.0, 260.0))).each, 20.0);
    }
}
