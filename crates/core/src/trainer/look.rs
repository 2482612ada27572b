//! What the loop asks at intervals: the loss of held-out samples, and the observers.

use super::gradients::gather;
use super::{Look, Trainer, log, ranks};
use crate::data::Source;
use crate::error::Result;
use crate::objective::{Batch, Embedded, Objective};
use crate::pass::{Pass, Progress};
use crate::run::{COST, Run};
use selfsup_kernels::host::floats;

impl<O: Objective + ?Sized> Trainer<'_, O> {
    /// Asks the observers and the held-out samples; returns what decides which checkpoint is best (higher is
    /// better). All ranks return the same.
    pub(super) fn look(&mut self, progress: Progress, run: &mut Run) -> Result<Option<(String, f64)>> {
        let mut metrics = Vec::new();
        if let Some(source) = &self.validation
            && let Some(loss) = self.validate(source)?
        {
            metrics.push(("val_loss".to_string(), loss));
        }
        metrics.extend(self.observed(progress)?);
        if metrics.is_empty() {
            return Ok(None);
        }
        if self.writes() {
            log(run, progress, &metrics)?;
        }
        let shown = metrics.iter().filter(|(name, _)| !name.starts_with(COST));
        let text: Vec<String> = shown.map(|(name, v)| format!("{name} {v:.4}")).collect();
        self.display.note(&format!("epoch {}: {}", progress.epoch, text.join("  ")));
        let of = |name: &str| metrics.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let decided = self
            .observers
            .iter()
            .find_map(|o| o.decides().and_then(|name| Some((name.to_string(), of(name)?))));
        Ok(decided.or_else(|| of("val_loss").map(|v| ("-val_loss".into(), -v))).filter(|(_, v)| !v.is_nan()))
    }

    /// Asks the observers alone, and writes what they say into the metrics.
    pub(super) fn measure(&mut self, progress: Progress, run: &mut Run) -> Result<()> {
        let metrics = self.observed(progress)?;
        if self.writes() && !metrics.is_empty() {
            log(run, progress, &metrics)?;
        }
        Ok(())
    }

    /// What the observers say, means over all ranks.
    fn observed(&mut self, progress: Progress) -> Result<Vec<(String, f64)>> {
        let look = Look { encoder: self.objective.encoder(), progress, device: &self.device };
        let mut observed = Vec::new();
        for observer in &mut self.observers {
            observed.extend(observer.observe(&look)?);
        }
        let values: Vec<f64> = observed.iter().map(|(_, v)| *v).collect();
        let means = ranks::mean(&self.world, &values)?;
        Ok(observed.into_iter().map(|(name, _)| name).zip(means).collect())
    }

    /// The mean loss of `source`, over all ranks.
    fn validate(&self, source: &dyn Source<O::Batch>) -> Result<Option<f64>> {
        let world = &self.world;
        let pass = Pass::eval().in_world(world.clone());
        let together = self.objective.couples_samples() && !world.alone();
        let (mut sum, mut n, mut seen) = (0.0, 0.0, 0);
        for loaded in source.epoch_from(0, 0)? {
            let batch = loaded?.batch.to_device(&self.device)?;
            let joint = ranks::joint(world, batch.samples(), (0, 0))?;
            if self.objective.couples_samples() && joint.samples < 2 {
                continue;
            }
            let own = pass.at(seen + joint.offset);
            let embeddings = self.objective.embed(&batch, &own)?.detach()?;
            let mut weight = self.objective.weight(&batch, &embeddings)?;
            // As in a step: what couples samples sees those of all ranks.
            let value = if together {
                weight = world.total(weight)?;
                self.objective.criterion(&gather(&embeddings, &pass)?, &pass.at(seen))?.value
            } else {
                self.objective.criterion(&embeddings, &own)?.value
            };
            let value = floats(&value)?[0];
            sum += f64::from(value) * weight;
            n += weight;
            seen += joint.samples;
        }
        if !together {
            (sum, n) = (world.total(sum)?, world.total(n)?);
        }
        Ok((n > 0.0).then(|| sum / n))
    }
}
