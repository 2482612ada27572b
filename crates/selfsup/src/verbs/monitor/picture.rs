//! The monitored signal and its scores, one above the other, with the events behind both.

use super::event::{Event, Scored};
use plotters::prelude::*;
use selfsup_core::{Error, Result};
use selfsup_signals::Recording;

/// Pixels.
const WIDTH: u32 = 1100;
const PANEL: u32 = 150;
/// Channels that are drawn at most.
const CHANNELS: usize = 6;
/// Columns of a signal: each has its lowest and its highest value.
const COLUMNS: usize = 1000;

/// Colours after Okabe and Ito: most eyes can separate them.
const SIGNAL: RGBColor = RGBColor(0, 114, 178);
const SCORE: RGBColor = RGBColor(60, 60, 60);
const ALARM: RGBColor = RGBColor(213, 94, 0);
const GONE: RGBColor = RGBColor(150, 150, 150);
const TRUTH: RGBColor = RGBColor(0, 158, 115);

/// What is drawn.
pub(super) struct Drawn<'a> {
    pub(super) recording: &'a Recording,
    pub(super) rate: Option<f64>,
    pub(super) scored: &'a [Scored],
    pub(super) threshold: f64,
    pub(super) events: &'a [Event],
    pub(super) truth: Option<&'a [bool]>,
}

type Done = std::result::Result<(), Box<dyn std::error::Error>>;

/// The picture as SVG.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn svg(drawn: &Drawn) -> Result<String> {
    let mut text = String::new();
    draw(drawn, &mut text)
        .map_err(|e| Error::Other(format!("the picture of the signal cannot be drawn: {e}")))?;
    Ok(text)
}

