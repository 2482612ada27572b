//! Blocks that are made once and found again.

use super::cache::BlockCache;
use super::convert::convert;
use super::file::{BlockFile, BlockVolume};
use super::layout::MAGIC;
use crate::read::{ReadConfig, files, open_series};
use selfsup_core::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The blocks of a volume (and of its labels), from `folder`, or made there the first time. They are made
/// anew when a source's size or time of change differs, or the reading is configured otherwise.
///
/// # Errors
/// If a source cannot be read, or the folder cannot be written.
pub fn cached(
    image: &Path,
    labels: Option<&Path>,
    folder: &Path,
    config: &ReadConfig,
    cache: &Arc<BlockCache>,
) -> Result<BlockVolume> {
    let blocks = |source: &Path, config: &ReadConfig| -> Result<BlockFile> {
        let path = folder.join(format!("{}.blocks", fingerprint(source, config)?));
        if let Ok(found) = BlockFile::open(&path, cache.clone()) {
            return Ok(found);
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        convert(open_series(source, config)?, &path, config)?;
        BlockFile::open(&path, cache.clone())
    };
    let strict = ReadConfig { not_finite: crate::read::NotFinite::Refuse, ..config.clone() };
    let labels = labels.map(|l| blocks(l, &strict)).transpose()?;
    BlockVolume::new(image.display().to_string(), blocks(image, config)?, labels)
}

/// A name for what `source` holds now, read with `config`: a hash of its path, sizes and times of change. It
/// cannot be read back.
fn fingerprint(source: &Path, config: &ReadConfig) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let io = |e| Error::io(source, e);
    let whole = std::fs::canonicalize(source).map_err(io)?;
    let mut parts = files(&whole)?;
    parts.push(whole);
    parts.sort();
    for file in parts {
        let meta = std::fs::metadata(&file).map_err(|e| Error::io(&file, e))?;
        let changed = meta
            .modified()
            .ok()
            .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |d| d.as_nanos());
        hasher.update(file.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
        hasher.update(&if meta.is_file() { meta.len() } else { 0 }.to_le_bytes());
        hasher.update(&changed.to_le_bytes());
    }
    hasher.update(
        &serde_json::to_vec(config)
            .map_err(|e| Error::file(source, format!("the configuration cannot be written: {e}")))?,
    );
    hasher.update(MAGIC);
    Ok(hasher.finalize().to_hex()[..32].to_string())
}
