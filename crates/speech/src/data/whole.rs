//! Recordings from end to end, however long: what is measured is measured on all of a recording.
//!
//! A recording of at most a window's length is one part, decoded whole. A longer one is read in windows of
//! like length. The frames that an encoder makes of them join without a gap and none comes twice, so the mean
//! over the frames of all windows, each weighed by its frames, is the mean over the frames of the recording:
//!
//! ```text
//! frame f sees samples f s .. f s + w      (step s, window w)
//! frames a .. b need samples a s .. (b - 1) s + w
//! ```
//!
//! A window is normalised by mean and variance of the whole recording, which one pass takes before its first
//! window is read; no more than a window is held at a time. An encoder that looks beyond its frames (through
//! attention, or with statistics over time) sees what is in the window; `context` adds frames on both sides
//! that it sees and that do not count.

use super::{Clip, Corpus, Prepare};
use crate::audio::AudioConfig;
use crate::batch::{Target, Utterance};
use crate::layers::Timing;
use rayon::prelude::*;
use selfsup_core::data::Dataset;
use selfsup_core::{Error, Result};
use std::sync::{Arc, OnceLock};

/// How long recordings are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Which samples a frame sees.
    pub timing: Timing,
    /// Longest window, in seconds.
    pub seconds: f64,
    /// Seconds on each side of a window that are read beside it.
    pub context: f64,
}

/// A recording, or a window of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The recording, as an index into the corpus.
    pub clip: usize,
    /// The first sample and the number of samples that are read; `None` for all of a recording.
    pub section: Option<(u64, u64)>,
    /// Of the frames of the section the first that counts, and how many do; `None` for all of them.
    pub kept: Option<(usize, usize)>,
    /// The first sample that is the window's own, and the first of the next window.
    own: (u64, u64),
}

/// Mean and variance of a recording.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    samples: f64,
    mean: f64,
    squares: f64,
}

impl Level {
    /// Adds a part (Chan et al. 1983, doi:10.1080/00031305.1983.10483115).
    fn add(&mut self, wave: &[f32]) {
        if wave.is_empty() {
            return;
        }
        let n = wave.len() as f64;
        let mean = wave.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let squares = wave.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
        let (all, gap) = (self.samples + n, mean - self.mean);
        self.squares += squares + gap * gap * self.samples * n / all;
        self.mean += gap * n / all;
        self.samples = all;
    }

    fn normalize(&self, wave: &mut [f32]) {
        let scale = 1.0 / (self.squares / self.samples.max(1.0) + 1e-7).sqrt();
        wave.iter_mut().for_each(|v| *v = ((f64::from(*v) - self.mean) * scale) as f32);
    }
}

/// The parts of all recordings of a corpus, in order, as a data set of waves.
pub struct Whole {
    clips: Arc<[Clip]>,
    prepare: Prepare,
    audio: AudioConfig,
    parts: Vec<Part>,
    /// The first part of each recording, and the number of parts behind them.
    firsts: Vec<usize>,
    levels: Vec<OnceLock<Result<Level, String>>>,
    longest: usize,
    timing: Timing,
}

