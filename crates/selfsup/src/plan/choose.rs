//! From what a step costs to batch, micro-batches and number of steps: arithmetic alone.

use super::measure::Cost;

/// Passes over the data, and steps, above which a recipe is worth its cost.
const EPOCHS: u64 = 20;
const STEPS: u64 = 150;
/// Passes over the data beyond which few samples teach nothing new (SimCLR's longest run has 1,000), and the
/// fewest steps of such a run.
const MOST_EPOCHS: u64 = 400;
const FEW_STEPS: u64 = 500;
/// The smallest batch that is chosen for want of time.
const LEAST: usize = 16;

/// What is decided already, and what there is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `train.batch_size`, where it was given.
    pub batch: Option<usize>,
    /// `train.micro_batch_size`, where it was given.
    pub micro: Option<usize>,
    /// Steps of the run, or else epochs, where they were given.
    pub steps: Option<u64>,
    /// See `steps`.
    pub epochs: Option<u64>,
    /// The largest batch that helps.
    pub most: usize,
    /// Seconds for training.
    pub seconds: f64,
    /// Bytes that the process may hold.
    pub bytes: Option<f64>,
    /// Cores that read.
    pub cores: usize,
}

/// Batch and length of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// Samples of a step.
    pub batch: usize,
    /// Samples in memory at once; 0 for all.
    pub micro: usize,
    /// Steps of the run.
    pub steps: u64,
    /// Steps of an epoch.
    pub per_epoch: u64,
    /// Seconds of a step.
    pub step: f64,
    /// Whether there is time for enough steps to be worth it.
    pub enough: bool,
    /// Whether there is time for more than twice as many: for a recipe that costs more.
    pub room: bool,
}

impl Choice {
    /// Passes over the data.
    pub fn epochs(&self) -> u64 {
        self.steps / self.per_epoch.max(1)
    }
}

/// The samples that fit into memory at once, `batch` at most; `None` if not even two do.
fn micro(cost: &Cost, bounds: &Bounds, batch: usize) -> Option<usize> {
    if let Some(given) = bounds.micro {
        return Some(given);
    }
    let (Some(bytes), Some(limit)) = (cost.bytes, bounds.bytes) else { return Some(0) };
    if bytes.fixed + bytes.each * batch as f64 <= limit {
        return Some(0);
    }
    let fit = ((limit - bytes.fixed) / bytes.each.max(1.0)) as usize;
    if fit < 2.min(batch) {
        return None;
    }
    // Parts of like size.
    Some(batch.div_ceil(batch.div_ceil(fit)))
}

/// Seconds of a step.
fn step(cost: &Cost, bounds: &Bounds, batch: usize, micro: usize) -> f64 {
    let parts = if micro == 0 { 1 } else { batch.div_ceil(micro) };
    // Embedded once more, without a graph.
    let twice = if parts > 1 && cost.couples { 4.0 / 3.0 } else { 1.0 };
    let reading = cost.reading / bounds.cores.max(1) as f64;
    batch as f64 * (cost.each * twice + reading) + cost.fixed * (1.0 + 0.3 * (parts - 1) as f64)
}

/// Batch, micro-batch and steps; `None` if a step does not fit into memory.
pub fn choose(cost: &Cost, bounds: &Bounds) -> Option<Choice> {
    let samples = cost.samples.max(1);
    let of = |batch: usize| -> Option<Choice> {
        let micro = micro(cost, bounds, batch)?;
        Some(length(bounds, samples, batch, micro, step(cost, bounds, batch, micro)))
    };
    if let Some(batch) = bounds.batch {
        return of(batch);
    }
    let mut batch = bounds.most.min(samples).max(1);
    loop {
        let choice = of(batch)?;
        let half = batch.div_ceil(2);
        if choice.enough || bounds.steps.or(bounds.epochs).is_some() || half < LEAST {
            return Some(choice);
        }
        batch = half;
    }
}

/// The steps for which there is time, when each takes `step` seconds.
pub fn length(bounds: &Bounds, samples: usize, batch: usize, micro: usize, step: f64) -> Choice {
    let per_epoch = (samples / batch.max(1)).max(1) as u64;
    let timely = (bounds.seconds / step.max(1e-9)) as u64;
    let most = (MOST_EPOCHS * per_epoch).max(FEW_STEPS);
    let steps = match (bounds.steps, bounds.epochs) {
        (Some(steps), _) => steps,
        (None, Some(epochs)) => epochs * per_epoch,
        (None, None) => timely.clamp(1, most),
    };
    let wanted = (EPOCHS * per_epoch).max(STEPS);
    Choice { batch, micro, steps, per_epoch, step, enough: timely >= wanted, room: timely > 2 * wanted }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::measure::Bytes;
    use super::*;

    const OPEN: Bounds = Bounds {
        batch: None,
        micro: None,
        steps: None,
        epochs: None,
        most: 256,
        seconds: 1000.0,
        bytes: Some(1e9),
        cores: 2,
    };

    fn cost(samples: usize, each: f64, bytes: f64) -> Cost {
        let bytes = Some(Bytes { fixed: 1e8, each: bytes });
        Cost { samples, each, bytes, couples: true, ..Cost::default() }
    }

    #[test]
    fn few_samples_are_one_batch_and_end_early() {
        let c = choose(&cost(2, 1e-3, 1e6), &OPEN).unwrap();
        assert_eq!((c.batch, c.micro, c.per_epoch, c.steps), (2, 0, 1, FEW_STEPS));
        assert!(c.enough && c.room);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_cut_into_like_parts() {
        let c = choose(&cost(100_000, 1e-4, 1e7), &OPEN).unwrap();
        // 0.9 GB are left for samples of 10 MB.
        assert_eq!((c.batch, c.micro), (256, 86));
        // Each sample is embedded twice then: 1 + 1/3 of the time.
        assert!((c.step - 256.0 * 1e-4 * 4.0 / 3.0).abs() < 1e-9, "{}", c.step);
        assert_eq!(choose(&cost(100, 1e-4, 1e9), &OPEN), None);
        let c = choose(&cost(100, 1e-4, 1e9), &Bounds { micro: Some(7), ..OPEN }).unwrap();
        assert_eq!(c.micro, 7);
    }

    #[test]
    fn little_time_makes_smaller_batches_and_what_was_given_stays() {
        // 2,000 visits of a sample in the time: 20 epochs of 100 samples, in steps of 25.
        let slow = cost(100, 0.5, 1e6);
        let c = choose(&slow, &OPEN).unwrap();
        assert_eq!((c.batch, c.enough), (25, false));
        assert!(c.steps as f64 * c.step <= 1000.0 && (c.steps + 1) as f64 * c.step > 1000.0);
        let given = Bounds { batch: Some(64), epochs: Some(3), ..OPEN };
        let c = choose(&slow, &given).unwrap();
        assert_eq!((c.batch, c.steps, c.epochs()), (64, 3, 3));
        assert_eq!(choose(&slow, &Bounds { steps: Some(7), ..OPEN }).unwrap().steps, 7);
    }
}
