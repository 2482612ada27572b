//! Tables of numbers (CSV, TSV): a row for each sample, a column for each channel, and a column of times or a
//! rate that the caller states.
//!
//! The first row may name the columns, with units in brackets: `time (ms), ABP [mmHg]`. Columns are separated
//! by tabs, semicolons or commas, whichever the first row has. Empty fields, `?`, `NA`, `null` and `NaN` are
//! missing. Times that are not regular are brought onto the grid of their median step, linearly between
//! neighbours; grid points further than that from a sample are missing.

use crate::recording::{Channel, Recording, checked_rate};
use selfsup_core::{Error, Result};
use std::cmp::Ordering;

/// A grid may have this many times the rows of the table: the rest of it would be gaps.
const GAPS: usize = 16;

/// Neighbours further apart than this many steps have a gap between them.
const NEAR: f64 = 1.5;

/// Reads a table. `rate` is that of a table without a column of times; `id` names it in messages.
///
/// # Errors
/// If it is not UTF-8, a row has another number of fields, a field is no number, times do not increase, or
/// there is neither a column of times nor a rate.
pub fn read(bytes: &[u8], id: &str, rate: Option<f64>) -> Result<Recording> {
    let rate = rate.map(|r| checked_rate(r, id)).transpose()?;
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::input(id, format!("line {line} is not UTF-8"))
    })?;
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let mut lines = lines.filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')).peekable();
    let Some(&(_, first)) = lines.peek() else {
        return Err(Error::input(id, "is empty: expected rows of numbers"));
    };
    let separator = ['\t', ';'].into_iter().find(|c| first.contains(*c)).unwrap_or(',');
    let fields = |line: &str| -> Vec<String> {
        line.split(separator).map(|f| f.trim().trim_matches('"').trim().to_string()).collect()
    };
    let titles = fields(first);
    let named = titles.iter().any(|f| number(f).is_none());
    let columns: Vec<Column> = if named {
        lines.next();
        titles.iter().map(|t| Column::of(t)).collect()
    } else {
        (0..titles.len()).map(|c| Column { name: c.to_string(), unit: String::new(), step: None }).collect()
    };
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); columns.len()];
    for (i, line) in lines {
        let row = fields(line);
        if row.len() != columns.len() {
            let (found, expected) = (row.len(), columns.len());
            return Err(Error::input(id, format!("line {}: {found} fields, expected {expected}", i + 1)));
        }
        for ((value, field), column) in values.iter_mut().zip(&row).zip(&columns) {
            value.push(number(field).ok_or_else(|| {
                let name = &column.name;
                Error::input(id, format!("line {}: `{field}` in column `{name}` is no number", i + 1))
            })?);
        }
    }
    let rows = values.first().map_or(0, Vec::len);
    if rows == 0 {
        return Err(Error::input(id, "has no rows of numbers"));
    }
    let time = columns.iter().position(|c| c.step.is_some());
    let channel = |c: usize, rate, values: Vec<f32>| Channel {
        name: columns[c].name.clone(),
        unit: columns[c].unit.clone(),
        rate,
        samples: values,
    };
    let others: Vec<usize> = (0..columns.len()).filter(|c| Some(*c) != time).collect();
    if others.is_empty() {
        return Err(Error::input(id, "has a column of times alone: expected a column of values"));
    }
    let channels = match time {
        None => {
            others.iter().map(|&c| channel(c, rate, values[c].iter().map(|v| *v as f32).collect())).collect()
        }
        Some(t) => {
            let scale = columns[t].step.unwrap_or(1.0);
            let times: Vec<f64> = values[t].iter().map(|v| v * scale).collect();
            let grid = Grid::of(&times, id)?;
            others
                .iter()
                .map(|&c| channel(c, Some(1.0 / grid.step), grid.bring(&times, &values[c])))
                .collect()
        }
    };
    Ok(Recording { channels, annotations: Vec::new() })
}

/// A field as a number; NaN for what is missing; nothing for what is no number.
fn number(field: &str) -> Option<f64> {
    if field.is_empty() || ["?", "na", "nan", "null", "none"].iter().any(|m| field.eq_ignore_ascii_case(m)) {
        return Some(f64::NAN);
    }
    field.parse::<f64>().ok().filter(|v| v.is_finite() && v.abs() <= f64::from(f32::MAX))
}

struct Column {
    name: String,
    unit: String,
    /// Seconds of its unit, of a column of times.
    step: Option<f64>,
}

impl Column {
    /// `ABP [mmHg]`, `time (ms)`, `time_ms`.
    fn of(title: &str) -> Self {
        let brackets = |open: char, close: char| {
            let (name, rest) = title.split_once(open)?;
            Some((name.trim().to_string(), rest.trim_end().trim_end_matches(close).trim().to_string()))
        };
        let (name, unit) =
            brackets('(', ')').or_else(|| brackets('[', ']')).unwrap_or((title.to_string(), String::new()));
        let low = name.to_lowercase();
        let step = match (low.as_str(), unit.to_lowercase().as_str()) {
            ("time_ms" | "milliseconds", _) | ("time" | "timestamp" | "t", "ms") => Some(1e-3),
            ("time" | "timestamp" | "t", "us" | "µs") => Some(1e-6),
            ("time" | "timestamp" | "t", "min") => Some(60.0),
            ("time" | "timestamp" | "t", "h") => Some(3600.0),
            ("time" | "timestamp" | "t" | "time_s" | "seconds", _) => Some(1.0),
            _ => None,
        };
        Column { name, unit, step }
    }
}