impl Whole {
    /// Plans the parts; the lengths come from the heads of the files. An mp3, and a file that does not tell
    /// its length, is walked through packet by packet without decoding.
    ///
    /// # Errors
    /// If the window is too short for a frame, or a recording cannot be read.
    pub fn new(corpus: &Corpus, prepare: Prepare, cut: &Cut) -> Result<Self> {
        let Timing { window, step, rate } = cut.timing;
        let seconds = cut.seconds.min(prepare.config().audio.max_seconds);
        let per = cut.timing.frames((seconds * f64::from(rate)) as usize);
        if !cut.seconds.is_finite() || per == 0 {
            return Err(Error::config(format!(
                "window_seconds = {}: expected at least {:.3}, {window} samples that make one frame",
                cut.seconds,
                window as f64 / f64::from(rate)
            )));
        }
        let context = (cut.context.max(0.0) * f64::from(rate)) as usize / step.max(1);
        let clips: Arc<[Clip]> = corpus.clips().into();
        // At another speed the samples that are read stand for more or for less of the recording.
        let read = prepare.reading_rate();
        let lengths: Vec<u64> = clips.par_iter().map(|clip| clip.samples(read)).collect::<Result<_>>()?;
        let (mut parts, mut firsts) = (Vec::with_capacity(clips.len()), Vec::with_capacity(clips.len() + 1));
        for (clip, &total) in lengths.iter().enumerate() {
            firsts.push(parts.len());
            let frames = cut.timing.frames(usize::try_from(total).unwrap_or(usize::MAX));
            let windows = frames.div_ceil(per);
            if windows <= 1 {
                parts.push(Part { clip, section: None, kept: None, own: (0, total) });
                continue;
            }
            let at = |k: usize| k * (frames / windows) + k.min(frames % windows);
            for k in 0..windows {
                let (first, end) = (at(k), at(k + 1));
                let (from, to) = (first.saturating_sub(context), (end + context).min(frames));
                let start = (from * step) as u64;
                // The last one reads on to where the sound ends, wherever that is.
                let len = match to == frames {
                    true => total - start + u64::from(rate),
                    false => ((to - from - 1) * step + window) as u64,
                };
                let own = ((first * step) as u64, if end == frames { u64::MAX } else { (end * step) as u64 });
                let kept = (first - from, if end == frames { usize::MAX } else { end - first });
                parts.push(Part { clip, section: Some((start, len)), kept: Some(kept), own });
            }
        }
        firsts.push(parts.len());
        let longest = |p: &Part| p.section.map_or(lengths[p.clip], |(_, len)| len);
        let longest = parts.iter().map(longest).max().unwrap_or(1) as usize;
        let most = seconds + 2.0 * cut.context.max(0.0) + 2.0;
        let stretch = f64::from(rate) / f64::from(read);
        let audio = AudioConfig {
            rate: read,
            max_seconds: most.max(prepare.config().audio.max_seconds) * stretch.max(1.0),
        };
        let levels = clips.iter().map(|_| OnceLock::new()).collect();
        Ok(Whole { clips, prepare, audio, parts, firsts, levels, longest, timing: cut.timing })
    }

    /// The parts, recording by recording.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Samples of the longest part, about.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The wave of a part, as it is measured in noise or corrupted, before it is normalised.
    fn heard(&self, part: &Part) -> Result<Vec<f32>> {
        let clip = self
            .clips
            .get(part.clip)
            .ok_or_else(|| Error::input("recordings", format!("there is no recording {}", part.clip)))?;
        let mut wave = clip.load(part.section, &self.audio)?;
        self.prepare.disturb(&mut wave, &clip.id, part.section.map(|(start, _)| start))?;
        Ok(wave)
    }

    /// Mean and variance over all windows of a recording.
    fn level(&self, clip: usize) -> Result<Level> {
        let take = || -> Result<Level> {
            let mut level = Level::default();
            for part in &self.parts[self.firsts[clip]..self.firsts[clip + 1]] {
                let (wave, start) = (self.heard(part)?, part.section.map_or(0, |s| s.0));
                let end = usize::try_from(part.own.1.saturating_sub(start)).unwrap_or(usize::MAX);
                let own = (part.own.0.saturating_sub(start) as usize).min(wave.len());
                level.add(&wave[own..end.clamp(own, wave.len())]);
            }
            Ok(level)
        };
        let found = self.levels[clip].get_or_init(|| take().map_err(|e| e.to_string()));
        found.clone().map_err(Error::Other)
    }
}

impl Dataset for Whole {
    type Item = Utterance;

    fn len(&self) -> usize {
        self.parts.len()
    }

    fn get(&self, index: usize) -> Result<Utterance> {
        let part = self.parts.get(index).ok_or_else(|| {
            Error::input("recordings", format!("there is no part {index} of {}", self.parts.len()))
        })?;
        let mut samples = self.heard(part)?;
        if self.timing.frames(samples.len()) == 0 {
            let (got, Timing { window, rate, .. }) = (samples.len(), self.timing);
            let problem =
                format!("{got} samples at {rate} Hz, expected at least {window}, which make one frame");
            return Err(Error::input(&self.clips[part.clip].id, problem));
        }
        if self.prepare.config().normalize {
            match part.section {
                None => super::normalize(&mut samples),
                Some(_) => self.level(part.clip)?.normalize(&mut samples),
            }
        }
        Ok(Utterance { samples, start: part.section.map_or(0, |s| s.0 as usize), target: Target::None })
    }
}
