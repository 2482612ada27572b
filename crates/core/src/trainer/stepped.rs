//! What a step is told, and what it returns.

use crate::objective::Gauge;
use crate::pass::Progress;

/// Where a step stands.
pub(super) struct Now {
    pub(super) progress: Progress,
    /// Steps since this process began.
    pub(super) since: u64,
    /// The place of this rank's first sample in the batch.
    pub(super) offset: u64,
    pub(super) logged: bool,
}

/// The outcome of a step; metrics and gauges only if it was logged.
#[derive(Default)]
pub(super) struct Stepped {
    pub(super) loss: f64,
    /// Left out, because something was not finite, or one sample of the batch could be read.
    pub(super) skipped: bool,
    pub(super) metrics: Vec<(String, f64)>,
    pub(super) gauges: Vec<Gauge>,
}
