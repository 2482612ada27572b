//! Gauges: numbers that show whether a run is healthy, the band in which a healthy one keeps them, and what it
//! usually means when one leaves its band.
//!
//! A method computes [`Gauge`]s at every logged step and describes them once, in a table of [`GaugeInfo`]s
//! ([`super::Objective::gauge_info`]). Gauges that several methods share are described here ([`described`]), so a
//! method's own table holds only what is different for it.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The range of a gauge in healthy runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Healthy runs are at or above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Healthy runs are at or below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

impl Band {
    /// No bound at all.
    pub const NONE: Band = Band { low: None, high: None };

    /// At `low` and above.
    pub const fn above(low: f64) -> Self {
        Band { low: Some(low), high: None }
    }

    /// At `high` and below.
    pub const fn below(high: f64) -> Self {
        Band { low: None, high: Some(high) }
    }

    /// From `low` to `high`.
    pub const fn within(low: f64, high: f64) -> Self {
        Band { low: Some(low), high: Some(high) }
    }

    /// Whether there is no bound.
    pub fn is_none(&self) -> bool {
        *self == Band::NONE
    }

    /// Where a value lies outside the band; NaN lies outside every band that there is, on the side of its low
    /// end if it has one.
    pub fn breach(&self, value: f64) -> Option<Side> {
        match (self.low, self.high) {
            (Some(low), _) if value < low || value.is_nan() => Some(Side::Below),
            (_, Some(high)) if value > high || value.is_nan() => Some(Side::Above),
            _ => None,
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.low, self.high) {
            (Some(low), Some(high)) => write!(f, "{low} to {high}"),
            (Some(low), None) => write!(f, "{low} and above"),
            (None, Some(high)) => write!(f, "{high} and below"),
            (None, None) => f.write_str("any value"),
        }
    }
}

/// A side of a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Below its low end.
    Below,
    /// Above its high end.
    Above,
}

/// What a breach usually means, and what to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// The usual cause: one or several sentences.
    pub cause: &'static str,
    /// What to try.
    pub remedy: &'static str,
}

/// The description of a gauge: the same for every value of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaugeInfo {
    /// The name of the gauge.
    pub name: &'static str,
    /// What it measures, in a few words.
    pub what: &'static str,
    /// The band, where a value does not state its own.
    pub band: Band,
    /// The share of a run before which a breach does not count: what a healthy run has to learn first.
    pub grace: f64,
    /// What it means below the band.
    pub below: Advice,
    /// What it means above the band.
    pub above: Advice,
}

impl GaugeInfo {
    /// A gauge `name` that measures `what`.
    pub const fn new(name: &'static str, what: &'static str) -> Self {
        let none = Advice { cause: "", remedy: "" };
        GaugeInfo { name, what, band: Band::NONE, grace: 0.0, below: none, above: none }
    }

    /// With a band.
    #[must_use]
    pub const fn healthy(self, band: Band) -> Self {
        GaugeInfo { band, ..self }
    }

    /// A breach counts after this share of the run.
    #[must_use]
    pub const fn after(self, grace: f64) -> Self {
        GaugeInfo { grace, ..self }
    }

    /// What a value below the band usually means, and what to try.
    #[must_use]
    pub const fn too_low(self, cause: &'static str, remedy: &'static str) -> Self {
        GaugeInfo { below: Advice { cause, remedy }, ..self }
    }

    /// What a value above the band usually means, and what to try.
    #[must_use]
    pub const fn too_high(self, cause: &'static str, remedy: &'static str) -> Self {
        GaugeInfo { above: Advice { cause, remedy }, ..self }
    }

    /// The advice for a side of the band.
    pub const fn advice(&self, side: Side) -> Advice {
        match side {
            Side::Below => self.below,
            Side::Above => self.above,
        }
    }
}

/// A number that shows the health of a run, and the range in which it is healthy.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// Its name in the metrics.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// The range in healthy runs; where there is none, that of its description holds.
    pub band: Band,
    /// The detached embeddings that it was computed from, `(rows, D)`, where their effective rank is to be
    /// watched too.
    pub rows: Option<Tensor>,
}

impl Gauge {
    /// A gauge without a bound of its own.
    pub fn plain(name: &'static str, value: f64) -> Self {
        Gauge { name, value, band: Band::NONE, rows: None }
    }

