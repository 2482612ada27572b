//! The curves of runs as a picture, one small panel a metric: `curves.svg` beside the `metrics.jsonl` that it
//! shows, or several runs in one. Dashed lines are the ends of the band in which a healthy run is, from the
//! `bands.json` beside them.

use crate::error::{Error, Result};
use crate::objective::Band;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;

/// What names of metrics begin with that tell the seconds which another one took. Curves leave them out.
pub const COST: &str = "cost/";

/// Values of one metric by step.
type Curve = Vec<(f64, f64)>;

/// Columns of panels, and the size of each in pixels.
const COLUMNS: usize = 3;
const PANEL: (u32, u32) = (352, 232);
/// A curve runs through the means of at most so many groups of neighbours: the eye cannot separate more.
const POINTS: usize = 300;
/// Pixels between the lines of the legend.
const LINE: u32 = 18;

/// Colours of the first runs, which most eyes can separate (after Okabe and Ito); [`colour`] has the others.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// The colour of a run. Behind the first six a hue and a brightness of its own: steps of the golden angle
/// never meet an earlier hue again, and three levels of brightness part neighbours.
fn colour(index: usize) -> RGBColor {
    if let Some(colour) = COLOURS.get(index) {
        return *colour;
    }
    let n = index - COLOURS.len();
    let hue = (0.15 + n as f64 * 0.618_033_988_749_895).fract();
    let (r, g, b) = HSLColor(hue, 0.75, [0.22, 0.4, 0.6][n % 3]).rgb();
    RGBColor(r, g, b)
}

/// Colour of a bound.
const BOUND: RGBColor = RGBColor(90, 90, 90);

/// Reads the curves of `metrics.jsonl` by name; what never differs from 0 is left out, unless it should (a
/// collapse can be exact).
fn read(path: &Path) -> Result<BTreeMap<String, Curve>> {
    let file = crate::file::open(path)?;
    let mut curves: BTreeMap<String, Curve> = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|e| Error::io(path, e))?;
        // A last line may have been cut off by a crash.
        let Ok(Value::Object(values)) = serde_json::from_str(&line) else { continue };
        let Some(step) = values.get("step").and_then(Value::as_f64) else { continue };
        for (name, value) in
            values.iter().filter(|(name, _)| !matches!(name.as_str(), "step" | "epoch" | "time"))
        {
            if let Some(value) = value.as_f64().filter(|_| !name.starts_with(COST)) {
                curves.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    let bands = bands(path);
    curves.retain(|name, c| bands.contains_key(name) || c.iter().any(|(_, v)| *v != 0.0));
    Ok(curves)
}

/// The bands of metrics that `bands.json` beside a `metrics.jsonl` has; without that file, of a run of an earlier
/// version, the low ends in `bounds.json`; else none.
pub(super) fn bands(metrics: &Path) -> BTreeMap<String, Band> {
    let of = |name: &str| crate::file::read(metrics.with_file_name(name)).unwrap_or_default();
    serde_json::from_slice(&of("bands.json")).unwrap_or_else(|_| {
        let low: BTreeMap<String, f64> = serde_json::from_slice(&of("bounds.json")).unwrap_or_default();
        low.into_iter().map(|(name, low)| (name, Band::above(low))).collect()
    })
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

/// What is measured along the axis of a metric, with the unit where there is one.
fn axis(metric: &str) -> String {
    let unit = match metric {
        "lr" => "learning rate",
        "knn" => "accuracy in %",
        "grad_norm" => "L2 norm",
        "samples_per_second" => "samples / s",
        name if name.ends_with("_seconds") || name == "seconds" => "seconds",
        name => return name.replace('_', " "),
    };
    unit.into()
}

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One metric of runs; a run that has not got it is an empty curve. Healthy ones are inside `band`.
fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, name: &str, runs: &[Curve], band: Band) -> Drawn<()> {
    let points = || runs.iter().flatten();
    let ends = || band.low.into_iter().chain(band.high);
    let (steps, values) = (range(points().map(|p| p.0)), range(points().map(|p| p.1).chain(ends())));
    let mut chart = ChartBuilder::on(area)
        .caption(name.replace('_', " "), ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(68)
        .build_cartesian_2d(steps.clone(), values)?;
    chart
        .configure_mesh()
        .x_labels(4)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style(("sans-serif", 11))
        .axis_desc_style(("sans-serif", 11))
        .x_desc("step")
        .y_desc(axis(name))
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&|v| label(*v))
        .draw()?;
    for bound in ends() {
        chart.draw_series(DashedLineSeries::new(
            [(steps.start, bound), (steps.end, bound)],
            5,
            4,
            BOUND.stroke_width(1),
        ))?;
    }
    for (curve, colour) in runs.iter().zip((0..).map(colour)) {
        chart.draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2)))?;
        // A line of one point is not seen.
        if let [point] = curve[..] {
            chart.draw_series([Circle::new(point, 3, colour.filled())])?;
        }
    }
    Ok(())
}

/// The names of runs in their colours, one below the other.
fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, names: &[&str]) -> Drawn<()> {
    for (i, (name, colour)) in names.iter().zip((0..).map(colour)).enumerate() {
        let y = 4 + LINE as i32 * i as i32;
        area.draw(&Rectangle::new([(8, y + 5), (28, y + 8)], colour.filled()))?;
        area.draw(&Text::new((*name).to_string(), (36, y), ("sans-serif", 12)))?;
    }
    Ok(())
}

