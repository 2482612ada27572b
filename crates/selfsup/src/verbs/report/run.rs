//! A run as a page shows it.

use super::map::Mapped;
use super::metrics::Curve;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A run on a page. What is not known is empty.
#[derive(Debug, Default, Serialize)]
pub(super) struct Collected {
    /// The last part of its folder's name.
    pub name: String,
    pub state: String,
    pub modality: String,
    pub method: String,
    pub encoder: String,
    /// Whether it was fine-tuned.
    pub task: bool,
    /// Whether samples are of people's health.
    pub private: bool,
    /// `helped`, `behind`, `level`, `worse` or `unknown`.
    pub outcome: String,
    pub verdict: String,
    /// What else can be said in words.
    pub more: Vec<String>,
    /// Gauges that were outside of their bands at the end.
    pub ill: Vec<Ill>,
    /// Accuracies, by set of features.
    pub accuracies: Vec<Row>,
    /// What features without an encoder are called.
    pub raw: String,
    /// Measures without labels.
    pub measures: Vec<Row>,
    /// What a fine-tuned run reached.
    pub reached: Vec<(String, f64)>,
    /// What it took.
    pub facts: Vec<(String, String)>,
    pub config: Vec<(String, String)>,
    pub curves: BTreeMap<String, Curve>,
    /// What labels are worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_curve: Option<Value>,
    /// What noise and shift cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub robustness: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<Picture>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<Mapped>,
    /// Why there is no map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_note: Option<String>,
}

impl Collected {
    /// What `--json` prints of it.
    pub fn summary(&self, dir: &Path) -> Value {
        json!({
            "run": dir, "state": self.state, "method": self.method, "encoder": self.encoder,
            "outcome": self.outcome, "verdict": self.verdict, "more": self.more, "accuracies": self.accuracies,
            "measures": self.measures, "reached": self.reached, "unhealthy": self.ill,
        })
    }
}

/// A gauge that was outside of its band when the run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ill {
    pub gauge: String,
    pub value: f64,
    /// The band in words.
    pub band: String,
    pub since_step: u64,
    /// What it usually means, and what to try; empty where that is not known.
    pub cause: String,
    pub remedy: String,
}

/// A measure of the trained encoder, of the one with random weights, and of features without an encoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub values: [Option<f64>; 3],
    /// Standard deviations over draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<[Option<f64>; 3]>,
}

/// A picture of what was learnt, or a table.
#[derive(Debug, Serialize)]
pub struct Picture {
    pub title: String,
    pub caption: String,
    /// The picture as an address that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// Rows of a table; the first names the columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Vec<String>>,
}
