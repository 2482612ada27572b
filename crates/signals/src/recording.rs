//! A recording: channels of their own names, units and rates, and what was noted beside them.

/// One signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channel {
    /// Its name, as the file has it (`MLII`, `EEG Fpz-Cz`).
    pub name: String,
    /// Its physical unit (`mV`); empty where the file names none.
    pub unit: String,
    /// Samples a second.
    pub rate: f64,
    /// Physical values; 0 where missing.
    pub samples: Vec<f32>,
    /// Whether each sample is missing (an invalid code of the file); empty where none is.
    pub missing: Vec<bool>,
}

impl Channel {
    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / self.rate
    }

    /// How many samples are missing.
    pub fn count_missing(&self) -> usize {
        self.missing.iter().filter(|m| **m).count()
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
