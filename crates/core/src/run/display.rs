//! Progress for people: a bar on a terminal, a plain line every few seconds elsewhere (a log file, a batch
//! system).
//!
//! Trainings are shown by their steps, other work by the pieces that are done ([`Display::counting`],
//! [`counted`]): that is shown only if it takes longer than the interval, goes away when it ends, and keeps
//! silent beside a training, which has a display of its own.

use crate::data::{LoadedBatch, Source};
use crate::error::Result;
use crate::pass::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

enum Sink {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>),
    Quiet,
}

/// Displays of trainings that are open in this process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Whether nothing is shown in this process.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Displays that are made from now on show nothing (`true`), or what they are given.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Shows how far a run is: rate, time left and the values it is given (loss, lr ...). Writes to standard
/// error.
pub struct Display {
    sink: Sink,
    every: Duration,
    /// Step and time from which the rate is taken: a resumed run counts its own steps only.
    start: Option<(u64, Instant)>,
    last: Option<Instant>,
    /// The unit that is counted, where it is not the steps of a training.
    what: Option<String>,
    /// Whether it is among [`OPEN`].
    open: bool,
}

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.sink {
            Sink::Bar(_) => "bar",
            Sink::Lines(_) => "lines",
            Sink::Quiet => "quiet",
        };
        f.debug_struct("Display").field("sink", &kind).field("every", &self.every).finish()
    }
}

impl Display {
    /// A bar if standard error is a terminal, else at most one line per `every`.
    pub fn new(every: Duration) -> Self {
        let mut shown = Self::stderr(every);
        OPEN.fetch_add(1, Ordering::Relaxed);
        shown.open = true;
        shown
    }

    /// For work other than a training: `what` it is, in a word or two. Nothing is shown in the first `every`,
    /// nor while a training is.
    pub fn counting(what: &str, every: Duration) -> Self {
        let mut shown = if OPEN.load(Ordering::Relaxed) > 0 { Self::quiet() } else { Self::stderr(every) };
        shown.what = Some(what.to_string());
        shown
    }

    fn stderr(every: Duration) -> Self {
        if QUIET.load(Ordering::Relaxed) {
            Self::quiet()
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // The template is a constant that its test parses; without it the default bar does.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("=> "));
            }
            Self::to(Sink::Bar(bar), every)
        } else {
            Self::lines(Box::new(std::io::stderr()), every)
        }
    }

    /// At most one line per `every`, to `out`.
    pub fn lines(out: Box<dyn Write + Send>, every: Duration) -> Self {
        Self::to(Sink::Lines(out), every)
    }

    /// Shows nothing.
    pub fn quiet() -> Self {
        Self::to(Sink::Quiet, Duration::ZERO)
    }

    fn to(sink: Sink, every: Duration) -> Self {
        Display { sink, every, start: None, last: None, what: None, open: false }
    }

    /// Shows the state after a step. Cheap: call it at every step.
    pub fn update(&mut self, progress: Progress, values: &[(&str, f64)]) {
        self.update_at(Instant::now(), progress, values);
    }

    /// Shows that `done` of `total` pieces are done.
    pub fn count(&mut self, done: u64, total: u64) {
        self.update(Progress { step: done, total_steps: total, epoch: 0 }, &[]);
    }

    fn update_at(&mut self, now: Instant, p: Progress, values: &[(&str, f64)]) {
        let (first, begun) = *self.start.get_or_insert((p.step, now));
        let seconds = now.saturating_duration_since(begun).as_secs_f64();
        let rate = if seconds > 0.0 { p.step.saturating_sub(first) as f64 / seconds } else { 0.0 };
        let left = p.total_steps.saturating_sub(p.step);
        // What is over at once is not worth a line.
        if self.what.is_some() && now.saturating_duration_since(begun) < self.every {
            return;
        }
        let tail = || {
            let mut parts = Vec::new();
            if self.what.is_none() {
                parts.push(format!("epoch {}", p.epoch));
            }
            if rate > 0.0 {
                parts.push(format!(
                    "{}  {} left",
                    rate_text(rate, self.what.is_none()),
                    time_text(left as f64 / rate)
                ));
            }
            parts.extend(values.iter().map(|(name, v)| format!("{name} {}", number(*v))));
            parts.join("  ")
        };
        match &mut self.sink {
            Sink::Quiet => {}
            Sink::Bar(bar) => {
                bar.set_length(p.total_steps);
                bar.set_position(p.step);
                bar.set_message(self.what.as_ref().map_or_else(tail, |what| format!("{what}  {}", tail())));
            }
            Sink::Lines(out) => {
                let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every)
                    || left == 0 && self.what.is_none();
                if due {
                    self.last = Some(now);
                    // Nobody to show it to is no reason to end a run.
                    let _ = writeln!(
                        out,
                        "{} {}/{}  {}",
                        self.what.as_deref().unwrap_or("step"),
                        p.step,
                        p.total_steps,
                        tail()
                    );
                }
            }
        }
    }

    /// Writes a line of its own: a warning, a checkpoint, the value of an evaluation.
    pub fn note(&mut self, text: &str) {
        match &mut self.sink {
            Sink::Quiet => {}
            Sink::Bar(bar) => bar.println(text),
            Sink::Lines(out) => {
                let _ = writeln!(out, "{text}");
            }
        }
    }

    /// Ends the display; the last state of a training stays visible.
    pub fn finish(&mut self) {
        if let Sink::Bar(bar) = &self.sink {
            if self.what.is_some() { bar.finish_and_clear() } else { bar.abandon() }
        }
        self.close();
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let (Sink::Bar(bar), Some(_)) = (&self.sink, &self.what) {
            bar.finish_and_clear();
        }
        self.close();
    }
}

