//! Numbers in fields of text.

use selfsup_core::{Error, Result};
use std::path::Path;

/// A number above 0 in a field of a file.
pub(crate) fn positive(path: &Path, field: &str, text: &str) -> Result<f64> {
    let value: Option<f64> = text.trim().parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0);
    value.ok_or_else(|| Error::file(path, format_args!("{field} is `{text}`, expected a number above 0")))
}
