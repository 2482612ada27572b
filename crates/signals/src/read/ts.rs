//! `.ts` files of the UCR and UEA archives (Bagnall et al. 2018, arXiv 1811.00075).

use crate::{Channel, Recording};
use selfsup_core::{Error, Result};
use std::path::Path;

/// One series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Values by dimension; NaN where missing (`?`).
    pub values: Vec<Vec<f32>>,
    /// Its class, an index into [`Archive::classes`]; `None` where the file has no classes.
    pub label: Option<u32>,
}

impl Series {
    /// The series as a recording at `rate`, where known; its channels are numbered.
    pub fn recording(&self, rate: Option<f64>) -> Recording {
        let channel = |(c, values): (usize, &Vec<f32>)| Channel {
            name: c.to_string(),
            unit: String::new(),
            rate,
            samples: values.clone(),
        };
        let channels = self.values.iter().enumerate().map(channel).collect();
        Recording { channels, annotations: Vec::new() }
    }

    /// The series alone as a file that [`parse`] takes, without its class.
    pub fn text(&self) -> String {
        let value = |v: &f32| if v.is_nan() { "?".to_string() } else { v.to_string() };
        let dimension = |d: &Vec<f32>| d.iter().map(value).collect::<Vec<_>>().join(",");
        format!("@data\n{}\n", self.values.iter().map(dimension).collect::<Vec<_>>().join(":"))
    }
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
/// As [`parse`].
pub fn read(path: &Path) -> Result<Archive> {
    parse(&selfsup_core::file::text(path)?, path)
}

/// Reads the text of a file; `path` names it in messages.
///
/// # Errors
/// Naming the file and the line: time stamps (which are refused), a class that the header lacks, a value that is no
/// number, dimensions that differ between lines, or no `@data`.
pub fn parse(text: &str, path: &Path) -> Result<Archive> {
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
        let mut values = Vec::new();
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
            values.push(value.unwrap_or(f32::NAN));
        }
        out.values.push(values);
    }
    Ok(out)
}
