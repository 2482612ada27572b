//! One step of the loop.

use super::gradients::{Gradients, gradients};
use super::health::info_of;
use super::stepped::{Now, Stepped};
use super::{NonFinite, Trainer, ranks, watch};
use crate::error::{Error, Result};
use crate::objective::{Batch, Gauge, Objective};
use crate::params::Param;
use crate::pass::{Pass, Progress};
use candle_core::Tensor;
use std::collections::BTreeSet;

impl<O: Objective + ?Sized> Trainer<'_, O> {
    /// One step on `batch` outside a run, to see what it costs: everything that a step does, at a learning rate
    /// of a run's middle. Parameters, teachers and queues change. Returns the loss.
    ///
    /// # Errors
    /// As a step of [`Trainer::fit`].
    pub fn trial(&mut self, batch: &O::Batch) -> Result<f64> {
        let progress = Progress { step: 1, total_steps: 2, epoch: 0 };
        let now = Now { progress, since: 0, offset: 0, logged: false };
        Ok(self.step(batch, &now, &mut BTreeSet::new())?.loss)
    }

    /// One step; takes the parameters that got a gradient out of `missing`.
    pub(super) fn step(
        &mut self,
        batch: &O::Batch,
        now: &Now,
        missing: &mut BTreeSet<String>,
    ) -> Result<Stepped> {
        let progress = now.progress;
        // On this thread: a CUDA tensor lives on the stream of the thread that makes it, and other threads
        // use it without waiting for that stream. On the CPU nothing is copied.
        let batch = batch.to_device(&self.device)?;
        let pass = Pass::train(self.config.seed, progress).in_world(self.world.clone()).at(now.offset);
        let mut made = gradients(self.objective, &batch, self.config.micro_batch_size, &pass)?;
        check_gradients(&made, missing, &self.objective.may_skip(), now.since)?;
        let bad = if !made.loss.is_finite() {
            Some("the loss".into())
        } else if let Some(name) = made.grads.first_non_finite()? {
            Some(format!("the gradient of {name}"))
        } else {
            pass.first_non_finite_deferred()?.map(|name| format!("the statistic {name}"))
        };
        if let Some(what) = bad {
            if self.config.non_finite == NonFinite::Skip {
                return Ok(Stepped { loss: made.loss, skipped: true, ..Stepped::default() });
            }
            return Err(Error::NonFinite {
                step: progress.step,
                what,
                hint: "try a lower optim.lr, optim.clip_grad_norm = 1.0, or train.non_finite = \"skip\""
                    .into(),
            });
        }
        self.objective.adjust_grads(&mut made.grads, &progress)?;
        if progress.step < self.config.freeze_encoder_steps {
            made.grads.remove_under("encoder");
        }
        let before = if now.logged { watch::copies(self.objective.params())? } else { Vec::new() };
        let info = self.optimizer.step(&made.grads, progress.step, progress.total_steps)?;
        pass.write_deferred(self.objective.params())?;
        self.objective.after_step(&made.embeddings, &progress, &pass.world)?;
        let (mut metrics, mut gauges) = (Vec::new(), Vec::new());
        if now.logged {
            metrics.push(("loss".to_string(), made.loss));
            metrics.extend(made.parts.iter().map(|(name, v)| (format!("loss/{name}"), *v)));
            metrics.push(("lr".into(), info.lr));
            metrics.push(("grad_norm".into(), info.grad_norm));
            gauges = self.objective.gauges(&made.embeddings, &pass.calm())?;
            // The rest is the same on all ranks.
            let values: Vec<f64> = gauges.iter().map(|v| v.value).collect();
            let means = ranks::mean(&self.world, &values)?;
            gauges.iter_mut().zip(means).for_each(|(gauge, mean)| gauge.value = mean);
            self.watched(&before, &mut gauges)?;
            metrics.extend(gauges.iter().map(|v| (v.name.to_string(), v.value)));
        }
        Ok(Stepped { loss: made.loss, skipped: false, metrics, gauges })
    }
}

impl<O: Objective + ?Sized> Trainer<'_, O> {
    /// Adds what the trainer watches of every method, and gives each gauge without a band that of its
    /// description.
    fn watched(&mut self, before: &[(Param, Tensor)], gauges: &mut Vec<Gauge>) -> Result<()> {
        let infos = self.objective.gauge_info();
        let shared = (&self.world, self.objective.couples_samples());
        gauges.extend(self.watch.look(before, self.objective.params(), gauges, infos, shared)?);
        for gauge in gauges.iter_mut() {
            gauge.rows = None;
            if gauge.band.is_none()
                && let Some(info) = info_of(infos, gauge.name)
            {
                gauge.band = info.band;
            }
        }
        Ok(())
    }
}

/// Every trained tensor must get a gradient at the first step (those in `may_skip` within 50): a part that is
/// silently left out of the graph looks like a run that learns badly.
fn check_gradients<E>(
    made: &Gradients<E>,
    missing: &mut BTreeSet<String>,
    may_skip: &[String],
    since: u64,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    missing.retain(|name| !made.grads.contains(name));
    let late = |name: &&String| since >= 50 || !may_skip.contains(name);
    let named: Vec<&String> = missing.iter().filter(late).take(5).collect();
    if named.is_empty() {
        return Ok(());
    }
    let list = named.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::input(
        list,
        "no gradient reached this trained parameter: it is not part of the loss; freeze it or name it in may_skip",
    ))
}
