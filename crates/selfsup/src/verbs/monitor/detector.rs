//! What is normal, and how far a window is from it.

use super::request::{Request, Score};
use crate::modality::signals::Signals;
use crate::modality::signals::series::{open, recording};
use crate::set::evenly;
use crate::verbs::Opened;
use candle_core::Device;
use selfsup_core::kernels::host::floats;
use selfsup_core::{Encoder, Error, Pass, Result};
use selfsup_datasets::Split;
use selfsup_eval::ood::{Mahalanobis, knn_scores};
use selfsup_eval::{Features, Matrix};
use selfsup_signals::Recording;
use selfsup_signals::data::stacked;
use selfsup_signals::prepare::{Centred, SignalConfig};
use selfsup_signals::stream::{Due, Steps, Stream};
use selfsup_signals::window::Window;

/// Windows that are encoded together.
const BATCH: usize = 32;
/// Normal recordings that are read at most, evenly over all.
const RECORDINGS: usize = 256;
/// Normal windows that are compared with at most, evenly over all.
const WINDOWS: usize = 20_000;
/// Shrinkage of the covariance: there may be fewer windows than features.
const SHRINKAGE: f64 = 0.1;
/// The neighbour whose distance counts, at most.
const NEIGHBOUR: usize = 5;

/// What makes features of a window.
#[derive(Clone, Copy)]
pub(super) enum Reader<'a> {
    /// An encoder on a device.
    Encoder(&'a dyn Encoder, &'a Device),
    /// The samples as they are.
    Raw,
}

impl Reader<'_> {
    fn features(&self, windows: &[&Window]) -> Result<Matrix> {
        let mut values = Vec::new();
        for batch in windows.chunks(BATCH) {
            match self {
                Reader::Encoder(encoder, device) => {
                    let x = stacked(batch.iter().copied())?.to_device(device)?;
                    values.extend(floats(&encoder.forward(&x, None, &[], &Pass::eval())?.pooled)?);
                }
                Reader::Raw => batch.iter().for_each(|w| values.extend_from_slice(w.values())),
            }
        }
        let d = values.len() / windows.len().max(1);
        Matrix::new(values, windows.len(), d)
    }
}

/// The normal signal: its scale and its windows.
pub(super) struct Normal {
    pub(super) config: SignalConfig,
    pub(super) scales: Vec<Centred>,
    pub(super) steps: Steps,
    /// Windows that others are compared with, and those that calibrate.
    reference: Vec<Window>,
    calibration: Vec<Window>,
}

impl Normal {
    /// Reads it: of each recording the first two thirds are the reference, what begins behind them calibrates; of ten
    /// recordings and more every third one calibrates.
    pub(super) fn read(opened: &Opened<Signals>, request: &Request) -> Result<Self> {
        let keys = &opened.config.keys;
        let length = keys.augment.length;
        let steps = Steps { length, stride: request.stride.unwrap_or((length / 4).max(1)) };
        let what = request.normal.as_ref().unwrap_or(&opened.config.data.path);
        let set = open(what, opened.config.data.layout)?;
        let records = set.records();
        let all: Vec<usize> = (0..set.len()).filter(|i| records.split(*i) != Some(Split::Test)).collect();
        let taken: Vec<usize> = evenly(all.len().min(RECORDINGS), all.len()).map(|i| all[i]).collect();
        if taken.len() < all.len() {
            crate::say::note(format_args!("{} of {} normal recordings are read", taken.len(), all.len()));
        }
        let read = |i: usize| -> Result<(String, Recording)> {
            let record = records.get(i)?;
            Ok((record.id.clone(), without(recording(&record, &keys.signal)?, request.truth.as_deref())))
        };
        let recordings = taken.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let scales = keys.signal.scales(&recordings)?;
        let close = Steps { stride: closer(&keys.signal, &recordings, steps, request.false_alarms), ..steps };
        let (mut reference, mut calibration) = (Vec::new(), Vec::new());
        for (i, (id, recording)) in recordings.iter().enumerate() {
            let (stream, due) = Stream::of(&keys.signal, &scales, recording, close, id)?;
            let end = due.last().map_or(0, |d| d.end);
            for Due { end: at, window } in due {
                let Ok(window) = window else { continue };
                let later = match recordings.len() {
                    0..10 => at.saturating_sub(stream.span() as u64) * 3 >= end * 2,
                    _ => i % 3 == 2,
                };
                let before = recordings.len() >= 10 || at * 3 <= end * 2;
                match (later, before) {
                    (true, _) => calibration.push(window),
                    (false, true) => reference.push(window),
                    // A window over the border belongs to neither.
                    (false, false) => {}
                }
            }
        }
        if reference.len() < 2 || calibration.is_empty() {
            return Err(Error::input(
                what,
                format!(
                    "gives {} normal windows of {length} samples to compare with and {} to calibrate by, expected 2 and \
                     1 at least: give longer signals with --normal",
                    reference.len(),
                    calibration.len()
                ),
            ));
        }
        for windows in [&mut reference, &mut calibration] {
            let keep: Vec<usize> = evenly(windows.len().min(WINDOWS), windows.len()).collect();
            let mut next = keep.into_iter().peekable();
            let mut i = 0;
            windows.retain(|_| {
                let kept = next.next_if_eq(&i).is_some();
                i += 1;
                kept
            });
        }
        let config = keys.signal.clone();
        Ok(Normal { config, scales, steps, reference, calibration })
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.reference.len(), self.calibration.len())
    }
}