fn draw(drawn: &Drawn, text: &mut String) -> Done {
    let channels = drawn.recording.channels.len().min(CHANNELS);
    let area = SVGBackend::with_string(text, (WIDTH, PANEL * (channels as u32 + 1) + 30)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.margin(4, 30, 0, 0).split_evenly((channels + 1, 1));
    let last = drawn.recording.channels.iter().map(|c| c.samples.len()).max().unwrap_or(1);
    let at = |sample: f64| drawn.rate.map_or(sample, |r| sample / r);
    for (panel, channel) in panels.iter().zip(drawn.recording.channels.iter().take(CHANNELS)) {
        let width = channel.samples.len().div_ceil(COLUMNS).max(1);
        let columns = columns(&channel.samples, width);
        let (low, high) = extent(columns.iter().flat_map(|(_, l, h)| [*l, *h]));
        let name = if channel.unit.is_empty() {
            channel.name.clone()
        } else {
            format!("{} ({})", channel.name, channel.unit)
        };
        let mut chart = ChartBuilder::on(panel)
            .x_label_area_size(4)
            .y_label_area_size(64)
            .margin_right(14)
            .build_cartesian_2d(0.0..at(last as f64), low..high)?;
        let range = (low, high);
        shade(&mut chart, drawn, range, &at)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_y_mesh()
            .x_labels(0)
            .y_labels(4)
            .y_desc(name)
            .axis_desc_style(("sans-serif", 12))
            .label_style(("sans-serif", 11))
            .draw()?;
        for line in lines(&columns, width) {
            let points = line.iter().flat_map(|(x, l, h)| [(at(*x), *l), (at(*x), *h)]);
            chart.draw_series(LineSeries::new(points, SIGNAL.stroke_width(1)))?;
        }
    }
    let Some(panel) = panels.last() else { return Ok(()) };
    let scores: Vec<(f64, f64)> =
        drawn.scored.iter().filter_map(|s| Some((at(s.end as f64), s.score?))).collect();
    let (low, high) = extent(scores.iter().map(|(_, s)| *s).chain([drawn.threshold]));
    let mut chart = ChartBuilder::on(panel)
        .x_label_area_size(34)
        .y_label_area_size(64)
        .margin_right(14)
        .build_cartesian_2d(0.0..at(last as f64), low..high)?;
    shade(&mut chart, drawn, (low, high), &at)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_y_mesh()
        .x_desc(if drawn.rate.is_some() { "seconds" } else { "samples" })
        .y_desc("score")
        .y_labels(4)
        .axis_desc_style(("sans-serif", 12))
        .label_style(("sans-serif", 11))
        .draw()?;
    chart.draw_series(LineSeries::new(scores, SCORE.stroke_width(1)))?;
    let line = [(0.0, drawn.threshold), (at(last as f64), drawn.threshold)];
    chart.draw_series([PathElement::new(line, ALARM.stroke_width(1))])?;
    legend(&area, drawn)?;
    area.present()?;
    Ok(())
}

fn legend(area: &DrawingArea<SVGBackend, plotters::coord::Shift>, drawn: &Drawn) -> Done {
    let mut entries = vec![("alarm", ALARM), ("no signal", GONE)];
    if drawn.truth.is_some() {
        entries.push(("truth", TRUTH));
    }
    for (i, (name, colour)) in entries.into_iter().enumerate() {
        let (x, y) = (70 + 110 * i as i32, 8);
        area.draw(&Rectangle::new([(x, y), (x + 16, y + 10)], colour.mix(0.35).filled()))?;
        area.draw(&Text::new(name, (x + 22, y), ("sans-serif", 12)))?;
    }
    Ok(())
}

/// Events over the whole height, the truth as a band at the bottom.
fn shade<'a, X>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, X>,
    drawn: &Drawn,
    (low, high): (f64, f64),
    at: &dyn Fn(f64) -> f64,
) -> Done
where
    X: Clone + CoordTranslate<From = (f64, f64)>,
{
    let boxed = |from: f64, to: f64, top: f64, colour: RGBAColor| {
        Rectangle::new([(at(from), low), (at(to), top)], colour.filled())
    };
    chart.draw_series(drawn.events.iter().map(|e| {
        let colour = if e.is_anomaly() { ALARM } else { GONE };
        boxed(e.start as f64, e.end as f64, high, colour.mix(0.25))
    }))?;
    if let Some(truth) = drawn.truth {
        let top = low + (high - low) * 0.08;
        let mut start = None;
        for (t, marked) in truth.iter().copied().chain([false]).enumerate() {
            match (marked, start) {
                (true, None) => start = Some(t),
                (false, Some(from)) => {
                    chart.draw_series([boxed(from as f64, t as f64, top, TRUTH.mix(0.9))])?;
                    start = None;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Lowest and highest value with some room; missing values do not count.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.05).max(1e-6 + high.abs() * 1e-6);
    (low - room, high + room)
}

/// A column of the picture: its place, and the lowest and highest value in it.
type Column = (f64, f64, f64);

/// The columns of `width` samples each; none where all of one is missing.
fn columns(samples: &[f32], width: usize) -> Vec<Column> {
    let column = |(i, part): (usize, &[f32])| {
        let values = part.iter().copied().filter(|v| v.is_finite()).map(f64::from);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        (low <= high).then_some(((i * width) as f64, low, high))
    };
    samples.chunks(width).enumerate().filter_map(column).collect()
}

/// Columns that follow one another without a gap.
fn lines(columns: &[Column], width: usize) -> impl Iterator<Item = &[Column]> {
    columns.chunk_by(move |a, b| b.0 - a.0 <= width as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_hold_extremes() {
        let samples: Vec<f32> = (0..2500).map(|t| if t == 700 { 9.0 } else { (t % 2) as f32 }).collect();
        let found = columns(&samples, 3);
        assert_eq!((found.len(), lines(&found, 3).count()), (834, 1));
        assert!(found.iter().any(|(_, _, h)| *h == 9.0));
        let gap: Vec<f32> = (0..30).map(|t| if (10..20).contains(&t) { f32::NAN } else { 1.0 }).collect();
        assert_eq!(lines(&columns(&gap, 1), 1).map(<[Column]>::len).collect::<Vec<_>>(), [10, 10]);
        assert_eq!(extent(std::iter::empty()), (0.0, 1.0));
    }
}
