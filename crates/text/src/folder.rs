//! Folders of transformers for models whose rules need no head: weights through an encoder's rules in,
//! config.json and weights out.

use selfsup_core::checkpoint::save_safetensors;
use selfsup_core::weights::{self, Options, Report, Rules};
use selfsup_core::{Error, Params, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the weights of `folder` (or a file) through `rules` into the parameters below `prefix`; `strip` is
/// the path that their names may stand below (`transformer` in a model with a head). Every parameter must be
/// there; what the file has beside them is left out.
///
/// # Errors
/// If nothing can be read, or the weights are those of another model: missing and misshapen keys are listed.
pub fn load(params: &Params, prefix: &str, path: &Path, rules: &Rules, strip: &str) -> Result<Report> {
    let dotted = format!("{strip}.");
    let plain: BTreeMap<_, _> = weights::read(path)?
        .into_iter()
        .map(|(k, t)| (k.strip_prefix(&dotted).map_or_else(|| k.clone(), str::to_string), t))
        .collect();
    let options = Options { allow_missing: false, allow_unexpected: true };
    weights::load_into(params, &rules.to_ours(plain)?, prefix, &options).map_err(|e| Error::file(path, e))
}

/// Writes `config.json` and `model.safetensors` into `folder`: the parameters below `prefix` under
/// transformers' names, below the path `below` of its model with a head.
///
/// # Errors
/// If a file cannot be written.
pub fn save(
    params: &Params,
    prefix: &str,
    folder: &Path,
    rules: &Rules,
    below: &str,
    config: &Value,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let name = |k: &str| if below.is_empty() { k.to_string() } else { format!("{below}.{k}") };
    let tensors: Vec<_> =
        rules.to_theirs(weights::export(params, prefix))?.into_iter().map(|(k, t)| (name(&k), t)).collect();
    save_safetensors(folder.join("model.safetensors"), &tensors)?;
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(config).map_err(|e| Error::file(&path, e))?;
    std::fs::write(&path, text + "\n").map_err(|e| Error::io(&path, e))
}
