//! What is asked of `selfsup probe`.

use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The run's folder, or one of its checkpoints.
    pub run: PathBuf,
    /// Overrides of the run's configuration; further runs or checkpoints, to compare.
    pub overrides: Vec<String>,
    /// Labelled data to fit on, instead of the run's own.
    pub data: Option<String>,
    /// Labelled data to test on.
    pub test: Option<String>,
    /// A table of labels, groups and splits.
    pub labels: Option<String>,
    /// Probe what is said in each frame instead, by the alignments in this folder; an empty one means where
    /// the data set has them.
    pub frames: Option<PathBuf>,
    /// Ratios of signal to noise in decibels at which testing is repeated.
    pub snr: Vec<f32>,
    /// Where to write what was found as JSON, besides the screen. A probe leaves the run as it is.
    pub out: Option<PathBuf>,
    /// The noise: a folder of recordings, or its colour.
    pub noise: String,
    /// Measure also what needs no labels and takes views of the samples.
    pub measures: bool,
    /// Few-shot episodes.
    pub episodes: bool,
    /// How well the draws of the augmentation can be read off the representation.
    pub invariance: bool,
    /// Measure also each group of test samples by this column of the table of labels.
    pub groups: Option<String>,
    /// Compare the gaps between groups with those of this run.
    pub against: Option<PathBuf>,
    /// Data from elsewhere, which the features are to tell from the test samples.
    pub ood: Vec<String>,
}

impl Request {
    /// Labelled data that it points at: to fit on, to test on, a table.
    pub(super) fn given(&self) -> [Option<&str>; 3] {
        [&self.data, &self.test, &self.labels].map(Option::as_deref)
    }
}
