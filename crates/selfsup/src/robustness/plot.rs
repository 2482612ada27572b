//! Curves of accuracy against severity as SVG: a panel for each kind, the mean of all first.

use super::table::measure;
use super::{OfKind, Report, of};
use plotters::coord::Shift;
use plotters::prelude::*;
use selfsup_core::{Error, Result};

/// Panels in a row, and the pixels of one.
const COLUMNS: usize = 4;
const PANEL: (u32, u32) = (240, 190);
/// Pixels of the legend.
const HEAD: u32 = 44;

/// Blue, vermilion and green that colour-blind eyes can separate (after Okabe and Ito).
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Points of a panel by set of features: severity 0 is clean.
struct Panel {
    name: String,
    curves: Vec<Vec<(f64, f64)>>,
}

fn curves(report: &Report, at: &dyn Fn(u8, &str) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    let severities = report.severities();
    let one = |features: &&str| {
        let clean = of(&report.clean, features, &report.measure).map(|v| (0.0, v));
        let rest = severities.iter().filter_map(|&s| Some((f64::from(s), at(s, features)?)));
        clean.into_iter().chain(rest).collect()
    };
    report.features().iter().map(one).collect()
}

fn panels(report: &Report) -> Vec<Panel> {
    let row = |severity: u8, features: &str| {
        report.rows.iter().find(|r| r.set == features && r.severity == severity).map(|r| r.mean)
    };
    let first =
        Panel { name: format!("mean of {} kinds", report.counted().len()), curves: curves(report, &row) };
    let of_kind = |kind: &OfKind| Panel {
        name: kind.name.replace('_', " "),
        curves: curves(report, &|s, f| kind.at(s, f, &report.measure)),
    };
    std::iter::once(first).chain(report.kinds.iter().map(of_kind)).collect()
}

fn draw_panel(area: &Area<'_>, panel: &Panel, high: f64) -> Drawn<()> {
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.name, ("sans-serif", 13))
        .margin(6)
        .x_label_area_size(28)
        .y_label_area_size(34)
        .build_cartesian_2d(-0.2..5.2, 0.0..high)?;
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(228, 228, 228))
        .label_style(("sans-serif", 11))
        .axis_desc_style(("sans-serif", 11))
        .x_desc("severity")
        .x_label_formatter(&|v| if *v < 0.5 { "clean".into() } else { format!("{v:.0}") })
        .y_label_formatter(&|v| format!("{v:.0}"))
        .draw()?;
    for (curve, colour) in panel.curves.iter().zip(COLOURS.iter().cycle()) {
        chart.draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(curve.iter().map(|p| Circle::new(*p, 2, colour.filled())))?;
    }
    Ok(())
}

/// The picture.
///
/// # Errors
/// If nothing has been measured yet.
pub fn svg(report: &Report) -> Result<String> {
    if report.kinds.is_empty() {
        return Err(Error::input("robustness", "no corruption has been measured yet: nothing to draw"));
    }
    let panels = panels(report);
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(columns);
    let most = panels.iter().flat_map(|p| p.curves.iter().flatten()).map(|p| p.1).fold(0.0, f64::max);
    let high = if most > 0.0 { (most * 1.08).min(most.max(102.0)) } else { 1.0 };
    let mut text = String::new();
    let draw = |text: &mut String| -> Drawn<()> {
        let size = (PANEL.0 * columns.max(2) as u32, PANEL.1 * rows as u32 + HEAD);
        let area = SVGBackend::with_string(text, size).into_drawing_area();
        area.fill(&WHITE)?;
        let (head, body) = area.split_vertically(HEAD);
        head.draw(&Text::new(measure(report), (10, 6), ("sans-serif", 13)))?;
        let mut x = 10;
        for (name, colour) in report.features().into_iter().zip(COLOURS.iter().cycle()) {
            let name = match name {
                "raw" => report.raw.as_deref().unwrap_or("raw"),
                "random" => "random encoder",
                other => other,
            };
            head.draw(&Rectangle::new([(x, 31), (x + 18, 34)], colour.filled()))?;
            head.draw(&Text::new(name.to_string(), (x + 24, 26), ("sans-serif", 12)))?;
            x += 50 + 7 * name.chars().count() as i32;
        }
        for (panel, area) in panels.iter().zip(body.split_evenly((rows, columns))) {
            draw_panel(&area, panel, high)?;
        }
        area.present()?;
        Ok(())
    };
    draw(&mut text).map_err(|e| Error::Other(format!("the picture cannot be drawn: {e}")))?;
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Cell;
    use super::super::tests::{KINDS, report, scores};
    use super::*;

    #[test]
    fn a_panel_for_each_kind() {
        let mut r = report();
        assert!(svg(&r).is_err());
        r.put(&KINDS, Cell { kind: KINDS[0], severity: 1 }, scores(70.0, 45.0));
        r.put(&KINDS, Cell { kind: KINDS[0], severity: 5 }, scores(60.0, 15.0));
        r.put(&KINDS, Cell { kind: KINDS[2], severity: 5 }, scores(20.0, 10.0));
        let panels = panels(&r);
        assert_eq!(
            panels.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["mean of 1 kinds", "fog", "extra"]
        );
        assert_eq!(panels[1].curves[0], [(0.0, 80.0), (1.0, 70.0), (5.0, 60.0)]);
        assert_eq!(panels[0].curves, panels[1].curves, "what does not count is not in the mean");
        let picture = svg(&r).unwrap();
        assert!(picture.starts_with("<svg") && picture.contains("fog") && picture.contains("random encoder"));
        assert!(picture.contains("severity") && picture.contains("clean"));
    }
}
