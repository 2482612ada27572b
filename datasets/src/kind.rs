//! A modality by its name. The set of modalities is open: [`Kind::new`] makes further ones.

use selfsup_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A modality: its name in a configuration, and what its samples are called.
///
/// The five that this workspace brings are constants, which `match` takes as patterns. A modality of another
/// crate makes its own:
///
/// ```
/// use selfsup_datasets::Kind;
///
/// const SERIES: Kind = Kind::new("series", "series of numbers");
/// assert_eq!(Kind::among("series", &[Kind::Text, SERIES])?, SERIES);
/// assert!(Kind::named("series").unwrap_err().to_string().contains("vision, text, speech, medical or signals"));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    name: &'static str,
    samples: &'static str,
}

// Code that tells modalities apart reads them as it would the variants of an enum.
#[allow(non_upper_case_globals)]
impl Kind {
    /// Images.
    pub const Vision: Kind = Kind::new("vision", "images");
    /// Documents, lines and tables of text.
    pub const Text: Kind = Kind::new("text", "texts");
    /// Recordings.
    pub const Speech: Kind = Kind::new("speech", "recordings");
    /// Volumes, series and radiographs.
    pub const Medical: Kind = Kind::new("medical", "medical images");
    /// Vital signs, ECG, sensors.
    pub const Signals: Kind = Kind::new("signals", "signals");
}

impl Kind {
    /// The five that this workspace brings.
    pub const KNOWN: [Kind; 5] = [Kind::Vision, Kind::Text, Kind::Speech, Kind::Medical, Kind::Signals];

    /// A modality called `name` in configurations, of samples called `samples` (plural) in messages.
    pub const fn new(name: &'static str, samples: &'static str) -> Self {
        Kind { name, samples }
    }

    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The name of its samples (plural).
    pub const fn samples(self) -> &'static str {
        self.samples
    }

    /// The one of [`Kind::KNOWN`] with that name.
    ///
    /// # Errors
    /// If there is none: the error lists them.
    pub fn named(name: &str) -> Result<Self> {
        Kind::among(name, &Kind::KNOWN)
    }

    /// The one of `kinds` with that name.
    ///
    /// # Errors
    /// If there is none: the error lists them.
    pub fn among(name: &str, kinds: &[Kind]) -> Result<Self> {
        kinds.iter().find(|k| k.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = kinds.iter().map(|k| k.name).collect();
            Error::config(format!("modality = \"{name}\": expected {}", one_of(&names)))
        })
    }
}

/// `a, b or c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_string(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl Default for Kind {
    /// Images: configurations that name no modality are older than the others.
    fn default() -> Self {
        Kind::Vision
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Kind {
    /// By name, as [`Kind::named`]; a reader of further modalities gives their list to [`Kind::among`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Kind::named(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for kind in Kind::KNOWN {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<Kind>(&text).unwrap(), kind);
        }
        let e = serde_json::from_str::<Kind>("\"image\"").unwrap_err().to_string();
        assert!(e.contains("\"image\": expected vision, text, speech, medical or signals"), "{e}");
        let e = Kind::among("text", &[Kind::Vision]).unwrap_err().to_string();
        assert!(e.ends_with("expected vision"), "{e}");
    }

    #[test]
    fn constants_are_patterns() {
        let place = |kind| match kind {
            Kind::Vision => 0,
            Kind::Text => 1,
            _ => 2,
        };
        assert_eq!(Kind::KNOWN.map(place), [0, 1, 2, 2, 2]);
        assert_eq!(place(Kind::new("vision", "pictures")), 2);
    }
}
