//! Pictures of what was learnt: those that `selfsup pictures` has written into a run.

use crate::verbs::report::run::Picture;
use crate::verbs::report::samples::data_uri;
use selfsup_core::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// Bytes of all pictures of a run on a page.
const BUDGET: usize = 4_000_000;

/// An entry of `pictures.json`.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    file: Option<String>,
    title: String,
    #[serde(default)]
    caption: String,
    #[serde(default)]
    rows: Vec<Vec<String>>,
}

/// The pictures in a folder, in the order of its list; none without a list.
///
/// # Errors
/// If the list or a picture cannot be read.
pub(super) fn read(folder: &Path) -> Result<Vec<Picture>> {
    let list = folder.join("pictures.json");
    if !list.is_file() {
        return Ok(Vec::new());
    }
    let found: Vec<Listed> = serde_json::from_slice(&selfsup_core::file::read(&list)?)
        .map_err(|e| Error::file(&list, format!("is no list of pictures: {e}")))?;
    let mut used = 0;
    let mut out = Vec::new();
    for Listed { file, title, caption, rows } in found {
        // A name alone: the list cannot reach out of its folder.
        let name = file.as_deref().and_then(|f| Path::new(f).file_name());
        let src = match name {
            Some(name) => {
                let bytes = selfsup_core::file::read(folder.join(name))?;
                used += bytes.len() * 4 / 3;
                if used > BUDGET {
                    break;
                }
                Some(data_uri("image/png", &bytes))
            }
            None => None,
        };
        out.push(Picture { title, caption, src, rows });
    }
    Ok(out)
}