    /// A gauge that healthy runs keep above `bound`.
    pub fn above(name: &'static str, value: f64, bound: f64) -> Self {
        Gauge { band: Band::above(bound), ..Gauge::plain(name, value) }
    }

    /// A gauge that healthy runs keep below `bound`.
    pub fn below(name: &'static str, value: f64, bound: f64) -> Self {
        Gauge { band: Band::below(bound), ..Gauge::plain(name, value) }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Gauge { name, ..self }
    }

    /// The same with another band.
    #[must_use]
    pub fn healthy(self, band: Band) -> Self {
        Gauge { band, ..self }
    }

    /// The same, and the trainer watches the effective rank of `rows`, `(rows, D)`: one row a sample, frame or
    /// token, the last few batches together.
    #[must_use]
    pub fn of_rows(self, rows: &Tensor) -> Self {
        Gauge { rows: Some(rows.detach()), ..self }
    }
}

/// The effective rank of the embeddings ([`Gauge::of_rows`]), which the trainer computes.
pub const EMBEDDING_RANK: &str = "embedding_rank";

/// The size of an update next to that of the weights, which the trainer computes.
pub const UPDATE_RATIO: &str = "update_ratio";

/// Distance of a teacher's weights from the student's, next to their size.
pub const TEACHER_GAP: &str = "teacher_gap";

/// Whether a teacher has moved since the last logged step.
pub const TEACHER_MOVES: &str = "teacher_moves";

/// How often a view finds its sample's other view.
pub const VIEWS_MATCH: &str = "views_match";

/// How far the features vary, before a normalisation, where the loss holds it near 1.
pub const DIMENSION_STD: &str = "dimension_std";

/// How much better a prediction is than one constant: `1 - loss / loss of the mean`.
pub const GAIN_OVER_MEAN: &str = "gain_over_mean";

/// How many negatives count in a contrast.
pub const NEGATIVES: &str = "negatives_in_play";

/// The share of the samples that are copies of another.
pub const COPIES: &str = "copies";

/// A temperature, for the tables of the methods whose settings name it.
pub const COLD: GaugeInfo = GaugeInfo::new("method.temperature", "temperature of the softmax").too_low(
    "the largest score alone counts, so the loss is a maximum and its gradient noise",
    "method.temperature of 0.05 to 0.5",
);

