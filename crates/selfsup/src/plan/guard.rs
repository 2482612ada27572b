//! A step that does not fit into memory is refused before the first one: an allocation that fails ends the
//! process without a word, or the system ends it.

use super::measure::{Bytes, bytes, peak};
use super::{machine, said};
use crate::config::PretrainConfig;
use crate::modality::{Method, Modality, Training};
use crate::set::Set;
use candle_core::Device;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::Batch;
use selfsup_core::optim::OptimKind;
use selfsup_core::trainer::gradients;
use selfsup_core::{Error, Pass, Progress, Result, Role};

/// Samples of the two steps that are taken.
const FEW: usize = 2;
const MORE: usize = 4;
/// Above so many seconds of preparing batches, the run's own are looked at.
const SLOW: f64 = 2.0;

/// What is about to be trained.
pub struct Ready<'a, M: Modality> {
    /// The modality.
    pub modality: &'a M,
    /// Its configuration.
    pub config: &'a PretrainConfig<M::Keys>,
    /// The method. Its parameters are read alone.
    pub method: &'a Method<M::Batch>,
    /// The samples.
    pub set: &'a Set,
    /// Batches of them.
    pub loader: &'a dyn Source<M::Batch>,
    /// Seconds that it took to prepare those.
    pub prepared: f64,
    /// Where it is trained.
    pub device: &'a Device,
}

/// Refuses a step that needs more memory than there is, as gradients of two and four samples tell it. What
/// cannot be read or measured passes: the training says why.
///
/// # Errors
/// [`Error::Config`] with the key, what the step needs and what is free.
pub fn refuse_too_large<M: Modality>(ready: &Ready<M>) -> Result<()> {
    let train = &ready.config.train;
    let at_once = if train.micro_batch_size == 0 {
        train.batch_size
    } else {
        train.micro_batch_size.min(train.batch_size)
    };
    if !ready.device.is_cpu() || at_once <= MORE || matches!(ready.modality.training(), Training::Plan(_)) {
        return Ok(());
    }
    let Ok(Some(Bytes { fixed, each })) = measured(ready) else { return Ok(()) };
    let (Some((held, _)), Some(free)) = (machine::held(), machine::memory_free()) else { return Ok(()) };
    let moments = match ready.config.optim.kind {
        OptimKind::Adamw => 8.0,
        _ => 4.0,
    } * ready.method.params().count(Role::Trained) as f64;
    let (fixed, limit) = (fixed + moments, held as f64 + free as f64);
    let need = fixed + each * at_once as f64;
    if need <= limit {
        return Ok(());
    }
    let key = if train.micro_batch_size == 0 { "train.batch_size" } else { "train.micro_batch_size" };
    // The largest power of two that leaves half of the memory.
    let fits = ((held as f64 + free as f64 / 2.0 - fixed) / each.max(1.0)).max(1.0) as usize;
    let fits = 1 << fits.ilog2();
    Err(Error::config(format!(
        "{key} = {at_once}: a step would take about {} of memory, and {} are free: set train.micro_batch_size = \
         {fits} (so many samples in memory at once; the batch stays), or lower train.batch_size",
        said::gigabytes((need - held as f64).max(0.0) as u64),
        said::gigabytes(free)
    )))
}

/// Bytes of the process beside the samples of a step, and for each.
fn measured<M: Modality>(ready: &Ready<M>) -> Result<Option<Bytes>> {
    let few =
        LoaderConfig { batch_size: MORE, workers: 0, prefetch: 1, ..LoaderConfig::from(&ready.config.train) };
    let own;
    let source = if ready.prepared < SLOW {
        own = ready.modality.batches(ready.set, few)?;
        &*own
    } else {
        ready.loader
    };
    let counts = source.counts();
    let Some(loaded) = source.epoch_from(0, 0)?.next() else { return Ok(None) };
    source.restore_counts(counts.0, counts.1);
    let batch = loaded?.batch;
    if batch.samples() < MORE {
        return Ok(None);
    }
    let pass = Pass::train(ready.config.train.seed, Progress { step: 0, total_steps: 1, epoch: 0 });
    let grads = |n: usize| gradients(&**ready.method, &batch.narrow(0, n)?, 0, &pass);
    grads(FEW)?;
    let ((_, low), (_, high)) = (peak(|| grads(FEW))?, peak(|| grads(MORE))?);
    Ok(low.zip(high).map(|(low, high)| bytes((FEW, low), (MORE, high))))
}
