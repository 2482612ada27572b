//! Events: windows in a row that are not normal.

use serde::Serialize;

/// A window: where it ends, and its score; none where there is no signal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scored {
    pub(super) end: u64,
    pub(super) score: Option<f64>,
}

/// A stretch that is not normal.
#[derive(Serialize)]
pub(super) struct Event {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) kind: &'static str,
    pub(super) peak: Option<f64>,
}

impl Event {
    /// Whether scores are too high, and not the signal missing.
    pub(super) fn is_anomaly(&self) -> bool {
        self.peak.is_some()
    }
}

/// Runs of windows above the threshold, and runs without a signal. An event begins where the first of its windows has
/// brought new samples.
pub(super) fn events(scored: &[Scored], threshold: f64, every: u64) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    let mut last: Option<&'static str> = None;
    for Scored { end, score } in scored {
        let kind = match score {
            None => Some("no signal"),
            Some(s) if *s > threshold => Some("anomaly"),
            Some(_) => None,
        };
        match (kind, out.last_mut()) {
            (Some(kind), Some(event)) if last == Some(kind) => {
                event.end = *end;
                event.peak = event.peak.zip(*score).map(|(a, b)| a.max(b));
            }
            (Some(kind), _) => {
                out.push(Event { start: end.saturating_sub(every), end: *end, kind, peak: *score });
            }
            (None, _) => {}
        }
        last = kind;
    }
    out
}
