//! Whether a run is healthy: gauges that stay outside their band.

use crate::objective::Gauge;
use crate::objective::gauge::{Advice, Band, GaugeInfo, Side, described};
use crate::pass::Progress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Alarms that a run remembers: a gauge at the edge of its band may come and go.
const MOST: usize = 100;

/// The number of logged values in a row outside the band after which the loop warns: a tenth of those of the
/// run, between 5 and 10. Healthy runs have a few: after the start, and where a batch is odd.
pub(super) fn patience(total_steps: u64, log_every: u64) -> usize {
    (total_steps / log_every.max(1)).div_ceil(10).clamp(5, 10) as usize
}

/// The description of a gauge: the method's own, or that of all gauges of the name.
pub(super) fn info_of(own: &'static [GaugeInfo], name: &str) -> Option<&'static GaugeInfo> {
    own.iter().find(|info| info.name == name).or_else(|| described(name))
}

/// A gauge that stays outside its band.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// Its name in the metrics.
    pub gauge: String,
    /// The last value.
    pub value: f64,
    /// The bound that a healthy run stays above, where the gauge is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_above: Option<f64>,
    /// The bound that a healthy run stays below, where the gauge is above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_below: Option<f64>,
    /// The first step at which it was outside, and has been since.
    pub since_step: u64,
    /// What it usually means.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cause: String,
    /// What to try.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: String,
}

impl Breach {
    /// In a sentence: gauge, value, band, since when, likely cause, remedy.
    pub fn sentence(&self) -> String {
        let band = Band { low: self.healthy_above, high: self.healthy_below };
        let mut text = format!(
            "{} is {:.4}, outside its healthy band ({band}) since step {}",
            self.gauge, self.value, self.since_step
        );
        if self.cause.is_empty() {
            text += ": the run is collapsing, or is still on a plateau; docs/methods shows healthy curves";
        } else {
            text += &format!(". Likely cause: {}. Try: {}", self.cause, self.remedy);
        }
        text
    }
}

/// An alarm that a run raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The gauge.
    pub gauge: String,
    /// The step at which the loop warned.
    pub step: u64,
    /// The first step outside the band.
    pub since_step: u64,
}

/// What is remembered of a gauge outside its band.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outside {
    /// The last value.
    #[serde(with = "exact")]
    value: f64,
    #[serde(with = "exact")]
    bound: f64,
    #[serde(default = "below")]
    side: Side,
    since_step: u64,
    /// Logged values since.
    values: usize,
    /// Whether the loop has warned.
    #[serde(default)]
    warned: bool,
}

fn below() -> Side {
    Side::Below
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

/// What a look at the gauges has to say.
pub(super) enum Said {
    /// A gauge has been outside its band for long.
    Alarm(Breach),
    /// It is back.
    Back(String),
}

/// The gauges of a run that are outside their bands. Checkpoints hold it, so a resumed run warns where the
/// whole one warns, and a finished one keeps its verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Health {
    outside: BTreeMap<String, Outside>,
    alarms: Vec<Alarm>,
    /// What the gauges of the method mean.
    #[serde(skip)]
    infos: &'static [GaugeInfo],
}

impl Health {
    /// Of a method with descriptions of its own.
    pub fn of(infos: &'static [GaugeInfo]) -> Self {
        Health { infos, ..Health::default() }
    }

    /// The same state with the descriptions of `other`.
    pub fn with_infos_of(self, other: &Health) -> Self {
        Health { infos: other.infos, ..self }
    }

    /// Takes the gauges that were logged at `at` and returns what is to be said: once for each gauge that has
    /// been outside its band for `patience` values, and once when it is back. What a healthy run has to learn
    /// first (`GaugeInfo::grace`) does not count. NaN counts as outside.
    pub fn look(&mut self, at: Progress, gauges: &[Gauge], patience: usize) -> Vec<Said> {
        let (step, mut said) = (at.step, Vec::new());
        for g in gauges {
            let grace = info_of(self.infos, g.name).map_or(0.0, |info| info.grace);
            let counts = grace == 0.0 || step as f64 > grace * at.total_steps as f64;
            let side = g.band.breach(g.value).filter(|_| counts);
            let Some(side) = side else {
                if let Some(was) = self.outside.remove(g.name).filter(|was| was.warned) {
                    said.push(Said::Back(format!(
                        "{} is {:.4} at step {step}, inside its healthy band ({}) again after {} steps",
                        g.name,
                        g.value,
                        g.band,
                        step - was.since_step
                    )));
                }
                continue;
            };
            let bound = if side == Side::Below { g.band.low } else { g.band.high }.unwrap_or(f64::NAN);
            let new = Outside { value: g.value, bound, side, since_step: step, values: 0, warned: false };
            let outside = self.outside.entry(g.name.to_string()).or_insert(new);
            (outside.value, outside.bound, outside.side) = (g.value, bound, side);
            outside.values += 1;
            if outside.values >= patience && !outside.warned {
                outside.warned = true;
                let alarm = Alarm { gauge: g.name.into(), step, since_step: outside.since_step };
                said.push(Said::Alarm(breach(self.infos, g.name, outside)));
                if self.alarms.len() < MOST {
                    self.alarms.push(alarm);
                }
            }
        }
        said
    }

