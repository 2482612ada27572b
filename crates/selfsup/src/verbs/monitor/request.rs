//! What was asked for, and how distances are measured.

use selfsup_core::{Error, Result};
use std::path::PathBuf;
use std::str::FromStr;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// The signal: a file, or `-` for lines of values on the standard input.
    pub file: String,
    /// Normal signals, instead of the run's own data.
    pub normal: Option<String>,
    /// The folder to write, instead of `monitor` beside the run's name in the present folder.
    pub out: Option<PathBuf>,
    /// The distance.
    pub score: Score,
    /// Share of the normal windows whose score is above the threshold.
    pub false_alarms: f64,
    /// Samples between two windows, at the run's rate; a quarter of a window without.
    pub stride: Option<usize>,
    /// A channel of the file that says where an anomaly is (above 0.5).
    pub truth: Option<String>,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
}

/// How far a window is from the normal ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Score {
    /// The distance to the fifth nearest of them, of features of length 1.
    #[default]
    Knn,
    /// The Mahalanobis distance from their mean.
    Mahalanobis,
}

impl FromStr for Score {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "mahalanobis" => Ok(Score::Mahalanobis),
            "knn" => Ok(Score::Knn),
            other => Err(Error::config(format!("score `{other}`: expected mahalanobis or knn"))),
        }
    }
}
