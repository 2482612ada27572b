//! A file: scores, events, a picture, and how good they are where the truth is known.

use super::detector::{BATCH, Detector, Normal, Reader, check_share, without};
use super::event::{Event, Scored, events};
use super::picture::{Drawn, svg};
use super::request::Request;
use crate::modality::random_encoder;
use crate::modality::signals::Signals;
use crate::say::say;
use crate::verbs::{Opened, fresh};
use selfsup_core::checkpoint::{pretty_json, write_text};
use selfsup_core::{Error, Result};
use selfsup_eval::metrics::{Events, auroc};
use selfsup_signals::stream::{Due, Stream};
use selfsup_signals::window::Window;
use selfsup_signals::{Recording, read};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

/// How well the alarms of one reader of windows meet the truth.
#[derive(Serialize)]
struct Found {
    reader: &'static str,
    /// Area under the ROC curve over windows.
    auroc: f64,
    events: usize,
    detected: usize,
    false_alarms: usize,
    precision: f64,
    recall: f64,
    /// From the beginning of each event that was found to the end of the window that first alarmed; in seconds
    /// where the rate is known, else in samples.
    delays: Vec<f64>,
}

#[derive(Serialize)]
struct Report<'a> {
    run: String,
    rate: Option<f64>,
    window: usize,
    stride: usize,
    reference: usize,
    calibration: usize,
    threshold: f64,
    windows: usize,
    without_signal: usize,
    alarms: usize,
    milliseconds_per_window: f64,
    events: &'a [Event],
    found: &'a [Found],
}

pub(super) fn run(opened: &Opened<Signals>, request: &Request) -> Result<()> {
    let path = Path::new(&request.file);
    let whole = read::read(path, &opened.config.keys.signal.reading())?;
    let truth = request.truth.as_deref().map(|name| truth(&whole, name, path)).transpose()?;
    let recording = without(whole, request.truth.as_deref());
    let normal = Normal::read(opened, request)?;
    let (score, share) = (request.score, request.false_alarms);
    let trained =
        Detector::fit(Reader::Encoder(opened.method.encoder(), &opened.device), &normal, score, share)?;
    let (reference, calibration) = trained.counts;
    check_share(calibration, share);
    let started = Instant::now();
    let (stream, all) = scored(&trained, &normal, &recording, path)?;
    let signal = all.iter().filter(|s| s.score.is_some()).count();
    let each = started.elapsed().as_secs_f64() * 1000.0 / all.len().max(1) as f64;
    let rate = recording.channels.first().and_then(|c| c.rate);
    let mut found = Vec::new();
    if let Some(truth) = &truth {
        found.push(judged("trained", &all, trained.threshold, truth, &stream, rate)?);
        let random = random_encoder(&opened.modality, opened.config.train.seed, &opened.device)?;
        for (name, reader) in [
            ("random encoder", Reader::Encoder(random.as_ref(), &opened.device)),
            ("raw samples", Reader::Raw),
        ] {
            let detector = Detector::fit(reader, &normal, score, share)?;
            let (_, all) = scored(&detector, &normal, &recording, path)?;
            found.push(judged(name, &all, detector.threshold, truth, &stream, rate)?);
        }
    }
    let events = events(&all, trained.threshold, stream.every() as u64);
    let out = match &request.out {
        Some(out) => out.clone(),
        None => fresh("monitor")?,
    };
    std::fs::create_dir_all(&out).map_err(|e| Error::io(&out, e))?;
    private(&out)?;
    write_text(&out.join("scores.csv"), &scores_table(&all, trained.threshold, rate))?;
    write_text(&out.join("events.csv"), &events_table(&events, rate))?;
    let drawn = Drawn {
        recording: &recording,
        rate,
        scored: &all,
        threshold: trained.threshold,
        events: &events,
        truth: truth.as_deref(),
    };
    write_text(&out.join("monitor.svg"), &svg(&drawn)?)?;
    let report = Report {
        run: request.run.display().to_string(),
        rate,
        window: stream.span(),
        stride: stream.every(),
        reference,
        calibration,
        threshold: trained.threshold,
        windows: all.len(),
        without_signal: all.len() - signal,
        alarms: all.iter().filter(|s| s.score.is_some_and(|s| s > trained.threshold)).count(),
        milliseconds_per_window: each,
        events: &events,
        found: &found,
    };
    write_text(&out.join("monitor.json"), &pretty_json(&report)?)?;
    say(&report, &out);
    crate::say::result(&serde_json::to_value(&report).map_err(|e| Error::Other(e.to_string()))?);
    Ok(())
}

fn say(report: &Report, out: &Path) {
    say!(
        "{} windows of {} samples every {}, {} without a signal; {} of normal signal to compare with, {} to calibrate by",
        report.windows,
        report.window,
        report.stride,
        report.without_signal,
        report.reference,
        report.calibration
    );
    say!(
        "threshold {:.3}: {} windows above it, {} events ({:.1} ms a window)",
        report.threshold,
        report.alarms,
        report.events.iter().filter(|e| e.is_anomaly()).count(),
        report.milliseconds_per_window
    );
    if !report.found.is_empty() {
        let unit = if report.rate.is_some() { "s" } else { "samples" };
        say!("{:<16}{:>8}{:>10}{:>14}  delay", "", "AUROC", "found", "false alarms");
        for f in report.found {
            let delays: Vec<String> = f.delays.iter().map(|d| format!("{d:.1} {unit}")).collect();
            let found = format!("{} of {}", f.detected, f.events);
            say!("{:<16}{:>8.3}{found:>10}{:>14}  {}", f.reader, f.auroc, f.false_alarms, delays.join(", "));
        }
    }
    say!("{}: scores.csv, events.csv, monitor.svg, monitor.json", out.display());
}