    /// The gauges that have been outside their band for long.
    pub fn breaches(&self) -> Vec<Breach> {
        let long = self.outside.iter().filter(|(_, o)| o.warned);
        long.map(|(name, o)| breach(self.infos, name, o)).collect()
    }

    /// Whether a gauge is outside its band.
    pub fn is_outside(&self, name: &str) -> bool {
        self.outside.contains_key(name)
    }

    /// All alarms of the run.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// Begins to count anew: the run goes on with other settings.
    pub fn forgive(&mut self) {
        self.outside.clear();
    }
}

fn breach(infos: &'static [GaugeInfo], name: &str, o: &Outside) -> Breach {
    let Advice { cause, remedy } = info_of(infos, name).map(|info| info.advice(o.side)).unwrap_or_default();
    let of = |side| (o.side == side).then_some(o.bound);
    Breach {
        gauge: name.to_string(),
        value: o.value,
        healthy_above: of(Side::Below),
        healthy_below: of(Side::Above),
        since_step: o.since_step,
        cause: cause.into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INFOS: [GaugeInfo; 2] = [
        GaugeInfo::new("codes", "entries in use").too_low("one code takes all", "a larger diversity weight"),
        GaugeInfo::new("late", "learnt late").after(0.5).too_high("a shortcut", "another task"),
    ];

    fn gauges(codes: f64) -> Vec<Gauge> {
        vec![Gauge::plain("accuracy", 0.0), Gauge::above("codes", codes, 2.0)]
    }

    fn at(step: u64) -> Progress {
        Progress { step, total_steps: 100, epoch: 0 }
    }

    fn texts(said: Vec<Said>) -> Vec<String> {
        let text = |s| match s {
            Said::Alarm(breach) => breach.sentence(),
            Said::Back(text) => text,
        };
        said.into_iter().map(text).collect()
    }

    #[test]
    fn said_once_and_taken_back() {
        let mut health = Health::of(&INFOS);
        // A short dip is no news.
        for (step, codes) in [(0, 1.0), (5, 2.0), (10, 1.0)] {
            assert!(health.look(at(step), &gauges(codes), 10).is_empty());
        }
        let said: Vec<_> = (11..40)
            .flat_map(|step| health.look(at(step), &gauges(if step == 20 { f64::NAN } else { 1.5 }), 10))
            .collect();
        assert_eq!(
            texts(said),
            [
                "codes is 1.5000, outside its healthy band (2 and above) since step 10. Likely cause: one code takes \
              all. Try: a larger diversity weight"
            ]
        );
        // Through a checkpoint.
        let text = serde_json::to_string(&health).unwrap();
        let mut health = serde_json::from_str::<Health>(&text).unwrap().with_infos_of(&health);
        let now = health.breaches();
        assert_eq!(
            (now.len(), now[0].gauge.as_str(), now[0].value, now[0].healthy_above, now[0].since_step),
            (1, "codes", 1.5, Some(2.0), 10)
        );
        assert_eq!(health.alarms(), [Alarm { gauge: "codes".into(), step: 19, since_step: 10 }]);
        assert_eq!(
            texts(health.look(at(40), &gauges(3.0), 10)),
            ["codes is 3.0000 at step 40, inside its healthy band (2 and above) again after 30 steps"]
        );
        assert!(health.breaches().is_empty() && health.alarms().len() == 1);
    }

    #[test]
    fn what_is_learnt_late_counts_late() {
        let mut health = Health::of(&INFOS);
        let late = [Gauge::below("late", 0.99, 0.9)];
        let said: Vec<_> = (1..=60).filter(|step| !health.look(at(*step), &late, 5).is_empty()).collect();
        assert_eq!(said, [55], "five values behind the half of the run");
        let now = health.breaches();
        assert_eq!(
            (now[0].healthy_below, now[0].since_step, now[0].cause.as_str()),
            (Some(0.9), 51, "a shortcut")
        );
        health.forgive();
        assert!(health.breaches().is_empty());
    }

    #[test]
    fn short_runs_are_told_sooner() {
        assert_eq!(
            [(20, 10), (600, 10), (5000, 10), (12, 1), (70, 1)].map(|(t, l)| patience(t, l)),
            [5, 6, 10, 5, 7]
        );
    }
}
