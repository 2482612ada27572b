//! A stream: lines of values on the standard input, a line for each window on the standard output.

use super::detector::{Detector, Normal, Reader, check_share};
use super::request::Request;
use crate::modality::signals::Signals;
use crate::verbs::Opened;
use selfsup_core::{Error, Result};
use selfsup_signals::prepare::SignalConfig;
use selfsup_signals::stream::Stream;
use std::io::{BufRead, Write};

pub(super) fn run(opened: &Opened<Signals>, request: &Request) -> Result<()> {
    if request.truth.is_some() {
        return Err(Error::config("--truth names a channel of a file; a stream has values alone"));
    }
    let normal = Normal::read(opened, request)?;
    let reader = Reader::Encoder(opened.method.encoder(), &opened.device);
    let detector = Detector::fit(reader, &normal, request.score, request.false_alarms)?;
    check_share(detector.counts.1, request.false_alarms);
    follow(&normal, &detector, std::io::stdin().lock(), std::io::stdout().lock())
}

/// Scores lines as they come. The first line may name the channels; fields are separated by commas, semicolons, tabs or
/// blanks, and an empty one, `?` or `nan` is missing.
fn follow(normal: &Normal, detector: &Detector, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let broken = |e: std::io::Error| Error::Other(format!("the standard output cannot be written: {e}"));
    let rate = normal.config.source_rate.or(normal.config.rate);
    let mut stream: Option<(Stream, Vec<usize>)> = None;
    writeln!(output, "sample,seconds,score,alarm").map_err(broken)?;
    for (i, line) in input.lines().enumerate() {
        let line = line.map_err(|e| Error::input(format!("line {}", i + 1), e))?;
        if line.trim().is_empty() {
            continue;
        }
        let fields = fields(&line);
        let (stream, columns) = match &mut stream {
            Some(both) => both,
            empty => {
                let (made, columns, is_title) = begin(normal, &fields, rate)?;
                let both = empty.insert((made, columns));
                if is_title {
                    continue;
                }
                both
            }
        };
        let value = |c: &usize| -> Result<f32> {
            let field = fields.get(*c).copied().unwrap_or("");
            number(field).ok_or_else(|| {
                let problem = format!("`{field}` in column {}, expected a number", c + 1);
                Error::input(format!("line {} of the standard input", i + 1), problem)
            })
        };
        let sample = columns.iter().map(value).collect::<Result<Vec<f32>>>()?;
        let Some(due) = stream.push(&sample)? else { continue };
        let seconds = rate.map_or(String::new(), |r| format!("{:.3}", due.end as f64 / r));
        let (score, alarm) = match &due.window {
            Err(_) => (String::new(), ""),
            Ok(window) => {
                let score =
                    detector.scores(std::slice::from_ref(window))?.first().copied().unwrap_or(f64::NAN);
                (format!("{score:.6}"), if score > detector.threshold { "1" } else { "0" })
            }
        };
        writeln!(output, "{},{seconds},{score},{alarm}", due.end)
            .and_then(|()| output.flush())
            .map_err(broken)?;
    }
    Ok(())
}

fn fields(line: &str) -> Vec<&str> {
    match [',', ';', '\t'].into_iter().find(|c| line.contains(*c)) {
        Some(c) => line.split(c).map(str::trim).collect(),
        None => line.split_whitespace().collect(),
    }
}

/// A field as a number, NaN where it is missing.
fn number(field: &str) -> Option<f32> {
    if field.is_empty() || field == "?" || field.eq_ignore_ascii_case("nan") {
        return Some(f32::NAN);
    }
    field.parse::<f32>().ok().filter(|v| v.is_finite())
}

/// The stream, the columns that it takes, and whether the first line holds names.
fn begin(normal: &Normal, first: &[&str], rate: Option<f64>) -> Result<(Stream, Vec<usize>, bool)> {
    let titled = first.iter().any(|f| number(f).is_none());
    let wanted = &normal.config.channels;
    let columns: Vec<usize> = if titled && !wanted.is_empty() {
        let at = |name: &String| {
            let found = first.iter().position(|f| f.trim_matches('"').eq_ignore_ascii_case(name.trim()));
            found.ok_or_else(|| {
                Error::input(
                    "the standard input",
                    format!("has no column `{name}`: it has {}", first.join(", ")),
                )
            })
        };
        wanted.iter().map(at).collect::<Result<_>>()?
    } else {
        (0..first.len()).collect()
    };
    if columns.len() != normal.scales.len() {
        let problem = format!("has {} columns, the run has {} channels", columns.len(), normal.scales.len());
        return Err(Error::input("the standard input", problem));
    }
    // The columns are the channels now, in their order.
    let config = SignalConfig { channels: Vec::new(), ..normal.config.clone() };
    let names = (1..=columns.len()).map(|c| c.to_string()).collect();
    let stream = Stream::new(&config, normal.scales.clone(), names, rate, normal.steps)?;
    Ok((stream, columns, titled))
}
