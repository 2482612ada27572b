//! The cache that Python's `huggingface_hub` keeps, read.

use super::model::{Model, Wanted};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The standard cache folder.
pub(super) fn cache_folder(env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf> {
    if let Some(p) = env("HF_HUB_CACHE").or_else(|| env("HUGGINGFACE_HUB_CACHE")) {
        return Ok(p.into());
    }
    if let Some(p) = env("HF_HOME") {
        return Ok(Path::new(&p).join("hub"));
    }
    if let Some(p) = env("XDG_CACHE_HOME") {
        return Ok(Path::new(&p).join("huggingface").join("hub"));
    }
    let home = env("HOME")
        .or_else(|| env("USERPROFILE"))
        .ok_or_else(|| Error::config("no cache folder: set HF_HOME or HF_HUB_CACHE"))?;
    Ok(Path::new(&home).join(".cache").join("huggingface").join("hub"))
}

/// The snapshot in the cache that has everything, or what is missing.
pub(super) fn cached(model: &Model, wanted: &[Wanted], cache: &Path) -> Result<PathBuf, String> {
    let root = cache.join(model.folder());
    if !root.is_dir() {
        return Err(format!("not in the cache {}", cache.display()));
    }
    let commit = if model.is_commit() {
        model.revision.clone()
    } else {
        let text = crate::file::text(root.join("refs").join(&model.revision)).unwrap_or_default();
        let commit = text.trim();
        // What a file says must not lead out of the cache.
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!(
                "the cache {} does not know the revision {}",
                root.display(),
                model.revision
            ));
        }
        commit.to_string()
    };
    let folder = root.join("snapshots").join(&commit);
    if !folder.is_dir() {
        return Err(format!("commit {commit} is not in the cache {}", root.display()));
    }
    complete(folder, wanted)
}

/// `folder` if it has everything.
pub(super) fn complete(folder: PathBuf, wanted: &[Wanted]) -> Result<PathBuf, String> {
    let mut files = Vec::new();
    list(&folder, "", 0, &mut files);
    match wanted.iter().find(|w| w.choose(&files).is_empty()) {
        Some(w) => Err(format!("{w} is not in the cache {}", folder.display())),
        None => Ok(folder),
    }
}

/// The files below `folder` with `/` between names; links whose blob is gone don't count.
pub(super) fn list(folder: &Path, prefix: &str, depth: usize, out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for e in entries.flatten() {
        let (path, name) = (e.path(), format!("{prefix}{}", e.file_name().to_string_lossy()));
        if path.is_file() {
            out.push(name);
        } else if path.is_dir() && depth < 16 {
            list(&path, &format!("{name}/"), depth + 1, out);
        }
    }
}