/// The batches of a source, once, counted on a display as `what`.
///
/// # Errors
/// As [`Source::epoch_from`].
pub fn counted<'a, B>(
    what: &str,
    source: &'a dyn Source<B>,
) -> Result<impl Iterator<Item = Result<LoadedBatch<B>>> + 'a> {
    let mut display = Display::counting(what, Duration::from_secs(10));
    let (mut done, total) = (0, source.batches() as u64);
    let mut batches = source.epoch_from(0, 0)?;
    Ok(std::iter::from_fn(move || {
        // Those that were handed out before are done.
        display.count(done, total);
        done += 1;
        batches.next()
    }))
}

const TEMPLATE: &str = "{wide_bar} {pos}/{len}  {msg}";

fn rate_text(rate: f64, steps: bool) -> String {
    match (rate >= 1.0, steps) {
        (true, true) => format!("{rate:.1} steps/s"),
        (false, true) => format!("{:.1} s/step", 1.0 / rate),
        (true, false) => format!("{rate:.1}/s"),
        (false, false) => format!("{:.1} s each", 1.0 / rate),
    }
}

/// Seconds in words: `42s`, `3m05s`, `2h10m`.
pub fn time_text(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// Four digits, without an exponent where that is readable.
fn number(v: f64) -> String {
    if v == 0.0 || !v.is_finite() || (1e-3..1e5).contains(&v.abs()) {
        let digits = if v.is_finite() && v != 0.0 {
            (3 - v.abs().log10().floor() as i64).clamp(0, 6) as usize
        } else {
            0
        };
        format!("{v:.digits$}")
    } else {
        format!("{v:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(b);
            Ok(b.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_are_rare() {
        let out = Shared::default();
        let mut d = Display::lines(Box::new(out.clone()), Duration::from_secs(10));
        let t = Instant::now();
        for step in 100..=200 {
            let p = Progress { step, total_steps: 200, epoch: step / 50 };
            d.update_at(t + Duration::from_millis(500 * (step - 100)), p, &[("loss", 1.23456), ("lr", 3e-4)]);
        }
        d.note("done");
        d.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert_eq!(lines[0], "step 100/200  epoch 2  loss 1.235  lr 3.00e-4");
        assert_eq!(lines[1], "step 120/200  epoch 2  2.0 steps/s  40s left  loss 1.235  lr 3.00e-4");
        assert_eq!(lines[5], "step 200/200  epoch 4  2.0 steps/s  0s left  loss 1.235  lr 3.00e-4");
        assert_eq!(lines[6], "done");
    }

    #[test]
    fn what_is_counted_is_shown_if_it_takes_long() {
        let out = Shared::default();
        let mut d = Display::lines(Box::new(out.clone()), Duration::from_secs(10));
        d.what = Some("features: batch".into());
        let t = Instant::now();
        for step in 0..=60 {
            d.update_at(
                t + Duration::from_millis(500 * step),
                Progress { step, total_steps: 60, epoch: 0 },
                &[],
            );
        }
        d.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "features: batch 20/60  2.0/s  20s left",
                "features: batch 40/60  2.0/s  10s left",
                "features: batch 60/60  2.0/s  0s left",
            ]
        );
    }

    #[test]
    fn nothing_is_counted_beside_a_training() {
        let open = || OPEN.load(Ordering::Relaxed);
        let (mut training, before) = (Display::new(Duration::from_secs(10)), open());
        assert!(before > 0 && matches!(Display::counting("x", Duration::ZERO).sink, Sink::Quiet));
        assert_eq!(open(), before, "what is counted is no training");
        training.finish();
        drop(training);
        assert_eq!(open(), before - 1, "once");
    }

    #[test]
    fn texts() {
        assert_eq!(time_text(59.6), "1m00s");
        assert_eq!(time_text(3725.0), "1h02m");
        assert_eq!(rate_text(0.25, true), "4.0 s/step");
        assert_eq!((rate_text(0.25, false), rate_text(2.5, false)), ("4.0 s each".into(), "2.5/s".into()));
        for (v, want) in [
            (0.0, "0"),
            (12345.6, "12346"),
            (0.5, "0.5000"),
            (-2.5, "-2.500"),
            (1e-7, "1.00e-7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(v), want);
        }
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
