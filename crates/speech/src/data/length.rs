//! Bounds on the lengths of recordings.

use super::Corpus;
use rayon::prelude::*;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bounds on the lengths of clips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LengthFilter {
    /// Shortest that is used, in seconds. Default 0.1: some frames of an encoder.
    pub min_seconds: f64,
    /// Longest that is used, in seconds; by default any (what is longer than a crop is cropped).
    pub max_seconds: Option<f64>,
}

impl Default for LengthFilter {
    fn default() -> Self {
        LengthFilter { min_seconds: 0.1, max_seconds: None }
    }
}

impl LengthFilter {
    /// # Errors
    /// If the bounds are impossible.
    pub(crate) fn check(&self) -> Result<()> {
        let max = self.max_seconds.unwrap_or(f64::INFINITY);
        if self.min_seconds >= 0.0 && self.min_seconds <= max {
            return Ok(());
        }
        Err(Error::config(format!(
            "min_seconds = {}, max_seconds = {max}: expected 0 or more, and rising bounds",
            self.min_seconds
        )))
    }

    /// Whether a length in seconds is within the bounds; an unknown one is.
    pub fn holds(&self, seconds: Option<f64>) -> bool {
        seconds.is_none_or(|s| s >= self.min_seconds && self.max_seconds.is_none_or(|max| s <= max))
    }
}

/// The numbers of clips that [`Corpus::filter`] left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Clips below the shortest length.
    pub short: usize,
    /// Clips above the longest.
    pub long: usize,
}

impl Corpus {
    /// Leaves out what is too short or too long; clips of unknown length stay.
    ///
    /// # Errors
    /// If the bounds are impossible, or nothing is left.
    pub fn filter(&self, filter: &LengthFilter) -> Result<(Self, LeftOut)> {
        filter.check()?;
        let mut out = LeftOut::default();
        let mut clips = Vec::with_capacity(self.clips.len());
        for clip in self.clips.iter() {
            match clip.seconds {
                seconds if filter.holds(seconds) => clips.push(clip.clone()),
                Some(s) if s < filter.min_seconds => out.short += 1,
                _ => out.long += 1,
            }
        }
        if clips.is_empty() {
            let (short, long, min, max) =
                (out.short, out.long, filter.min_seconds, filter.max_seconds.unwrap_or(f64::INFINITY));
            return Err(Error::input(
                "corpus",
                format!(
                    "no recording is left: {short} are shorter than {min} s and {long} longer than {max} s"
                ),
            ));
        }
        Ok((Self::new(clips, self.classes.to_vec())?, out))
    }

    /// The numbers of the clips within the bounds. Lengths that are not known are read from the heads of the
    /// files, on all threads; what cannot be read is not left out here, so that reading it says why.
    ///
    /// # Errors
    /// If the bounds are impossible, or nothing is left.
    pub fn within(&self, filter: &LengthFilter) -> Result<Vec<usize>> {
        filter.check()?;
        let seconds: Vec<Option<f64>> =
            self.clips.par_iter().map(|clip| clip.measure().ok().flatten()).collect();
        let kept: Vec<usize> = (0..seconds.len()).filter(|&i| filter.holds(seconds[i])).collect();
        if kept.is_empty() {
            let (min, max) = (filter.min_seconds, filter.max_seconds.unwrap_or(f64::INFINITY));
            return Err(Error::input(
                "corpus",
                format!("none of {} recordings lasts {min} to {max} s", seconds.len()),
            ));
        }
        Ok(kept)
    }
}
