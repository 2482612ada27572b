//! `selfsup export`: a folder that other tools load.

use crate::modality::{Modality, with_modality};
use crate::say::say;
use crate::verbs::{kind_of_run, open_run};
use selfsup_core::checkpoint::write_atomic;
use selfsup_core::objective::Objective;
use selfsup_core::{Error, Result};
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// Writes the encoder of a run; without a layout in the modality's own first one.
///
/// # Errors
/// If the run cannot be read, or the layout cannot hold the encoder.
pub fn run(dir: &Path, out: Option<&Path>, layout: Option<&str>) -> Result<()> {
    with_modality!(kind_of_run(dir)?, M => write::<M>(dir, out, layout))
}

fn write<M: Modality>(dir: &Path, out: Option<&Path>, layout: Option<&str>) -> Result<()> {
    let opened = open_run::<M>(dir, &[])?;
    let layout = layout.or(M::LAYOUTS.first().copied()).unwrap_or_default();
    if !M::LAYOUTS.contains(&layout) {
        return Err(Error::config(format!("layout {layout}: expected {}", M::LAYOUTS.join(" or "))));
    }
    let out = match out {
        Some(out) => out.to_path_buf(),
        None => opened.run.model_dir()?,
    };
    opened.modality.export(opened.method.params(), &out, layout)?;
    say!("{}: encoder of step {} in the layout of {layout}", out.display(), opened.step);
    Ok(())
}

/// JSON with line breaks.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::Other(e.to_string()))
}

/// Writes a text file, whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
}
