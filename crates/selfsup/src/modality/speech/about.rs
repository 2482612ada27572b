//! What `data inspect` says of recordings: durations, rates, channels, formats, transcripts, and channels
//! that cancel.

use selfsup_datasets::Records;
use selfsup_speech::audio::{Info, cancels, info};
use selfsup_speech::data::{Clip, Corpus};
use std::collections::BTreeMap;

/// Lines about the recordings of a corpus; those that cannot be read are counted elsewhere.
pub(super) fn lines(corpus: &Corpus, records: &dyn Records) -> Vec<String> {
    let read = |clip: &Clip| -> Option<(Info, f64, bool)> {
        let found = info(&clip.content, &clip.id).ok()?;
        // Samples are counted: a head may only estimate them.
        let seconds = clip.samples(found.rate).ok()? as f64 / f64::from(found.rate);
        let silent = cancels(&clip.content, &clip.id).unwrap_or(false);
        Some((found, seconds, silent))
    };
    let found = corpus.each(&read);
    let mut lines = Vec::new();
    let mut seconds: Vec<f64> = found.iter().flatten().map(|(_, seconds, _)| *seconds).collect();
    seconds.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (seconds.first(), seconds.last()) {
        let (all, middle) = (seconds.iter().sum::<f64>(), seconds[seconds.len() / 2]);
        lines.push(format!(
            "duration: {}, each {least:.2} to {most:.2} s, the middle one {middle:.2} s",
            spoken(all)
        ));
    }
    let mut counts: [BTreeMap<String, usize>; 3] = Default::default();
    for (info, _, _) in found.iter().flatten() {
        let channels = info.channels.map_or("unknown".to_string(), |n| n.to_string());
        for (count, name) in
            counts.iter_mut().zip([info.format.to_string(), format!("{} Hz", info.rate), channels])
        {
            *count.entry(name).or_default() += 1;
        }
    }
    for (what, counts) in ["format", "rate", "channels"].into_iter().zip(&counts) {
        lines.extend(counts.iter().map(|(name, n)| format!("{what} {name}: {n}")));
    }
    lines.extend(transcripts(records));
    let turned =
        corpus.clips().iter().zip(&found).filter(|(_, f)| f.as_ref().is_some_and(|(_, _, silent)| *silent));
    lines.extend(turned.map(|(clip, _)| {
        format!(
            "problem: {}: its channels cancel when they are averaged (one is the other turned round)",
            clip.id
        )
    }));
    lines
}

/// Hours, or less of a little.
fn spoken(seconds: f64) -> String {
    match seconds {
        s if s >= 3600.0 => format!("{:.2} hours", s / 3600.0),
        s if s >= 120.0 => format!("{:.1} minutes", s / 60.0),
        s => format!("{s:.2} seconds"),
    }
}

/// How many recordings have a transcript, and of how many characters; nothing where none has.
fn transcripts(records: &dyn Records) -> Vec<String> {
    let all: Vec<String> = (0..records.len()).filter_map(|i| records.transcript(i)).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let empty = all.iter().filter(|t| t.trim().is_empty()).count();
    let characters: usize = all.iter().map(|t| t.chars().count()).sum();
    let different: std::collections::BTreeSet<char> = all.iter().flat_map(|t| t.chars()).collect();
    vec![format!(
        "transcripts: {} of {} recordings, {empty} of them empty; {characters} characters, {} different",
        all.len(),
        records.len(),
        different.len()
    )]
}
