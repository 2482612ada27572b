//! `selfsup export`: a folder that other tools load.

use crate::modality::Modality;
use crate::registry::with_modality;
use crate::say::say;
use crate::verbs::{kind_of_run, open_run};
use selfsup_core::{Error, Result};
use serde_json::json;
use std::path::Path;

/// Writes the encoder of a run; without a layout in the modality's own first one. A folder that holds
/// something is written over only with `force`.
///
/// # Errors
/// If the run cannot be read, the layout cannot hold the encoder, or the folder is not empty.
pub fn run(dir: &Path, out: Option<&Path>, layout: Option<&str>, force: bool) -> Result<()> {
    with_modality!(kind_of_run(dir)?, M => run_as::<M>(dir, out, layout, force))
}

/// Writes the encoder of a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(dir: &Path, out: Option<&Path>, layout: Option<&str>, force: bool) -> Result<()> {
    let target = out.map_or_else(|| dir.join("model"), Path::to_path_buf);
    if !force && std::fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(
            &target,
            "is not empty: expected a new folder in --out DIR, or --force to write over what is there",
        ));
    }
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
    crate::say::result(&json!({ "run": dir, "out": out, "layout": layout, "step": opened.step }));
    Ok(())
}
