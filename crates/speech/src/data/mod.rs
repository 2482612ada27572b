//! Recordings as a data set: what is known about each without decoding it, which ones are used, and how they
//! become batches.
//!
//! A [`Clip`] is a recording or a part of one; a [`Corpus`] is a list of them, indexed; [`Prepare`] decodes,
//! crops and augments one; [`Padded`] stacks them into [`crate::batch::Waves`]. Lengths are read from the
//! heads of the files once ([`Corpus::measure`]), then clips are filtered by length, and batches hold clips
//! of like length (`Loader::by_length`).

mod length;
mod prepare;
mod targets;
mod whole;

pub use length::{LeftOut, LengthFilter};
pub use prepare::{Padded, Prepare, PrepareConfig, normalize};
pub use targets::{Classes, PhoneFrames, Targets, Unlabelled};
pub use whole::{Cut, Part, Whole};

use crate::audio::{AudioConfig, Content, Section, count, info, load, resampled_len};
use rayon::prelude::*;
use selfsup_core::data::Dataset;
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Endings that are taken for recordings, in lower case.
pub const ENDINGS: [&str; 14] =
    ["wav", "flac", "mp3", "ogg", "oga", "m4a", "mp4", "aac", "aif", "aiff", "wave", "w64", "rf64", "bwf"];

/// Endings of recordings that are not read, in lower case: codecs and containers without a decoder here.
pub const NOT_READ: [&str; 21] = [
    "opus", "au", "snd", "webm", "mka", "mkv", "wma", "amr", "gsm", "caf", "ape", "wv", "spx", "3gp", "ac3",
    "dts", "mov", "mp2", "mpc", "tta", "aifc",
];

/// Folders nested deeper than this are refused.
const DEPTH: usize = 64;

/// A recording, or a part of one, that is not decoded yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Its name in messages.
    pub id: String,
    /// Where it is.
    pub content: Content,
    /// The part of the recording that it is, in seconds from its start and as a length; else all of it.
    pub part: Option<(f64, f64)>,
    /// Its length in seconds, where known.
    pub seconds: Option<f64>,
    /// Its class.
    pub label: Option<u32>,
    /// The transcript.
    pub transcript: Option<String>,
    /// The group that stays on one side of a split: a speaker, a source.
    pub group: Option<String>,
    /// A file that says which phone is said when ([`crate::labels::Alignment`]).
    pub alignment: Option<PathBuf>,
}

impl Clip {
    /// A clip of which nothing is known but where it is.
    pub fn new(id: impl Into<String>, content: Content) -> Self {
        Clip {
            id: id.into(),
            content,
            part: None,
            seconds: None,
            label: None,
            transcript: None,
            group: None,
            alignment: None,
        }
    }

    /// A file.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Clip::new(path.display().to_string(), Content::File(path.to_path_buf()))
    }

    /// Its length in seconds by what is known, or by what the recording says about itself.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn measure(&self) -> Result<Option<f64>> {
        match (self.seconds, self.part) {
            (Some(seconds), _) => Ok(Some(seconds)),
            (None, Some((start, len))) => {
                Ok(info(&self.content, &self.id)?.seconds().map_or(Some(len), |s| Some(len.min(s - start))))
            }
            (None, None) => Ok(info(&self.content, &self.id)?.seconds()),
        }
    }

    /// Its length in samples at `rate`, exactly: files that only estimate theirs are walked through.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn samples(&self, rate: u32) -> Result<u64> {
        let (own, frames) = count(&self.content, &self.id)?;
        let total = resampled_len(frames, own, rate);
        Ok(self.part.map_or(total, |(start, len)| {
            let at = |s: f64| (s.max(0.0) * f64::from(rate)).round() as u64;
            at(len).min(total.saturating_sub(at(start)))
        }))
    }

    /// Decodes it, or samples `start..start + len` of it, at `audio.rate`.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, section: Option<(u64, u64)>, audio: &AudioConfig) -> Result<Vec<f32>> {
        let samples = |s: f64| (s.max(0.0) * f64::from(audio.rate)).round() as u64;
        let within = match (self.part, section) {
            (None, None) => None,
            (None, Some((start, len))) => Some(Section { start, len }),
            (Some((first, length)), None) => Some(Section { start: samples(first), len: samples(length) }),
            (Some((first, length)), Some((start, len))) => Some(Section {
                start: samples(first) + start,
                len: len.min(samples(length).saturating_sub(start)),
            }),
        };
        load(&self.content, &self.id, within, audio)
    }
}

/// Clips that are read by index.
#[derive(Clone, Debug)]
pub struct Corpus {
    clips: Arc<[Clip]>,
    classes: Arc<[String]>,
}

impl Corpus {
    /// These clips, whose labels are indices into `classes`.
    ///
    /// # Errors
    /// If there is none, or a label has no class.
    pub fn new(clips: Vec<Clip>, classes: Vec<String>) -> Result<Self> {
        if clips.is_empty() {
            return Err(Error::input("corpus", "no recordings"));
        }
        if let Some(clip) = clips.iter().find(|c| c.label.is_some_and(|l| l as usize >= classes.len())) {
            let label = clip.label.unwrap_or_default();
            return Err(Error::input(
                &clip.id,
                format!("label {label}, but there are {} classes", classes.len()),
            ));
        }
        Ok(Corpus { clips: clips.into(), classes: classes.into() })
    }

