//! EDF and EDF+ (Kemp et al. 1992; Kemp and Olivan 2003, <https://www.edfplus.info/specs/edfplus.html>).

use super::number::positive;
use crate::{Annotation, Channel, Recording};
use selfsup_core::{Error, Result};
use std::path::Path;

/// The label of the signal that holds annotations.
const ANNOTATIONS: &str = "EDF Annotations";

/// What the header says of one signal.
struct Signal {
    label: String,
    unit: String,
    physical: [f64; 2],
    digital: [f64; 2],
    /// Samples in a record.
    samples: usize,
}

/// Reads a file: physical values of each signal at its own rate, and the annotations of EDF+. Who was recorded, and
/// when, is not kept.
///
/// # Errors
/// If the header contradicts itself or the file is cut short; files with gaps (EDF+D) are refused.
pub fn read(path: &Path) -> Result<Recording> {
    let bytes = selfsup_core::file::read(path)?;
    let text = |from: usize, n: usize, what: &str| -> Result<&str> {
        let field = bytes.get(from..from + n);
        let field =
            field.ok_or_else(|| Error::file(path, format_args!("ends within its header, at {what}")))?;
        let text = std::str::from_utf8(field).ok().filter(|t| t.is_ascii());
        Ok(text.ok_or_else(|| Error::file(path, format_args!("{what} is no ASCII text: no EDF?")))?.trim())
    };
    if text(0, 8, "the version")? != "0" {
        return Err(Error::file(path, "no EDF: expected the version 0"));
    }
    if text(192, 44, "the reserved field")?.starts_with("EDF+D") {
        return Err(Error::file(path, "EDF+D: records with gaps between them, expected EDF or EDF+C"));
    }
    let whole = |from: usize, n: usize, what: &str| -> Result<i64> {
        let text = text(from, n, what)?;
        text.parse()
            .map_err(|_| Error::file(path, format_args!("{what} is `{text}`, expected a whole number")))
    };
    let (start, records) =
        (whole(184, 8, "the size of the header")?, whole(236, 8, "the number of records")?);
    let seconds = positive(path, "the duration of a record", text(244, 8, "the duration of a record")?)?;
    let count = usize::try_from(whole(252, 4, "the number of signals")?).unwrap_or(0);
    if count == 0 || start != 256 * (count as i64 + 1) {
        let problem =
            format!("{count} signals and a header of {start} bytes, expected 256 for each and 256 more");
        return Err(Error::file(path, problem));
    }
    let signals = (0..count)
        .map(|i| {
            // Each field stands for all signals before the next one.
            let at = |before: usize, n: usize| 256 + before * count + i * n;
            let number = |before: usize, what: &str| -> Result<f64> {
                let text = text(at(before, 8), 8, what)?;
                let value: Option<f64> = text.parse().ok().filter(|v: &f64| v.is_finite());
                value.ok_or_else(|| {
                    Error::file(path, format_args!("{what} of signal {i} is `{text}`, expected a number"))
                })
            };
            let samples = whole(at(216, 8), 8, "the number of samples")?;
            let samples = usize::try_from(samples).ok().filter(|n| *n > 0).ok_or_else(|| {
                Error::file(path, format_args!("signal {i} has {samples} samples in a record, expected some"))
            })?;
            Ok(Signal {
                label: text(at(0, 16), 16, "a label")?.into(),
                unit: text(at(96, 8), 8, "a unit")?.into(),
                physical: [number(104, "the physical minimum")?, number(112, "the physical maximum")?],
                digital: [number(120, "the digital minimum")?, number(128, "the digital maximum")?],
                samples,
            })
        })
        .collect::<Result<Vec<Signal>>>()?;
    let record: usize = signals.iter().map(|s| 2 * s.samples).sum();
    let data = bytes.get(start as usize..).unwrap_or(&[]);
    // -1 stands for a recording that was not ended.
    let records = usize::try_from(records).unwrap_or(data.len() / record);
    if records.checked_mul(record).is_none_or(|n| n > data.len()) {
        let held = data.len() / record;
        return Err(Error::file(path, format_args!("holds {held} records of {records}: cut short?")));
    }
    let mut out = Recording::default();
    let mut before = 0;
    for (i, signal) in signals.iter().enumerate() {
        let pieces = (0..records).map(|r| {
            let at = r * record + before;
            data.get(at..at + 2 * signal.samples).unwrap_or(&[])
        });
        if signal.label == ANNOTATIONS {
            for piece in pieces {
                noted(path, piece, &mut out.annotations)?;
            }
        } else {
            out.channels.push(channel(path, i, signal, pieces, seconds)?);
        }
        before += 2 * signal.samples;
    }
    out.annotations.sort_by(|a, b| a.onset.total_cmp(&b.onset));
    Ok(out)
}

fn channel<'a>(
    path: &Path,
    i: usize,
    signal: &Signal,
    pieces: impl Iterator<Item = &'a [u8]>,
    seconds: f64,
) -> Result<Channel> {
    let ([low, high], [from, to]) = (signal.physical, signal.digital);
    if from == to || low == high {
        let problem = format!(
            "signal {i} (`{}`) runs from {low} to {high} over digital {from} to {to}, expected two ranges",
            signal.label
        );
        return Err(Error::file(path, problem));
    }
    let gain = (high - low) / (to - from);
    let physical = |pair: &[u8]| {
        let digital =
            i16::from_le_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]);
        ((f64::from(digital) - from) * gain + low) as f32
    };
    let samples = pieces.flat_map(|piece| piece.chunks_exact(2)).map(physical).collect();
    Ok(Channel {
        name: signal.label.clone(),
        unit: signal.unit.clone(),
        rate: Some(signal.samples as f64 / seconds),
        samples,
    })
}

/// Time-stamped lists of a record: `+ONSET[\x15DURATION]\x14TEXT\x14...\0`. The first one of a record has no text:
/// it says when the record begins.
fn noted(path: &Path, bytes: &[u8], out: &mut Vec<Annotation>) -> Result<()> {
    for list in bytes.split(|b| *b == 0).filter(|list| !list.is_empty()) {
        let mut parts = list.split(|b| *b == 0x14);
        let stamp = String::from_utf8_lossy(parts.next().unwrap_or(&[])).into_owned();
        let (onset, duration) = match stamp.split_once('\u{15}') {
            Some((onset, duration)) => (onset.to_string(), Some(duration.to_string())),
            None => (stamp.clone(), None),
        };
        let number = |text: &str| -> Result<f64> {
            text.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| {
                Error::file(path, format_args!("an annotation at `{}`, expected a time", text.escape_debug()))
            })
        };
        let onset = number(&onset)?;
        let duration = duration.as_deref().map(number).transpose()?;
        for text in parts.filter(|text| !text.is_empty()) {
            let label = String::from_utf8_lossy(text).into_owned();
            out.push(Annotation { onset, duration, label, ..Annotation::default() });
        }
    }
    Ok(())
}
