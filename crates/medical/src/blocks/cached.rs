//! Blocks that are made once and found again.

use super::cache::BlockCache;
use super::convert::convert_named;
use super::file::{BlockFile, BlockVolume};
use super::layout::MAGIC;
use super::private;
use super::shelf::InUse;
use crate::read::{NotFinite, ReadConfig, Slices, files, open_series};
use selfsup_core::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The blocks of a volume (and of its labels), from `folder`, or made there the first time. They are made
/// anew when a source's size or time of change differs, or the reading is configured otherwise. The folder is
/// made for its owner alone.
///
/// # Errors
/// If a source cannot be read, the folder cannot be written, or others can write it.
pub fn cached(
    image: &Path,
    labels: Option<&Path>,
    folder: &Path,
    config: &ReadConfig,
    cache: &Arc<BlockCache>,
) -> Result<BlockVolume> {
    let strict = ReadConfig { not_finite: NotFinite::Refuse, ..config.clone() };
    let labels = labels.map(|l| opened(l, folder, &strict, cache)).transpose()?;
    BlockVolume::new(image.display().to_string(), opened(image, folder, config, cache)?, labels)
}

/// The file of blocks of one source.
pub(super) fn opened(
    source: &Path,
    folder: &Path,
    config: &ReadConfig,
    cache: &Arc<BlockCache>,
) -> Result<BlockFile> {
    let how = serde_json::to_string(config)
        .map_err(|e| Error::file(source, format!("the configuration cannot be written: {e}")))?;
    let name = fingerprint(&[source], &how)?;
    private::folder(folder)?;
    let path = folder.join(format!("{}.blocks", &name[..32]));
    let wanted = Wanted { name: &name, cache };
    match wanted.open(&path)? {
        Some(found) => Ok(found),
        None => wanted.make(&path, open_series(source, config)?, config),
    }
}

/// Blocks of a source that is known by its fingerprint.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) cache: &'a Arc<BlockCache>,
}

impl Wanted<'_> {
    /// The file at `path`, if it is there, whole, and of this source.
    pub(super) fn open(&self, path: &Path) -> Result<Option<BlockFile>> {
        if !private::is_there(path)? {
            return Ok(None);
        }
        Ok(BlockFile::open(path, self.cache.clone()).ok().filter(|file| file.source() == self.name))
    }

    /// Makes the file.
    pub(super) fn make(
        &self,
        path: &Path,
        slices: Box<dyn Slices>,
        config: &ReadConfig,
    ) -> Result<BlockFile> {
        let _in_use = InUse::of(path);
        convert_named(slices, path, config, self.name)?;
        BlockFile::open(path, self.cache.clone())
    }
}

/// A name for what `sources` hold now, read and prepared as `how` says: a hash of their paths, sizes and times
/// of change, in hexadecimal digits. It cannot be read back.
pub(super) fn fingerprint(sources: &[&Path], how: &str) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for source in sources {
        let whole = std::fs::canonicalize(source).map_err(|e| Error::io(source, e))?;
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
        hasher.update(&[1]);
    }
    hasher.update(how.as_bytes());
    hasher.update(MAGIC);
    Ok(hasher.finalize().to_hex().to_string())
}
