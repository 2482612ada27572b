//! How samples are read and batched.

/// How samples are read and batched.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples in a batch (over all processes together).
    pub batch_size: usize,
    /// Threads that read and transform; 0 does it in the caller's thread. The batches are the same for any
    /// number.
    pub workers: usize,
    /// Batches that are prepared or ready at one time; at least 1.
    pub prefetch: usize,
    /// Leave out an epoch's short last batch.
    pub drop_last: bool,
    /// A new random order each epoch; else the data set's order.
    pub shuffle: bool,
    /// Decides order and augmentation.
    pub seed: u64,
    /// Share of samples, counted over the run, that may be unreadable: they are skipped and their batch is
    /// that much shorter. With 0 the first bad sample ends the run.
    pub max_bad_fraction: f64,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig {
            batch_size: 256,
            workers: 4,
            prefetch: 2,
            drop_last: true,
            shuffle: true,
            seed: 0,
            max_bad_fraction: 0.0,
        }
    }
}

impl LoaderConfig {
    /// Reads every sample once, in the data set's order: for evaluation and prediction. The first unreadable
    /// sample ends it.
    pub fn in_order(batch_size: usize, workers: usize) -> Self {
        LoaderConfig {
            batch_size: batch_size.max(1),
            workers,
            prefetch: 2,
            drop_last: false,
            shuffle: false,
            seed: 0,
            max_bad_fraction: 0.0,
        }
    }
}
