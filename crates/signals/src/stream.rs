//! Windows of a signal whose samples arrive one after the other: each is made of what has come so far.

use crate::prepare::{Centred, SignalConfig};
use crate::recording::{Channel, Recording};
use crate::window::Window;
use selfsup_core::{Error, Result};
use std::collections::VecDeque;

/// How windows follow one another, in samples at the rate of the configuration (`signal.rate`, or as they arrive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Samples of a window.
    pub length: usize,
    /// Samples between the ends of two windows.
    pub stride: usize,
}

/// A window that is due.
#[derive(Debug)]
pub struct Due {
    /// Samples that have arrived so far: the window ends with the last of them.
    pub end: u64,
    /// The window, or why there is none: too much of it is missing.
    pub window: Result<Window>,
}

/// Takes samples and gives windows. Filters see what came before a window too, for as long again.
pub struct Stream {
    config: SignalConfig,
    scales: Vec<Centred>,
    names: Vec<String>,
    rate: Option<f64>,
    steps: Steps,
    /// Arriving samples that a window spans, and that lie between two.
    span: usize,
    every: usize,
    buffer: Vec<VecDeque<f32>>,
    seen: u64,
}

impl Stream {
    /// For channels of these names at `rate`, where known. `scales` are those of the channels of the configuration.
    ///
    /// # Errors
    /// If a step is 0, or `signal.rate` is given and the rate is not known.
    pub fn new(
        config: &SignalConfig,
        scales: Vec<Centred>,
        names: Vec<String>,
        rate: Option<f64>,
        steps: Steps,
    ) -> Result<Self> {
        if steps.length == 0 || steps.stride == 0 || names.is_empty() {
            return Err(Error::config(format!(
                "windows of {} samples every {} of {} channels: expected numbers above 0",
                steps.length,
                steps.stride,
                names.len()
            )));
        }
        let factor = match (config.rate, rate) {
            (None, _) => 1.0,
            (Some(wanted), Some(own)) => own / wanted,
            (Some(wanted), None) => {
                return Err(Error::config(format!(
                    "samples of an unknown rate, and signal.rate = {wanted}: expected signal.source_rate"
                )));
            }
        };
        let arriving = |n: usize| ((n as f64 * factor).round() as usize).max(1);
        let (span, every) = (arriving(steps.length), arriving(steps.stride));
        let buffer = vec![VecDeque::with_capacity(2 * span); names.len()];
        let config = config.clone();
        Ok(Stream { config, scales, names, rate, steps, span, every, buffer, seen: 0 })
    }

    /// Samples between the ends of two windows, as they arrive.
    pub fn every(&self) -> usize {
        self.every
    }

    /// Samples that a window spans, as they arrive.
    pub fn span(&self) -> usize {
        self.span
    }

    /// Takes a sample of each channel, NaN where it is missing; gives a window where one is due.
    ///
    /// # Errors
    /// If there is not a value for each channel.
    pub fn push(&mut self, sample: &[f32]) -> Result<Option<Due>> {
        if sample.len() != self.names.len() {
            let problem = format!("{} values, expected {}", sample.len(), self.names.len());
            return Err(Error::input(format!("sample {}", self.seen + 1), problem));
        }
        for (all, v) in self.buffer.iter_mut().zip(sample) {
            if all.len() == 2 * self.span {
                all.pop_front();
            }
            all.push_back(*v);
        }
        self.seen += 1;
        let after = self.seen.checked_sub(self.span as u64);
        if after.is_none_or(|n| n % self.every as u64 != 0) {
            return Ok(None);
        }
        Ok(Some(Due { end: self.seen, window: self.window() }))
    }

    /// The window that ends now.
    fn window(&self) -> Result<Window> {
        let channel = |(name, values): (&String, &VecDeque<f32>)| Channel {
            name: name.clone(),
            unit: String::new(),
            rate: self.rate,
            samples: values.iter().copied().collect(),
        };
        let channels = self.names.iter().zip(&self.buffer).map(channel).collect();
        let recording = Recording { channels, annotations: Vec::new() };
        let id = format!("samples {} to {}", (self.seen + 1).saturating_sub(self.span as u64), self.seen);
        let made = self.config.prepare_with(&recording, &self.scales, &id)?;
        Ok(made.cut(made.len() as isize - self.steps.length as isize, self.steps.length))
    }

