//! A run as text: what a page says first, for the terminal.

use super::metrics::Curve;
use super::run::{Collected, Row};
use std::fmt::Write;

/// Characters of a curve.
const WIDE: usize = 32;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The run in words and tables.
pub(super) fn shown(run: &Collected) -> String {
    let mut out = String::new();
    let encoder = if run.encoder.is_empty() { String::new() } else { format!(" with {}", run.encoder) };
    let _ = writeln!(out, "{}: {}{encoder}, {} ({})", run.name, run.method, run.modality, run.state);
    let _ = writeln!(out, "{}", run.verdict);
    for line in &run.more {
        let _ = writeln!(out, "  {line}");
    }
    for ill in &run.ill {
        let _ = writeln!(
            out,
            "  {}: {} since step {}, healthy {}. {} {}",
            ill.gauge, ill.value, ill.since_step, ill.band, ill.cause, ill.remedy
        );
    }
    table(&mut out, "accuracy in %", &run.accuracies, &run.raw);
    table(&mut out, "without labels", &run.measures, &run.raw);
    for (name, value) in &run.reached {
        let _ = writeln!(out, "{name:<32}{value:>12}");
    }
    let mut curves: Vec<_> = run.curves.iter().filter(|(_, c)| c.y.len() > 1).collect();
    curves.sort_by_key(|(name, _)| name.as_str() != "loss"); // stable
    if !curves.is_empty() {
        let _ = writeln!(out, "{:<32}{:<WIDE$}{:>12}{:>12}", "curve", "", "first", "last");
    }
    for (name, curve) in curves {
        let (first, last) = (curve.y.first().copied(), curve.y.last().copied());
        let number = |v: Option<f64>| v.map_or("-".into(), plain);
        let _ = writeln!(out, "{name:<32}{:<WIDE$}{:>12}{:>12}", line(curve), number(first), number(last));
    }
    for (name, value) in &run.facts {
        let _ = writeln!(out, "{name:<44}{value}");
    }
    out
}

fn plain(v: f64) -> String {
    let digits = if v.abs() >= 100.0 { 1 } else { 4 };
    if v != 0.0 && v.abs() < 1e-3 { format!("{v:.2e}") } else { format!("{v:.digits$}") }
}

fn table(out: &mut String, title: &str, rows: &[Row], raw: &str) {
    if rows.is_empty() {
        return;
    }
    let raw = if raw.is_empty() { "raw" } else { raw };
    let _ = writeln!(out, "{title:<32}{:>16}{:>16}{raw:>16}", "trained", "random weights");
    for row in rows {
        let cells = (0..3).map(|i| {
            let sd = row.sd.and_then(|sd| sd[i]).map_or(String::new(), |sd| format!(" ± {sd:.1}"));
            row.values[i].map_or("-".into(), |v| format!("{}{sd}", cell(v)))
        });
        let cells: String = cells.map(|c| format!("{c:>16}")).collect();
        let _ = writeln!(out, "{:<32}{cells}", row.name);
    }
}

fn cell(v: f64) -> String {
    if v.abs() >= 10.0 { format!("{v:.1}") } else { format!("{v:.3}") }
}

/// A curve in characters.
fn line(curve: &Curve) -> String {
    let size = curve.y.len().div_ceil(WIDE).max(1);
    let means: Vec<f64> = curve.y.chunks(size).map(|p| p.iter().sum::<f64>() / p.len() as f64).collect();
    let (low, high) =
        means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let level = |v: &f64| {
        let share = if high > low { (v - low) / (high - low) } else { 0.5 };
        LEVELS[((share * 7.0).round().clamp(0.0, 7.0)) as usize]
    };
    means.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_tables_and_curves() {
        let mut run = Collected {
            name: "simclr".into(),
            method: "simclr".into(),
            verdict: "Pre-training helped.".into(),
            raw: "raw pixels".into(),
            ..Collected::default()
        };
        run.accuracies.push(Row {
            name: "linear, 100 labels".into(),
            values: [Some(70.0), Some(1.5), None],
            sd: Some([Some(1.25), None, None]),
        });
        let y: Vec<f64> = (0..64).map(|i| 64.0 - f64::from(i)).collect();
        run.curves.insert("loss".into(), Curve { x: y.clone(), y, band: None });
        let text = shown(&run);
        assert!(text.contains("Pre-training helped.\n") && text.contains("70.0 ± 1.2"), "{text}");
        let curve = text.lines().find(|l| l.starts_with("loss")).unwrap();
        assert!(curve.contains('█') && curve.trim_end().ends_with("1.0000"), "{curve}");
        assert!(curve.find('█') < curve.find('▁'), "{curve}");
    }
}
