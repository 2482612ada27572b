//! What is said of a folder of recordings before anything is trained: kinds that are not read, recordings
//! without a frame, channels that cancel.

use crate::say::warning;
use crate::set::Set;
use selfsup_core::Result;
use selfsup_speech::audio::{Content, cancels, codec_is_read};
use selfsup_speech::data::{Clip, Corpus, passed_over};
use std::path::Path;

/// Names that are shown in a warning.
const SHOWN: usize = 5;
/// Recordings that are listened to for channels that cancel.
const LISTENED: usize = 200;

/// "a.wav, b.wav ..."
pub(super) fn shown(names: &[&str]) -> String {
    let more = if names.len() > SHOWN { " ..." } else { "" };
    names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ") + more
}

/// Counts and names the recordings of a folder that nothing here decodes.
pub(super) fn warn_of_passed_over(what: &str) -> Result<()> {
    let path = Path::new(what);
    if selfsup_datasets::list().iter().any(|c| c.name == what) || !path.is_dir() {
        return Ok(());
    }
    let counts = passed_over(path)?;
    let all: usize = counts.values().sum();
    if all > 0 {
        let kinds: Vec<String> = counts.iter().map(|(ending, n)| format!("{n} .{ending}")).collect();
        warning(format_args!(
            "{all} recordings of {what} are passed over, their kind is not read ({}): convert them, for example with `ffmpeg -i IN OUT.flac`",
            kinds.join(", ")
        ));
    }
    Ok(())
}

/// Why a recording is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Out {
    /// It has no frame.
    Short,
    /// Nothing here decodes its codec.
    Codec,
}

/// The recordings that have a frame of `least` samples at `rate`. Those that are empty or too short, and
/// those in a codec that is not decoded, are counted and named; so are those whose channels cancel, which
/// stay. What cannot be read otherwise stays: reading it says why.
pub(super) fn usable(corpus: &Corpus, set: Set, least: usize, rate: u32) -> Result<Option<Set>> {
    let clips = corpus.clips();
    let out = corpus.each(&|clip: &Clip| match &clip.content {
        Content::File(path) if std::fs::metadata(path).is_ok_and(|m| m.len() == 0) => Some(Out::Short),
        Content::Bytes(bytes) if bytes.is_empty() => Some(Out::Short),
        content => match clip.samples(rate) {
            Ok(n) => (n < least as u64).then_some(Out::Short),
            Err(_) => (!codec_is_read(content, &clip.id)).then_some(Out::Codec),
        },
    });
    let kept: Vec<usize> = (0..clips.len()).filter(|&i| out[i].is_none()).collect();
    let short = format!("empty or shorter than the {least} samples of a frame");
    let codec = "in a codec that is not decoded here (`ffmpeg -i IN OUT.flac` converts one)";
    for (what, why) in [(Out::Short, short.as_str()), (Out::Codec, codec)] {
        let ids: Vec<&str> =
            (0..clips.len()).filter(|&i| out[i] == Some(what)).map(|i| clips[i].id.as_str()).collect();
        if !ids.is_empty() {
            warning(format_args!(
                "{} of {} recordings are left out, {why}: {}",
                ids.len(),
                clips.len(),
                shown(&ids)
            ));
        }
    }
    let looked: Vec<usize> = kept.iter().copied().step_by(kept.len().div_ceil(LISTENED).max(1)).collect();
    if !looked.is_empty() {
        let turned = corpus.select(&looked)?.each(&|clip| cancels(&clip.content, &clip.id).unwrap_or(false));
        let names: Vec<&str> =
            looked.iter().zip(turned).filter(|(_, t)| *t).map(|(&i, _)| clips[i].id.as_str()).collect();
        if !names.is_empty() {
            warning(format_args!(
                "the channels of {} of {} recordings that were listened to cancel when they are averaged (one is the other turned round): what is left is silence: {}",
                names.len(),
                looked.len(),
                shown(&names)
            ));
        }
    }
    match kept.len() {
        0 => Ok(None),
        n if n == set.len() => Ok(Some(set)),
        _ => Ok(Some(set.part(kept)?)),
    }
}

#[cfg(test)]
mod tests {
    /// What a folder is taken for, and what is counted in it, go by the same endings.
    #[test]
    fn both_lists_of_endings_are_one() {
        assert_eq!(selfsup_datasets::recognise::RECORDINGS_NOT_READ, selfsup_speech::data::NOT_READ);
    }
}