/// Gauges that several methods have.
static SHARED: [GaugeInfo; 10] = [
    GaugeInfo::new("embedding_std", "spread of the normalised embeddings: 0 for a point, 1 for a sphere")
        .too_low(
            "all samples get nearly the same embedding (complete collapse): what keeps embeddings apart is \
             missing or too weak, or the samples hardly differ",
            "a lower optim.lr or a longer warm-up; look at the samples with --dry-run (are they alike, are they \
             blank?); the method's page in docs/methods names what keeps it from collapsing",
        ),
    GaugeInfo::new(EMBEDDING_RANK, "effective rank of the embeddings, as a share of the largest possible")
        .healthy(Band::above(0.02))
        .after(0.05)
        .too_low(
            "the embeddings vary along a few directions only (dimensional collapse): features repeat each other",
            "a lower optim.lr; samples that differ more; a larger batch; for methods with a term against it \
             (VICReg's covariance, Barlow Twins' lambda) a larger weight",
        ),
    GaugeInfo::new(UPDATE_RATIO, "size of a step's change next to the size of the weights")
        .healthy(Band::below(0.02))
        .too_high(
            "each step changes the weights by a large share of their size: the learning rate is far too high",
            "divide optim.lr by 10 until it is back; a longer warm-up; optim.clip_grad_norm = 1.0",
        ),
    GaugeInfo::new(TEACHER_GAP, "distance of the teacher's weights from the student's, next to their size")
        .healthy(Band::above(1e-6))
        .after(0.02)
        .too_low(
            "the teacher is a copy of the student: its momentum is near 0, so targets follow every step",
            "method.momentum of 0.99 to 0.999",
        ),
    GaugeInfo::new(TEACHER_MOVES, "1 where the teacher has moved since the last logged step, else 0")
        .healthy(Band::above(0.5))
        .after(0.02)
        .too_low(
            "the teacher does not move: its momentum is 1, so the targets are those of the weights it began with",
            "method.momentum of 0.99 to 0.999 (0.99 for short runs)",
        ),
    GaugeInfo::new(VIEWS_MATCH, "how often a view's nearest neighbour in the batch is its own sample's other view")
        .after(0.05)
        .too_low(
            "a view does not find its sample: the samples are all alike, the augmentation leaves nothing of \
             them, or the embeddings have collapsed",
            "look at the views with --dry-run; a weaker augmentation; selfsup search RUN --duplicates; a lower \
             optim.lr",
        ),
    GaugeInfo::new(DIMENSION_STD, "mean standard deviation of the features, which the loss holds near 1")
        .healthy(Band::above(0.2))
        .after(0.05)
        .too_low(
            "the features shrink towards one point: the term that holds each of them apart is missing or too weak \
             next to the one that pulls views together",
            "VICReg: method.mu as large as method.lambda (25 and 25); LeJEPA: method.lambda of 0.02 to 0.1; a lower \
             optim.lr",
        ),
    GaugeInfo::new(GAIN_OVER_MEAN, "how much better the prediction is than the mean of the targets, 1 at best")
        .healthy(Band::above(0.0))
        .after(0.15)
        .too_low(
            "the prediction is no better than a constant: it has not begun to depend on what is seen, or the \
             targets are all alike",
            "a higher optim.lr or a longer run; look at the samples with --dry-run (are they blank or alike?)",
        ),
    GaugeInfo::new(NEGATIVES, "how many negatives share the weight of the contrast (their perplexity)")
        .healthy(Band::above(1.2))
        .too_low(
            "the nearest negative alone counts: the temperature is far too low, so the loss is a maximum and its \
             gradient noise",
            "method.temperature of 0.05 to 0.5",
        ),
    GaugeInfo::new(COPIES, "share of the samples, of up to 64, that are byte for byte a copy of another")
        .too_high(
            "most samples are copies of each other: there is nothing to tell them apart by, whatever the method",
            "look for the cause where the files were written; `selfsup search RUN --duplicates` lists copies",
        ),
];

/// The description of a gauge that several methods have; every gauge whose name ends with `accuracy` has that
/// of a share of right predictions.
pub fn described(name: &str) -> Option<&'static GaugeInfo> {
    static ACCURACY: GaugeInfo = GaugeInfo::new("accuracy", "share of the targets that are predicted")
        .after(0.15)
        .too_low(
            "the targets are predicted no better than by always naming one of them",
            "look at the loss: if it is flat, try a lower optim.lr, a longer warm-up, or \
             optim.clip_grad_norm = 1.0; if it still falls, the run is on a plateau: give it time",
        )
        .too_high(
            "the targets are predicted nearly without fault: they can be read off the input by a shortcut, are \
             always the same, or the samples repeat",
            "look at what the method sees with --dry-run; look for marks, borders or copies that give the target \
             away (selfsup search RUN --duplicates)",
        );
    SHARED.iter().find(|info| info.name == name).or_else(|| name.ends_with("accuracy").then_some(&ACCURACY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_have_sides() {
        let band = Band::within(0.1, 0.9);
        let of = |v| band.breach(v);
        assert_eq!([0.05, 0.1, 0.9, 0.91].map(of), [Some(Side::Below), None, None, Some(Side::Above)]);
        assert_eq!(of(f64::NAN), Some(Side::Below));
        assert_eq!(Band::below(1.0).breach(f64::NAN), Some(Side::Above));
        assert_eq!(Band::NONE.breach(f64::NAN), None);
        assert_eq!(
            [band, Band::above(0.2), Band::below(3.0)].map(|b| b.to_string()),
            ["0.1 to 0.9", "0.2 and above", "3 and below"]
        );
    }

    #[test]
    fn shared_gauges_say_what_to_try() {
        for info in SHARED.iter() {
            let found = described(info.name).unwrap();
            assert!(!found.below.remedy.is_empty() || !found.above.remedy.is_empty(), "{}", info.name);
        }
        assert!(described("masked_accuracy").unwrap().above.cause.contains("shortcut"));
        assert!(described("dice").is_none());
    }
}
