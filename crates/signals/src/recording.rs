//! A recording: channels of their own names, units and rates, and what was noted beside them.

use selfsup_core::{Error, Result};

/// One signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channel {
    /// Its name, as the file has it (`MLII`, `EEG Fpz-Cz`).
    pub name: String,
    /// Its physical unit (`mV`); empty where the file names none.
    pub unit: String,
    /// Samples a second; nothing where the file states none.
    pub rate: Option<f64>,
    /// Physical values; NaN where missing.
    pub samples: Vec<f32>,
}

impl Channel {
    /// Its length in seconds, where its rate is known.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.samples.len() as f64 / self.rate?)
    }

    /// How many samples are missing.
    pub fn missing(&self) -> usize {
        self.samples.iter().filter(|v| v.is_nan()).count()
    }
}

/// Something noted at a time: a beat, a rhythm, a stage of sleep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotation {
    /// Seconds from the start.
    pub onset: f64,
    /// Seconds that it lasts, where that is noted.
    pub duration: Option<f64>,
    /// What it is: the symbol of a beat (`N`, `V`), or a text.
    pub label: String,
    /// What is noted beside it (`(AFIB`).
    pub note: String,
    /// The channel that it was seen in, where the file says so.
    pub channel: Option<usize>,
    /// A number beside the label, 0 where there is none.
    pub subtype: i32,
}

/// Channels that were recorded together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The channels, in the order of the file.
    pub channels: Vec<Channel>,
    /// What was noted, in the order of time.
    pub annotations: Vec<Annotation>,
}

impl Recording {
    /// The channels with these names, in this order; all of them where `names` is empty. Case and outer blanks of a
    /// name do not count. A channel that the recording lacks is `None`: who asks masks it or refuses the recording.
    ///
    /// # Errors
    /// If two channels have a wanted name, or none of the wanted ones is there; `id` names the recording.
    pub fn select(&self, names: &[String], id: &str) -> Result<Vec<Option<&Channel>>> {
        if names.is_empty() {
            return Ok(self.channels.iter().map(Some).collect());
        }
        let has = |c: &Channel, name: &str| c.name.trim().eq_ignore_ascii_case(name.trim());
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let mut fit = self.channels.iter().filter(|c| has(c, name));
            let first = fit.next();
            if fit.next().is_some() {
                return Err(Error::input(id, format!("has two channels named `{name}`, expected one")));
            }
            found.push(first);
        }
        if found.iter().all(Option::is_none) {
            let own: Vec<&str> = self.channels.iter().map(|c| c.name.as_str()).collect();
            return Err(Error::input(
                id,
                format!("has none of the channels {}: it has {}", names.join(", "), own.join(", ")),
            ));
        }
        Ok(found)
    }
}

/// Checks a sampling rate that a file or a configuration states.
///
/// # Errors
/// If it is not a finite number above 0; `id` names the file or the key.
pub fn checked_rate(rate: f64, id: &str) -> Result<f64> {
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err(Error::input(id, format!("a sampling rate of {rate}: expected a number of Hz above 0")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_selected_by_name() {
        let channel = |name: &str, n: usize| Channel {
            name: name.into(),
            unit: "mV".into(),
            rate: Some(10.0),
            samples: vec![0.0; n],
        };
        let recording =
            Recording { channels: vec![channel("I", 5), channel("V5 ", 20)], annotations: vec![] };
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_string()).collect::<Vec<_>>();
        let found = recording.select(&names(&["v5", "II"]), "a").unwrap();
        assert_eq!(found[0].unwrap().seconds(), Some(2.0));
        assert!(found[1].is_none());
        assert_eq!(recording.select(&[], "a").unwrap().len(), 2);
        assert!(recording.select(&names(&["II"]), "a.hea").unwrap_err().to_string().contains("a.hea"));
        let twice = Recording { channels: vec![channel("I", 5), channel("i", 5)], ..Recording::default() };
        assert!(twice.select(&names(&["I"]), "a").unwrap_err().to_string().contains("two channels"));
        assert!(checked_rate(0.0, "a").is_err() && checked_rate(f64::NAN, "a").is_err());
    }
}