    /// Shows `see` all windows of a recording whose channels have one rate, from its start, one at a time.
    ///
    /// # Errors
    /// If channels differ in rate or length, as [`Stream::new`], or the first error of `see`.
    pub fn each(
        config: &SignalConfig,
        scales: &[Centred],
        recording: &Recording,
        steps: Steps,
        id: &str,
        mut see: impl FnMut(Due) -> Result<()>,
    ) -> Result<Self> {
        let chosen: Vec<&Channel> = recording.select(&config.channels, id)?.into_iter().flatten().collect();
        let names = chosen.iter().map(|c| c.name.clone()).collect();
        let rate = chosen.first().and_then(|c| c.rate);
        let length = chosen.iter().map(|c| c.samples.len()).max().unwrap_or(0);
        if chosen.iter().any(|c| c.rate != rate || c.samples.len() != length) {
            let problem = "channels of several rates or lengths: name some of one rate in signal.channels";
            return Err(Error::input(id, problem));
        }
        let mut stream = Stream::new(config, scales.to_vec(), names, rate, steps)?;
        let mut sample = vec![0.0; chosen.len()];
        for t in 0..length {
            sample.iter_mut().zip(&chosen).for_each(|(v, c)| *v = c.samples[t]);
            if let Some(due) = stream.push(&sample)? {
                see(due)?;
            }
        }
        Ok(stream)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::prepare::Scale;

    fn config() -> SignalConfig {
        SignalConfig { scale: Scale::None, ..SignalConfig::default() }
    }

    fn stream(config: &SignalConfig, rate: Option<f64>, length: usize, stride: usize) -> Result<Stream> {
        Stream::new(config, vec![Centred::default()], vec!["a".into()], rate, Steps { length, stride })
    }

    #[test]
    fn windows_follow_one_another() {
        let mut s = stream(&config(), None, 4, 3).unwrap();
        let mut found = Vec::new();
        for t in 0..12u8 {
            if let Some(due) = s.push(&[f32::from(t)]).unwrap() {
                found.push((due.end, due.window.unwrap().values().to_vec()));
            }
        }
        assert_eq!(found[0], (4, vec![0.0, 1.0, 2.0, 3.0]));
        assert_eq!(found[2], (10, vec![6.0, 7.0, 8.0, 9.0]));
        assert_eq!(found.len(), 3);
        assert!(s.push(&[0.0, 1.0]).unwrap_err().to_string().contains("sample 13"));
    }

    #[test]
    fn what_comes_later_changes_nothing() {
        let config = SignalConfig { rate: Some(50.0), band: Some([1.0, 10.0]), ..config() };
        let wave = |t: usize, tail: f32| {
            if t < 700 { (t as f32 * 0.1).sin() } else { tail }
        };
        let run = |tail: f32| -> Vec<(u64, Window)> {
            let mut s = stream(&config, Some(100.0), 100, 25).unwrap();
            assert_eq!((s.span(), s.every()), (200, 50));
            (0..800)
                .filter_map(|t| s.push(&[wave(t, tail)]).unwrap())
                .map(|d| (d.end, d.window.unwrap()))
                .collect()
        };
        let (a, b) = (run(0.0), run(9.0));
        assert_eq!(a.len(), 13);
        for ((end, x), (_, y)) in a.iter().zip(&b) {
            assert_eq!(x.len(), 100);
            assert_eq!(x == y, *end <= 700, "{end}");
        }
        assert!(stream(&config, None, 100, 25).err().unwrap().to_string().contains("signal.source_rate"));
        assert!(stream(&config, Some(100.0), 0, 25).is_err());
    }

    #[test]
    fn a_window_without_signal_is_named() {
        let mut s = stream(&config(), Some(1.0), 10, 10).unwrap();
        let due: Vec<Due> =
            (0..30).filter_map(|t| s.push(&[if t < 10 { 1.0 } else { f32::NAN }]).unwrap()).collect();
        assert!(due[0].window.is_ok());
        let said = due[2].window.as_ref().unwrap_err().to_string();
        assert!(said.contains("samples 21 to 30") && said.contains("`a` misses 20 of 20"), "{said}");
    }

    #[test]
    fn scales_are_those_of_all_recordings() {
        let of = |v: &[f32]| Recording {
            channels: vec![Channel { name: "a".into(), samples: v.to_vec(), ..Channel::default() }],
            annotations: vec![],
        };
        let config = SignalConfig::default();
        let all = [("x".to_string(), of(&[1.0, 2.0])), ("y".to_string(), of(&[3.0, 6.0]))];
        let scales = config.scales(&all).unwrap();
        assert_eq!(scales[0].centre, 3.0);
        let window = config.prepare_with(&all[1].1, &scales, "y").unwrap();
        assert!(window.values()[0] == 0.0 && window.values()[1] > 1.0);
        assert!(config.prepare_with(&all[1].1, &[], "y").is_err() && config.scales(&[]).is_err());
    }
}
