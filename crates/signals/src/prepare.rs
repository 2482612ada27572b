//! From a recorded signal to a [`Window`]: channels by name, missing samples, one rate, a filter, one scale.

use crate::filter::Butterworth;
use crate::gaps::{bridge, gaps, mark_flat};
use crate::read::ReadConfig;
use crate::recording::{Channel, Recording, checked_rate};
use crate::resample::resample;
use crate::window::Window;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What becomes of gaps that are longer than `signal.gap_seconds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beyond {
    /// They get the value 0 after scaling: the mean or the median.
    #[default]
    Mask,
    /// The signal is refused.
    Refuse,
}

/// How the values of each channel are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Mean 0, deviation 1.
    #[default]
    Standard,
    /// Median 0, interquartile range 1.349 (that of a normal distribution): outliers do not count.
    Robust,
    /// Physical units stay.
    None,
}

/// `[signal]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignalConfig {
    /// Names of the channels, in this order (`"I,V5"` or a list); all of the file where empty. A channel that a file lacks is 0.
    #[serde(deserialize_with = "names")]
    pub channels: Vec<String>,
    /// Samples a second that all signals are brought to. Where it is left out, they stay as they are; channels of
    /// several rates are brought to the highest among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Samples a second of files that state no rate: arrays, and tables without a column of times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_rate: Option<f64>,
    /// A Butterworth band-pass filter of zero phase between these frequencies in Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<[f64; 2]>,
    /// Its order.
    pub order: usize,
    /// Gaps up to this long are bridged with straight lines; of signals without a rate, in samples.
    pub gap_seconds: f64,
    /// What becomes of longer ones: `mask` or `refuse`.
    pub gaps: Beyond,
    /// Runs of one value that are longer than this are missing (a lead that is off); 0 for none.
    pub flat_seconds: f64,
    /// Largest share of a channel's samples that may be missing.
    pub max_missing: f64,
    /// How each channel of a signal is scaled: `standard`, `robust` or `none`.
    pub scale: Scale,
    /// Views of each signal in an epoch: more than one for long signals, of which a view is a small part.
    pub draws: usize,
    /// Windows of each signal that are encoded when it is measured or embedded, evenly over it; their features
    /// are averaged.
    pub windows: usize,
}

/// Names, or a text of them between commas.
fn names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Each(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(text) => text.split(',').map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect(),
        Names::Each(names) => names,
    })
}

impl Default for SignalConfig {
    fn default() -> Self {
        SignalConfig {
            channels: Vec::new(),
            rate: None,
            source_rate: None,
            band: None,
            order: 3,
            gap_seconds: 1.0,
            gaps: Beyond::Mask,
            flat_seconds: 0.0,
            max_missing: 0.5,
            scale: Scale::Standard,
            draws: 1,
            windows: 1,
        }
    }
}

