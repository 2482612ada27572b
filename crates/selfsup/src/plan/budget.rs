//! `--budget`: how long a run may take.

use selfsup_core::{Error, Result};

/// Seconds of a run where nothing is said.
pub const DEFAULT: f64 = 3600.0;

/// Seconds of `90s`, `30m`, `2h`, `1h30m`, or of a number of minutes.
///
/// # Errors
/// If it is none of these.
pub fn seconds(text: &str) -> Result<f64> {
    let refuse = || Error::config(format!("--budget {text}: expected a time such as 90s, 30m, 2h or 1h30m"));
    let (mut sum, mut digits) = (0.0, String::new());
    for c in text.trim().chars() {
        if c.is_ascii_digit() || c == '.' {
            digits.push(c);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            'd' => 86_400.0,
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return Err(refuse()),
        };
        sum += unit * digits.parse::<f64>().map_err(|_| refuse())?;
        digits.clear();
    }
    if !digits.is_empty() {
        // A number alone is of minutes; behind a unit it lacks one.
        if sum > 0.0 {
            return Err(refuse());
        }
        sum = 60.0 * digits.parse::<f64>().map_err(|_| refuse())?;
    }
    if sum > 0.0 && sum.is_finite() { Ok(sum) } else { Err(refuse()) }
}

/// A time in words: "48 s", "12 min", "3.5 h".
pub fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, want) in [
            ("90s", 90.0),
            ("30m", 1800.0),
            ("2h", 7200.0),
            ("1h30m", 5400.0),
            ("5", 300.0),
            ("0.5h", 1800.0),
        ] {
            assert_eq!(seconds(text).unwrap(), want, "{text}");
        }
        for text in ["", "0m", "soon", "3x", "1h30", "-5m", "m"] {
            assert!(seconds(text).unwrap_err().to_string().contains("--budget"), "{text}");
        }
        assert_eq!([48.2, 1500.0, 9000.0, 4e5].map(shown), ["48 s", "25 min", "2.5 h", "4.6 days"]);
    }
}
