//! What is asked of `selfsup curve`.

use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// Overrides: of the run's configuration, and of the fine-tuning (`task`, `train`, `optim`).
    pub overrides: Vec<String>,
    /// Labelled data, instead of the run's own.
    pub data: Option<String>,
    /// Labelled data to test on.
    pub test: Option<String>,
    /// A table of labels, groups and splits.
    pub labels: Option<String>,
    /// Shares of the labels in percent; with no other size either, 1, 10, 20 and 100 as far as they exist.
    pub fractions: Vec<f64>,
    /// Numbers of labels of each class.
    pub per_class: Vec<usize>,
    /// Minutes of recordings with transcripts.
    pub minutes: Vec<f64>,
    /// Names of the settings; all that the task has without.
    pub settings: Vec<String>,
    /// Draws of each amount.
    pub draws: u64,
    /// Seeds of what is random besides the draw.
    pub seeds: u64,
    /// Most steps of one training.
    pub steps: u64,
    /// Learning rates that are tried.
    pub rates: Vec<f64>,
    /// The folder of the curve; `curve` in the run without.
    pub out: Option<PathBuf>,
}

impl Default for Request {
    /// All settings, 5 draws, 3 seeds, trainings of 1,000 steps at most.
    fn default() -> Self {
        Request {
            run: PathBuf::new(),
            overrides: Vec::new(),
            data: None,
            test: None,
            labels: None,
            fractions: Vec::new(),
            per_class: Vec::new(),
            minutes: Vec::new(),
            settings: Vec::new(),
            draws: 5,
            seeds: 3,
            steps: 1000,
            rates: Vec::new(),
            out: None,
        }
    }
}