impl SignalConfig {
    /// Refuses what cannot be carried out.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        for (key, rate) in [("signal.rate", self.rate), ("signal.source_rate", self.source_rate)] {
            rate.map_or(Ok(0.0), |r| checked_rate(r, key))?;
        }
        let positive = |v: f64| v >= 0.0 && v.is_finite();
        if !positive(self.gap_seconds) || !positive(self.flat_seconds) {
            return Err(Error::config(
                "signal.gap_seconds, signal.flat_seconds: expected numbers of at least 0",
            ));
        }
        if !(0.0..=1.0).contains(&self.max_missing) {
            return Err(Error::config(format!(
                "signal.max_missing = {}: expected a share from 0 to 1",
                self.max_missing
            )));
        }
        if self.draws == 0 || self.windows == 0 {
            return Err(Error::config(format!(
                "signal.draws = {}, signal.windows = {}: expected at least 1",
                self.draws, self.windows
            )));
        }
        if let (Some([low, high]), Some(rate)) = (self.band, self.rate) {
            Butterworth::band(self.order, low, high, rate)?;
        }
        Ok(())
    }

    /// What readers are told.
    pub fn reading(&self) -> ReadConfig {
        ReadConfig { rate: self.source_rate }
    }

    /// The window of a whole recording; `id` names it.
    ///
    /// # Errors
    /// If a channel is missing to a larger share than `max_missing`, has a gap that is refused, states no rate
    /// where one is needed, or channels differ in length.
    pub fn prepare(&self, recording: &Recording, id: &str) -> Result<Window> {
        let channels = self.channels(recording, id)?;
        let scale = |c: &Filtered| self.scale.of(c.observed().collect());
        let scales: Vec<Centred> =
            channels.iter().map(|c| c.as_ref().map_or_else(Centred::default, scale)).collect();
        scaled(channels, &scales, id)
    }

    /// The same with the scale of each channel given ([`SignalConfig::scales`]), so that pieces of one signal keep
    /// their levels.
    ///
    /// # Errors
    /// As [`SignalConfig::prepare`], and if there is not a scale for each channel.
    pub fn prepare_with(&self, recording: &Recording, scales: &[Centred], id: &str) -> Result<Window> {
        let channels = self.channels(recording, id)?;
        if channels.len() != scales.len() {
            return Err(Error::input(
                id,
                format!("has {} channels, expected {}", channels.len(), scales.len()),
            ));
        }
        scaled(channels, scales, id)
    }

    /// The scale of each channel over all of these recordings.
    ///
    /// # Errors
    /// As [`SignalConfig::prepare`], and if there are none, or their numbers of channels differ.
    pub fn scales(&self, recordings: &[(String, Recording)]) -> Result<Vec<Centred>> {
        let mut values: Vec<Vec<f32>> = Vec::new();
        for (i, (id, recording)) in recordings.iter().enumerate() {
            let channels = self.channels(recording, id)?;
            if i == 0 {
                values.resize(channels.len(), Vec::new());
            }
            if channels.len() != values.len() {
                return Err(Error::input(
                    id,
                    format!(
                        "has {} channels, others {}: name some in signal.channels",
                        channels.len(),
                        values.len()
                    ),
                ));
            }
            values
                .iter_mut()
                .zip(&channels)
                .for_each(|(all, c)| all.extend(c.iter().flat_map(Filtered::observed)));
        }
        if values.is_empty() {
            return Err(Error::input("signals", "none to take a scale from"));
        }
        Ok(values.into_iter().map(|v| self.scale.of(v)).collect())
    }

    /// The chosen channels, of one length.
    fn channels(&self, recording: &Recording, id: &str) -> Result<Vec<Option<Filtered>>> {
        let chosen = recording.select(&self.channels, id)?;
        if chosen.is_empty() {
            return Err(Error::input(id, "has no channels"));
        }
        let rate = self.rate.or_else(|| highest(chosen.iter().flatten()));
        let mut made: Vec<Option<Filtered>> =
            chosen.iter().map(|c| c.map(|c| self.channel(c, rate, id)).transpose()).collect::<Result<_>>()?;
        let lengths: Vec<usize> = made.iter().flatten().map(|c| c.values.len()).collect();
        let (shortest, longest) =
            (lengths.iter().min().copied().unwrap_or(0), lengths.iter().max().copied().unwrap_or(0));
        // Rates that are not multiples of one another round to lengths that differ by a sample or two.
        if longest - shortest > 2 + longest / 100 {
            return Err(Error::input(
                id,
                format!(
                    "channels of {shortest} to {longest} samples: expected one length; name some in signal.channels"
                ),
            ));
        }
        made.iter_mut().flatten().for_each(|c| {
            c.values.truncate(shortest);
            c.seen.truncate(shortest);
        });
        Ok(made)
    }

    /// A channel at the `wanted` rate, in the band of the configuration.
    fn channel(&self, channel: &Channel, wanted: Option<f64>, id: &str) -> Result<Filtered> {
        let name = &channel.name;
        let fail = |problem: String| Error::input(id, format!("channel `{name}` {problem}"));
        let samples = |seconds: f64| (seconds * channel.rate.unwrap_or(1.0)).round() as usize;
        let mut values = channel.samples.clone();
        if self.flat_seconds > 0.0 {
            mark_flat(&mut values, samples(self.flat_seconds).max(1));
        }
        let found = gaps(&values);
        let missing: usize = found.iter().map(ExactSizeIterator::len).sum();
        if values.is_empty()
            || missing as f64 > self.max_missing * values.len() as f64
            || missing == values.len()
        {
            return Err(fail(format!(
                "misses {missing} of {} samples: expected a share of at most {} (signal.max_missing)",
                values.len(),
                self.max_missing
            )));
        }
        let long: Vec<_> = found.into_iter().filter(|g| g.len() > samples(self.gap_seconds)).collect();
        if let (Beyond::Refuse, Some(gap)) = (self.gaps, long.first()) {
            return Err(fail(format!(
                "misses the samples {} to {}, more than signal.gap_seconds = {}",
                gap.start, gap.end, self.gap_seconds
            )));
        }
        // Filters need values everywhere; long gaps are masked behind them.
        let before = values.len();
        bridge(&mut values);
        let mut rate = channel.rate;
        if let Some(wanted) = wanted {
            let own = rate.ok_or_else(|| {
                fail(format!("states no rate, and signal.rate = {wanted}: expected signal.source_rate"))
            })?;
            values = resample(&values, own, wanted, id)?;
            rate = Some(wanted);
        }
        if let Some([low, high]) = self.band {
            let rate = rate.ok_or_else(|| {
                fail("states no rate, and signal.band is given: expected signal.source_rate".into())
            })?;
            let filter = Butterworth::band(self.order, low, high, rate)?;
            values = filter.zero_phase(&values).map_err(|e| fail(format!("cannot be filtered: {e}")))?;
        }
        let share = values.len() as f64 / before as f64;
        let at = |i: usize| ((i as f64 * share).round() as usize).min(values.len());
        let mut seen = vec![true; values.len()];
        long.iter().for_each(|g| seen[at(g.start)..at(g.end)].fill(false));
        Ok(Filtered { name: name.clone(), values, seen })
    }
}

