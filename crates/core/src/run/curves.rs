//! The curves of a run as a picture, one small panel a metric: `curves.svg` beside the `metrics.jsonl` that it shows.

use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;

/// Values of one metric by step.
type Curve = Vec<(f64, f64)>;

/// Columns of panels, and the size of each in pixels.
const COLUMNS: usize = 3;
const PANEL: (u32, u32) = (340, 220);
/// A curve is drawn through the means of at most so many groups of neighbours: more cannot be told apart.
const POINTS: usize = 300;

/// Reads the curves of `metrics.jsonl`: the loss first, the others by name; what never differs from 0 is left out.
fn read(path: &Path) -> Result<Vec<(String, Curve)>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut curves: BTreeMap<String, Curve> = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|e| Error::io(path, e))?;
        // A last line may have been cut off by a crash.
        let Ok(Value::Object(values)) = serde_json::from_str(&line) else { continue };
        let Some(step) = values.get("step").and_then(Value::as_f64) else { continue };
        for (name, value) in values.iter().filter(|(name, _)| !matches!(name.as_str(), "step" | "epoch" | "time")) {
            if let Some(value) = value.as_f64() {
                curves.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    let mut curves: Vec<_> = curves.into_iter().filter(|(_, c)| c.iter().any(|(_, v)| *v != 0.0)).collect();
    curves.sort_by_key(|(name, _)| name != "loss"); // stable
    Ok(curves)
}

/// The means of groups of neighbours.
fn thinned(curve: &[(f64, f64)]) -> Curve {
    let size = curve.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    curve.chunks(size).map(mean).collect()
}

/// The range of `values` with some room on either side; never empty.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let room = if high > low { (high - low) * 0.05 } else { high.abs().max(1e-6) * 0.5 };
    low - room..high + room
}

/// Four digits, whatever the size.
fn label(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let digits = (3 - a.log10().floor() as i32).clamp(0, 6) as usize;
            let text = format!("{v:.digits$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
        }
        _ => format!("{v:.1e}"),
    }
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    name: &str,
    curve: &[(f64, f64)],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let points = thinned(curve);
    let mut chart = ChartBuilder::on(area)
        .caption(name.replace('_', " "), ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(range(points.iter().map(|p| p.0)), range(points.iter().map(|p| p.1)))?;
    chart
        .configure_mesh()
        .x_labels(4)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style(("sans-serif", 11))
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&|v| label(*v))
        .draw()?;
    let blue = RGBColor(31, 98, 170);
    chart.draw_series(LineSeries::new(points.iter().copied(), blue.stroke_width(2)))?;
    // A line of one point is not seen.
    if points.len() == 1 {
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, blue.filled())))?;
    }
    Ok(())
}

/// The picture of the curves in the file `metrics` (`metrics.jsonl`) as SVG, or nothing if there are none yet.
///
/// # Errors
/// If the file cannot be read.
pub fn svg(metrics: &Path) -> Result<Option<String>> {
    let curves = read(metrics)?;
    if curves.is_empty() {
        return Ok(None);
    }
    let columns = curves.len().min(COLUMNS);
    let rows = curves.len().div_ceil(columns);
    let mut text = String::new();
    let draw = |text: &mut String| -> std::result::Result<(), Box<dyn std::error::Error>> {
        let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
        let area = SVGBackend::with_string(text, size).into_drawing_area();
        area.fill(&WHITE)?;
        for ((name, curve), area) in curves.iter().zip(area.split_evenly((rows, columns))) {
            panel(&area, name, curve)?;
        }
        area.present()?;
        Ok(())
    };
    draw(&mut text).map_err(|e| Error::file(metrics, format!("its curves cannot be drawn: {e}")))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_panel_a_metric_the_loss_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut lines = String::new();
        for step in 0..1000 {
            lines += &format!(
                "{{\"step\":{step},\"epoch\":0,\"time\":1.5,\"accuracy\":{},\"loss\":{},\"bad_samples\":0.0}}\n",
                step,
                7.0 / f64::from(step + 1)
            );
        }
        lines += "{\"step\":1000,\"loss\":null}\n{\"step\":1001,\"lo";
        std::fs::write(&path, lines).unwrap();
        let curves = read(&path).unwrap();
        assert_eq!(curves.iter().map(|(n, c)| (n.as_str(), c.len())).collect::<Vec<_>>(), [("loss", 1000), ("accuracy", 1000)]);
        assert_eq!(thinned(&curves[1].1)[0], (1.5, 1.5));
        let picture = svg(&path).unwrap().unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        let at = |text: &str| picture.find(text).unwrap_or_else(|| panic!("{text} is not in the picture"));
        assert!(at("loss") < at("accuracy"));
        assert_eq!(picture.matches("#1F62AA").count(), 2, "one line a curve");
    }

    #[test]
    fn a_constant_a_single_point_and_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "").unwrap();
        assert!(svg(&path).unwrap().is_none());
        std::fs::write(&path, "{\"step\":3,\"loss\":2.0}\n").unwrap();
        assert!(svg(&path).unwrap().unwrap().contains("<circle"));
        std::fs::write(&path, "{\"step\":3,\"loss\":2.0}\n{\"step\":4,\"loss\":2.0}\n").unwrap();
        assert!(svg(&path).unwrap().is_some());
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.0, 0.9123, 12.0, 1234.5, 0.00002, 6.4e7].map(label), ["0", "0.9123", "12", "1234", "2.0e-5", "6.4e7"]);
    }
}
