//! Folders of transformers for models whose rules need no head: weights through an encoder's rules in,
//! config.json and weights out.

use candle_core::{DType, Tensor};
use selfsup_core::checkpoint::save_safetensors;
use selfsup_core::weights::{self, Beside, Report, Rule, Rules, load_strict};
use selfsup_core::{Error, Params, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the weights of `folder` (or a file) through `rules` into the parameters below `prefix`; `strip` is
/// the path that their names may stand below (`transformer` in a model with a head). Every parameter must be
/// there, and every tensor of the file is used but for those of `heads`, which [`Report::unexpected`] lists.
///
/// # Errors
/// If nothing can be read, or the weights are those of another model: keys that are missing, misshapen or
/// that the model has no place for are listed.
pub fn load(
    params: &Params,
    prefix: &str,
    path: &Path,
    rules: &Rules,
    strip: &str,
    heads: &[&str],
) -> Result<Report> {
    let dotted = format!("{strip}.");
    let plain: BTreeMap<_, _> = weights::read(path)?
        .into_iter()
        .map(|(k, t)| (k.strip_prefix(&dotted).map_or_else(|| k.clone(), str::to_string), t))
        .collect();
    let named = |e: Error| Error::file(path, e);
    let is_head = |k: &str| heads.iter().any(|head| k.split('.').next() == Some(head));
    let below = |(k, t): (String, _)| if is_head(&k) { (k, t) } else { (format!("{prefix}.{k}"), t) };
    let ours = rules.to_ours(plain).map_err(named)?.into_iter().map(below).collect();
    let beside = Beside { heads, may_lack: &|_| false };
    let back = Rules::new(&[Rule::prefix("", prefix)])?;
    load_strict(params, prefix, ours, &|name, t| back.their_names(name, t), &beside, path)
}

/// Refuses a file whose `head` differs from the `table` of tokens, for a network that scores by the table.
/// Names of the file may stand below a path (`transformer.`). A file without one of them has nothing to
/// compare.
///
/// # Errors
/// If they differ; and as [`weights::read`].
pub(crate) fn tied(path: &Path, head: &str, table: &str) -> Result<()> {
    let all = weights::read(path)?;
    let below = |name: &str| {
        let dotted = format!(".{name}");
        all.iter().find(|(k, _)| *k == name || k.ends_with(&dotted)).map(|(_, t)| t)
    };
    let (Some(own), Some(tokens)) = (all.get(head), below(table)) else { return Ok(()) };
    let float = |t: &Tensor| t.to_dtype(DType::F32);
    let same = own.dims() == tokens.dims()
        && (float(own)? - float(tokens)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? == 0.0;
    if same {
        return Ok(());
    }
    Err(Error::file(
        path,
        format!(
            "{head} differs from {table}, and this network scores by the table of tokens \
             (tie_word_embeddings)"
        ),
    ))
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