/// The highest rate of channels that have several.
fn highest<'a>(channels: impl Iterator<Item = &'a &'a Channel>) -> Option<f64> {
    let rates: Option<Vec<f64>> = channels.map(|c| c.rate).collect();
    let (low, high) = rates?.into_iter().fold((f64::INFINITY, 0f64), |(l, h), r| (l.min(r), h.max(r)));
    (low < high).then_some(high)
}

/// A channel behind resampling and filter.
struct Filtered {
    name: String,
    values: Vec<f32>,
    /// False in long gaps.
    seen: Vec<bool>,
}

impl Filtered {
    fn observed(&self) -> impl Iterator<Item = f32> + '_ {
        self.values.iter().zip(&self.seen).filter(|(_, seen)| **seen).map(|(v, _)| *v)
    }
}

/// What is taken from the values of a channel, and what they are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centred {
    /// The mean or the median.
    pub centre: f64,
    /// The deviation; 1 where values are constant.
    pub spread: f64,
}

impl Default for Centred {
    fn default() -> Self {
        Centred { centre: 0.0, spread: 1.0 }
    }
}

/// Channels of one length as a window, each by its scale; 0 where one is missing.
fn scaled(channels: Vec<Option<Filtered>>, scales: &[Centred], id: &str) -> Result<Window> {
    let length = channels.iter().flatten().map(|c| c.values.len()).next().unwrap_or(0);
    let mut made = Vec::with_capacity(channels.len());
    for (channel, by) in channels.into_iter().zip(scales) {
        let Some(c) = channel else {
            made.push(vec![0.0; length]);
            continue;
        };
        let scale = |v: f32| ((f64::from(v) - by.centre) / by.spread) as f32;
        let values: Vec<f32> =
            c.values.iter().zip(&c.seen).map(|(v, seen)| if *seen { scale(*v) } else { 0.0 }).collect();
        if let Some(v) = values.iter().find(|v| !v.is_finite()) {
            let problem = format!("channel `{}` becomes {v} after scaling: expected finite values", c.name);
            return Err(Error::input(id, problem));
        }
        made.push(values);
    }
    Window::new(&made, id)
}