/// The picture of the curves of runs, each a name and its `metrics.jsonl`, as SVG; nothing if there are none
/// yet. The loss comes first, the other metrics by name.
///
/// # Errors
/// If a file cannot be read.
pub fn svg(runs: &[(&str, &Path)]) -> Result<Option<String>> {
    let curves = runs.iter().map(|(_, path)| read(path)).collect::<Result<Vec<_>>>()?;
    let metrics: BTreeSet<&String> = curves.iter().flat_map(BTreeMap::keys).collect();
    let bands: BTreeMap<String, Band> = runs.iter().flat_map(|(_, path)| bands(path)).collect();
    let mut metrics: Vec<_> = metrics.into_iter().collect();
    metrics.sort_by_key(|name| *name != "loss"); // stable
    if metrics.is_empty() {
        return Ok(None);
    }
    let columns = metrics.len().min(COLUMNS);
    let rows = metrics.len().div_ceil(columns);
    let names: Vec<&str> = runs.iter().map(|(name, _)| *name).collect();
    let head = if runs.len() > 1 { LINE * runs.len() as u32 + 8 } else { 0 };
    let draw = |text: &mut String| -> Drawn<()> {
        let area = SVGBackend::with_string(text, (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + head))
            .into_drawing_area();
        area.fill(&WHITE)?;
        let (top, body) = area.split_vertically(head);
        if head > 0 {
            legend(&top, &names)?;
        }
        for (metric, area) in metrics.iter().zip(body.split_evenly((rows, columns))) {
            let of_runs: Vec<Curve> =
                curves.iter().map(|c| c.get(*metric).map(|c| thinned(c)).unwrap_or_default()).collect();
            panel(&area, metric, &of_runs, bands.get(*metric).copied().unwrap_or_default())?;
        }
        area.present()?;
        Ok(())
    };
    let mut text = String::new();
    draw(&mut text).map_err(|e| Error::Other(format!("the curves cannot be drawn: {e}")))?;
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
        assert_eq!(
            curves.iter().map(|(n, c)| (n.as_str(), c.len())).collect::<Vec<_>>(),
            [("accuracy", 1000), ("loss", 1000)]
        );
        assert_eq!(thinned(&curves["accuracy"])[0], (1.5, 1.5));
        let picture = svg(&[("a", &path)]).unwrap().unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        let at = |text: &str| picture.find(text).unwrap_or_else(|| panic!("{text} is not in the picture"));
        assert!(at("loss") < at("accuracy"));
        assert_eq!(picture.matches("\nstep\n").count(), 2, "axes have names");
        assert_eq!(picture.matches("#0072B2").count(), 2, "one line a curve");
        let two = svg(&[("a", &path), ("the other", &path)]).unwrap().unwrap();
        assert_eq!(
            (two.matches("#0072B2").count(), two.matches("#D55E00").count()),
            (3, 3),
            "and a mark in the legend"
        );
        assert!(two.contains("the other"));
        assert_eq!(picture.matches("#5A5A5A").count(), 0, "no bound is known");
        std::fs::write(dir.path().join("bounds.json"), "{\"accuracy\": 0.5, \"gone\": 1.0}").unwrap();
        let bounded = svg(&[("a", &path)]).unwrap().unwrap();
        assert!(bounded.matches("#5A5A5A").count() > 1, "a dashed line");
        assert_eq!(bounded.matches("#0072B2").count(), 2);
        std::fs::write(dir.path().join("bands.json"), "{\"accuracy\": {\"low\": 0.5, \"high\": 0.9}}")
            .unwrap();
        let both = svg(&[("a", &path)]).unwrap().unwrap();
        assert_eq!(
            both.matches("#5A5A5A").count(),
            2 * bounded.matches("#5A5A5A").count(),
            "a line at each end of the band"
        );
    }

    #[test]
    fn a_constant_a_single_point_and_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "").unwrap();
        assert!(svg(&[("a", &path)]).unwrap().is_none());
        std::fs::write(&path, "{\"step\":3,\"loss\":2.0}\n").unwrap();
        assert!(svg(&[("a", &path)]).unwrap().unwrap().contains("<circle"));
        std::fs::write(&path, "{\"step\":3,\"loss\":2.0}\n{\"step\":4,\"loss\":2.0}\n").unwrap();
        assert!(svg(&[("a", &path)]).unwrap().is_some());
    }

    #[test]
    fn many_runs_have_many_colours() {
        let all: Vec<RGBColor> = (0..24).map(colour).collect();
        let apart = |a: &RGBColor, b: &RGBColor| {
            let d = |a: u8, b: u8| (f64::from(a) - f64::from(b)).powi(2);
            (d(a.0, b.0) + d(a.1, b.1) + d(a.2, b.2)).sqrt()
        };
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert!(apart(a, b) > 48.0, "{i}: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(
            [0.0, 0.9123, 12.0, 1234.5, 0.00002, 6.4e7].map(label),
            ["0", "0.9123", "12", "1234", "2.0e-5", "6.4e7"]
        );
    }
}
