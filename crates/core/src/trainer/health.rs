//! Whether a run is healthy: gauges that stay below their bound.

use crate::objective::Gauge;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The number of logged values in a row below the bound after which the loop warns. Healthy runs have a few:
/// after the start, and where a batch is odd.
const PATIENCE: usize = 10;

/// A gauge that stays below its bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Low {
    /// Its name in the metrics.
    pub gauge: String,
    /// The last value.
    pub value: f64,
    /// The bound that a healthy run stays above.
    pub healthy_above: f64,
    /// The first step at which it was below, and has been since.
    pub since_step: u64,
}

/// What is remembered of a gauge below its bound.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Below {
    /// The last value.
    #[serde(with = "exact")]
    value: f64,
    #[serde(with = "exact")]
    bound: f64,
    since_step: u64,
    /// Logged values since.
    values: usize,
}

/// A number as text: the same bits again, NaN and infinities among them, which a number in JSON does not give.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<f64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The gauges of a run that are below their bounds. Checkpoints hold it, so a resumed run warns where the
/// whole one warns, and a finished one keeps its verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Health {
    low: BTreeMap<String, Below>,
}

impl Health {
    /// Takes the gauges that were logged at `step` and returns messages: once for each gauge that has been
    /// below its bound for long, and once when it is above again. NaN counts as below.
    pub fn look(&mut self, step: u64, gauges: &[Gauge]) -> Vec<String> {
        let mut said = Vec::new();
        for v in gauges {
            let Some(bound) = v.healthy_above else { continue };
            if v.value >= bound {
                if let Some(low) = self.low.remove(v.name).filter(|low| low.values >= PATIENCE) {
                    said.push(format!(
                        "{} is {:.4} at step {step}, above {bound} again after {} steps",
                        v.name,
                        v.value,
                        step - low.since_step
                    ));
                }
                continue;
            }
            let new = Below { value: v.value, bound, since_step: step, values: 0 };
            let low = self.low.entry(v.name.to_string()).or_insert(new);
            low.value = v.value;
            low.values += 1;
            if low.values == PATIENCE {
                said.push(format!(
                    "warning: {} has been below {bound} since step {} (now {:.4}): the run is collapsing, or is still on a plateau; docs/methods shows healthy curves of the method",
                    v.name, low.since_step, v.value
                ));
            }
        }
        said
    }

    /// The gauges that have been below their bound for long.
    pub fn low(&self) -> Vec<Low> {
        let long = self.low.iter().filter(|(_, low)| low.values >= PATIENCE);
        long.map(|(name, low)| Low {
            gauge: name.clone(),
            value: low.value,
            healthy_above: low.bound,
            since_step: low.since_step,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(codes: f64) -> Vec<Gauge> {
        vec![
            Gauge { name: "accuracy", value: 0.0, healthy_above: None },
            Gauge { name: "codes", value: codes, healthy_above: Some(2.0) },
        ]
    }

    #[test]
    fn said_once_and_taken_back() {
        let mut health = Health::default();
        // A short dip is no news.
        for (step, codes) in [(0, 1.0), (5, 2.0), (10, 1.0)] {
            assert_eq!(health.look(step, &gauges(codes)), Vec::<String>::new());
        }
        let said: Vec<_> = (11..40)
            .flat_map(|step| health.look(step, &gauges(if step == 20 { f64::NAN } else { 1.5 })))
            .collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("codes has been below 2 since step 10 (now 1.5000)"), "{said:?}");
        // Through a checkpoint.
        let text = serde_json::to_string(&health).unwrap();
        let mut health: Health = serde_json::from_str(&text).unwrap();
        let low = health.low();
        assert_eq!(
            (low.len(), low[0].gauge.as_str(), low[0].value, low[0].since_step),
            (1, "codes", 1.5, 10)
        );
        assert_eq!(
            health.look(40, &gauges(3.0)),
            ["codes is 3.0000 at step 40, above 2 again after 30 steps"]
        );
        assert!(health.low().is_empty());
    }
}