    /// All recordings below a folder, any nesting. The folders of the first level are the classes, if every
    /// recording lies in one of at least two. A transcript is looked for in `NAME.txt` beside `NAME.wav`, an
    /// alignment in `NAME.lab`, `NAME.phn` or `NAME.tsv`.
    ///
    /// # Errors
    /// If a folder cannot be read or there is no recording.
    pub fn folder(root: &Path) -> Result<Self> {
        let files = audio_files(root)?;
        let class = |p: &Path| -> Option<String> {
            let mut parts = p.strip_prefix(root).ok()?.components();
            let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
            parts.next().map(|_| first)
        };
        let named: Option<Vec<String>> = files.iter().map(|p| class(p)).collect();
        let mut classes: Vec<String> =
            named.iter().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        if classes.len() < 2 {
            classes.clear();
        }
        let mut clips = Vec::with_capacity(files.len());
        for (i, path) in files.iter().enumerate() {
            let mut clip = Clip::file(path);
            clip.label = named.as_ref().and_then(|n| classes.binary_search(&n[i]).ok()).map(|c| c as u32);
            let text = path.with_extension("txt");
            if text.is_file() {
                let said = selfsup_core::file::text(&text)?;
                clip.transcript = Some(said.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            clip.alignment =
                crate::labels::ENDINGS.iter().map(|e| path.with_extension(e)).find(|p| p.is_file());
            clips.push(clip);
        }
        if clips.is_empty() {
            return Err(Error::file(
                root,
                format!(
                    "no recordings found: looked in all folders for files ending in {}",
                    ENDINGS.join(", ")
                ),
            ));
        }
        Self::new(clips, classes)
    }

    /// The clips.
    pub fn clips(&self) -> &[Clip] {
        &self.clips
    }

    /// Names of the classes; empty where there are no labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Some of the clips, in a given order.
    ///
    /// # Errors
    /// If there is none, or an index does not exist.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        let pick = |&i: &usize| {
            self.clips.get(i).cloned().ok_or_else(|| {
                Error::input("corpus", format!("there is no clip {i}, expected below {}", self.clips.len()))
            })
        };
        Self::new(indices.iter().map(pick).collect::<Result<_>>()?, self.classes.to_vec())
    }

    /// Reads the lengths that are not known from the heads of the files, on all threads. Clips that cannot be
    /// read are left out and returned with the reason.
    ///
    /// # Errors
    /// If none can be read.
    pub fn measure(&self) -> Result<(Self, Vec<(String, String)>)> {
        let found: Vec<Result<Option<f64>>> = self.clips.par_iter().map(Clip::measure).collect();
        let (mut clips, mut bad) = (Vec::with_capacity(self.clips.len()), Vec::new());
        for (clip, seconds) in self.clips.iter().zip(found) {
            match seconds {
                Ok(seconds) => clips.push(Clip { seconds, ..clip.clone() }),
                Err(e) => bad.push((clip.id.clone(), e.to_string())),
            }
        }
        match (clips.is_empty(), bad.first()) {
            (true, Some((_, why))) => Err(Error::input(
                "corpus",
                format!("none of {} recordings can be read; the first: {why}", bad.len()),
            )),
            _ => Ok((Self::new(clips, self.classes.to_vec())?, bad)),
        }
    }

    /// Something of each clip, in their order, on all threads.
    pub fn each<R: Send>(&self, f: &(dyn Fn(&Clip) -> R + Sync)) -> Vec<R> {
        self.clips.par_iter().map(f).collect()
    }

    /// Lengths in milliseconds, cut at `crop_seconds`, for batches of like length; an unknown one counts as
    /// the crop, or 10 s.
    pub fn lengths(&self, crop_seconds: Option<f64>) -> Vec<u32> {
        let most = crop_seconds.unwrap_or(f64::from(u32::MAX) / 1000.0);
        self.clips
            .iter()
            .map(|c| (c.seconds.unwrap_or(crop_seconds.unwrap_or(10.0)).min(most) * 1000.0) as u32)
            .collect()
    }

    /// Length of all clips in seconds, as far as known.
    pub fn seconds(&self) -> f64 {
        self.clips.iter().filter_map(|c| c.seconds).sum()
    }
}

impl Dataset for Corpus {
    type Item = Clip;

    fn len(&self) -> usize {
        self.clips.len()
    }

    fn get(&self, index: usize) -> Result<Clip> {
        self.clips
            .get(index)
            .cloned()
            .ok_or_else(|| Error::input("corpus", format!("there is no clip {index}")))
    }
}

/// Recordings below a folder by their endings, in the order of their paths. Hidden files are left out; links
/// are followed, but not back to a folder that they lie in.
///
/// # Errors
/// If a folder cannot be read or folders are nested deeper than 64.
pub fn audio_files(root: &Path) -> Result<Vec<PathBuf>> {
    files_of(root, &ENDINGS)
}

/// Recordings below a folder that are passed over because nothing here decodes their kind: how many there
/// are of each ending.
///
/// # Errors
/// As [`audio_files`].
pub fn passed_over(root: &Path) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for path in files_of(root, &NOT_READ)? {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        *counts.entry(ending).or_default() += 1;
    }
    Ok(counts)
}

fn files_of(root: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut files, mut above) = (Vec::new(), Vec::new());
    walk(root, endings, &mut above, &mut files)?;
    files.sort();
    Ok(files)
}

fn walk(dir: &Path, endings: &[&str], above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<()> {
    let io = |e| Error::io(dir, e);
    let real = dir.canonicalize().map_err(io)?;
    if above.contains(&real) {
        return Ok(());
    }
    if above.len() >= DEPTH {
        return Err(Error::file(dir, format!("nested more than {DEPTH} folders deep")));
    }
    above.push(real);
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let sound = path.extension().is_some_and(|e| endings.iter().any(|x| e.eq_ignore_ascii_case(x)));
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => walk(&path, endings, above, files)?,
            Ok(meta) if !meta.is_file() => {}
            _ if sound => files.push(path),
            _ => {}
        }
    }
    above.pop();
    Ok(())
}

#[cfg(test)]
mod tests;