/// Who owns the folder reads it, nobody else: signals are of people's health.
fn private(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

/// Where the channel of the truth is above one half.
fn truth(recording: &Recording, name: &str, path: &Path) -> Result<Vec<bool>> {
    let found = recording.channels.iter().find(|c| c.name.eq_ignore_ascii_case(name));
    let own = || recording.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let channel = found
        .ok_or_else(|| Error::file(path, format!("has no channel `{name}` (--truth): it has {}", own())))?;
    Ok(channel.samples.iter().map(|v| *v > 0.5).collect())
}

/// Scores all windows of a recording, a few at a time.
///
/// # Errors
/// If none of them has a signal.
fn scored(
    detector: &Detector,
    normal: &Normal,
    recording: &Recording,
    path: &Path,
) -> Result<(Stream, Vec<Scored>)> {
    let (mut out, mut places, mut windows): (Vec<Scored>, Vec<usize>, Vec<Window>) = Default::default();
    let mut why = None;
    let take = |out: &mut Vec<Scored>, places: &mut Vec<usize>, windows: &mut Vec<Window>| -> Result<()> {
        let scores = detector.scores(windows)?;
        places.drain(..).zip(scores).for_each(|(i, s)| out[i].score = Some(s));
        windows.clear();
        Ok(())
    };
    let id = path.display().to_string();
    let stream =
        Stream::each(&normal.config, &normal.scales, recording, normal.steps, &id, |Due { end, window }| {
            out.push(Scored { end, score: None });
            match window {
                Ok(window) => {
                    places.push(out.len() - 1);
                    windows.push(window);
                }
                Err(e) => why = Some(e),
            }
            if windows.len() == BATCH { take(&mut out, &mut places, &mut windows) } else { Ok(()) }
        })?;
    take(&mut out, &mut places, &mut windows)?;
    if out.iter().all(|s| s.score.is_none()) {
        return Err(why.unwrap_or_else(|| {
            Error::file(path, format!("is shorter than a window of {} samples", stream.span()))
        }));
    }
    Ok((stream, out))
}

/// Compares alarms with the truth over the windows that have a signal. A window is anomalous where it holds a sample
/// that is.
fn judged(
    reader: &'static str,
    all: &[Scored],
    threshold: f64,
    truth: &[bool],
    stream: &Stream,
    rate: Option<f64>,
) -> Result<Found> {
    let held = |end: u64| {
        let end = (end as usize).min(truth.len());
        truth[end.saturating_sub(stream.span())..end].contains(&true)
    };
    let scored: Vec<(u64, f64)> = all.iter().filter_map(|s| Some((s.end, s.score?))).collect();
    let marks: Vec<bool> = scored.iter().map(|(end, _)| held(*end)).collect();
    let values: Vec<f32> = scored.iter().map(|(_, s)| *s as f32).collect();
    // Above, not at, the threshold.
    let events = Events::new(&values, &marks, (threshold as f32).next_up())?;
    let delay = |run: &std::ops::Range<usize>| -> Option<f64> {
        let first = run.clone().find(|k| values[*k] > threshold as f32)?;
        let begin = (scored[run.start].0 as usize).saturating_sub(stream.span());
        let onset = (begin..truth.len()).find(|t| truth[*t])?;
        let samples = scored[first].0 as f64 - onset as f64;
        Some(rate.map_or(samples, |r| samples / r))
    };
    Ok(Found {
        reader,
        auroc: if marks.contains(&true) && marks.contains(&false) {
            auroc(&values, &marks)?
        } else {
            f64::NAN
        },
        events: events.truth.len(),
        detected: events.detected,
        false_alarms: events.false_alarms,
        precision: events.precision,
        recall: events.recall,
        delays: events.truth.iter().filter_map(delay).collect(),
    })
}

fn seconds(at: u64, rate: Option<f64>) -> String {
    rate.map_or(String::new(), |r| format!("{:.3}", at as f64 / r))
}

fn scores_table(scored: &[Scored], threshold: f64, rate: Option<f64>) -> String {
    let mut text = String::from("sample,seconds,score,alarm\n");
    for Scored { end, score } in scored {
        let alarm = score.map_or("", |s| if s > threshold { "1" } else { "0" });
        let score = score.map_or(String::new(), |s| format!("{s:.6}"));
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{end},{},{score},{alarm}", seconds(*end, rate));
    }
    text
}

fn events_table(events: &[Event], rate: Option<f64>) -> String {
    let mut text = String::from("start_sample,end_sample,start_seconds,end_seconds,kind,peak\n");
    for e in events {
        let peak = e.peak.map_or(String::new(), |p| format!("{p:.6}"));
        let (from, to) = (seconds(e.start, rate), seconds(e.end, rate));
        let _ = writeln!(text, "{},{},{from},{to},{},{peak}", e.start, e.end, e.kind);
    }
    text
}