/// The stride of normal windows: that of the others, or less where the last third of the signal would give too few of
/// them to calibrate by.
fn closer(
    config: &SignalConfig,
    recordings: &[(String, Recording)],
    steps: Steps,
    false_alarms: f64,
) -> usize {
    let samples = |recording: &Recording| -> f64 {
        let longest = recording.channels.iter().max_by_key(|c| c.samples.len());
        longest.map_or(0.0, |c| {
            let factor = config.rate.zip(c.rate).map_or(1.0, |(wanted, own)| wanted / own);
            c.samples.len() as f64 * factor
        })
    };
    let all: f64 = recordings.iter().map(|(_, r)| samples(r)).sum();
    let room = (all / 3.0 - steps.length as f64).max(0.0);
    ((room * false_alarms / 2.0) as usize).clamp(1, steps.stride)
}

/// A recording without one of its channels.
pub(super) fn without(mut recording: Recording, channel: Option<&str>) -> Recording {
    recording.channels.retain(|c| channel.is_none_or(|name| !c.name.eq_ignore_ascii_case(name)));
    recording
}

enum Fitted {
    Mahalanobis(Box<Mahalanobis>),
    Knn(Matrix, usize),
}

/// Scores windows, and knows which score is too high.
pub(super) struct Detector<'a> {
    reader: Reader<'a>,
    fitted: Fitted,
    /// Scores above this one are alarms.
    pub(super) threshold: f64,
}

impl<'a> Detector<'a> {
    pub(super) fn fit(reader: Reader<'a>, normal: &Normal, score: Score, false_alarms: f64) -> Result<Self> {
        let features = reader.features(&normal.reference.iter().collect::<Vec<_>>())?;
        let fitted = match score {
            Score::Mahalanobis => {
                let labels = vec![0; features.n()];
                let fit = Mahalanobis::fit(features.view(), &labels, 1, SHRINKAGE)?;
                Fitted::Mahalanobis(Box::new(fit))
            }
            Score::Knn => {
                let k = NEIGHBOUR.min(features.n());
                Fitted::Knn(features, k)
            }
        };
        let mut detector = Detector { reader, fitted, threshold: f64::INFINITY };
        let mut scores = detector.scores(&normal.calibration.iter().collect::<Vec<_>>())?;
        scores.sort_by(f64::total_cmp);
        // The smallest value that at most this share of normal windows exceeds, counting the one to come.
        let rank = ((scores.len() + 1) as f64 * (1.0 - false_alarms)).ceil() as usize;
        detector.threshold = scores[rank.clamp(1, scores.len()) - 1];
        Ok(detector)
    }

    /// The score of each window: higher is further from normal.
    pub(super) fn scores(&self, windows: &[&Window]) -> Result<Vec<f64>> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.reader.features(windows)?;
        let inside = match &self.fitted {
            Fitted::Mahalanobis(fit) => fit.scores(features.view())?.iter().map(|s| -(-s).sqrt()).collect(),
            Fitted::Knn(keys, k) => {
                knn_scores(keys.view(), Features::new(features.as_slice(), features.n(), features.d())?, *k)?
            }
        };
        Ok(inside.into_iter().map(|s: f64| -s).collect())
    }
}

/// Says where too few normal windows calibrate for the share that is asked for.
pub(super) fn check_share(calibration: usize, false_alarms: f64) {
    let needed = (1.0 / false_alarms).ceil() as usize;
    if calibration + 1 < needed {
        crate::say::warning(format_args!(
            "{calibration} normal windows calibrate, {needed} are needed for --false-alarms {false_alarms}: the threshold \
             is the highest score among them"
        ));
    }
}
