//! A label curve as a picture: the score over the labels, which stand on a logarithmic axis, with the 95%
//! intervals.

use super::setting::Setting;
use super::summary::{Curve, Point, shown};
use plotters::prelude::*;
use selfsup_core::{Error, Result};

/// Pixels.
const SIZE: (u32, u32) = (720, 420);

/// The colour of a setting, after Okabe and Ito: most eyes can separate them.
fn colour(setting: Setting) -> RGBColor {
    match setting {
        Setting::Linear => RGBColor(0, 114, 178),
        Setting::Finetune => RGBColor(213, 94, 0),
        Setting::Scratch => RGBColor(0, 158, 115),
        Setting::Random => RGBColor(204, 121, 167),
        Setting::Raw => RGBColor(90, 90, 90),
    }
}

/// Both ends of the interval, or the mean.
fn ends(p: &Point) -> (f64, f64) {
    p.interval.unwrap_or((p.mean, p.mean))
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(curve: &Curve, text: &mut String) -> Drawn {
    let fold =
        |f: fn(f64, f64) -> f64, start: f64, values: &mut dyn Iterator<Item = f64>| values.fold(start, f);
    let amounts = || curve.points.iter().map(|p| p.amount);
    let (first, last) = (fold(f64::min, f64::INFINITY, &mut amounts()), fold(f64::max, 0.0, &mut amounts()));
    let low = fold(f64::min, f64::INFINITY, &mut curve.points.iter().map(|p| ends(p).0.max(0.0)));
    let high = fold(f64::max, f64::NEG_INFINITY, &mut curve.points.iter().map(|p| ends(p).1.min(100.0)));
    let room = ((high - low) * 0.06).max(0.5);
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(150)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d((first / 1.3..last * 1.3).log_scale(), low - room..high + room)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style(("sans-serif", 12))
        .axis_desc_style(("sans-serif", 13))
        .x_desc(curve.unit.clone())
        .y_desc(format!("{} in %", curve.metric.replace('_', " ")))
        .x_label_formatter(&|v| shown(*v))
        .y_label_formatter(&|v| format!("{v:.0}"))
        .draw()?;
    for (row, &setting) in curve.settings.iter().enumerate() {
        let colour = colour(setting);
        let points: Vec<&Point> = curve.points.iter().filter(|p| p.setting == setting).collect();
        chart.draw_series(LineSeries::new(
            points.iter().map(|p| (p.amount, p.mean)),
            colour.stroke_width(2),
        ))?;
        for p in points {
            let (from, to) = ends(p);
            // The caps lie as far apart at every amount, since the axis is logarithmic.
            let cap = |y: f64| PathElement::new([(p.amount / 1.03, y), (p.amount * 1.03, y)], colour);
            if from < to {
                chart.draw_series([PathElement::new([(p.amount, from), (p.amount, to)], colour)])?;
                chart.draw_series([cap(from), cap(to)])?;
            }
            chart.draw_series([Circle::new((p.amount, p.mean), 3, colour.filled())])?;
        }
        let (x, y) = (SIZE.0 as i32 - 140, 24 + 20 * row as i32);
        area.draw(&Rectangle::new([(x, y + 5), (x + 18, y + 8)], colour.filled()))?;
        area.draw(&Text::new(setting.title(&curve.raw), (x + 26, y), ("sans-serif", 13)))?;
    }
    area.present()?;
    Ok(())
}

/// The picture as SVG.
///
/// # Errors
/// If it cannot be drawn.
pub fn svg(curve: &Curve) -> Result<String> {
    let mut text = String::new();
    draw(curve, &mut text).map_err(|e| Error::Other(format!("the label curve cannot be drawn: {e}")))?;
    Ok(text)
}
