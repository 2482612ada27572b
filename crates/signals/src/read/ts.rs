//! `.ts` files of the UCR and UEA archives (Bagnall et al. 2018, arXiv 1811.00075).

use selfsup_core::{Error, Result};
use std::path::Path;

/// One series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Values by dimension; NaN never: 0 where missing.
    pub values: Vec<Vec<f32>>,
    /// Whether each value is missing (`?`), in the same shape.
    pub missing: Vec<Vec<bool>>,
    /// Its class, an index into [`Archive::classes`]; `None` where the file has no classes.
    pub label: Option<u32>,
}

/// The series of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archive {
    /// Names of the classes, in the order of the header.
    pub classes: Vec<String>,
    /// The series.
    pub series: Vec<Series>,
}

/// Reads a file.
///
/// # Errors
/// Naming the file and the line: time stamps (which are refused), a class that the header lacks, a value that is no
/// number, dimensions that differ between lines, or no `@data`.
pub fn read(path: &Path) -> Result<Archive> {
    let text = selfsup_core::file::text(path)?;
    let mut out = Archive::default();
    let (mut data, mut labelled) = (false, false);
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        let wrong = |what: String| Error::file(path, format_args!("line {}: {what}", i + 1));
        if line.is_empty() || line.starts_with('#') || line.starts_with('%') {
            continue;
        }
        if data {
            let series = series(line, labelled, &out.classes).map_err(wrong)?;
            if let Some(first) = out.series.first()
                && first.values.len() != series.values.len()
            {
                let (found, expected) = (series.values.len(), first.values.len());
                return Err(wrong(format!("{found} dimensions, expected {expected} as before")));
            }
            out.series.push(series);
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap_or_default().to_lowercase().as_str() {
            "@data" => data = true,
            "@timestamps" if words.next().is_some_and(|w| w.eq_ignore_ascii_case("true")) => {
                return Err(wrong("values with time stamps, expected values alone".into()));
            }
            "@classlabel" if words.next().is_some_and(|w| w.eq_ignore_ascii_case("true")) => {
                labelled = true;
                out.classes = words.map(str::to_string).collect();
            }
            key if key.starts_with('@') => {}
            _ => return Err(wrong("expected a key that begins with @, or @data before the series".into())),
        }
    }
    match data {
        true => Ok(out),
        false => Err(Error::file(path, "no @data: expected a .ts file")),
    }
}

fn series(line: &str, labelled: bool, classes: &[String]) -> Result<Series, String> {
    let mut dimensions: Vec<&str> = line.split(':').collect();
    let label = match labelled.then(|| dimensions.pop()).flatten() {
        None => None,
        Some(name) => {
            let at = classes.iter().position(|c| c == name.trim());
            Some(
                at.ok_or_else(|| format!("class `{}`, expected one of {}", name.trim(), classes.join(", ")))?
                    as u32,
            )
        }
    };
    if dimensions.is_empty() {
        return Err("no values in front of the class".into());
    }
    let mut out = Series { label, ..Series::default() };
    for dimension in dimensions {
        let (mut values, mut missing) = (Vec::new(), Vec::new());
        for text in dimension.split(',').map(str::trim) {
            let value = match text {
                "?" | "NaN" | "nan" => None,
                text => Some(
                    text.parse::<f32>()
                        .ok()
                        .filter(|v| v.is_finite())
                        .ok_or_else(|| format!("the value `{text}`, expected a number or ?"))?,
                ),
            };
            values.push(value.unwrap_or(0.0));
            missing.push(value.is_none());
        }
        out.values.push(values);
        out.missing.push(missing);
    }
    Ok(out)
}
