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
use selfsup_eval::Matrix;
use selfsup_eval::ood::{Mahalanobis, knn_scores};
use selfsup_signals::Recording;
use selfsup_signals::data::stacked;
use selfsup_signals::prepare::{Centred, SignalConfig};
use selfsup_signals::stream::{Due, Steps, Stream};
use selfsup_signals::window::Window;

/// Windows that are encoded together.
pub(super) const BATCH: usize = 8;
/// Normal recordings that are read at most, evenly over all.
const RECORDINGS: usize = 256;
/// Normal windows at most, evenly over all.
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
    fn features(&self, windows: &[Window]) -> Result<Vec<f32>> {
        Ok(match self {
            Reader::Encoder(encoder, device) => {
                let x = stacked(windows)?.to_device(device)?;
                floats(&encoder.forward(&x, None, &[], &Pass::eval())?.pooled)?
            }
            Reader::Raw => windows.iter().flat_map(|w| w.values().iter().copied()).collect(),
        })
    }
}

/// The normal signal. Its windows are made anew for each reader: recordings take less memory than windows that overlap.
pub(super) struct Normal {
    pub(super) config: SignalConfig,
    pub(super) scales: Vec<Centred>,
    pub(super) steps: Steps,
    what: String,
    recordings: Vec<(String, Recording)>,
    /// Steps of its windows, which may lie closer together than those that are monitored.
    close: Steps,
}

impl Normal {
    /// Reads it.
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
        Ok(Normal { config: keys.signal.clone(), scales, steps, what: what.clone(), recordings, close })
    }

    /// Shows `see` every window, and whether it calibrates: of each recording the first two thirds are the reference
    /// and what begins behind them calibrates; of ten recordings and more every third one calibrates.
    fn each(&self, mut see: impl FnMut(bool, Window) -> Result<()>) -> Result<()> {
        let many = self.recordings.len() >= 10;
        for (i, (id, recording)) in self.recordings.iter().enumerate() {
            let longest = recording.channels.iter().map(|c| c.samples.len()).max().unwrap_or(0) as u64;
            let rate = recording.channels.first().and_then(|c| c.rate);
            let factor = self.config.rate.zip(rate).map_or(1.0, |(wanted, own)| own / wanted);
            let span = (self.steps.length as f64 * factor).round() as u64;
            Stream::each(&self.config, &self.scales, recording, self.close, id, |Due { end, window }| {
                let Ok(window) = window else { return Ok(()) };
                let later = if many { i % 3 == 2 } else { end.saturating_sub(span) * 3 >= longest * 2 };
                // A window over the border belongs to neither.
                if later || many || end * 3 <= longest * 2 { see(later, window) } else { Ok(()) }
            })?;
        }
        Ok(())
    }
}

/// The stride of normal windows: that of the others, or less where the last third of the signal would give too few of
/// them to calibrate by, or more where there would be too many.
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
    let close = ((room * false_alarms / 2.0) as usize).clamp(1, steps.stride);
    close.max((all / WINDOWS as f64) as usize)
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
    /// Normal windows that others are compared with, and those that calibrated.
    pub(super) counts: (usize, usize),
}

impl<'a> Detector<'a> {
    pub(super) fn fit(reader: Reader<'a>, normal: &Normal, score: Score, false_alarms: f64) -> Result<Self> {
        // The reference first, then what calibrates: windows of a batch and features of all.
        let (mut waiting, mut rows, mut counts) =
            ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], [0, 0]);
        normal.each(|later, window| {
            let k = usize::from(later);
            counts[k] += 1;
            waiting[k].push(window);
            if waiting[k].len() == BATCH {
                rows[k].extend(reader.features(&waiting[k])?);
                waiting[k].clear();
            }
            Ok(())
        })?;
        for (rows, waiting) in rows.iter_mut().zip(&waiting).filter(|(_, w)| !w.is_empty()) {
            rows.extend(reader.features(waiting)?);
        }
        if counts[0] < 2 || counts[1] == 0 {
            return Err(Error::input(
                &normal.what,
                format!(
                    "gives {} normal windows of {} samples to compare with and {} to calibrate by, expected 2 and 1 at \
                     least: give longer signals with --normal",
                    counts[0], normal.steps.length, counts[1]
                ),
            ));
        }
        let [reference, calibration] = rows;
        let d = reference.len() / counts[0];
        let features = Matrix::new(reference, counts[0], d)?;
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
        let mut scores = fitted.scores(&Matrix::new(calibration, counts[1], d)?)?;
        scores.sort_by(f64::total_cmp);
        // The smallest value that at most this share of normal windows exceeds, counting the one to come.
        let rank = ((scores.len() + 1) as f64 * (1.0 - false_alarms)).ceil() as usize;
        let threshold = scores[rank.clamp(1, scores.len()) - 1];
        Ok(Detector { reader, fitted, threshold, counts: (counts[0], counts[1]) })
    }

    /// The score of each window: higher is further from normal.
    pub(super) fn scores(&self, windows: &[Window]) -> Result<Vec<f64>> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.reader.features(windows)?;
        let d = features.len() / windows.len();
        self.fitted.scores(&Matrix::new(features, windows.len(), d)?)
    }
}

impl Fitted {
    fn scores(&self, features: &Matrix) -> Result<Vec<f64>> {
        let inside: Vec<f64> = match self {
            Fitted::Mahalanobis(fit) => fit.scores(features.view())?.iter().map(|s| -(-s).sqrt()).collect(),
            Fitted::Knn(keys, k) => knn_scores(keys.view(), features.view(), *k)?,
        };
        Ok(inside.into_iter().map(|s| -s).collect())
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
