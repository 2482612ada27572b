//! Targets of utterances.

use super::Clip;
use crate::batch::Target;
use crate::labels::{Alignment, Phones};
use selfsup_core::loss::IGNORED;
use selfsup_core::{Error, Result};

/// Labels of clips, or of parts of them.
pub trait Targets: Send + Sync {
    /// The label of samples `start..start + len` of the clip.
    ///
    /// # Errors
    /// If the clip has no such label.
    fn of(&self, clip: &Clip, start: u64, len: usize) -> Result<Target>;

    /// Whether a part of a clip has the label too: a transcript is that of a whole.
    fn of_parts(&self) -> bool {
        true
    }

    /// Whether instants have labels, so that time must not be stretched.
    fn of_instants(&self) -> bool {
        false
    }
}

/// No labels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlabelled;

impl Targets for Unlabelled {
    fn of(&self, _clip: &Clip, _start: u64, _len: usize) -> Result<Target> {
        Ok(Target::None)
    }
}

/// The class of the clip: a speaker, a language.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classes;

impl Targets for Classes {
    fn of(&self, clip: &Clip, _start: u64, _len: usize) -> Result<Target> {
        clip.label.map(Target::Class).ok_or_else(|| Error::input(&clip.id, "has no label"))
    }
}

/// One phone for each frame of an encoder, by the middle of the frame.
#[derive(Clone, Debug)]
pub struct PhoneFrames {
    /// The phones, by number.
    pub phones: Phones,
    /// Samples that a frame sees.
    pub window: usize,
    /// Samples from one frame to the next.
    pub step: usize,
    /// Samples a second.
    pub rate: u32,
}

impl Targets for PhoneFrames {
    fn of(&self, clip: &Clip, start: u64, len: usize) -> Result<Target> {
        let path = clip.alignment.as_ref().ok_or_else(|| Error::input(&clip.id, "has no alignment"))?;
        let alignment = Alignment::read(path)?;
        let rate = f64::from(self.rate);
        let frames = if len < self.window { 0 } else { 1 + (len - self.window) / self.step };
        let first = clip.part.map_or(0.0, |p| p.0) + (start as f64 + self.window as f64 / 2.0) / rate;
        let named = alignment.at_frames(first, self.step as f64 / rate, frames);
        Ok(Target::Frames(named.iter().map(|p| self.phones.id(p).map_or(IGNORED, i64::from)).collect()))
    }

    fn of_instants(&self) -> bool {
        true
    }
}
