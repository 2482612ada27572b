//! What a run took, beside what was planned: it stands in every `result.json`.

use crate::plan::{Estimate, machine};
use selfsup_core::trainer::Summary;
use serde::Serialize;
use std::time::Instant;

/// Marks the start of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Instant,
    processor: Option<f64>,
}

/// What the process took for a run. A run that was stopped and resumed has the cost of its last process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Seconds from the start to the result, with plan and evaluation.
    pub seconds: f64,
    /// Seconds of all threads on processors, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor_seconds: Option<f64>,
    /// Samples a second in training; nothing where no step was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
    /// The most memory that the process held, in megabytes, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_mb: Option<u64>,
    /// Seconds that the plan expected, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_seconds: Option<f64>,
    /// Memory that the plan expected, in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_memory_mb: Option<u64>,
}

impl Clock {
    /// Starts.
    pub fn start() -> Self {
        Clock { wall: Instant::now(), processor: machine::processor_seconds() }
    }

    /// What was taken since.
    pub fn cost(&self, training: &Summary, estimate: Option<&Estimate>) -> Cost {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let wall = |clock: &Instant| clock.elapsed().as_secs_f64();
        Cost {
            // A plan begins before the run.
            seconds: estimate.map_or(wall(&self.wall), |e| wall(&e.started)),
            processor_seconds: machine::processor_seconds().zip(self.processor).map(|(now, then)| now - then),
            samples_per_second: (!training.complete).then_some(training.samples_per_second),
            peak_memory_mb: machine::held().map(|(_, most)| megabytes(most)),
            planned_seconds: estimate.map(|e| e.seconds),
            planned_memory_mb: estimate.and_then(|e| e.bytes).map(|bytes| megabytes(bytes as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time_and_memory() {
        let clock = Clock::start();
        let mut sum = 0u64;
        while clock.wall.elapsed().as_millis() < 60 {
            sum = (0..100_000u64).fold(sum, |a, b| a.wrapping_mul(31).wrapping_add(b));
        }
        assert!(sum > 0);
        let cost = clock.cost(&Summary::default(), None);
        assert!(cost.seconds >= 0.06 && cost.planned_seconds.is_none());
        if cfg!(target_os = "linux") {
            assert!(cost.processor_seconds.unwrap() >= 0.0);
            assert!(cost.peak_memory_mb.unwrap() > 1);
        }
    }
}
