//! A report in words and as a table.

use super::{Report, Scores, of};
use std::fmt::Write;

/// How a set of features is called in a table.
fn called<'a>(report: &'a Report, features: &'a str) -> &'a str {
    match features {
        "raw" => report.raw.as_deref().unwrap_or("raw"),
        "random" => "random encoder",
        other => other,
    }
}

/// What is left of each set of features, in a sentence.
pub fn sentence(report: &Report) -> String {
    let kept = |features: &str| {
        let clean = of(&report.clean, features, &report.measure)?;
        let mean = of(&report.mean, features, &report.measure)?;
        Some(format!("{} {clean:.1} -> {mean:.1}", called(report, features)))
    };
    let all: Vec<String> = report.features().into_iter().filter_map(kept).collect();
    format!(
        "{} on clean -> corrupted samples, mean of {} kinds: {}",
        measure(report),
        report.counted().len(),
        all.join(", ")
    )
}

/// The measure in words.
pub(super) fn measure(report: &Report) -> String {
    match report.measure.as_str() {
        "linear" => "accuracy of a linear probe in %".into(),
        other => format!("{} in %", other.replace('_', " ")),
    }
}

/// A row for each kind: the first features by severity, then the means and the relative drops of all.
pub fn table(report: &Report) -> String {
    let (features, severities) = (report.features(), report.severities());
    let Some(first) = features.first() else { return String::new() };
    let value = |scores: &Scores, features: &str| of(scores, features, &report.measure);
    let shown = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.1}"));
    let by_severity: Vec<String> = severities.iter().map(u8::to_string).collect();
    let means: Vec<String> = features.iter().map(|f| called(report, f).to_string()).collect();
    let widths: Vec<usize> = by_severity
        .iter()
        .map(|_| 6)
        .chain(means.iter().chain(&means).map(|m| m.chars().count().max(7) + 2))
        .collect();
    let name_width =
        report.kinds.iter().map(|k| k.name.len()).max().unwrap_or(0).max("corrupted by".len()) + 2;
    let mut out = format!("{}\n", sentence(report));
    let mut row = |name: &str, cells: Vec<String>| {
        let _ = write!(out, "{name:<name_width$}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(out, "{cell:>width$}");
        }
        out.push('\n');
    };
    let blank = |n: usize| vec![String::new(); n];
    let over = |text: &str, n: usize| {
        let mut cells = blank(n);
        if let Some(first) = cells.first_mut() {
            *first = text.to_string();
        }
        cells
    };
    let heads =
        [over(first, severities.len()), over("mean", features.len()), over("drop, %", features.len())];
    row("", heads.concat());
    row("corrupted by", [by_severity, means.clone(), means].concat());
    let each = |scores: &Scores| features.iter().map(|f| shown(value(scores, f))).collect::<Vec<_>>();
    row("(clean)", [blank(severities.len()), each(&report.clean)].concat());
    for kind in &report.kinds {
        let at = |severity: &u8| shown(kind.at(*severity, first, &report.measure));
        let cells = [severities.iter().map(at).collect(), each(&kind.mean), each(&kind.relative_drop)];
        let counted = report.counted().iter().any(|k| k.name == kind.name);
        row(&format!("{}{}", kind.name, if counted { "" } else { " *" }), cells.concat());
    }
    row("mean", [blank(severities.len()), each(&report.mean), each(&report.relative_drop)].concat());
    if report.counted().len() < report.kinds.len() {
        out.push_str("(* not in the mean)\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::super::tests::{KINDS, report, scores};
    use super::*;

    #[test]
    fn a_row_for_each_kind() {
        let mut r = report();
        for (kind, severity, trained, random) in
            [(0, 1, 70.0, 45.0), (0, 5, 60.0, 15.0), (1, 5, 40.0, 30.0), (2, 1, 20.0, 10.0)]
        {
            r.put(&KINDS, Cell { kind: KINDS[kind], severity }, scores(trained, random));
        }
        let text = table(&r);
        let fields = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let line = |name: &str| {
            let found = text.lines().find(|l| l.starts_with(name));
            fields(found.unwrap_or_else(|| panic!("{name}: {text}")))
        };
        assert_eq!(line("fog"), ["fog", "70.0", "60.0", "65.0", "30.0", "18.8", "50.0"]);
        assert_eq!(line("snow"), ["snow", "-", "40.0", "40.0", "30.0", "50.0", "50.0"]);
        assert_eq!(line("extra"), ["extra", "*", "20.0", "-", "20.0", "10.0", "75.0", "83.3"]);
        assert_eq!(line("mean"), ["mean", "52.5", "30.0", "34.4", "50.0"]);
        assert!(text.starts_with(
            "accuracy of a linear probe in % on clean -> corrupted samples, mean of 2 kinds: trained 80.0 -> 52.5, \
             random encoder 60.0 -> 30.0"
        ));
    }
}