/// Places at a regular distance.
struct Grid {
    start: f64,
    step: f64,
    len: usize,
}

impl Grid {
    fn of(times: &[f64], id: &str) -> Result<Self> {
        let ordered = times.windows(2).position(|w| w[1].partial_cmp(&w[0]) != Some(Ordering::Greater));
        if let Some(row) = ordered {
            let (a, b) = (times[row], times[row + 1]);
            return Err(Error::input(
                id,
                format!(
                    "times {a} and {b} of rows {} and {}: expected times that increase",
                    row + 1,
                    row + 2
                ),
            ));
        }
        let mut steps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        if steps.is_empty() {
            return Err(Error::input(id, "has one row: expected two or more for a sampling rate"));
        }
        steps.sort_by(f64::total_cmp);
        let step = steps[steps.len() / 2];
        checked_rate(1.0 / step, id)?;
        let span = (times[times.len() - 1] - times[0]) / step;
        if span.is_nan() || span >= (GAPS * times.len()) as f64 {
            return Err(Error::input(
                id,
                format!(
                    "{} rows over {span:.0} steps of {step} s, their median: cut the table at its gaps",
                    times.len()
                ),
            ));
        }
        Ok(Grid { start: times[0], step, len: span.round() as usize + 1 })
    }

    /// Values at the places of the grid; missing where the samples around one are further apart than
    /// [`NEAR`] steps and none is at it.
    fn bring(&self, times: &[f64], values: &[f64]) -> Vec<f32> {
        let mut left = 0;
        let mut at = |g: usize| {
            let t = self.start + g as f64 * self.step;
            while left + 1 < times.len() && times[left + 1] <= t {
                left += 1;
            }
            let right = (left + 1).min(times.len() - 1);
            let near = if (times[right] - t).abs() < (t - times[left]).abs() { right } else { left };
            // Decimal times are rounded: what is this near is at the place.
            if (times[near] - t).abs() <= 0.05 * self.step {
                return values[near] as f32;
            }
            let width = times[right] - times[left];
            if right == left || width > NEAR * self.step {
                return f32::NAN;
            }
            let share = (t - times[left]) / width;
            ((1.0 - share) * values[left] + share * values[right]) as f32
        };
        (0..self.len).map(&mut at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_give_the_rate_and_gaps() {
        let text = "time (ms); ABP [mmHg];\"SpO2\"\n0;80;97\n10;81;\n20;82;NA\n50;85;94\n60;86;93\n";
        let signal = read(text.as_bytes(), "a", None).unwrap();
        let [abp, spo2] = &signal.channels[..] else { panic!("two channels") };
        assert_eq!((abp.name.as_str(), abp.unit.as_str(), spo2.name.as_str()), ("ABP", "mmHg", "SpO2"));
        assert!((abp.rate.unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(abp.samples.len(), 7);
        assert!(abp.samples[3].is_nan() && abp.samples[4].is_nan() && abp.samples[5] == 85.0);
        assert!(spo2.samples[1].is_nan() && spo2.samples[6] == 93.0);
    }

    #[test]
    fn irregular_times_are_brought_onto_a_grid() {
        // A ramp is a ramp on any grid.
        let times = [0.0, 1.1, 1.9, 3.0, 4.2, 5.0];
        let text: String = times.iter().map(|t| format!("{t},{}\n", 2.0 * t)).collect();
        let signal = read(format!("t,x\n{text}").as_bytes(), "a", None).unwrap();
        let step = 1.0 / signal.channels[0].rate.unwrap();
        for (g, v) in signal.channels[0].samples.iter().enumerate() {
            assert!(v.is_nan() || (f64::from(*v) - 2.0 * g as f64 * step).abs() < 0.11 * step, "{g} {v}");
        }
        assert!(signal.channels[0].samples.iter().filter(|v| v.is_nan()).count() <= 1);
    }

    #[test]
    fn rows_without_names() {
        let signal = read(b"1\t2\n3\t4\n", "a", Some(50.0)).unwrap();
        assert_eq!(signal.channels[1].samples, [2.0, 4.0]);
        assert_eq!((signal.channels[1].rate, signal.channels[1].name.as_str()), (Some(50.0), "1"));
    }

    #[test]
    fn malformed_tables_are_refused_by_line() {
        for (text, expected) in [
            ("", "is empty"),
            ("a,b\n", "no rows"),
            ("a,b\n1,2\n3\n", "line 3: 1 fields, expected 2"),
            ("a,b\n1,x\n", "line 2: `x` in column `b`"),
            ("a,b\n1,inf\n", "line 2: `inf`"),
            ("t,b\n1,2\n1,2\n", "expected times that increase"),
            ("t,b\n1,2\n,2\n", "expected times that increase"),
            ("t,b\n1,2\n", "has one row"),
            ("t\n1\n2\n", "times alone"),
            ("t,b\n0,1\n1,1\n2,1\n1e9,1\n", "cut the table at its gaps"),
        ] {
            let error = read(text.as_bytes(), "a.csv", None).unwrap_err().to_string();
            assert!(error.contains("a.csv") && error.contains(expected), "{text:?}: {error}");
        }
        assert!(read(b"1\n", "a", Some(-1.0)).unwrap_err().to_string().contains("sampling rate"));
    }
}
