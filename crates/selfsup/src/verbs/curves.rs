//! `selfsup curves`: the metrics of runs as a picture.

use crate::say::say;
use selfsup_core::checkpoint::write_text;
use selfsup_core::run::curves::svg;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// Draws the metrics of `runs` into one SVG: the file `out`, or `curves.svg` in the present folder. A run's own
/// picture is drawn by its training.
///
/// # Errors
/// If a folder holds no metrics, or the picture cannot be written.
pub fn run(runs: &[PathBuf], out: Option<&Path>) -> Result<()> {
    let out = out.unwrap_or(Path::new("curves.svg"));
    let named: Vec<(String, PathBuf)> =
        runs.iter().map(|r| (r.display().to_string(), r.join("metrics.jsonl"))).collect();
    let parts: Vec<(&str, &Path)> =
        named.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    let picture = svg(&parts)?.ok_or_else(|| {
        Error::input(named.iter().map(|n| &*n.0).collect::<Vec<_>>().join(", "), "no metrics yet")
    })?;
    write_text(out, &picture)?;
    say!("written: {}", out.display());
    crate::say::result(&serde_json::json!({ "runs": runs, "out": out }));
    Ok(())
}