impl Scale {
    /// Centre and spread of values; a spread of 1 where they are constant.
    fn of(self, mut values: Vec<f32>) -> Centred {
        let n = values.len() as f64;
        let positive = |spread: f64| if spread > 1e-12 { spread } else { 1.0 };
        match self {
            _ if values.is_empty() => Centred::default(),
            Scale::None => Centred::default(),
            Scale::Standard => {
                let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
                let square = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
                Centred { centre: mean, spread: positive(square.sqrt()) }
            }
            Scale::Robust => {
                values.sort_by(f32::total_cmp);
                let quantile = |share: f64| {
                    let at = share * (n - 1.0);
                    let (i, t) = (at.floor() as usize, at.fract());
                    let next = values[(i + 1).min(values.len() - 1)];
                    (1.0 - t) * f64::from(values[i]) + t * f64::from(next)
                };
                let spread = positive((quantile(0.75) - quantile(0.25)) / 1.349);
                Centred { centre: quantile(0.5), spread }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;

    fn signal(channels: &[(&str, Option<f64>, &[f32])]) -> Recording {
        let channel = |(name, rate, values): &(&str, Option<f64>, &[f32])| Channel {
            name: (*name).into(),
            unit: "mV".into(),
            rate: *rate,
            samples: values.to_vec(),
        };
        Recording { channels: channels.iter().map(channel).collect(), annotations: vec![] }
    }

    fn plain() -> SignalConfig {
        SignalConfig { scale: Scale::None, gap_seconds: 1.0, ..SignalConfig::default() }
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_masked() {
        let s = signal(&[("a", Some(1.0), &[1.0, NAN, 3.0, NAN, NAN, 6.0, 7.0])]);
        assert_eq!(plain().prepare(&s, "x").unwrap().values(), [1.0, 2.0, 3.0, 0.0, 0.0, 6.0, 7.0]);
        let refuse = SignalConfig { gaps: Beyond::Refuse, ..plain() };
        let error = refuse.prepare(&s, "x.edf").unwrap_err().to_string();
        assert!(error.contains("x.edf") && error.contains("`a` misses the samples 3 to 5"), "{error}");
        let strict = SignalConfig { max_missing: 0.2, ..plain() };
        assert!(strict.prepare(&s, "x").unwrap_err().to_string().contains("misses 3 of 7"));
    }

    #[test]
    fn flat_lines_are_masked() {
        let s = signal(&[("a", Some(1.0), &[1.0, 5.0, 5.0, 5.0, 5.0, 2.0, 3.0, 1.0, 4.0])]);
        let config = SignalConfig { flat_seconds: 3.0, ..plain() };
        assert_eq!(config.prepare(&s, "x").unwrap().values()[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn scales() {
        let s = signal(&[("a", None, &[1.0, 2.0, 3.0, 4.0, 5.0])]);
        let standard = SignalConfig { scale: Scale::Standard, ..plain() }.prepare(&s, "x").unwrap();
        assert!((standard.values()[4] - 2.0f32.sqrt()).abs() < 1e-6);
        // Quartiles 2 and 4.
        let robust = SignalConfig { scale: Scale::Robust, ..plain() }.prepare(&s, "x").unwrap();
        assert!((robust.values()[4] - 1.349).abs() < 1e-5 && robust.values()[2] == 0.0);
        let flat = signal(&[("a", None, &[3.0; 5])]);
        assert_eq!(SignalConfig::default().prepare(&flat, "x").unwrap().values(), [0.0; 5]);
    }

    #[test]
    fn channels_and_rates() {
        let ramp: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let s = signal(&[("a", Some(10.0), &ramp), ("b", Some(5.0), &ramp[..10])]);
        let w = plain().prepare(&s, "x").unwrap();
        assert_eq!((w.channels(), w.len()), (2, 20));
        let uneven = signal(&[("a", Some(10.0), &ramp), ("b", Some(10.0), &ramp[..10])]);
        assert!(plain().prepare(&uneven, "x").unwrap_err().to_string().contains("10 to 20 samples"));
        let one = SignalConfig { rate: Some(5.0), ..plain() };
        let w = one.prepare(&s, "x").unwrap();
        assert_eq!((w.channels(), w.len()), (2, 10));
        let named = SignalConfig { channels: vec!["B".into(), "c".into()], ..plain() };
        let w = named.prepare(&s, "x").unwrap();
        assert_eq!((w.channels(), w.len(), &w.values()[10..]), (2, 10, &[0.0; 10][..]));
        let unknown = signal(&[("a", None, &ramp)]);
        assert!(one.prepare(&unknown, "x").unwrap_err().to_string().contains("signal.source_rate"));
        for config in [
            SignalConfig { rate: Some(0.0), ..plain() },
            SignalConfig { gap_seconds: -1.0, ..plain() },
            SignalConfig { max_missing: 2.0, ..plain() },
            SignalConfig { rate: Some(100.0), band: Some([1.0, 60.0]), ..plain() },
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
