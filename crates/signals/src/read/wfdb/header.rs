//! The header of a record.

use crate::read::number::positive;
use selfsup_core::{Error, Result};
use std::path::Path;

/// How samples are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 16 bits, the low byte first.
    F16,
    /// 16 bits, the high byte first.
    F61,
    /// 8 bits, an offset of 128.
    F80,
    /// Two samples of 12 bits in three bytes.
    F212,
    /// 24 bits, the low byte first.
    F24,
    /// 32 bits, the low byte first.
    F32,
}

impl Format {
    fn of(number: &str) -> Option<Self> {
        Some(match number {
            "16" => Format::F16,
            "61" => Format::F61,
            "80" => Format::F80,
            "212" => Format::F212,
            "24" => Format::F24,
            "32" => Format::F32,
            _ => return None,
        })
    }

    /// The code of a missing sample.
    pub fn invalid(self) -> i32 {
        match self {
            Format::F16 | Format::F61 => -32_768,
            Format::F80 => -128,
            Format::F212 => -2_048,
            Format::F24 => -8_388_608,
            Format::F32 => i32::MIN,
        }
    }
}

/// What a header says of one signal.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalHeader {
    /// The file of its samples.
    pub file: String,
    /// How they are packed.
    pub format: Format,
    /// Samples in a frame.
    pub per_frame: usize,
    /// Bytes in front of the first sample.
    pub offset: usize,
    /// Digital units in a physical one.
    pub gain: f64,
    /// The digital value of 0.
    pub baseline: i32,
    /// Physical unit.
    pub unit: String,
    /// Its description.
    pub name: String,
}

/// A header that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Frames a second.
    pub rate: f64,
    /// Frames; `None` where the header leaves it open.
    pub samples: Option<usize>,
    /// The signals.
    pub signals: Vec<SignalHeader>,
}

impl Header {
    /// Reads the header at `path`. Comments, which may describe the person, are not kept.
    ///
    /// # Errors
    /// Naming the file and the field that is not as expected.
    pub fn read(path: &Path) -> Result<Self> {
        let text = selfsup_core::file::text(path)?;
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let wrong = |what: &str| Err(Error::file(path, format_args!("no header of WFDB: {what}")));
        let Some(record) = lines.next() else { return wrong("it is empty") };
        let fields: Vec<&str> = record.split_ascii_whitespace().collect();
        let &[name, count, ref rest @ ..] = &fields[..] else {
            return wrong("its first line lacks the name of the record and the number of signals");
        };
        if name.contains('/') {
            return Err(Error::file(path, "a record of several segments, expected one segment"));
        }
        let Ok(count) = count.parse::<usize>() else { return wrong("the number of signals is no number") };
        // A rate may be followed by that of a counter: 360/1(0).
        let rate = rest.first().map_or("250", |r| r.split('/').next().unwrap_or(r));
        let rate = positive(path, "the sampling rate", rate)?;
        let samples = match rest.get(1) {
            None | Some(&"0") => None,
            Some(text) => match text.parse() {
                Ok(n) => Some(n),
                Err(_) => return wrong("the number of samples is no number"),
            },
        };
        let signals = lines.by_ref().take(count).map(|l| signal(path, l)).collect::<Result<Vec<_>>>()?;
        if signals.len() != count || count == 0 {
            let problem = format!("describes {} signals of {count}, expected one line each", signals.len());
            return Err(Error::file(path, problem));
        }
        Ok(Header { rate, samples, signals })
    }
}

/// `FILE FORMAT[xPER_FRAME][:SKEW][+OFFSET] [GAIN[(BASELINE)][/UNIT] [BITS [ZERO [FIRST [SUM [BLOCK [NAME]]]]]]]`.
fn signal(path: &Path, line: &str) -> Result<SignalHeader> {
    let wrong = |what: String| Error::file(path, format_args!("the signal `{line}`: {what}"));
    let mut fields = line.split_ascii_whitespace();
    let (Some(file), Some(packing)) = (fields.next(), fields.next()) else {
        return Err(wrong("expected a file and a format".into()));
    };
    if file.contains(['/', '\\']) || file == ".." {
        return Err(wrong("its samples lie elsewhere, expected a file beside the header".into()));
    }
    let (packing, offset) = cut(packing, '+');
    let (packing, skew) = cut(packing, ':');
    let (number, per_frame) = cut(packing, 'x');
    let whole = |text: Option<&str>, default: usize, what: &str| {
        text.map_or(Ok(default), |t| t.parse::<usize>().map_err(|_| wrong(format!("{what} is `{t}`"))))
    };
    let format = Format::of(number)
        .ok_or_else(|| wrong(format!("format {number}, expected 16, 61, 80, 212, 24 or 32")))?;
    let per_frame = whole(per_frame, 1, "samples in a frame")?;
    if per_frame == 0 || whole(skew, 0, "the skew")? != 0 {
        return Err(wrong("expected at least one sample in a frame, and no skew".into()));
    }
    let offset = whole(offset, 0, "the offset")?;
    let (gain, unit) = cut(fields.next().unwrap_or("200"), '/');
    let (gain, baseline) = match gain.split_once('(') {
        Some((gain, rest)) => (gain, Some(rest.trim_end_matches(')'))),
        None => (gain, None),
    };
    // A gain of 0 stands for one that nobody measured.
    let gain = match gain.parse::<f64>() {
        Ok(0.0) => 200.0,
        Ok(v) if v.is_finite() => v,
        _ => return Err(wrong(format!("the gain is `{gain}`"))),
    };
    let number = |text: &str| text.parse::<i32>().map_err(|_| wrong(format!("`{text}` is no whole number")));
    let _bits = fields.next();
    let zero = fields.next().map_or(Ok(0), number)?;
    let baseline = baseline.map_or(Ok(zero), number)?;
    let name: Vec<&str> = fields.skip(3).collect();
    Ok(SignalHeader {
        file: file.into(),
        format,
        per_frame,
        offset,
        gain,
        baseline,
        unit: unit.unwrap_or("mV").into(),
        name: name.join(" "),
    })
}

/// What stands before and after the first `mark`.
fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(a, b)| (a, Some(b)))
}
