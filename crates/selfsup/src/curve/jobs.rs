//! Cells that are to be computed, and how long that will take.

use super::setting::Setting;
use selfsup_core::run::time_text;
use std::collections::BTreeMap;

/// A cell to be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// The amount of labels, by its place.
    pub amount: usize,
    /// The setting.
    pub setting: Setting,
    /// The draw.
    pub draw: u64,
    /// The seed.
    pub seed: u64,
}

/// How long the cells that are left will take, as those of their setting took.
#[derive(Default)]
pub struct Left {
    /// By setting: seconds and weight of what was done, weight of what is left.
    of: BTreeMap<Setting, (f64, f64, f64)>,
}

impl Left {
    /// A cell is to come; `weight` is what it costs beside others of its setting.
    pub fn plan(&mut self, job: &Job, weight: f64) {
        self.of.entry(job.setting).or_default().2 += weight;
    }

    /// A cell is done; `seconds` is what it took, where it was computed now.
    pub fn done(&mut self, job: &Job, weight: f64, seconds: Option<f64>) {
        let (taken, done, left) = self.of.entry(job.setting).or_default();
        *left -= weight;
        if let Some(seconds) = seconds {
            *taken += seconds;
            *done += weight;
        }
    }

    /// The time that is left, once each setting that is left has been seen.
    pub fn text(&self) -> String {
        let known = self.of.values().all(|(_, done, left)| *left <= 1e-9 || *done > 0.0);
        if !known {
            return String::new();
        }
        let seconds: f64 = self.of.values().filter(|v| v.1 > 0.0).map(|(t, d, l)| t / d * l.max(0.0)).sum();
        if seconds < 0.5 { String::new() } else { format!("; about {} left", time_text(seconds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_follows_from_what_was_seen() {
        let job = |setting, seed| Job { amount: 0, setting, draw: 0, seed };
        let mut left = Left::default();
        let jobs = [job(Setting::Raw, 0), job(Setting::Scratch, 0), job(Setting::Scratch, 1)];
        jobs.iter().for_each(|j| left.plan(j, 10.0));
        left.done(&jobs[0], 10.0, Some(1.0));
        assert_eq!(left.text(), "", "nothing is known of trainings yet");
        left.done(&jobs[1], 10.0, Some(120.0));
        assert_eq!(left.text(), "; about 2m00s left");
        left.done(&jobs[2], 10.0, None);
        assert_eq!(left.text(), "");
    }
}
