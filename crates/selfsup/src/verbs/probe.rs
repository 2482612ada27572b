//! `selfsup probe`.

use crate::evaluate::probe;
use crate::images::Images;
use crate::verbs::{open_run, pretrain, table};
use selfsup_core::objective::Objective;
use selfsup_core::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Evaluates a run on its own labelled data, or on `data` and `test`; writes `probe.json` beside `result.json`.
///
/// # Errors
/// If the run cannot be read or there are no labels.
pub fn run(dir: &Path, overrides: &[String], data: Option<&str>, test: Option<&str>) -> Result<()> {
    let mut opened = open_run(dir, overrides)?;
    if let Some(data) = data {
        opened.config.data.path = data.to_string();
        opened.config.data.test = test.unwrap_or_default().to_string();
        opened.config.data.hold_out = if test.is_some() { 0.0 } else { opened.config.data.hold_out.max(0.2) };
        opened.config.data.limit = 0;
    } else if let Some(test) = test {
        opened.config.data.test = test.to_string();
    }
    let sets = pretrain::Data::open(&opened.config)?;
    let labelled = sets.labelled().ok_or_else(|| {
        Error::input(
            &opened.config.data.path,
            "no labels to evaluate on: put the images of each class into a folder of its own, or give --data and --test",
        )
    })?;
    let random = pretrain::random_encoder(&opened.config, &opened.device)?;
    let inputs = pretrain::inputs(&opened.config);
    let found = probe(&inputs, opened.built.method.encoder(), random.as_ref(), &labelled, &opened.config.eval, &opened.device)?;
    let path = dir.join("probe.json");
    let text = serde_json::to_string_pretty(&found).map_err(|e| Error::Other(e.to_string()))?;
    selfsup_core::checkpoint::write_atomic(&path, |f| std::io::Write::write_all(f, text.as_bytes()).map_err(|e| Error::io(&path, e)))?;
    println!("checkpoint of step {}", opened.step);
    print!("{}", table(&found));
    println!("written: {}", path.display());
    Ok(())
}

/// All images of a source, in order.
///
/// # Errors
/// If it cannot be read.
pub fn images(what: &str) -> Result<Images> {
    Ok(Images(Arc::from(selfsup_datasets::open(what)?)))
}
